"""`step.timeout`: a durable deadline around steps."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


async def echo(value):
    return value


async def test_a_sleep_that_is_longer_than_the_limit_ends_in_time_out_error(store):
    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "1h"):
                await ctx.step.sleep("nap", "2h")
        except TimeoutError:
            return "too late"

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) == "too late"
        assert (t.now - began).total_seconds() == 3600


async def test_a_block_that_ends_in_time_raises_nothing_and_leaves_no_timer(store):
    @durable.function("f")
    async def f(ctx):
        async with ctx.step.timeout("limit", "7d"):
            await ctx.step.sleep("nap", "1h")
        await ctx.step.sleep("another", "1h")
        return "in time"

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) == "in time"
        assert (t.now - began).total_seconds() == 7200


async def test_the_deadline_survives_a_restart(store):
    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "10h"):
                await ctx.step.sleep("nap", "30h")
        except TimeoutError:
            return "too late"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.advance("6h")
    async with TestEngine([f], store=store, start="2030-01-01T07:00:00Z") as t:
        assert await (await t.get_run(run.id)).result() == "too late"
        assert t.now.hour == 10


async def test_several_steps_share_one_limit(store):
    done = []

    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "150m"):
                for n in range(5):
                    await ctx.step.sleep(f"nap {n}", "1h")
                    done.append(n)
        except TimeoutError:
            return sorted(set(done))

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [0, 1]


async def test_a_limit_that_expired_is_not_awaited_again_on_replay(store):
    passes = []

    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "1h"):
                await ctx.step.sleep("nap", "9h")
        except TimeoutError:
            passes.append("expired")
        await ctx.step.sleep("after", "1h")
        return "done"

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) == "done"
        assert (t.now - began).total_seconds() == 7200
    assert passes == ["expired", "expired"]


async def test_it_holds_around_parallel_steps(store):
    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "1h"):
                await asyncio.gather(ctx.step.sleep("a", "30m"), ctx.step.sleep("b", "3h"))
        except TimeoutError:
            return "too late"

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == "too late"


async def test_nested_limits_expire_each_at_its_own_time(store):
    @durable.function("f")
    async def f(ctx):
        log = []
        async with ctx.step.timeout("outer", "5h"):
            try:
                async with ctx.step.timeout("inner", "1h"):
                    await ctx.step.sleep("a", "9h")
            except TimeoutError:
                log.append("inner")
            try:
                await ctx.step.sleep("b", "1h")
            finally:
                log.append("b")
        return log

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == ["inner", "b"]


async def test_an_outer_limit_ends_an_inner_block(store):
    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("outer", "1h"), ctx.step.timeout("inner", "5h"):
                await ctx.step.sleep("a", "9h")
        except TimeoutError as error:
            return "outer" in str(error)

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) is True


async def test_another_error_inside_goes_on(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        async with ctx.step.timeout("limit", "1h"):
            raise ValueError("mine")

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    assert caught.value.error.name == "ValueError"


async def test_an_uncaught_time_out_is_the_handlers_own_error(store):
    attempts = []

    @durable.function("f", retries=1)
    async def f(ctx):
        attempts.append(ctx.attempt)
        async with ctx.step.timeout("limit", "1h"):
            await ctx.step.sleep("nap", "9h")

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    assert caught.value.error.name == "TimeoutError"


async def test_a_wait_inside_of_it_times_out(store):
    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "7d"):
                await ctx.step.wait_for_event("reply", event="mail/reply", timeout="30d")
        except TimeoutError:
            return "no reply"

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) == "no reply"
        assert (t.now - began).days == 7


async def test_a_callback_in_flight_is_cancelled_at_the_deadline(store):
    cancelled, started = [], asyncio.Event()

    async def hang():
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @durable.function("f")
    async def f(ctx):
        try:
            async with ctx.step.timeout("limit", "1h"):
                await ctx.step.run("hang", hang)
        except TimeoutError:
            return "too late"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await started.wait()
        t._virtual.jump(t._virtual.now_ms() + 3_600_000)
        assert await run.result() == "too late"
    assert cancelled == [1]


async def test_its_name_is_a_step_of_the_run(store):
    @durable.function("f")
    async def f(ctx):
        async with ctx.step.timeout("limit", "1h"):
            await ctx.step.run("one", echo, 1)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await run.result()
        assert {(s.id, s.kind) for s in await run.steps()} >= {("limit", "timeout"), ("one", "run")}


async def test_a_limit_beyond_the_longest_sleep_fails(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            async with ctx.step.timeout("limit", "400d"):
                pass
        return caught.value.name

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "LimitError"
