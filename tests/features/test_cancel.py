"""Cancelling runs: at once in the store, in order in the process."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "1d")
    return "awake"


async def has_status(run, status):
    return (await run.refresh()).status == status


class Callback:
    """A callback that hangs until it is let go, and notes how it ended."""

    def __init__(self):
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = None

    async def __call__(self):
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "finished"
        return "result"


async def test_a_waiting_run_is_cancelled_at_once(store):
    async with TestEngine([sleeping], store=store) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        await t.cancel(run.id)
        assert (await run.refresh()).status == "cancelled"
        assert run.waiting_for == []


async def test_the_result_of_a_cancelled_run_raises_run_cancelled(store):
    async with TestEngine([sleeping], store=store) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        await run.cancel()
        with pytest.raises(durable.RunCancelled) as caught:
            await run.result()
    assert caught.value.run_id == run.id


async def test_whoever_waits_for_the_result_is_told(store, until):
    async with durable.Engine(store, functions=[sleeping]) as engine:
        run = await engine.start(sleeping)
        waiting = asyncio.create_task(run.result("10s"))
        await until(lambda: has_status(run, "waiting"))
        await engine.cancel(run.id)
        with pytest.raises(durable.RunCancelled):
            await waiting


async def test_a_cancelled_run_never_goes_on(store):
    async with TestEngine([sleeping], store=store) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        await run.cancel()
        await t.advance("2d")
        assert (await run.refresh()).status == "cancelled"
        assert run.output is None


async def test_a_run_that_never_started_is_cancelled(store):
    async with TestEngine([sleeping], store=store) as t:
        pass
    async with TestEngine([], store=store) as client:
        run = await client.start("sleeping")
        await client.cancel(run.id)
        assert (await run.refresh()).status == "cancelled"
    async with TestEngine([sleeping], store=store) as t:
        await t.until_idle()
        run = await t.get_run(run.id)
        assert run.status == "cancelled"
        assert run.started_at is None


async def test_a_delayed_run_is_cancelled_before_its_start(store):
    @durable.function("f", trigger="e")
    async def f(ctx):
        raise AssertionError

    async with TestEngine([f], store=store) as t:
        await t.send(durable.Event("e", ts=1_893_456_000_000 + 3_600_000))
        (run,) = await t.runs()
        await run.cancel()
        await t.advance("2h")
        assert (await run.refresh()).status == "cancelled"


async def test_cancelling_a_run_that_has_ended_does_nothing(store):
    @durable.function("quick")
    async def quick(ctx):
        return 1

    async with TestEngine([quick], store=store) as t:
        run = await t.start(quick)
        await run.result()
        await t.cancel(run.id)
        assert (await run.refresh()).status == "completed"
        assert await run.result() == 1


async def test_cancelling_twice_does_nothing_more(store):
    async with TestEngine([sleeping], store=store) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        await run.cancel()
        await run.cancel()
        await t.until_idle()
        assert (await run.refresh()).status == "cancelled"
        assert len((await t.events("durable/function.cancelled")).items) == 1


async def test_an_unknown_run_is_a_lookup_error(store):
    async with TestEngine([sleeping], store=store) as t:
        with pytest.raises(LookupError, match="nobody"):
            await t.cancel("nobody")


async def test_a_callback_in_flight_may_finish_and_its_result_is_dropped(store):
    callback, after = Callback(), []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("two", remember, await ctx.step.run("one", callback))

    async def remember(what):
        after.append(what)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await callback.started.wait()
        await run.cancel()
        assert (await run.refresh()).status == "cancelled"
        for _ in range(50):
            await asyncio.sleep(0)
        assert callback.ended is None
        callback.release.set()
        await t.until_idle()
        assert callback.ended == "finished"
        assert after == []
        assert [s.status for s in await run.steps() if s.status == "completed"] == []


async def test_a_callback_in_flight_is_interrupted_where_that_is_asked_for(store):
    callback = Callback()

    @durable.function("f", on_cancel="interrupt")
    async def f(ctx):
        await ctx.step.run("one", callback)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await callback.started.wait()
        await run.cancel()
        await t.until_idle()
        assert callback.ended == "cancelled"
        assert (await run.refresh()).status == "cancelled"


async def test_no_further_step_starts(store):
    callback, calls = Callback(), []

    async def later():
        calls.append(1)

    @durable.function("f")
    async def f(ctx):
        try:
            await ctx.step.run("one", callback)
        finally:
            await ctx.step.run("two", later)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await callback.started.wait()
        await run.cancel()
        callback.release.set()
        await t.until_idle()
    assert calls == []


async def test_on_failure_is_not_called(store):
    calls = []

    async def failed(ctx):
        calls.append(1)

    @durable.function("f", on_failure=failed)
    async def f(ctx):
        await ctx.step.sleep("nap", "1d")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.cancel()
        await t.advance("2d")
    assert calls == []


async def test_a_run_that_backs_off_is_cancelled(store):
    calls = []

    async def fail():
        calls.append(1)
        raise ValueError

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("one", fail)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.cancel()
        await t.advance("1d")
    assert calls == [1]


async def test_a_warm_task_is_unwound(store):
    unwound = []

    @durable.function("f")
    async def f(ctx):
        try:
            await ctx.step.sleep("nap", "1d")
        finally:
            unwound.append(ctx.evicting)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.cancel()
        await t.until_idle()
        assert unwound == [True]


async def test_cancelled_from_a_client_in_another_engine(store):
    async with TestEngine([sleeping], store=store) as t, TestEngine([], store=store) as client:
        run = await t.start(sleeping)
        await t.until_idle()
        await client.cancel(run.id)
        assert (await run.refresh()).status == "cancelled"


async def test_its_name_is_free_for_others(store):
    @durable.function("waiter")
    async def waiter(ctx):
        got = await ctx.step.wait_for_signal("wait", signal="go", timeout="1d")
        return got.data

    async with TestEngine([waiter], store=store) as t:
        first = await t.start(waiter)
        await t.until_idle()
        await first.cancel()
        second = await t.start(waiter)
        await t.until_idle()
        assert await t.send_signal("go", 7) is True
        assert await second.result() == 7


async def test_a_callback_in_another_engine_is_interrupted(store):
    callback = Callback()

    @durable.function("f", on_cancel="interrupt")
    async def f(ctx):
        await ctx.step.run("one", callback)

    async with durable.Engine(store, functions=[f]), durable.Engine(store) as client:
        run = await client.start("f")
        await callback.started.wait()
        await client.cancel(run.id)
        with pytest.raises(durable.RunCancelled):
            await run.result("10s")
        while callback.ended is None:  # noqa: ASYNC110 - the news travels
            await asyncio.sleep(0.001)
    assert callback.ended == "cancelled"


# ---------------------------------------------------------------- who waits for the result


@pytest.mark.parametrize("asked", ["before", "after"])
@pytest.mark.parametrize("by", ["run.cancel", "cancel_runs", "cancel_on"])
async def test_a_result_is_told_of_a_cancellation_while_a_callback_is_in_flight(store, until, by, asked):
    callback = Callback()

    @durable.function("f", cancel_on=durable.CancelOn("stop"))
    async def f(ctx):
        await ctx.step.run("call", callback)

    async with (
        durable.Engine(store, functions=[f]) as engine,
        asyncio.timeout(4),
    ):  # it looks by itself after 5
        run = await engine.start(f)
        await callback.started.wait()
        waiting = asyncio.create_task(run.result())
        await asyncio.sleep(0)
        if asked == "after":
            waiting.cancel()
        if by == "run.cancel":
            await (await engine.get_run(run.id)).cancel()
        elif by == "cancel_runs":
            assert await engine.cancel_runs(f) == 1
        else:
            await engine.send(durable.Event("stop"))
        with pytest.raises(durable.RunCancelled):
            await (run.result() if asked == "after" else waiting)
        assert callback.ended is None
        callback.release.set()
        await until(lambda: callback.ended == "finished")


async def test_a_handle_that_is_told_of_a_cancellation_knows_when_it_was(store, until):
    @durable.function("f", cancel_on=durable.CancelOn("stop"))
    async def f(ctx):
        await ctx.step.sleep("nap", "1d")

    async with durable.Engine(store, functions=[f]) as engine, asyncio.timeout(4):
        run = await engine.start(f)
        waiting = asyncio.create_task(run.result())
        other = await engine.get_run(run.id)
        await until(lambda: has_status(other, "waiting"))
        await engine.send(durable.Event("stop"))
        with pytest.raises(durable.RunCancelled):
            await waiting
        assert run.ended_at is not None
