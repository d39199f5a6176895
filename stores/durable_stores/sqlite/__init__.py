"""SQLite: one file, shared by any number of processes of one machine.

``open_url`` is what the entry point ``sqlite`` names; `SQLiteStore` is the store itself, whose contract is
`durable.store.Store`. May not know SQL: one door is one function of another module, run as one transaction.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from durable.errors import ConfigError
from durable_stores.sqlite import checks, doors, engines, reads, registry, retention
from durable_stores.sqlite.appending import append_memos
from durable_stores.sqlite.connection import Database
from durable_stores.sqlite.doorbell import Bells
from durable_stores.sqlite.liveness import Locks, files_of
from durable_stores.sqlite.work import Work

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from os import PathLike

    from durable.records import (
        Admission,
        Admitted,
        Cancellation,
        Claimed,
        Commit,
        Committed,
        Cutoffs,
        EventQuery,
        History,
        Registration,
        Registry,
        Request,
        RunQuery,
        StoredEvent,
        Verdict,
        Waiting,
    )

__all__ = ["SQLiteStore", "open_url"]

T = TypeVar("T")

_SYNCHRONOUS = ("full", "normal")


class SQLiteStore:
    """A store in the file at `path`.

    Args:
        path: The file; its directory exists, on a local disk. Files whose names begin with this one's stand
            beside it.
        synchronous: ``"full"``: what a call has stored survives a loss of power. ``"normal"``: it survives
            the end of the process; a loss of power may undo the last calls, as a whole.

    Raises:
        ConfigError: `path` or `synchronous` is not usable.

    Example:
        >>> store = SQLiteStore("orders.db")
    """

    def __init__(self, path: str | PathLike[str], synchronous: str = "full") -> None:
        self.path = _checked(str(path))
        if synchronous not in _SYNCHRONOUS:
            raise ConfigError(
                f"SQLiteStore: synchronous={synchronous!r} is unknown: write 'full' or 'normal'."
            )
        self._database = Database(self.path, synchronous)
        self._locks = Locks(self.path)
        self._bells = Bells(self.path, self._database.version)
        self._opened = 0
        self._turn: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Open the file, or make it."""
        async with self._alone():
            if self._opened == 0:
                await self._database.open()
            self._opened += 1

    async def close(self) -> None:
        """Let go of the file and of the locks."""
        async with self._alone():
            if self._opened == 0:
                return
            self._opened -= 1
            if self._opened == 0:
                await self._database.run(self._locks.drop_all)
                await self._database.run(self._bells.close)
                await self._database.close()

    def _alone(self) -> asyncio.Lock:
        """One opens or closes at a time. A store may be used in one event loop after another, a lock may not."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn[0] is not loop:
            self._turn = loop, asyncio.Lock()
        return self._turn[1]

    async def join(self, now_ms: int, engine: str, lease_ms: int = 0) -> bool:
        """Take the engine's lock, and then say that it is alive."""

        def body(work: Work) -> tuple[str, ...]:
            self._clear_leftovers(work.sql)
            self._locks.take(engine)
            try:
                others = engines.others(work)
                engines.join(work, engine, lease_ms)
                self._bells.hang(engine)
            except BaseException:
                self._locks.remove(engine)
                raise
            return others

        others = await self._write(now_ms, None, body)
        self._bells.ring(others)
        return bool(others)

    async def leave(self, now_ms: int, engine: str) -> None:
        """Release what it still owns, then its lock."""
        await self._write(now_ms, None, lambda work: engines.leave(work, engine))
        await self._database.run(lambda: self._clear_away(engine))

    async def extend(self, engine: str) -> bool:
        """Count the heartbeat on."""
        return await self._database.write(lambda sql: (engines.beat(sql, engine), []), self._bells.ring)

    async def dead(self, lease_ms: int) -> tuple[str, ...]:
        """Those whose lock is free, or whose heartbeat stands still; and those whose burial is not finished."""

        def body(sql: sqlite3.Connection) -> set[str]:
            return {*self._locks.dead(engines.heartbeats(sql), lease_ms), *engines.unburied(sql)}

        return tuple(sorted(await self._database.read(body)))

    async def bury(self, now_ms: int, engine: str) -> tuple[bool, frozenset[str]]:
        """Take what a dead engine owned away from it."""

        def body(work: Work) -> tuple[bool, frozenset[str]]:
            return engines.bury(work, engine), frozenset(work.woke)

        more, woke = await self._write(now_ms, None, body)
        if not more:
            await self._database.run(lambda: self._clear_away(engine))
        return more, woke

    async def check(self) -> None:
        """Count again what indexes claim.

        Raises:
            AssertionError: Something does not agree; the message says what.
        """
        found = await self._database.read(checks.faults)
        if found:
            raise AssertionError("; ".join(found))

    def sever(self, engine: str) -> None:
        """Do to `engine` what the death of its process does: its lock is free, and it has not left."""
        self._locks.drop(engine)

    # ------------------------------------------------------------ registry

    async def register(self, now_ms: int, engine: str, functions: Sequence[Registration]) -> Registry:
        """Note what `engine` hosts."""
        return await self._write(now_ms, engine, lambda work: registry.register(work, engine, functions))

    async def registry(self) -> Registry:
        """Everything that is needed to match events."""
        return await self._database.read(registry.registry)

    async def pause(self, now_ms: int, function: str, paused: bool) -> None:
        """Pause a function, or let it go on."""
        await self._write(now_ms, None, lambda work: registry.pause(work, function, paused=paused))

    # ------------------------------------------------------------ the three doors

    async def admit(
        self, now_ms: int, admissions: Sequence[Admission], request: Request | None = None
    ) -> Admitted:
        """Store events, and everything that they cause."""
        engine = None if request is None else request.engine
        return await self._write(now_ms, engine, lambda work: doors.admit(work, admissions, request))

    async def claim(self, now_ms: int, request: Request) -> Claimed:
        """Take work."""
        return await self._write(now_ms, request.engine, lambda work: doors.claim(work, request))

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        """Write what runs have to write."""

        def transaction(sql: sqlite3.Connection) -> tuple[Committed, list[str]]:
            plain = append_memos(sql, engine, items)
            if plain is not None:
                return plain, []
            work = Work(sql, now_ms, engine)
            answer = doors.commit(work, engine, items)
            return answer, work.finish()

        return await self._database.write(transaction, self._bells.ring)

    async def cancel(
        self, now_ms: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        """Cancel runs."""
        return await self._write(now_ms, None, lambda work: doors.cancel(work, runs, reason))

    # ------------------------------------------------------------ around them

    async def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        """Open waits that an event may resolve."""
        return await self._database.read(lambda sql: reads.waiting(sql, name, keys, after, limit))

    async def wait_for_work(self, engine: str) -> None:
        """Return when somebody has rung for `engine`."""
        await self._bells.wait(engine)

    async def sweep(self, now_ms: int, cutoffs: Cutoffs) -> bool:
        """Remove what is old."""
        return await self._write(now_ms, None, lambda work: retention.sweep(work, cutoffs))

    # ------------------------------------------------------------ reads for people

    async def history(self, run_id: str) -> History | None:
        """One run with all that is known of it."""
        return await self._database.read(lambda sql: reads.history(sql, run_id))

    async def runs(self, query: RunQuery) -> tuple[History, ...]:
        """Runs, newest first, without their memos."""
        return await self._database.read(lambda sql: reads.runs(sql, query))

    async def events(self, query: EventQuery) -> tuple[StoredEvent, ...]:
        """Events, newest first."""
        return await self._database.read(lambda sql: reads.events(sql, query))

    # ------------------------------------------------------------

    def _clear_leftovers(self, sql: sqlite3.Connection) -> None:
        # Whoever buried an engine may have died before it cleared away. Nobody joins meanwhile: that takes the
        # write lock, too.
        found = {*files_of(self.path, "engine"), *files_of(self.path, "bell")}
        if found:
            for engine in self._locks.free(found - engines.present(sql)):
                self._clear_away(engine)

    def _clear_away(self, engine: str) -> None:
        self._locks.remove(engine)
        self._bells.take_down(engine)

    async def _write(self, now_ms: int, engine: str | None, body: Callable[[Work], T]) -> T:
        def transaction(sql: sqlite3.Connection) -> tuple[T, list[str]]:
            work = Work(sql, now_ms, engine)
            answer = body(work)
            return answer, work.finish()

        return await self._database.write(transaction, self._bells.ring)


def open_url(url: str) -> SQLiteStore:
    """The store that ``sqlite:///relative.db`` or ``sqlite:////absolute/file.db`` names.

    Option: ``?synchronous=full`` (the default) or ``normal``, see `SQLiteStore`.

    Raises:
        ConfigError: The URL is none of these.
    """
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.startswith("/") or parts.fragment:
        raise ConfigError(
            f"{url!r} names no SQLite file: write 'sqlite:///relative.db' or 'sqlite:////absolute/file.db'."
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - {"synchronous"})
    if unknown:
        raise ConfigError(
            f"{url!r}: option {unknown[0]!r} is unknown: there is 'synchronous' (full, normal)."
        )
    return SQLiteStore(unquote(parts.path[1:]), **options)


def _checked(path: str) -> str:
    if not path:
        raise ConfigError("SQLiteStore: the path is empty: write a file's name, for example 'durable.db'.")
    if path == ":memory:" or path.startswith("file:"):
        raise ConfigError(
            f"SQLiteStore: {path!r} is not a file that processes and restarts can share: write a file's name, "
            f"or use 'memory://' for a store that lives as long as its process."
        )
    return path
