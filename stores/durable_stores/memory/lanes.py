"""The queue: jobs whose time has come, in lanes that are ready or blocked at exactly one gate.

A lane holds the jobs with the same pool, throttle and slots. The invariant by which nothing is scanned: *no
lane is blocked at an open gate unless a ready lane of the same (gate, pool, rule) has a better head*. It is
kept by three habits: a place that is given back wakes the best lane of each line at its gate; a ready lane
whose head changes, or that ends or blocks elsewhere, offers its gates to the best that wait there; a better
head of a blocked lane looks at the gate again.

Duty: this index. It may not know what taking a job means for its run.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from attrs import define, field

from durable.records import Rule
from durable.store import LOOK_AHEAD, PROMOTE_MAX

from .agenda import Agenda
from .gates import Ask, Gate, Line, Passage, Places, RuleName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .runs import Run

__all__ = ["Job", "Lane", "Lanes", "Pool"]

_SLACK = 32
_ONE = Rule(1)

LaneKey = tuple[str, "RuleName | None", "tuple[RuleName, ...]", "str | None"]


@define(eq=False, weakref_slot=False)
class Job:
    """A run wants to execute (a turn), or one more place under the name `ref`. `no` is 0 once it is over."""

    no: int
    due: int
    rank: int
    run: Run
    pool: str
    ref: str | None = None
    lane: Lane | None = None


@define(eq=False, weakref_slot=False)
class Lane:
    """Jobs that ask for the same: `line` is where it is blocked, ``None`` while it is ready."""

    pool: Pool
    key: LaneKey
    asks: tuple[Ask, ...]
    line: Line | None = None
    count: int = 0
    jobs: list[tuple[int, int, Job]] = field(factory=list[tuple[int, int, Job]])

    def settle(self) -> None:
        """Bring the best living job to the front; forget the dead once they are the most."""
        jobs = self.jobs
        if len(jobs) > 2 * self.count + _SLACK:
            jobs[:] = [entry for entry in jobs if entry[2].no]
            heapify(jobs)
        while jobs and not jobs[0][2].no:
            heappop(jobs)


@define(eq=False, weakref_slot=False)
class Pool:
    """What one function, or one engine for what is pinned to it, has queued."""

    name: str
    lanes: dict[LaneKey, Lane] = field(factory=dict["LaneKey", Lane])
    ready: int = 0
    heads: list[tuple[int, int, Lane]] = field(factory=list[tuple[int, int, Lane]])

    def put(self, lane: Lane) -> None:
        """`lane` is ready, and has this head."""
        rank, no, _ = lane.jobs[0]
        heappush(self.heads, (rank, no, lane))
        if len(self.heads) > 2 * self.ready + _SLACK:
            self.heads = list({head[2]: head for head in self.heads if _stands(head)}.values())
            heapify(self.heads)

    def best(self) -> tuple[int, int, Lane] | None:
        """The ready lane with the best head, if there is one."""
        heads = self.heads
        while heads:
            if _stands(heads[0]):
                return heads[0]
            heappop(heads)
        return None


def _stands(head: tuple[int, int, Lane]) -> bool:
    _, no, lane = head
    return lane.line is None and bool(lane.jobs) and lane.jobs[0][1] == no


class Lanes:
    """All lanes of a store, the gates that they ask for, and the rules that gates follow."""

    __slots__ = ("_agenda", "_gates", "_lines", "_openings", "_pools", "_rules")

    def __init__(self) -> None:
        self._agenda = Agenda()  # jobs of the future, and lines whose gate opens by time
        self._openings = 0
        self._pools: dict[str, Pool] = {}
        self._gates: dict[tuple[str, str], Gate] = {}
        self._lines: dict[RuleName | None, dict[Line, None]] = {}
        self._rules: dict[RuleName | None, Rule] = {None: _ONE}

    # ------------------------------------------------------------ jobs come and go

    def add(self, job: Job, now: int, woke: set[str]) -> None:
        """Queue `job`: in its lane, once its time has come."""
        if job.due > now:
            self._agenda.add(job)
        else:
            self._enter(job, now, woke)

    def promote(self, now: int, woke: set[str]) -> bool:
        """Up to `PROMOTE_MAX` jobs enter their lanes, or gates open, by time; whether there are more."""
        agenda = self._agenda
        for _ in range(PROMOTE_MAX):
            thing = agenda.pop(now)
            if thing is None:
                return False
            if isinstance(thing, Job):
                self._enter(thing, now, woke)
            elif isinstance(thing, Line):
                self._opens(thing, now, woke)
        due = agenda.next_due()
        return due is not None and due <= now

    def next_due(self) -> int | None:
        """When the next job's time comes, or a gate opens by time."""
        return self._agenda.next_due()

    def drop(self, job: Job, now: int, woke: set[str]) -> None:
        """`job` is no more, wherever it stands."""
        if job.lane is not None:
            self._remove(job, now, woke)
        else:
            self._agenda.drop(job)

    def _enter(self, job: Job, now: int, woke: set[str]) -> None:
        lane = job.lane = self._lane(job)
        heappush(lane.jobs, (job.rank, job.no, job))
        lane.count += 1
        for ask in lane.asks:
            ask.gate.asking += 1
        line = lane.line
        if lane.jobs[0][2] is job:
            if line is None:
                lane.pool.put(lane)
            elif self._shut_until(line.gate, line.rule, now) is None:
                self._leave_line(lane, line)
                self._ready(lane, woke)
            else:
                line.put(lane)
        if lane.line is None:
            woke.add(job.pool)

    def _remove(self, job: Job, now: int, woke: set[str]) -> None:
        """`job` is taken or is no more: the only place where one leaves a lane."""
        lane = job.lane
        assert lane is not None
        was_head = lane.jobs[0][2] is job
        job.no, job.lane = 0, None
        lane.count -= 1
        for ask in lane.asks:
            ask.gate.asking -= 1
        lane.settle()
        if not was_head:
            return
        line = lane.line
        if not lane.count:
            del lane.pool.lanes[lane.key]
            if line is None:
                lane.pool.ready -= 1
            else:
                self._leave_line(lane, line)
        elif line is None:
            lane.pool.put(lane)
        else:
            line.put(lane)
        if line is None:
            for ask in lane.asks:
                self._offer(ask, lane.pool, now, woke)
        if not lane.count:
            self._tidy(lane, now)

    # ------------------------------------------------------------ claiming

    def take(
        self, pools: frozenset[str], own: str, limit: int, now: int, woke: set[str]
    ) -> tuple[list[Job], bool]:
        """Take up to `limit` turns from `pools`, and whatever is pinned to `own`, best rank first.

        Returns:
            The jobs; whether the look-ahead ended before the work did.
        """
        taken: list[Job] = []
        turns, moves = 0, LOOK_AHEAD + 4 * limit
        tops = self._tops(pools, own, limit)
        while tops:
            _, _, pool = tops[0]
            head = pool.best()
            assert head is not None
            lane = head[2]
            ask = self._shut_ask(lane.asks, now)
            if ask is None:
                taken.append(self._take_head(lane, now, woke))
                if pool.name != own:
                    turns += 1
                    if turns == limit:
                        tops = self._tops(frozenset(), own, limit)
                        continue
            elif moves:
                moves -= 1
                heappop(pool.heads)
                self._block(lane, ask, now, woke)
            else:
                return taken, True
            head = pool.best()
            if head is not None:
                heapreplace(tops, (head[0], head[1], pool))
            else:
                heappop(tops)
        return taken, False

    def take_fresh(self, job: Job, now: int) -> bool:
        """Take a job that stands in no lane yet, if nobody is overtaken by that: see `Store.admit`."""
        pool = self._pools.get(job.pool)
        if pool is not None and pool.best() is not None:
            return False
        run = job.run
        if run.throttle is None and not run.slots and run.singleton is None:
            return True
        asks = self._asks(job)
        if any(ask.gate.asking for ask in asks) or self._shut_ask(asks, now) is not None:
            return False
        for ask in asks:
            ask.gate.take(self._rules.get(ask.rule), now)
        return True

    def _tops(self, pools: frozenset[str], own: str, limit: int) -> list[tuple[int, int, Pool]]:
        """The best heads of the pools in question, as a heap; only pools that have jobs are looked at."""
        known = self._pools
        few, many = (pools, known) if len(pools) < len(known) else (known, pools)
        names = [name for name in few if name in many] if limit > 0 else []
        tops: list[tuple[int, int, Pool]] = []
        for name in (*names, own):
            pool = known.get(name)
            head = pool.best() if pool is not None else None
            if pool is not None and head is not None:
                tops.append((head[0], head[1], pool))
        heapify(tops)
        return tops

    def _take_head(self, lane: Lane, now: int, woke: set[str]) -> Job:
        job = lane.jobs[0][2]
        for ask in lane.asks:
            ask.gate.take(self._rules.get(ask.rule), now)
        self._remove(job, now, woke)
        return job

    # ------------------------------------------------------------ gates open and shut

    def give_back(self, run: Run, own: int, places: int, now: int, woke: set[str]) -> None:
        """`run` gives back `own` (0 or 1) of its own place, and `places` more."""
        if run.singleton is not None and own:
            self._release(("singleton", run.singleton), own, now, woke)
        for slot in run.slots:
            self._release(("slot", slot.gate), own + places, now, woke)

    def _release(self, key: tuple[str, str], count: int, now: int, woke: set[str]) -> None:
        gate = self._gates.get(key)
        if not isinstance(gate, Places) or not count:
            return
        gate.held = max(gate.held - count, 0)
        self._wake_all(gate.lines.values(), now, woke)
        if not gate.held and not gate.asking:
            del self._gates[key]

    def rule(self, name: RuleName, rule: Rule | None, now: int, woke: set[str]) -> None:
        """The limit `name` is `rule` from now on, or none any more."""
        if rule is None:
            self._rules.pop(name, None)
        else:
            self._rules[name] = rule
        self._wake_all(self._lines.get(name, {}), now, woke)

    def _opens(self, line: Line, now: int, woke: set[str]) -> None:
        """The time has come at which `line` said that its gate would open."""
        line.no = 0
        self._wake_all((line,), now, woke)
        if line.count and not line.no:
            self._await_opening(line, now)

    def sweep(self, now: int) -> None:
        """Forget throttles that are as good as fresh."""
        for gate in [gate for gate in self._gates.values() if not gate.asking and gate.idle(now)]:
            del self._gates[gate.key]

    def _wake_all(self, lines: Iterable[Line], now: int, woke: set[str]) -> None:
        for line in tuple(lines):
            if line.count and self._shut_until(line.gate, line.rule, now) is None:
                self._wake(line, woke)

    def _offer(self, ask: Ask, pool: Pool, now: int, woke: set[str]) -> None:
        """A ready lane of `pool` wants less of this gate than before: the next may be better now."""
        line = ask.gate.lines.get((pool.name, ask.rule))
        if line is not None and self._shut_until(line.gate, line.rule, now) is None:
            self._wake(line, woke)

    def _wake(self, line: Line, woke: set[str]) -> None:
        lane = line.pop()
        self._leave_line(lane, line)
        self._ready(lane, woke)

    def _ready(self, lane: Lane, woke: set[str]) -> None:
        lane.pool.ready += 1
        lane.pool.put(lane)
        woke.add(lane.pool.name)

    def _block(self, lane: Lane, ask: Ask, now: int, woke: set[str]) -> None:
        gate, pool = ask.gate, lane.pool
        key = (pool.name, ask.rule)
        line = gate.lines.get(key)
        if line is None:
            line = gate.lines[key] = Line(gate, pool, ask.rule)
            self._lines.setdefault(ask.rule, {})[line] = None
        pool.ready -= 1
        lane.line = line
        line.count += 1
        line.put(lane)
        if isinstance(gate, Passage) and not line.no:
            self._await_opening(line, now)
        for other in lane.asks:
            if other is not ask:
                self._offer(other, pool, now, woke)

    def _leave_line(self, lane: Lane, line: Line) -> None:
        lane.line = None
        line.count -= 1
        if line.count:
            return
        del line.gate.lines[line.pool.name, line.rule]
        del self._lines[line.rule][line]
        if not self._lines[line.rule]:
            del self._lines[line.rule]
        if line.no:
            self._agenda.drop(line)

    def _await_opening(self, line: Line, now: int) -> None:
        opens = self._shut_until(line.gate, line.rule, now)
        line.due = now + 1 if opens is None else opens
        self._openings -= 1
        line.no = self._openings  # never a job's number
        self._agenda.add(line)

    def _shut_until(self, gate: Gate, rule: RuleName | None, now: int) -> int | None:
        return gate.shut(self._rules.get(rule), now)

    def _shut_ask(self, asks: tuple[Ask, ...], now: int) -> Ask | None:
        for ask in asks:
            if ask.gate.shut(self._rules.get(ask.rule), now) is not None:
                return ask
        return None

    # ------------------------------------------------------------ finding things

    def _lane(self, job: Job) -> Lane:
        pool = self._pools.get(job.pool)
        if pool is None:
            pool = self._pools[job.pool] = Pool(job.pool)
        key = _lane_key(job)
        lane = pool.lanes.get(key)
        if lane is None:
            lane = pool.lanes[key] = Lane(pool, key, self._asks(job))
            pool.ready += 1
        return lane

    def _asks(self, job: Job) -> tuple[Ask, ...]:
        run = job.run
        function = run.function
        asks: list[Ask] = []
        if run.cancelled:
            return ()
        if run.throttle is not None and run.started is None:
            gate = self._gate(("throttle", run.throttle.gate), Passage)
            asks.append(Ask(gate, (function, run.throttle.rule)))
        asks += [Ask(self._gate(("slot", slot.gate), Places), (function, slot.rule)) for slot in run.slots]
        if run.singleton is not None and job.ref is None:
            asks.append(Ask(self._gate(("singleton", run.singleton), Places), None))
        return tuple(asks)

    def _gate(self, key: tuple[str, str], sort: type[Gate]) -> Gate:
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = sort(key)
        return gate

    def _tidy(self, lane: Lane, now: int) -> None:
        """`lane` has ended: forget what nothing else needs."""
        for ask in lane.asks:
            gate = ask.gate
            if not gate.asking and gate.idle(now):
                self._gates.pop(gate.key, None)
        pool = lane.pool
        if not pool.lanes:
            self._pools.pop(pool.name, None)

    def blocked_at_open_gates(self, now: int) -> Iterator[Lane]:
        """Lanes that break the invariant; for tests."""
        for pool in self._pools.values():
            for lane in pool.lanes.values():
                line = lane.line
                if line is None or self._shut_until(line.gate, line.rule, now) is not None:
                    continue
                better = any(
                    other.line is None
                    and other.jobs[0][:2] < lane.jobs[0][:2]
                    and any(ask.gate is line.gate and ask.rule == line.rule for ask in other.asks)
                    for other in pool.lanes.values()
                )
                if not better:
                    yield lane


def _lane_key(job: Job) -> LaneKey:
    run = job.run
    if run.cancelled:
        return (run.function, None, (), None)
    throttle = run.throttle if run.started is None else None
    return (
        run.function,
        (throttle.gate, throttle.rule) if throttle is not None else None,
        tuple([(slot.gate, slot.rule) for slot in run.slots]) if run.slots else (),
        run.singleton if job.ref is None else None,
    )
