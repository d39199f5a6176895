"""Every error of durable. This module imports nothing of durable, but for durations when one is raised.

::

    DurableError
    ├── ConfigError (ValueError)      a declaration is wrong: said at once, where it stands
    ├── StepError                     what a handler receives when a step has failed for good
    ├── NonRetriableError             raised by users: no further attempt
    ├── RetryAfterError               raised by users: the next attempt then, not after the backoff
    ├── NestedStepError               a step inside a step's callback
    ├── SerializationError            a value that is not JSON, or does not decode into its type
    ├── LimitError                    a limit of the engine was passed
    ├── SignalConflictError           two waits for one signal
    ├── NondeterminismError           the code met something else than what was recorded
    ├── RunFailed                     `Run.result()` of a run that failed
    ├── RunCancelled                  `Run.result()` of a run that was cancelled
    ├── StoreError                    the store cannot be used; nothing was half-written
    │   └── UnstorableError           a value that the store can never hold
    └── EventRejected                 an event that is not valid
        └── EventTooLarge (LimitError)

    Interrupt (BaseException)         control flow of the engine; never caught by user code
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime, timedelta

__all__ = [
    "ConfigError",
    "DurableError",
    "DurableWarning",
    "EventRejected",
    "EventTooLarge",
    "Interrupt",
    "LimitError",
    "NestedStepError",
    "NonRetriableError",
    "NondeterminismError",
    "RetryAfterError",
    "RunCancelled",
    "RunFailed",
    "SerializationError",
    "SignalConflictError",
    "StepError",
    "StoreError",
    "UnstorableError",
]


class DurableError(Exception):
    """The base of all errors that durable raises: catch it to catch any of them."""


class DurableWarning(UserWarning):
    """Something works, but not as its author may think: the message says what to do."""


class ConfigError(DurableError, ValueError):
    """A declaration is wrong: the message names function, option, value and remedy."""


class StepError(DurableError):
    """A step has failed for good; a handler may catch it and go on.

    Left uncaught it fails the run without retrying the handler. `__cause__` is the original exception when
    it happened in this process.

    Args:
        message: The original error's message.
        step_id: The step that failed, as its author wrote it; ``None`` where no step is concerned.
        name: The class name of the original error.
        stack: The original traceback without the engine's own frames.
        attempts: How many attempts were made.
    """

    def __init__(
        self,
        message: str,
        *,
        step_id: str | None = None,
        name: str = "StepError",
        stack: str | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.step_id = step_id
        self.name = name
        self.stack = stack
        self.attempts = attempts

    def __str__(self) -> str:
        where = f"step {self.step_id!r}: " if self.step_id is not None else ""
        return f"{where}{self.name}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _step_error, (self.message, self.step_id, self.name, self.stack, self.attempts)


def _step_error(message: str, step_id: str | None, name: str, stack: str | None, attempts: int) -> StepError:
    return StepError(message, step_id=step_id, name=name, stack=stack, attempts=attempts)


class NonRetriableError(DurableError):
    """Raise it in a step or a handler: it fails at once, without further attempts.

    Example:
        >>> raise NonRetriableError("card was reported stolen")
        Traceback (most recent call last):
        durable.errors.NonRetriableError: card was reported stolen
    """


class RetryAfterError(DurableError):
    """Raise it in a step or a handler: the next attempt runs at the time given, exactly.

    Args:
        message: What went wrong.
        retry_after: A duration from now, or a point in time (aware datetime, or ISO-8601 text with offset).

    Raises:
        ConfigError: `retry_after` is none of these: a time is never guessed.
    """

    def __init__(self, message: str, retry_after: str | float | timedelta | datetime) -> None:
        from durable.durations import point_or_duration_ms  # noqa: PLC0415 - durations knows errors

        super().__init__(message)
        point_or_duration_ms(retry_after, 0, what="RetryAfterError(retry_after)")
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return RetryAfterError, (str(self), self.retry_after)


class NestedStepError(DurableError):
    """A step was called inside a step's callback: call it from the handler instead. Not retried."""


class SerializationError(DurableError):
    """A value cannot be stored as JSON, or a stored one does not fit its annotation; names step and path."""


class LimitError(DurableError):
    """A limit of the engine was passed; the message names the limit and how to raise it."""


class SignalConflictError(DurableError):
    """Another wait for this signal is open; use ``on_conflict="replace"`` to take it over.

    Args:
        message: Which signal it is.
        step_id: The step that would have waited.
    """

    def __init__(self, message: str, *, step_id: str | None = None) -> None:
        super().__init__(message)
        self.step_id = step_id

    def __reduce__(self) -> tuple[Any, ...]:
        return _signal_conflict, (str(self), self.step_id)


def _signal_conflict(message: str, step_id: str | None) -> SignalConflictError:
    return SignalConflictError(message, step_id=step_id)


class NondeterminismError(DurableError):
    """The code met something else than what is recorded for this run: the message names both."""


class _RunEnded(DurableError):
    def __init__(self, message: str, *, run_id: str, error: Any = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return _run_ended, (type(self), str(self), self.run_id, self.error)


def _run_ended(kind: type[_RunEnded], message: str, run_id: str, error: Any) -> _RunEnded:
    return kind(message, run_id=run_id, error=error)


class RunFailed(_RunEnded):
    """The run failed. `run_id` names it; `error` is its record (`name`, `message`, `stack`, `step_id`)."""


class RunCancelled(_RunEnded):
    """The run was cancelled. `run_id` names it; `error` is ``None`` or says why."""


class StoreError(DurableError):
    """The store cannot be reached or used, or its data is from a newer version; nothing was half-written."""


class UnstorableError(StoreError):
    """A value that the store can never hold was among what it was given: trying again would not help."""


class EventRejected(DurableError, ValueError):
    """An event is not valid (name, data, time); of a list that holds one, nothing was stored."""


class EventTooLarge(EventRejected, LimitError):
    """An event is larger than `Limits.event_bytes`, or its name longer than `Limits.event_name`."""


class Interrupt(BaseException):
    """Thrown into a handler to unwind it: eviction, loss of the lease, the engine's end.

    It is no `Exception`, so that a handler's ``except Exception`` cannot mistake it for a failure.
    """
