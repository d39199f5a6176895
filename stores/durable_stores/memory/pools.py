"""What is queued: jobs, the lanes in which they stand, and the pools of lanes that engines ask for.

Duty: the best job of a lane, the best ready lane of a pool. It may not know when a gate is open.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from .gates import Ask, Line
    from .runs import Run

__all__ = ["Head", "Job", "Lane", "Pool", "asks"]

_SLACK = 32

Head = tuple[int, int, "Lane"]
"""A lane, by rank and number of its best job."""


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
    """Jobs that ask for the same, in `lines`; `line` is where it is blocked, ``None`` while it is ready."""

    pool: Pool
    asks: tuple[Ask, ...]
    lines: tuple[Line, ...]
    line: Line | None = None
    count: int = 0
    jobs: list[tuple[int, int, Job]] = field(factory=list[tuple[int, int, Job]])

    def settle(self) -> None:
        """Bring the best living job to the front; forget the dead once they are the most."""
        jobs = self.jobs
        if len(jobs) > 2 * self.count + _SLACK:
            jobs[:] = [entry for entry in jobs if entry[2].lane is self]
            heapify(jobs)
        while jobs and jobs[0][2].lane is not self:
            heappop(jobs)


@define(eq=False, weakref_slot=False)
class Pool:
    """What one function, or one engine for what is pinned to it, has queued."""

    name: str
    lanes: dict[tuple[Ask, ...], Lane] = field(factory=dict["tuple[Ask, ...]", Lane])
    ready: int = 0
    heads: list[Head] = field(factory=list["Head"])

    def put(self, lane: Lane) -> None:
        """`lane` is ready, and has this head."""
        rank, no, _ = lane.jobs[0]
        heappush(self.heads, (rank, no, lane))
        if len(self.heads) > 2 * self.ready + _SLACK:
            self.heads = list({head[2]: head for head in self.heads if _stands(head)}.values())
            heapify(self.heads)

    def best(self) -> Head | None:
        """The ready lane with the best head, if there is one."""
        heads = self.heads
        while heads:
            if _stands(heads[0]):
                return heads[0]
            heappop(heads)
        return None


def _stands(head: Head) -> bool:
    _, no, lane = head
    return lane.line is None and bool(lane.jobs) and lane.jobs[0][1] == no


def asks(job: Job) -> tuple[Ask, ...]:
    """The gates that `job` asks for, which make its lane.

    The throttle counts before the first claim. A further place is not asked of the singleton, and whoever
    only announces a cancellation asks for nothing.
    """
    run = job.run
    if run.cancelled or (run.throttle is None and run.singleton is None and not run.slots):
        return ()
    function = run.function
    found: list[Ask] = [(("slot", slot.gate), (function, slot.rule)) for slot in run.slots]
    if job.ref is None:
        if run.singleton is not None:
            found.append((("singleton", run.singleton), None))
        if run.throttle is not None and run.started is None:
            found.insert(0, (("throttle", run.throttle.gate), (function, run.throttle.rule)))
    return tuple(found)
