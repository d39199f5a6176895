"""The handlers that the crash sweep kills, second half: time, events, signals, other functions, cancellation."""

from __future__ import annotations

import asyncio

import pytest

import durable
from tests.crash.corpus import returning, until
from tests.crash.sweeping import case

# ---------------------------------------------------------------- time


@case("sleeps")
def sleeps(w):
    @w.function("f")
    async def f(p):
        await p.run("a")
        await p.step.sleep("hour", "1h")
        p.note("slept")
        await p.step.sleep("nothing", 0)
        await p.step.sleep_until("noon", "2030-01-01T12:00:00Z")
        await p.step.sleep_until("past", "2029-01-01T00:00:00Z")
        return await p.run("b")

    return returning(f, "b")


@case("time limit that fires")
def limit_fires(w):
    @w.function("f")
    async def f(p):
        await p.run("a")
        try:
            async with p.step.timeout("limit", "1h"):
                await p.run("inside")
                await p.step.wait_for_event("never", event="never", timeout="30d")
        except TimeoutError:
            p.note("over")
            return await p.run("b")

    return returning(f, "b")


@case("time limit that does not fire")
def limit_holds(w):
    @w.function("f")
    async def f(p):
        async with p.step.timeout("limit", "2h"):
            await p.step.sleep("nap", "1h")
            await p.run("a")
        p.note("out")
        await p.step.sleep("more", "2h")
        return await p.run("b")

    return returning(f, "b")


@case("start in the future, and a cron line")
def cron(w):
    @w.function("tick", trigger=durable.cron("*/30 * * * *", missed="all"))
    async def tick(p):
        return await p.run("a")

    @w.function("later", trigger="later")
    async def later(p):
        return await p.run("b")

    async def scenario(t):
        await t.send(durable.Event("later", id="l", ts=t.clock.now_ms() + 60_000))
        await until(t, 1, 10)
        assert [run.status for run in await t.runs(tick)] == ["completed"] * 2
        assert [run.status for run in await t.runs(later)] == ["completed"]

    return scenario


# ---------------------------------------------------------------- events and signals


@case("send_event that starts a function")
def sends(w):
    @w.function("f")
    async def f(p):
        await p.run("a")
        ids = await p.step.send_event("tell", durable.Event("told", {"n": 1}))
        return [len(ids), await p.run("b")]

    @w.function("g", trigger=durable.on("told", if_="event.data.n == 1"))
    async def g(p):
        return await p.run("heard", p.event.data["n"])

    async def scenario(t):
        await returning(f, [1, "b"])(t)
        await t.until_idle()
        assert [run.output for run in await t.runs(g)] == [1]

    return scenario


@case("send_event of a list, beside another step")
def sends_many(w):
    @w.function("f")
    async def f(p):
        events = [durable.Event("told/x", {"n": n}) for n in range(3)]
        ids, _ = await asyncio.gather(p.step.send_event("tell", events), p.run("a"))
        return len(ids)

    @w.function("g", trigger="told/*")
    async def g(p):
        return await p.run("heard", p.event.data["n"])

    async def scenario(t):
        await returning(f, 3)(t)
        await t.until_idle()
        assert sorted(run.output for run in await t.runs(g)) == [0, 1, 2]

    return scenario


@case("events from outside")
def events(w):
    @w.function("f", trigger=["order/created", "order/changed"], idempotency="event.data.order")
    async def f(p):
        return await p.run("a", p.event.data["order"])

    @w.function("g", trigger="order/*")
    async def g(p):
        return await p.run("b", p.event.name)

    async def scenario(t):
        both = [durable.Event("order/created", {"order": n}, id=f"e{n}") for n in (1, 2)]
        await t.send(both)
        await t.send(durable.Event("order/changed", {"order": 1}, id="again"))
        await t.until_idle()
        assert sorted(run.output for run in await t.runs(f)) == [1, 2]

    return scenario


@case("wait_for_event: match, condition, any", in_order=True)
def waits(w):
    @w.function("f", trigger="begin")
    async def f(p):
        matched = await p.step.wait_for_event("m", event="go", match="data.order", timeout="7d")
        p.note("matched")
        chosen = await p.step.wait_for_event("i", event="go", if_="async.data.n > 3", timeout="7d")
        await p.run("a")
        anything = await p.step.wait_for_event("any", event="go", timeout="7d")
        return [one.data["n"] for one in (matched, chosen, anything)]

    async def scenario(t):
        await t.send(durable.Event("begin", {"order": 1}, id="b"))
        for n, order in enumerate([9, 1, 1, 9, 9, 9]):
            await t.until_idle()
            await t.send(durable.Event("go", {"order": order, "n": n}, id=f"g{n}"))
        await t.until_idle()
        assert [run.output for run in await t.runs(f)] == [[1, 4, 5]]

    return scenario


@case("wait_for_event: timed out, and since the run began")
def waits_since(w):
    @w.function("f")
    async def f(p):
        nothing = await p.step.wait_for_event("none", event="never", timeout="1h")
        await p.run("a")
        early = await p.step.wait_for_event("early", event="go", timeout="1h", since="run")
        p.note("found")
        return [nothing, early and early.data["n"], await p.run("b")]

    async def scenario(t):
        run = await t.start(f, id="r")
        await until(t, 0, 10)
        await t.send(durable.Event("go", {"n": 1}, id="g"))
        assert await run.result() == [None, 1, "b"]

    return scenario


@case("signals")
def signals(w):
    @w.function("waiter")
    async def waiter(p):
        got = await p.step.wait_for_signal("s", signal="door", timeout="7d")
        late = await p.step.wait_for_signal("none", signal="window", timeout="1h")
        return [got.data, late, await p.run("a")]

    @w.function("ringer")
    async def ringer(p):
        await p.step.sleep("nap", "1m")
        first = await p.step.send_signal("first", "door", {"n": 1})
        second = await p.step.send_signal("second", "nobody", 2)
        return [first, second, await p.run("b")]

    async def scenario(t):
        waiting = await t.start(waiter, id="w")
        ringing = await t.start(ringer, id="r")
        assert await ringing.result() == [True, False, "b"]
        assert await waiting.result() == [{"n": 1}, None, "a"]

    return scenario


# ---------------------------------------------------------------- other functions


@case("invoke")
def invokes(w):
    @w.function("child")
    async def child(p):
        return await p.run("work", p.event.data["n"] * 2)

    @w.function("f")
    async def f(p):
        first = await p.step.invoke("one", function=child, data={"n": 1})
        p.note("one")
        both = await asyncio.gather(
            p.step.invoke("two", function=child, data={"n": 2}),
            p.step.invoke("three", function="child", data={"n": 3}),
        )
        return [first, *both, await p.run("a")]

    return returning(f, [2, 4, 6, "a"])


@case("invoke of what fails, and of what takes too long")
def invokes_failing(w):
    @w.function("bad", retries=0)
    async def bad(p):
        await p.run("work", fails=9)

    @w.function("slow")
    async def slow(p):
        await p.step.sleep("long", "2h")
        return await p.run("late")

    @w.function("f")
    async def f(p):
        names = []
        for name, function in (("bad", bad), ("slow", slow)):
            try:
                await p.step.invoke(name, function=function, timeout="1h")
            except durable.StepError as error:
                names.append(error.name)
        return [*names, await p.run("a")]

    async def scenario(t):
        await returning(f, ["ValueError", "InvokeTimeout", "a"])(t)
        await until(t, 3)
        assert [run.status for run in await t.runs(slow)] == ["completed"]

    return scenario


@case("rerun from a step")
def rerun(w):
    @w.function("f")
    async def f(p):
        found = [await p.run("a"), *await asyncio.gather(p.run("b"), p.run("c"))]
        p.note("half")
        return [*found, await p.run("d")]

    async def scenario(t):
        run = await t.start(f, id="r")
        assert await run.result() == ["a", "b", "c", "d"]
        again = [one for one in await t.runs(f) if one.id != run.id]
        second = again[0] if again else await t.rerun(run.id, from_step="d")
        assert await second.result() == ["a", "b", "c", "d"]

    return scenario


# ---------------------------------------------------------------- cancellation


@case("cancel_on, while it sleeps")
def cancelled_by_event(w):
    @w.function("f", trigger="begin", cancel_on=durable.CancelOn("stop", match="data.order"))
    async def f(p):
        await p.run("a")
        await p.step.sleep("long", "12h")
        await p.run("never")

    async def scenario(t):
        await t.send([durable.Event("begin", {"order": n}, id=f"b{n}") for n in (1, 2)])
        await until(t, 1)
        await t.send(durable.Event("stop", {"order": 2}, id="s"))
        await until(t, 13)
        assert sorted(run.status for run in await t.runs(f)) == ["cancelled", "completed"]

    return scenario


def cancelling(w, function, *, let_finish):
    """A scenario: the run is cancelled in its callbacks."""

    async def scenario(t):
        run = await t.start(function, id="r")
        while not (w.shared("busy").is_set() or (await run.refresh()).status.ended):  # noqa: ASYNC110
            await asyncio.sleep(0)
        if not run.status.ended:
            await t.cancel(run.id)
        if let_finish:
            w.shared("done").set()
        with pytest.raises(durable.RunCancelled):
            await run.result()

    return scenario


@case("cancelled in a callback that is let finish")
def cancelled_in_callback(w):
    @w.function("f")
    async def f(p):
        await p.run("a")
        await p.run("long", begun=w.shared("busy"), until=w.shared("done"))
        await p.run("never")

    return cancelling(w, f, let_finish=True)


@case("cancelled in callbacks that are interrupted")
def interrupted(w):
    @w.function("f", on_cancel="interrupt")
    async def f(p):
        await p.run("a")
        await asyncio.gather(
            p.run("first", until=asyncio.Event()),
            p.run("second", begun=w.shared("busy"), until=asyncio.Event()),
        )
        await p.run("never")

    return cancelling(w, f, let_finish=False)


@case("time limit of a run")
def run_limit(w):
    @w.function("slow", timeouts=durable.Timeouts(finish="1h"))
    async def slow(p):
        await p.run("a")
        await p.step.sleep("long", "1d")

    async def scenario(t):
        run = await t.start(slow, id="r")
        with pytest.raises(durable.RunCancelled):
            await run.result()
        await t.until_idle()
        assert len(await t.runs(slow)) == 1

    return scenario
