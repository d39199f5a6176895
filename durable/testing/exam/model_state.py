"""What the model keeps: plain lists and dicts, one class a noun, and questions that scan them.

Nothing is counted that can be looked up: places that are held, jobs that are queued and waits that are open
are found by going through all runs. This module may not know any door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, define
from msgspec.structs import replace

from durable.records import (
    Fired,
    History,
    Memo,
    Parent,
    Plan,
    Registration,
    RunRecord,
    RunStatus,
    StoredEvent,
    Timer,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import Outcome, Rule

__all__ = ["Accepted", "Buffer", "Candidacy", "EngineState", "Job", "OpenTimer", "OpenWait", "Run", "World"]


@define
class EngineState:
    """An engine: `number` is its last delivery, `told` the last one that was in an answer to it."""

    id: str
    left: bool = False
    buried: bool = False
    severed: bool = False
    number: int = 0
    told: int = 0

    @property
    def lives(self) -> bool:
        """Whether what it writes is accepted."""
        return not (self.left or self.buried)


@define
class Job:
    """A turn, or one more place for a run (`ref`), that is queued in `pool`.

    `ripe`: its time has come, and was seen to have come: a clock that steps back changes nothing.
    """

    number: int
    run: str
    due: int
    rank: int
    pool: str
    ripe: bool
    ref: str | None = None


@define
class OpenTimer:
    """A timer that is set; `number` is its place among all jobs."""

    timer: Timer
    number: int


@define
class Candidacy:
    """An event that may resolve a wait: open, or a yes that waits for smaller ones to be decided."""

    event: StoredEvent
    decider: str | None
    yes: bool = False


@define
class OpenWait:
    """A wait that is registered. `unscanned`: sequences of stored events that are candidates later."""

    run: str
    wait: Wait
    registered: int
    number: int
    closed: bool = False
    candidates: dict[int, Candidacy] = Factory(dict[int, Candidacy])
    unscanned: list[int] = Factory(list[int])

    @property
    def undecided(self) -> bool:
        """Whether it cannot be resolved yet."""
        return bool(self.candidates or self.unscanned)

    @property
    def hears(self) -> bool:
        """Whether new events concern it: not after its time-out, nor after a yes."""
        return not self.closed and not any(c.yes for c in self.candidates.values())

    def is_due(self, now: int) -> bool:
        """Whether its time-out is reached, be it that no claim has closed it yet."""
        return self.wait.until is not None and self.wait.until <= now


@define
class Run:
    """A run; `final` is its status once it is over."""

    plan: Plan
    created: int
    events: list[int]
    parents: list[Parent] = Factory(list[Parent])
    final: RunStatus | None = None
    cancelled: bool = False
    reason: str | None = None
    holder: str | None = None
    started: int | None = None
    ended: int | None = None
    attempt: int = 0
    output: bytes | None = None
    error: bytes | None = None
    unmet: tuple[str, ...] = ()
    # who has it
    gen: int = 0
    owner: str | None = None
    affinity: str | None = None
    claim_number: int = 0
    news_number: int = 0
    # what it has
    memos: dict[int, Memo] = Factory(dict[int, Memo])
    timers: dict[str, OpenTimer] = Factory(dict[str, OpenTimer])
    waits: dict[str, OpenWait] = Factory(dict[str, OpenWait])
    fired: dict[str, Fired] = Factory(dict[str, Fired])
    turn: Job | None = None
    asks: dict[str, Job] = Factory(dict[str, Job])
    # what it holds: its own place in each gate, and additional ones
    placed: bool = False
    extra: int = 0

    @property
    def id(self) -> str:
        """Its id."""
        return self.plan.run

    @property
    def over(self) -> bool:
        """Whether nothing can happen to it any more but the announcement of its cancellation."""
        return self.cancelled or self.final is not None

    @property
    def status(self) -> RunStatus:
        """Where it stands: a function of everything else."""
        if self.final is not None:
            return self.final
        if self.cancelled:
            return RunStatus.CANCELLED
        if self.owner is not None:
            return RunStatus.RUNNING
        return RunStatus.WAITING if self.turn is None else RunStatus.QUEUED

    def record(self) -> RunRecord:
        """It as the doors show it."""
        return RunRecord(
            id=self.id,
            function=self.plan.function,
            status=self.status,
            gen=self.gen,
            created=self.created,
            due=self.plan.due,
            started=self.started,
            ended=self.ended,
            attempt=self.attempt,
            parent=self.parents[0] if self.parents else None,
            output=self.output,
            error=self.error,
            reason=self.reason,
            holder=self.holder,
            origin=self.plan.origin,
            unmet=self.unmet,
        )


@define
class Buffer:
    """A debounce or a batch: `plan` is the one whose run will be created, under the id promised first."""

    plan: Plan
    first: int
    due: int
    number: int
    events: list[int]
    parents: list[Parent]


@define
class Accepted:
    """What is remembered of an admission: when (or where its cursor stood), and the answer."""

    at: int
    seq: int
    outcomes: tuple[Outcome, ...] = ()


@define
class World:
    """Everything. `now` is the time of the call under way."""

    now: int = 0
    sequence: int = 0  # of events and of waits for events, together
    jobs: int = 0  # how many there were
    engines: dict[str, EngineState] = Factory(dict[str, EngineState])
    runs: dict[str, Run] = Factory(dict[str, Run])
    events: dict[int, StoredEvent] = Factory(dict[int, StoredEvent])
    accepted: dict[tuple[str, str], Accepted] = Factory(dict[tuple[str, str], Accepted])
    cursors: dict[str, Accepted] = Factory(dict[str, Accepted])
    # the registry
    version: int = 0
    registrations: dict[str, Registration] = Factory(dict[str, Registration])
    paused: set[str] = Factory(set[str])
    paths: set[tuple[str, str]] = Factory(set[tuple[str, str]])
    # gates
    latches: dict[str, tuple[int, str]] = Factory(dict[str, tuple[int, str]])
    singletons: dict[str, str] = Factory(dict[str, str])
    rates: dict[tuple[str, str], list[int]] = Factory(dict[tuple[str, str], list[int]])
    throttles: dict[str, int] = Factory(dict[str, int])
    buffers: dict[str, Buffer] = Factory(dict[str, Buffer])
    # for the bounds of `woke`: what this call queued, and at which gates it gave something back
    queued_pools: set[str] = Factory(set[str])
    offered: set[tuple[str, str]] = Factory(set[tuple[str, str]])

    def next_sequence(self) -> int:
        """Another number in the one order of events and waits."""
        self.sequence += 1
        return self.sequence

    def next_job(self) -> int:
        """Another number in the one order of jobs."""
        self.jobs += 1
        return self.jobs

    def lives(self, engine: str | None) -> bool:
        """Whether `engine` has joined, and is neither gone nor buried."""
        return engine in self.engines and self.engines[engine].lives

    def rule(self, function: str, name: str) -> Rule | None:
        """The limit that a job of `function` names; ``None``: there is none."""
        registration = self.registrations.get(function)
        return dict(registration.rules).get(name) if registration else None

    def queued(self) -> Iterator[Job]:
        """All turns and places that are queued."""
        for run in self.runs.values():
            if run.turn is not None:
                yield run.turn
            yield from run.asks.values()

    def ripen(self) -> None:
        """Time is looked at: what is due stays due."""
        for job in self.queued():
            job.ripe = job.ripe or job.due <= self.now

    def open_waits(self) -> list[OpenWait]:
        """All open waits, in the order in which everything is done to them: by run and ref."""
        waits = [wait for run in self.runs.values() for wait in run.waits.values()]
        return sorted(waits, key=lambda w: (w.run, w.wait.ref))

    def stored(self, seqs: list[int]) -> tuple[StoredEvent, ...]:
        """Events by their sequences, those that are still there, in order."""
        return tuple(self.events[seq] for seq in sorted(seqs) if seq in self.events)

    def history(self, run: Run, *, memos: bool = True) -> History:
        """All that is known of a run."""
        timers = sorted((t.timer for t in run.timers.values()), key=lambda t: (t.due, t.ref))
        return History(
            run=run.record(),
            events=self.stored(run.events),
            memos=tuple(run.memos[position] for position in sorted(run.memos)) if memos else (),
            timers=tuple(timers),
            waits=tuple(run.waits[ref].wait for ref in sorted(run.waits)),
            fired=tuple(run.fired.values()),
        )

    def memo_value(self, run: Run, position: int | None, value: bytes) -> None:
        """Fill a memo in whose value was not known when it was made."""
        if position is not None and position in run.memos:
            run.memos[position] = replace(run.memos[position], value=value)
