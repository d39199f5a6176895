"""Work of the engine that goes on beside everything else, to its end: unwinding, judging, reloading.

It may not know what the work is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Keepers"]

_log = logging.getLogger("durable.worker")

_CLOSE_SECONDS = 2.0


class Keepers:
    """Tasks that are kept referenced, and awaited before the engine is left; `pulse` is told of their ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pulse: Callable[[], None]) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._loop = loop
        self._pulse = pulse

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Execute this to its end; what it raises is logged."""
        task: asyncio.Task[None] = asyncio.Task(work, loop=self._loop)
        self.tasks.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the engine failed in the background", exc_info=error)
        self._pulse()

    async def end(self) -> None:
        """Wait for all of them; those that go on though none ends any more are cancelled."""
        while self.tasks:
            done, late = await asyncio.wait(self.tasks, timeout=_CLOSE_SECONDS)
            for task in late if not done else ():
                task.cancel()
