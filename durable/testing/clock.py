"""A clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from durable.durations import to_point_ms

__all__ = ["VirtualClock"]


class VirtualClock:
    """Time for tests: it stands still, and jumps when told.

    Args:
        start: The first time: ISO-8601 text with offset.

    Example:
        >>> clock = VirtualClock("2030-01-01T00:00:00Z")
        >>> clock.jump(clock.now_ms() + 1000)
        >>> clock.now_ms()
        1893456001000
    """

    def __init__(self, start: str = "2030-01-01T00:00:00Z") -> None:
        self._now = to_point_ms(start, what="VirtualClock(start)")
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def now_ms(self) -> int:
        """The virtual time, in milliseconds since the epoch."""
        return self._now

    async def sleep_until(self, ms: int) -> None:
        """Wait until somebody has moved the clock to `ms`."""
        if ms <= self._now:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (ms, next(self._numbers), future))
        await future

    def jump(self, ms: int) -> None:
        """Move the clock forward to `ms`, and wake who slept until then."""
        self._now = max(self._now, ms)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
