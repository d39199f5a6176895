"""Plans: each is decided by the first gate that applies, and may become a run.

All is read before anything is written: a plan that is refused consumes nothing. May not know where plans
come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Outcome, Parent, Verb
from durable_stores.sqlite import buffers, creation, latches, runs
from durable_stores.sqlite.firing import refuse_parents

if TYPE_CHECKING:
    from durable.records import Plan, StoredEvent
    from durable_stores.sqlite.work import Work

__all__ = ["decide_all", "flush"]

Events = tuple["StoredEvent", ...]


def decide_all(work: Work, plans: tuple[Plan, ...], events: Events) -> tuple[Outcome, ...]:
    """Decide plans that were made for `events`, one after the other."""
    return tuple([_decide(work, plan, events) for plan in plans])


def _decide(work: Work, plan: Plan, events: Events) -> Outcome:
    parents = () if plan.parent is None else (plan.parent,)
    holder = latches.holder_of(work, plan.once)
    if holder is not None:
        refuse_parents(work, parents, "exists")
        return Outcome(Verb.EXISTS, plan.function, run=holder)
    if plan.rate is not None and not latches.is_open(work, plan.rate):
        if latches.notes_drop(work, plan.rate):
            return _skip(work, plan, events, parents, "rate_limit")
        refuse_parents(work, parents, "rate_limit")
        return Outcome(Verb.DROPPED, plan.function, reason="rate_limit")
    if plan.batch is not None:
        return _buffer(work, plan.batch.key, plan, events)
    if plan.debounce is not None:
        return _buffer(work, plan.debounce.key, plan, events)
    outcome = _start(work, plan, events, parents)
    if outcome.verb is Verb.RUN:
        latches.take(work, plan, plan.run)
    return outcome


def _buffer(work: Work, key: str, plan: Plan, events: Events) -> Outcome:
    put = buffers.put(work, key, plan, events)
    refuse_parents(work, put.displaced, "debounced")
    if put.due is not None:
        latches.take(work, plan, put.run)
        if put.due <= work.now:
            flush(work, key)
    return Outcome(Verb.BUFFERED, plan.function, run=put.run)


def flush(work: Work, key: str) -> None:
    """A buffer is due: its run is created, or refused as any plan may be."""
    plan, events, parents = buffers.take(work, key)
    _start(work, plan, events, parents)


def _start(work: Work, plan: Plan, events: Events, parents: tuple[Parent, ...]) -> Outcome:
    """From the singleton on: what is left to decide for a buffer that is flushed, too."""
    single = plan.singleton
    holder = None if single is None else _singleton_holder(work, single.key)
    if single is not None and holder is not None and not single.replace:
        return _skip(work, plan, events, parents, "singleton", holder)
    if work.is_paused(plan.function):
        return _skip(work, plan, events, parents, "paused")
    old = None if holder is None else work.run(holder)
    if old is not None:
        runs.cancel(work, old, "singleton")
    if single is not None:
        work.sql.execute("INSERT OR REPLACE INTO singletons (key, run) VALUES (?, ?)", (single.key, plan.run))
    creation.create(work, plan, events, parents)
    return Outcome(Verb.RUN, plan.function, run=plan.run)


def _skip(
    work: Work,
    plan: Plan,
    events: Events,
    parents: tuple[Parent, ...],
    reason: str,
    holder: str | None = None,
) -> Outcome:
    creation.skip(work, plan, events, parents, reason, holder)
    return Outcome(Verb.SKIPPED, plan.function, run=plan.run, reason=reason, holder=holder)


def _singleton_holder(work: Work, key: str) -> str | None:
    row = work.sql.execute("SELECT run FROM singletons WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])
