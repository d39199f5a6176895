# ruff: noqa: D103 - a case says by its name what it shows
"""Cases of the reads for people, of `waiting`, and of what `sweep` may remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    Cutoffs,
    Debounce,
    End,
    EventQuery,
    Memo,
    MemoState,
    Park,
    RunQuery,
    RunStatus,
    StepKind,
    Timer,
    Wait,
)
from durable.store import SWEEP_MAX
from durable.testing.exam.stage import F, G, event, plan, staged

if TYPE_CHECKING:
    from durable.testing.exam.harness import Harness

DONE = End(RunStatus.COMPLETED)


async def events_are_found_by_name_time_and_place(harness: Harness) -> None:
    async with staged(harness) as stage:
        begun = stage.now
        seqs: list[int] = []
        for name in ("a", "b", "a", "a"):
            seqs.append((await stage.send(name=name)).seq)
            stage.now += 10

        async def find(query: EventQuery) -> list[int]:
            return [found.seq for found in await stage.store.events(query)]

        assert await find(EventQuery()) == seqs[::-1]
        assert await find(EventQuery(name="a")) == [seqs[3], seqs[2], seqs[0]]
        assert await find(EventQuery(name="a", limit=1)) == [seqs[3]]
        assert await find(EventQuery(before=seqs[2])) == [seqs[1], seqs[0]]
        assert await find(EventQuery(since=begun + 10, until=begun + 30)) == [seqs[2], seqs[1]]


async def runs_are_found_by_all_that_is_asked_for(harness: Harness) -> None:
    async with staged(harness) as stage:
        begun = stage.now
        for number, function in enumerate((F, G, F)):
            sent = event(event_id=f"e{number}")
            await stage.send(plan(f"r{number}", function, due=stage.now), event=sent)
            stage.now += 10
        await stage.claimed(limit=1)
        memo = Memo(0, "s", 0, StepKind.RUN, 0, MemoState.VALUE, b"1")
        await stage.commit("r0", memos=(memo,), timers=(Timer("t", stage.now + 5),), then=Park())

        async def find(query: RunQuery) -> list[str]:
            return [history.run.id for history in await stage.store.runs(query)]

        assert await find(RunQuery()) == ["r2", "r1", "r0"]
        assert await find(RunQuery(function=F)) == ["r2", "r0"]
        assert await find(RunQuery(statuses=frozenset({RunStatus.QUEUED}))) == ["r2", "r1"]
        assert await find(RunQuery(statuses=frozenset({RunStatus.WAITING, RunStatus.FAILED}))) == ["r0"]
        assert await find(RunQuery(event_id="e1")) == ["r1"]
        assert await find(RunQuery(since=begun + 10, until=begun + 20)) == ["r1"]
        assert await find(RunQuery(before="r2", limit=1)) == ["r1"]
        (found,) = await stage.store.runs(RunQuery(event_id="e0"))
        assert (found.memos, [timer.ref for timer in found.timers]) == ((), ["t"])
        assert await stage.store.history("nowhere") is None


async def waits_come_in_pages_of_whole_runs(harness: Harness) -> None:
    async with staged(harness) as stage:
        for run in ("r1", "r2", "r3"):
            await stage.running(run)
            waits = tuple(
                Wait(ref, event="paid", path="data.id", index=index, condition=condition)
                for ref, index, condition in (
                    ("a", "", b"c"),
                    ("b", "data.id=1", b"c"),
                    ("other", "data.id=2", b"c"),
                    ("free", "", None),
                )
            )
            await stage.commit(run, waits=waits)
        page = await stage.store.waiting("paid", ("data.id=1",), limit=3)
        assert [(run, wait.ref) for run, wait in page.waits] == [
            ("r1", "a"),
            ("r1", "b"),
            ("r2", "a"),
            ("r2", "b"),
        ]
        assert page.more
        last = await stage.store.waiting("paid", ("data.id=1",), after="r2", limit=3)
        assert [(run, wait.ref) for run, wait in last.waits] == [("r3", "a"), ("r3", "b")]
        assert not last.more
        assert (await stage.store.waiting("made", ())).waits == ()


async def only_what_is_over_is_swept(harness: Harness) -> None:
    async with staged(harness) as stage:
        memo = Memo(0, "s", 0, StepKind.RUN, 0, MemoState.VALUE, b"1")
        for run in ("ended", "steps", "alive", "cancelled"):
            await stage.send(plan(run), event=event(event_id=run))
        await stage.claimed()
        for run in ("ended", "steps", "alive", "cancelled"):
            await stage.commit(run, memos=(memo,))
        await stage.commit("ended", then=DONE)
        await stage.store.cancel(stage.now, ("cancelled",), "api")
        await stage.send(event=event(event_id="lonely"))
        await stage.send(plan("b", debounce=Debounce("k", 10**9)), event=event(event_id="buffered"))
        stage.now += 100
        await stage.commit("steps", then=DONE)
        stage.now += 100
        cutoffs = Cutoffs(runs=stage.now - 150, steps=stage.now, events=stage.now)
        assert not await stage.store.sweep(stage.now, cutoffs)
        assert await stage.store.history("ended") is None
        assert (await stage.history("steps")).memos == ()
        for run in ("alive", "cancelled"):
            assert (await stage.history(run)).memos == (memo,)
        left = [found.id for found in await stage.store.events(EventQuery())]
        assert left == ["buffered", "cancelled", "alive", "steps"]


async def a_sweep_does_a_bit_at_a_time(harness: Harness) -> None:
    async with staged(harness) as stage:
        for _ in range(3):
            for _ in range(SWEEP_MAX // 2):
                await stage.send()
        cutoffs = Cutoffs(0, 0, stage.now + 1)
        assert await stage.store.sweep(stage.now, cutoffs)
        assert len(await stage.store.events(EventQuery(limit=1_000))) == SWEEP_MAX // 2
        assert not await stage.store.sweep(stage.now, cutoffs)
        assert await stage.store.events(EventQuery()) == ()
        sent = await stage.send()
        assert sent.seq > 3 * (SWEEP_MAX // 2), "a sequence is never used twice"


CASES = (
    events_are_found_by_name_time_and_place,
    runs_are_found_by_all_that_is_asked_for,
    waits_come_in_pages_of_whole_runs,
    only_what_is_over_is_swept,
    a_sweep_does_a_bit_at_a_time,
)
