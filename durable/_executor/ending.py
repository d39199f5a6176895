"""How a session ends: its handler returned or raised, the run was cancelled, or others will go on with it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from durable._core.lifecycle import Retry, after_handler_failure, internal_events
from durable._executor.draft import Draft
from durable._executor.driver import as_raised_here
from durable.codec import PLAIN, decode, encode
from durable.errors import Interrupt, LimitError, NondeterminismError, SerializationError
from durable.failures import error_record
from durable.records import End, Park, RunStatus, Timer, Yield

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durable._executor.draft import Letter
    from durable._executor.session import Session
    from durable.errors import UnstorableError

__all__ = [
    "abort",
    "announce_cancelled",
    "crash",
    "let_go",
    "raised",
    "refused",
    "returned",
    "stopped",
    "unwind",
]

_log = logging.getLogger("durable.session")

GIVEN_UP = Yield()
"""The end of a session whose process dies."""

_ROOT_TURNS = 32
"""Turns that the handler's root frame has to unwind, before its children are cancelled."""

_MOST_REFUSALS = 100
"""Steps that a task may meet while it is unwound, before it is left where it is."""

_UNWIND_SECONDS = 1.0
_REMINDED_SECONDS = 0.05


def returned(session: Session, output: Any) -> None:
    """The handler has returned `output`."""
    _after_children(session, _complete, output)


def raised(session: Session, error: BaseException) -> None:
    """The handler has raised: it is called again later, or the run has failed."""
    _after_children(session, _fail, error)


def _after_children(session: Session, then: Callable[[Session, Any], None], about: Any) -> None:
    children = {one for one in session.tasks.alive if not one.done()}
    if not children:
        return _conclude(session, then, about)
    session.tasks.abandoned = True
    session.outcome = partial(then, session, about)
    for task in children:
        task.cancel()
    # Not in the handler's own task: a cancellation may still be on its way to that.
    return session.host.keep(_end_children(session, children, then, about))


def _conclude(session: Session, then: Callable[[Session, Any], None], about: Any) -> None:
    try:
        then(session, about)
    except Exception as error:
        _log.exception("run %s: the engine failed while it made its end", session.run_id)
        session.crash(error)


def _complete(session: Session, output: Any) -> None:
    if session.failure is not None:
        return _fail(session, session.failure)
    what = f"the result of function {session.function.id!r}"
    try:
        data = b"null" if output is None else encode(output, what=what)
        decoder = session.function.decoder
        if decoder is not PLAIN:  # else it would be `completed`, and nobody could read it
            decode(data, decoder, what=what)
    except SerializationError as error:
        return _end(session, End(RunStatus.FAILED, error=error_record(error).encode()))
    most = session.host.limits.step_bytes
    if len(data) > most:
        large = LimitError(f"{what} has {len(data):,} bytes; Limits.step_bytes allows {most:,}")
        return _end(session, End(RunStatus.FAILED, error=error_record(large).encode()))
    return _end(session, End(RunStatus.COMPLETED, data, unmet=session.journal.unmet()))


def _fail(session: Session, error: BaseException) -> None:
    if session.failure is not None:
        error = session.failure
    config = session.function.config
    verdict = after_handler_failure(
        error,
        attempt=session.attempt,
        retries=config.retries,
        backoff=config.backoff,
        now=session.host.clock.now_ms(),
        draw=session.host.random.random(),
    )
    if not isinstance(verdict, Retry):
        return _end(session, End(RunStatus.FAILED, error=verdict.record.encode()))
    session.host.observers.handler_failed(session.run_id, session.attempt, error)
    draft = session.draft
    draft.forget = True
    draft.attempt = session.attempt + 1
    draft.timers.append(Timer("", verdict.due, attempt=draft.attempt, error=verdict.record.encode()))
    draft.then = session.end = Park(None)
    session.rounds.stopped = True
    session.save()
    return None


def _end(session: Session, end: End) -> None:
    if end.unmet:
        _log.warning(
            "run %s of %r has ended without meeting steps that it remembers: %s",
            session.run_id,
            session.function.id,
            ", ".join(end.unmet),
        )
    _announce(session, end)


def _announce(session: Session, end: End) -> None:
    """Write the end, and the events that tell of it, in one commit."""
    try:
        session.draft.told.extend(_letters(session, end))
    except Exception:
        # Whoever waits for the run waits for its end, and would for ever.
        _log.exception("run %s: its end cannot be told: no event is sent of it", session.run_id)
    session.draft.then = session.end = end
    session.rounds.stopped = session.tasks.abandoned = True
    session.save()


def _letters(session: Session, end: End) -> list[Letter]:
    history, intake, now = session.history, session.host.intake, session.host.clock.now_ms()
    found = internal_events(
        history.run.function, session.run_id, history.events, end.status, end.output, end.error
    )
    return [intake.internal(name, data, now) for name, data in found]


def abort(session: Session, error: BaseException) -> None:
    """The run, or this attempt of its handler, has failed on `error`: the handler is not asked to pass it on."""
    if not session.unwinding and session.end is None:
        session.tasks.unwinding = session.rounds.stopped = True
        session.host.keep(_abort(session, error))


async def _abort(session: Session, error: BaseException) -> None:
    await unwind(session)
    _fail(session, error)


async def stopped(session: Session, error: BaseException) -> None:
    """A step raises `error`. If that fails the run or its attempt, it never returns: the handler is unwound.

    A handler that catches what unwinds it meets steps again and again: the loop goes on beside it.
    """
    if session.unwinding:
        await _slowed(session)
    elif session.end is None and (error is session.failure or isinstance(error, NondeterminismError)):
        abort(session, as_raised_here(error))
        await session.host.loop.create_future()


async def _slowed(session: Session) -> None:
    if session.tasks.stuck:
        await session.host.loop.create_future()
    task = asyncio.current_task()
    refused = session.tasks.refused[task] = session.tasks.refused.get(task, -1) + 1
    session.tasks.stuck = refused > _MOST_REFUSALS
    if refused:
        with suppress(Interrupt, asyncio.CancelledError):
            await asyncio.sleep(0)


def let_go(session: Session) -> None:
    """Unwind the handler; announce a cancelled run, hand any other back."""
    session.tasks.unwinding = True
    session.host.keep(_let_go(session))


async def _let_go(session: Session) -> None:
    await unwind(session)
    if session.cancelled:
        announce_cancelled(session)
        return
    if session.outcome is not None:  # the handler had ended: what it has withdrawn since belongs to that
        session.outcome()
        return
    session.draft.keep_given_up()
    session.draft.then = session.end = Yield()
    session.save()


def announce_cancelled(session: Session) -> None:
    """A cancelled run stores nothing more than its end."""
    session.outbox.draft = Draft()
    _announce(session, End(RunStatus.CANCELLED))


def crash(session: Session, error: BaseException) -> None:
    """The engine has failed on this run: its handler's attempt fails."""
    session.tasks.unwinding = True
    session.host.keep(_crash(session, error))


async def _crash(session: Session, error: BaseException) -> None:
    await unwind(session)
    session.outbox.draft = Draft()
    _fail(session, error)


def refused(session: Session, draft: Draft, error: UnstorableError) -> bool:
    """The store can never hold what the run has to write: it fails, and nothing else of it is written.

    ``False``: the store refuses even its failure, so that the run is left as it stands.
    """
    if not session.outbox.refuse():
        _log.error("run %s: the store cannot hold its end either (%s); it is left", session.run_id, error)
        return False
    armed = [*(timer.ref for timer in draft.timers), *(wait.ref for wait in draft.waits)]
    names = [*(memo.step for memo in draft.memos), *(ref.rpartition("#")[0] for ref in armed)]
    steps = ", ".join(repr(name) for name in dict.fromkeys(names) if name)
    what = f"step {steps}" if steps else f"function {session.function.id!r}"
    failure = SerializationError(f"what {what} has to write cannot be stored: {error}")
    failure.__cause__ = error
    _log.error("run %s of %r fails: %s", session.run_id, session.function.id, failure)
    session.end = None
    session.host.keep(_fail_for_good(session, failure))
    return True


async def _fail_for_good(session: Session, error: Exception) -> None:
    await unwind(session)
    _announce(session, End(RunStatus.FAILED, error=error_record(error).encode()))


# ---------------------------------------------------------------- unwinding


def unwind(session: Session) -> Coroutine[Any, Any, None]:
    """Take the handler apart: its root frame first, then its children, then callbacks.

    Nothing is recorded from the call on. The root has 32 turns, since a handler inside an anyio group waits for
    its own children; all of it has a second. What goes on is reminded, and if that ends it no more than the first
    time, it is left, and named in the log.
    """
    session.tasks.unwinding = session.rounds.stopped = True
    return _unwind(session)


async def _unwind(session: Session) -> None:
    root = session.root
    if root is not None and not root.done():
        root.cancel()
        for _ in range(_ROOT_TURNS):
            if root.done():
                break
            await asyncio.sleep(0)
    left: set[asyncio.Future[Any]] = {one for one in session.tasks.alive if not one.done()}
    left |= session.callbacks
    for task in left:
        task.cancel()
    if root is not None and not root.done():
        left.add(root)
    for task in await _let_end(session, left):
        _log.warning(
            "run %s: %r has not ended though it was unwound and reminded; it is left", session.run_id, task
        )


async def _let_end(session: Session, tasks: set[asyncio.Future[Any]]) -> set[asyncio.Future[Any]]:
    """Wait for cancelled tasks, and for those that they have made and left; what has not ended in time.

    After a second, those that go on (a ``finally`` that waits for something) are cancelled once more.
    """
    until = session.host.loop.time() + _UNWIND_SECONDS
    reminded = False
    while tasks:
        left = until - session.host.loop.time()
        _, late = await asyncio.wait(tasks, timeout=max(0.0, left))
        if late and reminded:
            return late
        if late:
            reminded = True
            until += _REMINDED_SECONDS
        tasks = late or {one for one in session.tasks.alive if not one.done()}
        for task in tasks:
            task.cancel()
    return tasks


async def _end_children(
    session: Session, children: set[asyncio.Future[Any]], then: Callable[[Session, Any], None], about: Any
) -> None:
    """The handler has ended: its remaining tasks are cancelled, and so their steps are withdrawn."""
    for task in await _let_end(session, children):
        _log.warning("run %s: %r goes on after its handler has ended; it is left", session.run_id, task)
    if not session.unwinding:
        _conclude(session, then, about)
