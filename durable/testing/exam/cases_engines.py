# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of engines: how they live and die, what becomes of their runs, and how they hear of each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Claim,
    CommitState,
    End,
    Memo,
    MemoState,
    Registration,
    Rule,
    RunStatus,
    Slot,
    StepKind,
    Timer,
)
from durable.store import SWEEP_MAX
from durable.testing.exam.stage import F, G, event, plan, staged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable.testing.exam.harness import Harness
    from durable.testing.exam.stage import Stage

LEASE_MS = 3_600_000  # so long that only proof counts
DONE = End(RunStatus.COMPLETED)


async def an_engine_lives_until_it_leaves(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        assert await stage.store.extend("one")
        assert await stage.store.dead(LEASE_MS) == ()
        await stage.running("r1", engine="two")
        await stage.store.leave(stage.now, "two")
        assert await stage.store.dead(LEASE_MS) == ()
        assert await stage.status("r1") == "queued"
        assert await stage.store.bury(stage.now, "two") == (False, frozenset())
        assert await stage.claimed() == ["r1"]


async def a_process_that_died_is_found_dead(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await harness.kill(stage.store, "two")
        assert await stage.store.dead(LEASE_MS) == ("two",)
        assert (await stage.store.bury(stage.now, "two"))[0] is False
        assert await stage.store.dead(LEASE_MS) == ()


async def an_engine_is_judged_by_its_own_lease(harness: Harness) -> None:
    async with staged(harness) as stage:
        assert await stage.store.join(stage.now, "two", LEASE_MS)
        for _ in range(3):
            assert "two" not in await stage.store.dead(0), "the impatience of others kills nobody"
        await harness.kill(stage.store, "two")
        assert "two" in await stage.store.dead(LEASE_MS)


async def the_runs_of_the_dead_start_again(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.rules(own=Rule(1))
        await stage.running("r1", engine="two", slots=(Slot("k", "own"),))
        memo = Memo(0, "s", 0, StepKind.RUN, 0, MemoState.VALUE, b"1")
        await stage.commit("r1", "two", memos=(memo,), attempt=2, timers=(Timer("t", stage.now + 5),))
        await stage.start("r2", slots=(Slot("k", "own"),), due=stage.now + 1)
        await harness.kill(stage.store, "two")
        stage.now += 10
        assert await stage.claimed() == [], "r2 stands behind the place of r1"
        more, woke = await stage.store.bury(stage.now, "two")
        assert not more
        assert F in woke
        assert await stage.status("r1") == "queued"
        claims = [d for d in (await stage.claim()).deliveries if isinstance(d, Claim)]
        assert [claim.history.run.id for claim in claims] == ["r2"]
        await stage.commit("r2", then=DONE)
        (claim,) = [d for d in (await stage.claim()).deliveries if isinstance(d, Claim)]
        assert (claim.history.run.gen, claim.history.run.attempt, claim.history.memos) == (2, 2, (memo,))
        assert [fired.ref for fired in claim.history.fired] == ["t"]


async def the_buried_may_not_write(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1", engine="two")
        await stage.running("r2", engine="two")
        await stage.park("r2", "two", affinity="two")
        await stage.store.bury(stage.now, "two")
        assert not await stage.store.extend("two")
        for run in ("r1", "r2"):
            assert (await stage.commit(run, "two", then=DONE)).state is CommitState.STALE
        await stage.start("r3")
        assert await stage.claimed("two") == []
        sent = Admission(event=event(), plans=(plan("r4"),))
        admitted = await stage.admit(sent, request=stage.request("two"))
        assert admitted.deliveries == ()
        assert await stage.status("r4") == "queued", "an event is nobody's"


async def many_are_buried_bit_by_bit(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        many = [Admission(event=event(event_id=str(n)), plans=(plan(f"r{n:03}"),)) for n in range(SWEEP_MAX)]
        await stage.admit(*many)
        await stage.start("x")
        assert len(await stage.claimed("two", limit=SWEEP_MAX + 1)) == SWEEP_MAX + 1
        await harness.kill(stage.store, "two")
        assert (await stage.store.bury(stage.now, "two"))[0]
        assert await stage.store.dead(LEASE_MS) == ("two",), "somebody has to finish this"
        assert await stage.status("x") == "running"
        assert not (await stage.store.bury(stage.now, "two"))[0]
        assert await stage.status("x") == "queued"
        assert len(await stage.claimed(limit=SWEEP_MAX + 1)) == SWEEP_MAX + 1


async def a_cancelled_run_of_the_dead_is_announced(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1", engine="two")
        await stage.store.cancel(stage.now, ("r1",), "api")
        await stage.store.bury(stage.now, "two")
        (claim,) = (await stage.claim()).deliveries
        assert isinstance(claim, Claim)
        assert (claim.history.run.status, claim.history.run.gen) == ("cancelled", 2)


async def all_that_was_stored_survives_a_restart(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(2))
        await stage.running("r1")
        await stage.commit("r1", timers=(Timer("t", stage.now + 5),))
        await stage.start("r2", due=stage.now + 3)
        before = await stage.store.registry(), await stage.history("r1"), await stage.history("r2")
        stage.store = await harness.restart(stage.store, ("one",))
        after = await stage.store.registry(), await stage.history("r1"), await stage.history("r2")
        assert after == before
        assert await stage.store.dead(LEASE_MS) == ("one",)
        await stage.join("two")
        await stage.store.bury(stage.now, "one")
        stage.now += 10
        assert sorted(await stage.claimed("two")) == ["r1", "r2"]


async def a_store_that_is_open_twice_closes_with_the_last(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.store.open()
        await stage.store.close()
        assert await stage.store.extend("one")
        assert (await stage.start("r1")).run == "r1"


# ---------------------------------------------------------------- the doorbell


async def _is_rung(stage: Stage, work: Callable[[], Awaitable[object]]) -> None:
    """Whoever waits for work hears of it, be it made while it waits or before."""
    await stage.claim("two", pools=(F, G))
    waiter = asyncio.ensure_future(stage.store.wait_for_work("two"))
    await asyncio.sleep(0)
    await work()
    await asyncio.wait_for(waiter, 5)


async def work_of_others_is_heard_of(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        for engine, function in (("one", F), ("two", F)):
            await stage.store.register(stage.now, engine, (Registration(function, "1", b"{}"),))
        await _is_rung(stage, lambda: stage.start("r1"))
        await stage.running("r2", engine="two")
        await stage.commit("r2", "two", timers=(Timer("t", stage.now + 5),))
        stage.now += 5
        await _is_rung(stage, lambda: stage.store.cancel(stage.now, ("r2",), "api"))


async def work_is_not_missed_between_a_claim_and_the_wait(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        for engine in ("one", "two"):
            await stage.store.register(stage.now, engine, (Registration(F, "1", b"{}"),))
        await stage.claim("two")
        await stage.start("r1")
        await asyncio.wait_for(stage.store.wait_for_work("two"), 5)
        assert await stage.claimed("two") == ["r1"]


async def waiting_for_work_may_be_given_up(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        waiter = asyncio.ensure_future(stage.store.wait_for_work("two"))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait((waiter,), timeout=5)
        assert waiter.done()
        assert await stage.store.extend("two")


CASES = (
    an_engine_lives_until_it_leaves,
    a_process_that_died_is_found_dead,
    an_engine_is_judged_by_its_own_lease,
    the_runs_of_the_dead_start_again,
    the_buried_may_not_write,
    many_are_buried_bit_by_bit,
    a_cancelled_run_of_the_dead_is_announced,
    all_that_was_stored_survives_a_restart,
    a_store_that_is_open_twice_closes_with_the_last,
    work_of_others_is_heard_of,
    work_is_not_missed_between_a_claim_and_the_wait,
    waiting_for_work_may_be_given_up,
)
