"""How one process tells another that there is work: a Unix datagram socket per engine beside the database.

Where there can be none (the path is too long, or the platform or the file system knows none), somebody asks
SQLite every 25 ms whether others have written. May not know SQL, nor what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Bells"]

_LOOK_EVERY = 0.025

_PATH_BYTES = 100
"""The longest name of a socket on Linux is 108 bytes, on others 104."""


class Bells:
    """The bells of one store's engines, and the way to ring anybody's.

    Args:
        database: The path of the database.
        version: Asks for a number that changes whenever somebody else has written.
    """

    def __init__(self, database: str, version: Callable[[], Awaitable[int]]) -> None:
        self._database = database
        self._version = version
        self._own: dict[str, socket.socket] = {}
        self._hand: socket.socket | None = None
        self._directory: int | None = None
        # Of engines of this store that have no bell: the version last seen, and whether they were rung.
        self._looked: dict[str, int] = {}
        self._rung: set[str] = set()

    def hang(self, engine: str) -> None:
        """Make the bell of `engine`, if there can be one."""
        self._rung.add(engine)
        with contextlib.suppress(OSError, AttributeError):
            path = self._path(engine)
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bell.setblocking(False)
            try:
                bell.bind(path)
            except OSError:
                bell.close()
                raise
            self._own[engine] = bell
            self._rung.discard(engine)

    def take_down(self, engine: str) -> None:
        """The engine is gone: remove its bell."""
        bell = self._own.pop(engine, None)
        self._looked.pop(engine, None)
        self._rung.discard(engine)
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
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def ring(self, engines: Iterable[str]) -> None:
        """Ring, without waiting: a bell that is full rings already, and one that is gone has no listener."""
        for engine in engines:
            if engine in self._looked:
                self._rung.add(engine)
                continue
            with contextlib.suppress(OSError, AttributeError):
                if self._hand is None:
                    self._hand = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    self._hand.setblocking(False)
                self._hand.sendto(b"!", self._path(engine))

    async def wait(self, engine: str) -> None:
        """Return when the bell of `engine` has rung since the last return."""
        bell = self._own.get(engine)
        if bell is None:
            await self._watch(engine)
            return
        await asyncio.get_running_loop().sock_recv(bell, 1)
        with contextlib.suppress(BlockingIOError, OSError):
            while bell.recv(1):
                pass

    async def _watch(self, engine: str) -> None:
        while True:
            version = await self._version()
            if engine in self._rung or version != self._looked.get(engine):
                self._rung.discard(engine)
                self._looked[engine] = version
                return
            await asyncio.sleep(_LOOK_EVERY)

    @cached_property
    def _place(self) -> tuple[str, str]:
        # Asked for on the database's thread: the loop is not held up, be it by `getcwd`.
        return os.path.split(os.path.abspath(self._database))  # noqa: PTH100

    def _path(self, engine: str) -> str:
        """Where the bell of `engine` hangs; a long path goes by an open directory, where there is /proc."""
        directory, database = self._place
        name = f"{database}-bell-{quote(engine, safe='')}"
        path = os.path.join(directory, name)  # noqa: PTH118
        if len(os.fsencode(path)) <= _PATH_BYTES:
            return path
        if self._directory is None:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{self._directory}/{name}"
        if len(os.fsencode(path)) > _PATH_BYTES or not Path("/proc/self/fd").is_dir():
            raise OSError(errno.ENAMETOOLONG, "the path of the bell is too long", path)
        return path
