# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the door `commit`: the fence, what is written, and where runs go from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Claim,
    Commit,
    CommitState,
    End,
    EventQuery,
    Memo,
    MemoState,
    News,
    Park,
    Registration,
    RunStatus,
    Signal,
    StepKind,
    Timer,
    Wait,
    Yield,
)
from durable.testing.exam.stage import F, as_new, event, staged

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
)
