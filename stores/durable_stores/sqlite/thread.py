"""The thread on which SQLite is spoken to: aiosqlite's, used as a queue of functions.

The only module that knows aiosqlite, and what is private of it (pinned to 0.22): its own way in is a
coroutine for each statement, which costs a task's worth more for each transaction. May not know SQL.
"""

# ruff: noqa: SLF001  # this is the module in which it is allowed

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import aiosqlite

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

__all__ = ["DatabaseThread"]

T = TypeVar("T")

_started: weakref.WeakSet[DatabaseThread] = weakref.WeakSet()


class DatabaseThread:
    """A connection that `connect` makes, and the thread to which it belongs.

    Args:
        connect: Makes the connection, on the thread; it may ask whether anybody still waits for that.
    """

    def __init__(self, connect: Callable[[Callable[[], bool]], sqlite3.Connection]) -> None:
        self._connection = aiosqlite.Connection(partial(connect, self.is_awaited), 64)
        self._given_up = False
        self._running: asyncio.Future[Any] | None = None
        self._private: Any = self._connection
        self._pid = os.getpid()
        # aiosqlite's thread is no daemon: one that was forgotten would keep the interpreter from ending.
        self._private._thread.daemon = True

    async def start(self) -> None:
        """Start the thread and connect; what `connect` raises is raised here, and the thread ends."""
        try:
            await self._connection
        except BaseException:
            self._given_up = True
            await asyncio.to_thread(self._private._thread.join)
            raise
        _started.add(self)

    @property
    def is_ours(self) -> bool:
        """Whether it runs in this process: it does not after a fork."""
        return os.getpid() == self._pid

    def submit(self, body: Callable[[], T]) -> asyncio.Future[T]:
        """Run `body` on the thread, after what was submitted before; it runs even if the future is cancelled."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            self._running = future
            try:
                settle = partial(_succeed, future, body())
            except BaseException as error:  # it is raised where the future is awaited
                settle = partial(_fail, future, error)
            finally:
                self._running = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle)

        self._private._tx.put_nowait((None, run))
        return future

    def is_awaited(self) -> bool:
        """Whether somebody still waits for what the thread does now: it asks while it waits itself."""
        running = self._running
        return not self._given_up and (running is None or not running.cancelled())

    async def close(self) -> None:
        """Close the connection when all that was submitted is done, and end the thread."""
        _started.discard(self)
        if self.is_ours:
            await self._connection.close()
        else:
            self._private._connection = None  # a copy, whose thread does not exist: nothing is to be closed

    def stop(self) -> None:
        """End the thread at the interpreter's exit, if nobody has closed it."""
        if self.is_ours:
            with contextlib.suppress(RuntimeError):
                self._private.stop()
            self._private._thread.join(1.0)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _stop_all() -> None:
    for thread in list(_started):
        thread.stop()


atexit.register(_stop_all)
