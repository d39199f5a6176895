"""`Limits`: what a run and an event may amount to; and which error names the limit."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


async def echo(value=None):
    return value


async def error_of(t, function, data=None):
    run = await t.start(function, data)
    with pytest.raises(durable.RunFailed) as caught:
        await run.result()
    return caught.value.error


def test_the_defaults_are_inngests():
    limits = durable.Limits()
    assert (limits.steps, limits.step_bytes, limits.run_bytes) == (1_000, 4 << 20, 32 << 20)
    assert (limits.event_bytes, limits.event_name, limits.sleep) == (512 << 10, 512, "366d")


async def test_too_many_steps_fail_the_run_at_once(store):
    calls = []

    async def work():
        calls.append(1)

    @durable.function("f")
    async def f(ctx):
        for _ in range(6):
            await ctx.step.run("again", work)

    async with TestEngine([f], store=store, limits=durable.Limits(steps=5)) as t:
        error = await error_of(t, f)
    assert error.name == "LimitError"
    assert "Limits.steps" in error.message
    assert len(calls) == 5


async def test_as_many_steps_as_allowed_are_fine(store):
    @durable.function("f")
    async def f(ctx):
        for n in range(5):
            await ctx.step.run(f"s{n}", echo)
        return "done"

    async with TestEngine([f], store=store, limits=durable.Limits(steps=5)) as t:
        assert await t.invoke(f) == "done"


async def test_a_thousand_steps_are_fine(store):
    @durable.function("f")
    async def f(ctx):
        for _ in range(10):
            await asyncio.gather(*(ctx.step.run(f"s{n}", echo) for n in range(100)))
        return "done"

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "done"


async def test_too_many_parallel_steps_fail_the_run(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        await asyncio.gather(*(ctx.step.run(f"s{n}", echo) for n in range(6)))

    async with TestEngine([f], store=store, limits=durable.Limits(steps=5)) as t:
        assert (await error_of(t, f)).name == "LimitError"


async def test_the_number_of_steps_cannot_be_caught_away(store):
    @durable.function("f")
    async def f(ctx):
        done = 0
        for n in range(20):
            try:
                await ctx.step.run(f"s{n}", echo)
                done += 1
            except Exception:
                pass
        return done

    async with TestEngine([f], store=store, limits=durable.Limits(steps=5)) as t:
        assert (await error_of(t, f)).name == "LimitError"


async def test_a_result_over_its_limit_fails_the_step_and_can_be_caught(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.run("large", echo, "x" * 2000)
        return [caught.value.name, caught.value.step_id, caught.value.attempts, caught.value.message]

    async with TestEngine([f], store=store, limits=durable.Limits(step_bytes=1000)) as t:
        name, step, attempts, message = await t.invoke(f)
    assert (name, step, attempts) == ("LimitError", "large", 1)
    assert "Limits.step_bytes" in message


async def test_an_output_over_its_limit_fails_the_run(store):
    @durable.function("f")
    async def f(ctx):
        return "x" * 2000

    async with TestEngine([f], store=store, limits=durable.Limits(step_bytes=1000)) as t:
        error = await error_of(t, f)
    assert error.name == "LimitError"
    assert "Limits.step_bytes" in error.message


async def test_all_results_together_fail_the_run(store):
    @durable.function("f")
    async def f(ctx):
        for n in range(10):
            await ctx.step.run(f"s{n}", echo, "x" * 900)

    async with TestEngine([f], store=store, limits=durable.Limits(run_bytes=5000)) as t:
        error = await error_of(t, f)
    assert error.name == "LimitError"
    assert "Limits.run_bytes" in error.message


async def test_the_size_of_a_run_holds_over_a_replay(store):
    @durable.function("f")
    async def f(ctx):
        for n in range(10):
            await ctx.step.run(f"s{n}", echo, "x" * 900)
            await ctx.step.sleep("nap", "1m")

    async with TestEngine([f], store=store, limits=durable.Limits(run_bytes=5000), max_warm=0) as t:
        run = await t.start(f)
        with pytest.raises(durable.RunFailed, match="run_bytes"):
            await run.result()
        done = [s for s in await run.steps() if s.kind == "run"]
        assert 5 <= len(done) <= 6


async def test_a_sleep_over_its_limit_names_it(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.sleep("nap", "2h")
        return caught.value.message

    async with TestEngine([f], store=store, limits=durable.Limits(sleep="1h")) as t:
        assert "Limits.sleep" in await t.invoke(f)


async def test_a_wait_over_its_limit_fails_its_step(store):
    @durable.function("f")
    async def f(ctx):
        names = []
        for call in (
            lambda: ctx.step.wait_for_event("event", event="e", timeout="2h"),
            lambda: ctx.step.wait_for_signal("signal", signal="s", timeout="2h"),
        ):
            with pytest.raises(durable.StepError) as caught:
                await call()
            names.append(caught.value.name)
        return names

    async with TestEngine([f], store=store, limits=durable.Limits(sleep="1h")) as t:
        assert await t.invoke(f) == ["LimitError", "LimitError"]


async def test_limits_of_events_hold_for_send_event(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.send_event("tell", durable.Event("e", {"x": "y" * 2000}))
        return caught.value.name

    async with TestEngine([f], store=store, limits=durable.Limits(event_bytes=1000)) as t:
        assert await t.invoke(f) in ("EventTooLarge", "LimitError", "EventRejected")
        assert (await t.events("e")).items == []


async def test_limits_may_be_raised_without_a_ceiling():
    @durable.function("f")
    async def f(ctx):
        for n in range(2000):
            await ctx.step.run(f"s{n}", echo)
        return "done"

    async with TestEngine([f], store="memory://", limits=durable.Limits(steps=10**9)) as t:
        assert await t.invoke(f) == "done"


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"run_bytes": -1}, {"event_name": "512"}, {"sleep": "a while"}, {"steps": True}],
    ids=repr,
)
def test_a_wrong_limit_is_a_config_error(wrong):
    with pytest.raises(durable.ConfigError, match=next(iter(wrong))):
        durable.Limits(**wrong)
