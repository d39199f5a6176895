"""Faults of systems that people run, each as a test; the numbers are those of the project's list of scenarios.

Here: waits: races of events, signals and time; every interleaving of a wait with what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile

import pytest

import durable
from durable import Event
from durable.records import Commit, Verdict
from durable.testing import TestEngine, VirtualClock, crash_points

HOUR_MS = 3_600_000


async def echo(value):
    return value


@pytest.fixture(params=["memory", "sqlite"])
def fresh(request):
    """An empty store for each crash that `crash_points` tries."""
    if request.param == "memory":
        yield "memory://"
        return
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield lambda: f"sqlite:///{folder}/{next(numbers)}.db?synchronous=normal"


# ---------------------------------------------------------------- 7: event, signal and sleep, in every order

ORDERS = list(itertools.permutations(("event", "signal", "sleep")))


@durable.function("race")
async def race(ctx):
    """What has won as a step recorded it, and as the last pass saw it."""
    racers = {
        "event": asyncio.ensure_future(ctx.step.wait_for_event("event", event="go", timeout="9d")),
        "signal": asyncio.ensure_future(ctx.step.wait_for_signal("signal", signal="go", timeout="9d")),
        "sleep": asyncio.ensure_future(ctx.step.sleep("sleep", "1h")),
    }
    await asyncio.wait(racers.values(), return_when=asyncio.FIRST_COMPLETED)
    won = sorted(name for name, racer in racers.items() if racer.done())
    for racer in racers.values():
        racer.cancel()
    recorded = await ctx.step.run("decided", echo, won)
    await ctx.step.sleep("after", "1d")
    return [recorded, won]


async def arrive(t, what):
    """Let the event, the signal or the end of the sleep come; what the sender of a signal is told."""
    if what == "event":
        await t.send(Event("go", id="g-1"))
    elif what == "signal":
        return await t.send_signal("go")
    else:
        t.clock.jump(t.clock.now_ms() + HOUR_MS)
    return None


async def left(store, run):
    """Every timer, wait and fired thing that the store still holds of the run."""
    history = await store.history(run.id)
    return [one.ref for one in (*history.timers, *history.waits, *history.fired)]


@pytest.mark.parametrize("options", [{}, {"replay_every_step": True}], ids=["warm", "replayed"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_7_the_first_to_come_wins_and_the_others_leave_nothing_behind(store, order, options):
    async with TestEngine([race], store=store, **options) as t:
        run = await t.start(race)
        await t.until_idle()
        before = await left(store, run)
        assert len(before) == 3
        await arrive(t, order[0])
        await t.until_idle()
        (after,) = await left(store, run)
        assert after not in before
        assert True not in [await arrive(t, late) for late in order[1:]]
        assert await run.result() == [[order[0]], [order[0]]]
        assert await left(store, run) == []
        assert {s.id: s.status for s in await run.steps()} == {
            **dict.fromkeys(order[1:], "withdrawn"),
            **dict.fromkeys((order[0], "decided", "after"), "completed"),
        }


@pytest.mark.parametrize("options", [{}, {"replay_every_step": True}], ids=["warm", "replayed"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_7_what_comes_at_one_moment_is_decided_once(store, order, options):
    async with TestEngine([race], store=store, **options) as t:
        run = await t.start(race)
        await t.until_idle()
        for what in order:
            await arrive(t, what)
        recorded, seen = await run.result()
        assert recorded == seen != []
        assert await left(store, run) == []


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_7_the_decision_holds_after_a_restart(store, order):
    async with TestEngine([race], store=store) as t:
        run = await t.start(race)
        await t.until_idle()
    async with TestEngine([race], store=store) as t:
        await arrive(t, order[0])
        await t.until_idle()
        now = t.now.isoformat()
    async with TestEngine([race], store=store, start=now) as t:
        for late in order[1:]:
            await arrive(t, late)
        assert await (await t.get_run(run.id)).result() == [[order[0]], [order[0]]]
        assert await left(store, run) == []


@pytest.mark.parametrize("first", ["event", "signal", "sleep"])
async def test_7_a_crash_at_any_write_of_the_race_changes_no_winner_and_leaves_nothing(fresh, first):
    async def scenario(engine):
        run = await engine.start(race, id="r-1")
        await engine.until_idle()
        await arrive(engine, first)
        await engine.until_idle()
        await arrive(engine, "signal" if first == "event" else "event")
        assert await run.result() == [[first], [first]]
        assert await left(engine._store, run) == []

    assert await crash_points(scenario, functions=[race], store=fresh) > 10


async def test_7_a_crash_at_any_write_decides_once_what_comes_at_one_moment(fresh):
    async def scenario(engine):
        run = await engine.start(race, id="r-1")
        await engine.until_idle()
        for what in ("event", "signal", "sleep"):
            await arrive(engine, what)
        recorded, seen = await run.result()
        assert recorded == seen != []
        assert await left(engine._store, run) == []

    assert await crash_points(scenario, functions=[race], store=fresh) > 10


async def test_7_the_signal_of_a_race_that_is_lost_is_free_for_another_run(store):
    @durable.function("other")
    async def other(ctx):
        got = await ctx.step.wait_for_signal("wait", signal="go", timeout="1d")
        return got.data

    async with TestEngine([race, other], store=store) as t:
        first = await t.start(race)
        await t.advance("1h")
        second = await t.start(other)
        await t.until_idle()
        assert await t.send_signal("go", "for the second") is True
        assert await second.result() == "for the second"
        assert await first.result() == [["sleep"], ["sleep"]]


async def test_7_the_event_of_a_race_that_is_lost_is_for_the_next_wait_alone(store):
    @durable.function("again")
    async def again(ctx):
        lost = asyncio.ensure_future(ctx.step.wait_for_event("wait", event="go", timeout="9d"))
        await ctx.step.sleep("sleep", "1h")
        lost.cancel()
        got = await ctx.step.wait_for_event("wait", event="go", timeout="9d")
        return [got.data["n"], (await asyncio.gather(lost, return_exceptions=True))[0].__class__.__name__]

    async with TestEngine([again], store=store, replay_every_step=True) as t:
        run = await t.start(again)
        await t.advance("1h")
        await t.send(Event("go", {"n": 1}))
        assert await run.result() == [1, "CancelledError"]


# ---------------------------------------------------------------- 8: waits and events, in every interleaving


class Gate:
    """Calls of stores stand in front of it while it is closed; the test lets them through one by one."""

    def __init__(self):
        self.closed = False
        self._standing = []
        self._under_way = 0

    def of(self, store):
        """The store, as an engine sees it through the gate."""
        return _Gated(store, self)

    async def settle(self):
        """Give the loop its turns until nobody comes to the gate any more."""
        calm = 0
        while calm < 20:
            standing = len(self._standing)
            await asyncio.sleep(0)
            calm = 0 if self._under_way or standing != len(self._standing) else calm + 1

    async def stand(self, name):
        if self.closed:
            turn = asyncio.get_running_loop().create_future()
            self._standing.append((name, turn))
            await turn

    @contextlib.contextmanager
    def passing(self):
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def let_all_through(self, choose):
        """One after the other, as `choose(how many stand there)` says; their names, in this order."""
        order = []
        await self.settle()
        while self._standing:
            self._standing.sort(key=lambda one: one[0])
            name, turn = self._standing.pop(choose(len(self._standing)))
            order.append(name)
            turn.set_result(None)
            await self.settle()
        self.closed = False
        return order


class _Gated:
    def __init__(self, store, gate):
        self._store = store
        self._gate = gate

    def __getattr__(self, name):
        method = getattr(self._store, name)
        if name == "wait_for_work" or not asyncio.iscoroutinefunction(method):
            return method

        async def gated(*args, **kwargs):
            if name in ("admit", "claim", "commit"):
                await self._gate.stand(_name(name, args))
            with self._gate.passing():
                return await method(*args, **kwargs)

        return gated


def _name(door, arguments):
    """What a call does, as far as it matters here."""
    if door == "commit":
        items = arguments[2]
        waits = [wait.ref for one in items if isinstance(one, Commit) for wait in one.waits]
        verdicts = ["verdict" for one in items if isinstance(one, Verdict)]
        return " ".join([*(f"register {ref}" for ref in waits), *verdicts]) or door
    if door == "admit":
        return "send" if any(one.event.name.startswith("go") for one in arguments[1]) else "start"
    return door


def every_choice():
    """Give functions that choose one of n, until every sequence of choices was made once: depth first."""
    path = []
    while True:
        made = itertools.count()

        def choose(n, made=made):
            at = next(made)
            if at == len(path):
                path.append([0, n])
            return min(path[at][0], n - 1)

        yield choose
        while path and path[-1][0] + 1 >= path[-1][1]:
            path.pop()
        if not path:
            return
        path[-1][0] += 1


CONDITIONS = {
    "any": {},
    "indexed": {"match": "data.id"},
    "judged": {"if_": "async.data.n > 0"},
}


@pytest.mark.parametrize(
    ("condition", "since"), [*itertools.product(CONDITIONS, [None, "run"]), ("any", "1m")]
)
async def test_8_an_event_is_delivered_once_in_every_order_of_registration_send_and_verdict(
    store, condition, since
):
    @durable.function("f")
    async def f(ctx):
        name, found = ctx.event.data["go"], []
        for looking_back in (since, None):
            wait = {**CONDITIONS[condition], "timeout": "1h", "since": looking_back}
            got = await ctx.step.wait_for_event("wait", event=name, **wait)
            found.append(got and got.data["n"])
        return found

    gate, orders = Gate(), []
    options = {"store": gate.of(store), "clock": VirtualClock()}
    async with TestEngine([f], **options) as t, TestEngine([], **options) as client:
        for number, choose in enumerate(every_choice()):
            await gate.settle()
            gate.closed = True
            mine = {"id": number, "go": f"go/{number}"}
            starting = asyncio.ensure_future(t.start(f, mine))
            sending = asyncio.ensure_future(client.send(Event(mine["go"], {**mine, "n": 1})))
            order = await gate.let_all_through(choose)
            run, _ = await asyncio.gather(starting, sending)
            for n in (2, 3):
                await client.send(Event(mine["go"], {**mine, "n": n}))
                await gate.settle()
            counted = {None: "register wait#0", "run": "start", "1m": ""}[since]
            heard = _last(order, counted) < _last(order, "send") if counted else True
            assert (await run.refresh()).output == ([1, 2] if heard else [2, 3]), order
            orders.append((heard, *order))
    assert {heard for heard, *_ in orders} == ({True} if since == "1m" else {True, False})
    assert len(set(orders)) >= 3


def _last(order, name):
    """Where it stands the last time: a call whose plans were outdated is made again."""
    return len(order) - 1 - order[::-1].index(name)


@pytest.mark.parametrize(
    ("condition", "since"), [("any", None), ("indexed", None), ("judged", None), ("any", "1m")]
)
async def test_8_in_every_order_a_wait_after_a_timed_out_one_gets_the_later_event_only(
    store, condition, since
):
    """With `since`, it finds one that came between the two as well; the first hears nothing once it is due."""

    @durable.function("f")
    async def f(ctx):
        name, found = ctx.event.data["go"], []
        for looking_back in (None, since):
            wait = {**CONDITIONS[condition], "timeout": "1h", "since": looking_back}
            got = await ctx.step.wait_for_event("wait", event=name, **wait)
            found.append(got and got.data["n"])
        return found

    gate, orders = Gate(), []
    options = {"store": gate.of(store), "clock": VirtualClock()}
    async with TestEngine([f], **options) as t, TestEngine([], **options) as client:
        for number, choose in enumerate(every_choice()):
            mine = {"id": number, "go": f"go/{number}"}
            run = await t.start(f, mine)
            await gate.settle()
            gate.closed = True
            t.clock.jump(t.clock.now_ms() + HOUR_MS)
            sending = asyncio.ensure_future(client.send(Event(mine["go"], {**mine, "n": 1})))
            order = await gate.let_all_through(choose)
            await sending
            await client.send(Event(mine["go"], {**mine, "n": 2}))
            await gate.settle()
            between = _last(order, "send") < order.index("register wait#1")
            expected = [None, 2 if since is None and between else 1]
            assert (await run.refresh()).output == expected, order
            orders.append((*expected, *order))
    assert {tuple(one[:2]) for one in orders} == ({(None, 1), (None, 2)} if since is None else {(None, 1)})
    assert len({_last(one, "send") < one.index("claim") for one in orders}) == 2


async def test_8_a_crash_at_any_write_neither_loses_an_event_nor_gives_it_twice(fresh):
    @durable.function("f")
    async def f(ctx):
        first = await ctx.step.wait_for_event("first", event="go", timeout="1h", since="run", match="data.id")
        second = await ctx.step.wait_for_event("second", event="go", timeout="1h", match="data.id")
        return [first.data["n"], second.data["n"]]

    async def scenario(engine):
        run = await engine.start(f, {"id": "x"}, id="r-1")
        for n in (1, 2):
            await engine.send(Event("go", {"id": "x", "n": n}, id=f"g-{n}"))
            await engine.until_idle()
        assert await run.result() == [1, 2]

    assert await crash_points(scenario, functions=[f], store=fresh) > 10
