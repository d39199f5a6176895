"""How one process tells another that there is work: a Unix datagram socket per engine beside the database.

Where there can be none (the path is too long, or the platform knows none), the write-ahead log is looked
at every 25 ms instead: every commit changes it. May not know SQL, nor what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Bells"]

_LOOK_EVERY = 0.025
_PATH_BYTES = 104
"""The longest name of a socket on Linux is 108 bytes, on others 104."""


class Bells:
    """The bells of one store's engines, and the way to ring anybody's."""

    def __init__(self, database: str) -> None:
        self._database = os.path.abspath(database)  # noqa: PTH100  # links in it are not to be resolved
        self._own: dict[str, socket.socket] = {}
        self._hand: socket.socket | None = None
        self._looked: dict[str, tuple[int, int]] = {}

    def hang(self, engine: str) -> None:
        """Make the bell of `engine`, if there can be one."""
        path = self._path(engine)
        self._looked[engine] = self._log_state()
        if not hasattr(socket, "AF_UNIX") or len(os.fsencode(path)) > _PATH_BYTES:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.setblocking(False)
        try:
            bell.bind(path)
        except OSError:
            bell.close()
            return
        self._own[engine] = bell

    def take_down(self, engine: str) -> None:
        """The engine is gone: remove its bell."""
        bell = self._own.pop(engine, None)
        self._looked.pop(engine, None)
        if bell is not None:
            bell.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path(engine))  # noqa: PTH108

    def close(self) -> None:
        """Let go of all sockets, and remove the files of this store's own."""
        for engine in tuple(self._own):
            self.take_down(engine)
        if self._hand is not None:
            self._hand.close()
            self._hand = None

    def ring(self, engines: Iterable[str]) -> None:
        """Ring, without waiting: a bell that is full rings already, and one that is gone has no listener."""
        for engine in engines:
            with contextlib.suppress(OSError, AttributeError):
                if self._hand is None:
                    self._hand = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    self._hand.setblocking(False)
                self._hand.sendto(b"!", self._path(engine))

    async def wait(self, engine: str) -> None:
        """Return when the bell of `engine` has rung since the last return."""
        bell = self._own.get(engine)
        if bell is None:
            await self._watch_log(engine)
            return
        await asyncio.get_running_loop().sock_recv(bell, 1)
        with contextlib.suppress(BlockingIOError, OSError):
            while bell.recv(1):
                pass

    async def _watch_log(self, engine: str) -> None:
        while True:
            state = await asyncio.to_thread(self._log_state)
            if state != self._looked.get(engine):
                self._looked[engine] = state
                return
            await asyncio.sleep(_LOOK_EVERY)

    def _log_state(self) -> tuple[int, int]:
        try:
            state = Path(f"{self._database}-wal").stat()
        except OSError:
            return 0, 0
        return state.st_mtime_ns, state.st_size

    def _path(self, engine: str) -> str:
        return f"{self._database}-bell-{quote(engine, safe='')}"
