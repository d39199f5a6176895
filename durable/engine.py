"""Engine: hosts functions in the caller's event loop.

The roof: it checks what users pass, wires the executor together, and answers questions about runs and
events. What is decided and how it is written happens below.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from durable._executor.driver import owner
from durable.archive import Named
from durable.clock import SystemClock
from durable.codec import PLAIN, decode, encode
from durable.context import running
from durable.control import Control
from durable.durations import shown, to_ms
from durable.errors import ConfigError, DurableError, DurableWarning, RunFailed
from durable.events import check_signal
from durable.functions import Function
from durable.hosting import Options, at_least, event_list, hosted, instance, name_of, observing
from durable.ids import Ulids
from durable.limits import Limits, Retention
from durable.names import exact
from durable.observers import Observer, Observers
from durable.records import (
    Admission,
    History,
    New,
    NewEvent,
    RunRecord,
    RunStatus,
    Signal,
    StoredEvent,
    Verb,
)
from durable.runs import Run
from durable.urls import store_at

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncGenerator, Sequence

    from durable._core.catalog import Blueprint, Catalog
    from durable._executor.service import Service
    from durable.clock import Clock
    from durable.codec import Decoder
    from durable.durations import Duration
    from durable.events import Event
    from durable.store import Store

__all__ = ["Engine"]

T = TypeVar("T")

_REMOVED = " any more: retention has removed the run that the same id or key has started; choose another one"


class Engine(Control):
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
        named = exact(app)
        if named is None or "/" in named:
            raise ConfigError(f"Engine(app): a non-empty name without '/', got {shown(app)}")
        if version is not None:
            version = name_of("Engine(version)", version)
        self.app = app = named
        self._store = store_at(
            os.environ.get("DURABLE_STORE", "sqlite:///durable.db") if store is None else store
        )
        self._options = Options(
            app,
            version,
            hosted(app, functions),
            instance("Engine(limits)", limits, Limits),
            instance("Engine(retention)", retention, Retention),
            Observers(observing(observers)),
            at_least("Engine(max_concurrency)", max_concurrency, 1),
            at_least("Engine(max_threads)", max_threads, 1),
            at_least("Engine(lease) in ms", to_ms(lease, what="Engine(lease)"), 1),
            to_ms(warm_for, what="Engine(warm_for)"),
            at_least("Engine(max_warm)", max_warm, 0),
            to_ms(shutdown_timeout, what="Engine(shutdown_timeout)"),
            strict,
        )
        self._clock: Clock = clock or SystemClock()
        self._random = random.Random()  # noqa: S311 - jitter, and ids that nobody has to guess
        self._ulids = Ulids(self._random)
        self._service: Service | None = None

    def __repr__(self) -> str:
        functions = sorted(one.id for one in self._options.functions.values())
        return f"<durable.Engine app={self.app!r} functions={functions}>"

    @property
    def clock(self) -> Clock:
        """Where the engine's time comes from."""
        return self._clock

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        if self._service is not None:
            self._service.refuse_fork("__aenter__")
            raise DurableError(f"{self!r} is entered already: one `async with` at a time")
        service = self._service = self._make()
        try:
            await service.start()
        except BaseException:
            self._service = None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._service is not None:
            try:
                await self._service.stop()
            finally:
                self._service = None

    def _make(self) -> Service:
        from durable._executor.service import Service  # noqa: PLC0415 - the executor comes with the first engine

        return Service(self, self._store, self._clock, self._options, random=self._random, ulids=self._ulids)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[None]:
        """An ASGI lifespan: ``FastAPI(lifespan=engine.lifespan)``."""
        del app
        async with self:
            yield

    async def serve(self) -> None:
        """Execute until SIGINT or SIGTERM, then leave in order; a second signal leaves at once."""
        if threading.current_thread() is not threading.main_thread():
            raise DurableError(
                "engine.serve: only the main thread hears signals: use `async with engine:` here"
            )
        from durable._executor.serving import serve  # noqa: PLC0415 - signals concern worker processes only

        async with self:
            await serve(self._open("serve"))

    # ------------------------------------------------------------ checks

    def _open(self, what: str) -> Service:
        """What executes, if it may be used from here."""
        service = self._service
        if service is None or not service.open:
            raise DurableError(f"engine.{what}: the engine is not open: use `async with engine:`")
        if service.leaving and getattr(running(), "engine", None) is not self:
            raise DurableError(
                f"engine.{what}: the engine is not open any more: it is being left, and only its own runs may "
                "still use it"
            )
        service.refuse_elsewhere(what)
        service.check()
        return service

    def _at_home(self, what: str) -> None:
        if self._service is not None:
            self._service.refuse_elsewhere(what)

    def _outside(self, what: str, instead: str) -> Service:
        """As `_open`; warns of what each replay would repeat."""
        service = self._open(what)
        if owner.get() is not None:
            warnings.warn(
                f"engine.{what} is called in a handler outside of a step: every replay will repeat it; "
                f"use {instead}",
                DurableWarning,
                stacklevel=3,
            )
        return service

    def _check(self, what: str) -> None:
        self._open(what)

    async def _key(self, function: Named) -> str:
        return (await self._known(self._open("runs"), function)).key

    def _decoder(self, function: str) -> Decoder:
        here = self._options.functions.get(function)
        return PLAIN if here is None else here.decoder

    async def _known(self, service: Service, function: Named) -> Blueprint:
        """A function that is registered in the store."""
        name = function.id if isinstance(function, Function) else exact(function)
        found = await service.intake.find(self.app, name) if name else None
        if found is None:
            raise LookupError(service.intake.catalog.unknown(self.app, name or str(function)))
        return found

    # ------------------------------------------------------------ events and signals

    async def send(self, event: Event[Any] | Sequence[Event[Any]]) -> list[str]:
        """Send events: all of them or none; durable once it returns.

        Returns:
            Their ids, in order.

        Raises:
            EventRejected: One is not valid; nothing was stored.
            StoreError: The store could not; nothing was stored.
        """
        service = self._outside("send", "ctx.step.send_event")
        letters, ids = service.intake.letters(event_list("engine.send", event))
        await service.intake.admit(letters)
        return ids

    def send_soon(self, event: Event[Any] | Sequence[Event[Any]]) -> concurrent.futures.Future[list[str]]:
        """As `send`, from another thread; the future resolves when the events are durable."""
        service = self._service
        if service is None:
            raise DurableError("engine.send_soon: the engine is not open: use `async with engine:`")
        service.refuse_fork("send_soon")
        return asyncio.run_coroutine_threadsafe(self.send(event), service.loop)

    async def send_signal(self, signal: str, data: Any = None) -> bool:
        """Resume the run that waits for a signal; whether there was one. `data`: at most `Limits.step_bytes`."""
        service = self._outside("send_signal", "ctx.step.send_signal")
        name = name_of("engine.send_signal(signal)", signal)
        encoded = check_signal(name, data, self._options.limits)

        def letter(catalog: Catalog) -> Admission:
            return Admission(signal=Signal(name, encoded), registry=catalog.version)

        answer = (await service.intake.admit([letter]))[0]
        return isinstance(answer, New) and answer.taken

    # ------------------------------------------------------------ starting runs

    @overload
    async def start(self, function: Function[T], data: Any = None, *, id: str | None = None) -> Run[T]: ...
    @overload
    async def start(self, function: str, data: Any = None, *, id: str | None = None) -> Run: ...
    async def start(self, function: Named, data: Any = None, *, id: str | None = None) -> Run:
        """Start one run of one function, whatever its triggers say.

        Args:
            function: A `Function`, or its id.
            data: What ``ctx.event.data`` will be: a JSON object.
            id: Deduplicates for 24 hours per app and function: the existing run comes back, a skipped one, too.

        Raises:
            LookupError: Nobody has registered such a function in this store; or `id` stands for a run that
                retention has removed since.
        """
        service = self._outside("start", "ctx.step.invoke")
        blueprint = await self._known(service, function)
        given: Any = {} if data is None else data
        start_id = None if id is None else name_of("engine.start(id)", id)
        letter, run_id, event = service.intake.invocation(blueprint.key, given, start_id=start_id)
        answer = (await service.intake.admit([letter]))[0]
        outcome = answer.outcomes[0]
        if outcome.run == run_id and outcome.verb in (Verb.RUN, Verb.BUFFERED):
            if outcome.verb is Verb.RUN:
                service.watchers.started(run_id)
            return Run(self, self._fresh(event, blueprint.key, run_id, answer.seq))
        if outcome.run is None:
            raise RunFailed(f"{blueprint.id!r} did not start: {outcome.reason}", run_id=run_id)
        run = Run(self, await self._read(outcome.run, _REMOVED))
        if id is not None and outcome.run != run_id and run.event.data != decode(encode(given)):
            warnings.warn(
                f"engine.start({blueprint.id!r}, id={id!r}): run {run.id} was started under this id with other "
                "data; it is returned, and the data given now is ignored",
                DurableWarning,
                stacklevel=2,
            )
        return run

    def _fresh(self, event: NewEvent, key: str, run_id: str, seq: int) -> History:
        """A run that has just been created, without reading it back."""
        now = self._clock.now_ms()
        record = RunRecord(run_id, key, RunStatus.QUEUED, 0, now, now)
        return History(record, (StoredEvent(seq, event.id, event.name, event.ts, now, event.data),))

    @overload
    async def invoke(
        self, function: Function[T], data: Any = None, *, timeout: Duration | None = None
    ) -> T: ...
    @overload
    async def invoke(self, function: str, data: Any = None, *, timeout: Duration | None = None) -> Any: ...
    async def invoke(self, function: Named, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Start a run and wait for what its handler returns; raises as `Run.result`."""
        self._outside("invoke", "ctx.step.invoke")
        if timeout is not None:
            to_ms(timeout, what="engine.invoke(timeout)")  # refused before anything is started
        run = await self.start(function, data)
        return await run.result(timeout)

    async def rerun(self, run_id: str, *, from_step: str | tuple[str, int] | None = None) -> Run:
        """Start a new run from the same event.

        Args:
            run_id: The run to repeat.
            from_step: A step's id, or (id, index): the results of the steps that started before it are kept.
                It may wait still.

        Raises:
            LookupError: There is no such run, or no such step in it.
        """
        service = self._outside("rerun", "a step")
        history = await self._read(run_id)
        letter, new_id = service.intake.repetition(history, from_step)
        answer = (await service.intake.admit([letter]))[0]
        return Run(self, await self._read(answer.outcomes[0].run or new_id))

    async def _result(self, run: Run[T], timeout: Duration | None) -> T:
        service = self._open("result")
        limit = None if timeout is None else to_ms(timeout, what="result(timeout)") / 1000
        try:
            async with asyncio.timeout(limit):
                await service.until_ended(run)
        except TimeoutError:
            raise TimeoutError(
                f"run {run.id} of {run.function_id!r} did not end within {timeout!r}; it goes on"
            ) from None
        return run.outcome()
