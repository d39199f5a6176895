"""What follows from an attempt that failed, and from a run that has ended.

Pure decisions: now, the random draw and the limits come in as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from attrs import frozen

from durable.durations import point_or_duration_ms
from durable.errors import (
    ConfigError,
    LimitError,
    NestedStepError,
    NonRetriableError,
    RetryAfterError,
    SerializationError,
    SignalConflictError,
    StepError,
)
from durable.failures import ErrorRecord, error_record, leaves
from durable.records import RunRecord, RunStatus

if TYPE_CHECKING:
    from durable.records import End, StoredEvent
    from durable.retries import RetryDelays

__all__ = [
    "Failure",
    "Retry",
    "after_handler_failure",
    "after_step_failure",
    "ended_record",
    "internal_events",
    "split_key",
]

_LONGEST_WAIT_MS = 366 * 24 * 3600 * 1000

_FINAL_IN_STEP = (NonRetriableError, NestedStepError, SerializationError, LimitError, ConfigError)
_FINAL_IN_HANDLER = (
    NonRetriableError,
    StepError,
    NestedStepError,
    LimitError,
    ConfigError,
    SignalConflictError,
)


@frozen
class Retry:
    """Try again at `due` (ms)."""

    due: int
    record: ErrorRecord


@frozen
class Failure:
    """It has failed for good."""

    record: ErrorRecord


def after_step_failure(
    error: BaseException,
    *,
    step: str,
    attempt: int,
    retries: int,
    backoff: RetryDelays,
    now: int,
    draw: float,
) -> Retry | Failure:
    """Whether a step's callback that raised `error` in its attempt number `attempt` is tried again."""
    record = error_record(error, step_id=step)
    if all(isinstance(leaf, _FINAL_IN_STEP) for leaf in leaves(error)) or attempt >= retries:
        return Failure(record)
    return _again(error, attempt, backoff, now, draw, record)


def after_handler_failure(
    error: BaseException, *, attempt: int, retries: int, backoff: RetryDelays, now: int, draw: float
) -> Retry | Failure:
    """Whether a handler that raised `error` is called again.

    A `StepError` that was left uncaught fails the run: its step has had its retries.
    """
    one = _single(error)
    record = error_record(one, step_id=one.step_id if isinstance(one, SignalConflictError) else None)
    if _is_final(error) or attempt >= retries:
        return Failure(record)
    return _again(error, attempt, backoff, now, draw, record)


def _again(
    error: BaseException, attempt: int, backoff: RetryDelays, now: int, draw: float, record: ErrorRecord
) -> Retry | Failure:
    try:
        return Retry(_due(error, attempt, backoff, now, draw), record)
    except ConfigError as wrong:  # a `retry_after` that was changed since it was checked
        return Failure(error_record(wrong, step_id=record.step_id))


def _is_final(error: BaseException) -> bool:
    return all(isinstance(leaf, _FINAL_IN_HANDLER) for leaf in leaves(error))


def _single(error: BaseException) -> BaseException:
    """The one leaf that stands for a group of failed steps: a failed run carries the original class's name."""
    return next(leaves(error)) if _is_final(error) else error


def _due(error: BaseException, attempt: int, backoff: RetryDelays, now: int, draw: float) -> int:
    """When the next attempt is due; of a group, at the latest time that one of its leaves asks for."""
    asked = [
        point_or_duration_ms(leaf.retry_after, now, what="RetryAfterError.retry_after")
        for leaf in leaves(error)
        if isinstance(leaf, RetryAfterError)
    ]
    return min(max(asked), now + _LONGEST_WAIT_MS) if asked else now + backoff.delay_ms(attempt, draw)


# ---------------------------------------------------------------- ends

FINISHED = "durable/function.finished"
FAILED = "durable/function.failed"
CANCELLED = "durable/function.cancelled"
_SILENT_AFTER = frozenset({FINISHED, FAILED, CANCELLED})


def ended_record(run: RunRecord, end: End, attempt: int, now: int) -> RunRecord:
    """A run's record with its end, without reading it back."""
    return RunRecord(
        run.id,
        run.function,
        end.status,
        run.gen,
        run.created,
        run.due,
        run.started,
        now if run.ended is None else run.ended,
        attempt,
        run.parent,
        end.output,
        end.error,
        run.reason,
        run.holder,
        run.origin,
        end.unmet,
    )


def split_key(function: str) -> tuple[str, str]:
    """App and id out of a function's key ``"<app>/<id>"``."""
    app, _, name = function.partition("/")
    return app, name


def internal_events(
    function: str,
    run_id: str,
    events: tuple[StoredEvent, ...],
    status: RunStatus,
    output: bytes | None,
    error: bytes | None,
) -> list[tuple[str, bytes]]:
    """Names and data of the events that tell of a run's end.

    A run that one of them started emits none, so that no handler of failures can call itself for ever.
    """
    if events and events[0].name in _SILENT_AFTER:
        return []
    app, name = split_key(function)
    shown = [_as_json(event) for event in events]
    about: dict[str, object] = {
        "function_id": name,
        "app": app,
        "run_id": run_id,
        "event": shown[0] if shown else None,
        "events": shown,
    }
    if status is RunStatus.COMPLETED:
        about["result"] = orjson.Fragment(output or b"null")
    elif status is RunStatus.FAILED:
        about["error"] = orjson.Fragment(error or b"null")
    data = orjson.dumps(about)
    found = [(FINISHED, data)]
    if status is RunStatus.FAILED:
        found.append((FAILED, data))
    elif status is RunStatus.CANCELLED:
        found.append((CANCELLED, data))
    return found


def _as_json(event: StoredEvent) -> dict[str, object]:
    return {
        "id": event.id,
        "name": event.name,
        "data": orjson.Fragment(event.data),
        "ts": event.ts,
        "user": None if event.user is None else orjson.Fragment(event.user),
        "v": event.v,
    }
