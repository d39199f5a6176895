"""Commits: the fence, what a commit writes, and where the run goes from there.

Duty: what `Store.commit` says of one `Commit`. It may not know claims.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable.records import CommitAnswer, CommitState, End, MemoState, New, Park, RunStatus, Stay, Yield

from . import matching
from .admission import admit_one, is_outdated

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, Commit, Memo

    from .engines import Engine
    from .ledger import Call, Ledger
    from .runs import Run

__all__ = ["commit_one"]

_OK = CommitAnswer(CommitState.OK)
_STALE = CommitAnswer(CommitState.STALE)
_CANCELLED = CommitAnswer(CommitState.CANCELLED)
_OUTDATED = CommitAnswer(CommitState.OUTDATED)


def commit_one(ledger: Ledger, call: Call, engine: Engine, commit: Commit) -> CommitAnswer:
    """Write what one run has to write, if it is the engine's to write."""
    run = ledger.runs.by_id.get(commit.run)
    if run is None or not _fence(run, engine, commit):
        return _STALE
    then = commit.then
    announces = isinstance(then, End) and then.status is RunStatus.CANCELLED
    if run.cancelled and not announces:
        _give_back(ledger, call, run, commit)
        return _CANCELLED
    told = then.admit if isinstance(then, End) else ()
    stored = () if run.cancelled else commit.admit
    if (stored or told) and any(is_outdated(ledger, admission) for admission in (*stored, *told)):
        return _OUTDATED
    if run.cancelled and isinstance(then, End):
        ledger.end(call, run, then)
        return CommitAnswer(CommitState.OK, _admit(ledger, call, engine, run, told))
    taken_back = run.owner is None
    if taken_back:
        ledger.unqueue(call, run)
        run.owner, run.affinity = engine, None
        engine.owned[run] = None
    _write(ledger, call, run, commit)
    admitted = _admit(ledger, call, engine, run, commit.admit) if commit.admit else ()
    if run.cancelled:
        _give_back(ledger, call, run, commit)
        return CommitAnswer(CommitState.CANCELLED, admitted)
    if not isinstance(then, Stay):
        _go(ledger, call, run, then)
    if taken_back and run.owner is not None and run.fired:
        ledger.tell(call, run)
    if told:
        admitted += _admit(ledger, call, engine, run, told)
    return CommitAnswer(CommitState.OK, admitted) if admitted else _OK


def _fence(run: Run, engine: Engine, commit: Commit) -> bool:
    if run.gen != commit.gen or run.end is not None:
        return False
    return run.owner is engine or (run.owner is None and run.affinity == engine.id)


def _write(ledger: Ledger, call: Call, run: Run, commit: Commit) -> None:
    for ref in commit.drop:
        _drop(ledger, call, run, ref)
    if commit.forget and run.memos is not None:
        given_up = (MemoState.WITHDRAWN, MemoState.LATE)
        run.memos = [memo for memo in run.memos if memo.state not in given_up] or None
    if commit.memos:
        _append(run, commit.memos)
    if commit.attempt is not None:
        run.attempt = commit.attempt
    for timer in commit.timers:
        ledger.set_timer(run, timer)
    for wait in commit.waits:
        matching.register(ledger, call, run, wait)
    for ref in commit.ask:
        ledger.ask(call, run, ref)
    if commit.free:
        ledger.give_back(call, run, commit.free)


def _drop(ledger: Ledger, call: Call, run: Run, ref: str) -> None:
    ledger.drop_fired(run, ref)
    ledger.drop_timer(run, ref)
    ledger.unask(call, run, ref)
    waiter = run.waits.get(ref) if run.waits is not None else None
    if waiter is not None:
        ledger.close(waiter)


def _append(run: Run, memos: tuple[Memo, ...]) -> None:
    journal = run.memos
    if journal is None:
        journal = run.memos = []
    for memo in memos:
        if not journal or memo.position > journal[-1].position:
            journal.append(memo)
        else:
            _put(journal, memo)


def _answer(run: Run, position: int, value: bytes) -> None:
    """Give the memo at `position` the value that was not known when it was made."""
    for memo in run.memos or ():
        if memo.position == position:
            _append(run, (replace(memo, value=value),))
            return


def _put(journal: list[Memo], memo: Memo) -> None:
    """Put `memo` into its place, and in place of one that has it."""
    place = bisect_left(journal, memo.position, key=lambda memo: memo.position)
    taken = place < len(journal) and journal[place].position == memo.position
    journal[place : place + taken] = [memo]


def _admit(
    ledger: Ledger, call: Call, engine: Engine, run: Run, admissions: tuple[Admission, ...]
) -> tuple[AdmissionAnswer, ...]:
    answers: list[AdmissionAnswer] = []
    for admission in admissions:
        answer = admit_one(ledger, call, admission, engine)
        answers.append(answer)
        if admission.memo is not None and admission.signal is not None and isinstance(answer, New):
            _answer(run, admission.memo, b"true" if answer.taken else b"false")
    return tuple(answers)


def _give_back(ledger: Ledger, call: Call, run: Run, commit: Commit) -> None:
    """The run is cancelled: nothing is stored, but what it holds is given back."""
    if run.owner is None:
        return
    ledger.give_back(call, run, commit.free)
    if not isinstance(commit.then, Stay):
        ledger.let_go(call, run)


def _go(ledger: Ledger, call: Call, run: Run, then: Park | Yield | End) -> None:
    if isinstance(then, End):
        ledger.end(call, run, then)
        return
    ledger.let_go(call, run, then.affinity)
    if isinstance(then, Yield) or (
        run.fired and not run.fired.keys() <= set(then.seen) and not run.backs_off
    ):
        ledger.queue(call, run, call.now)
