"""The one door to time: everything of durable that asks or waits for it is handed a `Clock`.

Duty: the protocol, and the machine's own clock. It knows nothing of durable.
"""

from __future__ import annotations

import time
from asyncio import sleep
from typing import Protocol

__all__ = ["Clock", "SystemClock"]

_LONGEST_SLEEP_MS = 60_000


class Clock(Protocol):
    """Where the time comes from: the machine, or a test that moves it by hand."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch; may step back, as system clocks do."""
        ...

    async def sleep_until(self, ms: int) -> None:
        """Wait until `now_ms` is at least ``ms``, or shorter: the caller looks at the clock again."""
        ...


class SystemClock:
    """The machine's clock.

    Example:
        >>> SystemClock().now_ms() > 1_700_000_000_000
        True
    """

    __slots__ = ()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    async def sleep_until(self, ms: int) -> None:
        """Sleep until ``ms``, at most a minute, so that a clock that was set anew is noticed."""
        left = ms - time.time_ns() / 1_000_000
        await sleep(min(max(left, 0), _LONGEST_SLEEP_MS) / 1000)
