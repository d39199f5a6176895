"""`on_failure`: a function of its own that runs once a run has failed for good."""

from __future__ import annotations

import pytest

import durable
from durable.testing import TestEngine


def failing(on_failure, **config):
    @durable.function("f", trigger="e", on_failure=on_failure, **config)
    async def f(ctx):
        raise ValueError(f"no {ctx.event.data.get('n')}")

    return f


async def test_it_is_told_of_the_event_and_the_error(store):
    seen = []

    async def failed(ctx):
        seen.append(ctx.event)

    async with TestEngine([failing(failed, retries=0)], store=store) as t:
        await t.send(durable.Event("e", {"n": 1}, id="x"))
        await t.until_idle()
        (run,) = await t.runs("f")
    (event,) = seen
    assert event.name == "durable/function.failed"
    assert event.data["event"]["data"] == {"n": 1}
    assert event.data["event"]["id"] == "x"
    assert event.data["error"]["name"] == "ValueError"
    assert event.data["error"]["message"] == "no 1"
    assert event.data["run_id"] == run.id
    assert event.data["function_id"] == "f"


async def test_it_runs_after_the_last_attempt_only(store):
    seen = []

    async def failed(ctx):
        seen.append(t.now)

    f = failing(failed, retries=2, backoff=durable.Backoff("1h", factor=1, jitter=0))
    async with TestEngine([f], store=store) as t:
        await t.send(durable.Event("e"))
        await t.advance("119m")
        assert seen == []
        await t.advance("1m")
        assert len(seen) == 1


async def test_it_is_a_function_with_an_id_of_its_own_and_steps(store):
    calls = []

    async def work():
        calls.append(1)
        return "compensated"

    async def failed(ctx):
        got = await ctx.step.run("compensate", work)
        await ctx.step.sleep("nap", "1h")
        return got

    async with TestEngine([f := failing(failed, retries=0)], store=store, max_warm=0) as t:
        run = await t.start(f)
        await t.advance("2h")
        (one,) = await t.runs("f-failure")
        assert one.status == "completed"
        assert one.output == "compensated"
        assert one.id != run.id
        assert [s.id for s in await one.steps()] == ["compensate", "nap"]
    assert calls == [1]


async def test_a_run_that_succeeds_does_not_call_it(store):
    calls = []

    async def failed(ctx):
        calls.append(1)

    @durable.function("f", on_failure=failed)
    async def f(ctx):
        return 1

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
        await t.until_idle()
    assert calls == []


async def test_it_hears_of_its_own_function_only(store):
    seen = []

    async def failed(ctx):
        seen.append(ctx.event.data["function_id"])

    @durable.function("other", retries=0)
    async def other(ctx):
        raise ValueError

    async with TestEngine([f := failing(failed, retries=0), other], store=store) as t:
        await t.start(other)
        await t.start(f)
        await t.until_idle()
    assert seen == ["f"]


async def test_it_hears_of_its_own_app_only(store):
    seen = []

    async def failed(ctx):
        seen.append(ctx.event.data["app"])

    f = failing(failed, retries=0)
    async with TestEngine([f], store=store, app="one") as one, TestEngine([f], store=store, app="two"):
        await one.start(f)
        await one.until_idle()
    async with TestEngine([f], store=store, app="two") as two:
        await two.until_idle()
    assert seen == ["one"]


async def test_a_handler_of_failures_that_fails_starts_no_other(store):
    calls = []

    async def failed(ctx):
        calls.append(1)
        raise durable.NonRetriableError("again")

    async with TestEngine([f := failing(failed, retries=0)], store=store) as t:
        await t.start(f)
        await t.advance("1d")
        (one,) = await t.runs("f-failure")
        assert one.status == "failed"
        assert len((await t.events("durable/function.failed")).items) == 1
    assert calls == [1]


async def test_several_failures_call_it_once_each(store):
    seen = []

    async def failed(ctx):
        seen.append(ctx.event.data["event"]["data"]["n"])

    async with TestEngine([failing(failed, retries=0)], store=store) as t:
        await t.send([durable.Event("e", {"n": n}) for n in range(5)])
        await t.until_idle()
    assert sorted(seen) == [0, 1, 2, 3, 4]


async def test_it_survives_a_restart_between_failure_and_call(store):
    seen = []

    async def failed(ctx):
        await ctx.step.sleep("nap", "1h")
        seen.append(1)

    async with TestEngine([f := failing(failed, retries=0)], store=store) as t:
        await t.start(f)
        await t.until_idle()
    async with TestEngine([f], store=store) as t:
        await t.advance("1h")
    assert seen == [1]


def test_it_must_be_async():
    with pytest.raises(durable.ConfigError, match="on_failure"):

        @durable.function("f", on_failure=lambda ctx: None)
        async def f(ctx): ...


def test_its_id_may_not_be_another_functions():
    async def failed(ctx): ...

    @durable.function("f-failure")
    async def other(ctx): ...

    with pytest.raises(durable.ConfigError, match="f-failure"):
        TestEngine([failing(failed), other])
