"""One SQLite file and the thread that talks to it: a function, run as one transaction, in one hop.

Knows how to open, lock and repeat, and what SQLite's errors mean to a person. May not know a table.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from durable.errors import StoreError, UnstorableError
from durable_stores.sqlite import schema
from durable_stores.sqlite.thread import DatabaseThread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Database"]

T = TypeVar("T")

_LOCK_PATIENCE = 30.0
"""Seconds for which a transaction waits for other processes that hold the lock."""

_WAL_BYTES = 4_500_000
"""A little more than the 1,000 pages after which SQLite checkpoints, and begins to reuse the file."""

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "ceph", "fuse.glusterfs"})

_REMEDY = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database: give durable a file of its own",
    sqlite3.SQLITE_CORRUPT: "the database is damaged: restore a backup, or try `sqlite3 FILE .recover`",
    sqlite3.SQLITE_READONLY: "it cannot be written: check the permissions of the file and of its directory",
    sqlite3.SQLITE_PERM: "it cannot be written: check the permissions of the file and of its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that the directory exists and may be written",
    sqlite3.SQLITE_FULL: "the disk is full: nothing of this call was stored; make room",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written: nothing of this call was stored",
    sqlite3.SQLITE_BUSY: f"the database is locked by another process for more than {_LOCK_PATIENCE:.0f} s: "
    "look for one that holds a transaction open",
    sqlite3.SQLITE_LOCKED: "the database is locked by another connection of this process",
    sqlite3.SQLITE_TOOBIG: "a value is larger than SQLite can hold",
}
_FOR_EVER = frozenset({sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH})
"""What the same values would meet again, however often they are given."""


class Database:
    """The file at `path`, and one thread on which all of its transactions run."""

    def __init__(self, path: str, synchronous: str) -> None:
        self.path = path
        self._synchronous = synchronous
        self._thread: DatabaseThread | None = None
        self._sql: sqlite3.Connection | None = None
        self._file = path, (0, 0)

    async def open(self) -> None:
        """Open the file, or make it."""
        thread = DatabaseThread(self._connect)
        await thread.start()
        self._thread = thread

    async def close(self) -> None:
        """Let go of the file; what was asked for before is done first."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.close()
        self._sql = None

    async def write(
        self, body: Callable[[sqlite3.Connection], tuple[T, list[str]]], ring: Callable[[list[str]], None]
    ) -> T:
        """Run `body` as one transaction that holds the write lock.

        It says whom to `ring` when it is durable. A cancelled await leaves both whole; one that still waits
        for the lock, undone.
        """
        thread = self._open_thread()

        def whole() -> T:
            self._refuse_lost()
            answer, engines = self._transaction("BEGIN IMMEDIATE", body, thread.is_awaited)
            if engines:
                ring(engines)
            return answer

        return await thread.submit(whole)

    async def read(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """Run `body` on one snapshot."""
        thread = self._open_thread()
        return await thread.submit(lambda: self._transaction("BEGIN", body, thread.is_awaited))

    async def run(self, body: Callable[[], T]) -> T:
        """Run `body`, which touches files, where it does not hold up the event loop."""
        return await self._open_thread().submit(body)

    async def version(self) -> int:
        """A number that changes whenever somebody else has written to the file."""

        def body(sql: sqlite3.Connection) -> int:
            return int(sql.execute("PRAGMA data_version").fetchone()[0])

        return await self.read(body)

    def _open_thread(self) -> DatabaseThread:
        if self._thread is None:
            raise StoreError(f"The SQLite store at {self.path} is not open: `await store.open()` first.")
        if not self._thread.is_ours:
            raise StoreError(
                f"The SQLite store at {self.path} was opened in another process (before a fork): "
                f"open a store of its own in each process."
            )
        return self._thread

    # ------------------------------------------------------------ on the thread

    def _transaction(
        self, begin: str, body: Callable[[sqlite3.Connection], T], is_awaited: Callable[[], bool]
    ) -> T:
        sql = self._sql
        if sql is None:
            raise StoreError(f"The SQLite store at {self.path} is closed.")
        try:
            _patiently(sql, begin, is_awaited)
            try:
                result = body(sql)
                sql.execute("COMMIT")
            except BaseException:
                if sql.in_transaction:
                    sql.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._translated(error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            text = f"SQLite store at {self.path}: a value cannot be stored: {error}."
            raise UnstorableError(text) from error
        return result

    def _refuse_lost(self) -> None:
        # SQLite goes on with a file that was deleted: all that is stored would be gone when it is closed.
        where, file = self._file
        try:
            found = os.stat(where)  # noqa: PTH116  # at each write: a third of what `Path` takes
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != file:
            raise StoreError(
                f"SQLite store at {self.path}: the file was deleted or replaced while it was open: nothing of "
                f"this call was stored; leave the engines that use it, put the file back, and enter them again."
            )

    def _connect(self, is_awaited: Callable[[], bool]) -> sqlite3.Connection:
        _refuse_impossible(self.path)
        try:
            sql = sqlite3.connect(self.path, isolation_level=None, timeout=0.0, cached_statements=512)
        except sqlite3.Error as error:
            raise self._translated(error) from error
        try:
            self._set_up(sql, is_awaited)
            where = os.path.abspath(self.path)  # noqa: PTH100  # the working directory may change
            found = os.stat(where)  # noqa: PTH116
            self._file = where, (found.st_dev, found.st_ino)
        except sqlite3.Error as error:
            sql.close()
            raise self._translated(error) from error
        except BaseException:
            sql.close()
            raise
        self._sql = sql
        return sql

    def _set_up(self, sql: sqlite3.Connection, is_awaited: Callable[[], bool]) -> None:
        (mode,) = _patiently(sql, "PRAGMA journal_mode = WAL", is_awaited).fetchone()
        if mode != "wal":
            raise StoreError(
                f"{self.path} cannot use SQLite's write-ahead log (journal_mode is {mode!r}), which needs memory "
                f"shared between processes: put the file on a local disk."
            )
        sql.execute("PRAGMA busy_timeout = 0")
        sql.execute(f"PRAGMA synchronous = {self._synchronous}")
        sql.execute("PRAGMA cache_size = -16000")
        sql.execute("PRAGMA temp_store = MEMORY")
        _patiently(sql, "BEGIN IMMEDIATE", is_awaited)
        try:
            schema.prepare(sql, self.path)
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            raise
        if self._synchronous == "full":
            self._grow_log(sql, is_awaited)

    def _grow_log(self, sql: sqlite3.Connection, is_awaited: Callable[[], bool]) -> None:
        # With synchronous=FULL a commit that appends to the log costs 1.7 times one that reuses it, and a
        # fresh log is appended to until it has 1,000 pages: do that once, here (40 ms).
        with contextlib.suppress(OSError):
            if Path(f"{self.path}-wal").stat().st_size >= _WAL_BYTES:
                return
        _patiently(sql, "BEGIN IMMEDIATE", is_awaited)
        sql.execute("CREATE TABLE growing (filler BLOB)")
        sql.execute("INSERT INTO growing VALUES (zeroblob(?))", (_WAL_BYTES,))
        sql.execute("DROP TABLE growing")
        sql.execute("COMMIT")
        sql.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _translated(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind = UnstorableError if code in _FOR_EVER else StoreError
        remedy = _REMEDY.get(code)
        if remedy is None:
            return kind(f"SQLite store at {self.path}: {error}")
        return kind(f"SQLite store at {self.path}: {remedy} ({error}).")


def _patiently(sql: sqlite3.Connection, statement: str, is_awaited: Callable[[], bool]) -> sqlite3.Cursor:
    # SQLite's own busy handler sleeps ever longer and starves whoever came late: of four processes one got
    # nearly all commits. Short sleeps of uneven length share them out evenly.
    give_up = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            return sql.execute(statement)
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > give_up or not is_awaited():
                raise
        time.sleep(random.uniform(0.0005, 0.001))  # noqa: S311


def _refuse_impossible(path: str) -> None:
    file = Path(path)
    if file.is_dir():
        raise StoreError(f"{path} is a directory: name a file in it, for example {file / 'durable.db'}.")
    if not file.absolute().parent.is_dir():
        raise StoreError(f"The directory {file.absolute().parent} does not exist: create it first.")
    kind = _mount_type(file.resolve(), _mounts())
    if kind in _NETWORK:
        raise StoreError(
            f"{path} lies on a network file system ({kind}), where SQLite's write-ahead log does not work: put "
            f"the file on a local disk, or use a store that has a server."
        )


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _mount_type(file: Path, mounts: str) -> str:
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if len(point) >= len(best) and file.is_relative_to(point):
            best, kind = point, fields[2]
    return kind
