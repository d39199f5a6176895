"""The exam can fail: stores with one fault each, of the kind that people make, do not pass it.

The stores are the model itself behind asynchronous doors, so that nothing but the fault is wrong.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

pytest.register_assert_rewrite("durable.testing.exam")

from durable.records import Commit, End, Park, Verdict, Yield  # noqa: E402
from durable.testing.exam import CASES, DifferenceError, Model, run_history, shrink  # noqa: E402
from durable.testing.exam import model_runs as runs  # noqa: E402


class ModelStore:
    """The model as a store."""

    def __init__(self):
        self.model = Model()

    def __getattr__(self, door):
        call = getattr(self.model, door)

        async def asynchronous(*args, **options):
            return call(*args, **options)

        return asynchronous

    async def open(self):
        pass

    async def close(self):
        pass

    async def dead(self, lease_ms):
        return self.model.dead()

    async def wait_for_work(self, engine):
        pass


class ModelHarness:
    def __init__(self, kind):
        self.kind = kind

    async def open(self):
        return self.kind()

    async def close(self, store):
        pass

    async def kill(self, store, engine):
        store.model.sever(engine)

    async def restart(self, store, engines):
        for engine in engines:
            store.model.sever(engine)
        return store


# ---------------------------------------------------------------- the faults


class CommitWithoutFence(ModelStore):
    """Whoever writes for a run is taken for its owner."""

    async def commit(self, now, engine, items):
        world = self.model.world
        for item in items:
            run = world.runs.get(item.run)
            if isinstance(item, Commit) and run is not None and run.owner is not None:
                run.owner = engine
        unfenced = tuple(
            replace(item, gen=world.runs[item.run].gen)
            if isinstance(item, Commit) and item.run in world.runs
            else item
            for item in items
        )
        return self.model.commit(now, engine, unfenced)


class LostAnswerIsLost(ModelStore):
    """What an engine was told once is never told again."""

    async def claim(self, now, request):
        state = self.model.world.engines.get(request.engine)
        told = state.told if state is not None else 0
        return self.model.claim(now, replace(request, seen=max(request.seen, told)))


class PlaceIsFreedEarly(ModelStore):
    """A cancelled run gives its place back while its callback is in flight."""

    async def cancel(self, now, run_ids, reason):
        answer = self.model.cancel(now, run_ids, reason)
        for run in run_ids:
            if run in self.model.world.runs:
                self.model.world.runs[run].placed = False
        return answer


class PlacesSurviveParking(ModelStore):
    """A run that parks keeps what it was granted besides its own place."""

    async def commit(self, now, engine, items):
        world = self.model.world
        extra = {item.run: world.runs[item.run].extra for item in items if item.run in world.runs}
        answer = self.model.commit(now, engine, items)
        for item in items:
            if isinstance(item, Commit) and isinstance(item.then, Park | Yield) and extra.get(item.run):
                run = world.runs[item.run]
                run.owner, run.extra = run.owner or engine, extra[item.run]
        return answer


class SeenIsIgnored(ModelStore):
    """A run that parks is queued by what its engine has seen, again and again."""

    async def commit(self, now, engine, items):
        blind = tuple(
            replace(item, then=Park(item.then.affinity))
            if isinstance(item, Commit) and isinstance(item.then, Park)
            else item
            for item in items
        )
        return self.model.commit(now, engine, blind)


class EndIsToldBeforeIt(ModelStore):
    """What tells of an end is stored while the run still waits, and is not yet known to be cancelled."""

    async def commit(self, now, engine, items):
        early = tuple(
            replace(item, admit=(*item.admit, *item.then.admit), then=replace(item.then, admit=()))
            if isinstance(item, Commit) and isinstance(item.then, End)
            else item
            for item in items
        )
        return self.model.commit(now, engine, early)


class AnyMatchWins(ModelStore):
    """A yes resolves its wait, though an earlier event is not decided."""

    async def commit(self, now, engine, items):
        for item in items:
            run = self.model.world.runs.get(item.run)
            wait = run.waits.get(item.ref) if run is not None and isinstance(item, Verdict) else None
            if wait is not None and item.matches:
                wait.candidates = {seq: c for seq, c in wait.candidates.items() if seq >= item.seq}
                wait.unscanned = []
        return self.model.commit(now, engine, items)


class WaitOfTheSameMomentIsLost(ModelStore):
    """A wait is registered at the sequence of the last event, so that a page seems to cover it."""

    async def commit(self, now, engine, items):
        answer = self.model.commit(now, engine, items)
        for wait in self.model.world.open_waits():
            wait.registered = max(
                [seq for seq in self.model.world.events if seq < wait.registered], default=0
            )
        return answer


class RefusedPlanConsumes(ModelStore):
    """A plan takes its latches before anything else is asked."""

    async def admit(self, now, admissions, request=None, taken=None):
        answer = self.model.admit(now, admissions, request, taken)
        for admission in admissions:
            for plan in admission.plans:
                for latch in plan.once:
                    self.model.world.latches.setdefault(latch.key, (now + latch.hold, plan.run))
        return answer


class TheDeadKeepTheirRuns(ModelStore):
    """A run of a buried engine is queued, but in its old generation's name: its places stay held."""

    async def bury(self, now, engine):
        placed = [run for run in self.model.world.runs.values() if run.owner == engine and run.placed]
        answer = self.model.bury(now, engine)
        for run in placed[:1]:
            run.turn = None
        return answer


class AnnouncedTwice(ModelStore):
    """Somebody who cancels what is cancelled queues it again."""

    async def cancel(self, now, run_ids, reason):
        answer = self.model.cancel(now, run_ids, reason)
        for run_id in run_ids:
            run = self.model.world.runs.get(run_id)
            if run is not None and run.cancelled and run.ended is None and run.turn is None:
                runs.queue_turn(self.model.world, run, now)
        return answer


MUTANTS = ModelStore.__subclasses__()


async def difference(kind, histories):
    """The first difference that histories find, or ``None``."""
    for seed in range(histories):
        try:
            await run_history(ModelHarness(kind), seed, 60)
        except DifferenceError as failure:
            return failure
    return None


async def test_the_model_passes():
    for case in CASES.values():
        await case(ModelHarness(ModelStore))
    assert await difference(ModelStore, 10) is None


@pytest.mark.parametrize("kind", MUTANTS)
async def test_histories_find_a_fault(kind):
    assert await difference(kind, 200) is not None


async def test_a_difference_is_told_in_short():
    failure = await difference(CommitWithoutFence, 200)
    short = await shrink(ModelHarness(CommitWithoutFence), failure)
    assert len(short.calls) <= len(failure.calls)
    assert len(short.calls) < 10
    assert short.message in str(short)
    assert "commit(" in str(short)


@pytest.mark.parametrize("kind", MUTANTS)
async def test_a_case_finds_a_fault(kind):
    failed = []
    for name, case in CASES.items():
        try:
            await case(ModelHarness(kind))
        except (AssertionError, KeyError, ValueError):
            failed.append(name)
    assert failed
