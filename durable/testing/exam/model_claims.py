"""The model's claims: due timers fire, jobs are taken by rank, and engines are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Cause, Claim, Effect, Fired, News, Timer
from durable.store import PROMOTE_MAX
from durable.testing.exam import model_gates, model_waits
from durable.testing.exam.model_admission import flush
from durable.testing.exam.model_runs import cancel, fire, unqueue, unqueue_place
from durable.testing.exam.model_state import OpenTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durable.records import Delivery, Request
    from durable.testing.exam.model_state import Job, OpenWait, Run, World

__all__ = ["deliveries", "next_due", "promote", "take", "take_best"]


# ---------------------------------------------------------------- time


def promote(world: World) -> bool:
    """Fire what is due, in order of (due, creation); whether there is more than one call may do."""
    for _ in range(PROMOTE_MAX):
        due = min(_timed(world), key=lambda t: t[:2], default=None)
        if due is None or due[0] > world.now:
            return False
        due[2]()
    return any(due[0] <= world.now for due in _timed(world))


def _timed(world: World) -> Iterator[tuple[int, int, Callable[[], None]]]:
    """All that falls due: (due, number, what happens then)."""
    for key, buffer in world.buffers.items():
        yield buffer.due, buffer.number, lambda key=key: flush(world, key)  # type: ignore[misc]
    for run in world.runs.values():
        for timer in run.timers.values():
            yield timer.timer.due, timer.number, lambda r=run, t=timer: _ring(world, r, t)  # type: ignore[misc]
        for wait in run.waits.values():
            if wait.wait.until is not None and not wait.closed:
                yield wait.wait.until, wait.number, lambda w=wait: _time_out(world, w)  # type: ignore[misc]


def _ring(world: World, run: Run, opened: OpenTimer) -> None:
    timer = opened.timer
    del run.timers[timer.ref]
    if timer.effect is Effect.CANCEL:
        cancel(world, run, timer.ref)
    else:
        fire(world, run, Fired(timer.ref, Cause.DUE, timer.due, timer=timer, started=timer.started))


def _time_out(world: World, opened: OpenWait) -> None:
    model_waits.time_out(world, opened)


def next_due(world: World, pools: frozenset[str]) -> int | None:
    """When something falls due by itself: of throttles, where nothing else holds a turn in `pools` up."""
    times = [due for due, _, _ in _timed(world)]
    for job in world.queued():
        if not job.ripe:
            times.append(job.due)
        elif job.pool in pools and model_gates.waits_for_time_alone(world, job):
            opens = model_gates.opening(world, job)
            times.extend([opens] if opens is not None else [])
    return min(times, default=None)


# ---------------------------------------------------------------- taking


def take_best(world: World, request: Request) -> tuple[set[str], int]:
    """Take up to `limit` turns, and any places that this engine's runs ask for.

    Returns:
        The runs that came warm; how many more turns would have been taken.
    """
    left, warm = request.limit, set[str]()
    while True:
        pools = request.pools | {request.engine} if left > 0 else {request.engine}
        jobs = [job for job in world.queued() if job.pool in pools and model_gates.ready(world, job)]
        if not jobs:
            return warm, left
        job = min(jobs, key=lambda j: j.rank)
        if job.ref is None:
            left -= 1
        if take(world, job, request.engine):
            warm.add(job.run)


def take(world: World, job: Job, engine: str) -> bool:
    """A job is taken by an engine; whether the run came back to the one that kept it warm."""
    run = world.runs[job.run]
    model_gates.pass_throttle(world, job)
    if job.ref is not None:
        unqueue_place(world, run, job.ref)
        run.extra += 1
        fire(world, run, Fired(job.ref, Cause.PLACE, world.now))
        return False
    unqueue(world, run)
    state = world.engines[engine]
    state.number += 1
    warm = run.affinity == engine
    run.owner, run.affinity, run.claim_number, run.news_number = engine, None, state.number, 0
    run.gen += 1
    if run.cancelled:
        return warm
    run.placed = True
    if run.started is None:
        run.started = world.now
        run.timers.pop("!start", None)
        if run.plan.finish_timeout is not None:
            timer = Timer("!finish", world.now + run.plan.finish_timeout, Effect.CANCEL)
            run.timers[timer.ref] = OpenTimer(timer, world.next_job())
    return warm


# ---------------------------------------------------------------- telling


def deliveries(world: World, engine: str, above: int, warm: set[str]) -> tuple[Delivery, ...]:
    """What `engine` has to be told with numbers greater than `above`: of each run its present state."""
    found: list[Delivery] = []
    for run in world.runs.values():
        if run.owner != engine:
            continue
        if run.claim_number > above:
            is_warm = run.id in warm
            found.append(Claim(run.claim_number, world.history(run, memos=not is_warm), is_warm))
        elif run.news_number > above:
            fired = tuple(run.fired.values())
            found.append(News(run.news_number, run.id, run.gen, fired, run.cancelled))
    world.engines[engine].told = world.engines[engine].number
    return tuple(sorted(found, key=lambda delivery: delivery.no))
