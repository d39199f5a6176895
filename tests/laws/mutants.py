"""Mutants of the executor: each takes one rule of replay away. The laws have to notice every one of them.

A mutant patches the running process with pytest's `monkeypatch`; nothing of durable is changed on disk.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable._core.journal import Journal
from durable._executor import calling, ending, quiet
from durable._executor.committer import Committer
from durable._executor.draft import Draft, Phase
from durable._executor.driver import RunTask
from durable._executor.outbox import Outbox
from durable._executor.rounds import Rounds
from durable._executor.session import Session
from durable.records import STAY, MemoState

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

MUTANTS: list[Callable[[pytest.MonkeyPatch], None]] = []


def mutant(patch: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """List a mutant."""
    MUTANTS.append(patch)
    return patch


@mutant
def fresh_results_before_the_journal_is_drained(patch: pytest.MonkeyPatch) -> None:
    """What is fresh begins, and is delivered, while recorded results are still owed."""

    def take_up(self: Rounds, pending: Any) -> None:
        before(self, pending)
        if pending.phase is Phase.HELD and pending in self.held:
            self.held.remove(pending)
            self._begin(pending)

    before = Rounds.take_up
    patch.setattr(Rounds, "take_up", take_up)

    def deliver(self: Rounds, *, calm: bool) -> None:
        if self.done and not self._gathering:
            self._deliver_done()

    patch.setattr(Rounds, "_deliver_done_if", deliver)


@mutant
def a_callback_begins_before_the_memos_are_durable(patch: pytest.MonkeyPatch) -> None:
    """No barrier: a memo may be written after the next callback began."""

    async def barrier(self: Outbox) -> None:
        pass

    patch.setattr(Outbox, "barrier", barrier)


@mutant
def withdrawals_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    def withdraw(self: Session, pending: Any) -> None:
        before = self.rounds.give_up(pending)
        if pending.task is not None and not pending.task.done():
            pending.task.cancel()
        if before in (Phase.WAITING, Phase.HELD, Phase.ACTIVE):
            self.draft.give_up(pending.ref)
            self.armed.discard(pending.ref)
            self.fired.pop(pending.ref, None)
        self.save()

    patch.setattr(Session, "withdraw", withdraw)


@mutant
def withdrawals_are_not_respected(patch: pytest.MonkeyPatch) -> None:
    """A recorded loser is started again by each replay."""

    def load(self: Journal, memo: Any) -> None:
        if memo.state is not MemoState.WITHDRAWN:
            before(self, memo)

    before = Journal._load
    patch.setattr(Journal, "_load", load)


@mutant
def alone_beside_other_tasks(patch: pytest.MonkeyPatch) -> None:
    """An operation counts as alone although other tasks of the run live."""

    def meet(self: Session, op: Any) -> Any:
        key, entry, _ = before(self, op)
        return key, entry, asyncio.current_task() is self.root and not self.rounds.awaiting

    before = Session._meet
    patch.setattr(Session, "_meet", meet)


@mutant
def alone_in_any_task(patch: pytest.MonkeyPatch) -> None:
    """An operation counts as alone when it is the only one, whoever met it."""

    def meet(self: Session, op: Any) -> Any:
        key, entry, _ = before(self, op)
        return key, entry, not self.rounds.awaiting

    before = Session._meet
    patch.setattr(Session, "_meet", meet)

    async def alone(session: Session, op: Any, key: Any) -> Any:
        if asyncio.current_task() is session.root:
            return await called_alone(session, op, key)
        pending = calling.Pending(op, key, None, session.host.loop.create_future(), lone=True)
        return await session.wait_for(pending)

    called_alone = calling.alone
    patch.setattr(calling, "alone", alone)


@mutant
def late_is_a_plain_withdrawal(patch: pytest.MonkeyPatch) -> None:
    """A cancellation between delivery and pick-up is recorded as if nothing had been delivered."""

    def record(self: Journal, key: Any, kind: Any, state: MemoState, **about: Any) -> Any:
        return before(self, key, kind, MemoState.WITHDRAWN if state is MemoState.LATE else state, **about)

    before = Journal.record
    patch.setattr(Journal, "record", record)


@mutant
def late_is_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """A cancellation between delivery and pick-up leaves no trace."""

    def withdraw(self: Session, pending: Any) -> None:
        if pending.phase is Phase.DELIVERED:
            self.rounds.give_up(pending)
        else:
            before(self, pending)

    before = Session.withdraw
    patch.setattr(Session, "withdraw", withdraw)


@mutant
def a_failed_attempts_withdrawals_are_kept(patch: pytest.MonkeyPatch) -> None:
    def commit(self: Draft, *args: Any) -> Any:
        self.forget = False
        return before(self, *args)

    before = Draft.commit
    patch.setattr(Draft, "commit", commit)


@mutant
def each_memo_is_a_round_of_its_own(patch: pytest.MonkeyPatch) -> None:
    def record(self: Journal, *args: Any, **about: Any) -> Any:
        self.round += 1
        return before(self, *args, **about)

    before = Journal.record
    patch.setattr(Journal, "record", record)


@mutant
def all_memos_are_one_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "delivered", lambda self: None)


@mutant
def rounds_are_delivered_backwards(patch: pytest.MonkeyPatch) -> None:
    """On replay the results of a round come in the opposite order."""

    def next_round(self: Journal, awaited: Any) -> Any:
        return list(reversed(before(self, awaited)))

    before = Journal.next_round
    patch.setattr(Journal, "next_round", next_round)


@mutant
def one_turn_is_quiet(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quiet, "QUIET_TURNS", 1)


@mutant
def births_and_ends_of_tasks_are_no_activity(patch: pytest.MonkeyPatch) -> None:
    """Only operations count, and four silent turns are enough."""
    from durable._executor.driver import RunTasks

    def init(self: Any, touch: Any) -> None:
        before(self, lambda: None)

    before = RunTasks.__init__
    patch.setattr(RunTasks, "__init__", init)
    patch.setattr(quiet, "QUIET_TURNS", 4)


@mutant
def tasks_hash_by_address(patch: pytest.MonkeyPatch) -> None:
    """asyncio's sets of tasks are ordered by chance."""
    patch.setattr(RunTask, "__hash__", lambda self: hash(id(self) * 0x9E3779B97F4A7C15))


@mutant
def results_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Every second recorded result is not found again."""

    def load(self: Journal, memo: Any) -> None:
        if memo.position % 2 == 0:
            before(self, memo)

    before = Journal._load
    patch.setattr(Journal, "_load", load)


@mutant
def unwinding_is_recorded_as_withdrawal(patch: pytest.MonkeyPatch) -> None:
    """Steps that are cancelled by an eviction count as withdrawn by the handler."""

    async def unwind(session: Session) -> None:
        session.rounds.stopped = True
        for task in (session.root, *session.tasks.alive):
            if task is not None:
                task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await before(session)

    before = ending.unwind
    patch.setattr(ending, "unwind", unwind)


@mutant
def children_are_left_behind(patch: pytest.MonkeyPatch) -> None:
    """An eviction takes only the root of a handler apart."""

    async def unwind(session: Session) -> None:
        alive, session.tasks.alive = session.tasks.alive, set()
        await before(session)
        session.tasks.alive = alive

    before = ending.unwind
    patch.setattr(ending, "unwind", unwind)


@mutant
def a_withdrawn_callback_goes_on(patch: pytest.MonkeyPatch) -> None:
    """The callback of a step that was given up is not cancelled."""

    def withdraw(self: Session, pending: Any) -> None:
        pending.task = None
        before(self, pending)

    before = Session.withdraw
    patch.setattr(Session, "withdraw", withdraw)


@mutant
def a_later_commit_overtakes_a_refused_one(patch: pytest.MonkeyPatch) -> None:
    """A commit is sealed before the session was told of the one before, which may have been refused."""

    def land(self: Committer, *about: Any) -> None:
        self._loop.call_soon(before, self, *about)

    before = Committer._land
    patch.setattr(Committer, "_land", land)
    patch.setattr(Outbox, "in_flight", property(lambda self: False))


@mutant
def a_refused_commit_loses_where_the_run_goes(patch: pytest.MonkeyPatch) -> None:
    def extend(self: Draft, later: Draft) -> None:
        before(self, later)
        self.then = STAY

    before = Draft.extend
    patch.setattr(Draft, "extend", extend)


@mutant
def a_step_that_waits_again_is_armed_again(patch: pytest.MonkeyPatch) -> None:
    """A replay sets the timers anew that the store still has."""

    def init(self: Session, *args: Any) -> None:
        before(self, *args)
        self.armed.clear()

    before = Session.__init__
    patch.setattr(Session, "__init__", init)
