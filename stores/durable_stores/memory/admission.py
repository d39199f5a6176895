"""The way of an admission: duplicates, the event, its waits, its plans.

Duty: what `Store.admit` says, one admission at a time. It may not know claims or commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from durable.records import Duplicate, Effect, End, New, Outcome, Outdated, RunStatus, Timer, Verb

from . import matching
from .runs import Run

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, Parent, Plan, StoredEvent

    from .buffers import Buffer
    from .engines import Engine
    from .events import Card
    from .ledger import Call, Ledger

__all__ = ["admit_current", "admit_one", "flush", "is_outdated"]

_SKIPPED = End(RunStatus.SKIPPED)


def is_outdated(ledger: Ledger, admission: Admission) -> bool:
    """Whether it was made from a registry that has changed. A signal is made from none."""
    return admission.signal is None and admission.registry < ledger.functions.version


def admit_current(
    ledger: Ledger, call: Call, admission: Admission, decider: Engine | None
) -> AdmissionAnswer:
    """One admission, if it was made from the registry as it is now."""
    if is_outdated(ledger, admission):
        return Outdated(ledger.functions.version)
    return admit_one(ledger, call, admission, decider)


def admit_one(ledger: Ledger, call: Call, admission: Admission, decider: Engine | None) -> AdmissionAnswer:
    """One admission; `decider` will evaluate the candidates of the answer."""
    duplicate = _duplicate(ledger, call, admission)
    if duplicate is not None:
        return duplicate
    events = ledger.events
    event = admission.event
    if event is not None:
        card = events.store(event, call.now)
        seq = card.event.seq
        candidates = matching.hear(ledger, call, card.event, admission, decider)
        cards = [card]
        answer = New(seq, tuple([_decide(ledger, call, plan, cards) for plan in admission.plans]), candidates)
        events.settle(card)
        if event.once:
            events.accept(event, call.now, seq, answer.outcomes)
    elif admission.signal is not None:
        taken = matching.signal(ledger, call, admission.signal.name, admission.signal.data)
        answer = New(events.last, taken=taken)
    else:
        cards = events.find(sorted(admission.again))
        answer = New(events.last, tuple([_decide(ledger, call, plan, cards) for plan in admission.plans]))
    if admission.cursor is not None:
        events.move(admission.cursor, answer.seq, answer.outcomes)
    return answer


def _duplicate(ledger: Ledger, call: Call, admission: Admission) -> Duplicate | None:
    duplicate = None
    if admission.event is not None and admission.event.once:
        duplicate = ledger.events.duplicate(admission.event, call.now)
    if duplicate is None and admission.cursor is not None:
        duplicate = ledger.events.behind(admission.cursor)
    return duplicate


# ---------------------------------------------------------------- plans


@define(eq=False)
class _Seed:
    """What a run would be made from."""

    plan: Plan
    run_id: str
    cards: list[Card]
    parents: tuple[Parent, ...]


def _decide(ledger: Ledger, call: Call, plan: Plan, cards: list[Card]) -> Outcome:
    seed = _Seed(plan, plan.run, cards, (plan.parent,) if plan.parent is not None else ())
    for latch in plan.once:
        holder = ledger.latches.holder(latch.key, call.now)
        if holder is not None:
            ledger.never_ran(call, seed.parents, "exists")
            return Outcome(Verb.EXISTS, plan.function, run=holder)
    if plan.rate is not None and not ledger.rates.passes(plan.rate, call.now):
        if ledger.rates.records_drop(plan.rate, call.now):
            return _skip(ledger, call, seed, "rate_limit")
        ledger.never_ran(call, seed.parents, "rate_limit")
        return Outcome(Verb.DROPPED, plan.function, reason="rate_limit")
    if plan.batch is not None or plan.debounce is not None:
        return Outcome(Verb.BUFFERED, plan.function, run=_buffer(ledger, call, seed))
    outcome = _start(ledger, call, seed)
    if outcome.verb is Verb.RUN:
        _accept(ledger, call, plan, plan.run)
    return outcome


def _accept(ledger: Ledger, call: Call, plan: Plan, run_id: str) -> None:
    for latch in plan.once:
        ledger.latches.take(latch, run_id, call.now)
    if plan.rate is not None:
        ledger.rates.accept(plan.rate, call.now)


def _start(ledger: Ledger, call: Call, seed: _Seed) -> Outcome:
    """From the singleton on: what is left to decide for a buffer that is flushed, too."""
    plan = seed.plan
    holder = ledger.latches.single(plan.singleton.key) if plan.singleton is not None else None
    if holder is not None and plan.singleton is not None and not plan.singleton.replace:
        return _skip(ledger, call, seed, "singleton", holder.id)
    if ledger.functions.paused(plan.function):
        return _skip(ledger, call, seed, "paused")
    if holder is not None:
        ledger.cancel(call, holder, "singleton")
    _create(ledger, call, seed)
    return Outcome(Verb.RUN, plan.function, seed.run_id)


def _create(ledger: Ledger, call: Call, seed: _Seed) -> None:
    plan, parents = seed.plan, seed.parents
    run = Run(
        seed.run_id,
        plan.function,
        call.now,
        plan.due,
        _hold(seed.cards),
        parents,
        plan.origin,
        plan.priority,
        plan.throttle,
        plan.slots,
        plan.singleton.key if plan.singleton is not None else None,
        plan.finish_timeout,
    )
    ledger.runs.add(run)
    if plan.memos:
        run.memos = sorted(plan.memos, key=lambda memo: memo.position)
    if run.singleton is not None:
        ledger.latches.take_single(run.singleton, run)
    ledger.queue(call, run, plan.due)
    for wait in plan.waits:
        matching.register(ledger, call, run, wait)
    if plan.start_timeout is not None and not run.over:
        ledger.set_timer(run, Timer("!start", plan.start_timeout, Effect.CANCEL))


def _skip(ledger: Ledger, call: Call, seed: _Seed, reason: str, holder: str | None = None) -> Outcome:
    plan, parents = seed.plan, seed.parents
    run = Run(seed.run_id, plan.function, call.now, plan.due, _hold(seed.cards), parents, plan.origin)
    run.end, run.reason, run.holder = _SKIPPED, reason, holder
    ledger.runs.add(run)
    ledger.runs.end(run, call.now)
    ledger.never_ran(call, parents, reason)
    return Outcome(Verb.SKIPPED, run.function, run.id, reason, holder)


def _hold(cards: list[Card]) -> tuple[StoredEvent, ...]:
    for card in cards:
        card.holders += 1
    return tuple([card.event for card in cards])


# ---------------------------------------------------------------- buffers


def _buffer(ledger: Ledger, call: Call, seed: _Seed) -> str:
    """Put a plan into its buffer; the id of the run that will come of it."""
    plan, cards = seed.plan, seed.cards
    buffer = ledger.buffers.find(plan)
    if buffer is None:
        buffer = ledger.buffers.open(plan, call.now, ledger.number())
    elif plan.batch is None:
        if _ts(cards) < _ts(buffer.cards):
            ledger.never_ran(call, seed.parents, "debounced")
            return buffer.run_id
        displaced = buffer.parents
        _let_go(ledger, buffer)
        buffer.plan, buffer.cards, buffer.parents = plan, [], ()
        ledger.never_ran(call, displaced, "debounced")
    for card in cards:
        card.holders += 1
    buffer.cards.extend(cards)
    buffer.parents += seed.parents
    _accept(ledger, call, plan, buffer.run_id)
    if ledger.buffers.schedule(buffer, plan, call.now) <= call.now:
        flush(ledger, call, buffer)
    return buffer.run_id


def flush(ledger: Ledger, call: Call, buffer: Buffer) -> None:
    """A buffer is due: its run is created, or refused as any plan may be."""
    ledger.buffers.remove(buffer)
    cards = sorted(buffer.cards, key=lambda card: card.event.seq)
    _start(ledger, call, _Seed(buffer.plan, buffer.run_id, cards, buffer.parents))
    _let_go(ledger, buffer)


def _let_go(ledger: Ledger, buffer: Buffer) -> None:
    for card in buffer.cards:
        ledger.events.release(card.event)


def _ts(cards: list[Card]) -> int:
    return cards[-1].event.ts if cards else 0
