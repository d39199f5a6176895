"""The handlers that the crash sweep kills, first half: steps one after the other, errors, steps beside steps.

Each case makes its functions in a world and returns a scenario: what happens to them from outside, in a form
that can be repeated from the top after each death. The scenario's assertions hold in every life that gets to
them.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import durable
from tests.crash.sweeping import case

START = datetime(2030, 1, 1, tzinfo=UTC)


async def until(engine, hours, minutes=0):
    """Go on to so long after the start of the first life, in whatever life this is."""
    passed = engine.now - START
    await engine.advance(max(timedelta(), timedelta(hours=hours, minutes=minutes) - passed))


def returning(function, expected):
    """A scenario: one run of `function` returns what is expected."""

    async def scenario(t):
        run = await t.start(function, id="r")
        assert await run.result() == expected

    return scenario


def failing(function, name):
    """A scenario: one run of `function` fails with an error of this name."""

    async def scenario(t):
        run = await t.start(function, id="r")
        with pytest.raises(durable.RunFailed) as caught:
            await run.result()
        assert caught.value.error.name == name

    return scenario


# ---------------------------------------------------------------- one step after the other


@case("sequence")
def sequence(w):
    @w.function("f")
    async def f(p):
        p.note("begin")
        found = [await p.run("a"), await p.run("b", {"n": 1})]
        p.note("between")
        return [*found, await p.run("c", turns=3)]

    return returning(f, ["a", {"n": 1}, "c"])


@case("thread")
def thread(w):
    @w.function("f")
    async def f(p):
        return [await p.run("a", thread=True), await p.run("b"), await p.run("c", thread=True)]

    return returning(f, ["a", "b", "c"])


@case("loop with repeated ids", max_warm=0)
def repeated(w):
    @w.function("f")
    async def f(p):
        found = []
        for n in range(3):
            found.append(await p.run("again", n))
            p.note(f"round {n}")
            await p.step.sleep("nap", "1m")
        return found

    return returning(f, [0, 1, 2])


@case("step decorator and no result")
def decorated(w):
    @w.function("f")
    async def f(p):
        @durable.step("load")
        async def load(n: int) -> int:
            return n * 2

        await p.run("nothing", thread=False, value=None)
        return await load(21) + await load(1)

    return returning(f, 44)


# ---------------------------------------------------------------- errors


@case("retry, then success")
def retried(w):
    @w.function("f")
    async def f(p):
        return [await p.run("a"), await p.run("flaky", fails=2), await p.run("b")]

    return returning(f, ["a", "flaky", "b"])


@case("fails for good, is caught and compensated")
def compensated(w):
    @w.function("f")
    async def f(p):
        await p.run("book")
        try:
            await p.run("pay", retries=1, fails=9)
        except durable.StepError as error:
            p.note(f"caught {error.name}")
            return [await p.run("cancel booking"), error.attempts]
        finally:
            p.note("finally")

    return returning(f, ["cancel booking", 2])


@case("fails for good, uncaught")
def uncaught(w):
    @w.function("f", retries=1)
    async def f(p):
        await p.run("a")
        await p.run("bad", fails=9)

    return failing(f, "ValueError")


@case("RetryAfterError")
def retry_after(w):
    @w.function("f")
    async def f(p):
        later = lambda: durable.RetryAfterError("not now", "5m")  # noqa: E731
        return [await p.run("busy", fails=1, error=later), await p.run("b")]

    return returning(f, ["busy", "b"])


@case("NonRetriableError")
def not_retried(w):
    @w.function("f")
    async def f(p):
        try:
            await p.run("a", fails=9, error=lambda: durable.NonRetriableError("never"))
        except durable.StepError as error:
            return [error.name, await p.run("b")]

    return returning(f, ["NonRetriableError", "b"])


@case("handler retried")
def handler_retried(w):
    @w.function("f", retries=2)
    async def f(p):
        await p.run("a")
        if p.ctx.attempt < 2:
            p.note("raise")
            raise ValueError("the handler's own")
        return [p.ctx.attempt, await p.run("b")]

    return returning(f, [2, "b"])


@case("handler fails for good; on_failure")
def on_failure(w):
    async def mend(p):
        await p.run("tell")
        await p.step.sleep("later", "1m")
        await p.run("mend")

    @w.function("f", retries=1, on_failure=mend)
    async def f(p):
        await p.run("a")
        raise KeyError("the handler's own")

    async def scenario(t):
        await failing(f, "KeyError")(t)
        await until(t, 0, 10)
        assert [run.status for run in await t.runs("f-failure")] == ["completed"]

    return scenario


# ---------------------------------------------------------------- steps beside steps


@case("gather")
def gather(w):
    @w.function("f")
    async def f(p):
        found = await asyncio.gather(p.run("a", turns=4), p.run("b"), p.run("c", turns=20))
        p.note("all")
        return [*found, await p.run("d")]

    return returning(f, ["a", "b", "c", "d"])


@case("gather with a failure")
def gather_failing(w):
    @w.function("f")
    async def f(p):
        both = await asyncio.gather(
            p.run("a", turns=9), p.run("bad", retries=1, fails=9), return_exceptions=True
        )
        p.note(type(both[1]).__name__)
        return [both[0], await p.run("b")]

    return returning(f, ["a", "b"])


@case("wide gather")
def wide(w):
    @w.function("f")
    async def f(p):
        found = await asyncio.gather(*[p.run(f"s{n}", n, turns=n % 3) for n in range(12)])
        return sum(found) + await p.run("last", 1)

    return returning(f, 67)


@case("TaskGroup")
def task_group(w):
    @w.function("f")
    async def f(p):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(p.run(name, turns=n)) for n, name in enumerate("abc")]
        p.note("all")
        return [task.result() for task in tasks]

    return returning(f, ["a", "b", "c"])


@case("TaskGroup that is aborted")
def task_group_aborted(w):
    @w.function("f")
    async def f(p):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(p.run("never", until=asyncio.Event()))
                group.create_task(p.step.sleep("long", "1h"))
                group.create_task(p.run("bad", retries=0, fails=9, turns=3))
        except* durable.StepError:
            p.note("aborted")
        return await p.run("b")

    return returning(f, "b")


@case("race with a cancelled loser")
def race(w):
    @w.function("f")
    async def f(p):
        tasks = {
            asyncio.ensure_future(p.run("quick", turns=2)),
            asyncio.ensure_future(p.run("never", until=asyncio.Event())),
        }
        done, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        p.note("decided")
        return [*(task.result() for task in done), await p.run("b")]

    return returning(f, ["quick", "b"])


@case("race of an event against time")
def race_with_event(w):
    @w.function("f")
    async def f(p):
        event = asyncio.ensure_future(p.step.wait_for_event("event", event="go", timeout="1d"))
        nap = asyncio.ensure_future(p.step.sleep("nap", "2h"))
        done, losers = await asyncio.wait({event, nap}, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        p.note("event" if event in done else "nap")
        return [await p.run("b"), event in done]

    async def scenario(t):
        run = await t.start(f, id="r")
        await until(t, 1)
        await t.send(durable.Event("go", id="g"))
        assert await run.result() == ["b", True]

    return scenario


@case("as_completed")
def as_completed(w):
    @w.function("f")
    async def f(p):
        tasks = [asyncio.ensure_future(p.run(f"s{n}", n, turns=9 - 4 * n)) for n in range(3)]
        found = []
        for one in asyncio.as_completed(tasks):
            found.append(await one)
            p.note(f"got {found[-1]}")
            await p.run("after", found[-1])
        return sorted(found)

    return returning(f, [0, 1, 2])


@case("parallel in parallel")
def nested(w):
    @w.function("f")
    async def f(p):
        async def left():
            await p.run("l1")
            return await asyncio.gather(p.run("l2", turns=5), p.run("l3"))

        async def right():
            async with asyncio.TaskGroup() as group:
                group.create_task(p.run("r1", fails=1))
                group.create_task(p.step.sleep("r2", "30s"))
            return await asyncio.shield(p.run("r3"))

        found = await asyncio.gather(left(), right())
        p.note("joined")
        return found

    return returning(f, [["l2", "l3"], "r3"])
