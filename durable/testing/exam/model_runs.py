"""What happens to the model's runs: things fire, turns are queued, runs are let go, cancelled and ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.gates import rank
from durable.records import Cancellation, Cause, Fired, RunStatus
from durable.testing.exam.model_gates import asks
from durable.testing.exam.model_state import Job

if TYPE_CHECKING:
    from durable.records import End, Parent, Wait
    from durable.testing.exam.model_state import Run, World

__all__ = [
    "ask_for_place",
    "cancel",
    "child_ended",
    "end",
    "fire",
    "let_go",
    "never_ran",
    "queue_turn",
    "reason_json",
    "tell",
    "unqueue",
    "unqueue_place",
]


def queue_turn(world: World, run: Run, due: int) -> None:
    """The run wants to execute."""
    number = world.next_job()
    key = rank(due, run.plan.priority, number)
    run.turn = Job(number, run.id, due, key, run.plan.function, ripe=due <= world.now)
    world.queued_pools.add(run.turn.pool)


def ask_for_place(world: World, run: Run, ref: str) -> None:
    """The run, which its owner executes, wants one more place; only that engine can grant it."""
    if run.over or run.owner is None or ref in run.asks:
        return
    number = world.next_job()
    key = rank(world.now, run.plan.priority, number)
    run.asks[ref] = Job(number, run.id, world.now, key, run.owner, ripe=True, ref=ref)
    world.queued_pools.add(run.owner)


def unqueue(world: World, run: Run) -> None:
    """The run's turn, if it has one, is over."""
    if run.turn is not None:
        _leave_queue(world, run.turn)
        run.turn = None


def unqueue_place(world: World, run: Run, ref: str) -> None:
    """The run does not ask any more."""
    job = run.asks.pop(ref, None)
    if job is not None:
        _leave_queue(world, job)


def _leave_queue(world: World, job: Job) -> None:
    """Who stood behind the job may be woken, and it may have been itself before it went."""
    world.offered.update(ask.gate for ask in asks(world, job))
    world.queued_pools.add(job.pool)


def tell(world: World, run: Run) -> None:
    """The owner is to hear of something: a delivery gets its number."""
    if run.owner is not None:
        engine = world.engines[run.owner]
        engine.number += 1
        run.news_number = engine.number


def fire(world: World, run: Run, fired: Fired) -> None:
    """Something that the run waited for is over: news for its owner, or else a turn."""
    if run.over or fired.ref in run.fired:
        return
    run.fired[fired.ref] = fired
    if run.owner is not None:
        tell(world, run)
    elif run.turn is None and not backs_off(run):
        queue_turn(world, run, fired.at)


def backs_off(run: Run) -> bool:
    """Whether its handler waits for its next attempt: nothing else queues the run then."""
    return "" in run.timers


# ---------------------------------------------------------------- parents


def reason_json(reason: str) -> bytes:
    """Why a child never ran, as the value of what its parent receives."""
    return f'"{reason}"'.encode()


def child_ended(world: World, wait: Wait, child: Run) -> Fired:
    """What this wait receives of its child."""
    values = {
        RunStatus.COMPLETED: child.output,
        RunStatus.FAILED: child.error,
        RunStatus.SKIPPED: reason_json(child.reason or ""),
    }
    value = values.get(child.status)
    return Fired(wait.ref, Cause.CHILD, world.now, status=child.status, value=value, started=wait.started)


def never_ran(world: World, parents: list[Parent], reason: str) -> None:
    """There will be no run: those who invoked it are told."""
    for parent in sorted(parents, key=lambda p: (p.run, p.ref)):
        run = world.runs.get(parent.run)
        if run is not None and parent.ref in run.waits and run.waits[parent.ref].wait.child is not None:
            started = run.waits.pop(parent.ref).wait.started
            status, value = RunStatus.SKIPPED, reason_json(reason)
            fire(
                world,
                run,
                Fired(parent.ref, Cause.CHILD, world.now, status=status, value=value, started=started),
            )


def _tell_parents(world: World, child: Run) -> None:
    invoked = {(parent.run, parent.ref) for parent in child.parents}
    for wait in world.open_waits():
        ours = wait.wait.child == child.id or (
            wait.wait.child is not None and (wait.run, wait.wait.ref) in invoked
        )
        if ours:
            run = world.runs[wait.run]
            del run.waits[wait.wait.ref]
            fire(world, run, child_ended(world, wait.wait, child))


# ---------------------------------------------------------------- the ways out


def let_go(world: World, run: Run, affinity: str | None = None) -> None:
    """The run is nobody's: its places are free, and what it asked for or was granted of them is gone."""
    run.owner = None
    run.affinity = affinity
    run.claim_number = run.news_number = 0
    world.offered.update(("slot", slot.gate) for slot in run.plan.slots)
    if run.plan.singleton is not None:
        world.offered.add(("singleton", run.plan.singleton.key))
    run.placed = False
    run.extra = 0
    for ref in list(run.asks):
        unqueue_place(world, run, ref)
    run.fired = {ref: fired for ref, fired in run.fired.items() if fired.cause is not Cause.PLACE}
    if run.cancelled and run.final is None:
        _open_singleton(world, run)
        queue_turn(world, run, world.now)


def cancel(world: World, run: Run, reason: str) -> Cancellation:
    """The run is cancelled at once; it is over when its end was announced."""
    if run.over:
        return Cancellation.ENDED
    _clear(world, run)
    run.cancelled = True
    run.reason = reason
    _tell_parents(world, run)
    if run.owner is not None:
        tell(world, run)
    else:
        _open_singleton(world, run)
        queue_turn(world, run, world.now)
    return Cancellation.DONE


def end(world: World, run: Run, then: End) -> None:
    """The run is over."""
    told = run.cancelled
    _clear(world, run)
    run.final = then.status
    run.output, run.error, run.unmet = then.output, then.error, then.unmet
    run.ended = world.now
    let_go(world, run)
    _open_singleton(world, run)
    if not told:
        _tell_parents(world, run)


def _clear(world: World, run: Run) -> None:
    unqueue(world, run)
    for ref in list(run.asks):
        unqueue_place(world, run, ref)
    run.timers.clear()
    run.waits.clear()
    run.fired.clear()


def _open_singleton(world: World, run: Run) -> None:
    key = run.plan.singleton.key if run.plan.singleton is not None else None
    if key is not None and world.singletons.get(key) == run.id:
        del world.singletons[key]
