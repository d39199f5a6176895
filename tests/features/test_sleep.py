"""`step.sleep` and `step.sleep_until`: durable timers that hold nothing meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

import durable
from durable.testing import TestEngine


def sleeper(*args, method="sleep", **config):
    @durable.function("f", **config)
    async def f(ctx):
        await getattr(ctx.step, method)("nap", *args)
        return "awake"

    return f


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("4m45s", 285),
        ("24h", 86400),
        ("2w", 1209600),
        (90, 90),
        (0.5, 0.5),
        (timedelta(days=7), 604800),
    ],
    ids=str,
)
async def test_sleeps_as_long_as_it_says(duration, seconds):
    async with TestEngine([f := sleeper(duration)]) as t:
        began = t.now
        assert await t.invoke(f) == "awake"
        assert (t.now - began).total_seconds() == seconds


async def test_wakes_at_its_time_and_never_before(store):
    async with TestEngine([f := sleeper("1h")], store=store) as t:
        run = await t.start(f)
        await t.advance("59m59s999ms")
        assert (await run.refresh()).status == "waiting"
        await t.advance("1ms")
        assert (await run.refresh()).status == "completed"


async def test_the_value_is_none(store):
    @durable.function("f")
    async def f(ctx):
        return [await ctx.step.sleep("a", "1s"), await ctx.step.sleep_until("b", "2031-01-01T00:00:00Z")]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == [None, None]


@pytest.mark.parametrize(
    "when",
    [
        datetime(2030, 1, 2, tzinfo=UTC),
        datetime(2030, 1, 2, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "2030-01-02T00:00:00Z",
        "2030-01-02T01:00:00+01:00",
    ],
    ids=str,
)
async def test_sleeps_until_a_point_in_time(store, when):
    async with TestEngine([f := sleeper(when, method="sleep_until")], store=store) as t:
        await t.invoke(f)
        assert t.now == datetime(2030, 1, 2, tzinfo=UTC)


async def test_a_past_point_does_not_sleep_at_all(store):
    async with TestEngine([f := sleeper("2001-01-01T00:00:00Z", method="sleep_until")], store=store) as t:
        began = t.now
        assert await t.invoke(f) == "awake"
        assert t.now == began


async def test_no_time_is_no_sleep(store):
    async with TestEngine([f := sleeper(0)], store=store) as t:
        began = t.now
        assert await t.invoke(f) == "awake"
        assert t.now == began


async def test_the_wake_up_time_is_fixed_when_the_sleep_begins(store):
    f = sleeper("2h")
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.advance("1h")
    async with TestEngine([f], store=store, start="2030-01-01T01:30:00Z") as t:
        await (await t.get_run(run.id)).result()
        assert t.now == datetime(2030, 1, 1, 2, tzinfo=UTC)


async def test_a_sleep_that_ended_while_no_engine_was_there_ends_at_once(store):
    f = sleeper("2h")
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    async with TestEngine([f], store=store, start="2030-03-01T00:00:00Z") as t:
        await t.until_idle()
        assert (await t.get_run(run.id)).status == "completed"


async def test_a_sleeping_run_holds_no_place(store):
    done = []

    @durable.function("quick")
    async def quick(ctx):
        done.append(1)

    sleeping = sleeper("1d")
    async with TestEngine([sleeping, quick], store=store, max_concurrency=1) as t:
        for _ in range(5):
            await t.start(sleeping)
        await t.start(quick)
        await t.until_idle()
        assert done == [1]


async def test_many_sleeps_of_one_id_are_counted(store):
    @durable.function("f")
    async def f(ctx):
        for _ in range(5):
            await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        await t.invoke(f)
        assert t.now - began == timedelta(hours=5)


async def test_a_sleep_of_366_days_is_allowed_and_a_longer_one_fails_its_step(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("long", "366d")
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.sleep("too long", "367d")
        return [caught.value.name, caught.value.step_id]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["LimitError", "too long"]


async def test_a_sleep_until_beyond_the_limit_fails_its_step(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.sleep_until("too long", "2035-01-01T00:00:00Z")
        return caught.value.name

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "LimitError"


@pytest.mark.parametrize("wrong", ["4 minutes", "", -1, None, True, "-5s", float("nan")], ids=repr)
async def test_a_wrong_duration_fails_the_run_at_once(wrong):
    async with TestEngine([f := sleeper(wrong)]) as t:
        with pytest.raises(durable.RunFailed, match="nap") as caught:
            await t.invoke(f)
    assert caught.value.error.name == "ConfigError"


@pytest.mark.parametrize("wrong", [datetime(2030, 1, 1), "2030-01-01T00:00:00", "tomorrow", 5], ids=repr)  # noqa: DTZ001
async def test_a_point_without_a_zone_is_never_guessed(wrong):
    async with TestEngine([f := sleeper(wrong, method="sleep_until")]) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    assert caught.value.error.name == "ConfigError"


async def test_waiting_for_says_until_when(store):
    async with TestEngine([f := sleeper("1h")], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        (what,) = (await run.refresh()).waiting_for
        assert "nap" in what
        assert "2030-01-01T01:00:00" in what
