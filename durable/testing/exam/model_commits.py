"""The model's commits: the fence, what a commit writes, and where the run goes from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import (
    CommitAnswer,
    CommitState,
    End,
    MemoState,
    New,
    Park,
    RunStatus,
    Stay,
    Yield,
)
from durable.testing.exam import model_waits
from durable.testing.exam.model_admission import admit_one, is_outdated
from durable.testing.exam.model_runs import (
    ask_for_place,
    backs_off,
    end,
    let_go,
    queue_turn,
    tell,
    unqueue,
    unqueue_place,
)
from durable.testing.exam.model_state import OpenTimer

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, Commit
    from durable.testing.exam.model_state import Run, World

__all__ = ["commit_one"]

_GIVEN_UP = {MemoState.WITHDRAWN, MemoState.LATE}


def commit_one(world: World, engine: str, commit: Commit) -> CommitAnswer:
    """Write what one run has to write, if it is the engine's to write."""
    run = world.runs.get(commit.run)
    if run is None or not _fence(world, run, engine, commit):
        return CommitAnswer(CommitState.STALE)
    announces = isinstance(commit.then, End) and commit.then.status is RunStatus.CANCELLED
    if run.cancelled and not announces:
        _give_back(world, run, commit)
        return CommitAnswer(CommitState.CANCELLED)
    told = commit.then.admit if isinstance(commit.then, End) else ()
    stored = () if run.cancelled else commit.admit
    if any(is_outdated(world, admission) for admission in (*stored, *told)):
        return CommitAnswer(CommitState.OUTDATED)
    if run.cancelled and isinstance(commit.then, End):
        end(world, run, commit.then)
        return CommitAnswer(CommitState.OK, _admit(world, run, engine, told))
    taken_back = run.owner is None
    if taken_back:
        unqueue(world, run)
        run.owner, run.affinity = engine, None
    _write(world, run, commit)
    admitted = _admit(world, run, engine, commit.admit)
    if run.cancelled:
        _give_back(world, run, commit)
        return CommitAnswer(CommitState.CANCELLED, admitted)
    _go(world, run, commit)
    if taken_back and run.owner is not None and run.fired:
        tell(world, run)
    return CommitAnswer(CommitState.OK, admitted + _admit(world, run, engine, told))


def _fence(world: World, run: Run, engine: str, commit: Commit) -> bool:
    if not world.lives(engine) or run.final is not None or run.gen != commit.gen:
        return False
    return run.owner == engine or (run.owner is None and run.affinity == engine)


def _write(world: World, run: Run, commit: Commit) -> None:
    for ref in commit.drop:
        run.timers.pop(ref, None)
        run.waits.pop(ref, None)
        run.fired.pop(ref, None)
        unqueue_place(world, run, ref)
    if commit.forget:
        run.memos = {p: memo for p, memo in run.memos.items() if memo.state not in _GIVEN_UP}
    run.memos.update({memo.position: memo for memo in commit.memos})
    if commit.attempt is not None:
        run.attempt = commit.attempt
    for timer in commit.timers:
        run.timers[timer.ref] = OpenTimer(timer, world.next_job())
    for wait in commit.waits:
        model_waits.register(world, run, wait)
    for ref in commit.ask:
        ask_for_place(world, run, ref)
    _free(world, run, commit.free)


def _free(world: World, run: Run, count: int) -> None:
    run.extra = max(0, run.extra - count)
    if count:
        world.offered.update(("slot", slot.gate) for slot in run.plan.slots)


def _admit(
    world: World, run: Run, engine: str, admissions: tuple[Admission, ...]
) -> tuple[AdmissionAnswer, ...]:
    answers: list[AdmissionAnswer] = []
    for admission in admissions:
        answer = admit_one(world, admission, engine)
        answers.append(answer)
        if isinstance(answer, New) and admission.signal is not None:
            world.memo_value(run, admission.memo, b"true" if answer.taken else b"false")
    return tuple(answers)


def _give_back(world: World, run: Run, commit: Commit) -> None:
    """The run is cancelled: nothing is stored, but what it holds is given back."""
    if run.owner is None:
        return
    _free(world, run, commit.free)
    if not isinstance(commit.then, Stay):
        let_go(world, run)


def _go(world: World, run: Run, commit: Commit) -> None:
    match commit.then:
        case Park(affinity, seen):
            let_go(world, run, affinity)
            if any(ref not in seen for ref in run.fired) and not backs_off(run):
                queue_turn(world, run, world.now)
        case Yield(affinity):
            let_go(world, run, affinity)
            queue_turn(world, run, world.now)
        case End():
            end(world, run, commit.then)
        case _:
            pass
