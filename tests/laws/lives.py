"""Lives of an engine on one store: until its runs have ended, it dies, is refused, or is told to stop.

L5 and L6 are checked here: nothing hangs, no task is left behind, nothing is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable import RunCancelled, RunFailed
from durable._executor.driver import RunTask
from durable.records import EventQuery, MemoState, RunQuery, StepKind
from durable.testing import Stuck, TestEngine, VirtualClock
from durable.testing.faults import CrashingStore, kill
from tests.laws.interpreter import CHILDREN
from tests.laws.recorder import Violation
from tests.laws.stores import Weather, Witness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from durable.runs import Run
    from tests.laws.recorder import Book

QUARTERS_HUNG = 8
"""So many quarters of a second without any progress are a hang."""
_MOST_WRITES = 5000
_EXPECTED = {
    "refuse": ("was taken over by another engine", "was taken for dead"),
    "stop": ("is interrupted in a step",),
}


class Noise(logging.Handler):
    """Whatever is logged by asyncio or by durable, from warnings on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({record.exc_info[1]!r})"
        self.said.append(text)

    def __enter__(self) -> Noise:
        for name in ("asyncio", "durable"):
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("asyncio", "durable"):
            logging.getLogger(name).removeHandler(self)

    def take(self, fault: str = "", *, retried: bool = False) -> list[str]:
        """What was said since, without what is expected. A second attempt may take another path."""
        said, self.said = self.said, []
        expected = (
            "awaits only steps that it has withdrawn",  # until a limit in real time passes again
            r"^Executing <.* took ",  # asyncio's debug mode, of the test's own collections of garbage
            *_EXPECTED.get(fault, ()),
            *(("without meeting",) if retried else ()),
        )
        return [text for text in said if not any(re.search(one, text) for one in expected)]


@dataclass
class Life:
    """How one engine lives."""

    fault: str = ""
    """``""``, ``"crash"``, ``"refuse"`` or ``"stop"``."""
    at: int = 0
    """The number of the write at which that happens."""
    after: bool = False
    """Crash after the write instead of before it; stop when refused, instead of going on as a new engine."""
    turns: int = 0
    outdate: int = 0
    every_step: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        when = f"{self.fault} {'after' if self.after else 'at'} write {self.at}" if self.fault else "calm"
        return f"{when}, turns={self.turns}, outdate={self.outdate}, every_step={self.every_step}, {self.options}"


class World:
    """One store, its clock, and what is written down about its runs."""

    def __init__(self, book: Book, random: Random, functions: list[Any]) -> None:
        from durable_stores.memory import MemoryStore

        self.book = book
        self.store = MemoryStore()
        self.clock = VirtualClock()
        self.writes = 0
        self.noise = Noise()
        self._random = random
        self._functions = [*functions, *CHILDREN]
        self._witness = Witness(self.store, book)

    def violate(self, law: str, text: str) -> None:
        """A law was broken."""
        self.book.violations.append(Violation(law, text))

    async def live(self, life: Life, begin: Callable[[TestEngine], Awaitable[list[Run]]]) -> bool:
        """One engine from opening to its end; whether the runs that `begin` gives have ended."""
        before = asyncio.all_tasks()
        fault = life.fault
        weather = Weather(
            self._witness,
            self._random,
            turns=life.turns,
            refuse=life.at if fault == "refuse" else 0,
            stop=life.at if fault == "stop" or (fault == "refuse" and life.after) else 0,
            outdate=life.outdate,
        )
        store = CrashingStore(weather, at=life.at if fault == "crash" else None, after=life.after)  # type: ignore[arg-type]
        options = {"warm_for": "60d", "strict": True, "shutdown_timeout": "50ms", **life.options}
        engine = TestEngine(
            self._functions,
            replay_every_step=life.every_step,
            store=store,  # type: ignore[arg-type]
            clock=self.clock,
            observers=[self.book],
            **options,
        )
        engine._random.seed(self._random.random())
        driving = asyncio.ensure_future(self._drive(engine, begin))
        stopping = [asyncio.ensure_future(one.wait()) for one in (store.died, weather.stopped)]
        hung = await self._watch({driving, *stopping}, store)
        self.writes = store.writes
        ended = driving.done() and not driving.cancelled() and driving.exception() is None
        error = None if not driving.done() else driving.exception()
        if error is not None and not (isinstance(error, Stuck) and weather.stopped.is_set()):
            self.violate("L5", f"{type(error).__name__}: {error}")
        if ended:
            self._check_tasks(engine, before)
        for task in (driving, *stopping):
            task.cancel()
        await self._close(engine, store, dead=store.died.is_set() or hung)
        await asyncio.gather(driving, *stopping, return_exceptions=True)
        await self._check_rest(before, life)
        return ended

    async def _drive(self, engine: TestEngine, begin: Callable[[TestEngine], Awaitable[list[Run]]]) -> None:
        await engine.__aenter__()
        for run in await begin(engine):
            with contextlib.suppress(RunFailed, RunCancelled):
                await run.result()

    async def _watch(self, tasks: set[asyncio.Future[Any]], store: CrashingStore) -> bool:
        """Wait for one of them; whether nothing happens any more (L5)."""
        silent, seen = 0, -1
        while True:
            done, _ = await asyncio.wait(tasks, timeout=0.25, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return False
            silent = silent + 1 if self.book.progress == seen else 0
            seen = self.book.progress
            if silent >= QUARTERS_HUNG or store.writes > _MOST_WRITES:
                waiting = [f"{one.run[-4:]}: {one.passes[-1].trace[-3:]}" for one in self._open()]
                self.violate("L5", f"hangs after {store.writes} writes: {waiting}")
                return True

    def _open(self) -> list[Any]:
        return [one for one in self.book.runs.values() if one.end is None and one.passes]

    async def _close(self, engine: TestEngine, store: CrashingStore, *, dead: bool) -> None:
        service = engine._service
        if service is None:
            return
        if dead:
            await kill(engine)
            self.store.sever(service.id)
            return
        leaving = asyncio.ensure_future(engine.__aexit__(None, None, None))
        if await self._watch({leaving}, store):
            await kill(engine)
            leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        if not leaving.cancelled() and leaving.exception() is not None:
            self.violate("L5", f"the engine could not be closed: {leaving.exception()!r}")

    # ------------------------------------------------------------ L6

    def _check_tasks(self, engine: TestEngine, before: set[asyncio.Task[Any]]) -> None:
        service = engine._service
        if service is None or service.worker.sessions:
            return
        left = [one for one in asyncio.all_tasks() - before if isinstance(one, RunTask) or _is_root(one)]
        if left:
            self.violate("L6", f"no run is in memory, and there are tasks: {left}")

    async def _check_rest(self, before: set[asyncio.Task[Any]], life: Life) -> None:
        left: set[asyncio.Task[Any]] = set()
        for _ in range(10):
            left = asyncio.all_tasks() - before - {asyncio.current_task()}
            if not left:
                break
            await asyncio.sleep(0)
        if left:
            self.violate("L6", f"tasks are left ({life}): {left}")
        for text in self.noise.take(life.fault, retried=any(one.journals for one in self.book.runs.values())):
            self.violate("L6", f"logged ({life}): {text}")

    def check_garbage(self) -> None:
        """What was never retrieved says so when it is collected."""
        gc.collect()
        for text in self.noise.take("refuse"):
            self.violate("L6", f"logged at the end: {text}")

    # ------------------------------------------------------------ L4, effects in the store

    async def check_effects(self) -> None:
        """Each event that a step sent is there once; each run that one invoked was started once."""
        sent: Counter[tuple[str, str]] = Counter()
        for event in await self.store.events(EventQuery(limit=100_000)):
            channel, _, run = event.name.partition("/")
            if channel in ("a", "b"):
                sent[run, event.data.decode()] += 1
        invoked: Counter[tuple[str, str]] = Counter()
        for one in CHILDREN:
            for history in await self.store.runs(RunQuery(function=f"app/{one.id}", limit=100_000)):
                parent = history.run.parent
                if parent is not None:
                    invoked[parent.run, parent.ref] += 1
        for book in self.book.runs.values():
            expected: Counter[tuple[str, str]] = Counter()
            for memo in book.journal:
                sends = memo.kind is StepKind.SEND and memo.state is MemoState.VALUE
                if sends and (memo.step, memo.index) not in book.loaded:
                    expected[book.run, f'{{"from":"{memo.step}.{memo.index}"}}'] += 1
            found = Counter({key: times for key, times in sent.items() if key[0] == book.run})
            if found != expected:
                book.violate("L4", f"events sent: {dict(found)}, recorded: {dict(expected)}")
            for (run, ref), times in invoked.items():
                if run == book.run and times > 1 + len(book.journals):
                    book.violate("L4", f"{ref} has started {times} runs")


def _is_root(task: asyncio.Task[Any]) -> bool:
    return task.get_name().startswith("durable ")
