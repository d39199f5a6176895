"""What a session hears: that something its steps waited for is over, and what became of its commits.

What the store has fired belongs to a step that waits, to one that the handler has not met again yet, or to one
that was given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable._core import operations as ops
from durable._core.settling import settle
from durable._executor import calling
from durable._executor.draft import Phase
from durable.records import STAY, New

if TYPE_CHECKING:
    from durable._executor.draft import Draft, Pending
    from durable._executor.session import Session
    from durable.records import AdmissionAnswer, CommitAnswer, Fired

__all__ = ["hear", "landed", "refused", "settled"]


def hear(session: Session, fired: tuple[Fired, ...]) -> None:
    """Hand each to its step; those that are done with it are delivered in one round."""
    with session.rounds.together():
        for one in fired:
            pending = session.waiting.get(one.ref)
            if pending is not None and pending.phase is Phase.WAITING:
                if one.timer is None or one.timer.attempt >= pending.attempt:  # else it is told again
                    del session.waiting[one.ref]
                    settled(session, pending, one)
            elif one.ref in session.armed and one.ref not in session.draft.drop:  # it may be told twice
                session.fired.setdefault(one.ref, one)
            elif one.ref not in session.fired and not _awaits(session, one.ref):
                session.draft.drop.append(one.ref)  # of a step that was given up
                session.save()


def settled(session: Session, pending: Pending, fired: Fired) -> None:
    """What a step waited for is over: it has its result, or its function is called again."""
    session.armed.discard(pending.ref)
    if isinstance(pending.op, ops.Call):
        if fired.timer is not None:
            pending.attempt = fired.timer.attempt
        calling.beside(session, pending)
        return
    state, value = settle(pending.op, fired)
    session.remember_now(pending, state, value)


def landed(session: Session, draft: Draft, answer: CommitAnswer) -> None:
    """A commit of this session is durable."""
    for number, pending in draft.signals:
        _answered(session, pending, answer.admitted[number])
    session.outbox.landed()


def refused(session: Session, draft: Draft) -> None:
    """A commit was refused for no fault of the run: it is written again."""
    if session.end is None:
        draft.then = STAY  # whether it may still be parked is decided anew
    session.resting = False
    session.outbox.restore(draft)
    session.host.committer.add(session)
    session.park_if_idle()


def _answered(session: Session, pending: Pending, answer: AdmissionAnswer) -> None:
    """A signal was sent: whether somebody took it is known only now."""
    assert pending.result is not None
    if isinstance(answer, New) and answer.taken:
        pending.result = replace(pending.result, value=b"true")
    session.rounds.answered(pending)


def _awaits(session: Session, ref: str) -> bool:
    return any(pending.ref == ref for pending in session.rounds.awaiting.values())
