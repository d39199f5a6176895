"""What the SQLite store says when the file, the disk or another program is against it: path and remedy."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading

import pytest

from durable.errors import StoreError
from durable.records import Admission, Memo, MemoState, NewEvent, Plan, Registration, RunQuery, StepKind
from durable_stores.sqlite import SQLiteStore, connection, schema


def admission(run, data=b"{}"):
    return Admission(event=NewEvent(f"e-{run}", "made", 5, data), plans=(Plan("app/f", run, 5),))


async def refused(path, match, synchronous="normal"):
    """Opening `path` says why it cannot be, and names it."""
    store = SQLiteStore(path, synchronous)
    with pytest.raises(StoreError, match=match) as caught:
        await store.open()
    assert str(path.parent if "does not exist" in match else path) in str(caught.value)
    with pytest.raises(StoreError, match="is not open"):
        await store.runs(RunQuery())
    await store.close()


async def on(store, *statements):
    """Say something to SQLite behind the store's back, on its own connection."""
    await store._database.run(lambda: [store._database._sql.execute(s).fetchall() for s in statements])


async def open_store(path):
    store = SQLiteStore(path, "normal")
    await store.open()
    return store


# ---------------------------------------------------------------- what cannot be opened


async def test_a_directory(tmp_path):
    await refused(tmp_path, "is a directory: name a file in it")


async def test_a_directory_that_is_not_there(tmp_path):
    await refused(tmp_path / "none" / "x.db", "does not exist: create it first")


async def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "x.db"
    path.write_bytes(b"minutes of the last meeting\n" * 100)
    await refused(path, "not an SQLite database: give durable a file of its own")
    assert path.read_bytes().startswith(b"minutes"), "untouched"


async def test_the_database_of_another_program(tmp_path):
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name)")
    other.close()
    await refused(path, "database of another program")
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    other.close()


async def test_a_newer_version(tmp_path):
    path = tmp_path / "x.db"
    store = await open_store(path)
    await on(store, f"PRAGMA user_version = {schema.VERSION + 1}")
    await store.close()
    await refused(path, "newer version of durable .*: upgrade durable here")


async def test_a_damaged_file(tmp_path):
    path = tmp_path / "x.db"
    store = await open_store(path)
    await store.close()
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)
    await refused(path, "damaged: restore a backup")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions are nothing to root")
async def test_a_file_that_cannot_be_written(tmp_path):
    path = tmp_path / "x.db"
    await (await open_store(path)).close()
    path.chmod(0o444)
    await refused(path, "cannot be written: check the permissions")


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("server:/data {path} nfs4 rw 0 0", "nfs4"),
        ("/dev/sda / ext4 rw 0 0\n//host/share {path} cifs rw 0 0\nbroken", "cifs"),
    ],
)
async def test_a_network_file_system(tmp_path, monkeypatch, mounts, kind):
    directory = tmp_path / "a b"
    directory.mkdir()
    text = mounts.format(path=str(directory.resolve()).replace(" ", "\\040"))
    monkeypatch.setattr(connection, "_mounts", lambda: text)
    await refused(directory / "x.db", rf"network file system \({kind}\), where SQLite's write-ahead log")
    await (await open_store(tmp_path / "x.db")).close()  # beside it, on a disk


async def test_a_file_system_without_shared_memory(tmp_path, monkeypatch):
    class NoLog(sqlite3.Connection):
        def execute(self, statement, *args):
            wal = statement == "PRAGMA journal_mode = WAL"
            return super().execute("SELECT 'delete'" if wal else statement, *args)

    monkeypatch.setattr(connection.sqlite3, "connect", NoLog)
    await refused(tmp_path / "x.db", "journal_mode is 'delete'.*put the file on a local disk")


# ---------------------------------------------------------------- what goes wrong later


async def test_a_full_disk_stores_nothing_and_is_no_end(tmp_path):
    store = await open_store(tmp_path / "x.db")
    pages = (await store._database.read(lambda sql: sql.execute("PRAGMA page_count").fetchone()))[0]
    await on(store, f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="the disk is full: nothing of this call was stored; make room"):
        await store.admit(5, [admission("r"), admission("s", b'"%s"' % (b"x" * 50_000))])
    assert await store.runs(RunQuery()) == ()
    await on(store, "PRAGMA max_page_count = 1000000")
    await store.admit(5, [admission("r"), admission("s", b'"%s"' % (b"x" * 50_000))])
    assert len(await store.runs(RunQuery())) == 2
    await store.check()
    await store.close()


async def test_a_file_that_became_read_only(tmp_path):
    store = await open_store(tmp_path / "x.db")
    await on(store, "PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="cannot be written: check the permissions"):
        await store.admit(5, [admission("r")])
    await on(store, "PRAGMA query_only = OFF")
    assert await store.runs(RunQuery()) == ()
    await store.close()


async def test_a_lock_that_is_never_let_go(tmp_path, monkeypatch):
    store = await open_store(tmp_path / "x.db")
    monkeypatch.setattr(connection, "_LOCK_PATIENCE", 0.0)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked by another process .* holds a transaction open"):
        await store.admit(5, [admission("r")])
    assert await store.runs(RunQuery()) == (), "to read needs no lock"
    other.execute("ROLLBACK")
    other.close()
    await store.admit(5, [admission("r")])
    await store.close()


async def test_a_lock_that_is_let_go_is_waited_for(tmp_path, monkeypatch):
    store = await open_store(tmp_path / "x.db")
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    naps = []

    def nap(seconds):
        naps.append((seconds, threading.current_thread() is threading.main_thread()))
        if len(naps) == 3:
            other.execute("ROLLBACK")

    monkeypatch.setattr(connection.time, "sleep", nap)
    await store.admit(5, [admission("r")])
    assert len(naps) == 3
    assert all(0.0005 <= seconds <= 0.001 and not main for seconds, main in naps), naps
    other.close()
    await store.close()


async def test_a_lock_is_not_waited_for_when_nobody_awaits_the_answer(tmp_path, monkeypatch):
    store, late = await open_store(tmp_path / "x.db"), SQLiteStore(tmp_path / "x.db", "normal")
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    naps, slept = threading.Semaphore(0), connection.time.sleep
    monkeypatch.setattr(connection, "_LOCK_PATIENCE", 5.0)
    monkeypatch.setattr(connection.time, "sleep", lambda seconds: (naps.release(), slept(seconds)))
    began = asyncio.get_running_loop().time()
    for call in (store.admit(5, [admission("r")]), late.open()):
        waiting = asyncio.ensure_future(call)
        await asyncio.to_thread(naps.acquire)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await store.close()
    assert asyncio.get_running_loop().time() - began < 2
    other.execute("ROLLBACK")
    other.close()
    await store.open()
    assert await store.runs(RunQuery()) == ()
    await store.close()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_a_file_that_is_gone_takes_nothing_more(tmp_path, monkeypatch, how):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    store = await open_store("x.db")
    monkeypatch.chdir(tmp_path / "here")
    await store.admit(5, [admission("r")])
    (tmp_path / "x.db").rename(tmp_path / "elsewhere")
    if how == "replaced":
        (tmp_path / "x.db").touch()
    with pytest.raises(StoreError, match=r"x\.db: the file was deleted or replaced .* put the file back"):
        await store.admit(5, [admission("s")])
    (tmp_path / "elsewhere").rename(tmp_path / "x.db")
    await store.admit(5, [admission("s")])
    assert len(await store.runs(RunQuery())) == 2
    await store.close()


async def test_the_first_use_of_a_file_by_two_at_once(tmp_path):
    stores = [SQLiteStore(tmp_path / "x.db", "normal") for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await stores[0].register(1, "a", [Registration("app/f", "1", b"{}")])
    assert len({(await store.registry()).version for store in stores}) == 1
    for store in stores:
        await store.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "x.db"
    store = await open_store(path)
    await store.admit(5, [admission("r")])
    await store.close()
    broken = (*schema._MIGRATIONS, ("half", "CREATE TABLE half (a);\nINSERT INTO nowhere VALUES (1);\n"))
    monkeypatch.setattr(schema, "_MIGRATIONS", broken)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    await refused(path, "nowhere")
    monkeypatch.undo()
    store = await open_store(path)
    assert len(await store.runs(RunQuery())) == 1
    await store.check()
    await store.close()


async def test_a_migration_goes_forward(tmp_path, monkeypatch):
    path = tmp_path / "x.db"
    await (await open_store(path)).close()
    steps = (*schema._MIGRATIONS, ("more", "CREATE TABLE more (a TEXT) STRICT;\n"))
    monkeypatch.setattr(schema, "_MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    store = await open_store(path)
    names = await store._database.read(
        lambda sql: sql.execute("SELECT version, name FROM migrations").fetchall()
    )
    assert names == [(1, "the first tables"), (2, "leases of engines"), (3, "more")]
    await store.close()


def test_a_memo_of_each_state_has_a_word():
    """Names in the tables are forever: a new member of an enum needs a word on purpose."""
    assert [state.name for state in MemoState] == ["VALUE", "ERROR", "WITHDRAWN", "LATE"]
    assert Memo(0, "s", 0, StepKind.RUN, 0, MemoState.LATE).kind == "run"
