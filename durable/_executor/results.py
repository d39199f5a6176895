"""What a handler receives for a memo, and what it may have too much of."""

from __future__ import annotations

import asyncio
import inspect
import logging
import warnings
from typing import TYPE_CHECKING, Any

from durable._core.settling import raised
from durable.errors import (
    DurableWarning,
    Interrupt,
    LimitError,
    NestedStepError,
    NondeterminismError,
    SerializationError,
)
from durable.failures import OWN_FRAMES
from durable.records import MemoState

if TYPE_CHECKING:
    from types import FrameType

    from durable._core import operations as ops
    from durable._core.journal import Key
    from durable._executor.draft import Pending
    from durable._executor.session import Session
    from durable.records import Memo

__all__ = [
    "STOPPING",
    "check_place",
    "check_size",
    "check_steps",
    "delivered",
    "notice_forlorn",
    "notice_repetition",
    "remembered",
]

_log = logging.getLogger("durable.session")

STOPPING = (Interrupt, asyncio.CancelledError, LimitError, NondeterminismError, NestedStepError)
"""What a step raises when its handler is, or may have to be, taken apart."""


def delivered(session: Session, pending: Pending) -> Any:
    """What the handler receives for a step that was delivered to it."""
    if pending.entry is None:
        assert pending.result is not None
        return _value(pending.op, pending.result, pending.cause)
    assert pending.entry.memo is not None
    return remembered(session, pending.op, pending.entry.memo)


def remembered(session: Session, op: ops.Operation, memo: Memo) -> Any:
    """The value that an earlier pass recorded, or the error that it did, raised."""
    if memo.digest is not None and op.digest() not in (None, memo.digest):
        _notice_arguments(session, op)
    return _value(op, memo)


def _value(op: ops.Operation, memo: Memo, cause: BaseException | None = None) -> Any:
    """The value of a step that was just done, or its error, raised."""
    if memo.state is MemoState.ERROR:
        raise raised(memo, cause)
    try:
        return op.read(memo.value or b"null")
    except SerializationError as error:
        raise NondeterminismError(
            f"what is remembered of step {op.step!r} does not fit its type any more: {error}"
        ) from error


def _notice_arguments(session: Session, op: ops.Operation) -> None:
    text = (
        f"step {op.step!r} of function {session.function.id!r} was recorded with other arguments than it is "
        "called with now; its remembered result stands"
    )
    if session.host.strict:
        raise NondeterminismError(text)
    place = _place()
    if place is None:
        warnings.warn(text, DurableWarning, stacklevel=2)
        return
    known = place.f_globals.setdefault("__warningregistry__", {})
    name = place.f_globals.get("__name__")
    warnings.warn_explicit(text, DurableWarning, place.f_code.co_filename, place.f_lineno, name, known)


def _place() -> FrameType | None:
    """Where the handler stands; ``None`` in a task that is a step and nothing else."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename.startswith(OWN_FRAMES[0]):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(OWN_FRAMES):
        return None  # the event loop
    return frame


def notice_forlorn(session: Session) -> None:
    """Say once that the handler waits only for what it has given up before: it executes, for ever perhaps."""
    if session.rounds.told_forlorn:
        return
    session.rounds.told_forlorn = True
    _log.warning(
        "run %s of %r awaits only steps that it has withdrawn before, and goes on when it cancels them again: %s",
        session.run_id,
        session.function.id,
        ", ".join(repr(step) for step, _ in session.rounds.awaiting),
    )


def notice_repetition(session: Session, key: Key) -> None:
    """Warn of ids that parallel branches share: they are told apart by call order only."""
    if any(other[0] == key[0] for other in session.rounds.awaiting):
        session.host.warn_once(
            f"function {session.function.id!r}: step id {key[0]!r} is used by parallel branches at once; its "
            "repetitions are counted in call order: give each branch an id of its own"
        )


def check_place(session: Session, op: ops.Operation) -> None:
    """A step is called outside of the handler's own task: by a task of the run, or by anybody who has kept `ctx`.

    Raises:
        RuntimeError: The run has ended, or its handler executes in another event loop.
    """
    if session.end is not None:
        raise RuntimeError(
            f"step {op.step!r} was called after its run {session.run_id} has ended: do not keep `ctx` beyond it"
        )
    if asyncio.get_running_loop() is not session.host.loop:
        raise RuntimeError(
            f"step {op.step!r} of run {session.run_id} was called in another event loop than its handler's: "
            "call steps from the handler and its tasks"
        )


def check_steps(session: Session) -> None:
    """Fail the run if one step more is too many; those under way count.

    Raises:
        LimitError: There are `Limits.steps` already.
    """
    most = session.host.limits.steps
    under_way = session.rounds.awaiting
    if session.journal.steps + len(under_way) < most:
        return
    fresh = sum(one.result is None and one.entry is None for one in under_way.values())
    if session.journal.steps + fresh >= most:
        session.failure = LimitError(f"the run has {most:,} steps, and Limits.steps allows no more")
        raise session.failure


def check_size(session: Session) -> None:
    """Take note of a run that has grown too large."""
    if session.failure is None and session.size > session.host.limits.run_bytes:
        session.failure = LimitError(
            f"the run has {session.size:,} bytes; Limits.run_bytes allows {session.host.limits.run_bytes:,}"
        )
