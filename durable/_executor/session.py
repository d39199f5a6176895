"""One claimed run, alive: drives its handler and performs its steps.

The session decides *when*: what is delivered in which round, what may start, when the run waits. What a step
is, the journal knows; what is stored, the draft; how it is written, the committer. Everything here happens in
one event loop, between two awaits, so that no lock is needed.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any

from attrs import evolve

from durable._core import operations as ops
from durable._core.journal import Journal, Key
from durable._core.lifecycle import Failure, after_step_failure
from durable._core.settling import raised
from durable._executor import arming, ending
from durable._executor.callbacks import store_form
from durable._executor.draft import Draft, Pending, Phase
from durable._executor.driver import owner, rooted
from durable._executor.quiet import Quiet
from durable.context import Attempt, Context, attempting, enter
from durable.errors import (
    DurableWarning,
    Interrupt,
    LimitError,
    NestedStepError,
    NondeterminismError,
    SerializationError,
)
from durable.events import Event
from durable.records import STAY, Effect, MemoState, New, Park, RunStatus, StepKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable._executor.host import Host
    from durable.functions import Function
    from durable.records import AdmissionAnswer, Commit, CommitAnswer, Fired, History, Memo, Then

__all__ = ["Session"]

_log = logging.getLogger("durable.session")

_ARMED_KINDS = frozenset({StepKind.SLEEP, StepKind.WAIT, StepKind.SIGNAL, StepKind.INVOKE, StepKind.TIMEOUT})
"""Steps that have a timer or a wait, which goes when the step is remembered."""

_STEPS_PER_TURN = 50
_SECONDS_PER_TURN = 0.001


class Session:
    """A run that is ours, from claim to park, end or loss."""

    def __init__(self, host: Host, function: Function[Any], history: History) -> None:
        self.host = host
        self.function = function
        self.history = history
        self.run_id = history.run.id
        self.gen = history.run.gen
        self.limits = host.limits
        self.attempt = history.run.attempt
        self.journal = Journal(history.memos)
        self.draft = Draft()
        self.dirty = False
        self.in_flight = 0
        self.children: set[asyncio.Future[Any]] = set()
        self.awaiting: dict[Key, Pending] = {}
        self.held: list[Pending] = []
        self.done: list[Pending] = []
        self.active = 0
        self.fired: dict[str, Fired] = {one.ref: one for one in history.fired}
        self.armed = {one.ref for one in history.timers if one.effect is Effect.RESUME}
        self.armed |= {one.ref for one in history.waits if one.effect is Effect.RESUME}
        self.waiting: dict[str, Pending] = {}
        self.live = not history.memos and not self.fired and not self.armed
        self.unwinding = False
        self.halted = False
        self.cancelled = history.run.status is RunStatus.CANCELLED
        self.parked = False
        self.end: Then | None = None
        self.keeper: asyncio.Task[None] | None = None
        self.unanswered = 0
        self.owed = 0
        self.failure: BaseException | None = None
        self.size = sum(len(memo.value or b"") for memo in history.memos)
        self._births = 0
        self._saved: list[asyncio.Future[None]] = []
        self._quiet = Quiet(host.loop, self._on_quiet)
        self._spent = 0
        self._turn_began = 0.0
        self.root: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Session {self.run_id} of {self.function.id!r}>"

    # ------------------------------------------------------------ the handler

    def start(self) -> None:
        """Call the handler from the top."""
        self._turn_began = perf_counter()
        self.root = asyncio.Task(self._main(), loop=self.host.loop, name=f"durable {self.run_id}")

    async def _main(self) -> None:
        owner.set(self)
        events = [
            Event.received(one.name, one.data, id=one.id, ts=one.ts, user=one.user, v=one.v)
            for one in self.history.events
        ]
        context = Context(
            self, run_id=self.run_id, events=events, function=self.function, engine=self.host.engine
        )
        enter(context)
        self.context = context
        if "" in self.fired:
            del self.fired[""]
            self.draft.drop.append("")
        try:
            output = await rooted(self, self.function(context))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            if not self.unwinding:
                await ending.fail(self, error)
        else:
            if not self.unwinding:
                await ending.complete(self, output)

    def number(self) -> int:
        """A task of this run is about to be made (see `driver.Owner`)."""
        self._births += 1
        self._quiet.touch()
        return self._births

    def born(self, task: asyncio.Future[Any]) -> None:
        """A task of this run was made, and lives."""
        self.children.add(task)
        task.add_done_callback(self._died)
        self._quiet.touch()

    def _died(self, task: asyncio.Future[Any]) -> None:
        self.children.discard(task)
        if not task.cancelled() and (self.unwinding or self.end is not None):
            task.exception()  # nobody is left to retrieve it
        self._quiet.touch()

    # ------------------------------------------------------------ meeting a step

    async def perform(self, op: ops.Operation) -> Any:
        """Do what `op` says, once; or return what it returned when it was done before."""
        key, entry, lone = self._meet(op)
        if lone and (self._spent >= _STEPS_PER_TURN or perf_counter() - self._turn_began > _SECONDS_PER_TURN):
            self._spent = 0
            await asyncio.sleep(0)
            self._turn_began = perf_counter()
        if lone and not self.halted:
            if entry is None:
                if isinstance(op, ops.Call) and op.timeout is None:
                    self.live = True
                    return await self._call_alone(op, key)
            elif entry.memo is not None and not entry.withdrawn and not entry.late:
                entry.delivered = True
                return self._read(op, entry.memo)
        pending = Pending(op, key, entry, self.host.loop.create_future(), lone=lone)
        return await self._await(pending)

    def _meet(self, op: ops.Operation) -> tuple[Key, Any, bool]:
        attempt = attempting.get()
        if attempt is not None:
            attempt.nested = op.step
            raise NestedStepError(
                f"step {op.step!r} was called inside the callback of step {attempt.step!r}: "
                "steps cannot be nested; call it from the handler"
            )
        task = asyncio.current_task()
        if self.unwinding:
            raise Interrupt if task is self.root else asyncio.CancelledError
        key = self.journal.identify(op.step)
        entry = self.journal.meet(key, op.kind)
        if key[1]:
            self._notice_repetition(key)
        lone = task is self.root and not self.children and not self.awaiting
        if entry is None and self.journal.steps >= self.limits.steps:
            raise LimitError(
                f"the run has {self.journal.steps:,} steps; Limits.steps allows {self.limits.steps:,}"
            )
        self._spent += 1
        return key, entry, lone

    def _notice_repetition(self, key: Key) -> None:
        """Warn of ids that parallel branches share: they are told apart by call order only (SEMANTICS 7)."""
        if any(other[0] == key[0] for other in self.awaiting) and asyncio.current_task() is not self.root:
            warnings.warn(
                f"function {self.function.id!r}: step id {key[0]!r} is used by parallel branches at once; its "
                "repetitions are counted in call order: give each branch an id of its own",
                DurableWarning,
                stacklevel=5,
            )

    def _read(self, op: ops.Operation, memo: Memo, cause: BaseException | None = None) -> Any:
        """What the handler receives for a memo."""
        self._check_digest(op, memo)
        if memo.state is MemoState.ERROR:
            raise raised(memo.value, memo.attempts, cause)
        try:
            return op.read(memo.value or b"null")
        except SerializationError as error:
            raise NondeterminismError(
                f"what is remembered of step {op.step!r} does not fit its type any more: {error}"
            ) from error

    def _check_digest(self, op: ops.Operation, memo: Memo) -> None:
        if memo.digest is None or op.digest() in (None, memo.digest):
            return
        text = (
            f"step {op.step!r} of function {self.function.id!r} was recorded with other arguments than it is "
            "called with now; its remembered result stands"
        )
        if self.host.strict:
            raise NondeterminismError(text)
        warnings.warn(text, DurableWarning, stacklevel=6)

    @property
    def replaying(self) -> bool:
        """Whether the handler repeats what an earlier pass has done (the logger is silent then)."""
        return not self.live and not (self.journal.exhausted and not self.armed and not self.fired)

    # ------------------------------------------------------------ one step alone

    async def _call_alone(self, op: ops.Call, key: Key) -> Any:
        """Call the one step that the run awaits in the handler's own task: it needs none of its own.

        Its result is delivered at once, before it is durable; the next callback waits for that.
        """
        pending = Pending(op, key, None, None, lone=True)
        pending.phase = Phase.ACTIVE
        pending.started = self.host.clock.now_ms()
        task = self.root
        assert task is not None
        cancelling = task.cancelling()
        try:
            await self.barrier()
            value = await self._attempt(pending)
        except asyncio.CancelledError as error:
            if self.unwinding:
                raise
            if task.cancelling() > cancelling:
                self._withdraw(pending)
                raise
            outcome = self._failed(pending, error)
        except Interrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit in a callback is an error of the step
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome = self._failed(pending, error)
        else:
            if task.cancelling() > cancelling:  # the callback swallowed a cancellation of the handler's
                self._withdraw(pending)
                raise asyncio.CancelledError
            return self._succeeded(pending, value)
        if outcome:
            self._remember(pending)
            return self._read(op, self._result(pending), pending.cause)
        pending.future = self.host.loop.create_future()
        return await self._await(pending)

    async def _attempt(self, pending: Pending) -> tuple[bytes, Any]:
        """Call the callback once, and make its result ready to store."""
        op = pending.op
        assert isinstance(op, ops.Call)
        if self.halted:
            await self._for_ever()
        config = self.function.config
        retries = config.retries if op.retries is None else op.retries
        attempt = Attempt(op.step, pending.attempt, retries + 1)
        self.active += 1
        self.host.observers.step_started(self.run_id, op.step, pending.key[1], pending.attempt)
        try:
            value = await self.host.call(op, attempt)
        finally:
            self.active -= 1
            if attempt.nested is not None and not self.unwinding:
                self.failure = NestedStepError(
                    f"step {attempt.nested!r} was called inside the callback of step {op.step!r}: "
                    "steps cannot be nested; call it from the handler"
                )
            if self.halted and not self.active:
                self.host.loop.call_soon(self._let_go)
        if self.failure is not None:
            raise self.failure
        return store_form(op, value, self.limits)

    def _succeeded(self, pending: Pending, outcome: tuple[bytes, Any]) -> Any:
        """A lone step's first-hand result: it is remembered, and read only once."""
        self._record(pending, MemoState.VALUE, outcome[0])
        self._remember(pending)
        return outcome[1]

    def _failed(self, pending: Pending, error: BaseException) -> bool:
        """Record a failure for good (True), or set the timer of the next attempt (False)."""
        op = pending.op
        assert isinstance(op, ops.Call)
        config = self.function.config
        now = self.host.clock.now_ms()
        verdict = after_step_failure(
            error,
            step=op.step,
            attempt=pending.attempt,
            retries=config.retries if op.retries is None else op.retries,
            backoff=config.backoff if op.backoff is None else op.backoff,
            now=now,
            draw=self.host.random.random(),
        )
        self.host.observers.step_failed(self.run_id, op.step, pending.key[1], pending.attempt, error)
        if isinstance(verdict, Failure) or self.failure is not None:
            pending.cause = error
            self._record(pending, MemoState.ERROR, verdict.record.encode())
            return True
        pending.attempt += 1
        arming.retry(self, pending, verdict)
        return False

    # ------------------------------------------------------------ many steps at once

    async def _await(self, pending: Pending) -> Any:
        """Wait for the round in which the step's result is delivered."""
        future = pending.future
        assert future is not None
        self._take_up(pending)
        try:
            await future
            self._quiet.touch()
            entry = pending.entry
            if entry is not None and entry.late:
                # Recorded: it was cancelled between delivery and pick-up. So it must be again.
                pending.phase = Phase.GONE
                await self._for_ever()
        except asyncio.CancelledError:
            if not self.unwinding:
                self._withdraw(pending)
            raise
        finally:
            self.awaiting.pop(pending.key, None)
            self.waiting.pop(pending.ref, None)
        return self._read(pending.op, self._result(pending), pending.cause)

    def watch(self, op: ops.Deadline, expired: Callable[[], None]) -> Callable[[], None]:
        """A deadline: awaited beside the steps inside its block, delivered by a call of `expired`."""
        key, entry, _ = self._meet(op)
        pending = Pending(op, key, entry, None, lone=False)
        pending.expired = expired
        self._take_up(pending)

        def end() -> None:
            self.awaiting.pop(pending.key, None)
            self.waiting.pop(pending.ref, None)
            if pending.phase is not Phase.DELIVERED and not self.unwinding:
                self._withdraw(pending)
            self._quiet.touch()

        return end

    def _take_up(self, pending: Pending) -> None:
        self.awaiting[pending.key] = pending
        entry = pending.entry
        if pending.phase is Phase.WAITING:  # a retry was armed before it came here
            self.waiting[pending.ref] = pending
        elif entry is None:
            pending.started = pending.started or self.host.clock.now_ms()
            if (self.live or pending.lone) and not self.owed:
                self.live = True
                self._begin(pending)
            else:
                self.held.append(pending)
        elif entry.withdrawn or entry.memo is None:
            pending.phase = Phase.GONE
        else:
            pending.phase = Phase.RECORDED
            self.owed += 1
            self.live = False
        if pending.lone and pending.phase is not Phase.RECORDED:
            self._park_if_idle()
        else:
            self._quiet.touch()

    def _begin(self, pending: Pending) -> None:
        """Start a fresh step: its callback, or its timer or wait."""
        if isinstance(pending.op, ops.Call):
            fired = self.fired.pop(pending.ref, None)
            if fired is not None and fired.timer is not None:
                pending.attempt = fired.timer.attempt
                pending.started = fired.timer.started or pending.started
            elif pending.ref in self.armed:
                self.wait(pending)
                return
            self._execute(pending)
            return
        fired = self.fired.pop(pending.ref, None)
        if fired is not None:
            self._settle(pending, fired)
        elif pending.ref in self.armed:
            self.wait(pending)
        else:
            arming.arm(self, pending)

    def wait(self, pending: Pending) -> None:
        """The step has its timer or its wait, and waits."""
        pending.phase = Phase.WAITING
        self.waiting[pending.ref] = pending

    def _execute(self, pending: Pending) -> None:
        pending.phase = Phase.ACTIVE
        pending.task = asyncio.Task(self._call_beside(pending), loop=self.host.loop)

    async def _call_beside(self, pending: Pending) -> None:
        """Call a step's callback in a task of its own, beside the handler."""
        owner.set(None)
        try:
            await self.barrier()
            outcome = await self._attempt(pending)
        except BaseException as error:  # noqa: BLE001 - as in `_call_alone`
            if self.unwinding or pending.phase is not Phase.ACTIVE or isinstance(error, KeyboardInterrupt):
                if isinstance(error, KeyboardInterrupt):
                    raise
                return
            if self._failed(pending, error):
                self._finish(pending)
            else:
                self.wait(pending)
                self._park_if_idle()
        else:
            if not self.unwinding and pending.phase is Phase.ACTIVE:
                self._record(pending, MemoState.VALUE, outcome[0])
                self._finish(pending)

    # ------------------------------------------------------------ results and their rounds

    def _record(self, pending: Pending, state: MemoState, value: bytes | None) -> None:
        op = pending.op
        self.size += len(value or b"")
        memo = self.journal.record(
            pending.key,
            op.kind,
            state,
            value=value,
            digest=op.digest(),
            attempts=pending.attempt + 1,
            started=pending.started,
            ended=self.host.clock.now_ms(),
        )
        pending.result = memo
        draft = self.draft
        draft.memos.append(memo)
        if pending.attempt or op.kind in _ARMED_KINDS:
            draft.drop.append(pending.ref)
            self.armed.discard(pending.ref)
        if self.attempt:
            self.attempt = draft.attempt = 0
        self.host.observers.step_ended(self.run_id, memo)
        self.save()

    def _remember(self, pending: Pending) -> None:
        """A lone step's result is delivered at once: its round is over."""
        pending.phase = Phase.DELIVERED
        self.journal.delivered()
        if self.failure is not None:
            raise self.failure
        if self.size > self.limits.run_bytes:
            self.failure = LimitError(
                f"the run has {self.size:,} bytes; Limits.run_bytes allows {self.limits.run_bytes:,}"
            )
            raise self.failure

    def _finish(self, pending: Pending) -> None:
        """A step's result is recorded: it is delivered with its round, at once if the run is quiet."""
        pending.phase = Phase.DONE
        self.done.append(pending)
        if pending.lone:
            self._deliver_done()
        elif self._quiet.reached and not self.owed:
            self._deliver_done()

    def remember_now(self, pending: Pending, state: MemoState, value: bytes) -> None:
        """A step is done with what was put into the draft."""
        self._record(pending, state, value)
        self._finish(pending)

    def _settle(self, pending: Pending, fired: Fired) -> None:
        """What a step waited for is over."""
        if isinstance(pending.op, ops.Call):
            if fired.timer is not None:
                pending.attempt = fired.timer.attempt
            self.armed.discard(pending.ref)
            self._execute(pending)
            return
        state, value = arming.outcome(pending.op, fired)
        self._record(pending, state, value)
        self._finish(pending)

    def _result(self, pending: Pending) -> Memo:
        memo = pending.result if pending.entry is None else pending.entry.memo
        assert memo is not None
        return memo

    def _deliver_done(self) -> None:
        if self.unanswered:
            return
        done, self.done = self.done, []
        self.journal.delivered()
        if self.failure is None and self.size > self.limits.run_bytes:
            self.failure = LimitError(
                f"the run has {self.size:,} bytes; Limits.run_bytes allows {self.limits.run_bytes:,}"
            )
        if self.failure is not None:
            ending.abort(self, self.failure)
            return
        self._deliver(done)

    def _deliver(self, round_: list[Pending]) -> None:
        for pending in round_:
            if pending.entry is not None:
                pending.entry.delivered = True
            if pending.phase is Phase.RECORDED:
                self.owed -= 1
                pending.phase = Phase.DONE
            if pending.expired is not None:
                pending.phase = Phase.DELIVERED
                pending.expired()
            elif pending.future is not None and not pending.future.done():
                pending.phase = Phase.DELIVERED
                pending.future.set_result(None)
        self._turn_began = perf_counter()
        self._quiet.touch()

    def _on_quiet(self) -> None:
        if self.unwinding or self.end is not None:
            return
        awaiting = self.awaiting
        recorded = self.journal.next_round(
            lambda key: key in awaiting and awaiting[key].phase is Phase.RECORDED
        )
        if recorded:
            self._deliver([awaiting[key] for key, _ in recorded])
            return
        if self.done:
            self._deliver_done()
            return
        self.live = True
        held, self.held = self.held, []
        for pending in held:
            if pending.phase is Phase.HELD:
                self._begin(pending)
        if self.done:
            self._deliver_done()
        else:
            self._park_if_idle()

    # ------------------------------------------------------------ withdrawal

    def _withdraw(self, pending: Pending) -> None:
        """The await of a step was cancelled: a hand-over without any await (SEMANTICS 8)."""
        self._quiet.touch()
        state = MemoState.LATE if pending.phase is Phase.DELIVERED else MemoState.WITHDRAWN
        known = pending.entry
        before, pending.phase = pending.phase, Phase.GONE
        if before is Phase.RECORDED:
            self.owed -= 1
        if pending.task is not None and not pending.task.done():
            pending.task.cancel()
        if known is not None and (known.withdrawn or known.late):
            return
        if before is Phase.GONE:
            return
        if pending in self.done:
            self.done.remove(pending)
        self.draft.memos.append(self.journal.record(pending.key, pending.op.kind, state))
        if before in (Phase.WAITING, Phase.HELD, Phase.ACTIVE):
            self.draft.drop.append(pending.ref)
            self.armed.discard(pending.ref)
            self.fired.pop(pending.ref, None)
        self.save()

    # ------------------------------------------------------------ writing

    def save(self) -> None:
        """Have the draft written: it is sealed within a turn, and joined by whatever is added before."""
        if self.parked:
            self.parked = False
            self.host.revived(self)
        if isinstance(self.draft.then, Park) and self.end is None and not self.halted:
            self.draft.then = STAY
        self.host.committer.add(self)

    def seal(self, catalog: Any) -> tuple[Draft, Commit]:
        """The committer takes the draft."""
        draft, self.draft = self.draft, Draft()
        self.dirty = False
        self.in_flight += 1
        return draft, draft.commit(self.run_id, self.gen, catalog)

    async def barrier(self) -> None:
        """Return when everything that was handed over is durable."""
        while self.dirty or self.in_flight:
            future: asyncio.Future[None] = self.host.loop.create_future()
            self._saved.append(future)
            await future

    def restore(self, draft: Draft) -> None:
        """A commit was refused for no fault of the run: it is written again, with what has come since."""
        self.in_flight -= 1
        draft.extend(self.draft)
        self.draft = draft
        self.host.committer.add(self)

    def may_rest(self, gen: int) -> bool:
        """Whether nothing has happened since the run was parked, in this generation."""
        return gen == self.gen and not self.dirty and not self.in_flight and not self.unwinding

    @property
    def stuck(self) -> bool:
        """Whether the handler awaits only what it has withdrawn before: it waits for itself (SEMANTICS 8)."""
        return (
            self._quiet.reached
            and not self.active
            and bool(self.awaiting)
            and all(one.phase is Phase.GONE for one in self.awaiting.values())
        )

    def landed(self, draft: Draft, answer: CommitAnswer) -> None:
        """A commit of this session is durable."""
        self.in_flight -= 1
        for number, pending in draft.signals:
            self._answered(pending, answer.admitted[number])
        if not self.dirty and not self.in_flight:
            waiting, self._saved = self._saved, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def _answered(self, pending: Pending, answer: AdmissionAnswer) -> None:
        """A signal was sent: whether somebody took it is known only now. No round is delivered before."""
        self.unanswered -= 1
        assert pending.result is not None
        if isinstance(answer, New) and answer.taken:
            pending.result = evolve(pending.result, value=b"true")
        if self.done and (pending.lone or self._quiet.reached):
            self._deliver_done()

    # ------------------------------------------------------------ waiting, and going on

    def _park_if_idle(self) -> None:
        """Park the run when all that it awaits is a matter of time, events or other runs."""
        if self.unwinding or self.end is not None or self.active or self.done or self.held:
            return
        waits = False
        for pending in self.awaiting.values():
            if pending.phase is Phase.WAITING:
                waits = True
            elif pending.phase is not Phase.GONE:
                return
        if not waits:
            return
        if not (self._quiet.reached or all(one.lone for one in self.awaiting.values())):
            return
        if self.halted:
            self._let_go()
            return
        self.draft.drop.extend(
            self.fired
        )  # of steps that the code did not meet: or it would be woken for ever
        self.fired.clear()
        self.draft.then = Park(self.host.engine_id)
        self.host.committer.add(self)

    def resume(self, history: History) -> None:
        """The run, parked warm until now, is ours again."""
        self.gen = history.run.gen
        self.parked = False
        self._turn_began = perf_counter()
        self.hear(history.fired)

    def hear(self, fired: tuple[Fired, ...]) -> None:
        """Things that the run waited for are over."""
        for one in fired:
            pending = self.waiting.pop(one.ref, None)
            if pending is not None and pending.phase is Phase.WAITING:
                self._settle(pending, one)
            elif one.ref not in self.fired and self._expects(one.ref):
                self.fired[one.ref] = one
        if not self.awaiting or self._quiet.reached:
            self._park_if_idle()

    def _expects(self, ref: str) -> bool:
        """Whether something that fired has not been dealt with: its answer may be repeated."""
        return ref in self.armed and ref not in self.draft.drop

    # ------------------------------------------------------------ stopping

    def halt(self) -> None:
        """Start nothing more; let go of the run when the callbacks in flight have ended."""
        self.halted = True
        if not self.active:
            self.host.loop.call_soon(self._let_go)

    def cancel(self) -> None:
        """The run was cancelled."""
        if self.cancelled or self.end is not None:
            return
        self.cancelled = True
        if self.function.config.on_cancel == "interrupt":
            self.halted = True
            self._let_go()
        else:
            self.halt()

    def _let_go(self) -> None:
        if not self.unwinding and self.end is None:
            ending.let_go(self)

    def crash(self, error: BaseException) -> None:
        """The engine itself has failed on this run: it fails like an attempt of its handler."""
        if self.end is None and not self.unwinding:
            ending.crash(self, error)

    async def _for_ever(self) -> None:
        await self.host.loop.create_future()
