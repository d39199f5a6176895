"""What the model forgets, and what it shows to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.store import HOLD_MS, SWEEP_MAX

if TYPE_CHECKING:
    from durable.records import Cutoffs, EventQuery, History, RunQuery, StoredEvent
    from durable.testing.exam.model_state import Run, World

__all__ = ["events", "runs", "sweep"]


def sweep(world: World, cutoffs: Cutoffs) -> bool:
    """Remove what is older than `cutoffs`, oldest first; whether there is more."""
    ended = [run for run in world.runs.values() if run.ended is not None]
    old = sorted((r for r in ended if (r.ended or 0) < cutoffs.runs), key=lambda r: (r.ended, r.id))
    for run in old[:SWEEP_MAX]:
        del world.runs[run.id]
    steps = [
        (run, position)
        for run in sorted(ended, key=lambda r: r.id)
        if run.id in world.runs and (run.ended or 0) < cutoffs.steps
        for position in sorted(run.memos)
    ]
    for run, position in steps[:SWEEP_MAX]:
        del run.memos[position]
    kept = _referred(world)
    stale = [
        s for s, event in sorted(world.events.items()) if event.received < cutoffs.events and s not in kept
    ]
    for seq in stale[:SWEEP_MAX]:
        del world.events[seq]
    latches = _sweep_latches(world)
    return max(len(old), len(steps), len(stale), latches) > SWEEP_MAX


def _sweep_latches(world: World) -> int:
    """Forget latches, and ids of events, that have run out; how many there were of the sort with more."""
    free = sorted((until, key) for key, (until, _) in world.latches.items() if until <= world.now)
    for _, key in free[:SWEEP_MAX]:
        del world.latches[key]
    known = sorted((a.at, key) for key, a in world.accepted.items() if a.at + HOLD_MS <= world.now)
    for _, event in known[:SWEEP_MAX]:
        del world.accepted[event]
    return max(len(free), len(known))


def _referred(world: World) -> set[int]:
    """Events that a run, a buffer or an undecided wait still needs."""
    kept = {seq for buffer in world.buffers.values() for seq in buffer.events}
    for run in world.runs.values():
        kept.update(run.events)
        kept.update(fired.event.seq for fired in run.fired.values() if fired.event is not None)
        kept.update(seq for opened in run.waits.values() for seq in opened.candidates)
    return kept


def runs(world: World, query: RunQuery) -> tuple[History, ...]:
    """Runs that a query finds, newest first, without memos."""
    found = [world.runs[run_id] for run_id in sorted(world.runs, reverse=True)]
    found = [run for run in found if _is_asked_for(world, run, query)]
    return tuple(world.history(run, memos=False) for run in found[: query.limit])


def _is_asked_for(world: World, run: Run, query: RunQuery) -> bool:
    ids = {event.id for event in world.stored(run.events)}
    return (
        (query.function is None or run.plan.function == query.function)
        and (not query.statuses or run.status in query.statuses)
        and (query.event_id is None or query.event_id in ids)
        and (query.since is None or run.created >= query.since)
        and (query.until is None or run.created < query.until)
        and (query.before is None or run.id < query.before)
    )


def events(world: World, query: EventQuery) -> tuple[StoredEvent, ...]:
    """Events that a query finds, newest first."""
    found = [world.events[seq] for seq in sorted(world.events, reverse=True)]
    return tuple(
        event
        for event in found
        if (query.name is None or event.name == query.name)
        and (query.since is None or event.received >= query.since)
        and (query.until is None or event.received < query.until)
        and (query.before is None or event.seq < query.before)
    )[: query.limit]
