"""What a step asks for: one small value per kind of step.

An operation knows its identity, what it needs, and how its stored result becomes the value that the handler
receives. It may not know who performs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from attrs import frozen

from durable.codec import PLAIN, decode, digest
from durable.events import Event
from durable.records import StepKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from durable._core.cel import Condition
    from durable.codec import Decoder
    from durable.retries import RetryDelays

__all__ = [
    "Call",
    "Deadline",
    "Invoke",
    "Operation",
    "Send",
    "SendSignal",
    "Signal",
    "Sleep",
    "WaitForEvent",
    "WaitForSignal",
]


class Operation:
    """A step that was met: its id and kind, and how to read its result."""

    __slots__ = ("step",)
    kind: StepKind

    def __init__(self, step: str) -> None:
        self.step = step

    def __str__(self) -> str:
        return f"step {self.step!r}"

    def read(self, value: bytes) -> Any:
        """The value that the handler receives, from what was stored."""
        return decode(value, PLAIN, what=f"the result of step {self.step!r}")

    def digest(self) -> bytes | None:
        """A short hash of the step's arguments, to notice on replay that they differ."""
        return None


class Call(Operation):
    """Call `fn`, retry it, keep what it returns. ``None`` in `retries` and `backoff`: as the function says."""

    __slots__ = ("args", "backoff", "decoder", "fn", "kwargs", "retries", "timeout")
    kind = StepKind.RUN

    def __init__(
        self,
        step: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decoder: Decoder,
        options: tuple[int | None, int | None, RetryDelays | None],
    ) -> None:
        self.step = step
        self.fn = fn
        self.args = args
        self.kwargs = kwargs
        self.decoder = decoder
        self.retries, self.timeout, self.backoff = options

    def read(self, value: bytes) -> Any:
        return decode(value, self.decoder, what=f"the result of step {self.step!r}")

    def digest(self) -> bytes | None:
        if not self.args and not self.kwargs:
            return None
        return digest(self.args, dict(self.kwargs))


class Sleep(Operation):
    """Wait for a time: `duration` ms from when it starts, or `until` (ms)."""

    __slots__ = ("duration", "until")
    kind = StepKind.SLEEP

    def __init__(self, step: str, *, duration: int | None = None, until: int | None = None) -> None:
        super().__init__(step)
        self.duration = duration
        self.until = until

    def read(self, value: bytes) -> None:
        del value


class Deadline(Operation):
    """A time limit of `duration` ms around other steps."""

    __slots__ = ("duration",)
    kind = StepKind.TIMEOUT

    def __init__(self, step: str, duration: int) -> None:
        super().__init__(step)
        self.duration = duration

    def read(self, value: bytes) -> None:
        del value


class Send(Operation):
    """Send events; the result is the list of their ids."""

    __slots__ = ("events",)
    kind = StepKind.SEND

    def __init__(self, step: str, events: Sequence[Event]) -> None:
        super().__init__(step)
        self.events = tuple(events)


class Invoke(Operation):
    """Run another function, named by `function`, and wait for its result, at most `timeout` ms."""

    __slots__ = ("data", "decoder", "function", "timeout")
    kind = StepKind.INVOKE

    def __init__(self, step: str, function: str, data: Any, timeout: int | None, decoder: Decoder) -> None:
        super().__init__(step)
        self.function = function
        self.data = data
        self.timeout = timeout
        self.decoder = decoder

    def read(self, value: bytes) -> Any:
        return decode(value, self.decoder, what=f"the result of step {self.step!r}")


class WaitForEvent(Operation):
    """Wait for an event, at most `timeout` ms; `since`: ``"run"``, or ms back from now."""

    __slots__ = ("condition", "event", "since", "timeout")
    kind = StepKind.WAIT

    def __init__(
        self, step: str, event: str, condition: Condition | None, timeout: int, since: str | int | None
    ) -> None:
        super().__init__(step)
        self.event = event
        self.condition = condition
        self.timeout = timeout
        self.since = since

    def read(self, value: bytes) -> Event | None:
        stored = orjson.loads(value)
        return None if stored is None else Event(**stored)


@frozen
class Signal:
    """What a wait for a signal returns: the `data` that was sent with it."""

    data: Any = None

    def __hash__(self) -> int:
        return hash((Signal, repr(self.data)))  # data need not be hashable


class WaitForSignal(Operation):
    """Wait for a signal, at most `timeout` ms; with `replace`, take it over from whoever waits for it."""

    __slots__ = ("replace", "signal", "timeout")
    kind = StepKind.SIGNAL

    def __init__(self, step: str, signal: str, timeout: int, *, replace: bool) -> None:
        super().__init__(step)
        self.signal = signal
        self.timeout = timeout
        self.replace = replace

    def read(self, value: bytes) -> Signal | None:
        stored = orjson.loads(value)
        return None if stored is None else Signal(stored["data"])


class SendSignal(Operation):
    """Send a signal; the result says whether somebody took it."""

    __slots__ = ("data", "signal")
    kind = StepKind.SEND_SIGNAL

    def __init__(self, step: str, signal: str, data: Any) -> None:
        super().__init__(step)
        self.signal = signal
        self.data = data
