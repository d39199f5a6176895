"""One attempt of a step's callback: on the loop or in a worker thread, within its own time.

It says what came out, as bytes and as the value that the handler receives; what follows from it is decided
elsewhere.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from contextlib import asynccontextmanager
from contextvars import Context as Variables
from contextvars import copy_context
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread

from durable._executor.driver import in_context, owner
from durable.codec import encode
from durable.context import attempting
from durable.errors import LimitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from durable._core.operations import Call
    from durable.context import Attempt
    from durable.limits import Limits

__all__ = ["Threads", "call", "store_form"]


class Threads:
    """Worker threads for steps that are plain functions: how many there may be, and what runs in them now."""

    def __init__(self, most: int) -> None:
        self.limiter = CapacityLimiter(most)
        self._running: dict[threading.Thread, str] = {}

    @property
    def running(self) -> list[str]:
        """Steps, each with its thread."""
        return [
            f"{step!r} in {thread.name!r} ({thread.ident})" for thread, step in list(self._running.items())
        ]

    def run(self, step: str, work: Callable[[], Any]) -> Any:
        """Do the work of a step, in this thread."""
        thread = threading.current_thread()
        self._running[thread] = step
        try:
            return work()
        finally:
            del self._running[thread]


def _variables(attempt: Attempt) -> Variables:
    """A copy of the caller's context variables in which `attempt` is executing, outside of the handler."""
    variables = copy_context()
    variables.run(_enter, attempt)
    return variables


def _enter(attempt: Attempt) -> None:
    attempting.set(attempt)
    owner.set(None)


def is_coroutine_function(fn: Any) -> bool:
    """Whether calling `fn` gives a coroutine, without a thread."""
    if type(fn) is FunctionType and fn.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # `inspect` takes 1.5 µs to say so
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


async def call(op: Call, attempt: Attempt, threads: Threads) -> Any:
    """Call the step's function once; what it returns or raises.

    It runs in the awaiting task with context variables of its own.

    Raises:
        TimeoutError: It took longer than its step allows. A worker thread cannot be stopped: then this is
            raised when the thread has returned.
    """
    variables = _variables(attempt)
    if is_coroutine_function(op.fn):
        body = op.fn(*op.args, **op.kwargs)
        if op.timeout is None:
            return await in_context(variables, body, op)
        async with _within(op, op.timeout / 1000):
            return await in_context(variables, body, op)
    return await in_context(variables, _in_thread(op, threads), op)


@asynccontextmanager
async def _within(op: Call, left: float | None) -> AsyncGenerator[None]:
    """A limit of what is `left`, in seconds, of an attempt's time."""
    limit = asyncio.timeout(left)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"the attempt took longer than {op.timeout} ms") from error
        raise


async def _in_thread(op: Call, threads: Threads) -> Any:
    work = partial(threads.run, op.step, partial(op.fn, *op.args, **op.kwargs))
    loop = asyncio.get_running_loop()
    before = loop.time()
    result = await to_thread.run_sync(work, limiter=threads.limiter, abandon_on_cancel=True)
    left = None if op.timeout is None else op.timeout / 1000 - (loop.time() - before)
    if left is not None and left <= 0:
        if inspect.iscoroutine(result):
            result.close()  # it will not be awaited
        raise TimeoutError(f"the attempt took longer than {op.timeout} ms")
    if inspect.isawaitable(result):
        async with _within(op, left):
            return await result
    return result


def store_form(op: Call, value: Any, limits: Limits) -> tuple[bytes, Any]:
    """The bytes that are stored of a result, and the value that the handler receives.

    Raises:
        SerializationError: It cannot be encoded, or does not fit the function's annotation.
        LimitError: It is larger than `Limits.step_bytes`.
    """
    if value is None:
        return b"null", op.read(b"null")
    data = encode(value, what=f"the result of step {op.step!r}")
    if len(data) > limits.step_bytes:
        raise LimitError(
            f"the result of step {op.step!r} has {len(data):,} bytes; Limits.step_bytes allows "
            f"{limits.step_bytes:,}: store large things elsewhere and return where they are"
        )
    return data, op.read(data)
