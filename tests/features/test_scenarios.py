"""Faults of systems that people run, each as a test; the numbers are those of the project's list of scenarios."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import durable
from durable.records import Cutoffs
from durable.testing import TestEngine, VirtualClock, crash_points
from durable.urls import store_at

ORDERS = ["".join(order) for order in itertools.permutations("abc")]


async def echo(value=None):
    return value


class Turnstile:
    """Callbacks that end one after another, in a given order."""

    def __init__(self, order):
        self.order = order
        self.ended = []

    async def __call__(self, name):
        before = self.order[: self.order.index(name)]
        while not set(before) <= set(self.ended):
            await asyncio.sleep(0)
        for _ in range(30):  # each in a round of its own
            await asyncio.sleep(0)
        self.ended.append(name)
        return name


# ---------------------------------------------------------------- 6: gather, in every order, over crashes


def racing(order):
    """Three steps that finish in this order; the order that the handler saw is recorded by a step."""

    turnstile = Turnstile(order)

    @durable.function("racing")
    async def racing(ctx):
        seen = []

        async def branch(name):
            got = await ctx.step.run(name, turnstile, name)
            seen.append(got)
            return got

        results = await asyncio.gather(*(branch(name) for name in "abc"))
        first = await ctx.step.run("order", echo, "".join(seen))
        await ctx.step.sleep("nap", "1h")
        return [results, first, "".join(seen)]

    return racing


@pytest.mark.parametrize("order", ORDERS)
async def test_6_gather_gives_each_step_its_own_result_after_a_replay_elsewhere(store, order):
    racing_ = racing(order)
    async with TestEngine([racing_], store=store, strict=True) as t:
        run = await t.start(racing_)
        await t.until_idle()
    async with TestEngine([racing_], store=store, strict=True) as t:
        assert await (await t.get_run(run.id)).result() == [["a", "b", "c"], order, order]


@pytest.mark.parametrize("order", ORDERS[::2])
async def test_6_gather_over_a_crash_at_any_write(order):
    racing_ = racing(order)

    async def scenario(engine):
        results, recorded, seen = await (await engine.start(racing_, id="r-1")).result()
        assert results == ["a", "b", "c"]
        assert recorded == seen

    assert await crash_points(scenario, functions=[racing_], strict=True) > 10


KILLED = """
import asyncio, sys, time, durable
from durable.testing import TestEngine

def note(name):
    with open(sys.argv[2], "a") as ledger:
        ledger.write(name)
    return name

def in_thread(name, seconds):
    time.sleep(seconds)
    return note(name)

async def on_loop(name, seconds):
    await asyncio.sleep(seconds)
    return note(name)

@durable.function("hops")
async def hops(ctx):
    seen = []
    async def branch(name, fn, seconds):
        seen.append(await ctx.step.run(name, fn, name, seconds))
        return seen[-1]
    results = await asyncio.gather(
        branch("a", in_thread, 0.05), branch("b", on_loop, 0.02), branch("c", in_thread, 0)
    )
    await ctx.step.sleep("nap", "1h")
    return [results, seen]

async def main():
    async with TestEngine([hops], store=sys.argv[1]) as t:
        run = await t.start(hops, id="h-1")
        if sys.argv[3] == "hang":
            await t.until_idle()
            print("parked", flush=True)
            await asyncio.Event().wait()
        print(await run.result(), flush=True)

asyncio.run(main())
"""


def test_6_thread_hops_and_a_killed_process(tmp_path):
    arguments = [sys.executable, "-c", KILLED, f"sqlite:///{tmp_path / 'd.db'}", str(tmp_path / "ledger")]
    with subprocess.Popen([*arguments, "hang"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "parked\n"
        child.kill()
    found = subprocess.run([*arguments, "end"], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout == "[['a', 'b', 'c'], ['c', 'b', 'a']]\n"
    assert (tmp_path / "ledger").read_text() == "cba"


async def test_6_process_hops():
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    async def elsewhere(n):
        return await asyncio.get_running_loop().run_in_executor(pool, math.factorial, n)

    @durable.function("f")
    async def f(ctx):
        found = await asyncio.gather(*(ctx.step.run(f"s{n}", elsewhere, n) for n in range(5)))
        await ctx.step.sleep("nap", "1h")
        return found

    try:
        async with TestEngine([f], max_warm=0) as t:
            assert await t.invoke(f) == [1, 1, 2, 6, 24]
    finally:
        pool.shutdown()


# ---------------------------------------------------------------- 9: code edited under live runs


async def edited(store, before, after, **options):
    """The result of a run that began as `before` and went on as `after`; with the ids of its steps."""

    def made(body):
        @durable.function("edited", backoff=durable.Backoff("1h", jitter=0))
        async def handler(ctx):
            return await body(ctx)

        return handler

    async with TestEngine([made(before)], store=store) as t:
        run = await t.start("edited")
        await t.until_idle()
    async with TestEngine([made(after)], store=store, **options) as t:
        run = await t.get_run(run.id)
        return await run.result(), [step.id for step in await run.steps()]


async def load_then_sleep(ctx):
    first = await ctx.step.run("load", echo, "loaded before")
    second = await ctx.step.run("parse", echo, "parsed before")
    await ctx.step.sleep("nap", "1h")
    return [first, second]


async def test_9_a_step_that_was_added_runs_and_the_others_keep_their_results(store):
    async def after(ctx):
        new = await ctx.step.run("new", echo, "new")
        return [new, *await load_then_sleep(ctx)]

    found, _ = await edited(store, load_then_sleep, after)
    assert found == ["new", "loaded before", "parsed before"]


async def test_9_a_step_that_was_removed_is_not_met_and_said(store, caplog):
    async def after(ctx):
        second = await ctx.step.run("parse", echo, "parsed before")
        await ctx.step.sleep("nap", "1h")
        return second

    found, _ = await edited(store, load_then_sleep, after)
    assert found == "parsed before"
    assert "'load'" in caplog.text or "load" in caplog.text


async def test_9_steps_that_were_reordered_keep_each_its_own_result(store):
    async def after(ctx):
        second = await ctx.step.run("parse", echo, "parsed before")
        first = await ctx.step.run("load", echo, "loaded before")
        await ctx.step.sleep("nap", "1h")
        return [first, second]

    found, _ = await edited(store, load_then_sleep, after)
    assert found == ["loaded before", "parsed before"]


async def test_9_a_step_that_was_renamed_runs_anew(store):
    async def after(ctx):
        first = await ctx.step.run("load-2", echo, "loaded after")
        second = await ctx.step.run("parse", echo, "parsed before")
        await ctx.step.sleep("nap", "1h")
        return [first, second]

    found, ids = await edited(store, load_then_sleep, after)
    assert found == ["loaded after", "parsed before"]
    assert "load" in ids


async def test_9_a_step_of_another_kind_never_takes_the_old_result(store):
    async def after(ctx):
        await ctx.step.sleep("load", "1s")
        return "went on"

    with pytest.raises(durable.RunFailed) as caught:
        await edited(store, load_then_sleep, after)
    assert caught.value.error.name == "NondeterminismError"
    for word in ("load", "run", "sleep"):
        assert word in caught.value.error.message


async def test_9_a_roll_back_rescues_a_run_that_has_met_drift(store):
    async def drifted(ctx):
        await ctx.step.sleep("load", "1s")

    def made(body):
        @durable.function("edited", backoff=durable.Backoff("5h", maximum="5h", jitter=0))
        async def handler(ctx):
            return await body(ctx)

        return handler

    async with TestEngine([made(load_then_sleep)], store=store) as t:
        run = await t.start("edited")
        await t.until_idle()
    async with TestEngine([made(drifted)], store=store, start="2030-01-01T01:00:00Z") as t:
        await t.advance("1h")
        assert (await t.get_run(run.id)).status == "waiting"
    async with TestEngine([made(load_then_sleep)], store=store, start="2030-01-01T02:00:00Z") as t:
        assert await (await t.get_run(run.id)).result() == ["loaded before", "parsed before"]


async def test_9_a_wait_that_became_a_sleep_has_a_clear_end(store):
    async def before(ctx):
        await ctx.step.wait_for_event("pause", event="go", timeout="1h")

    async def after(ctx):
        await ctx.step.sleep("pause", "1m")
        return "slept"

    try:
        found, _ = await edited(store, before, after)
    except durable.RunFailed as failed:
        assert failed.error.name == "NondeterminismError"
    else:
        assert found == "slept"


# ---------------------------------------------------------------- 10: half-done deletion, then the same ids


async def test_10_ids_that_are_used_again_after_a_half_done_deletion_replay_nothing_old(store):
    era = ["old"]

    @durable.function("f")
    async def f(ctx):
        got = await asyncio.gather(*(ctx.step.run(f"s{n}", now, n) for n in range(2)))
        await ctx.step.sleep("nap", "1m")
        return got

    async def now(n):
        return era[0]

    later = "2030-01-20T00:00:00Z"
    async with TestEngine([f], store=store) as t:
        first = [await t.start(f, id=f"x-{n}") for n in range(300)]
        await t.advance("1h")
    era[0] = "new"
    never = durable.Retention(runs="900d", steps="900d", events="900d")
    async with TestEngine([f], store=store, start=later, retention=never) as t:
        cutoff = int(t.now.timestamp() * 1000)
        assert await store.sweep(cutoff, Cutoffs(cutoff, cutoff, cutoff)) is True
        second = [await t.start(f, id=f"x-{n}") for n in range(300)]
        assert {run.id for run in first}.isdisjoint(run.id for run in second)
        await t.until_idle()
        while await store.sweep(cutoff, Cutoffs(cutoff, cutoff, cutoff)):
            pass
        await t.advance("1h")
        assert [(await run.refresh()).output for run in second] == [["new", "new"]] * 300
        with pytest.raises(LookupError):
            await t.get_run(first[0].id)


async def test_10_retention_removes_runs_that_have_ended_and_no_others(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", ctx.event.data["nap"])
        return "done"

    retention = durable.Retention(runs="7d", steps="7d", events="3d")
    async with TestEngine([f], store=store, retention=retention) as t:
        short = await t.start(f, {"nap": "1h"})
        long = await t.start(f, {"nap": "60d"})
        await short.result()
    async with TestEngine([f], store=store, retention=retention, start="2030-01-20T00:00:00Z") as t:
        await t.until_idle()
        with pytest.raises(LookupError):
            await t.get_run(short.id)
        assert await (await t.get_run(long.id)).result() == "done"


async def test_10_an_open_engine_removes_old_runs_as_time_passes(store):
    @durable.function("f")
    async def f(ctx):
        return 1

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await run.result()
        for _ in range(10):
            await t.advance("1d")
            await t.invoke(f)
        with pytest.raises(LookupError):
            await t.get_run(run.id)


# ---------------------------------------------------------------- 12: mass resume

MANY = 20_000
LONGEST_TURN_SECONDS = 0.05


class Alive(durable.Observer):
    """How many handlers were in memory at once, at most; and how many runs have ended."""

    def __init__(self):
        self.now = self.most = self.ended = 0

    def run_started(self, run_id, function):
        self.now += 1
        self.most = max(self.most, self.now)

    def run_evicted(self, run_id, function):
        self.now -= 1

    def run_ended(self, run_id, function, status):
        self.now -= 1
        self.ended += 1


async def longest_turn(turns):
    """Note how long each turn of the loop keeps its thread busy; other threads and processes do not count."""
    before = time.thread_time()
    while True:
        await asyncio.sleep(0)
        now = time.thread_time()
        turns.append(now - before)
        before = now


async def test_12_twenty_thousand_sleeping_runs_due_at_once_after_a_restart(store):
    @durable.function("f", trigger="e")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        for _ in range(MANY // 1000):
            await t.send([durable.Event("e") for _ in range(1000)])
        await t.until_idle()
    alive, turns = Alive(), []
    gc.disable()  # the collector's own pauses are not the engine's
    try:
        start = "2030-01-01T02:00:00Z"
        async with TestEngine([f], store=store, start=start, observers=[alive], max_concurrency=500) as t:
            beat = asyncio.create_task(longest_turn(turns))
            await t.until_idle()
            beat.cancel()
    finally:
        gc.enable()
    assert alive.ended == MANY
    assert alive.most <= 500
    assert max(turns) < LONGEST_TURN_SECONDS


# ---------------------------------------------------------------- 14: the end of a process within a step


async def test_14_a_step_that_ends_within_the_grace_time_is_kept(store):
    started, calls = asyncio.Event(), []

    async def work():
        started.set()
        await asyncio.sleep(0.02)
        calls.append(1)
        return "worked"

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("work", work)

    async with durable.Engine(store, functions=[f]) as engine:
        run = await engine.start(f)
        await started.wait()
    async with durable.Engine(store, functions=[f]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "worked"
    assert calls == [1]


async def test_14_a_step_that_does_not_is_handed_back_in_time_and_reported(store, caplog):
    started = asyncio.Event()

    async def work():
        started.set()
        await asyncio.Event().wait()

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("work", work)

    began = time.monotonic()
    async with durable.Engine(store, functions=[f], shutdown_timeout="50ms") as engine:
        run = await engine.start(f)
        await started.wait()
    assert time.monotonic() - began < 5
    assert run.id in caplog.text
    async with durable.Engine(store) as client:
        assert (await client.get_run(run.id)).status == "queued"


async def test_14_tasks_are_kept_referenced(store):
    async def work(n):
        await asyncio.sleep(0)
        if n == 5:
            gc.collect()
        await asyncio.sleep(0)
        return 1

    @durable.function("f")
    async def f(ctx):
        return sum(await asyncio.gather(*(ctx.step.run(f"s{n}", work, n) for n in range(10))))

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        gc.collect()
        assert await run.result() == 10


SERVING = """
import asyncio, sys, durable

async def hang():
    print("in step", durable.current().attempt, flush=True)
    await asyncio.sleep(float(sys.argv[2]))

@durable.function("f")
async def f(ctx):
    await ctx.step.run("hang", hang)
    print("completed", flush=True)

async def main():
    engine = durable.Engine(sys.argv[1], functions=[f], shutdown_timeout="100ms")
    serving = asyncio.ensure_future(engine.serve())
    while not serving.done():
        try:
            await engine.start(f, id="once")
            break
        except durable.DurableError:  # not open yet
            await asyncio.sleep(0.01)
    await serving
    print("left", flush=True)

asyncio.run(main())
"""


def test_14_sigterm_in_a_step_hands_the_attempt_back_within_the_grace_time(tmp_path):
    url = f"sqlite:///{tmp_path / 'd.db'}"
    for seconds, expected in ((60, "left"), (0, "completed")):
        with subprocess.Popen(
            [sys.executable, "-c", SERVING, url, str(seconds)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout.readline() == "in step 0\n"
            if expected == "completed":
                assert child.stdout.readline() == "completed\n"
            child.send_signal(signal.SIGTERM)
            assert child.stdout.readline() == "left\n"
            assert child.wait(10) == 0


# ---------------------------------------------------------------- 18: a delay longer than any lease


async def test_18_a_delay_longer_than_any_lease_runs_once(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("before", note, "before")
        await ctx.step.sleep("nap", "30d")
        await ctx.step.run("after", note, "after")

    async def note(what):
        calls.append(what)

    clock = VirtualClock()
    options = {"store": store, "clock": clock, "lease": "1s"}
    async with TestEngine([f], **options) as one, TestEngine([f], **options) as two:
        run = await one.start(f)
        await one.until_idle()
        for _ in range(31):
            await two.advance("1d")
            await one.until_idle()
        assert (await run.refresh()).status == "completed"
    assert calls == ["before", "after"]


async def test_18_a_callback_longer_than_the_lease_runs_once(store):
    calls = []

    async def slow():
        calls.append(1)
        await asyncio.sleep(0.35)

    @durable.function("f", trigger="e")
    async def f(ctx):
        await ctx.step.run("slow", slow)

    options = {"functions": [f], "lease": "100ms"}
    async with durable.Engine(store, **options) as one, durable.Engine(store, **options):
        run = await one.start(f)
        await run.result("20s")
    assert calls == [1]


async def test_18_an_event_delayed_beyond_any_lease_starts_one_run(store):
    calls = []

    @durable.function("f", trigger="e")
    async def f(ctx):
        calls.append(1)

    async with TestEngine([f], store=store, lease="1s") as t:
        await t.send(durable.Event("e", ts=1_893_456_000_000 + 20 * 86_400_000))
        await t.advance("19d")
        assert calls == []
        await t.advance("2d")
    assert calls == [1]


# ---------------------------------------------------------------- 21: a result that cannot be stored


async def test_21_a_result_that_cannot_be_stored_is_loud_and_fails_the_run_with_its_cause(store):
    class Connection:
        pass

    async def connect():
        return {"connections": [Connection()]}

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("connect", connect)
        return "went on"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        with pytest.raises(durable.RunFailed, match="connect") as caught:
            await run.result()
        (step,) = await run.steps()
    error = caught.value.error
    assert error.name == "SerializationError"
    assert error.step_id == "connect"
    assert "connections" in error.message
    assert "Connection" in error.message
    assert (step.id, step.status, step.error.name) == ("connect", "failed", "SerializationError")


# ---------------------------------------------------------------- 22: nothing to do


class Counting:
    """A store that notes the names of the calls that are made."""

    def __init__(self, store):
        self._store = store
        self.calls = []

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def counted(*args, **kwargs):
            self.calls.append(name)
            return await found(*args, **kwargs)

        return counted


async def test_22_an_idle_engine_makes_no_store_call(store):
    counting = Counting(store)

    @durable.function("f", trigger="e")
    async def f(ctx):
        return 1

    async with TestEngine([f], store=counting) as t:
        await t.invoke(f)
        await t.until_idle()
        counting.calls.clear()
        for _ in range(48):
            await t.advance("30m")
        assert counting.calls == []


async def test_22_runs_that_wait_cause_no_store_call_until_their_time_comes(store):
    counting = Counting(store)

    @durable.function("f")
    async def f(ctx):
        await asyncio.gather(
            ctx.step.sleep("nap", "30d"), ctx.step.wait_for_event("wait", event="e", timeout="60d")
        )

    async with TestEngine([f], store=counting) as t:
        for _ in range(10):
            await t.start(f)
        await t.advance("1d")
        counting.calls.clear()
        for _ in range(28):
            await t.advance("1d")
        assert counting.calls == []
        await t.advance("2d")
        assert counting.calls != []


async def test_22_a_client_that_does_nothing_makes_no_store_call(store):
    counting = Counting(store)
    async with TestEngine([], store=counting) as t:
        await t.until_idle()
        counting.calls.clear()
        await t.advance("7d")
        assert counting.calls == []


async def test_22_an_idle_engine_makes_no_store_call_however_long_its_path(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    counting = Counting(store_at(f"sqlite:///{folder / 'd.db'}"))

    @durable.function("f")
    async def f(ctx):
        return 1

    async with durable.Engine(counting, functions=[f], lease="30ms") as engine:
        await engine.invoke(f, timeout="10s")
        await asyncio.sleep(0.1)
        counting.calls.clear()
        await asyncio.sleep(0.2)
        assert counting.calls == []


async def test_22_an_idle_engine_of_the_real_clock_makes_no_store_call(store):
    counting = Counting(store)

    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")

    async with durable.Engine(counting, functions=[f], lease="30ms") as engine:
        run = await engine.start(f)
        while (await run.refresh()).status != "waiting":
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        counting.calls.clear()
        await asyncio.sleep(0.1)
        assert counting.calls == []
