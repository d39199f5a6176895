"""The three doors and `cancel`, each as one function on one transaction.

May not open a transaction, nor know the tables of the modules it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Admitted, Cancellation, Claimed, Commit, CommitAnswer, CommitState, Committed
from durable_stores.sqlite import candidates, due, runs, taking, turns
from durable_stores.sqlite.admission import admit_current
from durable_stores.sqlite.committing import commit_one
from durable_stores.sqlite.deliveries import deliver, told_before

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import Admission, Request, Verdict
    from durable_stores.sqlite.work import Work

__all__ = ["admit", "cancel", "claim", "commit"]


def admit(work: Work, admissions: Sequence[Admission], request: Request | None) -> Admitted:
    """Store events, and everything that they cause."""
    told = None if request is None else told_before(work, request.engine)
    if told is None:
        work.engine = None  # nobody who lives evaluates the candidates
    answers = tuple(admit_current(work, admission) for admission in admissions)
    if request is None or told is None:
        turns.settle(work)
        return Admitted(answers, (), frozenset(work.woke))
    due.enter_turns(work)
    warm = taking.take_fresh(work, request)
    deliveries = deliver(work, request.engine, told, told[1], warm)
    return Admitted(answers, deliveries, frozenset(work.woke))


def claim(work: Work, request: Request) -> Claimed:
    """Take work."""
    told = told_before(work, request.engine)
    if told is None:
        return Claimed()
    more = due.promote(work)
    turns.settle(work)
    more = due.enter_turns(work) or more
    due.open_throttles(work)
    warm, unseen = taking.take_queued(work, request)
    deliveries = deliver(work, request.engine, told, request.seen, warm)
    handed, more_candidates = candidates.hand_out(work)
    return Claimed(
        deliveries,
        handed,
        more=more or unseen or more_candidates,
        next_due=due.next_due(work),
        woke=frozenset(work.woke),
    )


def commit(work: Work, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
    """Write what runs have to write."""
    told = told_before(work, engine)
    if told is None:
        stale = CommitAnswer(CommitState.STALE)
        return Committed(
            tuple(stale if isinstance(i, Commit) else CommitAnswer(CommitState.OK) for i in items)
        )
    work.load(item.run for item in items if isinstance(item, Commit))
    answers: list[CommitAnswer] = []
    for item in items:
        if isinstance(item, Commit):
            answers.append(commit_one(work, engine, item))
        else:
            candidates.decide(work, item)
            answers.append(CommitAnswer(CommitState.OK))
    turns.settle(work)
    return Committed(tuple(answers), deliver(work, engine, told, told[1], set()), frozenset(work.woke))


def cancel(
    work: Work, run_ids: Sequence[str], reason: str
) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
    """Cancel runs."""
    answers: list[Cancellation] = []
    for run_id in run_ids:
        run = work.run(run_id)
        if run is None:
            answers.append(Cancellation.UNKNOWN)
        else:
            answers.append(Cancellation.DONE if runs.cancel(work, run, reason) else Cancellation.ENDED)
    turns.settle(work)
    return tuple(answers), frozenset(work.woke)
