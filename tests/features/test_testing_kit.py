"""The testing kit: virtual time, stubs, `Stuck`, and crashes at every write."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import UTC, datetime, timedelta

import pytest

import durable
from durable.testing import Stuck, TestEngine, crash_points
from durable.urls import store_at
from durable_stores.memory import MemoryStore


async def echo(value=None):
    return value


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "7d")
    return "awake"


# ---------------------------------------------------------------- time


async def test_time_starts_where_it_is_told():
    async with TestEngine() as t:
        assert t.now == datetime(2030, 1, 1, tzinfo=UTC)
    async with TestEngine(start="2026-05-06T07:08:09+02:00") as t:
        assert t.now == datetime(2026, 5, 6, 5, 8, 9, tzinfo=UTC)


async def test_time_stands_still():
    async with TestEngine() as t:
        before = t.now
        await asyncio.sleep(0.01)
        await t.until_idle()
        assert t.now == before


async def test_advance_moves_the_clock_exactly(store):
    async with TestEngine([sleeping], store=store) as t:
        await t.start(sleeping)
        began = t.now
        await t.advance("3d")
        await t.advance(timedelta(hours=1))
        await t.advance(0.5)
        assert t.now - began == timedelta(days=3, hours=1, milliseconds=500)


async def test_advance_stops_at_every_timer_in_order(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        for _ in range(3):
            await ctx.step.sleep("nap", ctx.event.data["every"])
            await ctx.step.run("note", note, ctx.event.data["name"])

    async def note(name):
        seen.append((name, str(t.now - began)))

    async with TestEngine([f], store=store) as t:
        began = t.now
        await t.start(f, {"name": "a", "every": "2h"})
        await t.start(f, {"name": "b", "every": "5h"})
        await t.advance("20h")
    assert seen == [
        ("a", "2:00:00"),
        ("a", "4:00:00"),
        ("b", "5:00:00"),
        ("a", "6:00:00"),
        ("b", "10:00:00"),
        ("b", "15:00:00"),
    ]


async def test_until_idle_moves_no_clock(store):
    async with TestEngine([sleeping], store=store) as t:
        run = await t.start(sleeping)
        before = t.now
        await t.until_idle()
        assert t.now == before
        assert (await run.refresh()).status == "waiting"


async def test_a_result_jumps_from_timer_to_timer(store):
    async with TestEngine([sleeping], store=store) as t:
        real, virtual = time.monotonic(), t.now
        assert await t.invoke(sleeping) == "awake"
        assert t.now - virtual == timedelta(days=7)
        assert time.monotonic() - real < 5


async def test_until_idle_waits_for_what_really_takes_time(store):
    done = []

    def slow():
        time.sleep(0.02)
        done.append("thread")

    async def io():
        await asyncio.sleep(0.02)
        done.append("io")

    @durable.function("f")
    async def f(ctx):
        await asyncio.gather(ctx.step.run("slow", slow), ctx.step.run("io", io))

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        assert (await run.refresh()).status == "completed"
    assert sorted(done) == ["io", "thread"]


async def test_cron_ticks_in_virtual_time(store):
    seen = []

    @durable.function("f", trigger=durable.cron("0 9 * * *"))
    async def f(ctx):
        seen.append(t.now)

    async with TestEngine([f], store=store) as t:
        await t.advance("3d")
    assert [(one.day, one.hour) for one in seen] == [(1, 9), (2, 9), (3, 9)]


# ---------------------------------------------------------------- replay after every step


async def test_every_step_is_followed_by_a_replay(store):
    entered, called = [], []

    @durable.function("f")
    async def f(ctx):
        entered.append(ctx.run_id)
        first = await ctx.step.run("a", lambda: called.append("a") or 1)
        both = await asyncio.gather(
            ctx.step.run("b", lambda: called.append("b") or 2), ctx.step.sleep("nap", "1d")
        )
        return [first, both[0], await ctx.step.run("c", lambda: called.append("c") or 3)]

    async with TestEngine([f], store=store, replay_every_step=True) as t:
        assert await t.invoke(f) == [1, 2, 3]
    assert called == ["a", "b", "c"]
    assert len(entered) == 5  # after a, b, the sleep, and c


# ---------------------------------------------------------------- stuck


@durable.function("elsewhere")
async def elsewhere(ctx): ...


@durable.function("parent")
async def parent(ctx):
    await ctx.step.invoke("call", function="elsewhere")


async def test_a_run_that_can_never_end_is_stuck_and_says_for_what_it_waits(store):
    async with TestEngine([elsewhere], store=store):
        pass
    async with TestEngine([parent], store=store) as t:
        run = await t.start(parent)
        with pytest.raises(Stuck, match=rf"{run.id}.*'parent'.*'call'"):
            await run.result()


async def test_stuck_says_that_nobody_hosts_the_function(store):
    async with TestEngine([elsewhere], store=store):
        pass
    async with TestEngine([parent], store=store) as t:
        run = await t.start("elsewhere")
        with pytest.raises(Stuck, match=r"waits for: an engine that hosts it; this one does not"):
            await run.result()


async def test_invoke_of_a_run_that_can_never_end_is_stuck(store):
    async with TestEngine([elsewhere], store=store):
        pass
    async with TestEngine([parent], store=store) as t:
        with pytest.raises(Stuck):
            await t.invoke(parent)


@durable.function("hourly", trigger=durable.cron("@hourly"))
async def hourly(ctx):
    pass


async def test_a_cron_line_that_ticks_on_keeps_nobody_from_being_stuck(store):
    async with TestEngine([elsewhere], store=store):
        pass
    async with TestEngine([parent, hourly], store=store) as t:
        with pytest.raises(Stuck, match="'call'"):
            await t.invoke(parent)


# ---------------------------------------------------------------- stubs


async def fail():
    raise AssertionError("the real callback was called")


@durable.function("f", retries=1, backoff=durable.Backoff("1s", jitter=0))
async def stubbed(ctx):
    try:
        return await ctx.step.run("load", fail)
    except durable.StepError as error:
        return [error.name, error.message, error.attempts]


async def test_a_stub_returns_a_value_in_place_of_the_callback(store):
    async with TestEngine([stubbed], store=store) as t:
        t.stub("load", {"n": 1})
        assert await t.invoke(stubbed) == {"n": 1}


async def test_a_stub_raises_an_exception(store):
    async with TestEngine([stubbed], store=store) as t:
        t.stub("load", ValueError("no"))
        assert await t.invoke(stubbed) == ["ValueError", "no", 2]
        t.stub("load", durable.NonRetriableError("never"))
        assert await t.invoke(stubbed) == ["NonRetriableError", "never", 1]
        t.stub("load", KeyError)
        assert (await t.invoke(stubbed))[0] == "KeyError"


async def test_none_is_a_stub(store):
    async with TestEngine([stubbed], store=store) as t:
        t.stub("load", None)
        assert await t.invoke(stubbed) is None


async def test_a_stub_may_be_set_before_the_engine_is_entered(store):
    t = TestEngine([stubbed], store=store)
    t.stub("load", 7)
    async with t:
        assert await t.invoke(stubbed) == 7


async def test_other_steps_are_left_alone(store):
    @durable.function("g")
    async def g(ctx):
        return [await ctx.step.run("load", fail), await ctx.step.run("real", echo, 2)]

    async with TestEngine([g], store=store) as t:
        t.stub("load", 1)
        assert await t.invoke(g) == [1, 2]


async def test_a_stub_gives_the_annotated_type(store):
    seen = []

    async def load() -> datetime:
        raise AssertionError

    @durable.function("g")
    async def g(ctx):
        seen.append(await ctx.step.run("load", load))

    when = datetime(2030, 1, 1, tzinfo=UTC)
    async with TestEngine([g], store=store) as t:
        t.stub("load", when)
        await t.invoke(g)
    assert seen == [when]


@durable.function("waiter")
async def waiter(ctx):
    event = await ctx.step.wait_for_event("event", event="never", timeout="1h")
    signal = await ctx.step.wait_for_signal("signal", signal="never", timeout="1h")
    sent = await ctx.step.send_event("send", durable.Event("news"))
    await ctx.step.sleep("nap", "9d")
    child = await ctx.step.invoke("call", function="elsewhere")
    return [event and event.data, signal and signal.data, sent, child]


async def test_steps_without_a_callback_have_stubs_too(store):
    async with TestEngine([waiter, elsewhere], store=store) as t:
        before = t.now
        t.stub("event", durable.Event("never", {"n": 1}))
        t.stub("signal", {"n": 2})
        t.stub("send", ["id-1"])
        t.stub("nap", None)
        t.stub("call", "child's")
        assert await t.invoke(waiter) == [{"n": 1}, {"n": 2}, ["id-1"], "child's"]
        assert t.now == before
        assert len(await t.events(name="news")) == 0
        t.stub("event", None)
        t.stub("signal", None)
        assert (await t.invoke(waiter))[:2] == [None, None]
        t.stub("call", ValueError("no"))
        with pytest.raises(durable.RunFailed, match="ValueError: no"):
            await t.invoke(waiter)
        t.stub("event", {"n": 1})
        with pytest.raises(durable.RunFailed, match=r"give a durable\.Event or None"):
            await t.invoke(waiter)


@pytest.mark.parametrize("wrong", ["", 3, None])
async def test_the_name_of_a_stub_is_checked(wrong):
    with pytest.raises(durable.ConfigError, match=r"stub\(step_id\)"):
        TestEngine().stub(wrong, 1)


# ---------------------------------------------------------------- crashes


def ledgered(ledger):
    """A function that notes in `ledger` which callbacks were called."""

    async def work(name):
        ledger.append(name)
        return name

    @durable.function("transfer", backoff=durable.Backoff("1s", jitter=0))
    async def transfer(ctx):
        first = await ctx.step.run("withdraw", work, "withdraw")
        both = await asyncio.gather(*(ctx.step.run(one, work, one) for one in ("note", "tell")))
        await ctx.step.sleep("nap", "1h")
        return [first, *both, await ctx.step.run("deposit", work, "deposit")]

    return transfer


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_scenario_is_run_once_per_crash_and_ends_each_time(kind, tmp_path):
    ledger, ends = [], []
    transfer = ledgered(ledger)
    numbers = itertools.count()

    async def scenario(engine):
        run = await engine.start(transfer, {"amount": 5}, id="t-1")
        assert await run.result() == ["withdraw", "note", "tell", "deposit"]
        ends.append(1)

    def fresh():
        return store_at(f"sqlite:///{tmp_path / str(next(numbers))}.db")

    tried = await crash_points(
        scenario, functions=[transfer], store="memory://" if kind == "memory" else fresh
    )
    assert tried >= 10
    assert len(ends) >= tried


async def test_a_function_that_does_not_survive_is_found():
    kept = []

    @durable.function("careless")
    async def careless(ctx):
        kept.append(1)
        await ctx.step.run("one", echo)
        return len(kept)

    async def scenario(engine):
        kept.clear()
        run = await engine.start(careless, id="c-1")
        await run.result()
        assert len(kept) == 1

    with pytest.raises(AssertionError):
        await crash_points(scenario, functions=[careless])


async def test_a_scenario_that_fails_without_a_crash_is_said():
    async def scenario(engine):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await crash_points(scenario, functions=[sleeping])
    assert not hasattr(caught.value, "__notes__")  # no crash is to blame


@pytest.mark.parametrize("one", ["sqlite:///one.db", MemoryStore(), 3])
async def test_one_store_for_all_crashes_is_refused(one):
    async def scenario(engine): ...

    with pytest.raises(durable.ConfigError, match="store"):
        await crash_points(scenario, functions=[sleeping], store=one)
