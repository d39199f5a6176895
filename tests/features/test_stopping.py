"""A handler that is taken apart: because its run has failed, or for a time. What it catches does not keep it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import durable
from durable.testing import TestEngine


async def one():
    return 1


async def test_a_polling_loop_that_catches_everything_ends_at_the_limit_of_steps(store):
    @durable.function("f")
    async def f(ctx):
        while True:
            try:
                await ctx.step.run("check", one)
                await ctx.step.sleep("pause", "1m")
            except Exception:
                pass

    async with TestEngine([f], store=store, limits=durable.Limits(steps=9)) as t:
        run = await t.start(f)
        with pytest.raises(durable.RunFailed) as caught:
            await run.result()
        assert caught.value.error.name == "LimitError"
        assert 'await ctx.step.sleep("pause", "1m")' in caught.value.error.stack
        assert len(await run.steps()) == 9


async def test_a_run_that_is_too_large_calls_nothing_more(store):
    calls = []

    async def large():
        calls.append(1)
        return "x" * 600

    @durable.function("f")
    async def f(ctx):
        for _ in range(9):
            with contextlib.suppress(Exception):
                await ctx.step.run("large", large)

    async with TestEngine([f], store=store, limits=durable.Limits(run_bytes=1_000)) as t:
        with pytest.raises(durable.RunFailed, match="run_bytes"):
            await t.invoke(f)
        assert len(calls) == 2


@pytest.mark.parametrize("beside", [False, True])
async def test_a_loop_that_catches_what_unwinds_it_leaves_the_event_loop_to_others(store, beside):
    passes, caught = [], []

    async def stubborn(ctx):
        while True:
            try:
                await ctx.step.sleep("nap", "1h")
            except GeneratorExit:
                raise
            except BaseException:
                caught.append(1)
            else:
                return

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        if beside:
            await asyncio.gather(stubborn(ctx), ctx.step.sleep("other", "2h"))
        else:
            await stubborn(ctx)

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
        assert len(passes) > 1
        assert len(caught) < 1_000


async def hiding():
    with contextlib.suppress(Exception):
        await durable.current().step.run("in", one)


async def replacing():
    try:
        await durable.current().step.run("in", one)
    finally:
        raise ValueError("own")


@pytest.mark.parametrize("callback", [hiding, replacing])
@pytest.mark.parametrize("beside", [False, True])
async def test_a_nested_step_fails_the_run_whatever_callback_and_handler_make_of_it(store, callback, beside):
    calls = []

    async def counted():
        calls.append(1)
        await callback()

    @durable.function("f", retries=2)
    async def f(ctx):
        try:
            if beside:
                await asyncio.gather(ctx.step.run("out", counted), ctx.step.sleep("other", "2h"))
            else:
                await ctx.step.run("out", counted)
        except Exception:
            pass
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
        assert caught.value.error.name == "NestedStepError"
        assert len(calls) == 1


async def test_drift_cannot_be_caught_away(store):
    @durable.function("f")
    async def before(ctx):
        await ctx.step.run("a", one)
        await ctx.step.sleep("nap", "1h")

    caught = []

    @durable.function("f", retries=1, backoff=durable.Backoff("10s", factor=1.0, jitter=0))
    async def after(ctx):
        try:
            await ctx.step.sleep("a", "1s")
        except Exception as error:
            caught.append(error)
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([before], store=store) as t:
        run = await t.start(before)
        await t.until_idle()
    async with TestEngine([after], store=store) as t:
        await t.advance("1h")
        run = await t.get_run(run.id)
        with pytest.raises(durable.RunFailed) as failed:
            await run.result()
        assert failed.value.error.name == "NondeterminismError"
        assert 'await ctx.step.sleep("a", "1s")' in failed.value.error.stack
        assert not caught
        assert (await run.refresh()).attempt == 1


async def test_a_handler_may_still_clean_up_after_drift(store):
    @durable.function("f")
    async def before(ctx):
        await ctx.step.run("a", one)
        await ctx.step.sleep("nap", "1h")

    cleaned = []

    @durable.function("f", retries=0)
    async def after(ctx):
        try:
            await ctx.step.sleep("a", "1s")
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    async with TestEngine([before], store=store) as t:
        run = await t.start(before)
        await t.until_idle()
    async with TestEngine([after], store=store) as t:
        await t.advance("1h")
        with pytest.raises(durable.RunFailed):
            await (await t.get_run(run.id)).result()
        assert cleaned == [1]


async def test_a_callback_may_handle_the_failure_of_its_own_group(store):
    async def fail():
        await asyncio.sleep(0)
        raise ValueError("inside")

    async def callback():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
        except* ValueError:
            pass
        return "handled"

    @durable.function("f", retries=0)
    async def f(ctx):
        async with asyncio.timeout(60):
            found = await ctx.step.run("s", callback)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return found

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "handled"


async def test_a_step_that_is_cancelled_while_others_have_the_loop_is_withdrawn(store, monkeypatch):
    monkeypatch.setattr("durable._executor.session._SECONDS_PER_TURN", -1)  # they have it before each step
    called = []

    async def call(name):
        called.append(name)

    @durable.function("f", retries=0)
    async def f(ctx):
        task = asyncio.current_task()
        if not called:
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await ctx.step.run("loser", call, "loser")
            task.uncancel()
            await ctx.step.run("fallback", call, "fallback")
        await ctx.step.sleep("nap", "1h")
        return "done"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() == "done"
        assert called == ["fallback"]
        assert {one.id: one.status for one in await run.steps()}["loser"] == "withdrawn"


async def test_a_lone_step_that_was_withdrawn_before_is_told(store, caplog):
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        nap = asyncio.ensure_future(ctx.step.sleep("long", "2h")) if len(passes) == 1 else None
        if nap is None:
            await ctx.step.sleep("long", "2h")
        else:
            await asyncio.sleep(0)
            nap.cancel()
        await ctx.step.sleep("short", "1m")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.start(f)
        await t.until_idle()
        run = t.advance("1m")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run, 0.5)
        for _ in range(50):
            await asyncio.sleep(0)
    assert "awaits only steps that it has withdrawn before" in caplog.text


async def test_a_step_of_a_run_that_has_ended_says_so(store):
    kept = []

    @durable.function("f")
    async def f(ctx):
        kept.append(ctx)

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
        with pytest.raises(RuntimeError, match=r"step 'late'.*has ended"):
            await kept[0].step.sleep("late", "1h")


async def test_a_step_of_another_event_loop_says_so(store):
    def elsewhere(ctx):
        async def step():
            with pytest.raises(RuntimeError, match=r"step 'there'.*event loop"):
                await ctx.step.sleep("there", "1h")

        asyncio.run(step())

    @durable.function("f")
    async def f(ctx):
        await asyncio.to_thread(elsewhere, ctx)
        return "here"

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "here"
