# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the door `claim`: order, repetition, time, and who gets what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable.records import (
    Admission,
    Cause,
    Claim,
    Effect,
    Memo,
    MemoState,
    News,
    Request,
    StepKind,
    Timer,
    Yield,
)
from durable.store import PROMOTE_MAX
from durable.testing.exam.stage import F, G, event, plan, staged

if TYPE_CHECKING:
    from durable.testing.exam.harness import Harness


async def a_claim_brings_all_that_is_known(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        memos = tuple(Memo(n, "s", n, StepKind.RUN, n, MemoState.VALUE, b"1") for n in (0, 1))
        await stage.park("r1", memos=memos, timers=(Timer("t", stage.now + 5), Timer("u", stage.now + 50)))
        stage.now += 5
        (delivery,) = (await stage.claim("two")).deliveries
        assert isinstance(delivery, Claim)
        history = delivery.history
        assert (history.run.gen, history.run.status, delivery.warm) == (2, "running", False)
        assert history.memos == memos
        assert [timer.ref for timer in history.timers] == ["u"]
        assert [(f.ref, f.cause, f.at) for f in history.fired] == [("t", Cause.DUE, stage.now)]
        assert history == await stage.history("r1")


async def an_answer_that_was_lost_is_repeated(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run in ("r1", "r2", "r3"):
            await stage.start(run)
        lost = await stage.store.claim(stage.now, Request("one", 0, frozenset({F}), 2))
        assert [delivery.no for delivery in lost.deliveries] == [1, 2]
        again = await stage.store.claim(stage.now, Request("one", 1, frozenset({F}), 0))
        assert again.deliveries == lost.deliveries[1:]
        await stage.commit("r2", timers=(Timer("t", stage.now),))
        again = await stage.store.claim(stage.now, Request("one", 1, frozenset({F}), 1))
        claims = [d for d in again.deliveries if isinstance(d, Claim)]
        assert [(claim.no, claim.history.run.id) for claim in claims] == [(2, "r2"), (4, "r3")]
        assert [fired.ref for fired in claims[0].history.fired] == ["t"], "its present history"


async def news_are_repeated_until_they_are_seen(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.commit("r1", timers=(Timer("t", stage.now + 5), Timer("u", stage.now + 9)))
        stage.now += 5
        assert await stage.claimed("two") == [], "a timer fires by anybody's claim"
        request = stage.request(limit=0)
        (lost,) = (await stage.store.claim(stage.now, request)).deliveries
        assert isinstance(lost, News)
        assert [f.ref for f in lost.fired] == ["t"]
        stage.now += 4
        (both,) = (await stage.store.claim(stage.now, request)).deliveries
        assert isinstance(both, News)
        assert [f.ref for f in both.fired] == ["t", "u"]
        assert both.no > lost.no
        stage.seen["one"] = both.no
        assert await stage.news() == []


async def no_answer_skips_what_was_made_known_before(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.running("r2")
        await stage.commit("r1", timers=(Timer("t", stage.now + 5),))
        stage.now += 5
        await stage.claim("two")
        version = (await stage.store.registry()).version
        sent = Admission(event=event(), plans=(plan("r3"),), registry=version)
        deliveries = (await stage.admit(sent, request=stage.request())).deliveries
        assert [delivery.no for delivery in deliveries] == [3, 4]
        assert isinstance(deliveries[0], News), "the timer, which another engine's claim has fired"
        assert isinstance(deliveries[1], Claim)


async def the_older_goes_first(harness: Harness) -> None:
    async with staged(harness) as stage:
        for number, due in enumerate((30, 10, 20, 10)):
            await stage.start(f"r{number}", (F, G)[number % 2], due=stage.now - due)
        assert await stage.claimed(limit=3) == ["r0", "r2", "r1"]
        assert await stage.claimed() == ["r3"]


async def priority_moves_the_rank_not_the_time(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1", due=stage.now - 59_000)
        await stage.start("r2", due=stage.now - 61_000)
        await stage.start("r3", due=stage.now, priority=60)
        await stage.start("r4", due=stage.now + 1, priority=600)
        await stage.start("r5", due=stage.now - 61_500, priority=-1)
        answer = await stage.claim()
        claims = [d.history.run.id for d in answer.deliveries if isinstance(d, Claim)]
        assert claims == ["r2", "r5", "r3", "r1"]
        assert answer.next_due == stage.now + 1


async def a_claim_takes_from_its_pools_alone(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1", F)
        await stage.start("r2", G)
        assert await stage.claimed(pools=(G,)) == ["r2"]
        assert await stage.claimed(pools=()) == []
        assert await stage.claimed(limit=0) == []
        assert await stage.claimed() == ["r1"]


async def nothing_is_claimed_twice(harness: Harness) -> None:
    async with staged(harness, "two", "three") as stage:
        many = [Admission(event=event(event_id=str(n)), plans=(plan(f"r{n}"),)) for n in range(60)]
        await stage.admit(*many)

        async def work(engine: str) -> list[str]:
            return [run for _ in range(8) for run in await stage.claimed(engine, limit=4)]

        claimed = await asyncio.gather(*(work(engine) for engine in ("one", "two", "three")))
        assert sorted(run for runs in claimed for run in runs) == sorted(f"r{n}" for n in range(60))


async def an_idle_claim_finds_nothing_and_asks_for_nothing(harness: Harness) -> None:
    async with staged(harness) as stage:
        answer = await stage.claim()
        assert (answer.deliveries, answer.candidates, answer.more) == ((), (), False)
        assert answer.next_due is None


async def a_claim_fires_no_more_than_it_promises(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        many = PROMOTE_MAX + 20
        timers = tuple(Timer(f"t{n:03}", stage.now + n // 100) for n in range(many))
        await stage.commit("r1", timers=timers)
        stage.now += 1_000
        first = await stage.claim(limit=0)
        assert first.more
        assert [fired.ref for fired in await stage.fired("r1")] == [f"t{n:03}" for n in range(PROMOTE_MAX)]
        second = await stage.claim(limit=0)
        assert not second.more
        assert len(await stage.fired("r1")) == many


async def a_parked_run_gets_one_turn_due_when_its_timer_was(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.park("r1", timers=(Timer("t", stage.now + 5), Timer("u", stage.now + 9)))
        assert await stage.status("r1") == "waiting"
        await stage.start("r2", due=stage.now + 6)
        stage.now += 100
        await stage.claim(limit=0)
        assert await stage.status("r1") == "queued"
        assert await stage.claimed(limit=1) == ["r1"], "its timer was due before r2"
        assert [fired.ref for fired in await stage.fired("r1")] == ["t", "u"]
        assert await stage.claimed() == ["r2"]


async def a_clock_that_steps_back_loses_nothing(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1", due=stage.now)
        stage.now -= 50_000
        await stage.running("r2")
        await stage.park("r2", timers=(Timer("t", stage.now + 5),))
        stage.now += 5
        assert await stage.claimed() == ["r2"]


async def a_warm_run_comes_back_without_its_memos(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        for run in ("r1", "r2"):
            await stage.running(run)
            memo = Memo(0, "s", 0, StepKind.RUN, 0, MemoState.VALUE, b"1")
            await stage.park(run, affinity="one", memos=(memo,), timers=(Timer("t", stage.now + 5),))
        stage.now += 5
        request = stage.request(limit=1)
        (warm,) = (await stage.store.claim(stage.now, request)).deliveries
        assert isinstance(warm, Claim)
        assert warm.warm
        assert warm.history.memos == ()
        (repeated,) = (await stage.store.claim(stage.now, replace(request, limit=0))).deliveries
        assert isinstance(repeated, Claim)
        assert not repeated.warm
        assert len(repeated.history.memos) == 1
        (cold,) = (await stage.claim("two")).deliveries
        assert isinstance(cold, Claim)
        assert not cold.warm
        assert len(cold.history.memos) == 1


async def a_start_timeout_cancels_what_was_not_claimed(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1", start_timeout=stage.now + 10)
        await stage.start("r2", due=stage.now + 5, start_timeout=stage.now + 10)
        assert await stage.claimed() == ["r1"]
        stage.now += 10
        (announce,) = (await stage.claim()).deliveries
        assert isinstance(announce, Claim)
        run = announce.history.run
        assert (run.id, run.status, run.reason, run.started) == ("r2", "cancelled", "!start", None)
        assert await stage.status("r1") == "running"


async def a_finish_timeout_counts_from_the_first_claim(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1", finish_timeout=100)
        stage.now += 1_000
        assert await stage.claimed() == ["r1"]
        (timer,) = (await stage.history("r1")).timers
        assert (timer.ref, timer.due, timer.effect) == ("!finish", stage.now + 100, Effect.CANCEL)
        await stage.commit("r1", then=Yield())
        stage.now += 60
        assert await stage.claimed() == ["r1"]
        stage.now += 40
        (news,) = (await stage.claim()).deliveries
        assert isinstance(news, News)
        assert (news.run, news.cancelled, news.fired) == ("r1", True, ())
        record = (await stage.history("r1")).run
        assert (record.status, record.reason, record.ended) == ("cancelled", "!finish", None)


async def a_full_queue_keeps_its_order(harness: Harness) -> None:
    async with staged(harness) as stage:
        many = [
            Admission(event=event(event_id=str(n)), plans=(plan(f"r{n:03}", due=stage.now + n % 7),))
            for n in range(200)
        ]
        await stage.admit(*many)
        stage.now += 10
        claimed = [run for _ in range(20) for run in await stage.claimed(limit=10)]
        assert claimed == sorted((f"r{n:03}" for n in range(200)), key=lambda run: (int(run[1:]) % 7, run))


CASES = (
    a_claim_brings_all_that_is_known,
    an_answer_that_was_lost_is_repeated,
    news_are_repeated_until_they_are_seen,
    no_answer_skips_what_was_made_known_before,
    the_older_goes_first,
    priority_moves_the_rank_not_the_time,
    a_claim_takes_from_its_pools_alone,
    nothing_is_claimed_twice,
    an_idle_claim_finds_nothing_and_asks_for_nothing,
    a_claim_fires_no_more_than_it_promises,
    a_parked_run_gets_one_turn_due_when_its_timer_was,
    a_clock_that_steps_back_loses_nothing,
    a_warm_run_comes_back_without_its_memos,
    a_start_timeout_cancels_what_was_not_claimed,
    a_finish_timeout_counts_from_the_first_claim,
    a_full_queue_keeps_its_order,
)
