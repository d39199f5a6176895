# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the four gates: latches, rates, buffers, slots; and of what is built of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Admission,
    Batch,
    Cause,
    Claim,
    Debounce,
    End,
    Latch,
    Parent,
    Park,
    Rate,
    Registration,
    Rule,
    RunQuery,
    RunStatus,
    Singleton,
    Slot,
    Throttle,
    Timer,
    Verb,
    Wait,
)
from durable.store import LOOK_AHEAD
from durable.testing.exam.stage import F, G, as_new, event, plan, staged

if TYPE_CHECKING:
    from durable.testing.exam.harness import Harness
    from durable.testing.exam.stage import Stage

DONE = End(RunStatus.COMPLETED)
OWN = Slot("f:k", "own")


# ---------------------------------------------------------------- idempotency, rate limit


async def a_latch_lets_one_through(harness: Harness) -> None:
    async with staged(harness) as stage:
        latch = Latch("start:1", 1_000)
        assert (await stage.start("r1", once=(latch,))).verb is Verb.RUN
        stage.now += 999
        outcome = await stage.start("r2", once=(Latch("start:2", 5), latch))
        assert (outcome.verb, outcome.run) == (Verb.EXISTS, "r1")
        assert (await stage.start("r3", once=(Latch("start:2", 5),))).verb is Verb.RUN, "nothing was consumed"
        await stage.claimed()
        await stage.commit("r1", then=DONE)
        assert (await stage.start("r4", once=(latch,))).verb is Verb.EXISTS, "whatever became of r1"
        stage.now += 1
        assert (await stage.start("r5", once=(latch,))).verb is Verb.RUN


async def a_rate_is_exact_in_any_period(harness: Harness) -> None:
    async with staged(harness) as stage:
        rate = Rate("k", 2, 100)
        verbs: list[str] = []
        for number, later in enumerate((0, 60, 39, 1, 59, 1, -500, 500)):
            stage.now += later
            verbs.append((await stage.start(f"r{number}", rate=rate)).verb.name)
        assert verbs == ["RUN", "RUN", "SKIPPED", "RUN", "SKIPPED", "RUN", "SKIPPED", "SKIPPED"]


async def the_first_hundred_drops_leave_a_trace(harness: Harness) -> None:
    async with staged(harness) as stage:
        rate = Rate("k", 1, 1_000)
        outcomes = [await stage.start(f"r{number:03}", rate=rate) for number in range(103)]
        verbs = [outcome.verb for outcome in outcomes]
        assert verbs == [Verb.RUN, *[Verb.SKIPPED] * 100, Verb.DROPPED, Verb.DROPPED]
        assert {outcome.reason for outcome in outcomes[1:]} == {"rate_limit"}
        history = await stage.history("r001")
        assert (history.run.status, history.run.reason, history.run.ended) == (
            "skipped",
            "rate_limit",
            stage.now,
        )
        assert len(history.events) == 1
        assert await stage.store.history("r101") is None
        stage.now += 1_000
        assert (await stage.start("r200", rate=rate)).verb is Verb.RUN
        assert (await stage.start("r201", rate=rate)).verb is Verb.SKIPPED


async def a_plan_that_is_refused_consumes_nothing(harness: Harness) -> None:
    async with staged(harness) as stage:
        rate, latch, single = Rate("k", 1, 1_000), Latch("l", 1_000), Singleton("s")
        await stage.start("r1", singleton=single)
        refused = await stage.start("r2", rate=rate, once=(latch,), singleton=single)
        assert (refused.verb, refused.reason, refused.holder) == (Verb.SKIPPED, "singleton", "r1")
        assert (await stage.start("r3", rate=rate, once=(latch,))).verb is Verb.RUN


async def a_paused_function_starts_nothing(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules()
        await stage.running("r1", singleton=Singleton("s", replace=True))
        await stage.store.pause(stage.now, F, True)
        outcome = await stage.start("r2", singleton=Singleton("s", replace=True))
        assert (outcome.verb, outcome.reason) == (Verb.SKIPPED, "paused")
        assert await stage.status("r1") == "running", "it was not replaced by nothing"
        await stage.store.pause(stage.now, F, False)
        assert (await stage.start("r3")).verb is Verb.RUN


# ---------------------------------------------------------------- debounce, batch


async def a_debounce_slides_and_keeps_the_last(harness: Harness) -> None:
    async with staged(harness) as stage:
        debounce = Debounce("k", 100, 250)
        begun = stage.now
        for number, ts in enumerate((5, 7, 7, 6)):
            sent = event(event_id=f"e{number}", ts=ts)
            outcome = (await stage.send(plan(f"r{number}", debounce=debounce), event=sent)).outcomes[0]
            assert (outcome.verb, outcome.run) == (Verb.BUFFERED, "r0")
            stage.now += 80
        stage.now = begun + 245
        answer = await stage.claim()
        assert (answer.deliveries, answer.next_due) == ((), begun + 250)
        stage.now = begun + 250
        (delivery,) = (await stage.claim()).deliveries
        assert isinstance(delivery, Claim)
        assert delivery.history.run.id == "r0"
        assert [e.id for e in delivery.history.events] == ["e2"]
        assert (await stage.start("r9", debounce=debounce)).run == "r9"


async def who_is_debounced_away_is_told(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        for child, ts in (("c1", 5), ("c2", 6), ("c3", 4)):
            child_plan = plan(child, G, parent=Parent("r1", child), debounce=Debounce("k", 100))
            sent = Admission(event=event(event_id=child, ts=ts), plans=(child_plan,))
            await stage.commit("r1", waits=(Wait(child, child=child),), admit=(sent,))
        told = {fired.ref: (fired.status, fired.value) for fired in await stage.fired("r1")}
        assert told == dict.fromkeys(("c1", "c3"), (RunStatus.SKIPPED, b'"debounced"'))
        stage.now += 100
        assert await stage.claimed(limit=1) == ["c1"]
        await stage.commit("c1", then=DONE)
        assert [f.status for f in await stage.fired("r1") if f.ref == "c2"] == ["completed"]


async def a_batch_keeps_all(harness: Harness) -> None:
    async with staged(harness) as stage:
        batch = Batch("k", 3, 100)
        for number in range(4):
            sent = event(event_id=f"e{number}")
            outcome = (await stage.send(plan(f"r{number}", batch=batch), event=sent)).outcomes[0]
            assert (outcome.verb, outcome.run) == (Verb.BUFFERED, "r0" if number < 3 else "r3")
        full = await stage.claim()
        (delivery,) = full.deliveries
        assert isinstance(delivery, Claim)
        assert [e.id for e in delivery.history.events] == ["e0", "e1", "e2"]
        assert full.next_due == stage.now + 100
        stage.now += 100
        (delivery,) = (await stage.claim()).deliveries
        assert isinstance(delivery, Claim)
        assert [e.id for e in delivery.history.events] == ["e3"]


async def all_who_invoked_a_batch_are_told(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1")
        for child in ("c1", "c2"):
            child_plan = plan(child, G, parent=Parent("r1", child), batch=Batch("k", 2, 100))
            sent = Admission(event=event(event_id=child), plans=(child_plan,))
            await stage.commit("r1", waits=(Wait(child, child=child),), admit=(sent,))
        assert await stage.claimed() == ["c1"]
        await stage.commit("c1", then=DONE)
        assert [fired.ref for fired in await stage.fired("r1")] == ["c1", "c2"]


# ---------------------------------------------------------------- singleton


async def a_singleton_is_held_to_the_end(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.running("r1", singleton=Singleton("s"))
        await stage.park("r1", timers=(Timer("t", stage.now + 5),))
        skipped = await stage.start("r2", singleton=Singleton("s"))
        assert (skipped.verb, skipped.reason, skipped.holder) == (Verb.SKIPPED, "singleton", "r1")
        assert (await stage.history("r2")).run.holder == "r1"
        stage.now += 5
        await stage.claimed()
        await stage.commit("r1", then=DONE)
        assert (await stage.start("r3", singleton=Singleton("s"))).verb is Verb.RUN


async def three_replacements_in_a_row(harness: Harness) -> None:
    async with staged(harness) as stage:
        single = Singleton("s", replace=True)
        await stage.running("r1", singleton=single)
        for number in (2, 3, 4):
            assert (await stage.start(f"r{number}", singleton=single)).verb is Verb.RUN
        assert [await stage.status(f"r{n}") for n in (1, 2, 3, 4)] == [*["cancelled"] * 3, "queued"]
        assert (await stage.history("r3")).run.reason == "singleton"
        announced = await stage.claimed()
        assert sorted(announced) == ["r2", "r3"], "r4 stands behind the callback of r1"
        await stage.commit("r1", then=Park())
        assert sorted(await stage.claimed()) == ["r1", "r4"]
        assert await stage.status("r4") == "running"


# ---------------------------------------------------------------- concurrency


async def places_limit_what_executes(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(2))
        for number in range(4):
            await stage.start(f"r{number}", slots=(OWN,))
        assert await stage.claimed() == ["r0", "r1"]
        await stage.park("r0", timers=(Timer("t", stage.now + 5),))
        assert await stage.claimed() == ["r2"], "who sleeps holds no place"
        stage.now += 5
        assert await stage.claimed() == []
        await stage.commit("r1", then=DONE)
        await stage.commit("r2", then=DONE)
        assert await stage.claimed() == ["r3", "r0"]


async def a_saturated_key_holds_up_nobody_else(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(1))
        many = [
            Admission(
                event=event(event_id=str(n)), plans=(plan(f"r{n}", slots=(Slot("busy", "own"),)),), registry=9
            )
            for n in range(100)
        ]
        await stage.admit(*many)
        await stage.start("other", due=stage.now, slots=(Slot("free", "own"),))
        assert await stage.claimed() == ["r0", "other"]


async def many_saturated_keys_are_passed_in_few_claims(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(1), shared=Rule(1))
        shared = Slot("everybody", "shared")
        await stage.running("r", slots=(shared,))
        many = [
            Admission(
                event=event(event_id=str(n)),
                plans=(plan(f"r{n}", slots=(Slot(f"k{n}", "own"), shared)),),
                registry=9,
            )
            for n in range(4 * LOOK_AHEAD)
        ]
        await stage.admit(*many)
        await stage.start("other", due=stage.now)
        answer, asked = await stage.claim(limit=1), 1
        while answer.more and not answer.deliveries:
            answer, asked = await stage.claim(limit=1), asked + 1
        assert [d.history.run.id for d in answer.deliveries if isinstance(d, Claim)] == ["other"]
        assert asked < 10
        assert not (await stage.claim()).more, "nobody is looked at twice for nothing"
        await stage.commit("r", then=DONE)
        assert await stage.claimed() == ["r0"], "the oldest"


async def a_shared_place_goes_to_who_is_hosted(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(F, own=Rule(1))
        await stage.rules(G, own=Rule(1))
        shared = Slot("shared", "own")
        await stage.running("r1", F, slots=(shared,))
        await stage.start("r2", G, slots=(shared,))
        await stage.start("r3", F, due=stage.now, slots=(shared,))
        assert await stage.claimed(pools=(F,)) == []
        await stage.commit("r1", then=DONE)
        assert await stage.claimed(pools=(F,)) == ["r3"], "r2 is older, but not hosted"
        await stage.commit("r3", then=DONE)
        assert await stage.claimed(pools=(G,)) == ["r2"]


async def two_functions_may_limit_one_key_differently(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(F, own=Rule(1))
        await stage.rules(G, own=Rule(3))
        shared = Slot("shared", "own")
        for number, function in enumerate((F, F, G, G, G)):
            await stage.start(f"r{number}", function, slots=(shared,))
        assert await stage.claimed() == ["r0", "r2", "r3"]


async def a_limit_that_changes_holds_for_what_is_queued(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(1))
        for number in range(4):
            await stage.start(f"r{number}", slots=(OWN,))
        assert await stage.claimed() == ["r0"]
        await stage.rules(own=Rule(3))
        assert await stage.claimed() == ["r1", "r2"]
        await stage.rules(own=Rule(1))
        await stage.commit("r0", then=DONE)
        assert await stage.claimed() == []
        await stage.store.register(stage.now, "one", (Registration(F, "2", b"{}"),))
        assert await stage.claimed() == ["r3"], "a rule that is not there is no limit"


async def a_better_job_is_not_held_behind_a_worse(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(1), shared=Rule(1))
        shared = Slot("x", "shared")
        await stage.running("r1", slots=(OWN,))
        await stage.start("r2", slots=(OWN, shared))
        await stage.start("r3", slots=(OWN,), priority=600)
        assert await stage.claimed() == []
        await stage.commit("r1", then=DONE)
        assert await stage.claimed() == ["r3"]
        await stage.store.cancel(stage.now, ("r2",), "api")
        await stage.start("r4", slots=(shared,))
        assert "r4" in await stage.claimed(), "r2 stood before it, and is gone"


async def one_more_place_is_asked_for_and_given_back(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(2))
        await stage.running("r1", slots=(OWN,))
        await stage.commit("r1", ask=("p", "q"))
        assert await stage.news() == [("r1", ["p"])]
        (fired,) = await stage.fired("r1")
        assert fired.cause is Cause.PLACE
        await stage.commit("r1", drop=("p",), free=1)
        assert await stage.news() == [("r1", ["q"])]
        await stage.start("r2", slots=(OWN,))
        assert await stage.claimed() == []
        await stage.park("r1")
        assert await stage.claimed() == ["r2"]
        assert (await stage.fired("r1"), await stage.status("r1")) == ([], "waiting")


async def what_a_cancelled_run_held_comes_back(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(2))
        await stage.running("r1", slots=(OWN,))
        await stage.commit("r1", ask=("p",))
        assert await stage.news() == [("r1", ["p"])]
        for run in ("r2", "r3"):
            await stage.start(run, slots=(OWN,))
        await stage.store.cancel(stage.now, ("r1",), "api")
        assert await stage.claimed() == [], "its callbacks are in flight"
        await stage.commit("r1", free=1)
        assert await stage.claimed() == ["r2"]
        await stage.commit("r1", then=Park())
        assert sorted(await stage.claimed()) == ["r1", "r3"]


# ---------------------------------------------------------------- throttle


async def _starts(stage: Stage, count: int) -> list[int]:
    """When runs start, one after the other, if each claim is made at the time that the last one named."""
    times: list[int] = []
    begun = stage.now
    while len(times) < count:
        answer = await stage.claim()
        times += [stage.now - begun for delivery in answer.deliveries if isinstance(delivery, Claim)]
        if answer.next_due is None:
            break
        assert answer.next_due > stage.now, "a claim must not find the same nothing again"
        stage.now = answer.next_due
    return times


async def a_throttle_spaces_the_starts(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(pace=Rule(1, 100, 2))
        for number in range(6):
            await stage.start(f"r{number}", throttle=Throttle("k", "pace"))
        assert await _starts(stage, 6) == [0, 0, 0, 100, 200, 300]


async def a_throttle_is_asked_once(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(pace=Rule(1, 1_000))
        await stage.running("r1", throttle=Throttle("k", "pace"))
        await stage.park("r1", timers=(Timer("t", stage.now),))
        assert await stage.claimed() == ["r1"], "it has started already"
        await stage.start("r2", throttle=Throttle("k", "pace"))
        answer = await stage.claim()
        assert (answer.deliveries, answer.next_due) == ((), stage.now + 1_000)


async def a_plan_in_a_request_takes_its_gates(harness: Harness) -> None:
    async with staged(harness) as stage:
        await stage.rules(own=Rule(1))
        for run in ("r1", "r2"):
            sent = Admission(event=event(event_id=run), plans=(plan(run, slots=(OWN,)),), registry=9)
            admitted = await stage.admit(sent, request=stage.request())
            assert as_new(admitted.answers[0]).outcomes[0].verb is Verb.RUN
            assert len(admitted.deliveries) == (1 if run == "r1" else 0)
        assert len(await stage.store.runs(RunQuery(statuses=frozenset({RunStatus.RUNNING})))) == 1


CASES = (
    a_latch_lets_one_through,
    a_rate_is_exact_in_any_period,
    the_first_hundred_drops_leave_a_trace,
    a_plan_that_is_refused_consumes_nothing,
    a_paused_function_starts_nothing,
    a_debounce_slides_and_keeps_the_last,
    who_is_debounced_away_is_told,
    a_batch_keeps_all,
    all_who_invoked_a_batch_are_told,
    a_singleton_is_held_to_the_end,
    three_replacements_in_a_row,
    places_limit_what_executes,
    a_saturated_key_holds_up_nobody_else,
    many_saturated_keys_are_passed_in_few_claims,
    a_shared_place_goes_to_who_is_hosted,
    two_functions_may_limit_one_key_differently,
    a_limit_that_changes_holds_for_what_is_queued,
    a_better_job_is_not_held_behind_a_worse,
    one_more_place_is_asked_for_and_given_back,
    what_a_cancelled_run_held_comes_back,
    a_throttle_spaces_the_starts,
    a_throttle_is_asked_once,
    a_plan_in_a_request_takes_its_gates,
)
