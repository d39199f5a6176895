"""Drivers: small awaitables between asyncio and a user's coroutine, and the factory of the run's tasks.

They carry exceptions and contexts across that border and decide nothing: they may not know steps, memos or
stores.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import types
from contextlib import suppress
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from durable.errors import Interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

__all__ = ["Owner", "RunTask", "RunTasks", "TaskFactory", "as_raised_here", "in_context", "owner", "rooted"]


_log = logging.getLogger("durable.engine")

_BLOCKING_SECONDS = 1.0
"""A piece of user code that runs this long without an await is named in the log."""


class Owner(Protocol):
    """The run to which tasks belong."""

    unwinding: bool
    stuck: bool
    closed: bool
    resumed: float

    def number(self) -> int:
        """The number of a task that is about to be made, in order of creation."""
        ...

    def born(self, task: asyncio.Future[Any]) -> None:
        """Take note of a new task of the run."""
        ...


owner: ContextVar[Owner | None] = ContextVar("durable_owner", default=None)
"""The run whose handler is executing here; ``None`` outside of one, and inside a step's callback."""


class RunTasks:
    """The tasks of one run, and since when its root has the loop; `touch` is told of each birth and end."""

    def __init__(self, touch: Callable[[], None]) -> None:
        self.alive: set[asyncio.Future[Any]] = set()
        self.resumed = perf_counter()
        self.unwinding = False
        self.stuck = False
        self.refused: dict[asyncio.Task[Any] | None, int] = {}
        """How many steps each task was refused while the run is taken apart."""
        self.closed = False
        self.abandoned = False
        self._touch = touch
        self._births = 0

    def number(self) -> int:
        """See `Owner`."""
        self._births += 1
        self._touch()
        return self._births

    def born(self, task: asyncio.Future[Any]) -> None:
        """See `Owner`."""
        self.alive.add(task)
        task.add_done_callback(self._died)
        self._touch()

    def _died(self, task: asyncio.Future[Any]) -> None:
        self.alive.discard(task)
        if task.cancelled():
            if isinstance(task, RunTask):
                task.inner.close()  # it may never have begun
        elif self.unwinding or self.abandoned:
            task.exception()  # nobody is left to retrieve it
        self._touch()


_Exit = type("SystemExit", (Exception,), {"__doc__": "A `SystemExit` of user code, which ends nothing else."})


async def _quietly(run: Owner, coro: Coroutine[Any, Any, Any]) -> Any:
    """No task ends with an error while its run is taken apart: a group whose parent has ended would log it."""
    try:
        return await _leaving(run, coro)
    except SystemExit as error:
        if run.unwinding:
            raise asyncio.CancelledError from None
        # asyncio would let it end the loop, and every run with it.
        raise _Exit(*error.args).with_traceback(error.__traceback__) from None
    except Exception:
        if run.unwinding:
            raise asyncio.CancelledError from None
        raise


@types.coroutine
def _leaving(run: Owner, coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Drive a task's coroutine; when its run is stuck, leave it where it is."""
    error: BaseException | None = None
    try:
        yielded = coro.send(None)
        while True:
            try:
                sent = yield yielded
            except GeneratorExit:
                coro.close()
                raise
            except BaseException as thrown:
                error = thrown
            else:
                yielded = coro.send(sent)
                continue
            if run.stuck:
                _leave(coro)
                raise error
            yielded = coro.throw(error)
    except StopIteration as stop:
        return stop.value
    finally:
        error = None


def _leave(coro: Coroutine[Any, Any, Any]) -> None:
    with suppress(RuntimeError):  # it ignores being closed, too
        coro.close()


class RunTask(asyncio.Task[Any]):
    """A task of a run. It hashes by order of creation.

    asyncio keeps tasks in sets; ordered by memory address, a `TaskGroup` that aborts would cancel its
    children in another order on each replay.
    """

    number: int

    def __init__(self, run: Owner, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        # Before `super`: an eager task runs, and may be hashed, inside its constructor.
        self.number = run.number()
        self.inner = coro
        super().__init__(_quietly(run, coro) if asyncio.iscoroutine(coro) else coro, **options)
        if not self.done():
            run.born(self)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class TaskFactory:
    """The loop's task factory, extended: inside a run's handler it makes tasks of that run."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._before: Any = loop.get_task_factory()
        eager: Any = getattr(asyncio, "eager_task_factory", None)
        self._eager = eager is not None and self._before is eager
        self._foreign = self._before is not None and not self._eager
        self.users = 0

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Future[Any]:
        run = owner.get()
        if run is None:
            if self._before is None:
                return asyncio.Task(coro, loop=loop, **options)
            made: asyncio.Future[Any] = self._before(loop, coro, **options)
            return made
        if self._foreign:
            task: asyncio.Task[Any] = self._before(loop, coro, **options)
            run.born(task)
            return task
        if self._eager:
            options.setdefault("eager_start", True)
        return RunTask(run, coro, loop=loop, **options)

    @staticmethod
    def acquire(loop: asyncio.AbstractEventLoop) -> TaskFactory:
        """The extended factory of `loop`, installed if need be; engines of one loop share it."""
        current: Any = loop.get_task_factory()
        factory = current if isinstance(current, TaskFactory) else TaskFactory(loop)
        if factory is not current:
            loop.set_task_factory(factory)  # type: ignore[arg-type]  # typeshed names no options
        factory.users += 1
        return factory

    def release(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Restore the factory of before with the last engine; ``False``: somebody has replaced ours."""
        self.users -= 1
        current: Any = loop.get_task_factory()
        if current is not self:
            return False
        if self.users == 0:
            loop.set_task_factory(self._before)
        return True


def as_raised_here(error: BaseException) -> BaseException:
    """`error` with the frames of the user's code that awaits us: it is stored, and never passes through them."""
    frame: types.FrameType | None = sys._getframe(1)  # noqa: SLF001 - `inspect.currentframe` may be ``None``
    trace = error.__traceback__
    while frame is not None and frame.f_code.co_filename != __file__:
        trace = types.TracebackType(trace, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return error.with_traceback(trace)


def _say_blocked(what: object, began: float) -> None:
    _log.warning(
        "%s held up the event loop for %.1f s, and every run of this process with it: give blocking work "
        "to a step as a plain function, which runs in a thread",
        what,
        perf_counter() - began,
    )


@types.coroutine
def rooted(run: Owner, coro: Coroutine[Any, Any, Any], what: object) -> Generator[Any, Any, Any]:
    """Drive a handler. While the run unwinds, whatever arrives at its root frame becomes an `Interrupt`.

    Thrown into the futures that the handler awaits, an interrupt would be swallowed by
    ``gather(return_exceptions=True)`` and by `asyncio.wait`; at the root frame it stops the handler in all
    of them. It is thrown once: what a ``finally`` awaits afterwards may end by itself or be cancelled.
    """
    interrupted = False
    error: BaseException | None = None
    run.resumed = perf_counter()
    try:
        yielded = coro.send(None)
        while True:
            if perf_counter() - run.resumed > _BLOCKING_SECONDS:
                _say_blocked(what, run.resumed)
            try:
                sent = yield yielded
            except GeneratorExit:
                run.closed = True
                coro.close()
                raise
            except BaseException as thrown:
                error = thrown
            else:
                run.resumed = perf_counter()
                yielded = coro.send(sent)
                continue
            # Not within the block: what is handled there would become the context of what the handler raises.
            run.resumed = perf_counter()
            if run.stuck:
                _leave(coro)
                raise error
            if run.unwinding and not interrupted:
                interrupted = True
                error = Interrupt()
            yielded = coro.throw(error)
    except StopIteration as stop:
        return stop.value
    finally:
        error = None
        if perf_counter() - run.resumed > _BLOCKING_SECONDS:
            _say_blocked(what, run.resumed)


@types.coroutine
def in_context(  # noqa: C901 (one generator frame, on the hot path)
    context: Context, coro: Coroutine[Any, Any, Any], what: object
) -> Generator[Any, Any, Any]:
    """Drive a callback within `context`, in the task that awaits: it costs no task of its own.

    An `Interrupt` reaches the callback as `CancelledError`, which is what any coroutine understands, and
    goes on as an `Interrupt` once the callback has ended, however it did.
    """
    interrupt: Interrupt | None = None
    error: BaseException | None = None
    began = perf_counter()
    try:
        yielded = context.run(coro.send, None)
        while True:
            if perf_counter() - began > _BLOCKING_SECONDS:
                _say_blocked(what, began)
            try:
                sent = yield yielded
            except GeneratorExit:
                context.run(coro.close)
                raise
            except Interrupt as thrown:
                interrupt = thrown
                error = asyncio.CancelledError()
            except BaseException as thrown:
                error = thrown
            else:
                began = perf_counter()
                yielded = context.run(coro.send, sent)
                continue
            began = perf_counter()
            yielded = context.run(coro.throw, error)
    except StopIteration as stop:
        if interrupt is not None:
            raise interrupt from None
        return stop.value
    except BaseException:
        if interrupt is not None:
            raise interrupt from None
        raise
    finally:
        error = None
        if perf_counter() - began > _BLOCKING_SECONDS:
            _say_blocked(what, began)
