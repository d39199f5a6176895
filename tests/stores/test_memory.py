"""What is special to the store in memory: its URL, its life, its bells, and that its indexes stay small."""

from __future__ import annotations

import asyncio

import pytest

from durable.errors import ConfigError, StoreError
from durable.records import (
    Admission,
    Claim,
    Commit,
    Cutoffs,
    End,
    NewEvent,
    Park,
    Plan,
    Registration,
    Request,
    Rule,
    RunQuery,
    RunStatus,
    Slot,
    Throttle,
    Timer,
    Wait,
)
from durable.store import LOOK_AHEAD, Store
from durable.testing.exam import run_history
from durable_stores.memory import MemoryStore, open_url

F, G = "app/f", "app/g"
NOW = 1_000_000


async def opened(*engines, rules=()):
    store = MemoryStore()
    await store.open()
    for engine in engines:
        await store.join(NOW, engine)
    await store.register(NOW, engines[0], [Registration(F, "1", b"", rules=rules)])
    return store


def start(*runs, function=F, due=NOW, **asks):
    event = NewEvent("e", "thing/made", NOW, b"{}")
    return [Admission(event=event, plans=(Plan(function, run, due, **asks),), registry=1) for run in runs]


def ask(engine, seen=0, limit=10, pools=(F,)):
    return Request(engine, seen, frozenset(pools), limit)


def claimed(answer):
    return [delivery.history.run.id for delivery in answer.deliveries if isinstance(delivery, Claim)]


def end(run, gen=1):
    return Commit(run, gen, then=End(RunStatus.COMPLETED, b"1"))


# ---------------------------------------------------------------- URL and life


def test_the_url_is_memory():
    assert isinstance(open_url("memory://"), MemoryStore)
    assert open_url("memory://") is not open_url("memory://")
    assert isinstance(MemoryStore(), Store)


@pytest.mark.parametrize("url", ["memory://here", "memory:///", "memory://?size=3", "memory:", "sqlite://"])
def test_any_other_url_is_an_error_that_says_so(url):
    with pytest.raises(ConfigError, match=r"neither a path nor options.*'memory://'"):
        open_url(url)


async def test_opening_counts():
    store = await opened("one")
    await store.open()
    await store.close()
    assert await store.dead(1) == ()
    await store.close()
    assert await store.dead(1) == ("one",)
    with pytest.raises(StoreError, match="not open"):
        await store.close()


async def test_what_is_stored_outlives_the_last_close():
    store = await opened("one")
    await store.admit(NOW, start("r1"), ask("one"))
    await store.close()
    await store.open()
    await store.join(NOW, "two")
    assert await store.bury(NOW, "one") == (False, frozenset({F}))
    assert claimed(await store.claim(NOW, ask("two"))) == ["r1"]


async def test_a_severed_engine_is_dead_until_it_is_buried():
    store = await opened("one", "two")
    store.sever("one")
    store.sever("nobody")
    assert await store.dead(3_600_000) == ("one",)
    assert await store.extend("one")
    await store.bury(NOW, "one")
    assert await store.dead(3_600_000) == ()
    assert not await store.extend("one")
    assert await store.bury(NOW, "nobody") == (False, frozenset())


# ---------------------------------------------------------------- bells


async def rings(store, engine):
    """Whether `wait_for_work` returns by itself."""
    waiting = asyncio.ensure_future(store.wait_for_work(engine))
    for _ in range(3):
        await asyncio.sleep(0)
    waiting.cancel()
    return waiting.done()


async def test_work_in_a_pool_rings_those_who_host_it_but_not_the_caller():
    store = await opened("one", "two", "three")
    assert [await rings(store, engine) for engine in ("one", "two", "three")] == [
        True,
        True,
        False,
    ]  # who joined
    await store.claim(NOW, ask("two"))
    await store.claim(NOW, ask("three", pools=(G,)))
    await store.admit(NOW, start("r1"), ask("one", limit=0))
    assert [await rings(store, engine) for engine in ("one", "two", "three")] == [False, True, False]
    assert not await rings(store, "two")  # once


async def test_a_call_in_nobodys_name_rings_all():
    store = await opened("one", "two")
    await store.claim(NOW, ask("two"))
    await store.admit(NOW, start("r1"))
    assert await rings(store, "one")
    assert await rings(store, "two")


async def test_news_ring_the_owner():
    store = await opened("one", "two")
    await store.admit(NOW, start("r1", waits=(Wait("w", event="thing/paid"),)), ask("one"))
    await store.admit(
        NOW, [Admission(event=NewEvent("e2", "thing/paid", NOW, b"{}"), registry=1)], ask("two")
    )
    assert await rings(store, "one")
    await store.cancel(NOW, ["r1"], "why")
    assert await rings(store, "one")
    assert not await rings(store, "two")


async def test_whoever_waits_is_woken_and_whoever_is_buried_does_not_wait():
    store = await opened("one", "two")
    waiting = asyncio.ensure_future(store.wait_for_work("one"))
    await asyncio.sleep(0)
    await store.bury(NOW, "one")
    await waiting
    await store.wait_for_work("one")
    await store.wait_for_work("nobody")


# ---------------------------------------------------------------- indexes


class CheckedStore(MemoryStore):
    """Examines its lanes after every call of the exam."""

    now = NOW

    async def check(self):
        lanes = self._ledger.lanes
        assert not list(lanes.blocked_at_open_gates(self.now))

    async def admit(self, now_ms, *args):
        self.now = now_ms
        return await super().admit(now_ms, *args)

    async def claim(self, now_ms, *args):
        self.now = now_ms
        return await super().claim(now_ms, *args)

    async def commit(self, now_ms, *args):
        self.now = now_ms
        return await super().commit(now_ms, *args)

    async def cancel(self, now_ms, *args):
        self.now = now_ms
        return await super().cancel(now_ms, *args)


class LeavesNothing:
    """A harness that, at the end of a history, ends all runs and asks that nothing is left of them."""

    async def open(self):
        store = CheckedStore()
        await store.open()
        return store

    async def kill(self, store, engine):
        store.sever(engine)

    async def restart(self, store, engines):
        for engine in engines:
            store.sever(engine)
        return store

    async def close(self, store):
        now = 10**13  # long after whatever the history did
        for engine in list(store._ledger.engines._by_id):
            await store.bury(now, engine)
        await store.join(now, "last")
        pools = frozenset(r.registration.function for r in (await store.registry()).functions)
        seen = 0
        for _ in range(20):
            runs = await store.runs(RunQuery(limit=10_000))
            await store.cancel(now, [history.run.id for history in runs], "end")
            answer = await store.claim(now, Request("last", seen, pools, 1_000))
            seen = max((delivery.no for delivery in answer.deliveries), default=seen)
            ends = [
                Commit(one.history.run.id, one.history.run.gen, then=End(RunStatus.CANCELLED))
                for one in answer.deliveries
                if isinstance(one, Claim)
            ]
            await store.commit(now, "last", ends)
        assert answer.next_due is None
        for _ in range(20):
            await store.sweep(now + 10**9, Cutoffs(now + 1, now + 1, now + 1))
        await store.leave(now, "last")
        assert left(store._ledger) == {}


def left(ledger):
    """The indexes that still hold something, besides what engines have registered."""
    lanes, waits, events = ledger.lanes, ledger.waits, ledger.events
    indexes = {
        "agenda": ledger.agenda._heap,
        "buffers": ledger.buffers._by_key,
        "candidates": ledger.candidates._loose,
        "children": waits._children,
        "conditional": waits._conditional,
        "engines": ledger.engines._by_id,
        "events": events._cards,
        "fading": lanes._gates._fading,
        "future": lanes._agenda._heap,
        "gates": lanes._gates._by_key,
        "ids": events._accepted,
        "latches": ledger.latches._once,
        "loose events": events._loose,
        "plain": waits._plain,
        "pools": lanes._pools,
        "rates": ledger.rates._rates,
        "runs": ledger.runs.by_id,
        "shelves": events._shelves,
        "signals": waits._signals,
        "singletons": ledger.latches._singletons,
    }
    return {name: index for name, index in indexes.items() if index}


@pytest.mark.parametrize("seed", range(7_000, 7_020))
async def test_no_lane_is_blocked_at_an_open_gate_and_nothing_is_left_behind(seed):
    await run_history(LeavesNothing(), seed, length=60)


async def test_a_claim_moves_few_lanes_and_says_that_there_is_more():
    store = await opened("one", rules=(("one", Rule(1)),))
    keys = [f"k{number:03}" for number in range(100)]
    for key in keys:  # each in a lane of its own, all behind one gate
        await store.admit(NOW, start(key, slots=(Slot("shared", "one"), Slot(key, "one"))))
    first = await store.claim(NOW, ask("one", limit=1))
    assert claimed(first) == ["k000"]
    assert not first.more
    pool = store._ledger.lanes._pools[F]
    assert pool.ready == 99
    second = await store.claim(NOW, ask("one", seen=1, limit=1))
    assert second.more
    assert pool.ready == 99 - (LOOK_AHEAD + 4)
    while (await store.claim(NOW, ask("one", seen=1, limit=1))).more:
        pass
    assert pool.ready == 0
    await store.commit(NOW, "one", [end("k000")])
    assert pool.ready == 1  # one is woken, not ninety-nine
    assert claimed(await store.claim(NOW, ask("one", seen=1))) == ["k001"]


async def behind_one_gate(*runs):
    """``r0`` has the only place; each of `runs` stands before it in a lane of its own."""
    store = await opened("one", rules=(("one", Rule(1)),))
    for run in ("r0", *runs):
        await store.admit(NOW, start(run, slots=(Slot("shared", "one"), Slot(run, "one"))))
    assert claimed(await store.claim(NOW, ask("one"))) == ["r0"]
    assert store._ledger.lanes._pools[F].ready == 0
    await store.commit(NOW, "one", [end("r0")])
    assert store._ledger.lanes._pools[F].ready == 1
    return store


async def test_a_wake_up_does_not_die_with_its_job():
    store = await behind_one_gate("r1", "r2")
    await store.cancel(NOW, ["r1"], "why")
    answer = await store.claim(NOW, ask("one", seen=1))
    assert sorted(claimed(answer)) == ["r1", "r2"]  # one to be announced, one to execute


async def test_a_better_job_in_a_blocked_lane_looks_at_the_gate_again():
    store = await behind_one_gate("r1", "r2")
    await store.admit(NOW, start("r3", priority=10, slots=(Slot("shared", "one"), Slot("r2", "one"))))
    assert claimed(await store.claim(NOW, ask("one", seen=1, limit=1))) == ["r3"]


async def test_a_raised_limit_wakes_one_after_the_other():
    store = await behind_one_gate("r1", "r2", "r3", "r4")
    await store.register(NOW, "one", [Registration(F, "2", b"", rules=(("one", Rule(3)),))])
    assert claimed(await store.claim(NOW, ask("one", seen=1))) == ["r1", "r2", "r3"]


async def test_a_throttled_backlog_is_woken_one_by_one():
    store = await opened("one", rules=(("pace", Rule(1, 100)),))
    await store.admit(NOW, start("r1", "r2", throttle=Throttle("t", "pace")))
    await store.admit(NOW, start("r3", throttle=Throttle("t", "pace"), priority=10))
    answer = await store.claim(NOW, ask("one"))
    assert (claimed(answer), answer.next_due) == (["r3"], NOW + 100)
    answer = await store.claim(NOW + 99, ask("one", seen=1))
    assert (claimed(answer), answer.next_due) == ([], NOW + 100)
    answer = await store.claim(NOW + 100, ask("one", seen=1))
    assert (claimed(answer), answer.next_due) == (["r1"], NOW + 200)


async def test_what_is_replaced_does_not_pile_up():
    store = await opened("one")
    await store.admit(NOW, start("r1"), ask("one"))
    for number in range(5_000):
        timer = Timer("t", NOW + 10_000 + number)
        wait = Wait("w", event="thing/paid", condition=b"c", until=NOW + 20_000)
        await store.commit(NOW, "one", [Commit("r1", 1, timers=(timer,), waits=(wait,))])
    ledger = store._ledger
    assert len(ledger.agenda._heap) < 200
    assert len(ledger.waits._conditional["thing/paid"][""].waiters) < 50
    await store.commit(NOW, "one", [Commit("r1", 1, then=Park())])
    for number in range(5_000):
        await store.admit(NOW, start(f"s{number}", due=NOW + 10**6), ask("one"))
        await store.cancel(NOW, [f"s{number}"], "why")
    assert len(ledger.lanes._agenda._heap) < 200


@pytest.mark.parametrize("priority", [-10, 10])
async def test_lanes_forget_those_who_gave_up(priority):
    store = await behind_one_gate("r1", "r2")
    slots = (Slot("shared", "one"), Slot("r2", "one"))
    await store.admit(NOW, start("r3", slots=slots))
    assert claimed(await store.claim(NOW, ask("one", seen=1))) == ["r1"]
    pool = store._ledger.lanes._pools[F]
    (lane,) = pool.lanes.values()
    assert lane.line is not None
    for number in range(1_000):
        run = f"s{number}"
        await store.admit(NOW, start(run, slots=slots, priority=priority))
        await store.cancel(NOW, [run], "why")
    assert lane.count == 2
    assert len(lane.jobs) < 50
    assert len(lane.line.heads) < 50
    await store.commit(NOW, "one", [end("r1")])
    for number in range(1_000):
        run = f"t{number}"
        await store.admit(NOW, start(run, slots=slots, priority=priority))
        await store.cancel(NOW, [run], "why")
    assert pool.ready == 2  # what is to be announced, and those behind the gate
    assert len(pool.heads) < 50
