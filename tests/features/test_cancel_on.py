"""`cancel_on`: events that end a run."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import durable
from durable import CancelOn, Event
from durable.testing import TestEngine


def sleeper(*cancel_on, trigger="begin", **config):
    @durable.function("sleeper", trigger=trigger, cancel_on=list(cancel_on), **config)
    async def sleeper(ctx):
        await ctx.step.sleep("nap", "1d")
        return "awake"

    return sleeper


async def begun(t, data=None, **event):
    """A run that the event ``begin`` has started."""
    (sent,) = await t.send(Event("begin", data, **event))
    await t.until_idle()
    (run,) = await t.runs(event_id=sent)
    return run


async def status(t, run):
    await t.until_idle()
    return (await run.refresh()).status


async def test_the_event_cancels_the_run_at_once(store):
    async with TestEngine([sleeper(CancelOn("stop"))], store=store) as t:
        run = await begun(t)
        await t.send(Event("stop"))
        assert (await run.refresh()).status == "cancelled"
        assert await status(t, run) == "cancelled"
        with pytest.raises(durable.RunCancelled):
            await run.result()


async def test_another_event_does_not(store):
    async with TestEngine([sleeper(CancelOn("stop"))], store=store) as t:
        run = await begun(t)
        await t.send([Event("stopped"), Event("STOP"), Event("begin/stop")])
        assert await status(t, run) == "waiting"


async def test_match_needs_the_same_value(store):
    async with TestEngine([sleeper(CancelOn("stop", match="data.id"))], store=store) as t:
        one, two = await begun(t, {"id": 1}), await begun(t, {"id": 2})
        await t.send(Event("stop", {"id": 2}))
        assert await status(t, one) == "waiting"
        assert await status(t, two) == "cancelled"


async def test_a_field_that_is_missing_on_both_sides_cancels_nothing(store):
    async with TestEngine([sleeper(CancelOn("stop", match="data.id"))], store=store) as t:
        run = await begun(t, {})
        await t.send([Event("stop", {}), Event("stop", {"id": None})])
        assert await status(t, run) == "waiting"


async def test_if_sees_both_events(store):
    cancel = CancelOn("stop", if_="async.data.level > event.data.level && async.data.id == event.data.id")
    async with TestEngine([sleeper(cancel)], store=store) as t:
        run = await begun(t, {"level": 3, "id": "x"})
        await t.send([Event("stop", {"level": 9, "id": "y"}), Event("stop", {"level": 3, "id": "x"})])
        assert await status(t, run) == "waiting"
        await t.send(Event("stop", {"level": 4, "id": "x"}))
        assert await status(t, run) == "cancelled"


async def test_one_of_several_suffices(store):
    async with TestEngine([sleeper(CancelOn("stop"), CancelOn("halt", match="data.id"))], store=store) as t:
        run = await begun(t, {"id": 1})
        await t.send(Event("halt", {"id": 1}))
        assert await status(t, run) == "cancelled"


async def test_a_single_one_needs_no_list(store):
    @durable.function("f", trigger="begin", cancel_on=CancelOn("stop"))
    async def f(ctx):
        await ctx.step.sleep("nap", "1d")

    async with TestEngine([f], store=store) as t:
        run = await begun(t)
        await t.send(Event("stop"))
        assert await status(t, run) == "cancelled"


async def test_the_triggering_event_never_cancels_its_own_run(store):
    async with TestEngine([sleeper(CancelOn("begin", match="data.id"))], store=store) as t:
        first = await begun(t, {"id": 1})
        assert first.status == "waiting"
        second = await begun(t, {"id": 1})
        assert await status(t, first) == "cancelled"
        assert await status(t, second) == "waiting"


async def test_an_event_before_the_run_does_not_count(store):
    async with TestEngine([sleeper(CancelOn("stop"))], store=store) as t:
        await t.send(Event("stop"))
        assert await status(t, await begun(t)) == "waiting"


async def test_a_run_that_has_not_started_is_cancelled_too(store):
    async with TestEngine([sleeper(CancelOn("stop"))], store=store) as t:
        run = await begun(t, ts=t.now + timedelta(hours=1))
        assert run.status == "queued"
        await t.send(Event("stop"))
        await t.advance("2h")
        assert await status(t, run) == "cancelled"
        assert run.started_at is None


async def test_with_a_time_out_it_listens_only_so_long(store):
    async with TestEngine([sleeper(CancelOn("stop", timeout="1h"))], store=store) as t:
        first = await begun(t)
        await t.advance("59m")
        await t.send(Event("stop"))
        assert await status(t, first) == "cancelled"
        second = await begun(t)
        await t.advance("61m")
        await t.send(Event("stop"))
        assert await status(t, second) == "waiting"
        assert await second.result() == "awake"


async def test_a_time_out_may_be_a_point_in_time(store):
    async with TestEngine([sleeper(CancelOn("stop", timeout="2030-01-01T01:00:00Z"))], store=store) as t:
        run = await begun(t)
        await t.advance("61m")
        await t.send(Event("stop"))
        assert await status(t, run) == "waiting"


async def test_it_holds_for_runs_that_were_started_or_invoked(store):
    async with TestEngine([f := sleeper(CancelOn("stop", match="data.id"))], store=store) as t:
        run = await t.start(f, {"id": 1})
        await t.until_idle()
        await t.send(Event("stop", {"id": 1}))
        assert await status(t, run) == "cancelled"


async def test_it_survives_a_restart(store):
    f = sleeper(CancelOn("stop", match="data.id"))
    async with TestEngine([f], store=store) as t:
        run = await begun(t, {"id": 1})
    async with TestEngine([], store=store) as client:
        await client.send(Event("stop", {"id": 1}))
        assert (await client.get_run(run.id)).status == "cancelled"
    async with TestEngine([f], store=store) as t:
        assert await status(t, await t.get_run(run.id)) == "cancelled"


async def test_a_run_that_has_ended_stays_as_it_is(store):
    @durable.function("quick", trigger="begin", cancel_on=CancelOn("stop"))
    async def quick(ctx):
        return 1

    async with TestEngine([quick], store=store) as t:
        run = await begun(t)
        await t.send(Event("stop"))
        assert await status(t, run) == "completed"


async def test_a_delayed_event_cancels_on_receipt(store):
    async with TestEngine([sleeper(CancelOn("stop"))], store=store) as t:
        run = await begun(t)
        await t.send(Event("stop", ts=t.now + timedelta(hours=5)))
        assert await status(t, run) == "cancelled"


async def test_an_event_that_a_step_sends_cancels_its_own_run(store):
    after = []

    @durable.function("f", trigger="begin", cancel_on=CancelOn("stop", match="data.id"))
    async def f(ctx):
        await ctx.step.send_event("tell", Event("stop", {"id": ctx.event.data["id"]}))
        await ctx.step.sleep("nap", "1h")
        after.append(1)

    async with TestEngine([f], store=store) as t:
        run = await begun(t, {"id": 1})
        await t.advance("2h")
        assert await status(t, run) == "cancelled"
    assert after == []


@pytest.mark.parametrize("mode", ["finish", "interrupt"])
async def test_a_callback_in_flight_ends_as_on_cancel_says(store, mode):
    started, release, log = asyncio.Event(), asyncio.Event(), []

    async def work():
        started.set()
        try:
            await release.wait()
        except asyncio.CancelledError:
            log.append("interrupt")
            raise
        log.append("finish")

    @durable.function("f", trigger="begin", cancel_on=CancelOn("stop"), on_cancel=mode)
    async def f(ctx):
        await ctx.step.run("work", work)
        await ctx.step.run("after", go_on)

    async def go_on():
        log.append("went on")

    async with TestEngine([f], store=store) as t:
        await t.send(Event("begin"))
        await started.wait()
        await t.send(Event("stop"))
        if mode == "finish":
            release.set()
        await t.until_idle()
        (run,) = await t.runs()
        assert run.status == "cancelled"
    assert log == [mode]


async def test_a_rerun_obeys_it_like_the_first_run(store):
    cancel = [CancelOn("stop", match="data.id"), CancelOn("late", timeout="1h")]
    async with TestEngine([sleeper(*cancel)], store=store) as t:
        one = await begun(t, {"id": 1})
        await t.cancel(one.id)
        await t.advance("2h")
        first, second = await t.rerun(one.id), await t.rerun(one.id)
        await t.send(Event("stop", {"id": 2}))
        assert await status(t, first) == "waiting"
        await t.send(Event("stop", {"id": 1}))
        assert (await status(t, first), await status(t, second)) == ("cancelled", "cancelled")
        third = await t.rerun(one.id)
        await t.send(Event("late"))
        assert await status(t, third) == "cancelled", "its hour counts from the rerun"


@pytest.mark.parametrize("if_", [None, "async.data.event.data.order == event.data.order"])
async def test_a_run_is_not_cancelled_by_its_own_end(store, if_):
    """The first of an order's runs to end cancels the others."""

    @durable.function("race", cancel_on=CancelOn("durable/function.finished", if_=if_))
    async def race(ctx):
        await ctx.step.sleep("nap", ctx.event.data["nap"])
        return "first"

    async with TestEngine([race], store=store) as t:
        first = await t.start(race, {"order": 1, "nap": "1h"})
        other = await t.start(race, {"order": 1, "nap": "2h"})
        assert await first.result() == "first"
        assert await status(t, first) == "completed"
        assert await status(t, other) == "cancelled"
        told = [event.data["run_id"] for event in await t.events("durable/function.finished")]
        assert sorted(told) == sorted([first.id, other.id])


@pytest.mark.parametrize("fails", [False, True])
async def test_a_run_that_its_last_send_cancels_has_one_end(store, fails):
    ran = []

    async def undo(ctx):
        ran.append(ctx.event.data["run_id"])

    @durable.function("suicidal", cancel_on=CancelOn("stop", match="data.k"), on_failure=undo)
    async def suicidal(ctx):
        await ctx.step.send_event("send", Event("stop", {"k": 1}))
        if fails:
            raise durable.NonRetriableError("no")
        return "done"

    async with TestEngine([suicidal], store=store) as t:
        run = await t.start(suicidal, {"k": 1})
        assert await status(t, run) == "cancelled"
        told = [event.name for event in await t.events() if event.data.get("run_id") == run.id]
        assert sorted(told) == ["durable/function.cancelled", "durable/function.finished"]
        assert ran == []
