"""Who lives: one locked file per engine beside the database, and heartbeats for where a lock says nothing.

An operating system's lock that is free proves that its process has ended. One that is held proves nothing
(the process may be stopped), and then a heartbeat that stands still decides. `flock`, since `lockf` gives
false answers within one process. May not know SQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from durable.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Locks", "files_of"]

_held: dict[str, int] = {}
"""All locks of this process, path to descriptor: it never probes its own, and a forked child closes them."""


class Locks:
    """The locks that one store holds for its engines, and what it has seen of the others' heartbeats."""

    def __init__(self, database: str) -> None:
        self._path_given = database
        self._own: set[str] = set()
        # Of each engine: its heartbeat, when it was looked at last, and for how long it has stood still.
        self._seen: dict[str, tuple[int, float, float]] = {}

    @cached_property
    def _database(self) -> str:
        # When it is needed, which is on the database's thread: the loop is not held up, be it by `getcwd`.
        return os.path.abspath(self._path_given)  # noqa: PTH100  # links in it are not to be resolved

    def take(self, engine: str) -> None:
        """Lock the file of `engine`; it is made if need be."""
        path = self._path(engine)
        if path in _held:
            raise StoreError(f"Engine {engine} has joined already: an engine's id is used once.")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"The lock file {path} cannot be made: {error.strerror}.") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"The lock file {path} is held by another process: {error.strerror}.") from error
        _held[path] = descriptor
        self._own.add(engine)

    def drop(self, engine: str) -> None:
        """Let go of the lock, as the death of the process would; the file stays."""
        if engine in self._own:
            self._own.discard(engine)
            os.close(_held.pop(self._path(engine)))

    def drop_all(self) -> None:
        """Let go of every lock that this store holds."""
        for engine in tuple(self._own):
            self.drop(engine)

    def remove(self, engine: str) -> None:
        """The engine is gone for good: remove its file, too."""
        self.drop(engine)
        self._seen.pop(engine, None)
        with contextlib.suppress(OSError):
            os.unlink(self._path(engine))  # noqa: PTH108

    def dead(self, heartbeats: Iterable[tuple[str, int, int]], lease_ms: int) -> tuple[str, ...]:
        """Those of `heartbeats` (engine, value, its lease) that are known to be dead."""
        return tuple(
            engine
            for engine, beat, lease in heartbeats
            if self._is_free(engine) or self._is_still(engine, beat, lease or lease_ms)
        )

    def free(self, engines: Iterable[str]) -> list[str]:
        """Those of `engines` whose lock nobody holds, or whose file is gone."""
        return [one for one in engines if self._is_free(one) or not os.path.exists(self._path(one))]  # noqa: PTH110

    def _path(self, engine: str) -> str:
        return f"{self._database}-engine-{quote(engine, safe='')}"

    def _is_free(self, engine: str) -> bool:
        path = self._path(engine)
        if path in _held:
            return False
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False  # a file that is missing proves nothing
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _is_still(self, engine: str, beat: int, lease_ms: int) -> bool:
        now = time.monotonic()
        before, looked, still = self._seen.get(engine, (None, now, 0.0))
        # What held the observer up (a stopped machine, a lock on the file) has held up the others, too: they
        # need a moment to say that they live.
        still = still + min(now - looked, lease_ms / 2000) if before == beat else 0.0
        self._seen[engine] = (beat, now, still)
        return before == beat and still * 1000 >= lease_ms


def files_of(database: str, kind: str) -> list[str]:
    """The engines that have a file of this kind, ``engine`` or ``bell``, beside the database."""
    directory, name = os.path.split(os.path.abspath(database))  # noqa: PTH100
    start = f"{name}-{kind}-"
    try:
        found = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return []
    return [unquote(one.removeprefix(start)) for one in found if one.startswith(start)]


def _close_in_child() -> None:
    # A child that kept the descriptor would hold the lock for as long as it lives.
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
