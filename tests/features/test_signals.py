"""Signals: one waiter per name; what is sent to nobody is lost, and says so."""

from __future__ import annotations

import asyncio

import pytest

import durable
from durable.testing import TestEngine


def waiter(id="waiter", **wait):
    """A function that waits for the signal that its data names."""
    wait = {"timeout": "1h", **wait}

    @durable.function(id, retries=0)
    async def waiter(ctx):
        name = ctx.event.data.get("signal", "go")
        got = await ctx.step.wait_for_signal("wait", signal=name, **wait)
        return None if got is None else {"data": got.data}

    return waiter


async def waiting(t, function, data=None):
    run = await t.start(function, data)
    await t.until_idle()
    return run


async def test_a_signal_resumes_the_one_who_waits(store):
    async with TestEngine([f := waiter()], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        assert await t.send_signal("go", {"n": 1}) is True
        assert await run.result() == {"data": {"n": 1}}


@pytest.mark.parametrize("data", [None, 0, "", False, [], {"a": [1]}], ids=repr)
async def test_data_comes_wrapped_so_that_it_is_not_taken_for_a_time_out(store, data):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        await t.send_signal("go", data)
        assert await run.result() == {"data": data}


async def test_the_value_is_a_signal():
    seen = []

    @durable.function("f")
    async def f(ctx):
        seen.append(await ctx.step.wait_for_signal("wait", signal="go", timeout="1h"))

    async with TestEngine([f]) as t:
        run = await waiting(t, f)
        await t.send_signal("go", 7)
        await run.result()
    assert seen == [durable.Signal(7)]


async def test_a_handler_may_return_what_it_waited_for(store):
    @durable.function("plain")
    async def plain(ctx):
        return await ctx.step.wait_for_signal("wait", signal="plain", timeout="1h")

    @durable.function("typed")
    async def typed(ctx) -> durable.Signal | None:
        return await ctx.step.wait_for_signal("wait", signal="typed", timeout="1h")

    async with TestEngine([plain, typed], store=store) as t:
        runs = [await waiting(t, plain), await waiting(t, typed)]
        await t.send_signal("plain", {"n": 1})
        await t.send_signal("typed", {"n": 2})
        assert [await run.result() for run in runs] == [{"data": {"n": 1}}, durable.Signal({"n": 2})]


async def test_a_time_out_is_none(store):
    async with TestEngine([f := waiter(timeout="2h")], store=store, max_warm=0) as t:
        began = t.now
        assert await t.invoke(f) is None
        assert (t.now - began).total_seconds() == 7200


async def test_a_signal_that_nobody_waits_for_is_lost(store):
    async with TestEngine([f := waiter()], store=store) as t:
        assert await t.send_signal("go") is False
        run = await waiting(t, f)
        assert await run.result() is None


async def test_a_signal_is_taken_once(store):
    async with TestEngine([f := waiter()], store=store) as t:
        run = await waiting(t, f)
        assert [await t.send_signal("go", n) for n in range(3)] == [True, False, False]
        assert await run.result() == {"data": 0}


async def test_after_the_time_out_nobody_waits(store):
    async with TestEngine([f := waiter()], store=store) as t:
        await waiting(t, f)
        await t.advance("61m")
        assert await t.send_signal("go") is False


async def test_names_are_apart(store):
    async with TestEngine([f := waiter()], store=store) as t:
        runs = [await waiting(t, f, {"signal": name}) for name in ("a", "b", "A")]
        assert await t.send_signal("b", 2) is True
        assert await t.send_signal("a", 1) is True
        assert [await run.result() for run in runs] == [{"data": 1}, {"data": 2}, None]


async def test_a_second_waiter_fails_with_a_conflict(store):
    async with TestEngine([f := waiter()], store=store) as t:
        first, second = await waiting(t, f), await waiting(t, f)
        with pytest.raises(durable.RunFailed) as caught:
            await second.result()
        assert caught.value.error.name == "SignalConflictError"
        await t.send_signal("go", 1)
        assert await first.result() == {"data": 1}


async def test_a_conflict_says_which_signal_and_which_step_and_what_to_do(store):
    async with TestEngine([f := waiter()], store=store) as t:
        await waiting(t, f)
        second = await (await waiting(t, f)).refresh()
        assert second.error.step_id == "wait"
        assert "step 'wait': signal 'go' has an open wait already" in second.error.message
        assert 'on_conflict="replace"' in second.error.message


async def test_a_conflict_is_not_retried(store):
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(ctx.run_id)
        await ctx.step.wait_for_signal("wait", signal="go", timeout="30s")

    async with TestEngine([f], store=store) as t:
        await waiting(t, f)
        second = await waiting(t, f)
        assert (await second.refresh()).status == "failed"
        assert passes.count(second.id) == 1


async def test_replace_takes_the_name_over_and_the_old_wait_resolves_to_none(store):
    async with TestEngine([f := waiter(on_conflict="replace")], store=store) as t:
        first = await waiting(t, f)
        second = await waiting(t, f)
        assert (await first.refresh()).status == "completed"
        assert first.output is None
        assert await t.send_signal("go", 2) is True
        assert await second.result() == {"data": 2}


async def test_a_name_is_free_again_once_its_run_has_ended(store):
    async with TestEngine([f := waiter()], store=store) as t:
        for n in range(3):
            run = await waiting(t, f)
            await t.send_signal("go", n)
            assert await run.result() == {"data": n}


async def test_a_replay_is_no_conflict_with_itself(store):
    @durable.function("f")
    async def f(ctx):
        await ctx.step.sleep("nap", "1m")
        got = await asyncio.gather(
            ctx.step.wait_for_signal("wait", signal="go", timeout="1h"), ctx.step.sleep("nap too", "30m")
        )
        return got[0].data

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        await t.advance("45m")
        await t.send_signal("go", 1)
        assert await run.result() == 1


async def test_a_waiter_survives_a_restart(store):
    f = waiter(timeout="9h")
    async with TestEngine([f], store=store) as t:
        run = await waiting(t, f)
    async with TestEngine([], store=store) as client:
        assert await client.send_signal("go", 1) is True
    async with TestEngine([f], store=store) as t:
        assert await (await t.get_run(run.id)).result() == {"data": 1}


async def test_a_signal_s_data_is_no_larger_than_a_step_s_result(store):
    @durable.function("sender")
    async def sender(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.send_signal("tell", "go", "x" * 99)
        return [caught.value.name, caught.value.step_id]

    limits = durable.Limits(step_bytes=100)
    async with TestEngine([f := waiter(), sender], store=store, limits=limits) as t:
        run = await waiting(t, f)
        with pytest.raises(
            durable.LimitError, match=r"signal 'go' has 101 bytes; Limits.step_bytes allows 100"
        ):
            await t.send_signal("go", "x" * 99)
        assert await t.invoke(sender) == ["LimitError", "tell"]
        assert await t.send_signal("go", "x" * 80) is True
        assert await run.result() == {"data": "x" * 80}


# ---------------------------------------------------------------- step.send_signal


async def test_a_step_sends_a_signal_once_and_knows_whether_it_was_taken(store):
    seen = []

    @durable.function("sender")
    async def sender(ctx):
        taken = [await ctx.step.send_signal("tell", "go", n) for n in range(2)]
        seen.append(taken)
        await ctx.step.sleep("nap", "1m")
        return taken

    async with TestEngine([f := waiter(), sender], store=store, max_warm=0) as t:
        run = await waiting(t, f)
        assert await t.invoke(sender) == [True, False]
        assert await run.result() == {"data": 0}
    assert seen == [[True, False]] * 2


async def test_signals_of_parallel_steps_reach_each_their_waiter(store):
    @durable.function("sender")
    async def sender(ctx):
        return await asyncio.gather(
            *(ctx.step.send_signal(f"tell {name}", name, name) for name in ("a", "b", "nobody"))
        )

    async with TestEngine([f := waiter(), sender], store=store) as t:
        runs = [await waiting(t, f, {"signal": name}) for name in ("a", "b")]
        assert await t.invoke(sender) == [True, True, False]
        assert [await run.result() for run in runs] == [{"data": "a"}, {"data": "b"}]


async def test_a_run_may_signal_itself(store):
    @durable.function("f")
    async def f(ctx):
        wait = asyncio.ensure_future(ctx.step.wait_for_signal("wait", signal="go", timeout="1h"))
        await ctx.step.sleep("nap", "1m")
        taken = await ctx.step.send_signal("tell", "go", 1)
        return [taken, (await wait).data]

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [True, 1]


def raising_conflict():
    raise durable.SignalConflictError("somebody else's")


@pytest.mark.parametrize("kind", ["invoke", "run"])
async def test_a_conflict_of_a_child_or_in_a_callback_is_a_failed_step(store, kind):
    @durable.function("parent", retries=0)
    async def parent(ctx):
        try:
            if kind == "run":
                return await ctx.step.run("step", raising_conflict)
            return await ctx.step.invoke("step", function="waiter")
        except durable.StepError as error:
            return [error.name, error.step_id]

    async with TestEngine([f := waiter(), parent], store=store) as t:
        await waiting(t, f)
        assert await t.invoke(parent) == ["SignalConflictError", "step"]
