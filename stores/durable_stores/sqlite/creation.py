"""A plan becomes a run, or the record of one that was skipped. May not know what decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Effect, Timer
from durable_stores.sqlite import gating, runs, turns, waits
from durable_stores.sqlite.firing import refuse_parents
from durable_stores.sqlite.rows import memo_row
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Seed

if TYPE_CHECKING:
    from durable.records import Parent, Plan, StoredEvent
    from durable_stores.sqlite.work import Work

__all__ = ["create", "skip"]


def create(work: Work, plan: Plan, events: tuple[StoredEvent, ...], parents: tuple[Parent, ...]) -> None:
    """A run that is queued at its due time."""
    run = _new(work, plan, events, parents)
    work.add(run)
    turns.queue(work, run, plan.due)
    work.seeds[run.id] = Seed(events, plan.memos, plan.waits)
    if plan.memos:
        work.memos += [memo_row(run.id, memo) for memo in plan.memos]
    if plan.waits:
        waits.register(work, run, plan.waits)
    if plan.start_timeout is not None and not run.cancelled:
        runs.set_timers(work, run, (Timer("!start", plan.start_timeout, Effect.CANCEL),))


def skip(
    work: Work,
    plan: Plan,
    events: tuple[StoredEvent, ...],
    parents: tuple[Parent, ...],
    reason: str,
    holder: str | None = None,
) -> None:
    """A run that is over from the start; who invoked it is told the reason."""
    run = _new(work, plan, events, parents)
    run.status = "skipped"
    run.ended = work.now
    run.reason = reason
    run.holder = holder
    work.add(run)
    refuse_parents(work, parents, reason)


def _new(work: Work, plan: Plan, events: tuple[StoredEvent, ...], parents: tuple[Parent, ...]) -> Run:
    if len(events) > 1:
        work.sql.executemany(
            "INSERT INTO more_events (run, place, event) VALUES (?, ?, ?)",
            [(plan.run, place, event.seq) for place, event in enumerate(events[1:])],
        )
    if len(parents) > 1:
        work.sql.executemany(
            "INSERT OR IGNORE INTO more_parents (run, parent_run, parent_ref) VALUES (?, ?, ?)",
            [(plan.run, parent.run, parent.ref) for parent in parents[1:]],
        )
    return Run(
        id=plan.run,
        function=plan.function,
        created=work.now,
        due=plan.due,
        priority=plan.priority,
        event=events[0].seq if events else 0,
        parent_run=parents[0].run if parents else None,
        parent_ref=parents[0].ref if parents else None,
        throttle=gating.throttle_text(plan.throttle),
        slots=gating.slots_text(plan.slots),
        singleton=None if plan.singleton is None else plan.singleton.key,
        start_by=plan.start_timeout,
        finish_in=plan.finish_timeout,
        origin=plan.origin,
        holder=None,
    )
