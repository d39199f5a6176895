# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of waits: events before, during and after, candidates and verdicts, time-outs, signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Cause,
    Claim,
    Commit,
    Effect,
    End,
    Hit,
    RunStatus,
    Timer,
    Verdict,
    Wait,
)
from durable.store import CANDIDATES_MAX
from durable.testing.exam.stage import F, G, as_new, event, plan, staged

if TYPE_CHECKING:
    from durable.records import Candidate
    from durable.testing.exam.harness import Harness
    from durable.testing.exam.stage import Stage

OK = b"event.data.ok"


async def judge(stage: Stage, candidate: Candidate, matches: bool, engine: str = "one") -> None:
    verdict = Verdict(candidate.run, candidate.ref, candidate.event.seq, matches)
    await stage.store.commit(stage.now, engine, (verdict,))


async def an_event_before_during_and_after(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.send(name="paid")
        during = Admission(event=event("paid", "during"))
        await stage.commit("r1", waits=(Wait("w1", event="paid"),), admit=(during,))
        (fired,) = await stage.fired("r1")
        assert fired.event is not None
        assert (fired.cause, fired.event.id) == (Cause.EVENT, "during")
        await stage.commit("r1", waits=(Wait("w2", event="paid"),))
        assert len(await stage.fired("r1")) == 1, "what was before does not count"
        sent = await stage.send(name="paid")
        await stage.send(name="paid")
        assert [f.event.seq for f in await stage.fired("r1") if f.ref == "w2" and f.event] == [sent.seq]


async def a_run_does_not_wait_for_the_event_that_made_it(harness: Harness) -> None:
    async with staged(harness) as stage:
        cancel = Wait("c", event="thing/made", effect=Effect.CANCEL)
        await stage.start("r1", waits=(cancel,))
        assert await stage.status("r1") == "queued"
        await stage.send()
        assert await stage.status("r1") == "cancelled"
        assert (await stage.history("r1")).run.reason == "c"


async def an_index_finds_those_who_need_the_value(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        waits = tuple(
            Wait(ref, event="paid", path="data.id", index=index)
            for ref, index in (("any", ""), ("one", "data.id=1"), ("two", "data.id=2"))
        )
        await stage.commit("r1", waits=waits)
        await stage.send(name="paid", keys=("data.id=2", "data.at=1"))
        assert [fired.ref for fired in await stage.fired("r1")] == ["any", "two"]


async def a_wait_after_one_that_timed_out(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", until=stage.now + 5),))
        stage.now += 5
        assert await stage.news() == [("r1", ["w"])]
        (fired,) = await stage.fired("r1")
        assert (fired.cause, fired.at, fired.timer) == (Cause.DUE, stage.now, None)
        await stage.commit("r1", drop=("w",), waits=(Wait("w", event="paid", until=stage.now + 50),))
        await stage.send(name="paid")
        (fired,) = await stage.fired("r1")
        assert fired.cause is Cause.EVENT
        stage.now += 100
        assert await stage.news() == [("r1", ["w"])]
        assert await stage.fired("r1") == [fired], "its time-out is gone"


async def a_wait_hears_until_it_is_due_though_nobody_claims(harness: Harness) -> None:
    async with staged(harness) as stage:
        due = stage.now + 10
        for run, wait in (
            ("r1", Wait("w", event="paid", until=due)),
            ("r2", Wait("w", event="paid", condition=OK, until=due)),
            ("r3", Wait("w", signal="go", until=due)),
            ("r4", Wait("w", event="paid", until=due, effect=Effect.CANCEL)),
            ("r5", Wait("w", event="paid", until=due + 1)),
            ("r6", Wait("w", event="paid")),
        ):
            await stage.running(run)
            await stage.park(run, waits=(wait,))
        stage.now = due
        hit = Hit("r2", "w")
        assert (await stage.send(name="paid", hits=(hit,))).candidates == ()
        assert (await stage.send(name="paid")).candidates == ()
        assert not await stage.signal("go")
        assert [await stage.status(f"r{n}") for n in range(1, 7)] == ["waiting"] * 4 + ["queued"] * 2
        await stage.claim(limit=0)
        assert [fired.cause for n in (1, 2, 3) for fired in await stage.fired(f"r{n}")] == [Cause.DUE] * 3
        assert await stage.status("r4") == "waiting"


async def a_cancelling_wait_ends_in_silence(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("c", event="stop", until=stage.now, effect=Effect.CANCEL),))
        assert await stage.news() == []
        await stage.send(name="stop")
        assert await stage.status("r1") == "running"


async def what_is_over_tells_when_its_step_began(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run, function in (("r1", F), ("c1", G), ("c2", G)):
            await stage.running(run, function)
        await stage.commit("c1", then=End(RunStatus.COMPLETED))
        waits = (
            Wait("event", event="paid", started=1),
            Wait("signal", signal="go", started=2),
            Wait("conflict", signal="go", started=3),
            Wait("replaced", signal="stop", started=4),
            Wait("replaces", signal="stop", replace=True, started=5),
            Wait("over", child="c1", started=6),
            Wait("child", child="c2", started=7),
            Wait("time-out", event="never", until=stage.now + 5, started=8),
            Wait("unknown", event="paid"),
        )
        await stage.commit("r1", waits=waits, timers=(Timer("timer", stage.now + 5, started=9),))
        await stage.send(name="paid")
        await stage.signal("go")
        await stage.commit("c2", then=End(RunStatus.COMPLETED))
        stage.now += 5
        await stage.claim(limit=0)
        began = {wait.ref: wait.started for wait in waits if wait.ref != "replaces"} | {"timer": 9}
        fired = await stage.fired("r1")
        assert {item.ref: item.started for item in fired} == began
        assert [item.timer.started for item in fired if item.timer is not None] == [9]


# ---------------------------------------------------------------- candidates


async def what_was_evaluated_is_a_hit_or_nothing(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        waits = tuple(Wait(ref, event="paid", condition=OK) for ref in ("yes", "no"))
        await stage.commit("r1", waits=waits)
        page = await stage.store.waiting("paid", ())
        assert [(run, wait.ref) for run, wait in page.waits] == [("r1", "no"), ("r1", "yes")]
        await stage.commit("r1", waits=(Wait("late", event="paid", condition=OK),))
        sent = await stage.send(name="paid", as_of=page.as_of, hits=(Hit("r1", "yes"),))
        assert [(c.ref, c.condition, c.event.seq) for c in sent.candidates] == [("late", OK, sent.seq)]
        assert [fired.ref for fired in await stage.fired("r1")] == ["yes"]


async def a_wait_of_the_same_moment_is_not_lost(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        as_of = (await stage.store.waiting("paid", ())).as_of
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        sent = await stage.send(name="paid", as_of=as_of)
        assert [candidate.ref for candidate in sent.candidates] == ["w"]


async def a_verdict_decides(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        (first,) = (await stage.send(name="paid")).candidates
        await judge(stage, first, matches=False)
        assert await stage.fired("r1") == []
        (second,) = (await stage.send(name="paid")).candidates
        await judge(stage, second, matches=True)
        await judge(stage, second, matches=True)
        await judge(stage, first, matches=True)
        (fired,) = await stage.fired("r1")
        assert fired.event == second.event


async def the_earliest_match_wins(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        (first,) = (await stage.send(name="paid")).candidates
        (second,) = (await stage.send(name="paid")).candidates
        await judge(stage, second, matches=True)
        assert await stage.fired("r1") == [], "the first is not decided yet"
        assert (await stage.send(name="paid")).candidates == (), "nothing after a match matters"
        await judge(stage, first, matches=True)
        (fired,) = await stage.fired("r1")
        assert fired.event == first.event


async def a_later_match_waits_for_the_earlier_no(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        (first,) = (await stage.send(name="paid")).candidates
        as_of = (await stage.store.waiting("paid", ())).as_of
        second = await stage.send(name="paid", as_of=as_of, hits=(Hit("r1", "w"),))
        assert await stage.fired("r1") == []
        await judge(stage, first, matches=False)
        (fired,) = await stage.fired("r1")
        assert fired.event is not None
        assert fired.event.seq == second.seq


async def a_time_out_is_held_until_candidates_are_decided(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        for ref in ("w1", "w2"):
            wait = Wait(ref, event=ref, condition=OK, until=stage.now + 5)
            await stage.commit("r1", waits=(wait,))
        (one,) = (await stage.send(name="w1")).candidates
        (two,) = (await stage.send(name="w2")).candidates
        due = stage.now + 5
        stage.now += 10
        answer = await stage.claim(limit=0)
        assert answer.next_due is None, "nothing happens by itself"
        assert await stage.fired("r1") == []
        assert (await stage.send(name="w1")).candidates == (), "it is closed"
        await judge(stage, one, matches=True)
        await judge(stage, two, matches=False)
        fired = {item.ref: (item.cause, item.at) for item in await stage.fired("r1")}
        assert fired == {"w1": (Cause.EVENT, stage.now), "w2": (Cause.DUE, due)}


async def candidates_come_to_who_claims_if_nobody_decides(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        (nobodys,) = (await stage.send(name="paid")).candidates
        assert (await stage.claim("two")).candidates == (nobodys,)
        assert (await stage.claim("one")).candidates == (), "two decides it"
        assert (await stage.claim("two")).candidates == (nobodys,), "its answer may have been lost"
        await stage.store.bury(stage.now, "two")
        assert (await stage.claim("one")).candidates == (nobodys,)
        await judge(stage, nobodys, matches=False)
        assert (await stage.claim("one")).candidates == ()


async def candidates_of_a_request_are_its_engines(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK),))
        admitted = await stage.admit(Admission(event=event("paid")), request=stage.request("two", limit=0))
        assert len(as_new(admitted.answers[0]).candidates) == 1
        assert (await stage.claim("one")).candidates == ()
        await stage.store.leave(stage.now, "two")
        assert len((await stage.claim("one")).candidates) == 1


# ---------------------------------------------------------------- since


async def a_wait_may_look_back(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        old = await stage.send(name="paid")
        stage.now += 10
        first = await stage.send(name="paid")
        await stage.send(name="other")
        second = await stage.send(name="paid")
        seqs = {
            "by-seq": Wait("by-seq", event="paid", condition=OK, since_seq=old.seq),
            "by-time": Wait("by-time", event="paid", since_ms=stage.now),
        }
        await stage.commit("r1", waits=tuple(seqs.values()))
        candidates = (await stage.claim(limit=0)).candidates
        assert [(c.event.seq, c.ref, c.condition) for c in candidates] == [
            (first.seq, "by-seq", OK),
            (first.seq, "by-time", b""),
            (second.seq, "by-seq", OK),
            (second.seq, "by-time", b""),
        ]
        third = await stage.send(name="paid")
        assert [c.ref for c in third.candidates] == ["by-seq"]
        for candidate in candidates:
            await judge(
                stage, candidate, matches=candidate.ref == "by-seq" and candidate.event.seq == first.seq
            )
        fired = {item.ref: item.event.seq for item in await stage.fired("r1") if item.event}
        assert fired == {"by-seq": first.seq, "by-time": third.seq}


async def a_long_past_is_looked_through_in_pages(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        many = [Admission(event=event("paid", str(n))) for n in range(CANDIDATES_MAX)]
        await stage.admit(*many)
        await stage.admit(*many[:10])
        await stage.commit("r1", waits=(Wait("w", event="paid", condition=OK, since_seq=0),))
        first = await stage.claim(limit=0)
        assert len(first.candidates) == CANDIDATES_MAX
        later = await stage.send(name="paid", as_of=10**6, hits=(Hit("r1", "w"),))
        verdicts = tuple(Verdict(c.run, c.ref, c.event.seq, matches=False) for c in first.candidates)
        await stage.store.commit(stage.now, "one", verdicts)
        assert await stage.fired("r1") == []
        second = await stage.claim(limit=0)
        assert (len(second.candidates), second.more) == (10, False)
        for candidate in second.candidates:
            await judge(stage, candidate, matches=False)
        (fired,) = await stage.fired("r1")
        assert fired.event is not None
        assert fired.event.seq == later.seq


async def more_candidates_than_one_answer_holds(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        waits = tuple(Wait(f"w{n:03}", event="paid", condition=OK) for n in range(CANDIDATES_MAX + 5))
        await stage.commit("r1", waits=waits)
        sent = await stage.send(name="paid")
        assert len(sent.candidates) == len(waits)
        answer = await stage.claim(limit=0)
        assert (len(answer.candidates), answer.more) == (CANDIDATES_MAX, True)


# ---------------------------------------------------------------- signals


async def a_signal_has_one_waiter(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.running("r2")
        await stage.commit("r1", waits=(Wait("w", signal="go"),))
        item = Commit("r2", 1, waits=(Wait("x", signal="go"),))
        (news,) = (await stage.store.commit(stage.now, "one", (item,))).deliveries
        assert [(f.ref, f.cause) for f in news.fired] == [("x", Cause.CONFLICT)]  # type: ignore[union-attr]
        await stage.commit("r2", drop=("x",), waits=(Wait("y", signal="go", replace=True),))
        assert [(f.ref, f.cause) for f in await stage.fired("r1")] == [("w", Cause.REPLACED)]
        assert await stage.signal("go")
        assert [(f.ref, f.cause) for f in await stage.fired("r2")] == [("y", Cause.SIGNAL)]


async def an_event_wakes_a_parked_run(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.park("r1", affinity="one", waits=(Wait("w", event="paid", until=stage.now + 5),))
        admitted = await stage.admit(Admission(event=event("paid"), registry=9), request=stage.request())
        (delivery,) = admitted.deliveries
        assert isinstance(delivery, Claim)
        assert delivery.warm
        assert [fired.ref for fired in delivery.history.fired] == ["w"]
        stage.now += 100
        assert (await stage.claim("two")).next_due is None, "its time-out is gone"


async def a_batch_sees_what_came_before_in_it(harness: Harness) -> None:
    async with staged(harness) as stage:
        cancel = Wait("c", event="stop", effect=Effect.CANCEL)
        start = Admission(event=event(), plans=(plan("r1", waits=(cancel,)),))
        admitted = await stage.admit(start, Admission(event=event("stop")), request=stage.request())
        (delivery,) = admitted.deliveries
        assert isinstance(delivery, Claim)
        assert delivery.history.run.status == "cancelled"
        assert delivery.history.run.function == F


CASES = (
    an_event_before_during_and_after,
    a_run_does_not_wait_for_the_event_that_made_it,
    an_index_finds_those_who_need_the_value,
    a_wait_after_one_that_timed_out,
    a_wait_hears_until_it_is_due_though_nobody_claims,
    a_cancelling_wait_ends_in_silence,
    what_is_over_tells_when_its_step_began,
    what_was_evaluated_is_a_hit_or_nothing,
    a_wait_of_the_same_moment_is_not_lost,
    a_verdict_decides,
    the_earliest_match_wins,
    a_later_match_waits_for_the_earlier_no,
    a_time_out_is_held_until_candidates_are_decided,
    candidates_come_to_who_claims_if_nobody_decides,
    candidates_of_a_request_are_its_engines,
    a_wait_may_look_back,
    a_long_past_is_looked_through_in_pages,
    more_candidates_than_one_answer_holds,
    a_signal_has_one_waiter,
    an_event_wakes_a_parked_run,
    a_batch_sees_what_came_before_in_it,
)
