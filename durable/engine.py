"""Engine: hosts functions in the caller's event loop.

The roof: it checks what users pass, wires the executor together, and answers questions about runs and
events. What is decided and how it is written happens below.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import random
import signal
import warnings
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio
from attrs import evolve

from durable._core.catalog import registration
from durable._executor.driver import TaskFactory, owner
from durable._executor.intake import Intake
from durable._executor.worker import Worker
from durable.clock import SystemClock
from durable.codec import PLAIN, encode
from durable.durations import shown, to_ms, to_point_ms
from durable.errors import (
    ConfigError,
    DurableError,
    DurableWarning,
    RunCancelled,
    RunFailed,
)
from durable.events import Event
from durable.failures import ErrorRecord
from durable.functions import Function
from durable.ids import Ulids
from durable.limits import Limits, Retention
from durable.observers import Observer, Observers
from durable.records import (
    Admission,
    Cancellation,
    End,
    EventQuery,
    History,
    New,
    RunQuery,
    RunRecord,
    RunStatus,
    Signal,
    StoredEvent,
    Verb,
)
from durable.runs import Listing, Page, Run, event_of
from durable.urls import store_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from durable._core.catalog import Blueprint, Catalog
    from durable.clock import Clock
    from durable.codec import Decoder
    from durable.durations import Duration, PointInTime
    from durable.records import Then
    from durable.store import Store

__all__ = ["Engine"]

_log = logging.getLogger("durable.engine")

T = TypeVar("T")


class Engine:
    """Executes the runs of functions, and is the way in for events.

    Args:
        store: A URL (``memory://``, ``sqlite:///file.db``), or a store object. Default: ``$DURABLE_STORE``, else
            ``sqlite:///durable.db``.
        functions: What it hosts; with none it is a client: it sends, and others execute.
        app: The name under which its functions' ids are unique.
        version: The version of the app, for people.
        observers: Told what happens.
        max_concurrency: Runs that execute at once, at most; those that wait do not count.
        max_threads: Worker threads for steps that are plain functions.
        limits: Bounds of steps, runs and events.
        retention: How long finished runs and events are kept.
        lease: How long a silent engine counts as living, where only its heartbeat can tell.
        warm_for: How long a waiting run's task stays in memory.
        max_warm: How many such tasks stay at most.
        shutdown_timeout: How long steps in flight may go on when the engine is left.
        strict: Make a step that is replayed with other arguments an error instead of a warning.
        clock: Where the time comes from.

    Raises:
        ConfigError: A value is wrong; the message names it and what would be right.

    Example:
        >>> async with durable.Engine("sqlite:///shop.db", functions=[process_order]) as engine:
        ...     await engine.send(durable.Event("order/created", {"order_id": "o-1"}))
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        functions: Sequence[Function[Any]] = (),
        app: str = "app",
        version: str | None = None,
        observers: Sequence[Observer] = (),
        max_concurrency: int = 1000,
        max_threads: int = 32,
        limits: Limits | None = None,
        retention: Retention | None = None,
        lease: Duration = "10s",
        warm_for: Duration = "60s",
        max_warm: int = 10_000,
        shutdown_timeout: Duration = "10s",
        strict: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(app, str) or not app or "/" in app:
            raise ConfigError(f"Engine(app): a non-empty name without '/', got {shown(app)}")
        self.app = app
        self.version = version
        self._functions = _hosted(app, functions)
        self._store = store_at(
            os.environ.get("DURABLE_STORE", "sqlite:///durable.db") if store is None else store
        )
        self._limits = limits or Limits()
        self._retention = retention or Retention()
        self._lease = to_ms(lease, what="Engine(lease)")
        self._warm_for = to_ms(warm_for, what="Engine(warm_for)")
        self._max_warm = _at_least("max_warm", max_warm, 0)
        self._max_concurrency = _at_least("max_concurrency", max_concurrency, 1)
        self._max_threads = _at_least("max_threads", max_threads, 1)
        self._shutdown = to_ms(shutdown_timeout, what="Engine(shutdown_timeout)")
        self._strict = strict
        self._clock: Clock = clock or SystemClock()
        self._observers = Observers(observers)
        self._random = random.Random()  # noqa: S311 - jitter, and ids that nobody has to guess
        self._ulids = Ulids(self._random)
        self._watchers: dict[str, list[asyncio.Future[End]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._entered = False
        self._worker: Worker
        self._intake: Intake
        self._factory: TaskFactory

    worker_class: type[Worker] = Worker

    def __repr__(self) -> str:
        return f"<durable.Engine app={self.app!r} functions={sorted(f.id for f in self._functions.values())}>"

    @property
    def clock(self) -> Clock:
        """Where the engine's time comes from."""
        return self._clock

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Engine:
        if self._entered:
            raise DurableError(f"{self!r} is entered already: one `async with` at a time")
        self._entered = True
        try:
            await self._start()
        except BaseException:
            self._entered = False
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """An ASGI lifespan: ``FastAPI(lifespan=engine.lifespan)``."""
        del app
        async with self:
            yield

    async def serve(self) -> None:
        """Execute until SIGINT or SIGTERM, then leave in order; a second signal leaves at once."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None

        def signalled() -> None:
            if stop.is_set():
                self._shutdown = 0
                self._worker.hurry()
            stop.set()

        with suppress(NotImplementedError):
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(one, signalled)
        try:
            async with self:
                await stop.wait()
        finally:
            with suppress(NotImplementedError):
                for one in (signal.SIGINT, signal.SIGTERM):
                    loop.remove_signal_handler(one)

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        store = self._store
        await store.open()
        try:
            engine_id = self._ulids.new(self._clock.now_ms())
            self._make(engine_id)
            await store.join(self._clock.now_ms(), engine_id)
            await self._recover()
            await self._register(engine_id)
        except BaseException:
            await store.close()
            raise
        self._factory = TaskFactory.acquire(self._loop)
        for work in (
            self._worker.committer.run(),
            self._intake.run(),
            self._worker.run(),
            self._listen(engine_id),
        ):
            self._tasks.append(asyncio.Task(work, loop=self._loop))
        self._worker.wake()

    def _make(self, engine_id: str) -> None:
        self._worker = self.worker_class(
            self,
            engine_id,
            self._store,
            self._clock,
            self._functions,
            limits=self._limits,
            observers=self._observers,
            random=self._random,
            threads=anyio.CapacityLimiter(self._max_threads),
            capacity=self._max_concurrency,
            warm_for=self._warm_for,
            max_warm=self._max_warm,
            strict=self._strict,
            ended=self._run_ended,
            pulse=self._pulse,
        )
        self._intake = Intake(
            self._store,
            self._clock,
            self._limits,
            self._ulids,
            request=self._worker.request,
            admitted=self._worker.admitted,
        )
        self._worker.intake = self._intake

    async def _recover(self) -> None:
        """Take over what dead engines have left behind."""
        for dead in await self._store.dead(self._lease):
            more = True
            while more:
                more, _ = await self._store.bury(self._clock.now_ms(), dead)

    async def _register(self, engine_id: str) -> None:
        if self._functions:
            about = [registration(self.app, self.version, one.config) for one in self._functions.values()]
            await self._store.register(self._clock.now_ms(), engine_id, about)
        await self._intake.refresh()

    async def _listen(self, engine_id: str) -> None:
        """Other engines on the same store ring when they make work for this one."""
        while True:
            await self._store.wait_for_work(engine_id)
            self._worker.wake()

    async def _stop(self) -> None:
        worker, store = self._worker, self._store
        try:
            await worker.drain()
            if not await self._emptied(self._shutdown):
                worker.hurry()
                await self._emptied(2000)
            await worker.close()
            while not worker.committer.at_rest or not self._intake.at_rest:
                await asyncio.sleep(0)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
            self._intake.close()
            if not self._factory.release(asyncio.get_running_loop()):
                warnings.warn(
                    "somebody replaced the event loop's task factory while an engine was open: tasks made since "
                    "then were not seen by their runs",
                    DurableWarning,
                    stacklevel=3,
                )
            self._entered = False
            for watchers in self._watchers.values():
                for watcher in watchers:
                    watcher.cancel()
            self._watchers.clear()
            try:
                await store.leave(self._clock.now_ms(), worker.engine_id)
            finally:
                await store.close()

    async def _emptied(self, timeout_ms: int) -> bool:
        """Whether no run is executing any more, within so many ms of real time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        while not self._worker.empty:
            left = until - loop.time()
            if left <= 0:
                return False
            await asyncio.wait([self._next_pulse()], timeout=min(left, 0.5))
        return True

    # ------------------------------------------------------------ rest

    def _at_rest(self) -> bool:
        """Whether nothing can run at the present time."""
        return self._worker.at_rest and self._intake.at_rest

    def _next_due(self) -> int | None:
        """When something will happen by time alone."""
        return self._worker.next_due

    # ------------------------------------------------------------ pulse: something has changed

    _pulsed: asyncio.Future[None] | None = None

    def _pulse(self) -> None:
        if self._pulsed is not None:
            self._pulsed.set_result(None)
            self._pulsed = None

    def _next_pulse(self) -> asyncio.Future[None]:
        if self._pulsed is None:
            self._pulsed = asyncio.get_running_loop().create_future()
        return self._pulsed

    # ------------------------------------------------------------ checks

    def _usable(self, what: str) -> None:
        if not self._entered:
            raise DurableError(f"engine.{what}: the engine is not open: use `async with engine:`")
        if os.getpid() != self._pid:
            raise DurableError(
                f"engine.{what}: the engine was opened in process {self._pid}, and this is a fork of it "
                f"({os.getpid()}): open an engine of its own there"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise DurableError(
                f"engine.{what}: the engine belongs to another event loop; from another thread use send_soon"
            )

    def _outside(self, what: str, instead: str) -> None:
        """Warn of what each replay would repeat (SEMANTICS 12)."""
        self._usable(what)
        if owner.get() is not None:
            warnings.warn(
                f"engine.{what} is called in a handler outside of a step: every replay will repeat it; "
                f"use {instead}",
                DurableWarning,
                stacklevel=3,
            )

    def _key(self, function: Function[Any] | str) -> Blueprint:
        """A function that is registered in the store."""
        name = function.id if isinstance(function, Function) else function
        found = self._intake.catalog.find(self.app, name)
        if found is None:
            raise LookupError(
                f"no function {name!r} is registered in this store: give it to an engine, or mend the id"
            )
        return found

    # ------------------------------------------------------------ events

    async def send(self, event: Event[Any] | Sequence[Event[Any]]) -> list[str]:
        """Send events: all of them or none; durable once it returns.

        Returns:
            Their ids, in order.

        Raises:
            EventRejected: One is not valid; nothing was stored.
            StoreError: The store could not; nothing was stored.
        """
        self._outside("send", "ctx.step.send_event")
        events = [event] if isinstance(event, Event) else list(event)
        for one in events:
            if not isinstance(one, Event):
                raise ConfigError(f"engine.send: expected an Event or a list of them, got {shown(one)}")
        letters, ids = self._intake.letters(events)
        await self._intake.admit(letters)
        return ids

    def send_soon(self, event: Event[Any] | Sequence[Event[Any]]) -> concurrent.futures.Future[list[str]]:
        """As `send`, from another thread; the future resolves when the events are durable."""
        if not self._entered or self._loop is None:
            raise DurableError("engine.send_soon: the engine is not open: use `async with engine:`")
        return asyncio.run_coroutine_threadsafe(self.send(event), self._loop)

    async def send_signal(self, signal: str, data: Any = None) -> bool:  # noqa: F811
        """Resume the run that waits for a signal; whether there was one."""
        self._outside("send_signal", "ctx.step.send_signal")
        if not isinstance(signal, str) or not signal:
            raise ConfigError(f"engine.send_signal: signal must be a non-empty name, got {shown(signal)}")
        encoded = encode(data, what=f"the data of signal {signal!r}")

        def letter(catalog: Catalog) -> Admission:
            return Admission(signal=Signal(signal, encoded), registry=catalog.version)

        answer = (await self._intake.admit([letter]))[0]
        return isinstance(answer, New) and answer.taken

    # ------------------------------------------------------------ runs

    async def start(self, function: Function[Any] | str, data: Any = None, *, id: str | None = None) -> Run:  # noqa: A002
        """Start one run of one function, whatever its triggers say.

        Args:
            function: A `Function`, or its id.
            data: What ``ctx.event.data`` will be: a JSON object.
            id: Deduplicates for 24 hours per app and function: the existing run comes back.

        Raises:
            LookupError: Nobody has registered such a function in this store.
        """
        self._outside("start", "ctx.step.invoke")
        blueprint = self._key(function)
        given: Any = {} if data is None else data
        letter, run_id = self._intake.invocation(blueprint.key, given, start_id=id)
        answer = (await self._intake.admit([letter]))[0]
        outcome = answer.outcomes[0]
        if outcome.verb is Verb.RUN and outcome.run == run_id:
            return Run(self, self._fresh(blueprint.key, run_id, letter, answer.seq))
        if outcome.run is None:
            raise RunFailed(f"{blueprint.id!r} did not start: {outcome.reason}", run_id=run_id)
        run = Run(self, await self._read(outcome.run))
        if outcome.verb is Verb.EXISTS and encode(run.event.data) != encode(given):
            warnings.warn(
                f"engine.start({blueprint.id!r}, id={id!r}): run {run.id} was started under this id with other data; "
                "it is returned, and the data given now is ignored",
                DurableWarning,
                stacklevel=2,
            )
        return run

    def _fresh(self, key: str, run_id: str, letter: Any, seq: int) -> History:
        """A run that has just been created, without reading it back."""
        event = letter(self._intake.catalog).event
        now = self._clock.now_ms()
        record = RunRecord(run_id, key, RunStatus.QUEUED, 0, now, now)
        stored = StoredEvent(seq, event.id, event.name, event.ts, now, event.data)
        return History(record, (stored,))

    @overload
    async def invoke(
        self, function: Function[T], data: Any = None, *, timeout: Duration | None = None
    ) -> T: ...
    @overload
    async def invoke(self, function: str, data: Any = None, *, timeout: Duration | None = None) -> Any: ...
    async def invoke(
        self, function: Function[Any] | str, data: Any = None, *, timeout: Duration | None = None
    ) -> Any:
        """Start a run and wait for what its handler returns; raises as `Run.result`."""
        self._outside("invoke", "ctx.step.invoke")
        run = await self.start(function, data)
        return await run.result(timeout)

    async def get_run(self, run_id: str) -> Run:
        """A handle on a run.

        Raises:
            LookupError: There is none of that id.
        """
        self._usable("get_run")
        return Run(self, await self._read(run_id))

    async def _read(self, run_id: str) -> History:
        history = await self._store.history(run_id)
        if history is None:
            raise LookupError(f"there is no run {run_id!r} in this store")
        return history

    def _decoder(self, function: str) -> Decoder:
        hosted = self._functions.get(function)
        return PLAIN if hosted is None else hosted.decoder

    def _run_ended(self, run_id: str, then: Then) -> None:
        assert isinstance(then, End)
        for watcher in self._watchers.pop(run_id, ()):
            if not watcher.done():
                watcher.set_result(then)
        self._pulse()

    async def _result(self, run: Run, timeout: Duration | None) -> Any:
        self._usable("result")
        limit = None if timeout is None else to_ms(timeout, what="result(timeout)") / 1000
        async with asyncio.timeout(limit):
            await self._until_ended(run)
        return _outcome(run)

    async def _until_ended(self, run: Run) -> None:
        if run.status.ended:
            return
        watcher: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        watchers = self._watchers.setdefault(run.id, [])
        watchers.append(watcher)
        try:
            if run.status is not RunStatus.QUEUED or run.started_at is not None or not self._is_ours(run):
                await run.refresh()
            while not run.status.ended:
                if self._is_ours(run):
                    run.ended(await asyncio.shield(watcher))
                else:
                    await asyncio.wait([watcher], timeout=0.05)
                    await run.refresh()
        finally:
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers:
                self._watchers.pop(run.id, None)

    def _is_ours(self, run: Run) -> bool:
        return f"{run.app}/{run.function_id}" in self._functions

    def runs(
        self,
        function: Function[Any] | str | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        event_id: str | None = None,
        since: PointInTime | None = None,
        until: PointInTime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[Run]:
        """Runs, newest first: ``await`` it for a `Page`, or ``async for`` over all; ``since <= queued_at < until``."""
        self._usable("runs")
        listed = [status] if isinstance(status, str) else list(status or ())
        query = RunQuery(
            None if function is None else self._key(function).key,
            frozenset(_status(one) for one in listed),
            event_id,
            None if since is None else to_point_ms(since, what="runs(since)"),
            None if until is None else to_point_ms(until, what="runs(until)"),
            limit=_at_least("limit", limit, 1),
        )

        async def fetch(before: str | None) -> Page[Run]:
            found = await self._store.runs(evolve(query, before=before))
            more = found[-1].run.id if len(found) == query.limit else None
            return Page([Run(self, one) for one in found], more)

        return Listing(fetch, cursor)

    def events(
        self,
        name: str | None = None,
        since: PointInTime | None = None,
        until: PointInTime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[Event[Any]]:
        """Events, newest first, as `runs`; `since` and `until` count from their receipt."""
        self._usable("events")
        query = EventQuery(
            name,
            None if since is None else to_point_ms(since, what="events(since)"),
            None if until is None else to_point_ms(until, what="events(until)"),
            limit=_at_least("limit", limit, 1),
        )

        async def fetch(before: str | None) -> Page[Event[Any]]:
            found = await self._store.events(
                evolve(query, before=None if before is None else _number(before))
            )
            more = str(found[-1].seq) if len(found) == query.limit else None
            return Page([event_of(one) for one in found], more)

        return Listing(fetch, cursor)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; nothing happens if it has ended.

        Raises:
            LookupError: There is none of that id.
        """
        self._outside("cancel", "a step")
        (state,), woke = await self._store.cancel(self._clock.now_ms(), [run_id], "cancelled")
        if state is Cancellation.UNKNOWN:
            raise LookupError(f"there is no run {run_id!r} in this store")
        del woke
        self._worker.wake()


# ---------------------------------------------------------------- checks


def _hosted(app: str, functions: Sequence[Function[Any]]) -> dict[str, Function[Any]]:
    found: dict[str, Function[Any]] = {}
    if isinstance(functions, Function):
        raise ConfigError("Engine(functions): give a list of functions")
    for one in functions:
        if not isinstance(one, Function):
            raise ConfigError(
                f"Engine(functions): {shown(one)} is no durable function: decorate it with @durable.function(...)"
            )
        for made in (one, one.on_failure):
            if made is None:
                continue
            key = f"{app}/{made.id}"
            if key in found:
                raise ConfigError(f"Engine(functions): two functions have the id {made.id!r}")
            found[key] = made
    return found


def _at_least(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number, {least} or more, got {shown(value)}")
    return value


def _status(value: object) -> RunStatus:
    try:
        return RunStatus(value)  # type: ignore[arg-type]  # an unknown one is answered here
    except ValueError:
        known = ", ".join(RunStatus)
        raise ConfigError(f"runs(status): one of {known}, got {shown(value)}") from None


def _number(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise ConfigError(f"events(cursor): a cursor that a page gave, got {shown(cursor)}") from None


def _outcome(run: Run) -> Any:
    if run.status is RunStatus.COMPLETED:
        return run.output
    error: ErrorRecord | None = run.error
    if run.status is RunStatus.CANCELLED:
        raise RunCancelled(f"run {run.id} of {run.function_id!r} was cancelled", run_id=run.id, error=error)
    why = f"{error.name}: {error.message}" if error else (run.skip_reason or run.status)
    raise RunFailed(f"run {run.id} of {run.function_id!r} failed: {why}", run_id=run.id, error=error)
