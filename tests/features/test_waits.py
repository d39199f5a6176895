"""`step.wait_for_event`: which events count, what a match is, and that none is lost or seen twice."""

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


# ---------------------------------------------------------------- the plain case


async def test_an_event_resolves_the_wait(store):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == {"n": 1}


async def test_the_whole_event_is_returned_and_the_same_on_replay(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        seen.append(await ctx.step.wait_for_event("wait", event="pong", timeout="1h"))
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        await t.advance("5m")
        await t.send(Event("pong", {"n": 1}, id="p-1", user={"u": 1}, v="2"))
        await run.result()
    assert seen[0] == seen[1]
    event = seen[0]
    assert (event.name, event.data, event.id, event.user, event.v) == ("pong", {"n": 1}, "p-1", {"u": 1}, "2")
    assert event.time.minute == 5


async def test_without_an_event_it_is_none_at_the_time_out(store):
    async with TestEngine([f := waiter(timeout="2h")], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) is None
        assert (t.now - began).total_seconds() == 7200


async def test_an_event_after_the_time_out_changes_nothing(store):
    @durable.function("f")
    async def f(ctx):
        got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h")
        await ctx.step.sleep("nap", "1h")
        return got

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
        await t.advance("61m")
        await t.send(Event("pong"))
        assert await run.result() is None


async def test_an_event_just_before_the_time_out_counts(store):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        await t.advance("59m59s999ms")
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == {"n": 1}


async def test_another_name_does_not_match(store):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        await t.send([Event("pong/x"), Event("PONG"), Event("po")])
        assert await run.result() is None


async def test_an_event_that_came_before_the_wait_does_not_count(store):
    async with TestEngine([f := waiter()], store=store) as t:
        await t.send(Event("pong", {"n": 0}))
        run = await waiting(t, f)
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == {"n": 1}


async def test_the_first_of_several_wins(store):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        await t.send([Event("pong", {"n": n}) for n in range(3)])
        assert await run.result() == {"n": 0}


async def test_one_event_resolves_all_waits_for_it(store):
    functions = [waiter("one"), waiter("two")]
    async with TestEngine(functions, store=store) as t:
        runs = [await waiting(t, f) for f in functions for _ in range(3)]
        await t.send(Event("pong", {"n": 1}))
        assert [await run.result() for run in runs] == [{"n": 1}] * 6


async def test_two_waits_of_one_run_are_resolved_by_one_event(store):
    @durable.function("f")
    async def f(ctx):
        got = await asyncio.gather(
            *(ctx.step.wait_for_event(f"w{n}", event="pong", timeout="1h") for n in range(2))
        )
        return [one.data for one in got]

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == [{"n": 1}] * 2


async def test_each_wait_is_consumed_once(store):
    @durable.function("f")
    async def f(ctx):
        found = []
        for _ in range(3):
            got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h")
            found.append(None if got is None else got.data["n"])
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        await t.send(Event("pong", {"n": 1}))
        await t.until_idle()
        await t.send(Event("pong", {"n": 2}))
        assert await run.result() == [1, 2, None]


async def test_a_wait_after_a_timed_out_wait_of_the_same_name(store):
    @durable.function("f")
    async def f(ctx):
        found = []
        for _ in range(2):
            got = await ctx.step.wait_for_event("wait", event="pong", timeout="1h")
            found.append(None if got is None else got.data["n"])
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        await t.advance("90m")
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == [None, 1]


async def test_a_wait_survives_a_restart(store):
    f = waiter(timeout="5h")
    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
    async with TestEngine([], store=store) as client:
        await client.send(Event("pong", {"n": 1}))
    async with TestEngine([f], store=store) as t:
        assert await (await t.get_run(run.id)).result() == {"n": 1}


async def test_internal_events_can_be_waited_for(store):
    @durable.function("child")
    async def child(ctx):
        return 7

    f = waiter(event="durable/function.finished", if_="async.data.function_id == 'child'")
    async with TestEngine([f, child], store=store) as t:
        run = await waiting(t, f)
        await t.start(child)
        assert (await run.result())["result"] == 7


async def test_the_event_that_started_the_run_does_not_resolve_its_waits(store):
    f = waiter(trigger="pong")
    async with TestEngine([f], store=store) as t:
        await t.send(Event("pong", {"n": 0}))
        await t.until_idle()
        (run,) = await t.runs()
        await t.send(Event("pong", {"n": 1}))
        assert await run.result() == {"n": 1}


# ---------------------------------------------------------------- match and if_


async def test_match_needs_the_same_value_on_both_sides(store):
    async with TestEngine([f := waiter(match="data.order_id")], store=store) as t:
        run = await waiting(t, f, {"order_id": "o-1"})
        await t.send(
            [Event("pong", {"order_id": "o-2"}), Event("pong", {}), Event("pong", {"order_id": None})]
        )
        await t.until_idle()
        assert (await run.refresh()).status == "waiting"
        await t.send(Event("pong", {"order_id": "o-1", "n": 1}))
        assert await run.result() == {"order_id": "o-1", "n": 1}


@pytest.mark.parametrize("mine", [{}, {"order_id": None}], ids=repr)
async def test_a_field_that_is_missing_on_the_runs_side_matches_nothing(store, mine):
    async with TestEngine([f := waiter(match="data.order_id")], store=store) as t:
        run = await waiting(t, f, mine)
        await t.send([Event("pong", {}), Event("pong", {"order_id": None}), Event("pong", {"order_id": "x"})])
        assert await run.result() is None


@pytest.mark.parametrize(
    "condition",
    [
        "event.data.id == async.data.id",
        "async.data.id == event.data.id",
        "event.data.id == async.data.id && async.data.n > 0",
        "async.data.n > 0 && (true && event.data.id == async.data.id)",
        "async.data.n < 0 || event.data.id == async.data.id",
    ],
)
async def test_an_equality_of_both_events_needs_the_field_on_both_sides_wherever_it_stands(store, condition):
    async with TestEngine([f := waiter(if_=condition)], store=store) as t:
        runs = [await waiting(t, f, data) for data in ({}, {"id": None}, {"id": "x"})]
        await t.send([Event("pong", {"n": 1}), Event("pong", {"n": 2, "id": None})])
        await t.until_idle()
        assert [(await run.refresh()).status for run in runs] == ["waiting"] * 3
        await t.send(Event("pong", {"n": 3, "id": "x"}))
        await t.until_idle()
        assert [(await run.refresh()).status for run in runs] == ["waiting", "waiting", "completed"]


async def test_numbers_match_by_value_and_bools_are_no_numbers(store):
    async with TestEngine([f := waiter(match="data.n")], store=store) as t:
        one, true = await waiting(t, f, {"n": 1}), await waiting(t, f, {"n": True})
        await t.send(Event("pong", {"n": 1.0}))
        await t.until_idle()
        assert (await one.refresh()).status == "completed"
        assert (await true.refresh()).status == "waiting"
        await t.send(Event("pong", {"n": True}))
        assert await true.result() == {"n": True}


async def test_match_over_a_deep_path_and_odd_names(store):
    path = 'data.customer["e-mail"]'
    async with TestEngine([f := waiter(match=path)], store=store) as t:
        run = await waiting(t, f, {"customer": {"e-mail": "a@b"}})
        await t.send([Event("pong", {"customer": "a@b"}), Event("pong", {"customer": {"e-mail": "a@b"}})])
        assert await run.result() == {"customer": {"e-mail": "a@b"}}


async def test_if_sees_both_events(store):
    f = waiter(if_="async.data.amount >= event.data.minimum && async.user.vip")
    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f, {"minimum": 100})
        await t.send(Event("pong", {"amount": 500}))
        await t.send(Event("pong", {"amount": 50}, user={"vip": True}))
        await t.send(Event("pong", {"amount": 100}, user={"vip": True}))
        assert await run.result() == {"amount": 100}


async def test_an_error_in_a_condition_is_no_match_and_the_wait_stays(store):
    async with TestEngine([f := waiter(if_="async.data.n > 5")], store=store) as t:
        run = await waiting(t, f)
        await t.send([Event("pong", {"n": "text"}), Event("pong", {}), Event("pong", {"n": 6})])
        assert await run.result() == {"n": 6}


async def test_many_waits_and_one_event_resolve_only_the_right_one(store):
    async with TestEngine([f := waiter(match="data.id")], store=store) as t:
        runs = [await t.start(f, {"id": n}) for n in range(100)]
        await t.until_idle()
        await t.send(Event("pong", {"id": 42}))
        await t.until_idle()
        statuses = [(await run.refresh()).status for run in runs]
    assert [n for n, status in enumerate(statuses) if status == "completed"] == [42]


async def test_candidates_are_resolved_in_the_order_in_which_the_events_came(store):
    async with TestEngine([f := waiter(if_="async.data.n % 2 == 0 && async.data.n > 2")], store=store) as t:
        run = await waiting(t, f)
        await t.send([Event("pong", {"n": n}) for n in range(1, 9)])
        assert await run.result() == {"n": 4}


# ---------------------------------------------------------------- races


async def test_a_wait_against_a_sleep(store):
    @durable.function("f")
    async def f(ctx):
        wait = asyncio.ensure_future(ctx.step.wait_for_event("wait", event="pong", timeout="9h"))
        nap = asyncio.ensure_future(ctx.step.sleep("nap", "1h"))
        done, pending = await asyncio.wait({wait, nap}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await ctx.step.sleep("after", "1m")
        return "event" if wait in done else "sleep"

    async with TestEngine([f], store=store, max_warm=0) as t:
        first, second = await t.start(f), await t.start(f)
        assert await first.result() == "sleep"
        assert await second.result() == "sleep"
        third = await t.start(f)
        await t.until_idle()
        await t.send(Event("pong"))
        assert await third.result() == "event"


async def test_the_losing_wait_is_removed(store):
    @durable.function("f")
    async def f(ctx):
        wait = asyncio.ensure_future(ctx.step.wait_for_event("wait", event="pong", timeout="9h"))
        await ctx.step.sleep("nap", "1h")
        wait.cancel()
        await asyncio.wait([wait])
        await ctx.step.sleep("after", "5h")
        return wait.cancelled()

    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
        await t.advance("2h")
        assert [text for text in (await run.refresh()).waiting_for if "pong" in text] == []
        await t.send(Event("pong"))
        assert await run.result() is True


# ---------------------------------------------------------------- sent by the run that waits


@pytest.mark.parametrize("about", [{}, {"match": "data.room"}], ids=["bare", "match"])
@pytest.mark.parametrize("before", [None, "1m"], ids=["first", "later"])
@pytest.mark.parametrize("parallel", [False, True], ids=["alone", "beside"])
async def test_an_event_that_a_run_sent_before_its_own_wait_is_not_for_that_wait(
    store, about, before, parallel
):
    @durable.function("f")
    async def f(ctx):
        if before is not None:
            await ctx.step.sleep("nap", before)
        if not parallel:
            return await talk(ctx)
        return (await asyncio.gather(talk(ctx), ctx.step.sleep("beside", "1s")))[0]

    async def talk(ctx):
        await ctx.step.send_event("say", Event("chat", {"room": 1, "text": "own"}))
        heard = await ctx.step.wait_for_event("hear", event="chat", timeout="1h", **about)
        return heard and heard.data["text"]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f, {"room": 1}) is None
        run = await t.start(f, {"room": 1})
        await t.advance("2m")
        await t.send(Event("chat", {"room": 1, "text": "other"}))
        assert await run.result() == "other"


@pytest.mark.parametrize(
    "about", [{}, {"match": "data.k"}, {"if_": "async.data.k == event.data.k && async.data.n > 1"}]
)
async def test_an_event_that_a_run_sends_beside_its_own_wait_is_for_that_wait(store, about):
    """Both are in one commit, and nobody has waited on this path of this event before."""

    @durable.function("f", trigger="go")
    async def f(ctx):
        got, _ = await asyncio.gather(
            ctx.step.wait_for_event("w", event="e", timeout="1h", **about),
            ctx.step.send_event("s", durable.Event("e", {"k": ctx.event.data["k"], "n": 2})),
        )
        return got and got.data

    async with TestEngine([f], store=store) as t:
        await t.send(durable.Event("go", {"k": 7}))
        await t.until_idle()
        (run,) = await t.runs()
        assert await run.result() == {"k": 7, "n": 2}


async def test_a_wait_tells_when_it_began_though_its_run_was_out_of_memory_meanwhile(store):
    @durable.function("child")
    async def child(ctx):
        await ctx.step.sleep("nap", "1h")

    @durable.function("f")
    async def f(ctx):
        await ctx.step.wait_for_event("event", event="e", timeout="30d")
        await ctx.step.wait_for_event("late", event="never", timeout="1h")
        await ctx.step.wait_for_signal("signal", signal="signal", timeout="30d")
        await ctx.step.invoke("child", function=child)
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f, child], store=store, max_warm=0) as t:
        began = t.now
        run = await t.start(f)
        await t.advance("1h")
        await t.send(durable.Event("e", {}))
        await t.advance("2h")
        await t.send_signal("signal", {})
        await run.result()
        hours = {
            one.id: (
                (one.started_at - began).total_seconds() / 3600,
                (one.ended_at - began).total_seconds() / 3600,
            )
            for one in await run.steps()
        }
    assert hours == {"event": (0, 1), "late": (1, 2), "signal": (2, 3), "child": (3, 4), "nap": (4, 5)}


async def test_what_a_handler_does_to_its_event_changes_no_condition(store):
    @durable.function("f")
    async def f(ctx):
        ctx.event.data["order"] = "changed"
        got = await ctx.step.wait_for_event("wait", event="pong", match="data.order", timeout="1h")
        return got.data

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await waiting(t, f, {"order": "as sent"})
        await t.send(Event("pong", {"order": "changed"}))
        await t.send(Event("pong", {"order": "as sent"}))
        assert await run.result() == {"order": "as sent"}


# ---------------------------------------------------------------- names that no event has


async def test_a_wait_for_a_pattern_is_refused(store):
    async with TestEngine([f := waiter(event="user.*")], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        assert (await run.refresh()).status == "failed"
        assert run.error.name == "ConfigError"
        assert "exact name of an event, got 'user.*'" in run.error.message


async def test_a_wait_for_a_name_that_no_event_may_have_fails_its_step(store):
    async with TestEngine([f := waiter(event="x" * 513)], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        assert (await run.refresh()).status == "failed"
        assert run.error.name == "LimitError"
        assert run.error.step_id == "wait"
        assert "Limits.event_name allows 512" in run.error.message


async def test_a_time_out_holds_while_nobody_is_there_to_see_it(store):
    """What comes when the time is up comes too late, though no engine has noticed the time."""

    @durable.function("event")
    async def event(ctx):
        found = await ctx.step.wait_for_event("w", event="ok", timeout="1h")
        return found and found.data

    @durable.function("signal")
    async def signal(ctx):
        found = await ctx.step.wait_for_signal("w", signal="go", timeout="1h")
        return found and found.data

    @durable.function("cancelled", cancel_on=durable.CancelOn("stop", timeout="1h"))
    async def cancelled(ctx):
        await ctx.step.sleep("nap", "2h")
        return "awake"

    functions = [event, signal, cancelled]
    async with TestEngine(functions, store=store) as t:
        ids = [(await t.start(function)).id for function in functions]
        await t.until_idle()
    async with TestEngine(store=store, start="2030-01-01T05:00:00Z") as t:
        await t.send([Event("ok", {"late": True}), Event("stop")])
        assert not await t.send_signal("go")
    async with TestEngine(functions, store=store, start="2030-01-01T05:00:00Z") as t:
        runs = [await t.get_run(run_id) for run_id in ids]
        assert [await run.result() for run in runs] == [None, None, "awake"]
