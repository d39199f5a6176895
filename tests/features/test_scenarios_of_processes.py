"""Faults of systems that people run, each as a test; the numbers are those of the project's list of scenarios.

Here: those of whole processes: several on one store, mass resume, their end, idleness.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time

import pytest

import durable
from durable.testing import TestEngine, VirtualClock
from durable.urls import store_at


async def is_waiting(run):
    return (await run.refresh()).status == "waiting"


# ---------------------------------------------------------------- 4: several engines on one store


async def test_4_a_run_that_engines_hand_to_and_fro_goes_on_and_repeats_nothing(store):
    calls, gates = [], [asyncio.Event() for _ in range(6)]

    async def note(number):
        calls.append(number)

    @durable.function("f")
    async def f(ctx):
        for number in range(6):
            await ctx.step.sleep(f"nap {number}", "30ms")
            await ctx.step.run(f"note {number}", note, number)

    @durable.function("busy")
    async def busy(ctx):
        await ctx.step.run("wait", gates[ctx.event.data["number"]].wait)

    clock = VirtualClock("2030-01-01T00:00:00Z")
    options = {"store": store, "clock": clock, "max_concurrency": 1}
    async with TestEngine([f, busy], **options) as one, TestEngine([f, busy], **options) as other:
        run = await one.start(f)
        await one.until_idle()
        for number, gate in enumerate(gates):  # the run is parked, warm, at one of them; the other is free
            holder, free = ((one, other), (other, one))[number % 2]
            await holder.start(busy, {"number": number})
            await free.advance("30ms")
            gate.set()
            await holder.until_idle()
        assert (await run.refresh()).status == "completed"
    assert calls == list(range(6))


# ---------------------------------------------------------------- 12: mass resume

_DEBUG = bool(os.environ.get("PYTHONASYNCIODEBUG"))
"""In asyncio's debug mode everything takes ten times as long."""

MANY = 2_000 if _DEBUG else 20_000
LONGEST_TURN_SECONDS = 0.5 if _DEBUG else 0.05


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
    """Note how long the loop keeps its thread busy at a time; other threads and processes do not count."""
    before = time.thread_time()
    while True:
        await asyncio.sleep(0.001)
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


# ---------------------------------------------------------------- 17: a live engine that is taken for dead


async def test_17_an_engine_joins_with_its_lease(store, monkeypatch):
    joined, join = [], store.join

    async def watched(now_ms, engine, lease_ms=0):
        joined.append(lease_ms)
        return await join(now_ms, engine, lease_ms)

    monkeypatch.setattr(store, "join", watched)
    async with durable.Engine(store, lease="6s") as engine:
        await engine._service.rejoin()
    assert joined == [6_000, 6_000], "those with a shorter one judge it by its own"


async def test_17_an_engine_that_cannot_write_buries_nobody(store, monkeypatch, until):
    asked, failed, dead = [], [], store.dead

    async def refuse(engine):
        failed.append(engine)
        raise durable.StoreError("locked")

    async def watched(lease_ms):
        asked.append(lease_ms)
        return await dead(lease_ms)

    monkeypatch.setattr(store, "dead", watched)
    options = {"lease": "3ms"}
    async with durable.Engine(store, **options), durable.Engine(store, **options):
        await until(lambda: len(asked) > 2)
        monkeypatch.setattr(store, "extend", refuse)
        await until(lambda: len(failed) > 2)
        asked.clear()
        failed.clear()
        await until(lambda: len(failed) > 4)
        assert not asked
        monkeypatch.undo()


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


async def test_22_a_burst_that_fills_every_place_is_not_taken_for_another_engine(store_url):
    """No heartbeats afterwards; and who waits for the ends of runs that were started here reads nothing."""
    counting = Counting(store_at(store_url))

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("one", asyncio.sleep, 0)

    async with durable.Engine(counting, functions=[f], lease="30ms", max_concurrency=3) as engine:

        async def one():
            return await (await engine.start(f)).result()

        await asyncio.gather(*[one() for _ in range(300)])
        assert {"history", "extend"}.isdisjoint(counting.calls)
        await asyncio.sleep(0.1)
        counting.calls.clear()
        await asyncio.sleep(0.1)
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


async def test_22_an_idle_engine_of_the_real_clock_makes_no_store_call(store, until):
    counting = Counting(store)

    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")

    async with durable.Engine(counting, functions=[f], lease="30ms") as engine:
        run = await engine.start(f)
        await until(lambda: is_waiting(run))
        for _ in range(50):
            await asyncio.sleep(0)
        counting.calls.clear()
        await asyncio.sleep(0.1)
        assert counting.calls == []
