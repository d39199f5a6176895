"""The alarm: when something in the store falls due, or a parked task has been warm long enough.

A heap of all due times stays in the store; here is only the next one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from durable._executor.warm import Warm
    from durable.clock import Clock

__all__ = ["Alarm"]


class Alarm:
    """Rings when the next thing falls due.

    Args:
        loop: The event loop.
        clock: Where the time comes from.
        warm: The parked tasks, which grow cold by time.
        ring: What is called.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, warm: Warm, ring: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._warm = warm
        self._ring = ring
        self._store: int | None = None
        self._meanwhile: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._at: int | None = None
        self._closed = False

    @property
    def next_due(self) -> int | None:
        """When something will happen by time alone: a timer, or an eviction."""
        found = [due for due in (self._warm.cold_at, self._store) if due is not None]
        return min(found, default=None)

    @property
    def store_is_due(self) -> bool:
        """Whether something in the store has fallen due."""
        return self._store is not None and self._store <= self._clock.now_ms()

    def due(self, times: Iterable[int]) -> None:
        """Things that were just written fall due at these times."""
        soonest = min(times, default=None)
        if soonest is None:
            return
        self._meanwhile = min(soonest, self._meanwhile or soonest)
        if self._store is None or soonest < self._store:
            self._store = soonest
            self.set()

    def asking(self) -> None:
        """The store is about to be asked; what is written from now on is not in its answer."""
        self._meanwhile = None

    def told(self, next_due: int | None) -> None:
        """The store has said when something falls due next."""
        found = [due for due in (next_due, self._meanwhile) if due is not None]
        self._store = min(found, default=None)

    def set(self) -> None:
        """Ring at the next time that is known by now."""
        due = None if self._closed else self.next_due
        if due == self._at and self._task is not None and not self._task.done():
            return
        if self._task is not None:
            self._task.cancel()
        self._at = due
        self._task = None if due is None else asyncio.Task(self._wait(due), loop=self._loop)

    async def _wait(self, due: int) -> None:
        while self._clock.now_ms() < due:
            await self._clock.sleep_until(due)
        self._ring()

    def stop(self) -> None:
        """Ring no more, whatever is written."""
        self._closed = True
        self.set()
