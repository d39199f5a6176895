"""The queue: jobs whose time has come, in lanes that are ready or blocked at exactly one gate.

A lane holds the jobs with the same pool, throttle and slots. The invariant by which nothing is scanned: *no
lane is blocked at an open gate unless a ready lane of the same line has a better head*, a line being all
lanes with the same gate, pool and limit. It is kept by three habits: a place that is given back wakes the
best lane of each line at its gate; a ready lane whose head changes, or that ends or blocks elsewhere, offers
its gates to the best that wait there; a better head of a blocked lane looks at the gate again.

Duty: this index. It may not know what taking a job means for its run.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from durable.store import LOOK_AHEAD, PROMOTE_MAX

from .agenda import Agenda
from .gates import NEVER, Gates, Line, Places
from .pools import Job, Lane, Pool, asks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import Rule

    from .gates import Ask, GateKey, RuleName
    from .runs import Run

__all__ = ["Lanes"]


class Lanes:
    """All lanes of a store."""

    __slots__ = ("_agenda", "_gates", "_openings", "_pools")

    def __init__(self) -> None:
        self._agenda = Agenda()  # jobs of the future, and lines whose gate opens by time
        self._gates = Gates()
        self._openings = 0
        self._pools: dict[str, Pool] = {}

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
                thing.no = 0
                self._look(thing, now, woke)
        due = agenda.next_due()
        return due is not None and due <= now

    def awake(self, pools: set[str]) -> frozenset[str]:
        """Those of `pools` that have ready lanes: what was queued in a call may be gone at its end."""
        return frozenset([name for name in pools if name in self._pools and self._pools[name].ready])

    def next_due(self) -> int | None:
        """When the next job's time comes, or a gate opens by time."""
        return self._agenda.next_due()

    def drop(self, job: Job, now: int, woke: set[str]) -> None:
        """`job` is no more, wherever it stands."""
        if job.lane is not None:
            self._remove(job, now, woke)
            job.no = 0
        else:
            self._agenda.drop(job)

    def _enter(self, job: Job, now: int, woke: set[str]) -> None:
        lane = job.lane = self._lane(job)
        heappush(lane.jobs, (job.rank, job.no, job))
        lane.count += 1
        for line in lane.lines:
            line.gate.asking += 1
        blocked = lane.line
        if lane.jobs[0][2] is job:
            if blocked is None:
                lane.pool.put(lane)
            elif blocked.shut(now) is None:
                self._unblock(lane, blocked)
                self._ready(lane)
            else:
                blocked.put(lane)
        if lane.line is None:
            woke.add(job.pool)

    def _remove(self, job: Job, now: int, woke: set[str]) -> None:
        """`job` is taken, or is no more: the only place where one leaves a lane."""
        lane = job.lane
        assert lane is not None
        was_head = lane.jobs[0][2] is job
        job.lane = None
        lane.count -= 1
        for line in lane.lines:
            line.gate.asking -= 1
        lane.settle()
        if not was_head:
            return
        blocked = lane.line
        if not lane.count:
            self._close(lane, now)
        elif blocked is None:
            lane.pool.put(lane)
        else:
            blocked.put(lane)
        if blocked is None:
            for line in lane.lines:
                self._look(line, now, woke)

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
        tops = self._tops(pools if limit > 0 else frozenset(), own)
        while tops:
            pool = tops[0][2]
            _, _, lane = pool.heads[0]
            blocked = _shut(lane.lines, now)
            if blocked is None:
                taken.append(self._take_head(lane, now, woke))
                turns += pool.name != own
                if turns == limit and pool.name != own:
                    tops = self._tops(frozenset(), own)
                    continue
            elif moves:
                moves -= 1
                heappop(pool.heads)
                self._block(lane, blocked, now, woke)
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
        asked = asks(job)
        if not asked:
            return True
        gates = [(self._gates.find(key), self._gates.limit(name).rule) for key, name in asked]
        passes = not any(gate.asking or gate.shut(rule, now) is not None for gate, rule in gates)
        for gate, rule in gates:
            if passes:
                gate.take(rule, now)
            self._gates.forget(gate, now)
        return passes

    def block_head(self, pool_name: str, now: int, woke: set[str]) -> None:
        """Look at the best ready lane of a pool, and move it to the gate that is shut, if one is."""
        pool = self._pools.get(pool_name)
        head = pool.best() if pool is not None else None
        blocked = _shut(head[2].lines, now) if head is not None else None
        if pool is not None and head is not None and blocked is not None:
            heappop(pool.heads)
            self._block(head[2], blocked, now, woke)

    def _tops(self, pools: frozenset[str], own: str) -> list[tuple[int, int, Pool]]:
        """The best heads of the pools in question, as a heap; only pools that have jobs are looked at."""
        known = self._pools
        few, many = (pools, known) if len(pools) < len(known) else (known, pools)
        tops: list[tuple[int, int, Pool]] = []
        for name in {own, *(name for name in few if name in many)}:
            pool = known.get(name)
            head = pool.best() if pool is not None else None
            if pool is not None and head is not None:
                tops.append((head[0], head[1], pool))
        heapify(tops)
        return tops

    def _take_head(self, lane: Lane, now: int, woke: set[str]) -> Job:
        job = lane.jobs[0][2]
        for line in lane.lines:
            line.gate.take(line.limit.rule, now)
        self._remove(job, now, woke)
        job.no = 0
        return job

    # ------------------------------------------------------------ gates open and shut

    def give_back(self, run: Run, own: int, places: int, now: int, woke: set[str]) -> None:
        """`run` gives back `own` (0 or 1) of its own place, and `places` more."""
        if run.singleton is not None and own:
            self._release(("singleton", run.singleton), own, now, woke)
        for slot in run.slots:
            self._release(("slot", slot.gate), own + places, now, woke)

    def _release(self, key: GateKey, count: int, now: int, woke: set[str]) -> None:
        gate = self._gates.find(key)
        assert isinstance(gate, Places)
        shut = [line for line in gate.lines.values() if line.shut(now) is not None]
        gate.held -= count
        for line in shut:
            self._look(line, now, woke)
        self._gates.forget(gate, now)

    def limit(self, name: RuleName, rule: Rule | None, now: int, woke: set[str]) -> None:
        """The limit `name` is `rule` from now on, or none any more."""
        limit = self._gates.limit(name)
        limit.rule = rule
        for line in tuple(limit.blocked):
            if line.no:
                self._agenda.drop(line)
            self._look(line, now, woke)

    def sweep(self, now: int) -> bool:
        """Forget gates that are as good as fresh; whether there are more."""
        return self._gates.sweep(now)

    # ------------------------------------------------------------ lanes move

    def _look(self, line: Line, now: int, woke: set[str]) -> None:
        """Look at the gate of `line` again: wake the best that is blocked there, or note when it opens."""
        if not line.blocked:
            return
        opens = line.shut(now)
        if opens is None:
            lane = line.pop()
            self._unblock(lane, line)
            self._ready(lane)
            woke.add(line.pool.name)
        elif opens != NEVER and not line.no:
            self._openings -= 1
            line.no, line.due = self._openings, opens  # its number is never a job's
            self._agenda.add(line)

    def _ready(self, lane: Lane) -> None:
        lane.pool.ready += 1
        lane.pool.put(lane)

    def _block(self, lane: Lane, line: Line, now: int, woke: set[str]) -> None:
        lane.pool.ready -= 1
        lane.line = line
        line.blocked += 1
        line.limit.blocked[line] = None
        line.put(lane)
        for each in lane.lines:
            self._look(each, now, woke)

    def _unblock(self, lane: Lane, line: Line) -> None:
        lane.line = None
        line.blocked -= 1
        if not line.blocked:
            line.heads = None
            del line.limit.blocked[line]
            if line.no:
                self._agenda.drop(line)

    # ------------------------------------------------------------ lanes begin and end

    def _lane(self, job: Job) -> Lane:
        pool = self._pools.get(job.pool)
        if pool is None:
            pool = self._pools[job.pool] = Pool(job.pool)
        asked = asks(job)
        lane = pool.lanes.get(asked)
        if lane is None:
            lane = pool.lanes[asked] = Lane(pool, asked, tuple([self._line(pool, ask) for ask in asked]))
            pool.ready += 1
        return lane

    def _line(self, pool: Pool, ask: Ask) -> Line:
        key, name = ask
        gate, limit = self._gates.find(key), self._gates.limit(name)
        line = gate.lines.get((pool, limit))
        if line is None:
            line = gate.lines[pool, limit] = Line(gate, pool, limit)
        line.lanes += 1
        return line

    def _close(self, lane: Lane, now: int) -> None:
        """`lane` is empty: forget it, and what nothing else needs."""
        pool = lane.pool
        del pool.lanes[lane.asks]
        if not pool.lanes:
            del self._pools[pool.name]
        if lane.line is None:
            pool.ready -= 1
        else:
            self._unblock(lane, lane.line)
        for line in lane.lines:
            line.lanes -= 1
            if not line.lanes:
                del line.gate.lines[pool, line.limit]
            self._gates.forget(line.gate, now)

    def blocked_at_open_gates(self, now: int) -> Iterator[Lane]:
        """Lanes that break the invariant, none of whose gates will be looked at by time; for tests."""
        for pool in self._pools.values():
            for lane in pool.lanes.values():
                line = lane.line
                if line is not None and not line.no and line.shut(now) is None:
                    others = (other for other in pool.lanes.values() if other.line is None)
                    if not any(line in other.lines and other.jobs[0] < lane.jobs[0] for other in others):
                        yield lane


def _shut(lines: tuple[Line, ...], now: int) -> Line | None:
    """The first of these gates that is shut."""
    for line in lines:
        if line.shut(now) is not None:
            return line
    return None
