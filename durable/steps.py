"""The steps that a handler calls: `ctx.step`, and the decorator `step`.

Checks what users pass, says what they mean (an `Operation`), and hands it to whoever performs it. It may not
know the executor.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from durable._core import operations as ops
from durable._core.expressions import compile_condition, compile_match
from durable.annotations import qualified_name, target_of
from durable.codec import PLAIN, return_decoder
from durable.durations import Duration, PointInTime, to_ms, to_point_ms
from durable.errors import ConfigError
from durable.events import Event
from durable.functions import Function
from durable.names import exact
from durable.retries import Backoff, RetryDelays

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Performer", "Steps", "Timeout", "step"]

P = ParamSpec("P")
T = TypeVar("T")

_WAIT_ROOTS = frozenset({"event", "async"})


class Performer(Protocol):
    """Who performs operations: the session of the run."""

    async def perform(self, op: ops.Operation) -> Any:
        """Do what `op` says, once, and return what it returned: now, or when it was done before."""
        ...

    async def watch(self, op: ops.Deadline, expired: Callable[[], None]) -> Callable[[], None]:
        """Call `expired` when the deadline has passed; what is returned ends the watch.

        Raises:
            StepError: The deadline is farther away than `Limits.sleep`.
        """
        ...


class Steps:
    """The durable steps of one run; reached as ``ctx.step``.

    Each takes an `id`: a non-empty string, the name under which its result is remembered. An id that is used
    again counts its repetitions, in call order.
    """

    __slots__ = ("_backoff", "_performer", "_retries", "_timeout")

    def __init__(
        self,
        performer: Performer,
        retries: int | None = None,
        timeout: int | None = None,
        backoff: RetryDelays | None = None,
    ) -> None:
        self._performer = performer
        self._retries = retries
        self._timeout = timeout
        self._backoff = backoff

    def options(
        self, retries: int | None = None, timeout: Duration | None = None, backoff: Backoff | None = None
    ) -> Steps:
        """A view of these steps whose calls have their own retries, time limit per attempt, and backoff.

        Args:
            retries: Retries after the first attempt, 0..20.
            timeout: How long one attempt may take; over it, the attempt fails with `TimeoutError`.
            backoff: How long to wait between attempts.

        Raises:
            ConfigError: A value is none of these.

        Example:
            >>> await ctx.step.options(retries=10, timeout="5s").run("charge", charge, order)
        """
        if retries is not None and (type(retries) is not int or not 0 <= retries <= 20):
            raise ConfigError(f"step.options(retries={retries!r}): retries must be a whole number, 0..20")
        if backoff is not None and not isinstance(backoff, Backoff):
            raise ConfigError(f"step.options(backoff={backoff!r}): backoff must be a durable.Backoff(...)")
        limit = None if timeout is None else to_ms(timeout, what="step.options(timeout)")
        if limit == 0:
            raise ConfigError("step.options(timeout): an attempt needs more than no time")
        return Steps(
            self._performer,
            self._retries if retries is None else retries,
            self._timeout if limit is None else limit,
            self._backoff if backoff is None else backoff,
        )

    # ------------------------------------------------------------ run

    @overload
    async def run(
        self, id: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def run(
        self, id: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...
    @overload
    async def run(self, id: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def run(self, id: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `fn` with the arguments; retry it; remember what it returns.

        A plain function runs in a worker thread. What comes back is always the decoded form of what was
        stored, in the type of `fn`'s return annotation, so that the first pass and every replay see the same.

        Raises:
            StepError: The last attempt failed, or the result cannot be stored.
            NestedStepError: It was called inside another step's callback.

        Example:
            >>> order = await ctx.step.run("load-order", load_order, order_id)
        """
        if not callable(fn):
            raise ConfigError(
                f"step.run({id!r}): the second argument must be a function, got {fn!r}: "
                "pass the function and its arguments, not the result of calling it"
            )
        try:
            decoder = return_decoder(fn)
        except ConfigError as error:
            called = qualified_name(target_of(fn))
            raise ConfigError(f"step.run({id!r}): what {called} returns: {error}") from error
        return await self._performer.perform(
            ops.Call(
                _checked(id),
                fn,
                args,
                kwargs,
                decoder,
                (self._retries, self._timeout, self._backoff),
            )
        )

    # ------------------------------------------------------------ time

    async def sleep(self, id: str, duration: Duration) -> None:
        """Sleep for a duration. Holds neither a task nor a concurrency slot meanwhile; survives restarts.

        Raises:
            StepError: It is longer than `Limits.sleep` (named ``LimitError``).
        """
        op = ops.Sleep(_checked(id), duration=to_ms(duration, what=f"step.sleep({id!r})"))
        await self._performer.perform(op)

    async def sleep_until(self, id: str, when: PointInTime) -> None:
        """Sleep until a point in time: an aware datetime, or ISO-8601 text with offset. Past: not at all."""
        op = ops.Sleep(_checked(id), until=to_point_ms(when, what=f"step.sleep_until({id!r})"))
        await self._performer.perform(op)

    def timeout(self, id: str, duration: Duration) -> Timeout:
        """A durable time limit around the steps inside.

        The deadline is fixed when the block is entered for the first time, and survives restarts.

        Raises:
            TimeoutError: On leaving the block, when the time is over.

        Example:
            >>> async with ctx.step.timeout("limit", "7d"):
            ...     reply = await ctx.step.wait_for_event("reply", event="mail/reply", timeout="30d")
        """
        limit = to_ms(duration, what=f"step.timeout({id!r})")
        return Timeout(self._performer, ops.Deadline(_checked(id), limit))

    # ------------------------------------------------------------ events and signals

    async def wait_for_event(
        self,
        id: str,
        *,
        event: str,
        timeout: Duration,
        if_: str | None = None,
        match: str | None = None,
        since: Duration | Literal["run"] | None = None,
    ) -> Event[Any] | None:
        """Wait for an event; ``None`` when it did not come in time.

        Args:
            id: The step's name.
            event: The exact name of the event.
            timeout: How long to wait at most.
            if_: A CEL condition over ``event`` (which started this run) and ``async`` (which came now).
            match: A path that must have the same value in both: ``"data.order_id"``.
            since: ``"run"`` (which began with its event; a rerun, when it was created), or a duration back
                from now: the first match that was received since then resolves the wait at once. Without it
                only events count that are sent after the wait was committed.

        Example:
            >>> approval = await ctx.step.wait_for_event(
            ...     "approval", event="order/approved", match="data.order_id", timeout="7d"
            ... )
        """
        where = f"step.wait_for_event({id!r})"
        name = exact(event)
        if name is None or "*" in name:
            raise ConfigError(f"{where}: event must be the exact name of an event, got {event!r}")
        if if_ is not None and match is not None:
            raise ConfigError(f"{where}: give either if_ or match, not both")
        condition = None
        if match is not None:
            try:
                condition = compile_match(match)
            except ConfigError as error:
                raise ConfigError(f"{where}: match: {error}") from None
        elif if_ is not None:
            try:
                condition = compile_condition(if_, roots=_WAIT_ROOTS)
            except ConfigError as error:
                raise ConfigError(f"{where}: if_: {error}") from None
        back: str | int | None = since if since is None else "run"
        if since is not None and since != "run":
            back = to_ms(since, what=f"{where}: since")
        op = ops.WaitForEvent(_checked(id), name, condition, to_ms(timeout, what=f"{where}: timeout"), back)
        got: Event[Any] | None = await self._performer.perform(op)
        return got

    async def wait_for_signal(
        self,
        id: str,
        *,
        signal: str,
        timeout: Duration,
        on_conflict: Literal["fail", "replace"] = "fail",
    ) -> ops.Signal | None:
        """Wait for a signal, of which only one run at a time can wait; ``None`` when it did not come in time.

        Raises:
            SignalConflictError: Another wait for it is open, and `on_conflict` is ``"fail"``. With
                ``"replace"`` the other one goes on with ``None``.
        """
        where = f"step.wait_for_signal({id!r})"
        name = exact(signal)
        if name is None:
            raise ConfigError(f"{where}: signal must be a non-empty name, got {signal!r}")
        if on_conflict not in ("fail", "replace"):
            raise ConfigError(f"{where}: on_conflict must be 'fail' or 'replace', got {on_conflict!r}")
        limit = to_ms(timeout, what=f"{where}: timeout")
        op = ops.WaitForSignal(_checked(id), name, limit, replace=on_conflict == "replace")
        got: ops.Signal | None = await self._performer.perform(op)
        return got

    async def send_event(self, id: str, event: Event[Any] | Sequence[Event[Any]]) -> list[str]:
        """Send events, exactly once however often the run is replayed; returns their ids."""
        events: list[Any] = list(event) if isinstance(event, list | tuple) else [event]
        for one in events:
            if not isinstance(one, Event):
                raise ConfigError(
                    f"step.send_event({id!r}): expected an Event or a list of them, got {one!r}"
                )
        ids: list[str] = await self._performer.perform(ops.Send(_checked(id), events))
        return ids

    async def send_signal(self, id: str, signal: str, data: Any = None) -> bool:
        """Send a signal; ``True`` if a run that waited for it took it."""
        name = exact(signal)
        if name is None:
            raise ConfigError(f"step.send_signal({id!r}): signal must be a non-empty name, got {signal!r}")
        taken: bool = await self._performer.perform(ops.SendSignal(_checked(id), name, data))
        return taken

    # ------------------------------------------------------------ other functions

    @overload
    async def invoke(
        self, id: str, *, function: Function[T], data: Any = None, timeout: Duration | None = None
    ) -> T: ...
    @overload
    async def invoke(
        self, id: str, *, function: str, data: Any = None, timeout: Duration | None = None
    ) -> Any: ...
    async def invoke(
        self,
        id: str,
        *,
        function: Function[Any] | str,
        data: Any = None,
        timeout: Duration | None = None,
    ) -> Any:
        """Run another function and wait for what it returns. It runs on when this run is cancelled.

        Raises:
            StepError: It failed (named as its error), was cancelled (``InvokeCancelled``), never ran
                (``InvokeSkipped``), or took longer than `timeout` (``InvokeTimeout``).
        """
        where = f"step.invoke({id!r})"
        decoder = function.decoder if isinstance(function, Function) else PLAIN
        name = function.id if isinstance(function, Function) else exact(function)
        if name is None:
            raise ConfigError(f"{where}: function must be a Function or a function's id, got {function!r}")
        limit = None if timeout is None else to_ms(timeout, what=f"{where}: timeout")
        return await self._performer.perform(ops.Invoke(_checked(id), name, data, limit, decoder))


def _checked(given: object) -> str:
    step = exact(given)
    if step is None:
        raise ConfigError(f"a step's id must be a non-empty string of Unicode text, got {given!r}")
    return step


class Timeout:
    """The block of `Steps.timeout`: an ``async with`` that ends in `TimeoutError` at its deadline."""

    __slots__ = ("_cancelling", "_end", "_expired", "_op", "_performer", "_task")

    def __init__(self, performer: Performer, op: ops.Deadline) -> None:
        self._performer = performer
        self._op = op
        self._expired = False

    async def __aenter__(self) -> Timeout:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._end = await self._performer.watch(self._op, self._expire)
        return self

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        # As in asyncio.timeout: somebody else's cancellation of this task goes on.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError(f"step.timeout({self._op.step!r}): the time is over") from error


def step(id: str) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Make a coroutine function a step wherever it is called inside a run; elsewhere it is as it was.

    Example:
        >>> @durable.step("load-order")
        ... async def load_order(order_id: str) -> Order: ...
    """
    name = _checked(id)

    def decorate(fn: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        if not inspect.iscoroutinefunction(fn):
            raise ConfigError(f"@durable.step({name!r}) needs an `async def` function, got {fn!r}")

        @functools.wraps(fn)
        async def stepped(*args: P.args, **kwargs: P.kwargs) -> T:
            from durable.context import running  # noqa: PLC0415 - `context` stands on this module

            context = running()
            if context is None:
                return await fn(*args, **kwargs)
            return await context.step.run(name, fn, *args, **kwargs)

        return stepped

    return decorate
