"""`engine.rerun`: a new run from the same event, which may keep what was done before one step."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


def working(calls, then):
    """A function that calls two steps, and then does `then`."""

    @durable.function("f", retries=1, backoff=durable.Backoff("1h", jitter=0))
    async def f(ctx):
        for name in ("a", "b"):
            await ctx.step.run(name, lambda name=name: calls.append(name))
        await then(ctx)
        return len(calls)

    return f


async def a_wait(ctx):
    await ctx.step.wait_for_event("stop", event="go", timeout="1d")


async def a_sleep(ctx):
    await ctx.step.sleep("stop", "1d")


async def a_retry(ctx):
    async def fails():
        raise OSError

    await ctx.step.run("stop", fails)


@pytest.mark.parametrize("then", [a_wait, a_sleep, a_retry], ids=lambda one: one.__name__)
async def test_a_run_is_repeated_from_the_step_at_which_it_stands(store, then):
    calls = []
    async with TestEngine([f := working(calls, then)], store=store) as t:
        first = await t.start(f)
        await t.until_idle()
        second = await t.rerun(first.id, from_step="stop")
        await t.until_idle()
        assert calls == ["a", "b"]
        assert [one.id for one in await second.steps()] == ["a", "b", "stop"]
        await t.rerun(first.id, from_step=("b", 0))
        await t.until_idle()
        assert calls == ["a", "b", "b"]


async def test_a_step_whose_wait_is_over_and_that_was_not_met_again_is_known(store):
    calls = []

    async def both(ctx):
        await asyncio.gather(ctx.step.sleep("stop", "1h"), ctx.step.sleep("other", "1d"))

    async with TestEngine([f := working(calls, both)], store=store, max_warm=0) as t:
        first = await t.start(f)
        await t.advance("2h")
        second = await t.rerun(first.id, from_step="other")
        await t.until_idle()
        assert calls == ["a", "b"]
        assert {"a", "b", "other"} <= {one.id for one in await second.steps()}


async def test_an_unknown_step_is_a_lookup_error_that_names_the_known_ones(store):
    async with TestEngine([f := working([], a_wait)], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        with pytest.raises(LookupError, match=r"no step 'c' \(repetition 0\); it has: a, b, stop"):
            await t.rerun(run.id, from_step="c")
        with pytest.raises(LookupError, match=r"no step 'a' \(repetition 1\)"):
            await t.rerun(run.id, from_step=("a", 1))


@pytest.mark.parametrize("wrong", [("a",), 5, ("a", "0"), ("a", 0, 0), (0, "a"), ["a", 0], True], ids=repr)
async def test_what_is_no_steps_name_is_a_config_error(wrong):
    async with TestEngine([f := working([], a_wait)]) as t:
        run = await t.start(f)
        await t.until_idle()
        with pytest.raises(
            durable.ConfigError, match=r"rerun\(from_step\): a step's id, or \(id, index\), got"
        ):
            await t.rerun(run.id, from_step=wrong)
