"""TestEngine: the real engine under a virtual clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from durable._executor.service import Service
from durable.context import running
from durable.durations import from_ms, to_ms
from durable.engine import Engine
from durable.errors import DurableError
from durable.hosting import name_of
from durable.records import RunStatus
from durable.testing.clock import VirtualClock
from durable.testing.workers import ReplayingWorker, StubbedWorker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from durable.durations import Duration
    from durable.functions import Function
    from durable.runs import Run
    from durable.store import Store

__all__ = ["Stuck", "TestEngine"]

T = TypeVar("T")


class Stuck(DurableError):
    """A run can never end: nothing that falls due at any time concerns it. The message says what it waits for."""


class TestEngine(Engine):
    """An `Engine` with a virtual clock and the same executor: a three-week run is tested in milliseconds.

    Real time passes only for what really takes time: a callback's own I/O, a worker thread.

    Args:
        functions: What it hosts.
        store: A URL or a store object.
        start: The first virtual time.
        replay_every_step: Evict each run after every step and replay it from what is stored, as a restart
            would: a handler that is not deterministic shows here. Callbacks are executed as often as without.
        **options: Those of `Engine`.

    Example:
        >>> async with TestEngine(functions=[remind]) as t:
        ...     run = await t.start(remind, {"user": "u-1"})
        ...     await t.advance("7d")
        ...     assert (await run.refresh()).status == "completed"
    """

    __test__ = False

    def __init__(
        self,
        functions: Sequence[Function[Any]] = (),
        *,
        store: str | Store = "memory://",
        start: str = "2030-01-01T00:00:00Z",
        replay_every_step: bool = False,
        **options: Any,
    ) -> None:
        if replay_every_step:
            options["max_warm"] = 0
        clock = options.pop("clock", None) or VirtualClock(start)
        super().__init__(store, functions=functions, clock=clock, **options)
        self._virtual: VirtualClock = clock
        self._stubs: dict[str, Any] = {}
        self._worker = ReplayingWorker if replay_every_step else StubbedWorker

    def _make(self) -> Service:
        service = Service(
            self,
            self._store,
            self._clock,
            self._options,
            random=self._random,
            ulids=self._ulids,
            worker=self._worker,
        )
        assert isinstance(service.worker, StubbedWorker)
        service.worker.stubs = self._stubs
        return service

    @property
    def now(self) -> datetime:
        """The virtual time, an aware datetime."""
        return from_ms(self._virtual.now_ms())

    def stub(self, step_id: str, value: Any) -> None:
        """The step of this name returns `value`, or raises it, instead of doing what it does.

        A callback is not called, a function not invoked, an event not waited for or sent. A stubbed wait
        returns a `durable.Event`, or ``None`` for a time-out; one for a signal its data.

        Raises:
            ConfigError: `step_id` is no name that a step can have.

        Example:
            >>> t.stub("charge", {"receipt": "r-1"})
            >>> t.stub("approval", durable.Event("order/approved", {"order_id": "o-1"}))
        """
        self._stubs[name_of("stub(step_id)", step_id)] = value

    # ------------------------------------------------------------ time

    async def until_idle(self) -> None:
        """Return when nothing can run at the present virtual time. Moves no clock."""
        service = self._open("until_idle")
        calm = 0
        while calm < 3:
            service.check()
            if service.at_rest:
                calm += 1
                await asyncio.sleep(0)
                continue
            calm = 0
            await service.next_pulse()

    async def advance(self, duration: Duration) -> None:
        """Move the clock, stopping at every timer that falls due on the way, in order, until idle at each."""
        target = self._virtual.now_ms() + to_ms(duration, what="advance(duration)")
        service = self._open("advance")
        await self.until_idle()
        while (due := service.next_due) is not None and due <= target:
            self._virtual.jump(due)
            await self.until_idle()
        self._virtual.jump(target)
        await self.until_idle()

    # ------------------------------------------------------------ results

    async def _result(self, run: Run[T], timeout: Duration | None) -> T:
        """Jump from timer to timer until the run has ended."""
        if running() is not None:  # a run that waits for another cannot wait for itself to rest
            return await super()._result(run, timeout)
        limit = None if timeout is None else self._virtual.now_ms() + to_ms(timeout, what="result(timeout)")
        service = self._open("result")
        while True:
            await self.until_idle()
            await run.refresh()
            if run.status.ended:
                return run.outcome()
            due = service.next_due
            if limit is not None and (due is None or due > limit):
                self._virtual.jump(limit)
                raise TimeoutError(f"run {run.id} did not end by {from_ms(limit).isoformat()}")
            if due is None or await self._waits_for_ever(run.id):
                waits = "; ".join(run.waiting_for) or f"nothing (its status is {run.status})"
                if f"{run.app}/{run.function_id}" not in self._options.functions:
                    waits = f"an engine that hosts it; this one does not (its app is {self.app!r})"
                raise Stuck(f"run {run.id} of {run.function_id!r} can never end; it waits for: {waits}")
            self._virtual.jump(due)

    async def _waits_for_ever(self, run_id: str) -> bool:
        """Whether nothing that falls due concerns a run: cron lines tick on, but not for it."""
        history = await self._read(run_id)
        run = history.run
        if run.status is RunStatus.QUEUED:
            return run.due <= self._virtual.now_ms() and run.function not in self._options.functions
        if run.status is not RunStatus.WAITING or history.timers or history.fired or not history.waits:
            return False
        children = [one.child for one in history.waits if one.until is None]
        if len(children) < len(history.waits) or None in children:
            return False
        return all([await self._waits_for_ever(one) for one in children if one is not None])
