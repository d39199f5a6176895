"""One stay of an engine in its event loop: what is made on entering, and taken apart on leaving.

It wires store, intake, committer, worker and chores together, recovers what dead engines have left, and ends
in order. It may not know what users call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from durable._core.catalog import registration
from durable._executor.callbacks import Threads
from durable._executor.chores import Chores
from durable._executor.driver import TaskFactory
from durable._executor.intake import Intake
from durable._executor.patience import patiently
from durable._executor.watching import Watchers
from durable._executor.worker import Worker
from durable.errors import DurableError, DurableWarning, StoreError
from durable.records import Cancellation, RunStatus

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from random import Random

    from durable.clock import Clock
    from durable.hosting import Options
    from durable.ids import Ulids
    from durable.records import Admission, Admitted, Request, RunRecord
    from durable.runs import Run
    from durable.store import Store

__all__ = ["Service"]

_log = logging.getLogger("durable.engine")

_LOOK_AGAIN_SECONDS = 0.05
_SELDOM_SECONDS = 5.0
"""How often a run that somebody else may execute is looked at, by those who wait for its end."""

_HURRIED_MS = 2000
"""How long interrupted callbacks have to end, on leaving; and what is left to be written."""

_AT_ONCE_MS = 200
"""How long that has for somebody who is in a hurry."""

_TASKS_SECONDS = 5.0
"""How long the engine's own tasks have to end, once they are cancelled."""


def _left(run_id: str) -> DurableError:
    return DurableError(f"the engine was left before run {run_id} has ended; it goes on where it is hosted")


class Service:
    """The executor of one engine, while it is open.

    Args:
        engine: The engine, for the contexts of its runs.
        store: Where everything lives.
        clock: Where the time comes from.
        options: The configuration.
        random: For jitter.
        ulids: For ids.
        worker: The class of the worker.
    """

    def __init__(
        self,
        engine: Any,
        store: Store,
        clock: Clock,
        options: Options,
        *,
        random: Random,
        ulids: Ulids,
        worker: type[Worker] = Worker,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()
        self.store = store
        self.clock = clock
        self.options = options
        self.id: str = ulids.new(clock.now_ms())
        self.tasks: list[asyncio.Task[None]] = []
        self.open = False
        self.leaving = False
        self.hurried = False
        self.failed: asyncio.Future[BaseException] = self.loop.create_future()
        """Resolves with what has stopped the engine's own work, if anything ever does."""
        self.watchers = Watchers(self.loop)
        self._pulsed: asyncio.Future[None] | None = None
        self.threads = Threads(options.max_threads)
        self.worker = worker(
            engine,
            self.id,
            store,
            clock,
            options.functions,
            limits=options.limits,
            observers=options.observers,
            random=random,
            threads=self.threads,
            capacity=options.max_concurrency,
            warm_for=options.warm_for,
            max_warm=options.max_warm,
            strict=options.strict,
            ended=self._run_ended,
            cancelled=self._run_cancelled,
            pulse=self.pulse,
        )
        self.intake = Intake(
            store, clock, options.limits, ulids, asking=self.worker.asking, admitted=self._admitted
        )
        self.worker.intake = self.intake
        self.chores = Chores(self)

    # ------------------------------------------------------------ entering

    async def start(self) -> None:
        """Open the store, take over what the dead have left, register, execute."""
        await self.store.open()
        try:
            await self.chores.bury_the_dead()
            peers = await self.store.join(self.clock.now_ms(), self.id, self.options.lease)
            await self._register()
        except BaseException:
            await self.store.close()
            raise
        self.factory = TaskFactory.acquire(self.loop)
        for work in (
            self.worker.committer.run(),
            self.intake.run(),
            self.worker.run(),
            self._listen(),
            self.chores.run(),
            self.chores.tidy(),
        ):
            self._keep(work)
        if peers:
            self.chores.has_peers()
        self.open = True
        self.worker.wake()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(work, loop=self.loop)
        task.add_done_callback(self._ended_early)
        self.tasks.append(task)

    def _ended_early(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None or self.failed.done():
            return
        _log.critical("the engine has failed: leave it and enter it again", exc_info=error)
        self.failed.set_result(error)
        self.intake.close()
        self.watchers.give_up(lambda _: self._failure())
        self.pulse()

    def check(self) -> None:
        """Nobody is to wait for an engine whose own work has stopped.

        Raises:
            DurableError: It has; from what stopped it.
        """
        if self.failed.done():
            raise self._failure()

    def refuse_fork(self, what: str) -> None:
        """Raise in a fork of the process: connections, locks and threads are the other's."""
        if os.getpid() != self.pid:
            raise DurableError(
                f"engine.{what}: the engine was opened in process {self.pid}, and this is a fork of it "
                f"({os.getpid()}): open an engine of its own there"
            )

    def refuse_elsewhere(self, what: str) -> None:
        """Raise in a fork, and in another event loop."""
        self.refuse_fork(what)
        if asyncio.get_running_loop() is not self.loop:
            raise DurableError(
                f"engine.{what}: the engine belongs to another event loop; from another thread use send_soon"
            )

    def _failure(self) -> DurableError:
        cause = self.failed.result()
        error = DurableError(
            f"the engine has failed ({type(cause).__name__}: {cause}): leave it and enter it again"
        )
        error.__cause__ = cause
        return error

    async def _register(self) -> None:
        options = self.options
        if options.functions:
            await self.chores.look_back()
            about = [
                registration(options.app, options.version, one.config) for one in options.functions.values()
            ]
            await self.store.register(self.clock.now_ms(), self.id, about)
        await self.intake.refresh()

    async def rejoin(self) -> None:
        """This engine was taken for dead (a machine that slept, say): go on as a new one.

        Its runs are others' now, and were queued again; what it still writes under its old name is refused.
        """
        _log.warning(
            "engine %s was taken for dead and its runs were queued again; it goes on as a new one", self.id
        )
        self.worker.lose_all()
        self.id = self.worker.engine_id = self.intake.new_id()
        self.worker.committer.engine_id = self.id
        await self.store.join(self.clock.now_ms(), self.id, self.options.lease)
        await self._register()
        self.worker.wake()

    async def _listen(self) -> None:
        """Other engines on the same store ring when they make work for this one."""
        while True:
            await patiently(
                lambda: self.store.wait_for_work(self.id), _log.error, "other engines cannot be heard"
            )
            self.chores.has_peers()
            await self.chores.say_alive()
            self.worker.wake()

    # ------------------------------------------------------------ leaving

    async def stop(self) -> None:
        """Stop claiming, let steps in flight end, hand runs back, write what is left, close; once.

        Until no run is left here, its own runs may use the engine: a step that sends something ends, too.
        """
        if self.leaving:
            return
        self.leaving = True
        try:
            self.worker.drain()
            if not await self._emptied(self.options.shutdown):
                self.worker.hurry()
                await self._emptied(_HURRIED_MS)
            await self.worker.close()
            self.open = False
            if not await self._written():
                _log.error(
                    "the engine is left though the store did not take all that was to be written: runs go on "
                    "from what they stored before, and events whose `send` has not returned are lost"
                )
        finally:
            self.open = False
            try:
                await self._whole(self._end())
            finally:
                self._release_factory()

    async def _end(self) -> None:
        """Stop what still goes on, sign off, and close; others go on with the runs once this has returned."""
        await self._cancel_tasks()
        self.worker.lose_all()  # those that are left if leaving was cut short
        await self.worker.close()
        if left := self.threads.running:
            _log.warning(
                "steps go on in worker threads, which nobody can stop: %s; they are left behind, and the process "
                "ends only after them",
                ", ".join(left),
            )
        self.intake.close()
        self.watchers.give_up(_left)
        try:
            async with asyncio.timeout(_HURRIED_MS / 1000):
                await self.store.leave(self.clock.now_ms(), self.id)
        except (StoreError, TimeoutError) as error:
            why = str(error) or f"the store gave no answer in {_HURRIED_MS} ms"
            _log.warning("the engine could not sign off (%s); it will be found dead", why)
        finally:
            await self.store.close()

    def hurry(self) -> None:
        """Wait for nothing any more."""
        self.hurried = True
        self.worker.hurry()
        self.pulse()

    async def _emptied(self, timeout_ms: int) -> bool:
        """Whether no run is executing any more, within so many ms of real time."""
        until = self.loop.time() + timeout_ms / 1000
        while not self.worker.empty:
            left = until - self.loop.time()
            if left <= 0 or self.failed.done() or (self.hurried and timeout_ms > _HURRIED_MS):
                return False
            await asyncio.wait([self.next_pulse()], timeout=min(left, 0.5))
        return True

    async def _written(self) -> bool:
        """Whether nothing waits to be written any more, within bounded real time."""
        began = self.loop.time()
        while not (self.failed.done() or (self.worker.committer.at_rest and self.intake.at_rest)):
            if self.loop.time() - began >= (_AT_ONCE_MS if self.hurried else _HURRIED_MS) / 1000:
                return False
            await asyncio.wait([self.next_pulse()], timeout=0.01)
        return True

    async def _cancel_tasks(self) -> None:
        for task in self.tasks:
            task.cancel()
        ended, late = await asyncio.wait(self.tasks, timeout=_TASKS_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # whoever waited was told when it came
        for task in late:
            _log.critical("%r of the engine has not ended though it was cancelled; it is left", task)
        self.tasks.clear()

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """Await this to its end, whatever becomes of the caller: a cancellation comes through after it."""
        task: asyncio.Task[None] = asyncio.Task(work, loop=self.loop)
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
        task.result()
        if cancelled is not None:
            raise cancelled

    def _release_factory(self) -> None:
        if not self.factory.release(self.loop):
            warnings.warn(
                "somebody replaced the event loop's task factory while an engine was open: tasks made since "
                "then were not seen by their runs",
                DurableWarning,
                stacklevel=4,
            )

    # ------------------------------------------------------------ rest and pulse

    @property
    def at_rest(self) -> bool:
        """Whether nothing can run at the present time."""
        return self.worker.at_rest and self.intake.at_rest and self.chores.at_rest

    @property
    def next_due(self) -> int | None:
        """When something will happen by time alone."""
        found = [due for due in (self.worker.alarm.next_due, self.chores.next_due) if due is not None]
        return min(found, default=None)

    def pulse(self) -> None:
        """Something has changed."""
        if self._pulsed is not None:
            if not self._pulsed.done():  # whoever awaited it may have been cancelled
                self._pulsed.set_result(None)
            self._pulsed = None

    def next_pulse(self) -> asyncio.Future[None]:
        """Resolves when something has changed."""
        if self._pulsed is None or self._pulsed.done():
            self._pulsed = self.loop.create_future()
        return self._pulsed

    # ------------------------------------------------------------ ends of runs

    async def until_ended(self, run: Run) -> None:
        """Return when a run has ended; its handle knows how."""
        if run.status.ended:
            return
        ended, forget = self.watchers.watch(run.id)
        try:
            ours = f"{run.app}/{run.function_id}" in self.options.functions
            told = self.worker.has(run.id) or (
                ours and self.watchers.is_new(run.id) and not self.chores.peers
            )
            if not ended.done() and not told:  # an end that came before the watch is in the store
                await run.refresh()
            look_again = _LOOK_AGAIN_SECONDS
            while not run.status.ended:
                if ours:  # most probably it will be told; surely where nobody else executes
                    look_again = (
                        min(2 * look_again, _SELDOM_SECONDS) if self.chores.peers else _SELDOM_SECONDS
                    )
                await asyncio.wait([ended], timeout=look_again)
                if ended.done():
                    run.ended(ended.result())
                else:
                    await run.refresh()
        finally:
            forget()

    async def cancel(self, runs: list[str]) -> tuple[Cancellation, ...]:
        """Cancel runs; what became of each."""
        if not runs:
            return ()
        states, _ = await self.store.cancel(self.clock.now_ms(), runs, "cancelled")
        self.worker.wake()
        for run, state in zip(runs, states, strict=True):
            if state is Cancellation.DONE:
                self._run_cancelled(run)
        return states

    def _run_cancelled(self, run_id: str) -> None:
        """A run was cancelled: that is its end, though a callback of it may still be in flight."""
        if run_id in self.watchers or self.worker.has(run_id):
            self.worker.keep(self._tell_cancelled(run_id))

    async def _tell_cancelled(self, run_id: str) -> None:
        try:
            history = await self.store.history(run_id)
        except StoreError:
            return  # whoever waits looks again by himself
        if history is not None and history.run.status is RunStatus.CANCELLED:
            self.watchers.tell(history.run)

    def _admitted(
        self, admissions: Sequence[Admission], answer: Admitted, now: int, request: Request
    ) -> None:
        self.worker.admitted(admissions, answer, now, request)
        self.chores.has_grown()

    def _run_ended(self, record: RunRecord) -> None:
        self.chores.has_grown()
        self.watchers.tell(record)
        self.pulse()
