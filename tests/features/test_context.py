"""The context: what a handler and its callbacks know of their run."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

import durable
from durable.testing import TestEngine


async def test_it_shows_run_event_function_and_engine(store):
    seen = {}

    @durable.function("f", trigger="e", name="A function")
    async def f(ctx):
        seen.update(
            event=ctx.event, events=ctx.events, run=ctx.run_id, function=ctx.function, engine=ctx.engine
        )

    async with TestEngine([f], store=store) as t:
        await t.send(durable.Event("e", {"n": 1}))
        await t.until_idle()
        (run,) = await t.runs()
    assert seen["event"].data == {"n": 1}
    assert seen["events"] == [seen["event"]]
    assert seen["run"] == run.id
    assert seen["function"] is f
    assert seen["function"].name == "A function"
    assert seen["engine"] is t


async def test_the_event_is_the_same_on_replay(store):
    seen = []

    @durable.function("f", trigger="e")
    async def f(ctx):
        seen.append((ctx.event, ctx.run_id))
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.send(durable.Event("e", {"n": 1}, user={"name": "u"}, v="3"))
        await t.advance("2h")
    assert len(seen) == 2
    assert seen[0] == seen[1]


async def test_current_finds_it_anywhere_below_the_handler(store):
    seen = []

    def in_thread():
        return durable.current().run_id

    async def in_callback():
        return durable.current().run_id

    async def deeper():
        return durable.current()

    @durable.function("f")
    async def f(ctx):
        assert durable.current() is ctx
        assert await deeper() is ctx
        assert await asyncio.create_task(deeper()) is ctx
        assert await asyncio.gather(deeper(), deeper()) == [ctx, ctx]
        seen.append(await ctx.step.run("callback", in_callback))
        seen.append(await ctx.step.run("thread", in_thread))

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await run.result()
    assert seen == [run.id, run.id]


async def test_current_outside_of_a_run_is_a_lookup_error(store):
    with pytest.raises(LookupError, match="current"):
        durable.current()

    @durable.function("f")
    async def f(ctx): ...

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
        with pytest.raises(LookupError):
            durable.current()


async def test_current_is_that_of_each_of_many_runs(store):
    @durable.function("f")
    async def f(ctx):
        async def look():
            await asyncio.sleep(0)
            return durable.current().event.data["n"]

        found = await asyncio.gather(*(ctx.step.run(f"s{i}", look) for i in range(3)))
        return [ctx.event.data["n"], *found]

    async with TestEngine([f], store=store) as t:
        runs = [await t.start(f, {"n": n}) for n in range(10)]
        assert [await run.result() for run in runs] == [[n] * 4 for n in range(10)]


async def test_the_attempt_is_that_of_each_parallel_step(store):
    seen = {"a": [], "b": [], "c": []}

    @durable.function("f", retries=5)
    async def f(ctx):
        async def work(name, failures):
            await asyncio.sleep(0)
            seen[name].append((ctx.attempt, ctx.max_attempts))
            if len(seen[name]) <= failures:
                raise ValueError

        await asyncio.gather(
            ctx.step.run("a", work, "a", 0),
            ctx.step.options(retries=2).run("b", work, "b", 2),
            ctx.step.run("c", work, "c", 1),
        )
        return [ctx.attempt, ctx.max_attempts]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == [0, 6]
    assert seen == {"a": [(0, 6)], "b": [(0, 3), (1, 3), (2, 3)], "c": [(0, 6), (1, 6)]}


async def test_the_attempt_in_a_worker_thread(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        def work():
            seen.append(ctx.attempt)
            if len(seen) < 3:
                raise ValueError

        await ctx.step.run("work", work)

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert seen == [0, 1, 2]


async def test_context_variables_of_the_handler_reach_its_callbacks(store):
    tenant = contextvars.ContextVar("tenant")

    async def in_callback():
        return tenant.get()

    @durable.function("f")
    async def f(ctx):
        tenant.set(ctx.event.data["tenant"])
        first = await ctx.step.run("callback", in_callback)
        both = await asyncio.gather(ctx.step.run("a", in_callback), ctx.step.run("b", tenant.get))
        return [first, *both]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f, {"tenant": "acme"}) == ["acme"] * 3


async def test_a_callbacks_context_variables_do_not_leak_into_the_handler(store):
    marker = contextvars.ContextVar("marker", default="untouched")

    async def touch():
        marker.set("touched")

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("touch", touch)
        return marker.get()

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "untouched"


async def test_evicting_is_true_while_an_eviction_unwinds_the_handler(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        try:
            await ctx.step.sleep("nap", "1h")
        finally:
            seen.append(ctx.evicting)

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert seen == [True, False]


async def test_a_warm_run_is_not_unwound(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        seen.append("pass")
        await ctx.step.sleep("nap", "30s")
        seen.append(ctx.evicting)

    async with TestEngine([f], store=store, warm_for="60s") as t:
        await t.invoke(f)
    assert seen == ["pass", False]


async def test_a_run_that_waits_longer_than_warm_for_is_evicted(store):
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        await ctx.step.sleep("nap", "61s")

    async with TestEngine([f], store=store, warm_for="60s") as t:
        await t.invoke(f)
    assert len(passes) == 2


async def test_eviction_does_not_look_like_an_error_to_except_exception(store):
    caught = []

    @durable.function("f")
    async def f(ctx):
        try:
            await ctx.step.sleep("nap", "1h")
        except Exception as error:
            caught.append(error)
            raise

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert caught == []


async def test_what_a_handler_does_while_it_is_evicted_is_not_recorded(store):
    calls = []

    async def compensate():
        calls.append(1)

    @durable.function("f")
    async def f(ctx):
        try:
            await ctx.step.sleep("nap", "1h")
        except BaseException:
            await ctx.step.run("compensate", compensate)
            return "swallowed"
        return "slept"

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        assert await run.result() == "slept"
        assert [s.id for s in await run.steps()] == ["nap"]
    assert calls == []


async def test_an_eviction_stops_gather_with_return_exceptions(store):
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        return await asyncio.gather(
            ctx.step.sleep("a", "1h"), ctx.step.sleep("b", "2h"), return_exceptions=True
        )

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [None, None]
    assert len(passes) == 3
