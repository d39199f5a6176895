# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the door `commit`: the fence, what is written, and where runs go from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Cause,
    Claim,
    Commit,
    CommitState,
    Effect,
    End,
    EventQuery,
    Memo,
    MemoState,
    News,
    Parent,
    Park,
    Registration,
    RunStatus,
    Signal,
    Singleton,
    StepKind,
    Timer,
    Wait,
    Yield,
)
from durable.testing.exam.stage import F, G, as_new, event, plan, staged

if TYPE_CHECKING:
    from durable.testing.exam.harness import Harness

DONE = End(RunStatus.COMPLETED, output=b'"ok"')
ANNOUNCED = End(RunStatus.CANCELLED)


def memo(position: int, state: MemoState = MemoState.VALUE) -> Memo:
    return Memo(position, "step", position, StepKind.RUN, 0, state, b"1")


# ---------------------------------------------------------------- the fence


async def only_the_owner_may_write(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        for engine, gen in (("two", 1), ("one", 0), ("one", 2), ("nobody", 1)):
            sent = Admission(event=event())
            answer = await stage.commit(
                "r1", engine, gen=gen, memos=(memo(0),), timers=(Timer("t", 1),), admit=(sent,), then=DONE
            )
            assert answer.state is CommitState.STALE
        history = await stage.history("r1")
        assert (history.memos, history.timers, history.run.status) == ((), (), "running")
        assert len(await stage.store.events(EventQuery())) == 1
        assert (await stage.commit("r1", then=DONE)).state is CommitState.OK
        assert (await stage.commit("r1", memos=(memo(0),))).state is CommitState.STALE, "it is over"
        assert (await stage.commit("nowhere", gen=1)).state is CommitState.STALE


async def a_claim_of_another_shuts_the_former_owner_out(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.store.bury(stage.now, "one")
        assert (await stage.commit("r1", memos=(memo(0),))).state is CommitState.STALE
        assert await stage.claimed("two") == ["r1"]
        assert (await stage.commit("r1", gen=1, then=DONE)).state is CommitState.STALE
        assert (await stage.history("r1")).memos == ()
        assert (await stage.commit("r1", "two", memos=(memo(0),))).state is CommitState.OK


async def one_refused_commit_fails_no_other(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.running("r2")
        items = (Commit("r1", 7, memos=(memo(0),)), Commit("r2", 1, memos=(memo(0),)))
        answers = (await stage.store.commit(stage.now, "one", items)).answers
        assert [answer.state for answer in answers] == [CommitState.STALE, CommitState.OK]
        assert (await stage.history("r1")).memos == ()
        assert (await stage.history("r2")).memos == (memo(0),)


async def a_parked_run_is_still_its_keepers(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.park("r1", affinity="one", timers=(Timer("t", stage.now + 5),))
        assert (await stage.commit("r1", "two", memos=(memo(0),))).state is CommitState.STALE
        stage.now += 5
        await stage.claim("two", pools=())
        assert await stage.status("r1") == "queued"
        item = Commit("r1", 1, memos=(memo(0),))
        committed = await stage.store.commit(stage.now, "one", (item,))
        assert committed.answers[0].state is CommitState.OK
        (news,) = committed.deliveries
        assert isinstance(news, News)
        assert [fired.ref for fired in news.fired] == ["t"], "it may not know of what has fired"
        assert await stage.status("r1") == "running"
        assert await stage.claimed("two") == [], "the turn is gone"


async def a_parked_run_goes_to_who_claims_it_first(harness: Harness) -> None:
    async with staged(harness, "two") as stage:
        await stage.running("r1")
        await stage.park("r1", affinity="one", timers=(Timer("t", stage.now),))
        assert await stage.claimed("two") == ["r1"]
        assert (await stage.commit("r1", gen=1, memos=(memo(0),))).state is CommitState.STALE


# ---------------------------------------------------------------- what is written


async def a_journal_keeps_its_order(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        states = (MemoState.VALUE, MemoState.WITHDRAWN, MemoState.ERROR, MemoState.LATE)
        memos = tuple(memo(position, state) for position, state in enumerate(states))
        await stage.commit("r1", memos=memos[:2])
        await stage.commit("r1", memos=memos[2:], attempt=3)
        assert (await stage.history("r1")).memos == memos
        await stage.commit("r1", forget=True, memos=(memo(4, MemoState.LATE),), attempt=0)
        history = await stage.history("r1")
        assert history.memos == (memos[0], memos[2], memo(4, MemoState.LATE))
        assert history.run.attempt == 0


async def what_is_dropped_does_not_fire(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        wait = Wait("w", event="thing/made", until=stage.now + 5)
        await stage.commit("r1", timers=(Timer("t", stage.now + 5), Timer("u", stage.now + 5)), waits=(wait,))
        await stage.commit("r1", drop=("t", "w", "unknown"))
        await stage.send()
        stage.now += 5
        assert await stage.news() == [("r1", ["u"])]
        await stage.commit("r1", drop=("u",))
        assert await stage.fired("r1") == []


async def a_timer_of_the_same_name_replaces(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", timers=(Timer("t", stage.now + 5),))
        await stage.commit("r1", timers=(Timer("t", stage.now + 9, attempt=2),))
        stage.now += 5
        assert await stage.news() == []
        stage.now += 4
        assert await stage.news() == [("r1", ["t"])]
        (fired,) = await stage.fired("r1")
        assert fired.timer is not None
        assert fired.timer.attempt == 2


async def parking_with_something_undropped_queues_again(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", timers=(Timer("t", stage.now),))
        await stage.claim(limit=0)
        await stage.park("r1")
        assert await stage.claimed() == ["r1"]
        await stage.park("r1", drop=("t",))
        assert await stage.status("r1") == "waiting"
        assert await stage.claimed() == []


async def what_is_seen_does_not_queue_a_parked_run(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", timers=(Timer("t", stage.now), Timer("u", stage.now + 5)))
        await stage.claim(limit=0)
        await stage.commit("r1", then=Park(seen=("t", "unknown")))
        assert await stage.status("r1") == "waiting"
        assert await stage.claimed() == []
        stage.now += 5
        (claim,) = (await stage.claim()).deliveries
        assert isinstance(claim, Claim), "what fires later queues it"
        assert [fired.ref for fired in claim.history.fired] == ["t", "u"]
        await stage.commit("r1", then=Park(seen=("t",)))
        assert await stage.claimed() == ["r1"], "u was not seen"
        await stage.commit("r1", timers=(Timer("v", stage.now),))
        assert await stage.news() == [("r1", ["t", "u", "v"])]
        await stage.commit("r1", then=Park(seen=("v", "u", "t")))
        assert await stage.status("r1") == "waiting"


async def a_yielded_run_goes_to_the_end_of_the_queue(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.start("r2", due=stage.now - 1)
        await stage.commit("r1", then=Yield())
        assert await stage.status("r1") == "queued"
        assert await stage.claimed() == ["r2", "r1"]


async def a_signal_tells_its_sender_whether_it_was_taken(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.running("r2")
        await stage.commit("r2", waits=(Wait("w", signal="go"),))
        for position, value in ((0, b"true"), (1, b"false")):
            sent = Admission(signal=Signal("go", b"1"), memo=position)
            answer = await stage.commit("r1", memos=(memo(position),), admit=(sent,))
            assert as_new(answer.admitted[0]).taken is (value == b"true")
            assert (await stage.history("r1")).memos[position].value == value


async def an_old_registry_refuses_the_whole_commit(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.store.register(stage.now, "one", (Registration(F, "1", b"{}"),))
        old, new = Admission(event=event(), registry=0), Admission(event=event(), registry=1)
        answer = await stage.commit("r1", memos=(memo(0),), admit=(new, old), then=DONE)
        assert (answer.state, answer.admitted) == (CommitState.OUTDATED, ())
        history = await stage.history("r1")
        assert (history.memos, history.run.status) == ((), "running")
        assert len(await stage.store.events(EventQuery())) == 1
        answer = await stage.commit("r1", memos=(memo(0),), admit=(new,), then=DONE)
        assert answer.state is CommitState.OK
        assert len(answer.admitted) == 1


async def what_a_commit_sends_is_for_its_own_waits_too(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        wait = Wait("w", event="paid", path="data.k", index="data.k=1")
        sent = Admission(event=event("paid", "e1"), keys=("data.k=1",))
        answer = await stage.commit("r1", waits=(wait,), admit=(sent,))
        assert answer.state is CommitState.OK
        as_new(answer.admitted[0])
        assert [one.ref for one in await stage.fired("r1")] == ["w"]


# ---------------------------------------------------------------- ends


async def an_end_leaves_nothing_behind(harness: Harness) -> None:
    async with staged(harness) as stage:
        single = Singleton("s")
        await stage.running("r1", singleton=single)
        wait = Wait("w", event="thing/made", until=stage.now + 5)
        await stage.commit("r1", timers=(Timer("t", stage.now + 5), Timer("u", stage.now)), waits=(wait,))
        await stage.claim(limit=0)
        end = End(RunStatus.FAILED, error=b'{"name":"E"}', unmet=("old",))
        stage.now += 1
        assert (await stage.commit("r1", memos=(memo(0),), then=end)).state is CommitState.OK
        history = await stage.history("r1")
        run = history.run
        assert (run.status, run.error, run.unmet, run.ended) == (
            "failed",
            b'{"name":"E"}',
            ("old",),
            stage.now,
        )
        assert (history.timers, history.waits, history.fired) == ((), (), ())
        assert history.memos == (memo(0),)
        await stage.send()
        stage.now += 100
        answer = await stage.claim()
        assert (answer.deliveries, answer.next_due) == ((), None)
        await stage.running("r2", singleton=single)


async def what_fires_in_the_last_commit_is_gone_with_it(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run in ("r1", "r2"):
            await stage.running(run)
        await stage.commit("r1", waits=(Wait("s", signal="go"),))
        await stage.commit("r2", then=DONE)
        await stage.running("r3")
        fires = (Wait("w", child="r2"), Wait("x", signal="go"))
        await stage.commit("r3", waits=fires, ask=("p",), then=DONE)
        history = await stage.history("r3")
        assert (history.run.status, history.waits, history.fired) == ("completed", (), ())
        assert await stage.news() == []


async def a_parent_hears_how_its_child_ended(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        ends = {
            "c1": (End(RunStatus.COMPLETED, output=b"7"), b"7"),
            "c2": (End(RunStatus.FAILED, error=b'{"name":"E"}'), b'{"name":"E"}'),
        }
        for child, (end, value) in ends.items():
            invocation = Admission(
                event=event(event_id=child), plans=(plan(child, G, parent=Parent("r1", f"w-{child}")),)
            )
            await stage.commit("r1", waits=(Wait(f"w-{child}", child=child),), admit=(invocation,))
            assert await stage.claimed() == [child]
            await stage.commit(child, then=end)
            (fired,) = await stage.fired("r1")
            assert (fired.cause, fired.status, fired.value) == (Cause.CHILD, end.status, value)
            await stage.commit("r1", drop=(fired.ref,))
        await stage.commit("r1", waits=(Wait("late", child="c1"),))
        (fired,) = await stage.fired("r1")
        assert (fired.ref, fired.status, fired.value) == ("late", "completed", b"7")


async def a_parent_hears_that_its_child_never_ran(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.store.register(stage.now, "one", (Registration(G, "1", b"{}"),))
        await stage.store.pause(stage.now, G, True)
        await stage.running("r1")
        child = plan("c1", G, parent=Parent("r1", "w"))
        invocation = Admission(event=event(), plans=(child,), registry=2)
        await stage.commit("r1", waits=(Wait("w", child="c1"),), admit=(invocation,), then=Park())
        delivery = (await stage.claim()).deliveries[0]
        assert isinstance(delivery, Claim), "it was told at once, and is queued again"
        (fired,) = delivery.history.fired
        assert (fired.cause, fired.status, fired.value) == (Cause.CHILD, RunStatus.SKIPPED, b'"paused"')


# ---------------------------------------------------------------- cancelled meanwhile


async def a_cancelled_run_stores_nothing_more(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1", singleton=Singleton("s"))
        await stage.commit("r1", timers=(Timer("t", stage.now),))
        answers, _ = await stage.store.cancel(stage.now, ("r1",), "api")
        assert [answer.name for answer in answers] == ["DONE"]
        assert (await stage.commit("r1", memos=(memo(0),))).state is CommitState.CANCELLED
        history = await stage.history("r1")
        assert (history.memos, history.timers, history.run.status) == ((), (), "cancelled")
        assert (await stage.start("r2", singleton=Singleton("s"))).holder == "r1"
        sent = Admission(event=event())
        answer = await stage.commit("r1", memos=(memo(0),), admit=(sent,), then=DONE)
        assert (answer.state, answer.admitted) == (CommitState.CANCELLED, ())
        assert (await stage.start("r3", singleton=Singleton("s"))).holder is None, "it has let go"
        announce = next(d for d in (await stage.claim(limit=1)).deliveries if isinstance(d, Claim))
        assert (announce.history.run.id, announce.history.run.gen) in {("r1", 2), ("r3", 1)}


async def a_cancelled_run_is_announced_once(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.start("r1")
        await stage.store.cancel(stage.now, ("r1",), "api")
        stage.now += 7
        (announce,) = (await stage.claim()).deliveries
        assert isinstance(announce, Claim)
        run = announce.history.run
        assert (run.status, run.reason, run.started, run.ended) == ("cancelled", "api", None, None)
        told = Admission(event=event("durable/function.cancelled"))
        answer = await stage.commit("r1", admit=(told,), then=ANNOUNCED)
        assert answer.state is CommitState.OK
        assert as_new(answer.admitted[0]).seq > 0
        assert (await stage.history("r1")).run.ended == stage.now
        assert (await stage.commit("r1", admit=(told,), then=ANNOUNCED)).state is CommitState.STALE
        assert await stage.claimed() == []


async def the_owner_may_announce_by_itself(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.store.cancel(stage.now, ("r1",), "api")
        assert (await stage.commit("r1", then=ANNOUNCED)).state is CommitState.OK
        assert await stage.claimed() == []
        assert (await stage.history("r1")).run.ended == stage.now


async def the_parent_of_a_cancelled_run_hears_at_once(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        invocation = Admission(event=event(), plans=(plan("c1", G, parent=Parent("r1", "w")),))
        await stage.commit("r1", waits=(Wait("w", child="c1"),), admit=(invocation,), then=Park())
        await stage.store.cancel(stage.now, ("c1",), "api")
        (fired,) = await stage.fired("r1")
        assert (fired.cause, fired.status, fired.value) == (Cause.CHILD, "cancelled", None)
        assert sorted(await stage.claimed()) == ["c1", "r1"]


async def a_run_may_cancel_itself_by_what_it_sends(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run, then in (("r1", DONE), ("r2", Park()), ("r3", Yield())):
            await stage.running(run)
            await stage.commit(run, waits=(Wait("c", event="stop", effect=Effect.CANCEL),))
            stop = Admission(event=event("stop", run))
            answer = await stage.commit(run, memos=(memo(0),), admit=(stop,), then=then)
            assert answer.state is CommitState.CANCELLED
            assert len(answer.admitted) == 1, "the event is sent all the same"
            history = await stage.history(run)
            assert (history.run.status, history.run.ended) == ("cancelled", None)
            assert history.memos == (memo(0),)
            assert await stage.claimed() == [run], "to be announced"


async def what_was_cancelled_before_or_never_was(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", then=DONE)
        await stage.start("r2")
        answers, _ = await stage.store.cancel(stage.now, ("r1", "r2", "r2", "nowhere"), "api")
        assert [answer.name for answer in answers] == ["ENDED", "DONE", "ENDED", "UNKNOWN"]


CASES = (
    only_the_owner_may_write,
    a_claim_of_another_shuts_the_former_owner_out,
    one_refused_commit_fails_no_other,
    a_parked_run_is_still_its_keepers,
    a_parked_run_goes_to_who_claims_it_first,
    a_journal_keeps_its_order,
    what_is_dropped_does_not_fire,
    a_timer_of_the_same_name_replaces,
    parking_with_something_undropped_queues_again,
    what_is_seen_does_not_queue_a_parked_run,
    a_yielded_run_goes_to_the_end_of_the_queue,
    a_signal_tells_its_sender_whether_it_was_taken,
    an_old_registry_refuses_the_whole_commit,
    what_a_commit_sends_is_for_its_own_waits_too,
    an_end_leaves_nothing_behind,
    what_fires_in_the_last_commit_is_gone_with_it,
    a_parent_hears_how_its_child_ended,
    a_parent_hears_that_its_child_never_ran,
    a_cancelled_run_stores_nothing_more,
    a_cancelled_run_is_announced_once,
    the_owner_may_announce_by_itself,
    the_parent_of_a_cancelled_run_hears_at_once,
    a_run_may_cancel_itself_by_what_it_sends,
    what_was_cancelled_before_or_never_was,
)
