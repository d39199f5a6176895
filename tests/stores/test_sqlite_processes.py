"""The SQLite store among processes: who lives, who is rung, who waits for the lock, what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from durable.errors import StoreError
from durable.records import Admission, Commit, NewEvent, Park, Plan, Registration, Request, RunQuery, Timer
from durable_stores.sqlite import SQLiteStore, doorbell, liveness

F = "app/f"
POOLS = frozenset({F})
HOUR = 3_600_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.db"


async def open_with(path, *engines):
    store = SQLiteStore(path, "normal")
    await store.open()
    for engine in engines:
        await store.join(1, engine)
        await store.register(1, engine, [Registration(F, "1", b"{}")])
    return store


def admission(run, due=5):
    return Admission(event=NewEvent(f"e-{run}", "made", 5, b"{}"), plans=(Plan(F, run, due),), registry=1)


def run_child(path, body, *, wait=True):
    """Another process, in which `store` is open on `path`."""
    program = textwrap.dedent(
        f"""
        import asyncio, os, sys
        from durable.records import *
        from durable_stores.sqlite import SQLiteStore
        async def main():
            store = SQLiteStore({str(path)!r}, "normal")
            await store.open()
        """
    ) + textwrap.indent(textwrap.dedent(body), "    ")
    program += "\nasyncio.run(main())\n"
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if wait:
        output, _ = child.communicate(timeout=30)
        assert child.returncode == 0, output
        return output
    return child


# ---------------------------------------------------------------- who lives


async def test_a_process_that_was_killed_is_dead_at_once(path):
    child = run_child(
        path, "await store.join(1, 'b'); print('here', flush=True); sys.stdin.read()", wait=False
    )
    assert child.stdout.readline() == "here\n"
    store = await open_with(path, "a")
    assert await store.dead(HOUR) == ()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert await store.dead(HOUR) == ("b",)
    await store.bury(2, "b")
    assert await store.dead(HOUR) == ()
    child.stdin.close()
    child.stdout.close()
    await store.close()


async def test_a_stopped_process_is_dead_when_its_heart_stands_still(path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    one, other = await open_with(path, "a"), await open_with(path)
    assert await other.dead(1_000) == (), "seen for the first time"
    now[0] += 0.9
    assert await one.extend("a")
    assert await other.dead(1_000) == ()
    now[0] += 0.9
    assert await other.dead(1_000) == (), "it has moved since"
    now[0] += 0.4
    assert await other.dead(1_000) == ()
    now[0] += 0.2
    assert await other.dead(1_000) == ("a",)
    await one.extend("a")
    assert await other.dead(1_000) == ()
    await one.close()
    await other.close()


async def test_an_observer_that_was_held_up_itself_waits_for_the_others(path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    one, other = await open_with(path, "a"), await open_with(path)
    assert await other.dead(1_000) == ()
    now[0] += 0.33
    assert await other.dead(1_000) == ()
    now[0] += 100  # both were stopped, or a third held the lock
    assert await other.dead(1_000) == ()
    await one.extend("a")
    now[0] += 0.33
    assert await other.dead(1_000) == ()
    now[0] += 100
    assert await other.dead(1_000) == ()
    now[0] += 100
    assert await other.dead(1_000) == ("a",)
    await one.close()
    await other.close()


async def test_an_engine_is_judged_by_its_own_lease(path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    one, other = await open_with(path), await open_with(path)
    await one.join(1, "slow", 6_000)
    await one.join(1, "quick", 1_000)
    assert await other.dead(2_000) == ()
    now[0] += 0.5
    assert await other.dead(2_000) == ()
    for _ in range(2):
        now[0] += 2.7
        assert await other.dead(2_000) == ("quick",)
    now[0] += 0.1
    assert await other.dead(2_000) == ("quick", "slow")
    await one.close()
    await other.close()


async def test_a_store_that_was_closed_leaves_its_engines_to_the_others(path):
    one, other = await open_with(path, "a", "b"), await open_with(path)
    await one.leave(2, "a")
    await one.close()
    assert await other.dead(HOUR) == ("b",)
    assert not await other.extend("a")
    await other.close()


async def test_files_that_a_killed_process_left_beside_it_are_removed_by_the_next_to_join(path):
    living = await open_with(path, "living")
    body = """
    for engine in ("dead", "buried"):
        await store.join(1, engine)
    print("here", flush=True)
    sys.stdin.read()
    """
    child = run_child(path, body, wait=False)
    assert child.stdout.readline() == "here\n"
    held = sorted(file.name for file in path.parent.glob("x.db-[be]*"))
    living._clear_away = lambda engine: None  # it is killed before this
    await living.bury(2, "buried")
    await (await open_with(path, "one")).close()
    assert set(held) <= {file.name for file in path.parent.glob("x.db-[be]*")}, "its lock is held"
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    (path.parent / "x.db-bell-unknown").touch()
    await (await open_with(path, "two")).close()
    left = {file.name for file in path.parent.glob("x.db-[be]*")}
    assert {one for one in left if "living" in one} == {"x.db-engine-living", "x.db-bell-living"}
    assert not {one for one in left if "buried" in one or "unknown" in one}
    assert "x.db-engine-dead" in left, "it is to be found dead"
    assert await living.extend("living")
    await living.close()


async def test_an_engine_joins_once(path):
    one, other = await open_with(path, "a"), await open_with(path)
    for store in (one, other):
        with pytest.raises(StoreError, match="used once"):
            await store.join(2, "a")
    await one.leave(2, "a")
    with pytest.raises(StoreError, match="used once"):
        await one.join(3, "a")
    assert await other.dead(HOUR) == ()
    await one.close()
    await other.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_child_holds_no_lock_and_cannot_use_the_store(path):
    store = await open_with(path, "a")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            store.extend("a").send(None)
        except StoreError as error:
            os.write(writing, b"refused" if "before a fork" in str(error) else b"?")
        signal.pause()
    try:
        other = await open_with(path)
        assert os.read(reading, 100) == b"refused"
        store.sever("a")
        assert await other.dead(HOUR) == ("a",), "the child, which lives, has closed its copy of the lock"
        await other.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)  # noqa: ASYNC222  # it was killed
        os.close(reading)
        os.close(writing)
    await store.close()


# ---------------------------------------------------------------- who is rung


async def is_rung(store, engine):
    """Whether `wait_for_work` returns without anything else to happen."""
    waiting = asyncio.ensure_future(store.wait_for_work(engine))
    for _ in range(20):
        await asyncio.sleep(0)
    rung = waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return rung


async def test_work_rings_those_who_host_it_but_not_who_made_it(path):
    one, other = await open_with(path, "a", "b"), await open_with(path, "c")
    await other.join(1, "idle")
    for store, engine in ((one, "a"), (one, "b"), (other, "c")):
        await is_rung(store, engine)  # of registering, perhaps
    await one.admit(5, [admission("r")])
    assert [await is_rung(one, "a"), await is_rung(one, "b"), await is_rung(other, "c")] == [True] * 3
    assert not await is_rung(other, "idle")
    assert not await is_rung(one, "a"), "once is enough"
    await one.claim(5, Request("a", 0, POOLS, 1))
    assert not await is_rung(other, "c")
    await one.admit(6, [admission("later", due=500)], Request("a", 1, POOLS, 1))
    assert await is_rung(other, "c"), "somebody has to know when it falls due"
    assert not await is_rung(one, "a")
    await one.close()
    await other.close()


async def test_news_rings_the_owner(path):
    one, other = await open_with(path, "a"), await open_with(path)
    await one.admit(5, [admission("r")], Request("a", 0, POOLS, 1))
    await is_rung(one, "a")
    await other.cancel(6, ["r"], "user")
    assert await is_rung(one, "a")
    await one.close()
    await other.close()


async def test_a_cancelled_caller_has_rung_all_the_same(path):
    one, other = await open_with(path, "a"), await open_with(path)
    await is_rung(one, "a")
    admitting = asyncio.ensure_future(other.admit(5, [admission("r")]))
    await asyncio.sleep(0)
    admitting.cancel()
    await asyncio.gather(admitting, return_exceptions=True)
    await other.runs(RunQuery())
    assert await is_rung(one, "a")
    await one.close()
    await other.close()


async def test_a_long_path_has_bells_too(tmp_path):
    directory = tmp_path / ("long" * 40)
    directory.mkdir()
    one, other = await open_with(directory / "x.db", "a"), await open_with(directory / "x.db")
    await is_rung(one, "a")
    assert not await is_rung(one, "a")
    await other.admit(5, [admission("r")])
    assert await is_rung(one, "a")
    assert len(list(directory.glob("*-bell-*"))) == 1
    await one.close()
    await other.close()
    assert [file.name for file in directory.iterdir() if "bell" in file.name] == []


async def test_without_bells_the_others_writes_are_seen(path, monkeypatch):
    naps, runs = [], iter("rs")

    async def nap(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            await other.admit(5, [admission(next(runs))])

    one, other = await open_without_bells(path, monkeypatch, "a", "b"), await open_with(path)
    assert not list(path.parent.glob("*-bell-*"))
    await one.wait_for_work("a")  # the first time, to be sure
    monkeypatch.setattr(doorbell.asyncio, "sleep", nap)
    await one.wait_for_work("a")
    assert len(naps) == 3
    await one.extend("a")  # what it writes itself is no news
    naps.clear()
    await one.wait_for_work("a")
    assert len(naps) == 3
    await one.admit(6, [admission("t")], Request("b", 0, POOLS, 0))
    await one.wait_for_work("a")  # but what it makes for another engine is
    await one.close()
    await other.close()


async def open_without_bells(path, monkeypatch, *engines):
    with monkeypatch.context() as patch:
        patch.setattr(doorbell, "_PATH_BYTES", 10)
        return await open_with(path, *engines)


# ---------------------------------------------------------------- who waits, and what a kill leaves


async def test_two_processes_take_turns(path):
    store = await open_with(path, "a")
    body = """
    for n in range(200):
        await store.admit(5, [Admission(event=NewEvent(f"b{n}", "other", 5, b"1"), registry=1)])
    await store.close()
    """
    child = run_child(path, body, wait=False)
    for n in range(200):
        await store.admit(5, [admission(f"r{n}")])
    output, _ = child.communicate(timeout=30)
    assert child.returncode == 0, output
    assert len(await store.runs(RunQuery(limit=1_000))) == 200
    (new,) = (await store.admit(5, [admission("last")])).answers
    assert new.seq == 401, "every event has a sequence of its own"
    await store.close()


async def test_a_kill_in_the_middle_leaves_what_was_acknowledged(path):
    body = """
    await store.join(1, "b")
    await store.register(1, "b", [Registration("app/f", "1", b"{}")])
    n = 0
    while True:
        plans = (Plan("app/f", f"r{n}", 5),)
        await store.admit(5, [Admission(event=NewEvent(f"e{n}", "made", 5, b"1"), plans=plans, registry=1)])
        print(n, flush=True)
        n += 1
    """
    child = run_child(path, body, wait=False)
    for _ in range(50):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    acknowledged = 50 + len(child.stdout.read().splitlines())
    child.wait()
    child.stdin.close()
    child.stdout.close()
    store = await open_with(path, "a")
    await store.check()
    assert acknowledged <= len(await store.runs(RunQuery(limit=10**6))) <= acknowledged + 1
    assert await store.dead(HOUR) == ("b",)
    await store.close()


def test_a_store_that_was_forgotten_does_not_keep_the_interpreter(path):
    run_child(path, "await store.join(1, 'b'); globals()['kept'] = store; print('end')")


async def test_what_a_dead_engine_owned_goes_on_in_another_process(path):
    body = """
    await store.join(1, "b")
    await store.register(1, "b", [Registration("app/f", "1", b"{}")])
    plans = tuple(Plan("app/f", f"r{n}", 5) for n in range(3))
    admission = Admission(event=NewEvent("e", "made", 5, b"1"), plans=plans, registry=1)
    await store.admit(5, [admission], Request("b", 0, frozenset({"app/f"}), 3))
    os._exit(0)
    """
    run_child(path, body)
    store = await open_with(path, "a")
    assert await store.dead(HOUR) == ("b",)
    assert await store.bury(6, "b") == (False, POOLS)
    claimed = (await store.claim(7, Request("a", 0, POOLS, 9))).deliveries
    assert [(d.history.run.id, d.history.run.gen) for d in claimed] == [("r0", 2), ("r1", 2), ("r2", 2)]
    commit = Commit("r0", 2, timers=(Timer("t", 50),), then=Park("a"))
    assert (await store.commit(8, "b", [commit])).answers != (await store.commit(8, "a", [commit])).answers
    await store.close()


async def test_nothing_holds_up_the_loop(path, no_blocking):
    one, other = await open_with(path, "a", "b"), await open_with(path)
    await one.admit(5, [admission("r")])
    await one.wait_for_work("b")
    await one.leave(6, "a")
    one.sever("b")
    assert await other.dead(HOUR) == ("b",)
    await other.bury(7, "b")
    await one.close()
    await other.close()
