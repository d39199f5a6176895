"""Events: what may be sent, what it starts, and that it starts it once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

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


# ---------------------------------------------------------------- what is received


async def test_a_received_event_has_id_time_and_data(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        (given,) = await t.send(Event("e", {"n": 1}, user={"name": "u"}, v="2"))
        await t.until_idle()
    (event,) = seen
    assert event.id == given
    assert event.ts == NOW_MS
    assert event.time == datetime(2030, 1, 1, tzinfo=UTC)
    assert (event.name, event.data, event.user, event.v) == ("e", {"n": 1}, {"name": "u"}, "2")


async def test_an_event_without_data_has_an_empty_object(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        await t.send(Event("e"))
        await t.until_idle()
    assert seen[0].data == {}


async def test_ids_given_by_the_engine_are_ulids_in_order(store):
    async with TestEngine([], store=store) as t:
        ids = await t.send([Event("e") for _ in range(50)])
    assert ids == sorted(ids)
    assert len(set(ids)) == 50
    assert {len(one) for one in ids} == {26}


async def test_an_event_is_frozen():
    event = Event("e", {})
    with pytest.raises(AttributeError):
        event.name = "other"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: Event(""),
        lambda: Event(5),
        lambda: Event("e", [1]),
        lambda: Event("e", "text"),
        lambda: Event("e", ts=1.5),
        lambda: Event("e", ts=True),
        lambda: Event("e", ts=datetime(2030, 1, 1)),  # noqa: DTZ001 - the point
        lambda: Event("e", ts=datetime(1979, 1, 1, tzinfo=UTC)),
        lambda: Event("e", ts=datetime(2101, 1, 1, tzinfo=UTC)),
        lambda: Event("e", id=""),
        lambda: Event("e", id=7),
        lambda: Event("e", user="u"),
        lambda: Event("e", v=1),
    ],
)
def test_an_event_that_is_not_valid_cannot_be_made(make):
    with pytest.raises(durable.EventRejected):
        make()


@pytest.mark.parametrize(
    "event",
    [
        Event("durable/function.failed"),
        Event("durable/"),
        Event("e", {"x": object()}),
        Event("e", {"x": float("nan")}),
        Event("e", {1: "x"}),
    ],
    ids=lambda e: f"{e.name} {e.data}"[:40],
)
async def test_an_event_that_may_not_be_sent_is_refused(event):
    async with TestEngine([]) as t:
        with pytest.raises(durable.EventRejected):
            await t.send(event)
        assert (await t.events()).items == []


async def test_sizes_over_the_limit_are_limit_errors_too(store):
    async with TestEngine([], store=store) as t:
        with pytest.raises(durable.EventRejected) as data:
            await t.send(Event("e", {"x": "y" * 600_000}))
        with pytest.raises(durable.EventRejected) as name:
            await t.send(Event("n" * 513))
        await t.send(Event("n" * 512))
    assert isinstance(data.value, durable.LimitError)
    assert "event_bytes" in str(data.value)
    assert isinstance(name.value, durable.LimitError)
    assert "event_name" in str(name.value)


async def test_of_a_list_all_or_none_is_sent(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        with pytest.raises(durable.EventRejected, match="2 of 3"):
            await t.send([Event("e"), Event("durable/x"), Event("e")])
        await t.until_idle()
        assert (await t.events()).items == []
    assert seen == []


async def test_a_long_list_is_sent_as_a_whole(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        ids = await t.send([Event("e", {"n": n}) for n in range(700)])
        await t.until_idle()
    assert len(set(ids)) == 700
    assert sorted(one.data["n"] for one in seen) == list(range(700))


async def test_an_empty_list_has_no_ids(store):
    async with TestEngine([], store=store) as t:
        assert await t.send([]) == []


@pytest.mark.parametrize("wrong", [{"name": "e"}, "e", None, [Event("e"), "e"]], ids=repr)
async def test_what_is_no_event_is_refused(wrong):
    async with TestEngine([]) as t:
        with pytest.raises((durable.DurableError, TypeError)):
            await t.send(wrong)
        assert (await t.events()).items == []


# ---------------------------------------------------------------- the same event twice


async def test_the_same_name_and_id_is_the_same_event_for_24_hours(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        assert await t.send(Event("e", {"n": 1}, id="x")) == ["x"]
        await t.advance("23h59m")
        assert await t.send(Event("e", {"n": 2}, id="x")) == ["x"]
        await t.until_idle()
        assert [one.data for one in seen] == [{"n": 1}]
        await t.advance("1m")
        await t.send(Event("e", {"n": 3}, id="x"))
        await t.until_idle()
    assert [one.data for one in seen] == [{"n": 1}, {"n": 3}]


async def test_another_name_with_the_same_id_is_another_event(store):
    seen = []
    functions = [noting(seen, "f", "e"), noting(seen, "g", "other")]
    async with TestEngine(functions, store=store) as t:
        await t.send([Event("e", id="x"), Event("other", id="x")])
        await t.until_idle()
    assert sorted(one.name for one in seen) == ["e", "other"]


async def test_a_repetition_within_one_list_is_sent_once(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        assert await t.send([Event("e", id="x"), Event("e", id="x")]) == ["x", "x"]
        await t.until_idle()
    assert len(seen) == 1


async def test_a_duplicate_is_stored_once(store):
    async with TestEngine([], store=store) as t:
        await t.send(Event("e", id="x"))
        await t.send(Event("e", id="x"))
        assert len((await t.events("e")).items) == 1


async def test_ids_survive_a_restart(store):
    seen = []
    for _ in range(2):
        async with TestEngine([noting(seen)], store=store) as t:
            await t.send(Event("e", id="x"))
            await t.until_idle()
    assert len(seen) == 1


async def test_events_without_id_are_never_the_same(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        await t.send([Event("e", {"n": 1}), Event("e", {"n": 1})])
        await t.until_idle()
    assert len(seen) == 2


# ---------------------------------------------------------------- later, and from elsewhere


async def test_a_future_ts_delays_the_start(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        await t.send(Event("e", ts=t.now + timedelta(hours=2)))
        await t.advance("119m")
        assert seen == []
        (run,) = await t.runs()
        assert run.status == "queued"
        await t.advance("1m")
    assert len(seen) == 1


async def test_a_past_ts_starts_at_once_and_is_kept(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        await t.send(Event("e", ts=1_000_000_000_000))
        await t.until_idle()
    assert seen[0].ts == 1_000_000_000_000


async def test_a_delayed_start_survives_a_restart(store):
    seen = []
    async with TestEngine([noting(seen)], store=store) as t:
        await t.send(Event("e", ts=NOW_MS + 3_600_000))
        await t.until_idle()
    async with TestEngine([noting(seen)], store=store) as t:
        await t.until_idle()
        assert seen == []
        await t.advance("1h")
    assert len(seen) == 1


async def test_a_delayed_event_resolves_waits_on_receipt(store):
    @durable.function("waiter")
    async def waiter(ctx):
        return (await ctx.step.wait_for_event("wait", event="e", timeout="1d")) is not None

    async with TestEngine([waiter], store=store) as t:
        run = await t.start(waiter)
        await t.until_idle()
        await t.send(Event("e", ts=t.now + timedelta(hours=2)))
        await t.until_idle()
        assert (await run.refresh()).status == "completed"
        assert await run.result() is True


async def test_send_soon_sends_from_another_thread(store, until):
    seen, answers = [], []
    async with TestEngine([noting(seen)], store=store) as t:

        def work():
            answers.append(t.send_soon(Event("e", {"n": 1}, id="x")).result(10))
            try:
                t.send_soon([Event("e"), Event("durable/x")]).result(10)
            except durable.EventRejected as error:
                answers.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        await until(lambda: not thread.is_alive())
        await t.until_idle()
    assert answers[0] == ["x"]
    assert isinstance(answers[1], durable.EventRejected)
    assert [one.data for one in seen] == [{"n": 1}]


# ---------------------------------------------------------------- reading them back


async def test_events_are_listed_newest_first_and_in_pages(store):
    async with TestEngine([], store=store) as t:
        for n in range(5):
            await t.send(Event("e" if n % 2 else "other", {"n": n}))
            await t.advance("1m")
        page = await t.events(limit=2)
        assert [one.data["n"] for one in page] == [4, 3]
        assert len(page) == 2
        page = await t.events(limit=2, cursor=page.cursor)
        assert [one.data["n"] for one in page] == [2, 1]
        assert [one.data["n"] async for one in t.events(limit=2)] == [4, 3, 2, 1, 0]
        assert [one.data["n"] async for one in t.events("e")] == [3, 1]
        between = t.events(since="2030-01-01T00:01:00Z", until="2030-01-01T00:03:00Z")
        assert [one.data["n"] async for one in between] == [2, 1]


async def test_the_end_of_a_run_is_an_event(store):
    @durable.function("f")
    async def f(ctx):
        if ctx.event.data.get("fail"):
            raise durable.NonRetriableError("no")
        return "done"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f, {"n": 1})
        await run.result()
        failed = await t.start(f, {"fail": True})
        await t.until_idle()
        finished = [one async for one in t.events("durable/function.finished")]
        (failure,) = await t.events("durable/function.failed")
    first = next(one.data for one in finished if one.data["run_id"] == run.id)
    assert first["function_id"] == "f"
    assert first["app"] == "app"
    assert first["result"] == "done"
    assert first["event"]["data"] == {"n": 1}
    assert len(first["events"]) == 1
    assert len(finished) == 2
    assert failure.data["run_id"] == failed.id
    assert failure.data["error"]["name"] == "NonRetriableError"
    assert set(failure.data["error"]) == {"name", "message", "stack", "step_id"}


async def test_a_cancelled_run_emits_finished_and_cancelled(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1d")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.cancel()
        await t.until_idle()
        names = {one.name async for one in t.events() if one.data.get("run_id") == run.id}
    assert names == {"durable/function.finished", "durable/function.cancelled"}


async def test_a_run_that_such_an_event_started_emits_none_of_them(store):
    @durable.function("f")
    async def f(ctx):
        return 1

    @durable.function("after", trigger="durable/function.finished")
    async def after(ctx):
        return ctx.event.data["run_id"]

    async with TestEngine([f, after], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        (one,) = await t.runs(after)
        assert one.output == run.id
        assert len((await t.events("durable/function.finished")).items) == 1
