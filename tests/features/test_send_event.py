"""`step.send_event`: events that are sent exactly once, whatever becomes of the run."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


def collector(seen, trigger="made"):
    """A function that notes the data of the events that start it."""

    @durable.function("collector", trigger=trigger)
    async def collect(ctx):
        seen.append(ctx.event.data)

    return collect


async def test_an_event_starts_the_functions_that_wait_for_it(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.send_event("tell", durable.Event("made", {"n": 1}))

    async with TestEngine([f, collector(seen)], store=store) as t:
        await t.invoke(f)
        await t.until_idle()
    assert seen == [{"n": 1}]


async def test_it_is_sent_once_however_often_the_run_is_replayed(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        for _ in range(2):
            await ctx.step.send_event("tell", durable.Event("made", {"n": 1}))
            await ctx.step.sleep("nap", "1h")

    async with TestEngine([f, collector(seen)], store=store, max_warm=0) as t:
        await t.invoke(f)
        await t.until_idle()
    assert seen == [{"n": 1}] * 2


async def test_the_ids_come_back_in_order_and_the_same_on_replay(store):
    got = []

    @durable.function("f")
    async def f(ctx):
        ids = await ctx.step.send_event(
            "tell", [durable.Event("made", {"n": 1}, id="mine"), durable.Event("made", {"n": 2})]
        )
        got.append(ids)
        await ctx.step.sleep("nap", "1h")
        return ids

    async with TestEngine([f], store=store, max_warm=0) as t:
        ids = await t.invoke(f)
        assert ids[0] == "mine"
        assert len(ids) == 2
        assert got == [ids, ids]
        assert {one.id for one in await t.events("made")} == set(ids)


async def test_an_empty_list_sends_nothing(store):
    @durable.function("f")
    async def f(ctx):
        return await ctx.step.send_event("tell", [])

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == []


async def test_a_bad_event_fails_the_step_and_nothing_is_sent(store):
    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.send_event(
                "tell", [durable.Event("made", {"n": 1}), durable.Event("durable/forged", {})]
            )
        return [caught.value.name, caught.value.step_id]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["EventRejected", "tell"]
        assert (await t.events("made")).items == []


async def test_what_is_no_event_fails_the_run(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.send_event("tell", {"name": "made"})

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    assert caught.value.error.name == "ConfigError"


async def test_the_steps_before_it_are_durable_before_others_see_the_event(store):
    seen = []

    async def work():
        return 1

    @durable.function("look", trigger="made")
    async def look(ctx):
        run = await ctx.engine.get_run(ctx.event.data["run"])
        seen.append({s.id: s.status for s in await run.steps()})

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("work", work)
        await ctx.step.send_event("tell", durable.Event("made", {"run": ctx.run_id}))

    async with TestEngine([f, look], store=store) as t:
        await t.invoke(f)
        await t.until_idle()
    assert seen == [{"work": "completed", "tell": "completed"}]


async def test_events_can_be_sent_in_parallel(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        await asyncio.gather(
            *(ctx.step.send_event(f"tell {n}", durable.Event("made", {"n": n})) for n in range(10))
        )

    async with TestEngine([f, collector(seen)], store=store) as t:
        await t.invoke(f)
        await t.until_idle()
    assert sorted(one["n"] for one in seen) == list(range(10))


async def test_an_event_that_was_sent_resolves_a_wait_that_was_begun_beside_it(store):
    @durable.function("f")
    async def f(ctx):
        event, _ = await asyncio.gather(
            ctx.step.wait_for_event("wait", event="pong", timeout="1h"),
            ctx.step.send_event("tell", durable.Event("ping", {})),
        )
        return event is not None

    @durable.function("answer", trigger="ping")
    async def answer(ctx):
        await ctx.step.send_event("tell", durable.Event("pong", {}))

    async with TestEngine([f, answer], store=store) as t:
        assert await t.invoke(f) is True


REPEATED = {
    "send": (lambda engine: engine.send(durable.Event("made")), "ctx.step.send_event"),
    "send_signal": (lambda engine: engine.send_signal("go"), "ctx.step.send_signal"),
    "start": (lambda engine: engine.start("collector"), "ctx.step"),
    "invoke": (lambda engine: engine.invoke("collector"), "ctx.step.invoke"),
}


@pytest.mark.parametrize("name", REPEATED)
async def test_a_call_of_the_engine_in_a_handler_warns_and_names_the_step_to_use(name):
    call, instead = REPEATED[name]

    @durable.function("f", retries=0)
    async def f(ctx):
        with pytest.warns(durable.DurableWarning, match=instead):
            await call(ctx.engine)

    async with durable.Engine("memory://", functions=[f, collector([])]) as engine:
        await engine.invoke(f, timeout="10s")


async def test_engine_send_in_a_step_is_nobodys_business(store):
    seen = []

    @durable.function("f", retries=0)
    async def f(ctx):
        await ctx.step.run("tell", ctx.engine.send, durable.Event("made", {"n": 1}))

    async with TestEngine([f, collector(seen)], store=store) as t:
        await t.invoke(f)
        await t.until_idle()
    assert seen == [{"n": 1}]
