"""The context that a handler is given, and how to reach it from below.

It shows what the run is and offers its steps; it may not know how they are performed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from durable.steps import Performer, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.engine import Engine
    from durable.events import Event
    from durable.functions import Function

__all__ = ["Attempt", "Context", "Runtime", "attempting", "current", "enter", "running"]


class Attempt:
    """One attempt of a step's callback: its number from 0, how many there may be, and what it met inside."""

    __slots__ = ("maximum", "nested", "number", "step")

    def __init__(self, step: str, number: int, maximum: int) -> None:
        self.step = step
        self.number = number
        self.maximum = maximum
        self.nested: str | None = None


attempting: ContextVar[Attempt | None] = ContextVar("durable_attempt", default=None)
"""The attempt whose callback is executing here."""

_current: ContextVar[Context | None] = ContextVar("durable_context", default=None)


class Runtime(Performer, Protocol):
    """What a context shows of the run behind it."""

    attempt: int

    @property
    def unwinding(self) -> bool:
        """Whether the handler is being taken apart, to go on later."""
        ...

    @property
    def replaying(self) -> bool:
        """Whether the handler repeats what an earlier pass has done."""
        ...


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Adds run and function to each record; says nothing while the handler repeats itself."""

    def __init__(self, logger: logging.Logger, runtime: Runtime, extra: Mapping[str, object]) -> None:
        super().__init__(logger, extra)
        self._runtime = runtime

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name of logging
        if self._runtime.replaying and attempting.get() is None:
            return False
        return super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class Context:
    """One run, as its handler sees it.

    Attributes:
        event: The event that started the run; of a batch, the first.
        events: All of them.
        run_id: The run's id, a ULID.
        step: The durable steps.
        logger: Carries run and function ids, and is silent for lines that a replay repeats.
        function: The function that runs.
        engine: The engine that hosts it.
    """

    __slots__ = ("_logger", "_runtime", "engine", "event", "events", "function", "run_id", "step")

    def __init__(
        self,
        runtime: Runtime,
        *,
        run_id: str,
        events: Sequence[Event[Any]],
        function: Function[Any],
        engine: Engine,
    ) -> None:
        self._runtime = runtime
        self._logger: logging.LoggerAdapter[logging.Logger] | None = None
        self.run_id = run_id
        self.events = list(events)
        self.event = self.events[0]
        self.function = function
        self.engine = engine
        self.step = Steps(runtime)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger like those of the standard library."""
        if self._logger is None:
            extra = {"run_id": self.run_id, "function_id": self.function.id}
            self._logger = _Logger(logging.getLogger("durable.run"), self._runtime, extra)
        return self._logger

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 0: of the step inside a step's callback, else of the handler."""
        attempt = attempting.get()
        return self._runtime.attempt if attempt is None else attempt.number

    @property
    def max_attempts(self) -> int:
        """How many attempts there may be at most."""
        attempt = attempting.get()
        return self.function.config.retries + 1 if attempt is None else attempt.maximum

    @property
    def evicting(self) -> bool:
        """Whether the handler is being unwound to go on later: compensations belong elsewhere then."""
        return self._runtime.unwinding


def current() -> Context:
    """The context of the run in which this code executes.

    Raises:
        LookupError: It executes outside of any run.

    Example:
        >>> durable.current().run_id
        '01JZ8Q4T3M0000000000000000'
    """
    context = _current.get()
    if context is None:
        raise LookupError("durable.current(): this code does not execute inside a run")
    return context


def running() -> Context | None:
    """As `current`, or ``None``."""
    return _current.get()


def enter(context: Context) -> None:
    """Make `context` current in this task, and in what it starts."""
    _current.set(context)
