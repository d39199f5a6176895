"""The model's waits: how they are registered, and what events, signals, verdicts and time do to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Candidate, Cause, Effect, Fired
from durable.store import CANDIDATES_MAX
from durable.testing.exam.model_runs import cancel, child_ended, fire
from durable.testing.exam.model_state import Candidacy, OpenWait

if TYPE_CHECKING:
    from durable.records import Admission, StoredEvent, Verdict, Wait
    from durable.testing.exam.model_state import Run, World

__all__ = ["decide", "hand_out", "hear", "register", "signal", "time_out"]


def register(world: World, run: Run, wait: Wait) -> None:
    """From now on the run waits; what is there already fires at once."""
    if run.over:
        return
    run.waits.pop(wait.ref, None)
    if wait.signal is not None:
        other = _signal_wait(world, wait.signal)
        if other is not None and not wait.replace:
            _finish(world, run, wait, Fired(wait.ref, Cause.CONFLICT, world.now, started=wait.started))
            return
        if other is not None:
            holder, lost = world.runs[other.run], other.wait
            del holder.waits[lost.ref]
            fire(world, holder, Fired(lost.ref, Cause.REPLACED, world.now, started=lost.started))
    if wait.child is not None and wait.child in world.runs and world.runs[wait.child].over:
        _finish(world, run, wait, child_ended(world, wait, world.runs[wait.child]))
        return
    if wait.event is not None and wait.path is not None and (wait.event, wait.path) not in world.paths:
        world.paths.add((wait.event, wait.path))
        world.version += 1
    before = world.sequence
    registered = world.next_sequence() if wait.event is not None else before
    opened = OpenWait(run.id, wait, registered, world.next_job())
    opened.unscanned = [seq for seq in sorted(world.events) if seq <= before and _since(world, wait, seq)]
    run.waits[wait.ref] = opened
    _resolve(world, opened)


def _since(world: World, wait: Wait, seq: int) -> bool:
    event = world.events[seq]
    after = wait.since_seq is not None and seq > wait.since_seq
    late = wait.since_ms is not None and event.received >= wait.since_ms
    return event.name == wait.event and (after or late)


def _signal_wait(world: World, name: str) -> OpenWait | None:
    return next((wait for wait in world.open_waits() if wait.wait.signal == name), None)


def _finish(world: World, run: Run, wait: Wait, fired: Fired) -> None:
    if wait.effect is Effect.CANCEL:
        cancel(world, run, wait.ref)
    else:
        fire(world, run, fired)


# ---------------------------------------------------------------- what they hear


def hear(
    world: World, event: StoredEvent, admission: Admission, decider: str | None
) -> tuple[Candidate, ...]:
    """An event was stored: waits match, or take it as a candidate, which is returned."""
    hits = {(hit.run, hit.ref) for hit in admission.hits}
    found: list[Candidate] = []
    for opened in world.open_waits():
        run, wait = world.runs[opened.run], opened.wait
        indexed = wait.index == "" or wait.index in admission.keys
        if run.waits.get(wait.ref) is not opened or wait.event != event.name:
            continue
        if not (indexed and opened.hears) or opened.is_due(world.now):
            continue
        if wait.condition is None or (run.id, wait.ref) in hits:
            opened.candidates[event.seq] = Candidacy(event, decider, yes=True)
            _resolve(world, opened)
        elif opened.registered > admission.as_of:
            opened.candidates[event.seq] = Candidacy(event, decider)
            found.append(Candidate(run.id, wait.ref, wait.condition, event))
    return tuple(found)


def signal(world: World, name: str, data: bytes) -> bool:
    """Give a signal to the one wait for it; whether there was one."""
    opened = _signal_wait(world, name)
    if opened is None or opened.is_due(world.now):
        return False
    run, wait = world.runs[opened.run], opened.wait
    del run.waits[wait.ref]
    _finish(world, run, wait, Fired(wait.ref, Cause.SIGNAL, world.now, value=data, started=wait.started))
    return True


# ---------------------------------------------------------------- candidates


def decide(world: World, verdict: Verdict) -> None:
    """A candidate was evaluated. A yes makes everything after it pointless."""
    run = world.runs.get(verdict.run)
    opened = run.waits.get(verdict.ref) if run is not None else None
    if opened is None or verdict.seq not in opened.candidates or opened.candidates[verdict.seq].yes:
        return
    if verdict.matches:
        opened.candidates[verdict.seq].yes = True
        opened.candidates = {seq: c for seq, c in opened.candidates.items() if seq <= verdict.seq}
        opened.unscanned = [seq for seq in opened.unscanned if seq <= verdict.seq]
    else:
        del opened.candidates[verdict.seq]
    _resolve(world, opened)


def _resolve(world: World, opened: OpenWait) -> None:
    """Finish a wait whose first candidate is a yes, or whose time is up and that has none left."""
    run, wait = world.runs[opened.run], opened.wait
    if not any(seq <= opened.registered for seq in opened.candidates):
        left = [seq for seq in opened.unscanned if seq in world.events]
        page, opened.unscanned = left[:CANDIDATES_MAX], left[CANDIDATES_MAX:]
        opened.candidates.update({seq: Candidacy(world.events[seq], None) for seq in page})
    if not opened.candidates:
        if opened.closed:
            _time_is_up(world, opened)
        return
    first = opened.candidates[min(opened.candidates)]
    if first.yes:
        del run.waits[wait.ref]
        fired = Fired(wait.ref, Cause.EVENT, world.now, event=first.event, started=wait.started)
        _finish(world, run, wait, fired)


def time_out(world: World, opened: OpenWait) -> None:
    """The wait's time has come: it is closed, and over unless candidates are undecided."""
    opened.closed = True
    if not opened.undecided:
        _time_is_up(world, opened)


def _time_is_up(world: World, opened: OpenWait) -> None:
    run, wait = world.runs[opened.run], opened.wait
    del run.waits[wait.ref]
    if wait.effect is Effect.RESUME and wait.until is not None:
        fire(world, run, Fired(wait.ref, Cause.DUE, wait.until, started=wait.started))


def hand_out(world: World, engine: str) -> tuple[tuple[Candidate, ...], bool]:
    """Candidates that nobody else who lives is deciding; whether there are more than one answer holds."""
    found: list[tuple[Candidate, Candidacy]] = []
    for opened in world.open_waits():
        for candidacy in opened.candidates.values():
            other = candidacy.decider not in {None, engine} and world.lives(candidacy.decider)
            if not (candidacy.yes or other):
                wait = opened.wait
                candidate = Candidate(opened.run, wait.ref, wait.condition or b"", candidacy.event)
                found.append((candidate, candidacy))
    found.sort(key=lambda pair: (pair[0].event.seq, pair[0].run, pair[0].ref))
    for _, candidacy in found[:CANDIDATES_MAX]:
        candidacy.decider = engine
    return tuple(candidate for candidate, _ in found[:CANDIDATES_MAX]), len(found) > CANDIDATES_MAX
