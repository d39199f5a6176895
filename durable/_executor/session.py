"""One claimed run, alive: drives its handler and performs its steps.

What a step is, the journal knows; when its result is delivered, the rounds; the rest, the modules beside this
one. Everything happens in one event loop, between two awaits, so that no lock is needed.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any

from durable._core import operations as ops
from durable._core import settling
from durable._core.journal import Entry, Journal, Key
from durable._executor import arming, calling, ending, hearing, results
from durable._executor.draft import Pending, Phase, reference
from durable._executor.driver import RunTasks, owner, rooted
from durable._executor.outbox import Outbox
from durable._executor.rounds import Rounds
from durable.context import Context, attempting, enter
from durable.errors import (
    Interrupt,
    NestedStepError,
)
from durable.records import STAY, Effect, MemoState, Park, RunStatus, StepKind
from durable.runs import event_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable._executor.draft import Draft
    from durable._executor.host import Host
    from durable.functions import Function
    from durable.records import Fired, History, Then

__all__ = ["Session"]

_ARMED_KINDS = frozenset({StepKind.SLEEP, StepKind.WAIT, StepKind.SIGNAL, StepKind.INVOKE, StepKind.TIMEOUT})
"""Steps that have a timer or a wait, which goes when the step is remembered."""
_STEPS_PER_TURN, _SECONDS_PER_TURN = 50, 0.001


class Session:
    """A run that is ours, from claim to park, end or loss."""

    def __init__(self, host: Host, function: Function[Any], history: History) -> None:
        self.host = host
        self.function = function
        self.history = history
        self.run_id = history.run.id
        self.gen = history.run.gen
        self.attempt = history.run.attempt
        self.journal = Journal(history.memos)
        self.fired: dict[str, Fired] = {one.ref: one for one in history.fired}
        self.armed = {one.ref for one in history.timers if one.effect is Effect.RESUME}
        self.armed |= {one.ref for one in history.waits if one.effect is Effect.RESUME}
        self._began = {one.ref: one.started for one in history.timers if one.started}
        self._began |= {one.ref: one.started for one in history.waits if one.started}
        for ref, kind in settling.begun(history):
            self.journal.begun(ref, kind)
        self.waiting: dict[str, Pending] = {}
        self.rounds = Rounds(
            host.loop,
            self.journal,
            live=not history.memos and not self.fired and not self.armed,
            begin=self._begin,
            calm=self.park_if_idle,
            checked=self._within_limits,
        )
        self.active = 0
        self.callbacks: set[asyncio.Task[Any]] = set()
        self.root: calling.HandlerTask | None = None
        self.free = False
        self.tasks = RunTasks(self.rounds.quiet.touch)
        self._spent = 0
        self.size = sum(len(memo.value or b"") for memo in history.memos)
        self.outbox = Outbox(host.loop)
        self.parked = False
        self.resting = False
        self.halted = False
        self.loose = False
        self.lost = False
        self.cancelled = history.run.status is RunStatus.CANCELLED
        self.failure: Exception | None = None
        self.outcome: Callable[[], None] | None = None
        self.end: Then | None = None

    @property
    def unwinding(self) -> bool:
        """Whether the handler is being taken apart."""
        return self.tasks.unwinding

    @property
    def draft(self) -> Draft:
        """What is to be written next."""
        return self.outbox.draft

    # ------------------------------------------------------------ the handler

    def start(self) -> None:
        """Call the handler from the top."""
        self.root = calling.HandlerTask(self._main(), loop=self.host.loop, name=f"durable {self.run_id}")

    async def _main(self) -> None:
        try:
            owner.set(self.tasks)
            self.context = Context(
                self,
                run_id=self.run_id,
                events=[event_of(one) for one in self.history.events],
                function=self.function,
                engine=self.host.engine,
            )
            enter(self.context)
            if self.fired.pop("", None) is not None:
                self.draft.drop.append("")
            output = await rooted(
                self.tasks, self.function(self.context), f"the handler of {self.function.id!r}"
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, GeneratorExit) and self.tasks.closed:
                raise
            self._ended(ending.raised, error)
        else:
            self._ended(ending.returned, output)

    def _ended(self, how: Callable[[Session, Any], None], what: Any) -> None:
        try:
            if not self.unwinding:
                how(self, what)
        except Exception as error:
            self.crash(error)

    @property
    def replaying(self) -> bool:
        """Whether the handler repeats what an earlier pass has done (the logger is silent then)."""
        return not self.rounds.live and not (self.journal.exhausted and not self.armed and not self.fired)

    # ------------------------------------------------------------ meeting a step

    async def perform(self, op: ops.Operation) -> Any:
        """Do what `op` says, once; or return what it returned when it was done before."""
        try:
            key, entry, lone = self._meet(op)
            if lone:
                if self._spent >= _STEPS_PER_TURN or perf_counter() - self.tasks.resumed > _SECONDS_PER_TURN:
                    await self._yield(op, key, entry)
                if entry is None:
                    if isinstance(op, ops.Call) and op.timeout is None and self._begins_anew(key):
                        self.rounds.live = True
                        return await calling.alone(self, op, key)
                elif entry.memo is not None and not entry.withdrawn and not entry.late:
                    entry.delivered = True
                    return results.remembered(self, op, entry.memo)
            pending = Pending(op, key, entry, self.host.loop.create_future(), lone=lone)
            return await self.wait_for(pending)
        except results.STOPPING as error:
            await ending.stopped(self, error)
            raise

    def _begins_anew(self, key: Key) -> bool:
        """Whether a fresh step may call its function at once: no retry of it is due, or was."""
        if not (self.fired or self.armed):
            return not self.halted
        ref = reference(key)
        return not (self.halted or ref in self.fired or ref in self.armed)

    async def _yield(self, op: ops.Operation, key: Key, entry: Entry | None) -> None:
        """Let others have the loop: a long replay must not hold it up. The step is met, and may be withdrawn."""
        self._spent = 0
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not self.unwinding:
                self.withdraw(Pending(op, key, entry, None, lone=True))
            raise

    def _meet(self, op: ops.Operation) -> tuple[Key, Entry | None, bool]:
        """Which step this is, what is known of it, and whether it is all that the run does."""
        attempt = attempting.get()
        if attempt is not None:
            attempt.nested = op.step
            raise NestedStepError(
                f"step {op.step!r} was called inside the callback of step {attempt.step!r}: "
                "steps cannot be nested; call it from the handler"
            )
        if self.tasks.stuck:
            raise Interrupt  # perhaps in another thread, where it is thrown away: there is no task
        task = asyncio.current_task()
        if self.tasks.unwinding:
            raise Interrupt if task is self.root else asyncio.CancelledError
        if task is not self.root:
            results.check_place(self, op)
        key = self.journal.identify(op.step)
        entry = self.journal.meet(key, op.kind)
        if key[1] and task is not self.root:
            results.notice_repetition(self, key)
        if entry is None:
            results.check_steps(self)
        if self.loose:
            self.settle()
        self._spent += 1
        lone = task is self.root and not self.tasks.alive and not self.rounds.awaiting
        return key, entry, lone

    async def wait_for(self, pending: Pending) -> Any:
        """Await the round in which the step's result is delivered."""
        future = pending.future
        assert future is not None
        pending.started = pending.started or self.host.clock.now_ms()
        pending.variables = copy_context()
        if self.tasks.abandoned and pending.op.kind in _ARMED_KINDS:  # the end waits for nothing
            self.withdraw(pending)
            raise asyncio.CancelledError
        self.rounds.take_up(pending)
        try:
            await future
            if self.unwinding:
                raise Interrupt if asyncio.current_task() is self.root else asyncio.CancelledError
            self.rounds.quiet.touch()
            if pending.entry is not None and pending.entry.late:
                # Recorded: it was cancelled between delivery and pick-up. So it must be again.
                pending.phase = Phase.GONE
                await self.host.loop.create_future()
        except asyncio.CancelledError:
            if not self.unwinding:
                self.withdraw(pending)
            raise
        finally:
            self._leave(pending)
        return self.read(pending)

    async def watch(self, op: ops.Deadline, expired: Callable[[], None]) -> Callable[[], None]:
        """A deadline: awaited beside the steps inside its block, delivered by a call of `expired`."""
        arming.check_deadline(self, op)
        try:
            key, entry, _ = self._meet(op)
        except results.STOPPING as error:
            await ending.stopped(self, error)
            raise
        pending = Pending(op, key, entry, None, lone=False)
        pending.started = self.host.clock.now_ms()
        pending.expired = expired
        self.rounds.take_up(pending)

        def end() -> None:
            self._leave(pending)
            if pending.phase is not Phase.DELIVERED and not self.unwinding:
                self.withdraw(pending)

        return end

    def _leave(self, pending: Pending) -> None:
        self.rounds.leave(pending)
        self.waiting.pop(pending.ref, None)

    # ------------------------------------------------------------ results

    def read(self, pending: Pending) -> Any:
        """What the handler receives for a step that was delivered to it."""
        return results.delivered(self, pending)

    def record(self, pending: Pending, state: MemoState, value: bytes) -> None:
        """Remember a step's result: it goes into the draft."""
        op = pending.op
        self.size += len(value)
        pending.result = memo = self.journal.record(
            pending.key,
            op.kind,
            state,
            value=value,
            digest=pending.digest,
            attempts=pending.attempt + 1,
            started=pending.started,
            ended=self.host.clock.now_ms(),
        )
        self.outbox.draft.memos.append(memo)
        if pending.attempt or op.kind in _ARMED_KINDS:
            self.draft.drop.append(pending.ref)
            self.armed.discard(pending.ref)
        if self.attempt:
            self.attempt = self.draft.attempt = 0
        self.host.observers.step_ended(self.run_id, memo)
        self.save()

    def remember_now(self, pending: Pending, state: MemoState, value: bytes) -> None:
        """A step is done with what was put into the draft."""
        self.record(pending, state, value)
        self.rounds.finished(pending)

    def delivered_alone(self, pending: Pending) -> None:
        """A lone step's result goes to the handler at once: its round is over."""
        pending.phase = Phase.DELIVERED
        self.journal.delivered()
        results.check_size(self)
        if self.failure is not None:
            raise self.failure

    def _within_limits(self) -> bool:
        results.check_size(self)
        if self.failure is not None:
            ending.abort(self, self.failure)
        return self.failure is None

    # ------------------------------------------------------------ fresh steps

    def _begin(self, pending: Pending) -> None:
        """Start a fresh step: its callback, or its timer or wait."""
        pending.started = self._began.get(pending.ref, pending.started)
        fired = self.fired.pop(pending.ref, None)
        if fired is not None:
            pending.started = fired.started or pending.started
            hearing.settled(self, pending, fired)
        elif pending.ref in self.armed:
            self.wait(pending)
        elif isinstance(pending.op, ops.Call):
            calling.beside(self, pending)
        else:
            self.host.arm(self, pending)

    def wait(self, pending: Pending) -> None:
        """The step has its timer or its wait, and waits."""
        pending.phase = Phase.WAITING
        self.waiting[pending.ref] = pending

    def withdraw(self, pending: Pending) -> None:
        """The await of a step was cancelled: a hand-over without any await."""
        before = self.rounds.give_up(pending)
        if pending.task is not None and not pending.task.done():
            pending.task.cancel()
        known = pending.entry
        if before is Phase.GONE or (known is not None and (known.withdrawn or known.late)):
            return
        state = MemoState.LATE if before is Phase.DELIVERED else MemoState.WITHDRAWN
        memo = self.journal.record(pending.key, pending.op.kind, state, started=pending.started)
        self.draft.withdrawn.append(memo)
        if before in (Phase.WAITING, Phase.HELD, Phase.ACTIVE):
            self.draft.give_up(pending.ref)
            self.armed.discard(pending.ref)
            self.fired.pop(pending.ref, None)
        # Not written by itself: it may be the sign of an attempt that fails, and has to go with it.
        self.loose = True
        self._go_on()

    # ------------------------------------------------------------ writing

    def save(self) -> None:
        """Have the draft written: it is sealed within a turn, and joined by whatever is added before."""
        self.loose = False
        if self.parked or self.resting:
            self._go_on()
        self.host.committer.add(self)

    def settle(self) -> None:
        """The handler goes on after what it has withdrawn: that is written first."""
        if self.loose and not self.unwinding:
            self.save()

    def _go_on(self) -> None:
        if self.parked:
            self.parked = False
            self.host.revived(self)
        if self.resting:
            self._stay()

    def _stay(self) -> None:
        """The run goes on: a wish to park it that is not sealed yet is withdrawn."""
        self.resting = False
        if self.end is None and isinstance(self.draft.then, Park):
            self.draft.then = STAY

    # ------------------------------------------------------------ waiting, and going on

    def park_if_idle(self) -> None:
        """Park the run when all that it awaits is a matter of time, events or other runs."""
        if self.rounds.quiet.reached and not self.tasks.abandoned:
            self.settle()
        if self.unwinding or self.end is not None or self.active or self.resting:
            return
        if not self.rounds.idle:
            if self.rounds.forlorn:
                results.notice_forlorn(self)
            return
        if self.halted:
            self.let_go()
            return
        self.resting = True
        # What is fired belongs to steps that the code has not met: it is kept for them, and wakes nobody.
        self.draft.then = Park(self.host.engine_id, tuple(self.fired))
        self.host.committer.add(self)

    def may_rest(self, gen: int) -> bool:
        """Whether nothing has happened since the run was parked, in this generation."""
        return gen == self.gen and self.outbox.empty and not self.loose and not self.unwinding

    def resume(self, history: History) -> None:
        """The run, parked warm until now, is ours again."""
        self.gen = history.run.gen
        self.parked = self.free = False
        self._stay()
        self.hear(history.fired)

    def hear(self, fired: tuple[Fired, ...]) -> None:
        """Things that the run waited for are over."""
        if self.unwinding or self.end is not None:
            return  # the store keeps them; a step that is being unwound is not given up
        hearing.hear(self, fired)
        self.park_if_idle()

    # ------------------------------------------------------------ stopping

    def halt(self) -> None:
        """Start nothing more; let go of the run when the callbacks in flight have ended."""
        self.halted = True
        if not self.active:
            self.host.loop.call_soon(self.let_go)

    def cancel(self) -> None:
        """The run was cancelled: callbacks in flight end, or are interrupted, as its function says."""
        if self.cancelled or self.end is not None:
            return
        self.cancelled = True
        self.halt()
        if self.function.config.on_cancel == "interrupt":
            self.let_go()

    def let_go(self) -> None:
        """Unwind the handler, and hand the run back or announce that it was cancelled."""
        if not self.unwinding and self.end is None:
            self.rounds.stopped = True
            ending.let_go(self)

    def crash(self, error: BaseException) -> None:
        """The engine itself has failed on this run: it fails like an attempt of its handler."""
        if self.end is None and not self.unwinding:
            self.rounds.stopped = True
            ending.crash(self, error)
