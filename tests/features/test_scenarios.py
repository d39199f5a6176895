"""Faults of systems that people run, each as a test; the numbers are those of the project's list of scenarios.

Here: replay, edited code, deletion.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import durable
from durable.records import Cutoffs
from durable.testing import TestEngine, crash_points

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
        while not set(before) <= set(self.ended):  # noqa: ASYNC110 - the turns of the loop matter
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


async def test_9_a_wait_that_became_a_sleep_comes_to_an_end(store):
    async def before(ctx):
        await ctx.step.wait_for_event("pause", event="go", timeout="1h")

    async def after(ctx):
        await ctx.step.sleep("pause", "1m")
        return "slept"

    found, _ = await edited(store, before, after)
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


@pytest.mark.parametrize("hosting", [True, False])
async def test_10_an_open_engine_removes_what_is_old_though_no_run_of_its_own_ends(store, hosting):
    @durable.function("f", trigger="e")
    async def f(ctx): ...

    async with TestEngine([f], store=store) as t:
        await t.pause(f)
    async with TestEngine([f] if hosting else [], store=store) as t:
        for _ in range(20):
            await t.send([durable.Event("e"), durable.Event("nobody/listens")])
            await t.advance("1d")
        assert [run.status async for run in t.runs()] == ["skipped"] * 8
        names = [one.name async for one in t.events()]
        assert (names.count("e"), names.count("nobody/listens")) == (8, 4), "a run keeps its event"


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
