"""`step.run`: called once, remembered under its id, decoded alike on every pass."""

from __future__ import annotations

import asyncio
import enum
import linecache
import threading

import pytest

import durable
from durable.testing import TestEngine


def remember(calls, value=None):
    """A callback that notes that it was called."""

    async def callback(*args, **kwargs):
        calls.append((args, kwargs))
        return value

    return callback


async def test_a_step_returns_what_its_callback_returned(store):
    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("one", remember([], {"n": 1}))

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == {"n": 1}


async def test_arguments_by_position_and_name_reach_the_callback(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("one", remember(calls), 1, "two", three=3, id="four")

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert calls == [((1, "two"), {"three": 3, "id": "four"})]


async def test_a_replay_repeats_no_step(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        first = await ctx.step.run("one", remember(calls, 1))
        await ctx.step.sleep("nap", "1h")
        second = await ctx.step.run("two", remember(calls, 2))
        return [first, second]

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [1, 2]
    assert len(calls) == 2


async def test_another_engine_goes_on_where_the_first_one_stopped(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        first = await ctx.step.run("one", remember(calls, 1))
        await ctx.step.sleep("nap", "1h")
        return [first, await ctx.step.run("two", remember(calls, 2))]

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    assert len(calls) == 1
    async with TestEngine([f], store=store) as t:
        assert await (await t.get_run(run.id)).result() == [1, 2]
    assert len(calls) == 2


async def test_a_repeated_id_is_counted_in_call_order(store):
    @durable.function("f")
    async def f(ctx):
        found = []
        for n in range(3):
            found.append(await ctx.step.run("again", remember([], n)))
            await ctx.step.sleep("nap", "1m")
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        assert await run.result() == [0, 1, 2]
        assert [(s.id, s.index) for s in await run.steps() if s.kind == "run"] == [
            ("again", 0),
            ("again", 1),
            ("again", 2),
        ]


async def test_an_id_with_a_colon_collides_with_no_counter(store):
    @durable.function("f")
    async def f(ctx):
        found = [await ctx.step.run(name, remember([], name)) for name in ("a", "a:1", "a#1")]
        found.append(await ctx.step.run("a", remember([], "second a")))
        await ctx.step.sleep("nap", "1m")
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == ["a", "a:1", "a#1", "second a"]


async def test_any_text_is_an_id(store):
    names = ["ünïcödé ✓", "with 'quotes' and \"more\"", "x" * 2000, " ", "#", "!start", "a/b"]

    @durable.function("f")
    async def f(ctx):
        found = [await ctx.step.run(name, remember([], n)) for n, name in enumerate(names)]
        await ctx.step.sleep("nap", "1m")
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == list(range(len(names)))


NO_TEXT = {
    "run": lambda step: step.run("\udcff", remember([])),
    "sleep": lambda step: step.sleep("\udcff", "1s"),
    "event": lambda step: step.wait_for_event("w", event="\udcff", timeout="1s"),
    "signal": lambda step: step.wait_for_signal("w", signal="\udcff", timeout="1s"),
    "send": lambda step: step.send_signal("w", "\udcff"),
    "invoke": lambda step: step.invoke("w", function="\udcff"),
}


@pytest.mark.parametrize("call", NO_TEXT.values(), ids=NO_TEXT)
async def test_a_name_that_is_no_unicode_text_fails_the_run_at_once(store, call):
    @durable.function("f")
    async def f(ctx):
        await call(ctx.step)

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed, match=r"ConfigError: .*udcff"):
            await t.invoke(f)


Name = enum.Enum("Name", {"ORDER": "order/created"}, type=str)


async def test_a_name_of_a_subclass_of_str_is_the_same_on_each_pass(store):
    calls = []

    @durable.function("f", trigger=Name.ORDER)
    async def f(ctx):
        await ctx.step.run(f"charge for {ctx.event.name}", remember(calls))
        await ctx.step.sleep(Name.ORDER, "1h")
        assert (await ctx.step.wait_for_signal("w", signal=Name.ORDER, timeout="1h")).data == 1

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.send(durable.Event(Name.ORDER))
        await t.advance("1h")
        assert await t.send_signal("order/created", 1)
        await t.until_idle()
        (run,) = await t.runs()
        assert run.status == "completed"
        assert [one.id for one in await run.steps()] == ["charge for order/created", "order/created", "w"]
    assert len(calls) == 1


async def test_none_is_a_result_like_any_other(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        found = await ctx.step.run("none", remember(calls, None))
        await ctx.step.sleep("nap", "1m")
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) is None
    assert len(calls) == 1


async def test_a_plain_function_runs_in_a_worker_thread(store):
    def where():
        return threading.current_thread() is threading.main_thread()

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("where", where)

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) is False


async def test_an_awaitable_that_a_plain_function_returns_is_awaited_on_the_loop(store):
    async def where():
        return threading.current_thread() is threading.main_thread()

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("where", lambda: where())  # noqa: PLW0108 - the awaitable is the point

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) is True


async def test_an_object_with_an_async_call_is_a_callback(store):
    class Loader:
        async def __call__(self, n):
            return n + 1

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("load", Loader(), 4)

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == 5


async def test_plain_functions_of_many_runs_run_at_once(store):
    barrier = threading.Barrier(4, timeout=10)

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("meet", barrier.wait) is not None

    async with TestEngine([f], store=store, max_threads=4) as t:
        runs = [await t.start(f) for _ in range(4)]
        assert [await run.result() for run in runs] == [True] * 4


async def test_a_result_is_durable_before_the_next_callback_begins(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("one", remember([], 1))
        await ctx.step.run("look", look, ctx)

    async def look(ctx):
        run = await ctx.engine.get_run(ctx.run_id)
        seen.extend((s.id, s.status) for s in await run.steps())

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert ("one", "completed") in seen


async def test_the_value_that_the_handler_gets_is_the_decoded_one_on_the_first_pass_too(store):
    made = {"items": (1, 2)}

    @durable.function("f")
    async def f(ctx):
        got = await ctx.step.run("make", remember([], made))
        return [got is made, isinstance(got["items"], list)]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == [False, True]


async def test_options_make_a_view_with_its_own_retries(store):
    calls = []

    async def fail():
        calls.append(1)
        raise ValueError("no")

    @durable.function("f", retries=4)
    async def f(ctx):
        view = ctx.step.options(retries=1)
        with pytest.raises(durable.StepError) as caught:
            await view.run("fail", fail)
        return caught.value.attempts

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == 2
    assert len(calls) == 2


async def test_options_leave_the_steps_that_they_were_made_of_alone(store):
    async def limits():
        return durable.current().max_attempts

    @durable.function("f", retries=2)
    async def f(ctx):
        nested = ctx.step.options(retries=7).options(timeout="1m")
        return [await s.run("limits", limits) for s in (ctx.step, ctx.step.options(retries=0), nested)]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == [3, 1, 8]


async def test_options_backoff_is_the_steps_own(store):
    calls = []

    @durable.function("f")
    async def f(ctx):
        async def fail_once():
            calls.append(t.now)
            if len(calls) == 1:
                raise ValueError("no")

        await ctx.step.options(backoff=durable.Backoff("7s", jitter=0)).run("once", fail_once)

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert (calls[1] - calls[0]).total_seconds() == 7


async def test_an_attempt_that_takes_longer_than_its_time_fails_with_time_out_error(store):
    async def hang():
        await asyncio.Event().wait()

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.options(timeout="10ms", retries=1, backoff=durable.Backoff("1s", jitter=0)).run(
                "hang", hang
            )
        return [caught.value.name, caught.value.message, caught.value.attempts]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["TimeoutError", "the attempt took longer than 10 ms", 2]


async def test_a_time_out_error_of_the_callbacks_own_keeps_its_message(store):
    async def give_up():
        raise TimeoutError("the peer is silent")

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError, match="TimeoutError: the peer is silent"):
            await ctx.step.options(timeout="1h", retries=0).run("call", give_up)

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)


async def test_the_retry_of_a_thread_that_ran_over_its_time_starts_when_the_thread_has_returned(store):
    going, overlaps, release = [], [], threading.Event()

    def slow():
        overlaps.append(bool(going))
        going.append(1)
        release.wait(0.05)
        going.clear()

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError):
            await ctx.step.options(timeout="1ms", retries=1, backoff=durable.Backoff("0s", jitter=0)).run(
                "slow", slow
            )

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert overlaps == [False, False]


async def test_the_step_decorator_makes_a_step_inside_a_run(store):
    calls = []

    @durable.step("load")
    async def load(n: int) -> int:
        calls.append(n)
        return n * 2

    @durable.function("f")
    async def f(ctx):
        got = await load(21)
        await ctx.step.sleep("nap", "1m")
        return got

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        assert await run.result() == 42
        assert [s.id for s in await run.steps()] == ["load", "nap"]
    assert calls == [21]


async def test_the_step_decorator_leaves_an_ordinary_call_outside_of_a_run():
    @durable.step("load")
    async def load(n: int) -> int:
        return n * 2

    assert await load(21) == 42


async def test_a_function_is_callable_as_the_bare_handler():
    @durable.function("f")
    async def f(ctx):
        return ctx

    assert await f("anything") == "anything"


async def test_a_step_that_was_renamed_is_a_step_of_its_own(store):
    calls, name = [], ["old"]

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run(name[0], remember(calls, 1))
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    name[0] = "new"
    async with TestEngine([f], store=store) as t:
        await (await t.get_run(run.id)).result()
    assert len(calls) == 2


async def test_arguments_that_changed_on_replay_are_warned_about(store):
    argument = [1]

    @durable.function("f")
    async def f(ctx):
        got = await ctx.step.run("one", remember([], "first"), argument[0])
        await ctx.step.sleep("nap", "1h")
        return got

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    argument[0] = 2
    with pytest.warns(durable.DurableWarning, match="'one'"):
        async with TestEngine([f], store=store) as t:
            assert await (await t.get_run(run.id)).result() == "first"


async def test_arguments_that_changed_are_an_error_of_a_strict_engine(store):
    argument = [1]

    @durable.function("f", retries=0)
    async def f(ctx):
        await ctx.step.run("one", remember([]), argument[0])
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    argument[0] = 2
    async with TestEngine([f], store=store, strict=True) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await (await t.get_run(run.id)).result()
    assert caught.value.error.name == "NondeterminismError"


@pytest.mark.parametrize("strict", [False, True])
async def test_a_callback_may_change_its_arguments(store, strict):
    async def enrich(order):
        order["total"] = 3
        if durable.current().attempt == 0 and order["n"] == 1:
            raise ValueError("again")
        return order["total"]

    @durable.function("f")
    async def f(ctx):
        got = [await ctx.step.run("alone", enrich, {"n": 0}), await ctx.step.run("retried", enrich, {"n": 1})]
        beside = await asyncio.gather(*(ctx.step.run(f"beside {n}", enrich, {"n": n}) for n in range(2)))
        await ctx.step.sleep("nap", "1h")
        return [*got, *beside]

    async with TestEngine([f], store=store, strict=strict, max_warm=0) as t:
        assert await t.invoke(f) == [3, 3, 3, 3]


async def test_the_warning_of_other_arguments_names_the_line_of_the_handler(store):
    argument = [1]

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("alone", remember([]), argument[0])
        async with asyncio.TaskGroup() as group:
            group.create_task(beside(ctx, argument[0]))
        await ctx.step.sleep("nap", "1h")

    async def beside(ctx, n):
        await ctx.step.run("beside", remember([]), n)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    argument[0] = 2
    with pytest.warns(durable.DurableWarning, match="'alone'|'beside'") as caught:
        async with TestEngine([f], store=store) as t:
            await (await t.get_run(run.id)).result()
    assert {one.filename for one in caught} == {__file__}
    assert {linecache.getline(__file__, one.lineno).split(",")[0].strip() for one in caught} == {
        'await ctx.step.run("alone"',
        'await ctx.step.run("beside"',
    }


async def test_a_decorated_step_keeps_its_name_and_takes_keyword_arguments(store):
    @durable.step("load")
    async def load(n: int, *, factor: int = 1) -> int:
        """Load it."""
        return n * factor

    @durable.function("f")
    async def f(ctx):
        return [await load(2, factor=3), *await asyncio.gather(load(1), load(5, factor=2))]

    assert (load.__name__, load.__doc__) == ("load", "Load it.")
    with pytest.warns(durable.DurableWarning, match="'load'"):
        async with TestEngine([f], store=store) as t:
            assert await t.invoke(f) == [6, 1, 10]


async def test_a_long_replay_leaves_turns_of_the_loop_to_others(store):
    @durable.function("f")
    async def f(ctx):
        for n in range(500):
            await ctx.step.run(f"s{n}", remember([]))
        await ctx.step.sleep("nap", "1h")
        turns.append("handler")

    async def others():
        while True:
            await asyncio.sleep(0)
            turns.append("others")

    turns = []
    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        await t.until_idle()
        task = asyncio.create_task(others())
        turns.clear()
        await run.result()
        task.cancel()
    assert turns.index("handler") >= 500 / 50


def _sleeping(ctx):
    return ctx.step.sleep("a", "1h")


def _waiting(ctx):
    return ctx.step.wait_for_event("a", event="go/x", timeout="7d")


async def _failing():
    raise ValueError("not yet")


def _failing_step(ctx):
    return ctx.step.run("a", _failing)


@pytest.mark.parametrize(
    ("old", "new", "fired"),
    [
        (_sleeping, _waiting, False),
        (_failing_step, _sleeping, False),
        (_waiting, _sleeping, True),
    ],
)
async def test_a_step_that_waits_is_of_its_kind_already(store, old, new, fired):
    @durable.function("f")
    async def before(ctx):
        await old(ctx)

    @durable.function("f", retries=0)
    async def after(ctx):
        await new(ctx)

    async with TestEngine([before], store=store) as t:
        run = await t.start(before)
        await t.until_idle()
    async with TestEngine([], store=store) as t:
        if fired:
            await t.send(durable.Event("go/x"))
    async with TestEngine([after], store=store) as t:
        await t.advance("1h")
        with pytest.raises(durable.RunFailed) as caught:
            await (await t.get_run(run.id)).result()
    assert caught.value.error.name == "NondeterminismError"
