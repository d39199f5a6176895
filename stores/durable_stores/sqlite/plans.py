"""Plans: each is decided by the first gate that applies, and may become a run.

All is read before anything is written: a plan that is refused consumes nothing. May not know where plans
come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from durable import gates
from durable.records import Effect, Outcome, Parent, Timer, Verb
from durable_stores.sqlite import buffers, runs, turns, waits
from durable_stores.sqlite.firing import refuse_parents
from durable_stores.sqlite.rows import memo_row
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Seed

if TYPE_CHECKING:
    from durable.records import Plan, Rate, StoredEvent
    from durable_stores.sqlite.work import Work

__all__ = ["decide_all", "flush"]

_DROPS_RECORDED = 100
"""So many drops of one key leave a skipped run, in any rolling period of its rate."""

_LIMIT_MAX = 10_000
"""The greatest limit of a rate: so many acceptances of a key have to be known."""

_KEPT = 3600 * 1000
"""Acceptances are known so long at least (ms), for the case that a longer period is declared."""


def decide_all(work: Work, plans: tuple[Plan, ...], events: tuple[StoredEvent, ...]) -> tuple[Outcome, ...]:
    """Decide plans that were made for `events`, one after the other."""
    return tuple(_decide(work, plan, events) for plan in plans)


def _decide(work: Work, plan: Plan, events: tuple[StoredEvent, ...]) -> Outcome:
    parents = () if plan.parent is None else (plan.parent,)
    holder = _latch_holder(work, plan)
    if holder is not None:
        _refuse(work, parents, "exists")
        return Outcome(Verb.EXISTS, plan.function, run=holder)
    if plan.rate is not None and not _passes(
        work, f"pass:{plan.rate.key}", plan.rate.limit, plan.rate.period
    ):
        if _passes(work, f"drop:{plan.rate.key}", _DROPS_RECORDED, plan.rate.period):
            _note(work, f"drop:{plan.rate.key}", plan.rate)
            return _skip(work, plan, events, parents, "rate_limit")
        _refuse(work, parents, "rate_limit")
        return Outcome(Verb.DROPPED, plan.function, reason="rate_limit")
    if plan.batch is not None or plan.debounce is not None:
        return _buffer(work, plan, events)
    outcome = _start(work, plan, events, parents)
    if outcome.verb is Verb.RUN:
        _take(work, plan, plan.run)
    return outcome


def _buffer(work: Work, plan: Plan, events: tuple[StoredEvent, ...]) -> Outcome:
    key = plan.batch.key if plan.batch is not None else plan.debounce.key if plan.debounce is not None else ""
    put = buffers.put(work, key, plan, events)
    if put.displaced:
        _refuse(work, put.displaced, "debounced")
    if put.due is not None:
        _take(work, plan, put.run)
        if put.due <= work.now:
            flush(work, key)
    return Outcome(Verb.BUFFERED, plan.function, run=put.run)


def flush(work: Work, key: str) -> None:
    """A buffer is due: its run is created, or refused as any plan may be."""
    plan, events, parents = buffers.take(work, key)
    _start(work, plan, events, parents)


def _start(work: Work, plan: Plan, events: tuple[StoredEvent, ...], parents: tuple[Parent, ...]) -> Outcome:
    """From the singleton on: what is left to decide for a buffer that is flushed, too."""
    single, holder = plan.singleton, None
    if single is not None:
        row = work.sql.execute("SELECT run FROM singletons WHERE key = ?", (single.key,)).fetchone()
        holder = None if row is None else row[0]
        if holder is not None and not single.replace:
            return _skip(work, plan, events, parents, "singleton", holder)
    if work.is_paused(plan.function):
        return _skip(work, plan, events, parents, "paused")
    if holder is not None:
        old = work.run(holder)
        if old is not None:
            runs.cancel(work, old, "singleton")
    if single is not None:
        work.sql.execute("INSERT OR REPLACE INTO singletons VALUES (?, ?)", (single.key, plan.run))
    _create(work, plan, events, parents)
    return Outcome(Verb.RUN, plan.function, run=plan.run)


def _create(work: Work, plan: Plan, events: tuple[StoredEvent, ...], parents: tuple[Parent, ...]) -> None:
    run = _new_run(work, plan, events, parents, "waiting")
    work.add(run)
    turns.queue(work, run, plan.due)
    work.seeds[run.id] = Seed(events, plan.memos, plan.waits)
    work.memos.extend(memo_row(run.id, memo) for memo in plan.memos)
    if plan.waits:
        waits.register(work, run, plan.waits)
    if plan.start_timeout is not None and not run.cancelled:
        runs.set_timers(work, run, (Timer("!start", plan.start_timeout, Effect.CANCEL),))


def _new_run(
    work: Work, plan: Plan, events: tuple[StoredEvent, ...], parents: tuple[Parent, ...], status: str
) -> Run:
    parent = parents[0] if parents else None
    run = Run(
        id=plan.run,
        function=plan.function,
        status=status,
        created=work.now,
        due=plan.due,
        priority=plan.priority,
        event=events[0].seq if events else 0,
        parent_run=None if parent is None else parent.run,
        parent_ref=None if parent is None else parent.ref,
        throttle=""
        if plan.throttle is None
        else orjson.dumps([f"throttle:{plan.throttle.gate}", plan.throttle.rule]).decode(),
        slots=orjson.dumps([[f"slot:{slot.gate}", slot.rule] for slot in plan.slots]).decode()
        if plan.slots
        else "",
        singleton=None if plan.singleton is None else plan.singleton.key,
        start_by=plan.start_timeout,
        finish_in=plan.finish_timeout,
        origin=plan.origin,
    )
    if len(events) > 1:
        work.sql.executemany(
            "INSERT INTO more_events VALUES (?, ?, ?)", [(run.id, n, e.seq) for n, e in enumerate(events[1:])]
        )
    if len(parents) > 1:
        work.sql.executemany(
            "INSERT OR IGNORE INTO more_parents VALUES (?, ?, ?)",
            [(run.id, p.run, p.ref) for p in parents[1:]],
        )
    return run


def _skip(
    work: Work,
    plan: Plan,
    events: tuple[StoredEvent, ...],
    parents: tuple[Parent, ...],
    reason: str,
    holder: str | None = None,
) -> Outcome:
    run = _new_run(work, plan, events, parents, "skipped")
    run.ended = work.now
    run.reason = reason
    run.holder = holder
    work.add(run)
    _refuse(work, parents, reason)
    return Outcome(Verb.SKIPPED, plan.function, run=plan.run, reason=reason, holder=holder)


def _refuse(work: Work, parents: tuple[Parent, ...], reason: str) -> None:
    refuse_parents(work, [(parent.run, parent.ref) for parent in parents], reason)


# ---------------------------------------------------------------- latches and rates


def _latch_holder(work: Work, plan: Plan) -> str | None:
    for latch in plan.once:
        row = work.sql.execute("SELECT until, run FROM latches WHERE key = ?", (latch.key,)).fetchone()
        if row is not None and not gates.latch_is_free(row[0], work.now):
            return str(row[1])
    return None


def _take(work: Work, plan: Plan, holder: str) -> None:
    """The plan was accepted: `holder` has its latches, and it counts in its rate."""
    for latch in plan.once:
        work.sql.execute(
            "INSERT OR REPLACE INTO latches (key, run, until) VALUES (?, ?, ?)",
            (latch.key, holder, work.now + latch.hold),
        )
    if plan.rate is not None:
        _note(work, f"pass:{plan.rate.key}", plan.rate)


def _newest(work: Work, key: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = work.sql.execute(
        "SELECT number, at FROM rates WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)
    ).fetchone()
    return row


def _passes(work: Work, key: str, limit: int, period: int) -> bool:
    newest = _newest(work, key)
    if newest is None:
        return gates.rate_passes(None, None, work.now, period)
    number, at = newest
    oldest = work.sql.execute(
        "SELECT at FROM rates WHERE key = ? AND number = ?", (key, number - limit + 1)
    ).fetchone()
    return gates.rate_passes(None if oldest is None else oldest[0], at, work.now, period)


def _note(work: Work, key: str, rate: Rate) -> None:
    number, at = _newest(work, key) or (0, work.now)
    at = max(at, work.now)
    work.sql.execute("DELETE FROM rates WHERE key = ? AND number <= ?", (key, number - _LIMIT_MAX))
    work.sql.execute(
        "INSERT INTO rates (key, number, at, until) VALUES (?, ?, ?, ?)",
        (key, number + 1, at, at + max(rate.period, _KEPT)),
    )
