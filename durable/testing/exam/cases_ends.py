# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the door `commit`: how runs end, and what is left of those that were cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Cause,
    Claim,
    CommitState,
    Effect,
    End,
    EventQuery,
    Memo,
    MemoState,
    Parent,
    Park,
    Registration,
    RunStatus,
    Singleton,
    StepKind,
    Timer,
    Verb,
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


async def a_run_does_not_hear_of_its_own_end(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run, effect in (("r1", Effect.CANCEL), ("r2", Effect.RESUME)):
            await stage.running(run)
            await stage.commit(run, waits=(Wait("w", event="ended", effect=effect),))
        told = Admission(event=event("ended"), plans=(plan("r3"),))
        answer = await stage.commit("r1", then=End(RunStatus.COMPLETED, output=b"1", admit=(told,)))
        assert answer.state is CommitState.OK
        (new,) = map(as_new, answer.admitted)
        assert [(outcome.verb, outcome.run) for outcome in new.outcomes] == [(Verb.RUN, "r3")]
        over = (await stage.history("r1")).run
        assert (over.status, over.output, over.reason) == ("completed", b"1", None)
        assert [one.ref for one in await stage.fired("r2")] == ["w"], "others hear of it"


async def an_end_is_told_with_the_registry_as_it_is(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.store.register(stage.now, "one", (Registration(F, "1", b"{}"),))
        for registry, state in ((0, CommitState.OUTDATED), (1, CommitState.OK)):
            told = Admission(event=event("ended"), registry=registry)
            answer = await stage.commit("r1", then=End(RunStatus.COMPLETED, admit=(told,)))
            assert answer.state is state
            assert len(await stage.store.events(EventQuery())) == 1 + registry


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
        also, told = (
            Admission(event=event("order/paid")),
            Admission(event=event("durable/function.cancelled")),
        )
        announced = End(RunStatus.CANCELLED, admit=(told,))
        answer = await stage.commit("r1", admit=(also,), then=announced)
        assert answer.state is CommitState.OK
        (new,) = map(as_new, answer.admitted)
        (told_of,) = await stage.store.events(EventQuery(limit=1))
        assert (told_of.seq, told_of.name) == (new.seq, "durable/function.cancelled")
        assert await stage.store.events(EventQuery("order/paid")) == ()
        assert (await stage.history("r1")).run.ended == stage.now
        assert (await stage.commit("r1", then=announced)).state is CommitState.STALE
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


async def a_run_that_cancels_itself_does_not_tell_that_it_ended(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", waits=(Wait("c", event="stop", effect=Effect.CANCEL),))
        stop, told = Admission(event=event("stop")), Admission(event=event("ended"))
        answer = await stage.commit("r1", admit=(stop,), then=End(RunStatus.COMPLETED, admit=(told,)))
        assert (answer.state, len(answer.admitted)) == (CommitState.CANCELLED, 1)
        assert await stage.store.events(EventQuery("ended")) == ()
        assert await stage.claimed() == ["r1"], "to be announced"
        answer = await stage.commit("r1", then=End(RunStatus.CANCELLED, admit=(told,)))
        assert answer.state is CommitState.OK
        assert len(await stage.store.events(EventQuery("ended"))) == 1


async def what_was_cancelled_before_or_never_was(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        await stage.commit("r1", then=DONE)
        await stage.start("r2")
        answers, _ = await stage.store.cancel(stage.now, ("r1", "r2", "r2", "nowhere"), "api")
        assert [answer.name for answer in answers] == ["ENDED", "DONE", "ENDED", "UNKNOWN"]


CASES = (
    an_end_leaves_nothing_behind,
    what_fires_in_the_last_commit_is_gone_with_it,
    a_run_does_not_hear_of_its_own_end,
    an_end_is_told_with_the_registry_as_it_is,
    a_parent_hears_how_its_child_ended,
    a_parent_hears_that_its_child_never_ran,
    a_cancelled_run_stores_nothing_more,
    a_cancelled_run_is_announced_once,
    the_owner_may_announce_by_itself,
    the_parent_of_a_cancelled_run_hears_at_once,
    a_run_may_cancel_itself_by_what_it_sends,
    a_run_that_cancels_itself_does_not_tell_that_it_ended,
    what_was_cancelled_before_or_never_was,
)
