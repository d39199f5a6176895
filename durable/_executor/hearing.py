"""What a session hears: that something its steps waited for is over.

What the store has fired belongs to a step that waits, to one that the handler has not met again yet, or to one
that was given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable._core import operations as ops
from durable._core.settling import settle
from durable._executor import calling
from durable._executor.draft import Phase

if TYPE_CHECKING:
    from durable._executor.draft import Pending
    from durable._executor.session import Session
    from durable.records import Fired

__all__ = ["hear", "settled"]


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


def _awaits(session: Session, ref: str) -> bool:
    return any(pending.ref == ref for pending in session.rounds.awaiting.values())
