"""Triggers: which events start which functions, and how often."""

from __future__ import annotations

import pytest

import durable
from durable import Event
from durable.testing import TestEngine

NOW_MS = 1_893_456_000_000


def noting(seen, id="f", trigger="e", **config):
    """A function that notes the events that start it."""

    @durable.function(id, trigger=trigger, **config)
    async def f(ctx):
        seen.append(ctx.event)

    return f


async def names_started(store, trigger, *events):
    """The names of those events that started a function with this trigger."""
    seen = []
    async with TestEngine([noting(seen, trigger=trigger)], store=store) as t:
        for event in events:
            await t.send(event)
        await t.until_idle()
    return [one.name for one in seen]


# ---------------------------------------------------------------- triggers


async def test_a_name_matches_itself_only(store):
    started = await names_started(store, "a/b", *map(Event, ["a/b", "a/bc", "a", "a/b/c", "A/B"]))
    assert started == ["a/b"]


async def test_a_slash_pattern_matches_what_continues_after_the_slash(store):
    names = ["order/created", "order/x/y", "order/", "order", "orders/created", "x/order/created"]
    started = await names_started(store, "order/*", *map(Event, names))
    assert started == ["order/created", "order/x/y"]


async def test_a_dot_pattern_matches_what_continues_after_the_dot(store):
    names = ["user.created", "user.a.b", "user.a/b", "user", "users.created", "app/user.created"]
    started = await names_started(store, "user.*", *map(Event, names))
    assert started == ["user.created", "user.a.b", "user.a/b"]


async def test_slashes_and_dots_are_cut_independently(store):
    event = Event("app/user.created")
    assert await names_started(store, ["app/*", "app/user.*"], event) == ["app/user.created"]


async def test_a_condition_filters(store):
    seen = []
    trigger = durable.on("e", if_="event.data.amount > 100 && event.user.vip")
    async with TestEngine([noting(seen, trigger=trigger)], store=store) as t:
        await t.send(
            [
                Event("e", {"amount": 250}, user={"vip": True}),
                Event("e", {"amount": 250}, user={"vip": False}),
                Event("e", {"amount": 50}, user={"vip": True}),
                Event("e", {"amount": "a lot"}, user={"vip": True}),
                Event("e", {}),
            ]
        )
        await t.until_idle()
    assert [one.data for one in seen] == [{"amount": 250}]


async def test_a_condition_that_gives_no_bool_is_no_match(store):
    seen = []
    async with TestEngine([noting(seen, trigger=durable.on("e", "event.data.n"))], store=store) as t:
        await t.send(Event("e", {"n": 1}))
        await t.until_idle()
    assert seen == []


async def test_one_event_starts_one_run_of_each_function(store):
    seen = []
    functions = [
        noting(seen, "one", "order/created"),
        noting(seen, "two", "order/*"),
        noting(seen, "three", ["order/created", "order/*", durable.on("order/created", "true")]),
        noting(seen, "four", "other"),
    ]
    async with TestEngine(functions, store=store) as t:
        (sent,) = await t.send(Event("order/created"))
        await t.until_idle()
        runs = await t.runs(event_id=sent)
        assert sorted(run.function_id for run in runs) == ["one", "three", "two"]
    assert len(seen) == 3


async def test_a_function_that_nobody_hosted_gets_no_run(store):
    seen = []
    async with TestEngine([], store=store) as t:
        await t.send(Event("e"))
    async with TestEngine([noting(seen)], store=store) as t:
        await t.until_idle()
    assert seen == []


async def test_a_function_that_no_living_engine_hosts_gets_its_runs_queued(store):
    seen = []
    async with TestEngine([noting(seen)], store=store):
        pass
    async with TestEngine([], store=store) as client:
        await client.send(Event("e", {"n": 1}))
        await client.until_idle()
        (run,) = await client.runs()
        assert run.status == "queued"
    async with TestEngine([noting(seen)], store=store) as t:
        await t.until_idle()
    assert [one.data for one in seen] == [{"n": 1}]


async def test_a_trigger_that_was_taken_away_starts_nothing_more(store):
    seen = []
    async with TestEngine([noting(seen, trigger="old")], store=store):
        pass
    async with TestEngine([noting(seen, trigger="new")], store=store) as t:
        await t.send([Event("old"), Event("new")])
        await t.until_idle()
    assert [one.name for one in seen] == ["new"]


# ---------------------------------------------------------------- ticks are events


async def test_a_line_seen_for_the_first_time_has_had_no_tick(store):
    f = noting([], trigger=durable.cron("0 9 * * *"))
    async with TestEngine([f], store=store) as t:
        await t.until_idle()
        assert not await t.events()
    async with TestEngine([f], store=store, start="2030-01-03T00:00:00Z") as t:
        await t.until_idle()
        ticks = [one.data["scheduled_at"][:13] async for one in t.events("durable/cron.fired")]
        assert ticks == ["2030-01-02T09"], "it was known when that one was missed"


@pytest.mark.parametrize("how", ["if", "match", "cancel"])
async def test_a_tick_is_for_waits_and_cancellations_by_its_fields(store, how):
    hourly = "async.data.cron == '0 * * * *'"
    wait = {"match": "data.cron"} if how == "match" else {"if_": hourly}
    cancel = [durable.CancelOn("durable/cron.fired", if_=hourly)] if how == "cancel" else []

    @durable.function("waits", cancel_on=cancel)
    async def waits(ctx):
        if how == "cancel":
            await ctx.step.sleep("nap", "3h")
            return None
        tick = await ctx.step.wait_for_event("tick", event="durable/cron.fired", timeout="3h", **wait)
        return tick and tick.data["scheduled_at"][11:16]

    async with TestEngine([noting([], trigger=durable.cron("0 * * * *")), waits], store=store) as t:
        run = await t.start(waits, {"cron": "0 * * * *"})
        await t.advance("4h")
        await run.refresh()
        assert (run.status, run.output) == (
            ("cancelled", None) if how == "cancel" else ("completed", "01:00")
        )
