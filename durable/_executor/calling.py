"""Performs the steps that call a function: alone, in the handler's own task, or beside others.

An attempt that failed is recorded for good, or its next one is set as a durable timer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from durable._core.lifecycle import Failure, after_step_failure
from durable._core.operations import Call
from durable._executor import arming, ending
from durable._executor.callbacks import store_form
from durable._executor.draft import Pending, Phase
from durable._executor.driver import owner
from durable.context import Attempt, attempting
from durable.errors import Interrupt, NestedStepError
from durable.records import MemoState

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from durable._core.journal import Key
    from durable._executor.session import Session

__all__ = ["HandlerTask", "alone", "beside"]


class HandlerTask(asyncio.Task[None]):
    """The task of a handler's root frame, in which lone callbacks execute.

    It counts the cancellations that they cause themselves: before Python 3.13 a `TaskGroup` that has failed leaves
    one behind, which is none of the handler.
    """

    __slots__ = ("of_callbacks",)

    def __init__(self, coro: Coroutine[Any, Any, None], **options: Any) -> None:
        self.of_callbacks = 0
        super().__init__(coro, **options)

    def cancel(self, msg: Any = None) -> bool:
        """See `asyncio.Task.cancel`."""
        cancelled = super().cancel(msg)
        if cancelled and attempting.get() is not None:
            self.of_callbacks += 1
        return cancelled

    def uncancel(self) -> int:
        """See `asyncio.Task.uncancel`."""
        if self.of_callbacks and attempting.get() is not None:
            self.of_callbacks -= 1
        return super().uncancel()

    def was_cancelled(self, before: int) -> bool:
        """Whether the handler was cancelled since `before`; what a callback has left behind is cleared away."""
        while self.of_callbacks:
            self.of_callbacks -= 1
            super().uncancel()
        return self.cancelling() > before


async def alone(session: Session, op: Call, key: Key) -> Any:
    """Call the one step that the run awaits in the handler's own task: it needs none of its own.

    Its result is delivered at once, before it is durable; the next callback waits for that.
    """
    pending = Pending(op, key, None, None, lone=True)
    pending.phase = Phase.ACTIVE
    pending.started = session.host.clock.now_ms()
    task = session.root
    assert task is not None
    cancelling = task.cancelling()
    try:
        if not session.outbox.empty:
            await session.outbox.barrier()
        data, value = await _attempt(session, pending)
    except (Interrupt, KeyboardInterrupt):
        raise
    except asyncio.CancelledError as error:
        if session.unwinding:
            raise
        if task.was_cancelled(cancelling):
            session.withdraw(pending)
            raise
        failed_for_good = _failed(session, pending, error)
    except BaseException as error:  # SystemExit in a callback is an error of the step, too
        task.was_cancelled(cancelling)
        failed_for_good = _failed(session, pending, error)
    else:
        # The callback may have swallowed a cancellation of the handler's.
        if task.cancelling() > cancelling and task.was_cancelled(cancelling):
            session.withdraw(pending)
            raise asyncio.CancelledError
        session.record(pending, MemoState.VALUE, data)
        session.delivered_alone(pending)
        return value
    if failed_for_good:
        session.delivered_alone(pending)
        return session.read(pending)
    pending.future = session.host.loop.create_future()
    return await session.wait_for(pending)


def beside(session: Session, pending: Pending) -> None:
    """Call a step's function in a task of its own, beside the handler, with the handler's variables."""
    pending.phase = Phase.ACTIVE
    session.settle()
    task = asyncio.Task(_beside(session, pending), loop=session.host.loop, context=pending.variables)
    pending.task = task
    session.callbacks.add(task)
    task.add_done_callback(session.callbacks.discard)


async def _beside(session: Session, pending: Pending) -> None:
    owner.set(None)
    try:
        await session.outbox.barrier()
        data, _ = await _attempt(session, pending)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if session.unwinding or pending.phase is not Phase.ACTIVE:
            return
        if _failed(session, pending, error):
            if session.failure is not None:
                ending.abort(session, session.failure)
            session.rounds.finished(pending)
        else:
            session.park_if_idle()
    else:
        if not session.unwinding and pending.phase is Phase.ACTIVE:
            session.record(pending, MemoState.VALUE, data)
            session.rounds.finished(pending)


async def _attempt(session: Session, pending: Pending) -> tuple[bytes, Any]:
    """Call the function once: the bytes to store, and the value that the handler receives."""
    op = pending.op
    assert isinstance(op, Call)
    if session.halted:
        await session.host.loop.create_future()  # until it is let go of
    if pending.digest is None:  # before the function can change its arguments
        pending.digest = op.digest()
    retries = session.function.config.retries if op.retries is None else op.retries
    attempt = Attempt(op.step, pending.attempt, retries + 1)
    session.active += 1
    session.host.observers.step_started(session.run_id, op.step, pending.key[1], pending.attempt)
    try:
        value = await session.host.call(op, attempt)
    except BaseException as error:
        if attempt.nested is not None and not session.unwinding:
            raise _nested(session, attempt) from error
        raise
    finally:
        session.active -= 1
        if session.halted and not session.active:
            session.host.loop.call_soon(session.let_go)
        if session.cancelled and not session.unwinding:
            await session.host.loop.create_future()  # what came out is dropped: until it is let go of
    if attempt.nested is not None:
        raise _nested(session, attempt)
    return store_form(op, value, session.host.limits)


def _nested(session: Session, attempt: Attempt) -> NestedStepError:
    """The callback has called a step: whatever it made of that, its step fails, and the run with it."""
    session.failure = error = NestedStepError(
        f"step {attempt.nested!r} was called inside the callback of step {attempt.step!r}: "
        "steps cannot be nested; call it from the handler"
    )
    return error


def _failed(session: Session, pending: Pending, error: BaseException) -> bool:
    """Record a failure for good (True), or set the timer of the next attempt (False)."""
    op = pending.op
    assert isinstance(op, Call)
    config = session.function.config
    verdict = after_step_failure(
        error,
        step=op.step,
        attempt=pending.attempt,
        retries=config.retries if op.retries is None else op.retries,
        backoff=config.backoff if op.backoff is None else op.backoff,
        now=session.host.clock.now_ms(),
        draw=session.host.random.random(),
    )
    session.host.observers.step_failed(session.run_id, op.step, pending.key[1], pending.attempt, error)
    if isinstance(verdict, Failure):
        pending.cause = error
        session.record(pending, MemoState.ERROR, verdict.record.encode())
        return True
    pending.attempt += 1
    arming.retry(session, pending, verdict)
    return False
