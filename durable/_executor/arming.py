"""Begins the steps that call nothing: timers, waits, events, signals, invocations; and retries.

What they need goes into the session's draft, so that a step and what it causes are written as one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from durable._core import operations as ops
from durable._core.admission import event_wait
from durable._core.settling import document_of
from durable._executor.draft import Phase
from durable._executor.driver import owner
from durable._executor.patience import patiently
from durable.errors import EventRejected, LimitError, SerializationError, StepError
from durable.events import check_signal
from durable.failures import ErrorRecord, error_record
from durable.records import Admission, Effect, MemoState, Signal, Timer, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from durable._core.catalog import Blueprint, Catalog
    from durable._core.lifecycle import Retry
    from durable._executor.draft import Pending
    from durable._executor.session import Session

__all__ = ["arm", "check_deadline", "retry"]

_log = logging.getLogger("durable.session")


def arm(session: Session, pending: Pending) -> None:
    """Begin a fresh step."""
    op = pending.op
    with _refusing(session, pending):
        if isinstance(op, ops.Sleep):
            _sleep(session, pending, op)
        elif isinstance(op, ops.Deadline):
            due = session.host.clock.now_ms() + op.duration
            _timer(session, pending, Timer(pending.ref, due, kind=op.kind, started=pending.started))
        elif isinstance(op, ops.WaitForEvent):
            _wait_for_event(session, pending, op)
        elif isinstance(op, ops.WaitForSignal):
            until = _until(session, op.timeout)
            wait = Wait(
                pending.ref,
                signal=op.signal,
                replace=op.replace,
                until=until,
                kind=op.kind,
                started=pending.started,
            )
            _register(session, pending, wait)
        elif isinstance(op, ops.Invoke):
            _invoke(session, pending, op)
        elif isinstance(op, ops.Send):
            _send(session, pending, op)
        else:
            assert isinstance(op, ops.SendSignal)
            _send_signal(session, pending, op)


@contextmanager
def _refusing(session: Session, pending: Pending) -> Generator[None, None, None]:
    """A step that asks for what cannot be fails at once."""
    try:
        yield
    except (LimitError, EventRejected, SerializationError) as error:
        _fail(session, pending, error_record(error, step_id=pending.op.step))


def _arm_after(
    session: Session,
    pending: Pending,
    ready: Callable[[], Awaitable[object]],
    begin: Callable[[], None],
) -> None:
    """Begin a step later: meanwhile it counts as one that executes."""
    pending.phase = Phase.ACTIVE
    task = asyncio.Task(_later(session, pending, ready, begin), loop=session.host.loop)
    pending.task = task
    session.callbacks.add(task)
    task.add_done_callback(session.callbacks.discard)


async def _later(
    session: Session,
    pending: Pending,
    ready: Callable[[], Awaitable[object]],
    begin: Callable[[], None],
) -> None:
    owner.set(None)
    try:
        what = f"run {session.run_id}: step {pending.op.step!r} cannot begin yet"
        await patiently(ready, _log.error, what)
        if session.unwinding or session.halted or pending.phase is not Phase.ACTIVE:
            return
        with _refusing(session, pending):
            begin()
        session.park_if_idle()
    except Exception as error:
        _log.exception("run %s: the engine failed while it began a step", session.run_id)
        session.crash(error)


def check_deadline(session: Session, op: ops.Deadline) -> None:
    """A deadline is no step that fails: the block that it limits must not begin.

    Raises:
        StepError: It is farther away than `Limits.sleep`.
    """
    if op.duration > session.host.limits.sleep_ms:
        text = f"a limit of {op.duration} ms is longer than Limits.sleep"
        raise StepError(text, step_id=op.step, name=LimitError.__name__)


def retry(session: Session, pending: Pending, verdict: Retry) -> None:
    """Set the durable timer of a callback's next attempt."""
    timer = Timer(
        pending.ref,
        verdict.due,
        Effect.RESUME,
        pending.attempt,
        verdict.record.encode(),
        pending.op.kind,
        pending.started,
    )
    if pending.attempt > 1:
        session.draft.drop.append(pending.ref)
    _timer(session, pending, timer)


def _fail(session: Session, pending: Pending, record: ErrorRecord) -> None:
    session.remember_now(pending, MemoState.ERROR, record.encode())


def _timer(session: Session, pending: Pending, timer: Timer) -> None:
    session.draft.timers.append(timer)
    session.armed.add(pending.ref)
    session.wait(pending)
    session.save()


def _register(session: Session, pending: Pending, wait: Wait) -> None:
    session.draft.waits.append(wait)
    session.armed.add(pending.ref)
    session.wait(pending)
    session.save()


def _until(session: Session, timeout: int) -> int:
    if timeout > session.host.limits.sleep_ms:
        raise LimitError(
            f"a time-out of {timeout:,} ms is longer than Limits.sleep ({session.host.limits.sleep})"
        )
    return session.host.clock.now_ms() + timeout


def _sleep(session: Session, pending: Pending, op: ops.Sleep) -> None:
    now = session.host.clock.now_ms()
    due = now + op.duration if op.duration is not None else (op.until or 0)
    if due - now > session.host.limits.sleep_ms:
        raise LimitError(
            f"a sleep of {due - now:,} ms is longer than Limits.sleep ({session.host.limits.sleep})"
        )
    if due <= now:
        session.remember_now(pending, MemoState.VALUE, b"null")
        return
    _timer(session, pending, Timer(pending.ref, due, kind=op.kind, started=pending.started))


def _wait_for_event(session: Session, pending: Pending, op: ops.WaitForEvent) -> None:
    if op.since is None and session.outbox.has_sent(op.event):
        # In one commit with it, an event is for the wait: the one begins when the other is durable.
        _arm_after(session, pending, session.outbox.barrier, lambda: _wait_for_event(session, pending, op))
        return
    history, longest = session.history, session.host.limits.event_name
    if len(op.event) > longest:
        raise LimitError(
            f"no event has a name of {len(op.event):,} characters: Limits.event_name allows {longest:,}"
        )
    since_seq = since_ms = None
    if isinstance(op.since, int):
        since_ms = session.host.clock.now_ms() - op.since
    elif op.since is not None and history.run.origin is not None:
        since_ms = history.run.created  # a rerun is younger than its event
    elif op.since is not None:
        since_seq = history.events[0].seq
    wait = event_wait(
        pending.ref,
        op.event,
        op.condition,
        {} if op.condition is None else document_of(history.events[0]),  # handlers may change their copy
        until=_until(session, op.timeout),
        since_seq=since_seq,
        since_ms=since_ms,
        kind=op.kind,
        started=pending.started,
    )
    _register(session, pending, wait)


def _invoke(session: Session, pending: Pending, op: ops.Invoke) -> None:
    intake = session.host.intake
    app = session.history.run.function.partition("/")[0]
    blueprint = intake.catalog.find(app, op.function)
    if blueprint is not None:
        _call(session, pending, op, blueprint)
        return

    def begin() -> None:
        found = intake.catalog.find(app, op.function)
        if found is not None:
            _call(session, pending, op, found)
            return
        message = intake.catalog.unknown(app, op.function)
        _fail(session, pending, ErrorRecord("LookupError", message, None, op.step))

    _arm_after(session, pending, intake.refresh, begin)  # it may have been registered meanwhile


def _call(session: Session, pending: Pending, op: ops.Invoke, blueprint: Blueprint) -> None:
    intake = session.host.intake
    data: Any = {} if op.data is None else op.data
    letter, child, _ = intake.invocation(blueprint.key, data, parent=(session.run_id, pending.ref))
    until = None if op.timeout is None else session.host.clock.now_ms() + op.timeout
    session.draft.letters.append(letter)
    _register(
        session,
        pending,
        Wait(pending.ref, child=child, until=until, kind=op.kind, started=pending.started),
    )


def _send(session: Session, pending: Pending, op: ops.Send) -> None:
    letters, ids = session.host.intake.letters(op.events)
    session.draft.letters.extend(letters)
    session.outbox.sends(pending, frozenset(one.name for one in op.events))
    session.remember_now(pending, MemoState.VALUE, orjson.dumps(ids))


def _send_signal(session: Session, pending: Pending, op: ops.SendSignal) -> None:
    data = check_signal(op.signal, op.data, session.host.limits)
    position = session.journal.position

    def letter(catalog: Catalog) -> Admission:
        return Admission(signal=Signal(op.signal, data), registry=catalog.version, memo=position)

    made: Callable[[Catalog], Admission] = letter
    session.draft.signals.append((len(session.draft.letters), pending))
    session.draft.letters.append(made)
    session.rounds.unanswered += 1
    session.remember_now(pending, MemoState.VALUE, b"false")
