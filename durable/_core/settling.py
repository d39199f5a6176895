"""From what fired to what is remembered: the result of a step that waited.

Pure; the counterpart of arming a timer or a wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from durable._core import operations as ops
from durable.errors import SerializationError, SignalConflictError, StepError
from durable.failures import ErrorRecord, error_record
from durable.records import Cause, Effect, MemoState, RunStatus, StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable.records import Fired, History, Memo, StoredEvent

__all__ = ["begun", "document_of", "event_json", "raised", "settle"]

NULL = b"null"


def settle(op: ops.Operation, fired: Fired) -> tuple[MemoState, bytes]:
    """What is remembered of `op`, now that what it waited for is over."""
    if isinstance(op, ops.Invoke):
        return _settle_invoke(op, fired)
    if fired.cause is Cause.CONFLICT:
        signal = op.signal if isinstance(op, ops.WaitForSignal) else ""
        message = (
            f"step {op.step!r}: signal {signal!r} has an open wait already, of another run or of this one; wait "
            'under another name, or take it over with on_conflict="replace"'
        )
        record = ErrorRecord(SignalConflictError.__name__, message, None, op.step)
        return MemoState.ERROR, record.encode()
    if fired.cause is Cause.SIGNAL:
        return MemoState.VALUE, b'{"data":' + (fired.value or NULL) + b"}"
    if fired.cause is Cause.EVENT and fired.event is not None:
        return MemoState.VALUE, event_json(fired.event)
    return MemoState.VALUE, NULL


def _settle_invoke(op: ops.Invoke, fired: Fired) -> tuple[MemoState, bytes]:
    if fired.cause is Cause.DUE:
        message = f"{op.function!r} did not end in time; it runs on"
        return MemoState.ERROR, ErrorRecord("InvokeTimeout", message, None, op.step).encode()
    if fired.status is RunStatus.COMPLETED:
        return _fitting(op, fired.value or NULL)
    if fired.status is RunStatus.FAILED:
        child = ErrorRecord.decode(fired.value or NULL)
        return MemoState.ERROR, ErrorRecord(child.name, child.message, child.stack, op.step).encode()
    if fired.status is RunStatus.CANCELLED:
        record = ErrorRecord("InvokeCancelled", f"{op.function!r} was cancelled", None, op.step)
        return MemoState.ERROR, record.encode()
    reason = orjson.loads(fired.value or NULL)
    message = f"{op.function!r} did not run: {reason}"
    return MemoState.ERROR, ErrorRecord("InvokeSkipped", message, None, op.step).encode()


def _fitting(op: ops.Invoke, value: bytes) -> tuple[MemoState, bytes]:
    """The child's result; the step has failed if another version of the child made it, of another type."""
    try:
        op.read(value)
    except SerializationError as error:
        return MemoState.ERROR, error_record(error, step_id=op.step).encode()
    return MemoState.VALUE, value


_KINDS = {
    Cause.EVENT: StepKind.WAIT,
    Cause.SIGNAL: StepKind.SIGNAL,
    Cause.REPLACED: StepKind.SIGNAL,
    Cause.CONFLICT: StepKind.SIGNAL,
    Cause.CHILD: StepKind.INVOKE,
}


def begun(history: History) -> Iterator[tuple[str, StepKind | None]]:
    """The names and kinds of the steps that have, or had, a timer or a wait.

    What has fired tells the kind as a rule; only the time-outs of all kinds of waits look alike.
    """
    for timer in history.timers:
        if timer.effect is Effect.RESUME:
            yield timer.ref, timer.kind
    for wait in history.waits:
        if wait.effect is Effect.RESUME:
            yield wait.ref, wait.kind
    for fired in history.fired:
        yield fired.ref, _KINDS.get(fired.cause) if fired.timer is None else fired.timer.kind


def document_of(event: StoredEvent) -> dict[str, Any]:
    """A stored event as expressions see it."""
    return {
        "id": event.id,
        "name": event.name,
        "data": orjson.loads(event.data),
        "user": None if event.user is None else orjson.loads(event.user),
        "ts": event.ts,
        "v": event.v,
    }


def event_json(event: StoredEvent) -> bytes:
    """A stored event as the arguments of `Event`."""
    return orjson.dumps(
        {
            "name": event.name,
            "data": orjson.Fragment(event.data),
            "id": event.id,
            "ts": event.ts,
            "user": None if event.user is None else orjson.Fragment(event.user),
            "v": event.v,
        }
    )


def raised(memo: Memo, cause: BaseException | None = None) -> Exception:
    """The exception that a handler receives for a remembered error."""
    record = ErrorRecord.decode(memo.value or NULL)
    # A child or a callback may fail with an error of that name, too: then it is a step that has failed.
    if memo.kind is StepKind.SIGNAL and record.name == SignalConflictError.__name__:
        return SignalConflictError(record.message, step_id=record.step_id)
    error = StepError(
        record.message, step_id=record.step_id, name=record.name, stack=record.stack, attempts=memo.attempts
    )
    error.__cause__ = cause
    return error
