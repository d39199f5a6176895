"""`step.wait_for_event(since=...)`, and every interleaving of a wait and a send."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable import Event
from durable.testing import TestEngine


def waiter(id="waiter", trigger=None, **wait):
    """A function that waits for ``pong`` and returns the data of the event, or ``None``."""
    wait = {"event": "pong", "timeout": "1h", **wait}

    @durable.function(id, trigger=trigger)
    async def waiter(ctx):
        got = await ctx.step.wait_for_event("wait", **wait)
        return None if got is None else got.data

    return waiter


async def waiting(t, function, data=None):
    """A run of `function` that has come to its wait."""
    run = await t.start(function, data)
    await t.until_idle()
    assert (await run.refresh()).status in ("waiting", "completed")
    return run


# ---------------------------------------------------------------- since


async def test_since_run_finds_an_event_between_two_steps(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")
        got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h", since="run")
        return got.data

    async with TestEngine([f], store=store) as t:
        await t.send(Event("pong", {"n": "before the run"}))
        run = await waiting(t, f)
        await t.send(Event("pong", {"n": "during the sleep"}))
        began = t.now
        assert await run.result() == {"n": "during the sleep"}
        assert (t.now - began).total_seconds() == 3600


async def test_since_takes_the_earliest_match(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")
        got = await ctx.step.wait_for_event(
            "wait", event="pong", timeout="1h", since="run", if_="async.data.n > 1"
        )
        return got.data

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
        for n in range(5):
            await t.send(Event("pong", {"n": n}))
        assert await run.result() == {"n": 2}


async def test_since_with_a_match(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")
        got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h", since="run", match="data.id")
        return got.data["n"]

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f, {"id": "x"})
        await t.send([Event("pong", {"id": "y", "n": 1}), Event("pong", {"id": "x", "n": 2})])
        assert await run.result() == 2


async def test_since_a_duration_looks_back_that_far_and_no_further(store):
    f = waiter(since="10m")
    async with TestEngine([f], store=store) as t:
        await t.send(Event("pong", {"n": "too old"}))
        await t.advance("6m")
        await t.send(Event("pong", {"n": "in time"}))
        await t.advance("5m")
        assert await t.invoke(f) == {"n": "in time"}


async def test_since_finds_nothing_and_goes_on_waiting(store):
    async with TestEngine([f := waiter(since="run")], store=store) as t:
        run = await waiting(t, f)
        await t.advance("10m")
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == {"n": 1}


async def test_since_run_does_not_find_the_event_that_started_it(store):
    f = waiter(trigger="pong", since="run")
    async with TestEngine([f], store=store) as t:
        await t.send(Event("pong", {"n": 0}))
        await t.until_idle()
        (run,) = await t.runs()
        assert run.status == "waiting"


async def test_since_looks_through_many_events(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")
        got = await ctx.step.wait_for_event(
            "wait", event="pong", timeout="1h", since="run", if_="async.data.n == 999"
        )
        return got.data["n"]

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
        await t.send([Event("pong", {"n": n}) for n in range(1000)])
        assert await run.result() == 999


async def test_since_run_of_a_rerun_is_since_it_was_created(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1h")
        got = await ctx.step.wait_for_event("wait", event="pong", match="data.id", timeout="1h", since="run")
        return got.data

    async with TestEngine([f], store=store) as t:
        first = await t.start(f, {"id": 7})
        await t.until_idle()
        await t.send(Event("pong", {"id": 7, "for": "the first"}))
        assert (await first.result())["for"] == "the first"
        await t.advance("1d")
        second = await t.rerun(first.id)
        await t.until_idle()
        await t.send(Event("pong", {"id": 7, "for": "the second"}))
        assert (await second.result())["for"] == "the second"


# ---------------------------------------------------------------- interleavings


class Paced:
    """A store whose calls of one door wait until they are let through."""

    def __init__(self, store, door):
        self._store = store
        self._door = door
        self.free = True
        self.arrived = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name != self._door:
            return method

        async def through(*args, **kwargs):
            if not self.free:
                self.arrived.set()
                await self.go.wait()
            return await method(*args, **kwargs)

        return through


@pytest.mark.parametrize("since", [None, "run"])
async def test_an_event_sent_while_the_wait_is_being_committed_is_not_lost(store, since):
    """Either the wait was registered before, and sees it; or it was not, and `since` finds it."""
    paced = Paced(store, "commit")
    f = waiter(since=since)
    async with TestEngine([f], store=paced) as t, TestEngine([], store=store) as client:
        paced.free = False
        run = await t.start(f)
        await paced.arrived.wait()
        await client.send(Event("pong", {"n": 1}))
        paced.free = True
        paced.go.set()
        await t.until_idle()
        await client.send(Event("pong", {"n": 2}))
        assert await run.result() == {"n": 2 if since is None else 1}


@pytest.mark.parametrize(
    "condition", [None, "async.data.n > 0", "async.data.n > 0 && event.data.id == async.data.id"]
)
async def test_no_interleaving_of_start_and_send_loses_an_event_with_since_run(store, condition):
    """The event is sent so many turns of the loop after the start."""
    f = waiter(since="run", if_=condition)
    async with TestEngine([f], store=store) as t:
        for turns in range(25):
            run = await t.start(f, {"id": turns})
            for _ in range(turns):
                await asyncio.sleep(0)
            await t.send(Event("pong", {"n": 1, "id": turns}))
            await t.until_idle()
            assert (await run.refresh()).status == "completed", f"after {turns} turns"


@pytest.mark.parametrize("condition", [None, "async.data.n > 0", "async.data.id == event.data.id"])
async def test_no_interleaving_lets_two_waits_in_a_row_see_one_event(store, condition):
    @durable.function("f")
    async def f(ctx):
        found = []
        for _ in range(2):
            got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h", if_=condition)
            found.append(None if got is None else got.data["n"])
        return found

    async with TestEngine([f], store=store) as t:
        runs = []
        for turns in range(25):
            run = await t.start(f, {"id": turns})
            for _ in range(turns):
                await asyncio.sleep(0)
            await t.send(Event("pong", {"n": turns + 1, "id": turns}))
            runs.append(run)
        await t.advance("3h")
        for turns, run in enumerate(runs):
            found = (await run.refresh()).output
            numbers = [n for n in found if n is not None]
            assert len(numbers) == len(set(numbers)), f"after {turns} turns: {found}"
            if condition == "async.data.id == event.data.id":
                assert numbers in ([], [turns + 1])


async def test_an_event_and_the_time_out_at_one_moment_decide_once(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h")
        seen.append(got is None)
        await ctx.step.sleep("nap", "1h")
        return got is None

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        t._virtual.jump(t._virtual.now_ms() + 3_600_000)
        await t.send(Event("pong"))
        result = await run.result()
    assert set(seen) == {result}
