# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the door `admit`: events, duplicates, the registry, signals, and claiming at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Claim,
    Cursor,
    EventQuery,
    Memo,
    MemoState,
    New,
    Outdated,
    Registration,
    Slot,
    StepKind,
    Verb,
    Wait,
)
from durable.records import Rule as Limit
from durable.store import HOLD_MS
from durable.testing.exam.stage import F, G, as_duplicate, as_new, event, plan, staged

if TYPE_CHECKING:
    from durable.testing.exam.harness import Harness


async def events_have_one_order(harness: Harness) -> None:
    async with staged(harness) as stage:
        admitted = await stage.admit(
            Admission(event=event(event_id="a")), Admission(event=event("thing/paid", "b"))
        )
        first, second = (as_new(answer).seq for answer in admitted.answers)
        assert first < second
        stored = await stage.store.events(EventQuery())
        assert [(e.seq, e.id, e.received) for e in stored] == [
            (second, "b", stage.now),
            (first, "a", stage.now),
        ]


async def an_event_id_counts_once_in_24_hours(harness: Harness) -> None:
    async with staged(harness) as stage:
        sent = event(once=True)
        first = await stage.send(plan("r1"), event=sent)
        stage.now += HOLD_MS - 1
        again = Admission(event=sent, plans=(plan("r2"),))
        duplicate = as_duplicate((await stage.admit(again)).answers[0])
        assert duplicate.seq == first.seq
        assert duplicate.outcomes == first.outcomes
        other = Admission(event=event("thing/paid", once=True))
        assert isinstance((await stage.admit(other)).answers[0], New), "the name belongs to the id"
        stage.now += 1
        third = as_new((await stage.admit(again)).answers[0])
        assert third.outcomes[0].run == "r2"


async def a_cursor_only_moves_forward(harness: Harness) -> None:
    async with staged(harness) as stage:

        def tick(at: int, run: str) -> Admission:
            return Admission(event=event(event_id=run), plans=(plan(run),), cursor=Cursor("cron", at))

        first = as_new((await stage.admit(tick(60, "r1"))).answers[0])
        for at in (60, 59):
            duplicate = as_duplicate((await stage.admit(tick(at, "r2"))).answers[0])
            assert duplicate.outcomes == first.outcomes
        version = (await stage.store.registry()).version
        as_new((await stage.admit(tick(61, "r3"))).answers[0])
        registry = await stage.store.registry()
        assert registry.cursors == (Cursor("cron", 61),)
        assert registry.version == version
        assert await stage.store.history("r2") is None


async def a_cursor_can_be_moved_without_an_event(harness: Harness) -> None:
    async with staged(harness) as stage:
        moved = as_new((await stage.admit(Admission(cursor=Cursor("cron", 60)))).answers[0])
        assert not moved.outcomes
        assert (await stage.store.registry()).cursors == (Cursor("cron", 60),)
        assert not await stage.store.events(EventQuery())
        tick = Admission(event=event(), plans=(plan("r1"),), cursor=Cursor("cron", 60))
        assert not as_duplicate((await stage.admit(tick)).answers[0]).outcomes
        assert await stage.store.history("r1") is None


async def an_old_registry_is_refused_alone(harness: Harness) -> None:
    async with staged(harness) as stage:
        registry = await stage.store.register(stage.now, "one", (Registration(F, "1", b"{}"),))
        old = Admission(event=event(event_id="old"), plans=(plan("r1"),), registry=registry.version - 1)
        new = Admission(event=event(event_id="new"), plans=(plan("r2"),), registry=registry.version)
        answers = (await stage.admit(old, new)).answers
        assert answers[0] == Outdated(registry.version)
        assert as_new(answers[1]).outcomes[0].verb is Verb.RUN
        assert [e.id for e in await stage.store.events(EventQuery())] == ["new"]
        assert await stage.store.history("r1") is None


async def the_registry_grows_by_what_changes(harness: Harness) -> None:
    async with staged(harness) as stage:
        about = Registration(F, "1", b"{}", (("own", Limit(2)),), (("thing/made", "data.id"),))
        first = await stage.store.register(stage.now, "one", (about,))
        assert (await stage.store.register(stage.now, "one", (about,))).version == first.version
        await stage.store.pause(stage.now, F, paused=True)
        await stage.store.pause(stage.now, F, paused=True)
        paused = await stage.store.registry()
        assert paused.version == first.version + 1
        assert [(f.registration, f.paused) for f in paused.functions] == [(about, True)]
        await stage.start("r1", due=stage.now)
        await stage.store.pause(stage.now, F, paused=False)
        await stage.running("r2")
        wait = Wait("w", event="thing/made", path="data.at", index="data.at=1")
        before = (await stage.store.registry()).version
        await stage.commit("r2", waits=(wait,))
        after = await stage.store.registry()
        assert after.version == before + 1
        assert after.paths == (("thing/made", "data.at"), ("thing/made", "data.id"))


async def a_run_starts_with_what_a_rerun_knows(harness: Harness) -> None:
    async with staged(harness) as stage:
        sent = await stage.send()
        memo = Memo(0, "load", 0, StepKind.RUN, 0, MemoState.VALUE, b"1")
        again = Admission(again=(sent.seq,), plans=(plan("r1", memos=(memo,), origin="r0"),))
        assert as_new((await stage.admit(again)).answers[0]).outcomes[0].verb is Verb.RUN
        delivery = (await stage.claim()).deliveries[0]
        assert isinstance(delivery, Claim)
        assert [e.seq for e in delivery.history.events] == [sent.seq]
        assert delivery.history.memos == (memo,)
        assert delivery.history.run.origin == "r0"
        assert len(await stage.store.events(EventQuery())) == 1


async def a_signal_reaches_the_one_who_waits(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        assert not await stage.signal("go")
        await stage.commit("r1", waits=(Wait("w", signal="go"),))
        assert await stage.signal("go", b'"now"')
        assert not await stage.signal("go")
        (fired,) = await stage.fired("r1")
        assert (fired.ref, fired.value) == ("w", b'"now"')


async def admit_claims_at_once(harness: Harness) -> None:
    async with staged(harness) as stage:
        admission = Admission(event=event(), plans=(plan("r1"), plan("r2", "app/elsewhere")))
        admitted = await stage.admit(admission, request=stage.request())
        (delivery,) = admitted.deliveries
        assert isinstance(delivery, Claim)
        assert (delivery.no, delivery.history.run.id, delivery.history.run.gen) == (1, "r1", 1)
        assert delivery.history.run.status == "running"
        assert "app/elsewhere" in admitted.woke
        assert F not in admitted.woke
        repeated = await stage.store.claim(stage.now, stage.request())
        assert repeated.deliveries == admitted.deliveries
        stage.seen["one"] = delivery.no
        assert await stage.claimed() == []


async def admit_claims_no_more_than_is_asked_for(harness: Harness) -> None:
    async with staged(harness) as stage:
        many = [Admission(event=event(event_id=str(n)), plans=(plan(f"r{n}"),)) for n in range(5)]
        admitted = await stage.admit(*many, request=stage.request(limit=2))
        assert [d.history.run.id for d in admitted.deliveries if isinstance(d, Claim)] == ["r0", "r1"]
        assert F in admitted.woke
        stage.seen["one"] = 2
        assert await stage.claimed() == ["r2", "r3", "r4"]


async def admit_overtakes_nobody(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Limit(1))
        version = (await stage.store.registry()).version
        slot = Slot("g", "own")
        await stage.start("r1", G, slots=(slot,))
        newer = Admission(event=event(), plans=(plan("r2", slots=(slot,)),), registry=version)
        admitted = await stage.admit(newer, request=stage.request(pools=(F,)))
        assert admitted.deliveries == (), "r1 has asked for the place before"
        await stage.start("r3")
        newest = Admission(event=event(), plans=(plan("r4"),), registry=version)
        admitted = await stage.admit(newest, request=stage.request(pools=(F,)))
        assert "r4" not in [d.history.run.id for d in admitted.deliveries if isinstance(d, Claim)]


async def what_is_not_due_is_not_claimed_at_once(harness: Harness) -> None:
    async with staged(harness) as stage:
        later = Admission(event=event(), plans=(plan("r1", due=stage.now + 10),))
        assert (await stage.admit(later, request=stage.request())).deliveries == ()
        answer = await stage.claim()
        assert (answer.deliveries, answer.next_due) == ((), stage.now + 10)
        stage.now += 10
        assert await stage.claimed() == ["r1"]


CASES = (
    events_have_one_order,
    an_event_id_counts_once_in_24_hours,
    a_cursor_only_moves_forward,
    a_cursor_can_be_moved_without_an_event,
    an_old_registry_is_refused_alone,
    the_registry_grows_by_what_changes,
    a_run_starts_with_what_a_rerun_knows,
    a_signal_reaches_the_one_who_waits,
    admit_claims_at_once,
    admit_claims_no_more_than_is_asked_for,
    admit_overtakes_nobody,
    what_is_not_due_is_not_claimed_at_once,
)
