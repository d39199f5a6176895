"""Runs a program as a handler would: plain asyncio around `ctx.step`, each decision noted."""

from __future__ import annotations

import asyncio
import sys
import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import durable
from durable import Backoff, Event, StepError
from durable.steps import Timeout
from tests.laws import programs as p
from tests.laws.recorder import Execution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from durable import Context
    from tests.laws.recorder import Book, Pass

SECOND = Backoff("1s", jitter=0)
IDLE_TURNS = 60
"""A real-time limit fires when its run has done nothing for so many turns of the loop."""


class Boom(Exception):
    """An exception of the handler's own."""


def said(error: BaseException) -> str:
    """An exception as text, without what differs from pass to pass."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, BaseExceptionGroup):
        return f"group({', '.join(sorted(said(one) for one in error.exceptions))})"
    if isinstance(error, StepError):
        return f"step {error.step_id}: {error.name} {error.message}"
    return f"{type(error).__name__} {error}"


def retrieved(task: asyncio.Task[Any]) -> None:
    """Nobody else looks at what a task that was given up ended with."""
    if not task.cancelled():
        task.exception()


class _Noted(Timeout):
    """A durable time limit that notes its end."""

    __slots__ = ("_at", "_key")

    def __init__(self, performer: Any, op: Any, at: Pass) -> None:
        super().__init__(performer, op)
        self._at = at

    async def __aenter__(self) -> Timeout:
        self._key = self._at.key(self._op.step)
        return await super().__aenter__()

    def _expire(self) -> None:
        self._at.note("error", self._key, "time is over")
        super()._expire()


class Traced:
    """The steps of one pass; each notes what came of it. The hand-written handlers use them, too."""

    def __init__(self, ctx: Context, at: Pass) -> None:
        self.ctx = ctx
        self.at = at
        self._step = ctx.step

    async def _noted(self, step: str, call: Callable[[str], Any], shown: Callable[[Any], Any]) -> Any:
        key = self.at.key(step)
        label = f"{step}.{key[1]}"
        try:
            value = await call(label)
        except asyncio.CancelledError:
            self.at.note("cancelled", key)
            raise
        except Exception as error:
            self.at.note("error", key, said(error))
            raise
        self.at.note("got", key, shown(value))
        return value

    async def run(
        self,
        step: str,
        *,
        turns: int = 0,
        fails: int = 0,
        thread: bool = False,
        never: bool = False,
        tag: str = "",
        last: Callable[[], None] | None = None,
    ) -> str:
        """A callback (see `programs.Run`) that ends with a call of `last`; returns its label."""
        at, index, met = self.at, self.at.counts[step], len(self.at.trace)
        key, book = (step, index), self.at.book
        final = fails < 0

        def opening(label: str) -> None:
            attempt = self.ctx.attempt
            book.began(at, key, attempt, met)
            if final or attempt < fails:
                raise ValueError(label)

        async def work(label):  # without annotations: each would be resolved anew
            opening(label)
            for _ in range(turns + book.book.jitter()):
                await asyncio.sleep(0)
            if never:
                await asyncio.get_running_loop().create_future()
            book.ended(at, key)
            if last is not None:
                last()
            return label

        def threaded(label):
            opening(label)
            book.ended(at, key)
            return label

        step_ = self._step.options(retries=max(fails, 0), backoff=SECOND) if fails else self._step
        fn: Any = threaded if thread else work

        async def call(label: str) -> str:
            done: str = await step_.run(step, fn, label + tag)
            return done

        value: str = await self._noted(step, call, str)
        return value

    async def sleep(self, step: str, seconds: float) -> str:
        """A durable sleep."""
        await self._noted(step, lambda _: self._step.sleep(step, seconds), lambda _: None)
        return step

    async def send(self, step: str, channel: str = "a") -> str:
        """Send an event that says who sent it."""
        name = f"{channel}/{self.ctx.run_id}"
        await self._noted(
            step, lambda label: self._step.send_event(step, Event(name, {"from": label})), lambda ids: ids
        )
        return step

    async def wait(self, step: str, channel: str = "a", seconds: float = 1) -> str:
        """Wait for an event of that channel: who sent it, or ``"nobody"``."""
        name = f"{channel}/{self.ctx.run_id}"
        got = await self._noted(
            step,
            lambda _: self._step.wait_for_event(step, event=name, timeout=seconds),
            lambda event: None if event is None else event.data,
        )
        return "nobody" if got is None else str(got.data["from"])

    async def signal(self, step: str, name: str = "s") -> bool:
        """Send a signal: whether somebody took it."""
        taken: bool = await self._noted(
            step, lambda label: self._step.send_signal(step, f"{name}/{self.ctx.run_id}", label), bool
        )
        return taken

    async def await_signal(self, step: str, name: str = "s", seconds: float = 1) -> str:
        """Wait for a signal: who sent it, or ``"nobody"``."""
        got = await self._noted(
            step,
            lambda _: self._step.wait_for_signal(
                step, signal=f"{name}/{self.ctx.run_id}", timeout=seconds, on_conflict="replace"
            ),
            lambda got: None if got is None else got.data,
        )
        return "nobody" if got is None else str(got.data)

    async def invoke(self, step: str, *, fails: bool = False) -> str:
        """Invoke another function, which returns its data, or fails."""
        function = broken if fails else child

        async def call(label: str) -> Any:
            return await self._step.invoke(step, function=function, data={"from": label})

        return str(await self._noted(step, call, str))

    def timeout(self, step: str, seconds: float) -> Timeout:
        """A durable time limit; notes when it is delivered, not when the block is left."""
        limit = self._step.timeout(step, seconds)
        return _Noted(limit._performer, limit._op, self.at)

    @asynccontextmanager
    async def within(self, idle: int = IDLE_TURNS) -> AsyncIterator[asyncio.Timeout]:
        """A real-time limit: fires when the run has done nothing for so many turns."""
        loop = asyncio.get_running_loop()
        at, seen, silent = self.at, -1, 0

        def turn() -> None:
            nonlocal seen, silent, handle
            silent = silent + 1 if at.activity == seen else 0
            seen = at.activity
            if silent >= idle:
                limit.reschedule(loop.time())
            else:
                handle = loop.call_soon(turn)

        async with asyncio.timeout(None) as limit:
            handle = loop.call_soon(turn)
            try:
                yield limit
            finally:
                handle.cancel()


@durable.function("child", retries=0)
async def child(ctx: Context) -> str:
    async def work(sender):
        return f"child of {sender}"

    return await ctx.step.run("only", work, ctx.event.data["from"])


@durable.function("broken", retries=0)
async def broken(ctx: Context) -> str:
    raise ValueError(ctx.event.data["from"])


CHILDREN = (child, broken)


class _Group(asyncio.TaskGroup):
    """Before Python 3.13 a group that fails leaves its task counted as cancelled: limits around it break.

    With eager tasks it even leaves a cancellation that arrives at the next await.
    """

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            if sys.version_info < (3, 13) and kind is None and self._parent_cancel_requested:
                self._parent_task.uncancel()
                if self._parent_task._must_cancel:
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(0)


class Interpreter:
    """Executes one program in one pass."""

    def __init__(self, steps: Traced) -> None:
        self.steps = steps
        self.at = steps.at

    async def run(self, node: p.Node, within: Execution, role: str = "") -> Any:
        """Execute a part; the record of it goes below `within`."""
        execution = Execution(node, role)
        within.parts.append(execution)
        try:
            value = await getattr(self, f"_{type(node).__name__.lower()}")(node, execution)
        except asyncio.CancelledError:
            execution.outcome = ("cancelled", None)
            raise
        except BaseException as error:
            execution.outcome = ("error", said(error))
            raise
        execution.outcome = ("ok", value)
        return value

    def _note(self, what: str, node: Any, *about: Any) -> None:
        self.at.note(what, type(node).__name__, *about)

    async def _pause(self, node: p.Step) -> None:
        for _ in range(node.pause):
            await asyncio.sleep(0)

    # ------------------------------------------------------------ leaves

    async def _run(self, node: p.Run, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.run(
            node.id, turns=node.turns, fails=node.fails, thread=node.thread, never=node.never, tag=node.tag
        )

    async def _sleep(self, node: p.Sleep, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.sleep(node.id, node.seconds)

    async def _send(self, node: p.Send, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.send(node.id, node.channel)

    async def _wait(self, node: p.Wait, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.wait(node.id, node.channel, node.seconds)

    async def _signal(self, node: p.Signal, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.signal(node.id, node.name)

    async def _await(self, node: p.Await, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.await_signal(node.id, node.name, node.seconds)

    async def _invoke(self, node: p.Invoke, _: Execution) -> Any:
        await self._pause(node)
        return await self.steps.invoke(node.id, fails=node.fails)

    async def _raise(self, node: p.Raise, _: Execution) -> Any:
        if not node.first or not self.at.attempt:
            raise Boom(node.label)
        return "calm"

    # ------------------------------------------------------------ how parts go together

    async def _seq(self, node: p.Seq, at: Execution) -> Any:
        return [await self.run(item, at) for item in node.items]

    async def _loop(self, node: p.Loop, at: Execution) -> Any:
        return [await self.run(node.body, at) for _ in range(node.times)]

    async def _gather(self, node: p.Gather, at: Execution) -> Any:
        found = await asyncio.gather(
            *[self.run(item, at) for item in node.items], return_exceptions=node.errors
        )
        return [f"! {said(one)}" if isinstance(one, BaseException) else one for one in found]

    async def _group(self, node: p.Group, at: Execution) -> Any:
        tasks: list[asyncio.Task[Any]] = []
        async with _Group() as group:
            for item in node.items:
                part = self.run(item, at)
                try:
                    tasks.append(group.create_task(part))
                except RuntimeError:  # an eager task has failed already, and the group takes no more
                    part.close()
        return [task.result() for task in tasks]

    def _task(self, node: p.Node, at: Execution, role: str = "") -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(self.run(node, at, role))
        task.add_done_callback(retrieved)
        return task

    async def _race(self, node: p.Race, at: Execution) -> Any:
        tasks = [self._task(item, at, str(number)) for number, item in enumerate(node.items)]
        try:
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if any(isinstance(item, p.Run) and item.never for item in node.items):
                for task in tasks:  # else it would go on for ever: `asyncio.wait` lets its tasks live
                    task.cancel()
            raise
        winners = [number for number, task in enumerate(tasks) if task in done]
        self._note("won", node, *winners)
        losers = [task for task in tasks if task in pending]
        for task in losers:
            task.cancel()
        if node.reap and losers:
            await asyncio.gather(*losers, return_exceptions=True)
        return {str(number): _result(tasks[number]) for number in winners}

    async def _lead(self, node: p.Lead, at: Execution) -> Any:
        others: list[asyncio.Task[Any]] = []

        async def leader() -> Any:
            try:
                return await self.run(node.items[0], at, "leader")
            finally:
                for task in others:
                    task.cancel()

        leading = asyncio.get_running_loop().create_task(leader())
        leading.add_done_callback(retrieved)
        others += [self._task(item, at) for item in node.items[1:]]
        await asyncio.gather(*others, return_exceptions=True)
        return await leading

    async def _completed(self, node: p.Completed, at: Execution) -> Any:
        tasks = [self._task(item, at) for item in node.items]
        found: list[Any] = []
        for one in asyncio.as_completed(tasks):
            try:
                found.append(await one)
            except Exception as error:
                found.append(f"! {said(error)}")
            self._note("came", node, len(found))
            if len(found) == node.take:
                break
        for task in tasks:
            task.cancel()
        return found

    async def _timeout(self, node: p.Timeout, at: Execution) -> Any:
        try:
            async with self.steps.timeout(node.id, node.seconds):
                return await self.run(node.body, at, "body")
        except TimeoutError:
            self._note("out of time", node)
            return ["in time?", await self.run(node.otherwise, at, "otherwise")]

    async def _within(self, node: p.Within, at: Execution) -> Any:
        try:
            async with self.steps.within():
                return await self.run(node.body, at, "body")
        except TimeoutError:
            self._note("timed out", node)
            return ["in time?", await self.run(node.otherwise, at, "otherwise")]

    async def _shield(self, node: p.Shield, at: Execution) -> Any:
        return await asyncio.shield(self._task(node.body, at))

    async def _waitfor(self, node: p.WaitFor, at: Execution) -> Any:
        return await asyncio.wait_for(self._task(node.body, at), 3600)  # 3.11 leaves an error unretrieved

    async def _background(self, node: p.Background, at: Execution) -> Any:
        beside = self._task(node.beside, at, "beside")
        value = await self.run(node.main, at, "main")
        if node.join:
            return [value, await beside]
        beside.cancel()
        return [value]

    async def _try(self, node: p.Try, at: Execution) -> Any:
        try:
            return await self.run(node.body, at, "body")
        except Exception as error:
            if node.otherwise is None:
                raise
            self._note("caught", node, said(error))
            return ["caught", said(error), await self.run(node.otherwise, at, "otherwise")]
        finally:
            if node.final is not None:
                await self.run(node.final, at, "final")

    async def _switch(self, node: p.Switch, at: Execution) -> Any:
        value = await self.run(node.main, at, "main")
        number = zlib.crc32(repr(value).encode()) % len(node.items)
        self._note("chose", node, number)
        return [value, await self.run(node.items[number], at, "chosen")]


def _result(task: asyncio.Task[Any]) -> Any:
    if task.cancelled():
        return "! cancelled"
    error = task.exception()
    return task.result() if error is None else f"! {said(error)}"


def handler_of(program: p.Program, book: Book, name: str = "h") -> Any:
    """The program as a durable function."""

    async def handler(ctx: Context) -> Any:
        at = book.called(ctx)
        interpreter = Interpreter(Traced(ctx, at))
        try:
            value = await interpreter.run(program.root, at.root)
        except BaseException as error:
            if not ctx.evicting:
                at.outcome = ("error", said(error))
            raise
        if not ctx.evicting:
            at.outcome = ("ok", value)
        return value

    return durable.function(name, retries=program.retries, backoff=SECOND)(handler)
