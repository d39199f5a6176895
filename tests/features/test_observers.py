"""Observers: told what happens, never asked; what they raise changes nothing."""

from __future__ import annotations

import asyncio

import durable
from durable.testing import TestEngine


class Diary(durable.Observer):
    """Notes what it is told, without the ids of runs."""

    def __init__(self):
        self.lines = []

    def run_started(self, run_id, function):
        self.lines.append("run started")

    def run_parked(self, run_id, function):
        self.lines.append("run parked")

    def run_resumed(self, run_id, function):
        self.lines.append("run resumed")

    def run_evicted(self, run_id, function):
        self.lines.append("run evicted")

    def run_ended(self, run_id, function, status):
        self.lines.append(f"run {status}")

    def handler_failed(self, run_id, attempt, error):
        self.lines.append(f"handler failed {attempt} {error!r}")

    def step_started(self, run_id, step, index, attempt):
        self.lines.append(f"{step} started {attempt}")

    def step_failed(self, run_id, step, index, attempt, error):
        self.lines.append(f"{step} failed {attempt} {error!r}")

    def step_ended(self, run_id, memo):
        self.lines.append(f"{memo.step} {memo.state.name.lower()}")


class Broken(durable.Observer):
    """Raises whatever it is told."""

    def __getattribute__(self, name):
        if name.startswith(("run_", "step_", "handler_")):
            return self._raise
        return object.__getattribute__(self, name)

    def _raise(self, *args):
        raise RuntimeError("a broken observer")


async def lines_of(store, body, **options):
    """What a diary holds after a run of a function with this body."""
    diary = Diary()

    @durable.function("f", backoff=durable.Backoff("1s", jitter=0), retries=1)
    async def f(ctx):
        return await body(ctx)

    async with TestEngine([f], store=store, observers=[diary], **options) as t:
        run = await t.start(f)
        await t.advance("10d")
        assert (await run.refresh()).status.ended
    return diary.lines


async def echo():
    return 1


async def test_a_run_of_one_step(store):
    async def body(ctx):
        await ctx.step.run("one", echo)

    assert await lines_of(store, body) == ["run started", "one started 0", "one value", "run completed"]


async def test_a_short_wait_parks_the_run_and_resumes_it(store):
    async def body(ctx):
        await ctx.step.sleep("nap", "30s")

    found = await lines_of(store, body)
    assert found == ["run started", "run parked", "run resumed", "nap value", "run completed"]


async def test_a_long_wait_evicts_the_run_and_starts_it_again(store):
    async def body(ctx):
        await ctx.step.sleep("nap", "1d")

    found = await lines_of(store, body)
    assert found == ["run started", "run parked", "run evicted", "run started", "nap value", "run completed"]


async def test_a_step_that_is_tried_again(store):
    calls = []

    async def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError

    async def body(ctx):
        await ctx.step.run("one", fail_once)

    found = [line for line in await lines_of(store, body) if line.startswith("one")]
    assert found == ["one started 0", "one failed 0 ValueError()", "one started 1", "one value"]


async def test_a_handler_that_fails(store):
    async def body(ctx):
        raise ValueError

    found = [line for line in await lines_of(store, body) if "failed" in line]
    assert found == ["handler failed 0 ValueError()", "run failed"]


async def test_a_replay_tells_of_no_step_again(store):
    async def body(ctx):
        await ctx.step.run("one", echo)
        await ctx.step.sleep("nap", "1d")
        await ctx.step.run("two", echo)

    found = [line for line in await lines_of(store, body, max_warm=0) if line.startswith(("one", "two"))]
    assert found == ["one started 0", "one value", "two started 0", "two value"]


async def test_a_cancelled_run(store, until):
    diary = Diary()

    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1d")

    async with TestEngine([f], store=store, observers=[diary]) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.cancel()
        await t.until_idle()
    assert diary.lines[-1] == "run cancelled"


async def test_an_observer_that_raises_is_logged_and_changes_nothing(store, caplog):
    diary = Diary()

    @durable.function("f")
    async def f(ctx):
        await asyncio.gather(ctx.step.run("one", echo), ctx.step.sleep("nap", "1d"))
        return "done"

    async with TestEngine([f], store=store, observers=[Broken(), diary]) as t:
        assert await t.invoke(f) == "done"
    assert "a broken observer" in caplog.text
    assert "run completed" in diary.lines
