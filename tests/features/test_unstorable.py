"""What a store can never hold: the run that has to write it fails, and nobody else is held up."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

import durable
from durable.testing import TestEngine
from durable_stores.sqlite import SQLiteStore

LARGEST = 50_000
"""Bytes that the file's connection takes in one value: less than the engine's own limits allow."""


@pytest.fixture
def narrow(tmp_path):
    """A SQLite store; and what makes it refuse, from then on, what is larger than it can hold."""
    store = SQLiteStore(tmp_path / "x.db", "normal")

    async def limit(size=LARGEST):
        def body():
            store._database._sql.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, size)

        await store._database.run(body)

    return store, limit


def of(size):
    async def make():
        return "x" * size

    return make


@durable.function("large", retries=2)
async def large(ctx):
    seen.append("large")
    if ctx.event.data.get("wait"):
        await ctx.step.wait_for_event("go", event="go", timeout="1d", if_="async.data.n == event.data.n")
    await ctx.step.run("large", of(2 * LARGEST))
    await ctx.step.run("after", remember)


@durable.function("small")
async def small(ctx):
    if ctx.event.data.get("wait"):
        await ctx.step.wait_for_event("go", event="go", timeout="1d", if_="async.data.n == event.data.n")
    return len(await ctx.step.run("small", of(10)))


seen = []


async def remember():
    seen.append("after")


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


async def test_the_run_whose_step_the_store_cannot_hold_fails_at_once(narrow):
    store, limit = narrow
    async with TestEngine([large, small], store=store) as t:
        await limit()
        run = await t.start(large)
        with pytest.raises(
            durable.RunFailed, match=r"what step 'large' has to write cannot be stored"
        ) as caught:
            await run.result()
        assert caught.value.error.name == "SerializationError"
        assert await t.invoke(small) == 10
        assert [one.id for one in await run.steps()] == []
    assert seen == ["large"], "neither the next step was called, nor the handler again"


async def test_all_others_of_its_batch_are_written(narrow):
    store, limit = narrow
    async with TestEngine([large, small], store=store) as t:
        await limit()
        bad = [await t.start(large) for _ in range(3)]
        good = [await t.start(small) for _ in range(20)]
        more = [await t.start(large) for _ in range(3)]
        await t.until_idle()
        assert {(await run.refresh()).status for run in [*bad, *more]} == {"failed"}
        assert {(await run.refresh()).output for run in good} == {10}


async def test_verdicts_of_its_batch_are_kept(narrow):
    store, limit = narrow
    async with TestEngine([large, small], store=store) as t:
        await limit()
        bad = [await t.start(large, {"wait": True, "n": 1}) for _ in range(3)]
        good = [await t.start(small, {"wait": True, "n": 1}) for _ in range(20)]
        other = [await t.start(small, {"wait": True, "n": 2}) for _ in range(3)]
        await t.until_idle()
        await t.send([durable.Event("go", {"n": 1}), durable.Event("go", {"n": 1})])
        now = [await t.start(large) for _ in range(3)]
        await t.until_idle()
        assert {(await run.refresh()).status for run in [*bad, *now]} == {"failed"}
        assert {(await run.refresh()).output for run in good} == {10}
        assert {(await run.refresh()).status for run in other} == {"waiting"}


async def test_a_parallel_step_does_not_begin_after_a_refusal(narrow):
    store, limit = narrow

    @durable.function("both")
    async def both(ctx):
        await asyncio.gather(ctx.step.run("large", of(2 * LARGEST)), ctx.step.run("small", of(1)))
        await ctx.step.run("after", remember)

    async with TestEngine([both], store=store) as t:
        await limit()
        with pytest.raises(durable.RunFailed, match="cannot be stored"):
            await t.invoke(both)
    assert seen == []


async def test_a_run_whose_output_the_store_cannot_hold_fails_and_tells_it(narrow):
    store, limit = narrow
    failures = []

    async def failed(ctx):
        failures.append(ctx.event.data["error"]["name"])

    @durable.function("output", on_failure=failed)
    async def output(ctx):
        return "x" * 2 * LARGEST

    async with TestEngine([output], store=store) as t:
        await limit()
        with pytest.raises(durable.RunFailed, match="what function 'output' has to write cannot be stored"):
            await t.invoke(output)
        await t.until_idle()
    assert failures == ["SerializationError"]


async def test_a_run_whose_failure_cannot_be_held_either_is_left_and_holds_up_nobody(narrow, caplog):
    store, limit = narrow

    @durable.function("event")
    async def event(ctx):
        return await ctx.step.run("large", of(2 * LARGEST))

    async with TestEngine([event, small], store=store) as t:
        run = await t.start(event, {"text": "x" * 2 * LARGEST})
        await limit()
        await t.until_idle()
        assert "cannot hold its end either" in caplog.text
        assert await t.invoke(small) == 10
        await limit(1_000_000)
        assert (await run.refresh()).status == "running"
    async with TestEngine([event, small], store=store) as t:
        assert len(await (await t.get_run(run.id)).result()) == 2 * LARGEST, "a larger store goes on with it"


async def test_an_event_that_the_store_cannot_hold_spoils_none_that_is_sent_beside_it(narrow):
    store, limit = narrow
    async with TestEngine([small], store=store) as t:
        await limit()
        texts = ["a", "x" * 2 * LARGEST, "b"]
        sent = await asyncio.gather(
            *(t.send(durable.Event("said", {"text": text})) for text in texts), return_exceptions=True
        )
        assert [isinstance(one, durable.StoreError) for one in sent] == [False, True, False]
        assert [event.data["text"] async for event in t.events(name="said")] == ["b", "a"]
