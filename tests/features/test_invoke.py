"""`step.invoke` and `engine.invoke`: another function's result, or what became of it."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


@durable.function("child")
async def child(ctx):
    return {"got": ctx.event.data}


@durable.function("failing", retries=0)
async def failing(ctx):
    raise ValueError("no luck")


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "3h")
    return "awake"


def parent(**call):
    """A function that returns what its invocation returned, or the name of its error."""

    @durable.function("parent")
    async def parent(ctx):
        try:
            return await ctx.step.invoke("call", **call)
        except durable.StepError as error:
            return [error.name, error.step_id]

    return parent


async def test_the_childs_result_comes_back(store):
    p = parent(function=child, data={"n": 1})
    async with TestEngine([p, child], store=store, max_warm=0) as t:
        assert await t.invoke(p) == {"got": {"n": 1}}


async def test_a_function_can_be_named_by_its_id(store):
    p = parent(function="child")
    async with TestEngine([p, child], store=store) as t:
        assert await t.invoke(p) == {"got": {}}


async def test_the_childs_event_is_function_invoked_with_the_callers_data_alone(store):
    seen = []

    @durable.function("look")
    async def look(ctx):
        seen.append((ctx.event.name, ctx.event.data))

    p = parent(function=look, data={"n": 1})
    async with TestEngine([p, look], store=store) as t:
        await t.invoke(p)
    assert seen == [("durable/function.invoked", {"n": 1})]


async def test_the_child_is_a_run_of_its_own_that_names_its_parent(store):
    p = parent(function=child)
    async with TestEngine([p, child], store=store) as t:
        run = await t.start(p)
        await run.result()
        (one,) = await t.runs(child)
        assert one.parent_id == run.id
        assert one.id != run.id


async def test_the_childs_triggers_do_not_matter(store):
    @durable.function("picky", trigger=durable.on("never/sent", if_="event.data.n > 100"))
    async def picky(ctx):
        return "ran"

    p = parent(function=picky, data={"n": 1})
    async with TestEngine([p, picky], store=store) as t:
        assert await t.invoke(p) == "ran"


async def test_the_child_runs_once_however_often_the_parent_is_replayed(store):
    calls = []

    @durable.function("count")
    async def count(ctx):
        calls.append(1)

    @durable.function("parent")
    async def p(ctx):
        await ctx.step.invoke("call", function=count)
        await ctx.step.sleep("nap", "1h")
        await ctx.step.invoke("call", function=count)
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([p, count], store=store, max_warm=0) as t:
        await t.invoke(p)
    assert len(calls) == 2


async def test_a_child_that_failed_raises_its_error(store):
    p = parent(function=failing)
    async with TestEngine([p, failing], store=store) as t:
        assert await t.invoke(p) == ["ValueError", "call"]


async def test_an_uncaught_failure_of_the_child_fails_the_parent_without_retry(store):
    passes = []

    @durable.function("parent")
    async def p(ctx):
        passes.append(ctx.attempt)
        await ctx.step.invoke("call", function=failing)

    async with TestEngine([p, failing], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(p)
        assert len((await t.runs(failing)).items) == 1
    assert caught.value.error.name == "ValueError"
    assert set(passes) == {0}


async def test_a_child_that_was_cancelled_raises_invoke_cancelled(store):
    p = parent(function=sleeping)
    async with TestEngine([p, sleeping], store=store) as t:
        run = await t.start(p)
        await t.until_idle()
        (one,) = await t.runs(sleeping)
        await one.cancel()
        assert await run.result() == ["InvokeCancelled", "call"]


async def test_a_time_out_raises_invoke_timeout_and_the_child_goes_on(store):
    p = parent(function=sleeping, timeout="1h")
    async with TestEngine([p, sleeping], store=store) as t:
        began = t.now
        assert await t.invoke(p) == ["InvokeTimeout", "call"]
        assert (t.now - began).total_seconds() == 3600
        (one,) = await t.runs(sleeping)
        assert await one.result() == "awake"


async def test_cancelling_the_parent_lets_the_child_go_on(store):
    p = parent(function=sleeping)
    async with TestEngine([p, sleeping], store=store) as t:
        run = await t.start(p)
        await t.until_idle()
        await run.cancel()
        await t.until_idle()
        (one,) = await t.runs(sleeping)
        assert one.status == "waiting"
        assert await one.result() == "awake"


async def test_an_unknown_function_fails_the_step(store):
    p = parent(function="nobody")
    async with TestEngine([p], store=store) as t:
        assert await t.invoke(p) == ["LookupError", "call"]


async def test_a_child_that_never_ran_raises_invoke_skipped(store):
    @durable.function("once", idempotency="event.data.key")
    async def once(ctx):
        return "ran"

    @durable.function("parent")
    async def p(ctx):
        found = []
        for n in range(2):
            try:
                found.append(await ctx.step.invoke(f"call {n}", function=once, data={"key": "k"}))
            except durable.StepError as error:
                found.append(error.name)
        return found

    async with TestEngine([p, once], store=store) as t:
        assert await t.invoke(p) == ["ran", "InvokeSkipped"]


async def test_several_children_run_at_once(store):
    @durable.function("parent")
    async def p(ctx):
        return await asyncio.gather(
            *(ctx.step.invoke(f"call {n}", function=child, data={"n": n}) for n in range(5))
        )

    async with TestEngine([p, child], store=store, max_warm=0) as t:
        assert await t.invoke(p) == [{"got": {"n": n}} for n in range(5)]


async def test_a_child_may_invoke_in_its_turn(store):
    @durable.function("deep")
    async def deep(ctx):
        n = ctx.event.data["n"]
        return 0 if n == 0 else 1 + await ctx.step.invoke("deeper", function="deep", data={"n": n - 1})

    async with TestEngine([deep], store=store, max_warm=0) as t:
        assert await t.invoke(deep, {"n": 6}) == 6


async def test_a_parent_that_was_away_gets_the_result_all_the_same(store):
    p = parent(function=sleeping)
    async with TestEngine([p, sleeping], store=store) as t:
        run = await t.start(p)
        await t.until_idle()
    async with TestEngine([p, sleeping], store=store) as t:
        assert await (await t.get_run(run.id)).result() == "awake"


async def test_data_that_is_no_json_fails_the_step(store):
    p = parent(function=child, data={"x": object()})
    async with TestEngine([p, child], store=store) as t:
        name, step = await t.invoke(p)
        assert name in ("SerializationError", "EventRejected")
        assert step == "call"


async def test_engine_invoke_starts_and_waits(store):
    async with TestEngine([child, failing], store=store) as t:
        assert await t.invoke(child, {"n": 1}) == {"got": {"n": 1}}
        assert await t.invoke("child") == {"got": {}}
        with pytest.raises(durable.RunFailed):
            await t.invoke(failing)


async def test_engine_invoke_with_a_time_out(store):
    async with TestEngine([sleeping], store=store) as t:
        with pytest.raises(TimeoutError):
            await t.invoke(sleeping, timeout="1h")
        assert await t.invoke(sleeping, timeout="4h") == "awake"


async def test_engine_invoke_of_an_unknown_function_is_a_lookup_error(store):
    async with TestEngine([child], store=store) as t:
        with pytest.raises(LookupError, match="nobody"):
            await t.invoke("nobody")


async def test_engine_invoke_within_a_step_waits_for_the_other_run(store):
    @durable.function("caller")
    async def caller(ctx):
        return await ctx.step.run("call", ctx.engine.invoke, child)

    async with TestEngine([caller, child], store=store) as t, asyncio.timeout(10):
        assert await t.invoke(caller) == {"got": {}}
