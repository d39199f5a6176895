"""Claims: due timers fire, jobs are taken by rank, and engines are told.

Duty: what `Store.claim` says, and the claim within `admit`. It may not know commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Cause, Claim, Effect, Fired, News, Timer
from durable.store import PROMOTE_MAX

from . import matching
from .admission import flush
from .buffers import Buffer
from .runs import Alarm, Run, history
from .waits import Waiter

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from durable.records import Delivery, Request

    from .engines import Engine
    from .ledger import Call, Ledger
    from .pools import Job

__all__ = ["deliver", "next_due", "promote", "take", "take_fresh"]

_NOBODY: frozenset[Run] = frozenset()


def promote(ledger: Ledger, call: Call) -> bool:
    """Fire what is due, and queue jobs whose time has come; whether there is more than one call may do."""
    agenda = ledger.agenda
    for _ in range(PROMOTE_MAX):
        thing = agenda.pop(call.now)
        if thing is None:
            break
        if isinstance(thing, Alarm):
            _ring(ledger, call, thing)
        elif isinstance(thing, Waiter):
            matching.time_out(ledger, call, thing)
        elif isinstance(thing, Buffer):
            thing.no = 0
            flush(ledger, call, thing)
    more = ledger.lanes.promote(call.now, call.woke)
    due = agenda.next_due()
    return more or (due is not None and due <= call.now)


def _ring(ledger: Ledger, call: Call, alarm: Alarm) -> None:
    run, timer = alarm.run, alarm.timer
    alarm.no = 0
    timers = run.timers
    assert timers is not None
    del timers[timer.ref]
    if not timers:
        run.timers = None
    if timer.effect is Effect.CANCEL:
        ledger.cancel(call, run, timer.ref)
    else:
        fired = Fired(timer.ref, Cause.DUE, timer.due, timer=timer, started=timer.started)
        ledger.fire(call, run, fired)


def next_due(ledger: Ledger) -> int | None:
    """When something falls due by itself."""
    due, opens = ledger.agenda.next_due(), ledger.lanes.next_due()
    if due is None or opens is None:
        return opens if due is None else due
    return min(due, opens)


# ---------------------------------------------------------------- taking


def take(ledger: Ledger, call: Call, engine: Engine, request: Request) -> tuple[set[Run], bool]:
    """Take what is asked for, best rank first; the runs that came warm, and whether to ask again."""
    jobs, more = ledger.lanes.take(request.pools, engine.id, request.limit, call.now, call.woke)
    return {job.run for job in jobs if _own(ledger, call, job, engine)}, more


def take_fresh(ledger: Ledger, call: Call, engine: Engine, request: Request) -> set[Run]:
    """Take turns of this very call, where that overtakes nobody, and queue the others; the warm ones."""
    left, warm = request.limit, set[Run]()
    fresh, call.fresh = call.fresh or [], None
    if ledger.lanes.promote(call.now, set()):  # what time has made due is no news
        left = 0
    for job in sorted(fresh, key=lambda job: (job.rank, job.no)):
        if not job.no:
            continue
        if left > 0 and job.pool in request.pools and ledger.lanes.take_fresh(job, call.now):
            left -= 1
            job.no = 0
            if _own(ledger, call, job, engine):
                warm.add(job.run)
        else:
            ledger.lanes.add(job, call.now, call.woke)
            ledger.lanes.block_head(job.pool, call.now, call.woke)
    return warm


def _own(ledger: Ledger, call: Call, job: Job, engine: Engine) -> bool:
    """`job` was taken by `engine`; whether its run came back to the one that kept it warm."""
    run = job.run
    if job.ref is not None:
        if run.asks is not None:
            del run.asks[job.ref]
            run.asks = run.asks or None
        run.extra += 1
        ledger.fire(call, run, Fired(job.ref, Cause.PLACE, call.now))
        return False
    run.turn = None
    warm = run.affinity == engine.id
    run.owner, run.affinity = engine, None
    engine.owned[run] = None
    run.claim_no, run.news_no = engine.number(run), 0
    run.gen += 1
    if run.cancelled:
        return warm
    run.placed = True
    if run.started is None:
        run.started = call.now
        ledger.drop_timer(run, "!start")
        if run.finish_timeout is not None:
            ledger.set_timer(run, Timer("!finish", call.now + run.finish_timeout, Effect.CANCEL))
    return warm


# ---------------------------------------------------------------- telling


def deliver(engine: Engine, above: int, warm: AbstractSet[Run] = _NOBODY) -> tuple[Delivery, ...]:
    """What `engine` is told with numbers greater than `above`: of each run its present state.

    Only where an answer was lost (it has not `seen` what it was told) all that it owns is looked through.
    """
    told, engine.told = engine.told, engine.delivered
    if engine.delivered <= above:
        engine.news.clear()
        return ()
    found: list[Delivery] = []
    for run in engine.news if above >= told else engine.owned:
        if run.owner is not engine:
            continue
        if run.claim_no > above:
            is_warm = run in warm
            found.append(Claim(run.claim_no, history(run, memos=not is_warm), is_warm))
        elif run.news_no > above:
            fired = tuple(run.fired.values()) if run.fired is not None else ()
            found.append(News(run.news_no, run.id, run.gen, fired, run.cancelled))
    engine.news.clear()
    found.sort(key=_number)
    return tuple(found)


def _number(delivery: Delivery) -> int:
    return delivery.no
