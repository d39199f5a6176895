"""Runs as they lie in memory, and the records that people and engines get of them.

Duty: the state of one run (small: most runs sleep, and there may be a million of them), all runs by id, and
what has ended by age. It decides nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING

from attrs import define

from durable.records import History, RunRecord, RunStatus
from durable.store import SWEEP_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import (
        Cutoffs,
        End,
        Fired,
        Memo,
        Parent,
        RunQuery,
        Slot,
        StoredEvent,
        Throttle,
        Timer,
    )

    from .engines import Engine
    from .pools import Job
    from .waits import Waiter

__all__ = ["Alarm", "Run", "Runs", "history"]

_by_due = attrgetter("due", "ref")
_SLACK = 64


@define(eq=False, weakref_slot=False)
class Alarm:
    """A timer that is set."""

    no: int
    due: int
    run: Run
    timer: Timer


@define(eq=False, weakref_slot=False)
class Run:
    """One run. What is empty is ``None``: a sleeping run is little more than its memos and one alarm."""

    id: str
    function: str
    created: int
    due: int
    events: tuple[StoredEvent, ...]
    parents: tuple[Parent, ...] = ()
    origin: str | None = None
    priority: int = 0
    throttle: Throttle | None = None
    slots: tuple[Slot, ...] = ()
    singleton: str | None = None
    finish_timeout: int | None = None
    gen: int = 0
    started: int | None = None
    attempt: int = 0
    owner: Engine | None = None
    claim_no: int = 0
    news_no: int = 0
    affinity: str | None = None
    placed: bool = False
    extra: int = 0
    """Places that it holds besides its own, for which `placed` stands."""
    turn: Job | None = None
    asks: dict[str, Job] | None = None
    memos: list[Memo] | None = None
    timers: dict[str, Alarm] | None = None
    waits: dict[str, Waiter] | None = None
    fired: dict[str, Fired] | None = None
    cancelled: bool = False
    ended: int | None = None
    end: End | None = None
    reason: str | None = None
    holder: str | None = None

    @property
    def backs_off(self) -> bool:
        """Whether its handler waits for its next attempt: nothing else queues the run then."""
        return self.timers is not None and "" in self.timers

    @property
    def over(self) -> bool:
        """Whether nothing can happen to it any more but to be announced and removed."""
        return self.cancelled or self.ended is not None

    @property
    def status(self) -> RunStatus:
        """Where it stands: a function of the rest."""
        if self.end is not None:
            return self.end.status
        if self.cancelled:
            return RunStatus.CANCELLED
        if self.owner is not None:
            return RunStatus.RUNNING
        return RunStatus.WAITING if self.turn is None else RunStatus.QUEUED


def history(run: Run, *, memos: bool = True) -> History:
    """All that is known of `run`."""
    end = run.end
    record = RunRecord(
        run.id,
        run.function,
        run.status,
        run.gen,
        run.created,
        run.due,
        run.started,
        run.ended,
        run.attempt,
        run.parents[0] if run.parents else None,
        end.output if end else None,
        end.error if end else None,
        run.reason,
        run.holder,
        run.origin,
        end.unmet if end else (),
    )
    return History(
        record,
        run.events,
        tuple(run.memos) if memos and run.memos else (),
        tuple(sorted((alarm.timer for alarm in run.timers.values()), key=_by_due)) if run.timers else (),
        tuple(run.waits[ref].wait for ref in sorted(run.waits)) if run.waits else (),
        tuple(run.fired.values()) if run.fired else (),
    )


class Runs:
    """All runs by id, and those that have ended by age."""

    __slots__ = ("_ended", "_ids", "_kept", "_removed", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[str, Run] = {}
        self._ids: list[str] = []  # sorted; ids that are gone are skipped
        self._removed = 0
        self._ended: list[tuple[int, str]] = []
        self._kept: list[tuple[int, str]] = []  # those of them that still have memos

    def add(self, run: Run) -> None:
        """A new run."""
        self.by_id[run.id] = run
        ids = self._ids
        if not ids or run.id > ids[-1]:
            ids.append(run.id)
        else:
            insort(ids, run.id)

    def end(self, run: Run, now: int) -> None:
        """`run` is over for good: from now on retention counts."""
        run.ended = now
        heappush(self._ended, (now, run.id))
        if run.memos:
            heappush(self._kept, (now, run.id))

    def sweep(self, cutoffs: Cutoffs) -> tuple[list[Run], bool]:
        """Remove what is too old; the runs that were removed, and whether there is more to remove."""
        ended = self._ended
        removed: list[Run] = []
        while ended and ended[0][0] < cutoffs.runs and len(removed) < SWEEP_MAX:
            removed.append(self.by_id.pop(heappop(ended)[1]))
        self._removed += len(removed)
        if self._removed > _SLACK and self._removed * 2 > len(self._ids):
            self._ids = [run_id for run_id in self._ids if run_id in self.by_id]
            self._removed = 0
        left = SWEEP_MAX
        while left and (run := self._next_kept(cutoffs.steps)) is not None and run.memos is not None:
            forgotten = min(left, len(run.memos))
            run.memos = run.memos[forgotten:] or None
            left -= forgotten
        more = bool(ended and ended[0][0] < cutoffs.runs) or self._next_kept(cutoffs.steps) is not None
        return removed, more

    def _next_kept(self, before: int) -> Run | None:
        """The run that has ended first, before that time, of those that still have memos."""
        kept = self._kept
        while kept and kept[0][0] < before:
            run = self.by_id.get(kept[0][1])
            if run is not None and run.memos:
                return run
            heappop(kept)
        return None

    def newest(self, before: str | None) -> Iterator[Run]:
        """Runs with ids smaller than `before`, from the newest."""
        ids = self._ids
        for place in range((len(ids) if before is None else bisect_left(ids, before)) - 1, -1, -1):
            run = self.by_id.get(ids[place])
            if run is not None:
                yield run

    def matching(self, query: RunQuery) -> Iterator[Run]:
        """Runs that `query` asks for, from the newest, without its limit."""
        for run in self.newest(query.before):
            if (
                (query.function is None or run.function == query.function)
                and (not query.statuses or run.status in query.statuses)
                and (query.since is None or run.created >= query.since)
                and (query.until is None or run.created < query.until)
                and (query.event_id is None or any(event.id == query.event_id for event in run.events))
            ):
                yield run
