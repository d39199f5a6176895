"""What befalls an engine: its own work stops, or its store refuses for a while."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

import durable
from durable.testing import TestEngine


async def echo(value=None):
    return value


@durable.function("quick", trigger="e")
async def quick(ctx):
    return await ctx.step.run("one", echo, ctx.event.data.get("n"))


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "1h")
    return "awake"


# ---------------------------------------------------------------- an engine whose own work has stopped


class Broken:
    """A store with a fault of its own: not a `StoreError`, after which the engine goes on, but a bug."""

    def __init__(self, inner, door):
        self._inner = inner
        self._door = door
        self.broken = False

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if name != self._door:
            return found

        async def call(*args):
            if self.broken:
                raise RuntimeError("a bug in the store")
            return await found(*args)

        return call


@pytest.mark.parametrize("door", ["claim", "commit"])
async def test_nobody_waits_for_an_engine_whose_own_work_has_stopped(store, door, caplog):
    broken = Broken(store, door)
    async with TestEngine([quick, sleeping], store=broken) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        waiting = asyncio.create_task(durable.Engine._result(t, run, None))  # without moving the clock
        broken.broken = True
        with pytest.raises(durable.DurableError, match=r"has failed .*a bug in the store"):
            await t.advance("1h")
        with pytest.raises(durable.DurableError, match="leave it and enter it again"):
            await waiting
        with pytest.raises(durable.DurableError, match="leave it and enter it again") as caught:
            await t.send(durable.Event("e"))
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "the engine has failed" in caplog.text
        broken.broken = False
    async with TestEngine([sleeping], store=store, start="2030-01-02T00:00:00Z") as t:
        assert await (await t.get_run(run.id)).result() == "awake"


async def test_a_result_that_did_not_come_in_time_says_of_which_run(store_url):
    async with durable.Engine(store_url, functions=[sleeping]) as engine:
        run = await engine.start(sleeping)
        with pytest.raises(TimeoutError, match=f"run {run.id} of 'sleeping' did not end within '1ms'"):
            await run.result("1ms")


class Outage:
    """A store that refuses to admit anything, so many times."""

    def __init__(self, inner):
        self._inner = inner
        self.left = 0

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def admit(self, *args):
        if self.left:
            self.left -= 1
            raise durable.StoreError("the disk is full")
        return await self._inner.admit(*args)


async def test_an_engine_with_cron_lines_outlives_any_outage_of_its_store(store, monkeypatch):
    monkeypatch.setattr("durable._executor.patience._PAUSE_SECONDS", 0)

    @durable.function("tick", trigger=durable.cron("* * * * *"))
    async def tick(ctx): ...

    outage = Outage(store)
    async with TestEngine([tick], store=outage) as t, asyncio.timeout(60):
        await t.advance("1m")
        outage.left = sys.getrecursionlimit() + 500
        await t.advance("1m")
        assert outage.left == 0
        assert [run.event.data["scheduled_at"][14:16] async for run in t.runs(tick)] == ["02", "01"]


async def test_leaving_does_not_wait_for_a_task_of_the_engine_that_goes_on_for_ever(caplog, monkeypatch):
    monkeypatch.setattr("durable._executor.service._TASKS_SECONDS", 0.01)
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async with durable.Engine("memory://") as engine:
        task = asyncio.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        engine._service.tasks.append(task)
    assert "stubborn" in caplog.text
    release.set()
    await task


class Refusing:
    """A store one of whose doors refuses its first calls, once it was told how many."""

    def __init__(self, store, door):
        self._store, self._door, self.refusals = store, door, 0

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name != self._door:
            return found

        async def call(*args):
            if self.refusals:
                self.refusals -= 1
                raise durable.StoreError("not now")
            return await found(*args)

        return call


async def test_an_evicted_run_goes_on_though_it_cannot_be_read_at_once(store, caplog):
    refusing = Refusing(store, "history")
    async with TestEngine([sleeping], store=refusing, max_warm=0) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        refusing.refusals = 1
        await t.advance("1h")
        assert (await run.refresh()).status == "completed"
    assert "an evicted run cannot be read (not now); trying again" in caplog.text


async def test_an_event_is_sent_though_the_registry_cannot_be_read_at_once(store, caplog):
    @durable.function("late")
    async def late(ctx):
        await ctx.step.sleep("nap", "1h")
        await ctx.step.send_event("send", durable.Event("new"))

    @durable.function("new", trigger="new")
    async def new(ctx):
        pass

    refusing = Refusing(store, "registry")
    async with TestEngine([late], store=refusing) as t:
        run = await t.start(late)
        await t.until_idle()
        async with TestEngine([new], store=store):
            pass
        refusing.refusals = 1
        await t.advance("1h")
        assert (await run.refresh()).status == "completed"
        assert len(await t.runs("new")) == 1
    assert "the registry cannot be read (not now); trying again" in caplog.text


async def test_cron_starts_though_the_registry_cannot_be_read_at_once(store, caplog):
    @durable.function("tick", trigger=durable.cron("0 * * * *"))
    async def tick(ctx):
        pass

    refusing = Refusing(store, "registry")
    t = TestEngine([tick], store=refusing)
    await t.__aenter__()
    refusing.refusals = 1  # that of entering is over; the chores have not begun
    await t.advance("61m")
    assert len(await t.runs("tick")) == 1
    await t.__aexit__(None, None, None)
    assert "cron lines cannot be looked up (not now); trying again" in caplog.text


async def test_other_engines_are_heard_though_listening_fails_once(store, caplog):
    refusing = Refusing(store, "wait_for_work")
    refusing.refusals = 1
    async with durable.Engine(refusing, functions=[quick]) as one, durable.Engine(store) as other:
        await other.send(durable.Event("e", {"n": 1}))
        run = (await other.runs()).items[0]
        assert await run.result("10s") == 1
        assert one
    assert "other engines cannot be heard (not now); trying again" in caplog.text
