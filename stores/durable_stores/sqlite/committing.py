"""One commit of one run: its fence, what it writes, and where the run goes from there.

May not know the other commits of its batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import CommitAnswer, CommitState, End, New, Park, RunStatus, Stay, Yield
from durable_stores.sqlite import lanes, runs, turns, waits
from durable_stores.sqlite.admission import admit_one, is_outdated
from durable_stores.sqlite.firing import backs_off
from durable_stores.sqlite.rows import memo_row

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, Commit
    from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

__all__ = ["commit_one"]


def commit_one(work: Work, engine: str, commit: Commit) -> CommitAnswer:  # noqa: PLR0911  # one a state
    """Write what one run has to write, if it is the engine's to write."""
    run = work.run(commit.run)
    if run is None or run.ended is not None or run.gen != commit.gen:
        return CommitAnswer(CommitState.STALE)
    if run.owner != engine and (run.owner is not None or run.affinity != engine):
        return CommitAnswer(CommitState.STALE)
    announces = isinstance(commit.then, End) and commit.then.status is RunStatus.CANCELLED
    if run.cancelled and not announces:
        _give_back(work, run, commit)
        return CommitAnswer(CommitState.CANCELLED)
    told = commit.then.admit if isinstance(commit.then, End) else ()
    stored = () if run.cancelled else commit.admit
    if any(is_outdated(work, admission) for admission in (*stored, *told)):
        return CommitAnswer(CommitState.OUTDATED)
    if run.cancelled and isinstance(commit.then, End):
        runs.end(work, run, commit.then)
        return CommitAnswer(CommitState.OK, _admit(work, run, told))
    taken_back = run.owner is None
    if taken_back:
        turns.unqueue(work, run)
        run.owner, run.affinity = engine, None
        work.touch(run)
    _write(work, run, commit)
    admitted = _admit(work, run, commit.admit)
    if run.cancelled:
        _give_back(work, run, commit)
        return CommitAnswer(CommitState.CANCELLED, admitted)
    _go(work, run, commit)
    if taken_back and run.owner is not None and _has_fired(work, run):
        run.news = work.tell(run, run.owner)
    return CommitAnswer(CommitState.OK, admitted + _admit(work, run, told))


def _write(work: Work, run: Run, commit: Commit) -> None:
    for ref in commit.drop:
        _drop(work, run, ref)
    if commit.forget:
        work.sql.execute("DELETE FROM memos WHERE run = ? AND state IN ('withdrawn', 'late')", (run.id,))
    if commit.memos:
        work.memos.extend([memo_row(run.id, memo) for memo in commit.memos])
    if commit.attempt is not None:
        run.attempt = commit.attempt
        work.touch(run)
    if commit.timers:
        runs.set_timers(work, run, commit.timers)
    if commit.waits:
        waits.register(work, run, commit.waits)
    for ref in commit.ask:
        _ask(work, run, ref)
    if commit.free:
        runs.give_places(work, run, commit.free)


def _drop(work: Work, run: Run, ref: str) -> None:
    sql, key = work.sql, (run.id, ref)
    rows = sql.execute(
        "DELETE FROM jobs WHERE run = ? AND kind IN ('timer', 'timeout', 'place') AND ref = ? "
        "RETURNING lane, rank",
        key,
    ).fetchall()
    for lane, rank in rows:
        if lane is not None:
            lanes.leave(work, lane, rank)
    if sql.execute("DELETE FROM waits WHERE run = ? AND ref = ?", key).rowcount:
        sql.execute("DELETE FROM candidates WHERE run = ? AND ref = ?", key)
    if run.fired:
        sql.execute("DELETE FROM fired WHERE run = ? AND ref = ?", key)


def _ask(work: Work, run: Run, ref: str) -> None:
    """Queue for one more place, which only the run's own engine can grant."""
    owner = run.owner
    asks = work.sql.execute(
        "SELECT 1 FROM jobs WHERE run = ? AND kind = 'place' AND ref = ?", (run.id, ref)
    ).fetchone()
    if owner is not None and asks is None:
        run.asked = 1
        runs.tie(work, run)
        work.touch(run)
        lanes.enter(
            work,
            "place",
            run.id,
            ref,
            work.now,
            run.priority,
            work.number(),
            pool=owner,
            function=run.function,
            throttle="",
            slots=run.slots,
        )


def _admit(work: Work, run: Run, admissions: tuple[Admission, ...]) -> tuple[AdmissionAnswer, ...]:
    answers: list[AdmissionAnswer] = []
    for admission in admissions:
        answer = admit_one(work, admission)
        answers.append(answer)
        if admission.memo is not None and admission.signal is not None and isinstance(answer, New):
            _fill_in(work, run.id, admission.memo, b"true" if answer.taken else b"false")
    return tuple(answers)


def _fill_in(work: Work, run: str, position: int, value: bytes) -> None:
    """Give a memo of this commit the value that was not known when it was made."""
    for n in range(len(work.memos) - 1, -1, -1):
        row = work.memos[n]
        if row[0] == run and row[1] == position:
            work.memos[n] = (*row[:7], value, *row[8:])
            return
    work.sql.execute(
        "UPDATE memos SET value = CAST(? AS TEXT) WHERE run = ? AND position = ?", (value, run, position)
    )


def _give_back(work: Work, run: Run, commit: Commit) -> None:
    """The run is cancelled: what the commit would write is not stored, but what it holds is given back."""
    if run.owner is None:
        return
    if commit.free:
        runs.give_places(work, run, commit.free)
    if not isinstance(commit.then, Stay):
        runs.let_go(work, run)


def _go(work: Work, run: Run, commit: Commit) -> None:
    match commit.then:
        case Park(affinity, seen):
            runs.let_go(work, run, affinity)
            if _has_fired(work, run, seen) and not backs_off(work, run):
                turns.queue(work, run, work.now)
        case Yield(affinity):
            runs.let_go(work, run, affinity)
            turns.queue(work, run, work.now)
        case End():
            runs.end(work, run, commit.then)
        case Stay():
            pass


def _has_fired(work: Work, run: Run, seen: tuple[str, ...] = ()) -> bool:
    """Whether anything but what was seen has fired and was not dropped."""
    if not run.fired:
        return False
    fired = work.sql.execute(
        "SELECT ref FROM fired WHERE run = ? LIMIT ?", (run.id, len(seen) + 1)
    ).fetchall()
    return not {ref for (ref,) in fired} <= set(seen)
