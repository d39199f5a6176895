"""Reading runs back: `runs()`, `Run`, `steps()`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest

import durable
from durable.testing import TestEngine


@durable.function("quick", trigger="e")
async def quick(ctx):
    return {"n": ctx.event.data.get("n")}


@durable.function("failing", trigger="e", retries=0)
async def failing(ctx):
    raise ValueError("no")


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "1d")


ALL = [quick, failing, sleeping]


async def some_runs(t, count=5):
    """Start `count` runs, a minute apart."""
    runs = []
    for n in range(count):
        runs.append(await t.start(quick, {"n": n}))
        await t.advance("1m")
    return [run.id for run in runs]


# ---------------------------------------------------------------- lists


async def test_runs_come_newest_first(store):
    async with TestEngine(ALL, store=store) as t:
        ids = await some_runs(t)
        assert [run.id for run in await t.runs()] == ids[::-1]


async def test_a_page_is_sized_and_iterable_and_has_a_cursor(store):
    async with TestEngine(ALL, store=store) as t:
        ids = await some_runs(t)
        page = await t.runs(limit=2)
        assert len(page) == 2
        assert [run.id for run in page.items] == [run.id for run in page] == ids[:-3:-1]
        assert page.cursor is not None


async def test_pages_follow_each_other_without_gap_or_repetition(store):
    async with TestEngine(ALL, store=store) as t:
        ids = await some_runs(t, 5)
        found, cursor = [], None
        while True:
            page = await t.runs(limit=2, cursor=cursor)
            found.extend(run.id for run in page)
            cursor = page.cursor
            if cursor is None:
                break
        assert found == ids[::-1]


async def test_a_full_last_page_has_no_cursor(store):
    async with TestEngine(ALL, store=store) as t:
        await some_runs(t, 4)
        page = await t.runs(limit=2)
        assert (await t.runs(limit=2, cursor=page.cursor)).cursor is None


async def test_async_for_goes_over_all_pages(store):
    async with TestEngine(ALL, store=store) as t:
        ids = await some_runs(t)
        assert [run.id async for run in t.runs(limit=2)] == ids[::-1]


async def test_runs_are_filtered_by_function(store):
    async with TestEngine(ALL, store=store) as t:
        await t.send(durable.Event("e"))
        await t.until_idle()
        assert [run.function_id for run in await t.runs(quick)] == ["quick"]
        assert [run.function_id for run in await t.runs("failing")] == ["failing"]
        assert (await t.runs(sleeping)).items == []


async def test_an_unknown_function_is_a_lookup_error(store):
    async with TestEngine(ALL, store=store) as t:
        with pytest.raises(LookupError, match="nobody"):
            await t.runs("nobody")


async def test_runs_are_filtered_by_status(store):
    async with TestEngine(ALL, store=store) as t:
        for function in ALL:
            await t.start(function)
        await t.until_idle()

        async def having(status):
            return sorted([run.function_id async for run in t.runs(status=status)])

        assert await having("completed") == ["quick"]
        assert await having(durable.RunStatus.FAILED) == ["failing"]
        assert await having("waiting") == ["sleeping"]
        assert await having(["failed", durable.RunStatus.WAITING]) == ["failing", "sleeping"]
        assert await having("cancelled") == []


async def test_runs_are_filtered_by_event(store):
    async with TestEngine(ALL, store=store) as t:
        await t.send(durable.Event("e", id="one"))
        await t.send(durable.Event("e", id="two"))
        await t.until_idle()
        found = await t.runs(event_id="one")
        assert sorted((run.function_id, run.event.id) for run in found) == [
            ("failing", "one"),
            ("quick", "one"),
        ]
        assert (await t.runs(event_id="three")).items == []


async def test_since_is_included_and_until_is_not(store):
    async with TestEngine(ALL, store=store) as t:
        ids = await some_runs(t, 5)
        since, until = "2030-01-01T00:01:00Z", datetime(2030, 1, 1, 0, 3, tzinfo=UTC)
        assert [run.id for run in await t.runs(since=since, until=until)] == [ids[2], ids[1]]
        assert [run.id for run in await t.runs(since=until)] == [ids[4], ids[3]]


async def test_filters_and_pages_go_together(store):
    async with TestEngine(ALL, store=store) as t:
        for n in range(6):
            await t.send(durable.Event("e", {"n": n}))
            await t.advance("1m")
        found = t.runs(quick, status="completed", limit=1, since="2030-01-01T00:02:00Z")
        assert [run.output["n"] async for run in found] == [5, 4, 3, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "sleeping"},
        {"status": 5},
        {"status": ["failed", None]},
        {"limit": 0},
        {"limit": "many"},
        {"since": "yesterday"},
        {"until": datetime(2030, 1, 1)},  # noqa: DTZ001 - the point
    ],
    ids=repr,
)
async def test_a_wrong_question_is_a_config_error(wrong):
    async with TestEngine(ALL) as t:
        with pytest.raises(durable.ConfigError, match=next(iter(wrong))):
            await t.runs(**wrong)


async def test_a_cursor_that_no_page_gave_is_a_config_error(store):
    async with TestEngine(ALL, store=store) as t:
        await some_runs(t, 1)
        for cursor in ("no cursor", "", "zzz", 5, "-1", "9" * 30):
            with pytest.raises(durable.ConfigError, match=r"events\(cursor\): a cursor that a page gave"):
                await t.events(cursor=cursor)
            with pytest.raises(durable.ConfigError, match=r"runs\(cursor\): a cursor that a page gave"):
                await t.runs(cursor=cursor)


async def test_a_status_out_of_none_has_no_runs(store):
    async with TestEngine(ALL, store=store) as t:
        await some_runs(t, 2)
        assert len(await t.runs(status=[])) == 0
        assert [run async for run in t.runs(status=())] == []


# ---------------------------------------------------------------- one run


async def test_get_run_finds_a_run_by_its_id(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(quick, {"n": 1})
        await t.until_idle()
        found = await t.get_run(run.id)
        assert (found.id, found.function_id, found.app, found.status) == (run.id, "quick", "app", "completed")
        with pytest.raises(LookupError, match="nobody"):
            await t.get_run("nobody")


async def test_a_runs_times_are_aware_datetimes(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(sleeping)
        assert run.queued_at == datetime(2030, 1, 1, tzinfo=UTC)
        await t.advance("1d")
        await run.refresh()
        assert run.started_at == datetime(2030, 1, 1, tzinfo=UTC)
        assert run.ended_at == datetime(2030, 1, 2, tzinfo=UTC)


async def test_a_delayed_run_starts_later_than_it_is_queued(store):
    async with TestEngine(ALL, store=store) as t:
        await t.send(durable.Event("e", ts=datetime(2030, 1, 1, 5, tzinfo=UTC)))
        await t.until_idle()
        (run,) = await t.runs(quick)
        assert run.started_at is None
        await t.advance("6h")
        await run.refresh()
        assert run.queued_at == datetime(2030, 1, 1, tzinfo=UTC)
        assert run.started_at == datetime(2030, 1, 1, 5, tzinfo=UTC)


async def test_a_run_that_has_not_ended_has_neither_output_nor_error_nor_end(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(sleeping)
        await t.until_idle()
        await run.refresh()
        assert run.status == durable.RunStatus.WAITING
        assert (run.output, run.error, run.ended_at, run.skip_reason, run.parent_id) == (None,) * 5


async def test_refresh_is_in_place_and_returns_the_run(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(quick)
        await t.until_idle()
        assert run.status == "queued"
        assert await run.refresh() is run
        assert run.status == "completed"


async def test_a_result_leaves_the_handle_as_the_run_ended(store):
    async with durable.Engine(store, functions=ALL) as engine:
        run = await engine.start(quick, {"n": 7})
        assert await run.result(timeout="10s") == {"n": 7}
        assert run.status == "completed"
        assert run.output == {"n": 7}
        assert run.started_at is not None
        assert run.ended_at is not None


async def test_the_result_of_a_failed_run_raises_its_error(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(failing)
        for _ in range(2):
            with pytest.raises(durable.RunFailed, match="ValueError: no") as caught:
                await run.result()
        assert caught.value.run_id == run.id
        assert caught.value.error.name == "ValueError"
        assert run.error.message == "no"


async def test_a_result_that_does_not_come_in_time_is_a_time_out_and_the_run_goes_on(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(sleeping)
        with pytest.raises(TimeoutError):
            await run.result(timeout="1h")
        assert (await run.refresh()).status == "waiting"
        assert await run.result() is None


async def test_many_may_wait_for_one_result(store):
    import asyncio

    async with durable.Engine(store, functions=ALL) as engine:
        run = await engine.start(quick, {"n": 1})
        again = await engine.get_run(run.id)
        assert await asyncio.gather(run.result("9s"), again.result("9s"), run.result("9s")) == [{"n": 1}] * 3


async def test_events_of_a_run(store):
    async with TestEngine(ALL, store=store) as t:
        await t.send(durable.Event("e", {"n": 1}, id="x"))
        await t.until_idle()
        (run,) = await t.runs(quick)
        assert run.event.id == "x"
        assert [one.data for one in run.events] == [{"n": 1}]


# ---------------------------------------------------------------- its steps


async def test_steps_tell_what_happened_in_order_of_their_start(store):
    async def work(value):
        if value == "bad":
            raise ValueError("bad")
        return value

    @durable.function("f", retries=0)
    async def f(ctx):
        await ctx.step.run("one", work, 1)
        await ctx.step.sleep("nap", "1h")
        with suppress(durable.StepError):
            await ctx.step.run("two", work, "bad")
        await ctx.step.wait_for_event("wait", event="x", timeout="2h")
        await ctx.step.send_event("tell", durable.Event("y", id="y-1"))

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        await run.result()
        steps = await run.steps()
    assert [(s.id, s.index, s.kind, s.status) for s in steps] == [
        ("one", 0, "run", "completed"),
        ("nap", 0, "sleep", "completed"),
        ("two", 0, "run", "failed"),
        ("wait", 0, "wait", "completed"),
        ("tell", 0, "send", "completed"),
    ]
    one, nap, two, wait, tell = steps
    assert (one.output, one.attempts, one.error) == (1, 1, None)
    assert (nap.ended_at - nap.started_at).total_seconds() == 3600
    assert (two.error.name, two.error.message, two.error.step_id) == ("ValueError", "bad", "two")
    assert (wait.ended_at - wait.started_at).total_seconds() == 7200
    assert tell.output == ["y-1"]


async def test_steps_that_are_under_way_are_shown(store):
    async def fail():
        raise ValueError("again")

    @durable.function("f", backoff=durable.Backoff("1h", jitter=0))
    async def f(ctx):
        import asyncio

        await asyncio.gather(
            ctx.step.sleep("nap", "1d"),
            ctx.step.wait_for_event("wait", event="x", timeout="1d"),
            ctx.step.run("failing", fail),
        )

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        steps = {s.id: s for s in await run.steps()}
    assert {name: (s.kind, s.status) for name, s in steps.items()} == {
        "nap": ("sleep", "waiting"),
        "wait": ("wait", "waiting"),
        "failing": ("run", "retrying"),
    }
    assert steps["failing"].attempts == 1
    assert steps["failing"].error.message == "again"
    assert all(s.started_at == datetime(2030, 1, 1, tzinfo=UTC) for s in steps.values())
    assert all(s.ended_at is None for s in steps.values())


async def test_waiting_for_names_each_thing(store):
    @durable.function("f")
    async def f(ctx):
        import asyncio

        await asyncio.gather(
            ctx.step.wait_for_event("reply", event="mail/reply", timeout="1d"),
            ctx.step.wait_for_signal("go", signal="go-7", timeout="1d"),
            ctx.step.invoke("call", function=sleeping),
        )

    async with TestEngine([f, sleeping], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        text = "\n".join((await run.refresh()).waiting_for)
        (child,) = await t.runs(sleeping)
    for word in ("'reply'", "mail/reply", "'go'", "go-7", "'call'", child.id, "2030-01-02T00:00:00"):
        assert word in text


async def test_waiting_for_knows_a_steps_own_wait_from_a_cancellation_by_no_name(store):
    @durable.function("f", cancel_on=durable.CancelOn("stop#1"), timeouts=durable.Timeouts(finish="9d"))
    async def f(ctx):
        import asyncio

        await asyncio.gather(
            ctx.step.sleep("!finish", "1d"), ctx.step.wait_for_event("!cancel 0", event="x", timeout="1d")
        )

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        assert sorted((await run.refresh()).waiting_for) == [
            "step '!cancel 0': event 'x' until 2030-01-02T00:00:00+00:00",
            "step '!finish': sleep until 2030-01-02T00:00:00+00:00",
        ]


async def test_waiting_for_names_a_handlers_next_attempt(store):
    @durable.function("f", backoff=durable.Backoff("1h", jitter=0))
    async def f(ctx):
        raise ValueError

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        (what,) = (await run.refresh()).waiting_for
        assert "attempt 2" in what
        assert "01:00:00" in what


async def test_a_run_that_has_ended_waits_for_nothing(store):
    async with TestEngine(ALL, store=store) as t:
        run = await t.start(quick)
        await run.result()
        assert run.waiting_for == []
