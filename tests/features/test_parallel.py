"""Steps in parallel: gather, TaskGroup, wait, as_completed, anyio; and races, decided once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import warnings

import anyio
import pytest

import durable
from durable.testing import TestEngine

NAP = "1h"


class Door:
    """Callbacks that wait until they are let through, in the order that the test wants."""

    def __init__(self):
        self.calls = []
        self._events = {}

    def _event(self, name):
        return self._events.setdefault(name, asyncio.Event())

    async def __call__(self, name, value=None):
        self.calls.append(name)
        await self._event(name).wait()
        return name if value is None else value

    async def called(self, *names):
        """Return when callbacks of these names have been called."""
        while not set(names) <= set(self.calls):  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0)

    def open(self, *names):
        for name in names:
            self._event(name).set()


async def echo(value):
    return value


async def test_gather_returns_results_in_the_order_of_its_arguments(store):
    @durable.function("f")
    async def f(ctx):
        found = await asyncio.gather(*(ctx.step.run(f"s{n}", echo, n) for n in range(20)))
        await ctx.step.sleep("nap", NAP)
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == list(range(20))


async def test_gathered_callbacks_run_at_once(store):
    door = Door()

    @durable.function("f")
    async def f(ctx):
        return await asyncio.gather(*(ctx.step.run(name, door, name) for name in "abc"))

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await door.called(*"abc")
        door.open(*"cba")
        assert await run.result() == ["a", "b", "c"]


async def test_gathered_steps_run_once_however_often_the_run_is_replayed(store):
    calls = []

    async def note(n):
        calls.append(n)
        return n

    @durable.function("f")
    async def f(ctx):
        total = 0
        for i in range(3):
            total += sum(await asyncio.gather(*(ctx.step.run(f"s{i}{n}", note, n) for n in range(4))))
            await ctx.step.sleep("nap", NAP)
        return total

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == 18
    assert sorted(calls) == sorted([0, 1, 2, 3] * 3)


async def test_a_failed_sibling_does_not_undo_the_memos_of_the_others(store):
    calls = []

    async def work(name):
        calls.append(name)
        if name == "bad":
            raise ValueError
        return name

    @durable.function("f", retries=0)
    async def f(ctx):
        found = await asyncio.gather(
            *(ctx.step.run(name, work, name) for name in ("a", "bad", "b")), return_exceptions=True
        )
        await ctx.step.sleep("nap", NAP)
        return [one if isinstance(one, str) else one.name for one in found]

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == ["a", "ValueError", "b"]
    assert sorted(calls) == ["a", "b", "bad"]


async def test_parallel_steps_are_tried_again_independently(store):
    attempts = {"a": [], "b": []}

    async def work(name, failures):
        attempts[name].append(durable.current().attempt)
        if len(attempts[name]) <= failures:
            raise ValueError
        return name

    @durable.function("f")
    async def f(ctx):
        return await asyncio.gather(ctx.step.run("a", work, "a", 2), ctx.step.run("b", work, "b", 0))

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["a", "b"]
    assert attempts == {"a": [0, 1, 2], "b": [0]}


async def test_a_task_group_waits_for_all_of_its_steps(store):
    @durable.function("f")
    async def f(ctx):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run(f"s{n}", echo, n)) for n in range(5)]
        await ctx.step.sleep("nap", NAP)
        return [task.result() for task in tasks]

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [0, 1, 2, 3, 4]


async def test_a_task_group_that_fails_withdraws_its_other_steps(store):
    door, cancelled = Door(), []

    async def hang():
        try:
            await door("never")
        except asyncio.CancelledError:
            cancelled.append("hang")
            raise

    async def fail():
        await door.called("never")
        raise ValueError

    @durable.function("f", retries=0)
    async def f(ctx):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step.run("hang", hang))
                group.create_task(ctx.step.run("fail", fail))
        except* durable.StepError as errors:
            names = [one.name for one in errors.exceptions]
        await ctx.step.sleep("nap", NAP)
        return names

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        assert await run.result() == ["ValueError"]
        status = {s.id: s.status for s in await run.steps()}
    assert cancelled == ["hang"]
    assert status == {"hang": "withdrawn", "fail": "failed", "nap": "completed"}


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_the_winner_of_a_race_is_decided_once(store, order):
    door, winners = Door(), []

    @durable.function("f")
    async def f(ctx):
        tasks = [asyncio.ensure_future(ctx.step.run(name, door, name)) for name in "ab"]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        winners.append(sorted(task.result() for task in done))
        await ctx.step.sleep("nap", NAP)
        await ctx.step.sleep("nap", NAP)
        return winners[-1]

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        await door.called("a", "b")
        door.open(order[0])
        await t.until_idle()
        door.open(order[1])
        assert await run.result() == [order[0]]
    assert all(one == [order[0]] for one in winners)
    assert len(winners) == 3
    assert sorted(door.calls) == ["a", "b"]


async def test_the_loser_of_a_race_leaves_no_timer_behind(store):
    @durable.function("f")
    async def f(ctx):
        tasks = [
            asyncio.ensure_future(ctx.step.run("quick", echo, 1)),
            asyncio.ensure_future(ctx.step.sleep("slow", "30d")),
        ]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store) as t:
        began = t.now
        run = await t.start(f)
        await t.until_idle()
        assert [text for text in (await run.refresh()).waiting_for if "slow" in text] == []
        await run.result()
        assert (t.now - began).total_seconds() == 3600


async def test_as_completed_over_tasks_gives_results_in_their_recorded_order(store, until):
    door, seen, order = Door(), [], []

    @durable.function("f")
    async def f(ctx):
        tasks = [asyncio.ensure_future(ctx.step.run(name, door, name)) for name in "abc"]
        order.clear()
        for one in asyncio.as_completed(tasks):
            order.append(await one)  # noqa: PERF401 - each at its time
        seen.append(list(order))
        await ctx.step.sleep("nap", NAP)
        return list(order)

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        await door.called(*"abc")
        for number, name in enumerate("cab"):
            door.open(name)
            await until(lambda expected=number: len(order) > expected)
        assert await run.result() == ["c", "a", "b"]
    assert seen == [["c", "a", "b"]] * 2


async def test_wait_for_all_completed_sees_all(store):
    @durable.function("f")
    async def f(ctx):
        tasks = {asyncio.ensure_future(ctx.step.run(f"s{n}", echo, n)) for n in range(3)}
        done, pending = await asyncio.wait(tasks)
        await ctx.step.sleep("nap", NAP)
        return [len(done), len(pending)]

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == [3, 0]


@pytest.mark.skipif(
    os.environ.get("DURABLE_TEST_LOOP") == "eager",
    reason="anyio's groups break under eager tasks by themselves",
)
async def test_an_anyio_task_group_works(store):
    @durable.function("f")
    async def f(ctx):
        found = {}

        async def branch(n):
            found[str(n)] = await ctx.step.run(f"s{n}", echo, n)

        async with anyio.create_task_group() as group:
            for n in range(4):
                group.start_soon(branch, n)
        await ctx.step.sleep("nap", NAP)
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == {"0": 0, "1": 1, "2": 2, "3": 3}


async def test_chains_in_parallel_branches_advance_independently(store, until):
    door, order = Door(), []

    @durable.function("f")
    async def f(ctx):
        async def chain(name, first):
            await ctx.step.run(f"{name}1", first)
            order.append(f"{name}1")
            await ctx.step.run(f"{name}2", echo, 1)
            order.append(f"{name}2")

        async def quick():
            return 1

        async def slow():
            await door("slow")

        await asyncio.gather(chain("slow", slow), chain("quick", quick))

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await until(lambda: len(order) == 2)
        assert order == ["quick1", "quick2"]
        door.open("slow")
        await run.result()
    assert order == ["quick1", "quick2", "slow1", "slow2"]


async def test_parallel_sleeps_are_independent_timers(store):
    @durable.function("f")
    async def f(ctx):
        await asyncio.gather(*(ctx.step.sleep(f"nap {n}", f"{n}h") for n in (3, 1, 2)))

    async with TestEngine([f], store=store, max_warm=0) as t:
        began = t.now
        await t.invoke(f)
        assert (t.now - began).total_seconds() == 3 * 3600


async def test_two_hundred_steps_at_once(store):
    @durable.function("f")
    async def f(ctx):
        return sum(await asyncio.gather(*(ctx.step.run(f"s{n}", echo, n) for n in range(200))))

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == 19900


async def test_a_repeated_id_in_parallel_branches_is_warned_about(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(ctx.step.run("same", echo, 1))

    with pytest.warns(durable.DurableWarning, match="'same'"):
        async with TestEngine([f], store=store) as t:
            await t.invoke(f)


async def test_tasks_left_when_the_handler_returns_are_cancelled(store):
    door, cancelled = Door(), []

    async def hang():
        try:
            await door("never")
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @durable.function("f")
    async def f(ctx):
        task = asyncio.create_task(ctx.step.run("hang", hang))
        await ctx.step.run("one", door.called, "never")
        assert not task.done()
        return "done"

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() == "done"
        assert {s.id: s.status for s in await run.steps()}["hang"] == "withdrawn"
    assert cancelled == [1]


async def test_asyncio_timeout_withdraws_the_step_that_it_cancels(store):
    door = Door()

    @durable.function("f")
    async def f(ctx):
        try:
            async with asyncio.timeout(0.01):
                await ctx.step.run("slow", door, "slow")
        except TimeoutError:
            return await ctx.step.run("fallback", echo, "fallback")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() == "fallback"
        assert [(s.id, s.status) for s in await run.steps()] == [
            ("slow", "withdrawn"),
            ("fallback", "completed"),
        ]


async def test_a_withdrawn_step_never_runs_on_replay(store):
    door = Door()

    @durable.function("f")
    async def f(ctx):
        task = asyncio.create_task(ctx.step.run("slow", door, "slow"))
        await ctx.step.run("one", door.called, "slow")
        task.cancel()
        await asyncio.wait([task])
        await ctx.step.sleep("nap", NAP)
        return task.cancelled()

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) is True
    assert door.calls == ["slow"]


async def test_results_of_one_moment_are_seen_together_by_wait_on_every_pass(store):
    seen = []

    @durable.function("f")
    async def f(ctx):
        tasks = [asyncio.ensure_future(ctx.step.sleep(f"nap {n}", "1h")) for n in range(3)]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        seen.append((len(done), len(pending)))
        await asyncio.wait(tasks)
        await ctx.step.sleep("nap", NAP)

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert len(set(seen)) == 1


async def test_repeated_ids_are_warned_about_once_per_function(store):
    @durable.function("f")
    async def f(ctx):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(ctx.step.run("same", echo, 1))

    async with TestEngine([f], store=store) as t:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                await t.invoke(f)
    assert len([one for one in caught if "'same'" in str(one.message)]) == 1


async def test_a_real_time_limit_around_a_callback_is_the_same_on_replay(store):
    door = Door()

    @durable.function("f")
    async def f(ctx):
        try:
            async with asyncio.timeout(0.01):
                await ctx.step.run("slow", door, "slow")
        except TimeoutError:
            found = "too late"
        await ctx.step.sleep("nap", NAP)
        return found

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == "too late"
    assert door.calls == ["slow"]


# ---------------------------------------------------------------- what a failed attempt leaves


async def test_what_a_failed_attempt_gave_up_is_done_by_the_next(store):
    @durable.function("f", retries=1)
    async def f(ctx):
        nap = asyncio.create_task(ctx.step.sleep("nap", "1d"))
        await ctx.step.run("a", asyncio.sleep, 0)
        if not ctx.attempt:
            nap.cancel()
            await ctx.step.run("b", asyncio.sleep, 0)
            raise ValueError("first")
        return await nap

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() is None
        assert [one.id for one in await run.steps() if one.status == "completed"] == ["a", "b", "nap"]


async def test_a_handler_that_fails_beside_waiting_siblings_is_tried_again(store):
    @durable.function("f", retries=1)
    async def f(ctx):
        attempt = ctx.attempt

        async def failing():
            await ctx.step.run("a", asyncio.sleep, 0)
            if not attempt:
                raise ValueError("first")
            return "a"

        async def beside():
            await ctx.step.sleep("nap", "1d")
            return await ctx.step.run("b", asyncio.sleep, 0, "b")

        return await asyncio.gather(failing(), beside())

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["a", "b"]


async def test_a_cancellation_that_comes_after_the_handler_has_returned_changes_nothing(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        beside = asyncio.create_task(ctx.step.sleep("nap", "1d"))
        await asyncio.sleep(0)
        asyncio.current_task().cancel()  # as a limit that passes in the handler's last turn does
        return beside is not None

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) is True


async def test_tasks_that_a_cancelled_task_leaves_are_ended_too(store):
    left = []

    async def leaving(ctx):
        try:
            await ctx.step.sleep("nap", "1d")
        finally:
            left.append(asyncio.create_task(ctx.step.sleep("never", "1d")))

    @durable.function("f")
    async def f(ctx):
        left.append(asyncio.create_task(leaving(ctx)))
        await ctx.step.run("a", asyncio.sleep, 0)
        return "done"

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "done"
        assert len(left) == 2
        assert all(one.done() for one in left)


async def test_a_run_that_waits_for_what_it_gave_up_executes_and_says_so_once(store, caplog):
    """A limit in real time cut a step short, and has not passed again when the run is replayed."""
    passed = asyncio.Event()

    async def limit(task):
        await passed.wait()
        task.cancel()

    @durable.function("f")
    async def f(ctx):
        step = asyncio.create_task(ctx.step.run("never", asyncio.Event().wait))
        watcher = asyncio.create_task(limit(step))
        with contextlib.suppress(asyncio.CancelledError):
            await step
        await watcher
        await ctx.step.sleep("nap", "1d")
        return "gone on"

    async with TestEngine([f], store=store, max_warm=0) as t:
        run = await t.start(f)
        passed.set()
        await t.until_idle()  # asleep, and out of memory
        passed.clear()
        ending = asyncio.create_task(run.result())
        while not caplog.messages:  # noqa: ASYNC110 - a test polls
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(caplog.messages) == 1
        assert "awaits only steps that it has withdrawn before" in caplog.messages[0]
        assert not ending.done()  # it counts as executing
        passed.set()
        assert await ending == "gone on"


async def test_a_wait_in_a_finally_ends_at_once_when_the_handler_has_ended(store):
    """Its remaining tasks are cancelled; they may still do something, but the end waits for nothing."""
    done = []

    async def tidying(ctx):
        try:
            await ctx.step.sleep("nap", "1d")
        finally:
            await ctx.step.run("tidy", asyncio.sleep, 0)
            done.append("tidied")
            await ctx.step.sleep("never", "30d")

    @durable.function("f")
    async def f(ctx):
        task = asyncio.create_task(tidying(ctx))
        await ctx.step.run("a", asyncio.sleep, 0)
        return task is not None

    async with TestEngine([f], store=store) as t:
        began = t.now
        run = await t.start(f)
        assert await run.result() is True
        assert done == ["tidied"]
        assert t.now == began
        assert {one.id: one.status for one in await run.steps()} == {
            "a": "completed",
            "nap": "withdrawn",
            "tidy": "completed",
            "never": "withdrawn",
        }


# ---------------------------------------------------------------- what has come before its step is reached


@pytest.mark.parametrize("most", [0, 10])
async def test_what_came_for_a_step_that_is_not_reached_yet_is_kept(store, most):
    """A replay may rest before it has reached a step again, held up by something that is no step."""
    started = []
    gate = asyncio.Event()
    gate.set()

    @durable.function("child")
    async def child(ctx):
        started.append(ctx.run_id)
        return "of the child"

    @durable.function("f")
    async def f(ctx):
        nap = asyncio.create_task(ctx.step.sleep("nap", "1d"))
        await gate.wait()  # no step: it may take longer in a replay
        found = [
            await ctx.step.wait_for_event("paid", event="paid", timeout="30d"),
            await ctx.step.invoke("child", function=child),
        ]
        await nap
        return [found[0].data["by"], found[1]]

    async with TestEngine([f, child], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        gate.clear()
    async with TestEngine([f, child], store=store, max_warm=most) as t:
        run = await t.get_run(run.id)
        await t.send(durable.Event("paid", {"by": "card"}))
        await t.until_idle()  # replayed, and at rest beside the sleep: not woken for ever
        assert (await run.refresh()).status == "waiting"
        gate.set()
        await t.advance("1d")
        assert await run.result() == ["card", "of the child"]
    assert len(started) == 1
