"""What events, signals, verdicts and time do to open waits.

Duty: registering waits and resolving them, in the order of sequences where candidates are undecided. It may
not know plans, claims or commits.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from durable.records import Cause, Effect, Fired
from durable.store import CANDIDATES_MAX

from .waits import Pending, Waiter

if TYPE_CHECKING:
    from durable.records import Admission, Candidate, StoredEvent, Verdict, Wait

    from .engines import Engine
    from .ledger import Call, Ledger
    from .runs import Run

__all__ = ["decide", "hear", "register", "signal", "time_out"]


def register(ledger: Ledger, call: Call, run: Run, wait: Wait) -> None:
    """From now on `run` waits; what is there already fires at once."""
    same = run.waits.get(wait.ref) if run.waits is not None else None
    if same is not None:
        ledger.close(same)
    fired = _is_there(ledger, call, wait)
    if fired is not None:
        ledger.finish(call, run, wait, fired)
        return
    if wait.event is not None:
        if wait.path is not None:
            ledger.functions.index(wait.event, wait.path)
        ledger.events.last += 1  # so that `as_of` tells waits apart between which there was no event
    waiter = Waiter(run, wait, ledger.events.last, ledger.number())
    ledger.waits.add(waiter)
    if wait.until is not None:
        waiter.due = wait.until
        ledger.agenda.add(waiter)
    if wait.event is not None and (wait.since_seq is not None or wait.since_ms is not None):
        waiter.scan = 1
        _resolve(ledger, call, waiter)


def _is_there(ledger: Ledger, call: Call, wait: Wait) -> Fired | None:
    """What such a wait meets at once: a signal that another one has, or a child that is over."""
    if wait.signal is not None:
        other = ledger.waits.signal(wait.signal)
        if other is not None and not wait.replace:
            return Fired(wait.ref, Cause.CONFLICT, call.now, started=wait.started)
        if other is not None:
            ledger.close(other)
            lost = other.wait
            ledger.fire(call, other.run, Fired(lost.ref, Cause.REPLACED, call.now, started=lost.started))
    elif wait.child is not None:
        child = ledger.runs.by_id.get(wait.child)
        if child is not None and child.over:
            return ledger.child_over(call, wait, child)
    return None


# ---------------------------------------------------------------- events and signals come


def hear(
    ledger: Ledger, call: Call, event: StoredEvent, admission: Admission, decider: Engine | None
) -> tuple[Candidate, ...]:
    """`event` was stored: waits match, or take it as a candidate for `decider`, which is answered."""
    waits = ledger.waits
    if not waits.knows(event.name):
        return ()
    concerned = dict.fromkeys(waits.plain(event.name, admission.keys), True)
    concerned.update(dict.fromkeys(waits.conditional(event.name, admission.keys, admission.as_of), False))
    for hit in admission.hits:
        run = ledger.runs.by_id.get(hit.run)
        waiter = run.waits.get(hit.ref) if run is not None and run.waits is not None else None
        if waiter is not None and _is_for(waiter.wait, event, admission):
            concerned[waiter] = True
    found: list[Candidate] = []
    for waiter in sorted(concerned, key=_place):
        if not (waiter.open and waiter.hears) or waiter.is_due(call.now):
            continue
        if not concerned[waiter]:
            pending = _suspend(ledger, waiter, event, decider)
            found.append(pending.candidate)
            if decider is None:
                ledger.candidates.loosen((pending,))
        elif waiter.undecided:
            _suspend(ledger, waiter, event, None).yes = True
        else:
            _match(ledger, call, waiter, event)
    return tuple(found)


def _is_for(wait: Wait, event: StoredEvent, admission: Admission) -> bool:
    return wait.event == event.name and (wait.index == "" or wait.index in admission.keys)


def signal(ledger: Ledger, call: Call, name: str, data: bytes) -> bool:
    """Give a signal to the one wait for it; whether there was one."""
    waiter = ledger.waits.signal(name)
    if waiter is None or waiter.is_due(call.now):
        return False
    wait = waiter.wait
    ledger.met(call, waiter, Fired(wait.ref, Cause.SIGNAL, call.now, value=data, started=wait.started))
    return True


def _match(ledger: Ledger, call: Call, waiter: Waiter, event: StoredEvent) -> None:
    wait = waiter.wait
    ledger.met(call, waiter, Fired(wait.ref, Cause.EVENT, call.now, event=event, started=wait.started))


# ---------------------------------------------------------------- candidates


def decide(ledger: Ledger, call: Call, verdict: Verdict) -> None:
    """A candidate was evaluated. A yes makes everything after it pointless."""
    run = ledger.runs.by_id.get(verdict.run)
    waiter = run.waits.get(verdict.ref) if run is not None and run.waits is not None else None
    if waiter is None or waiter.pending is None:
        return
    pending = waiter.pending.get(verdict.seq)
    if pending is None or pending.yes:
        return
    if verdict.matches:
        _settle(pending)
        pending.yes = True
        for other in [other for seq, other in waiter.pending.items() if seq > verdict.seq]:
            _discard(ledger, other)
        if waiter.scan > verdict.seq:
            waiter.scan = 0
    else:
        _discard(ledger, pending)
    _resolve(ledger, call, waiter)


def time_out(ledger: Ledger, call: Call, waiter: Waiter) -> None:
    """The wait's time has come: it is closed to new events, and over unless candidates are undecided."""
    waiter.closed = True
    if not waiter.undecided:
        _time_is_up(ledger, call, waiter)


def _resolve(ledger: Ledger, call: Call, waiter: Waiter) -> None:
    """Finish a wait whose first candidate is a yes, or whose time is up and that has none left."""
    if waiter.scan:
        _scan(ledger, waiter)
    if not waiter.pending:
        if waiter.closed:
            _time_is_up(ledger, call, waiter)
        return
    first = waiter.pending[min(waiter.pending)]
    if first.yes:
        _match(ledger, call, waiter, first.event)


def _scan(ledger: Ledger, waiter: Waiter) -> None:
    """Make the next page of stored events candidates, once those of the page before are decided."""
    if waiter.pending and min(waiter.pending) < waiter.registered:
        return
    wait = waiter.wait
    assert wait.event is not None
    found = ledger.events.since(wait.event, wait.since_seq, wait.since_ms, waiter.scan, waiter.registered - 1)
    page = list(islice(found, CANDIDATES_MAX))
    waiter.scan = page[-1].seq + 1 if page and next(found, None) is not None else 0
    ledger.candidates.loosen([_suspend(ledger, waiter, event, None) for event in page])


def _suspend(ledger: Ledger, waiter: Waiter, event: StoredEvent, decider: Engine | None) -> Pending:
    pending = Pending(waiter, event, decider)
    if waiter.pending is None:
        waiter.pending = {}
    waiter.pending[event.seq] = pending
    ledger.events.hold(event)
    if decider is not None:
        decider.deciding[pending] = None
    return pending


def _discard(ledger: Ledger, pending: Pending) -> None:
    _settle(pending)
    pending.open = False
    pendings = pending.waiter.pending
    assert pendings is not None
    del pendings[pending.event.seq]
    ledger.events.release(pending.event)


def _settle(pending: Pending) -> None:
    """Nobody need decide it any more."""
    if pending.decider is not None:
        pending.decider.deciding.pop(pending, None)


def _time_is_up(ledger: Ledger, call: Call, waiter: Waiter) -> None:
    wait = waiter.wait
    ledger.close(waiter)
    if wait.effect is Effect.RESUME:
        ledger.fire(call, waiter.run, Fired(wait.ref, Cause.DUE, waiter.due, started=wait.started))


def _place(waiter: Waiter) -> tuple[str, str]:
    return waiter.place
