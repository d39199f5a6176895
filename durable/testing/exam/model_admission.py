"""The model's way of an admission: duplicates, the event, its waits, its plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable.gates import batch_due, debounce_due
from durable.records import (
    Cursor,
    Duplicate,
    Effect,
    New,
    Outcome,
    Outdated,
    RunStatus,
    StoredEvent,
    Timer,
    Verb,
)
from durable.store import HOLD_MS
from durable.testing.exam import model_gates, model_waits
from durable.testing.exam.model_runs import cancel, never_ran, queue_turn
from durable.testing.exam.model_state import Accepted, Buffer, OpenTimer, Run

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, NewEvent, Parent, Plan
    from durable.testing.exam.model_state import World

__all__ = ["admit_current", "admit_one", "flush", "is_outdated"]


def is_outdated(world: World, admission: Admission) -> bool:
    """Whether it was made from a registry that has changed. A signal is made from none."""
    return admission.signal is None and admission.registry < world.version


def admit_current(world: World, admission: Admission, decider: str | None) -> AdmissionAnswer:
    """One admission, if it was made from the registry as it is now."""
    if is_outdated(world, admission):
        return Outdated(world.version)
    return admit_one(world, admission, decider)


def admit_one(world: World, admission: Admission, decider: str | None) -> AdmissionAnswer:
    """One admission; `decider` will evaluate the candidates of the answer."""
    known = _known(world, admission)
    if known is not None:
        return Duplicate(known.seq, known.outcomes)
    if admission.signal is not None:
        taken = model_waits.signal(world, admission.signal.name, admission.signal.data)
        answer = New(world.sequence, taken=taken)
    elif admission.event is not None:
        event = _store(world, admission.event)
        candidates = model_waits.hear(world, event, admission, decider)
        outcomes = _decide_all(world, admission.plans, [event.seq])
        answer = New(event.seq, outcomes, candidates)
    else:
        answer = New(world.sequence, _decide_all(world, admission.plans, list(admission.again)))
    _remember(world, admission, answer)
    return answer


def _store(world: World, event: NewEvent) -> StoredEvent:
    stored = StoredEvent(
        seq=world.next_sequence(),
        id=event.id,
        name=event.name,
        ts=event.ts,
        received=world.now,
        data=event.data,
        user=event.user,
        v=event.v,
    )
    world.events[stored.seq] = stored
    return stored


def _known(world: World, admission: Admission) -> Accepted | None:
    event = admission.event
    if event is not None and event.once:
        known = world.accepted.get((event.name, event.id))
        if known is not None and world.now < known.at + HOLD_MS:
            return known
    if admission.cursor is not None:
        known = world.cursors.get(admission.cursor.name)
        if known is not None and admission.cursor.at <= known.at:
            return known
    return None


def _remember(world: World, admission: Admission, answer: New) -> None:
    if admission.event is not None and admission.event.once:
        key = (admission.event.name, admission.event.id)
        world.accepted[key] = Accepted(world.now, answer.seq, answer.outcomes)
    if isinstance(admission.cursor, Cursor):
        cursor = admission.cursor
        world.cursors[cursor.name] = Accepted(cursor.at, answer.seq, answer.outcomes)


# ---------------------------------------------------------------- plans


def _decide_all(world: World, plans: tuple[Plan, ...], seqs: list[int]) -> tuple[Outcome, ...]:
    return tuple(_decide(world, plan, seqs) for plan in plans)


def _decide(world: World, plan: Plan, seqs: list[int]) -> Outcome:
    parents = [plan.parent] if plan.parent is not None else []
    holder = model_gates.latch_holder(world, plan)
    if holder is not None:
        never_ran(world, parents, "exists")
        return Outcome(Verb.EXISTS, plan.function, run=holder)
    if plan.rate is not None and not model_gates.rate_is_open(world, plan.rate):
        if model_gates.drop_is_recorded(world, plan.rate):
            return _skip(world, plan, seqs, parents, "rate_limit")
        never_ran(world, parents, "rate_limit")
        return Outcome(Verb.DROPPED, plan.function, reason="rate_limit")
    if plan.batch is not None or plan.debounce is not None:
        return Outcome(Verb.BUFFERED, plan.function, run=_buffer(world, plan, seqs, parents))
    outcome = _start(world, plan, seqs, parents)
    if outcome.verb is Verb.RUN:
        model_gates.take_latches(world, plan, plan.run)
        model_gates.take_rate(world, plan.rate)
    return outcome


def _start(world: World, plan: Plan, seqs: list[int], parents: list[Parent]) -> Outcome:
    """From the singleton on: what is left to decide for a buffer that is flushed, too."""
    single = plan.singleton
    holder = world.singletons.get(single.key) if single is not None else None
    if single is not None and holder is not None and not single.replace:
        return _skip(world, plan, seqs, parents, "singleton", holder=holder)
    if plan.function in world.paused:
        return _skip(world, plan, seqs, parents, "paused")
    if holder is not None:
        cancel(world, world.runs[holder], "singleton")
    if single is not None:
        world.singletons[single.key] = plan.run
    _create(world, plan, seqs, parents)
    return Outcome(Verb.RUN, plan.function, run=plan.run)


def _create(world: World, plan: Plan, seqs: list[int], parents: list[Parent]) -> None:
    run = Run(plan, created=world.now, events=seqs, parents=parents)
    run.memos = {memo.position: memo for memo in plan.memos}
    world.runs[run.id] = run
    queue_turn(world, run, plan.due)
    for wait in plan.waits:
        model_waits.register(world, run, wait)
    if plan.start_timeout is not None and not run.over:
        timer = Timer("!start", plan.start_timeout, Effect.CANCEL)
        run.timers[timer.ref] = OpenTimer(timer, world.next_job())


def _skip(
    world: World,
    plan: Plan,
    seqs: list[int],
    parents: list[Parent],
    reason: str,
    *,
    holder: str | None = None,
) -> Outcome:
    world.runs[plan.run] = Run(
        plan,
        created=world.now,
        events=seqs,
        parents=parents,
        final=RunStatus.SKIPPED,
        ended=world.now,
        reason=reason,
        holder=holder,
    )
    never_ran(world, parents, reason)
    return Outcome(Verb.SKIPPED, plan.function, run=plan.run, reason=reason, holder=holder)


# ---------------------------------------------------------------- buffers


def _buffer(world: World, plan: Plan, seqs: list[int], parents: list[Parent]) -> str:
    """Put a plan into its buffer; the id of the run that will come of it."""
    key = plan.batch.key if plan.batch is not None else plan.debounce.key if plan.debounce is not None else ""
    held = world.buffers.get(key)
    if held is None:
        held = Buffer(plan, world.now, world.now, world.next_job(), list(seqs), list(parents))
        world.buffers[key] = held
    elif plan.batch is not None:
        held.events.extend(seqs)
        held.parents.extend(parents)
    elif _ts(world, seqs) < _ts(world, held.events):
        never_ran(world, parents, "debounced")
        return held.plan.run
    else:
        displaced, held.parents = held.parents, list(parents)
        held.plan = replace(plan, run=held.plan.run)
        held.events = list(seqs)
        never_ran(world, displaced, "debounced")
    model_gates.take_latches(world, plan, held.plan.run)
    model_gates.take_rate(world, plan.rate)
    if plan.batch is not None:
        size, timeout = plan.batch.size, plan.batch.timeout
        held.due = batch_due(held.first, world.now, size, len(held.events), timeout)
    elif plan.debounce is not None:
        held.due = debounce_due(held.first, world.now, plan.debounce.period, plan.debounce.timeout)
    if held.due <= world.now:
        flush(world, key)
    return held.plan.run


def flush(world: World, key: str) -> None:
    """A buffer is due: its run is created, or refused as any plan may be."""
    held = world.buffers.pop(key)
    _start(world, held.plan, held.events, held.parents)


def _ts(world: World, seqs: list[int]) -> int:
    return world.events[seqs[-1]].ts if seqs and seqs[-1] in world.events else 0
