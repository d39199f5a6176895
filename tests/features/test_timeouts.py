"""`Timeouts(start, finish)`: runs that take too long are cancelled, at the deadline itself."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import durable
from durable import Event, Timeouts
from durable.testing import TestEngine


def sleeper(timeouts, nap="1d", **config):
    @durable.function("sleeper", trigger="begin", timeouts=timeouts, **config)
    async def sleeper(ctx):
        await ctx.step.sleep("nap", nap)
        return "awake"

    return sleeper


async def is_cancelled(run):
    return (await run.refresh()).status == "cancelled"


async def test_finish_cancels_at_the_deadline(store):
    async with TestEngine([f := sleeper(Timeouts(finish="2h"))], store=store) as t:
        run = await t.start(f)
        await t.advance("119m")
        assert (await run.refresh()).status == "waiting"
        await t.advance("1m")
        assert (await run.refresh()).status == "cancelled"
        assert run.ended_at == datetime(2030, 1, 1, 2, tzinfo=UTC)


async def test_a_run_that_finishes_in_time_is_left_alone(store):
    async with TestEngine([f := sleeper(Timeouts(start="1h", finish="2h"), nap="1h")], store=store) as t:
        run = await t.start(f)
        assert await run.result() == "awake"
        await t.advance("5h")
        assert (await run.refresh()).status == "completed"


async def test_it_is_cancelled_not_failed(store):
    calls = []

    async def failed(ctx):
        calls.append(1)

    f = sleeper(Timeouts(finish="1h"), on_failure=failed)
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.advance("2h")
        assert (await run.refresh()).status == "cancelled"
        names = {one.name async for one in t.events() if one.data.get("run_id") == run.id}
    assert calls == []
    assert names == {"durable/function.finished", "durable/function.cancelled"}


async def test_finish_counts_from_the_first_execution(store):
    async with TestEngine([sleeper(Timeouts(finish="2h"))], store=store) as t:
        await t.send(Event("begin", ts=t.now + timedelta(hours=10)))
        await t.advance("11h")
        (run,) = await t.runs()
        assert run.status == "waiting"
        await t.advance("1h")
        assert (await run.refresh()).status == "cancelled"


async def test_finish_holds_over_retries(store):
    calls = []

    async def fail():
        calls.append(1)
        raise ValueError

    @durable.function(
        "f", timeouts=Timeouts(finish="1h"), retries=20, backoff=durable.Backoff("25m", 1.0, jitter=0)
    )
    async def f(ctx):
        await ctx.step.run("one", fail)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.advance("1d")
        assert (await run.refresh()).status == "cancelled"
    assert len(calls) == 3


async def test_finish_survives_a_restart(store):
    f = sleeper(Timeouts(finish="2h"))
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    async with TestEngine([f], store=store, start="2030-01-01T03:00:00Z") as t:
        await t.until_idle()
        assert (await t.get_run(run.id)).status == "cancelled"


async def test_start_cancels_a_run_that_nobody_executes_in_time(store):
    f = sleeper(Timeouts(start="1h"))
    async with TestEngine([f], store=store):
        pass
    async with TestEngine([], store=store) as client:
        run = await client.start("sleeper")
    async with TestEngine([f], store=store, start="2030-01-01T02:00:00Z") as t:
        await t.until_idle()
        run = await t.get_run(run.id)
        assert run.status == "cancelled"
        assert run.started_at is None


async def test_start_does_not_count_once_the_run_has_started(store):
    async with TestEngine([f := sleeper(Timeouts(start="1h"))], store=store) as t:
        assert await t.invoke(f) == "awake"


async def test_start_counts_from_a_future_ts(store):
    async with TestEngine([sleeper(Timeouts(start="1h"))], store=store) as t:
        await t.send(Event("begin", ts=t.now + timedelta(hours=5)))
        await t.advance("6h")
        (run,) = await t.runs()
        assert run.status == "waiting"


async def test_start_holds_while_the_run_waits_for_a_place(store):
    release = asyncio.Event()

    async def hold():
        await release.wait()

    @durable.function("holder")
    async def holder(ctx):
        await ctx.step.run("hold", hold)

    f = sleeper(Timeouts(start="1h"))
    async with TestEngine([holder, f], store=store, max_concurrency=1) as t:
        first = await t.start(holder)
        run = await t.start(f)
        for _ in range(20):
            await asyncio.sleep(0)
        t._virtual.jump(t._virtual.now_ms() + 2 * 3_600_000)
        for _ in range(50):
            await asyncio.sleep(0)
        release.set()
        assert await first.result() is None
        await t.until_idle()
        assert (await run.refresh()).status == "cancelled"


async def test_a_callback_in_flight_at_the_deadline_may_finish_and_is_dropped(store, until):
    started, release, log = asyncio.Event(), asyncio.Event(), []

    async def work():
        started.set()
        await release.wait()
        log.append("finished")

    @durable.function("f", timeouts=Timeouts(finish="1h"))
    async def f(ctx):
        await ctx.step.run("work", work)
        await ctx.step.run("after", go_on)

    async def go_on():
        log.append("went on")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await started.wait()
        t._virtual.jump(t._virtual.now_ms() + 3_600_000)
        await until(lambda: is_cancelled(run))
        release.set()
        await t.until_idle()
    assert log == ["finished"]


async def test_a_rerun_has_to_start_in_time_too(store):
    f = sleeper(Timeouts(start="1h"))
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.cancel(run.id)
        await t.until_idle()
    async with TestEngine(store=store, start="2030-01-02T00:00:00Z") as t:  # here nobody executes it
        again = await t.rerun(run.id)
        await t.advance("59m")
        assert (await again.refresh()).status == "queued"
        await t.advance("1m")
        assert (await again.refresh()).status == "cancelled"
