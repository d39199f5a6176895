"""Crashes on purpose: a store that dies at a chosen write, and lives of engines that go on after it.

A process's death is imitated inside one process: from one moment on no call to the store returns, the
engine's tasks are taken apart, and the store is told what an operating system would tell it.
"""

from __future__ import annotations

import asyncio
import inspect
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attrs import frozen

from durable._executor import ending
from durable.errors import ConfigError
from durable.testing.engine import TestEngine
from durable.urls import store_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable._executor.service import Service
    from durable.functions import Function
    from durable.store import Store

    Scenario = Callable[[TestEngine], Awaitable[Any]]
    Where = str | Callable[[], str | Store]

__all__ = ["NEVER_LATE", "CrashingStore", "Death", "Moment", "Witness", "crash_points", "kill", "live_on"]

_WRITES = frozenset({"admit", "claim", "commit", "cancel", "join", "register", "bury", "pause"})

_ALL_WRITES = _WRITES | {"leave", "sweep", "extend"}

NEVER_LATE = frozenset({"join", "leave", "bury", "sweep", "extend"})
"""Writes that say nothing of runs: what comes of them after their engine's death is not looked at."""

_MOST_LIVES = 50
_LONGEST_LIFE_SECONDS = 30.0


class Moment(StrEnum):
    """When, at a write, a process dies."""

    BEFORE = "before"
    AFTER = "after"
    LATE = "late"
    """Before; and the write arrives when another engine has taken the dead one's work over."""


@frozen
class Death:
    """A process dies at its `at`-th write."""

    at: int
    moment: Moment = Moment.BEFORE

    def __str__(self) -> str:
        return f"{self.moment} write {self.at}"


class Witness:
    """Who is told of lives and deaths, to look at what is left. Override what is of interest."""

    def born(self, life: int) -> None:
        """A process starts; the first is number 0."""

    def died(self) -> None:
        """It dies at this very moment; whatever it still does is not real."""

    async def left_behind(self, store: Store) -> None:
        """What the dead one has stored can be read now."""

    async def ended(self, store: Store) -> None:
        """The scenario has ended by itself: what is stored can be read for the last time."""


class CrashingStore:
    """A store whose process dies at one of its writes: from then on no call returns.

    `died` is set at that moment. Everything else is passed through to the store inside.

    Args:
        store: The store inside.
        at: The number of the write, from 1; ``None``: it never dies.
        after: Die after that write instead of before it.
        late: Die before it, and keep the write until `arrive` makes it.
        writes: The calls that count as writes.
        dying: Called at the moment of death.
        taken: Called once, when the first claim was answered.
    """

    def __init__(
        self,
        store: Store,
        *,
        at: int | None = None,
        after: bool = False,
        late: bool = False,
        writes: frozenset[str] = _WRITES,
        dying: Callable[[], None] | None = None,
        taken: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._at = at
        self._after = after
        self._late = late
        self._counted = writes
        self._dying = dying
        self._taken = taken
        self._held: Callable[[], Awaitable[Any]] | None = None
        self.opened = 0
        self.writes = 0
        self.last = ""
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def through(*args: Any, **kwargs: Any) -> Any:
            if self.died.is_set():
                return await self._never(name)
            if name not in self._counted:
                answer = await method(*args, **kwargs)
                self.opened += (name == "open") - (name == "close")
                return answer
            self.writes += 1
            self.last = name
            mine = self.writes == self._at
            if mine and not self._after:
                if self._late and name not in NEVER_LATE:
                    self._held = lambda: method(*args, **kwargs)
                return await self._die(name)
            answer = await method(*args, **kwargs)
            if mine or self.died.is_set():
                return await self._die(name)
            if name == "claim" and self._taken is not None:
                taken, self._taken = self._taken, None
                await taken()
            return answer

        return through

    async def _die(self, name: str) -> None:
        if not self.died.is_set():
            self.died.set()
            if self._dying is not None:
                self._dying()
        await self._never(name)

    async def _never(self, name: str) -> None:
        # The dead do not sign off: this is how their tasks are taken apart.
        if name not in ("leave", "close"):
            await asyncio.get_running_loop().create_future()

    async def abandon(self) -> None:
        """Close what the dead have opened: an operating system does it for a process."""
        while self.opened:
            self.opened -= 1
            await self._store.close()

    @property
    def is_late(self) -> bool:
        """Whether a write is still to `arrive`."""
        return self._held is not None

    async def arrive(self) -> None:
        """The write that was under way at the moment of death (`late`) reaches the store now."""
        held, self._held = self._held, None
        if held is not None:
            await held()


# ---------------------------------------------------------------- the death of an engine


async def kill(engine: TestEngine) -> None:
    """What the death of its process does to an engine: nothing more is written, nothing is handed back."""
    service, engine._service = engine._service, None  # noqa: SLF001 - a process dies with its insides
    if service is not None:
        await _take_apart(service)


async def _take_apart(service: Service) -> None:
    worker = service.worker
    had_started = bool(service.tasks)
    for _ in range(2):  # a task may make another while it is taken apart
        for task in (*service.tasks, *worker.keepers.tasks):
            task.cancel()
        await asyncio.gather(*service.tasks, return_exceptions=True)
        service.tasks.clear()
        worker.alarm.stop()
    while worker.sessions:  # an answer that was under way may begin one more
        _, session = worker.sessions.popitem()
        session.end = session.end or ending.GIVEN_UP
        await ending.unwind(session)
        await asyncio.sleep(0)
    service.intake.close()
    if had_started:
        service.factory.release(service.loop)


class _Mortal(TestEngine):
    """An engine whose insides can be found while it is being left, too."""

    life: Service | None = None

    def _make(self) -> Service:
        self.life = super()._make()
        return self.life


# ---------------------------------------------------------------- lives on one store


class _Home:
    """Where the lives of one try keep what they store: an object that outlives them, or one for each."""

    def __init__(self, where: Store | Callable[[], Store]) -> None:
        self._make = where if callable(where) else None
        self._kept = None if callable(where) else where
        self._open: list[Store] = []

    async def store(self) -> Store:
        """The store of the next life. It stays open until the try is over."""
        if self._kept is not None and self._open:
            return self._kept
        store = self._make() if self._make is not None else self._kept
        assert store is not None
        await store.open()
        self._open.append(store)
        return store

    async def retire(self) -> None:
        """The store of a life that has died is opened anew by the next one."""
        if self._make is not None:
            await self._open.pop().close()

    async def close(self) -> None:
        """The try is over."""
        while self._open:
            await self._open.pop().close()


async def live_on(
    scenario: Scenario,
    *,
    functions: Sequence[Function[Any]],
    store: Store | Callable[[], Store],
    deaths: Sequence[Death] = (),
    witness: Witness | None = None,
    **options: Any,
) -> list[str]:
    """Run `scenario` in life after life on one store, until it ends by itself.

    Args:
        scenario: ``async def scenario(engine)``; called anew in each life.
        functions: What the engines host.
        store: An empty store that outlives the deaths; or what gives each life an object of its own for what
            the ones before have stored.
        deaths: How the first lives end.
        witness: Is told of each life.
        **options: Those of `TestEngine`.

    Returns:
        The writes at which it died: ``["commit"]``. Fewer than `deaths`, if it ended before.
    """
    lives = _Lives(scenario, functions, _Home(store), witness or Witness(), options)
    try:
        for life in range(_MOST_LIVES):
            if await lives.live(deaths[life] if life < len(deaths) else None):
                return lives.died
        raise AssertionError(f"after its deaths the scenario did not end in {_MOST_LIVES} lives")  # noqa: TRY301
    except Exception as error:
        for death, name in zip(deaths, lives.died, strict=False):
            error.add_note(f"The process had died {death} ({name}).")
        raise
    finally:
        await lives.home.close()


class _Lives:
    """The lives of one try, one after the other; `died` names the writes at which they ended."""

    def __init__(
        self,
        scenario: Scenario,
        functions: Sequence[Function[Any]],
        home: _Home,
        witness: Witness,
        options: dict[str, Any],
    ) -> None:
        self.home = home
        self.died: list[str] = []
        self._scenario = scenario
        self._functions = functions
        self._witness = witness
        self._options = options
        self._late: list[CrashingStore] = []
        self._begun = 0

    async def live(self, death: Death | None) -> bool:
        """Run the scenario in one process; whether it ended by itself."""
        inner = await self.home.store()
        store = CrashingStore(
            inner,
            at=None if death is None else death.at,
            after=death is not None and death.moment is Moment.AFTER,
            late=death is not None and death.moment is Moment.LATE,
            writes=_ALL_WRITES,
            dying=self._witness.died,
            taken=self._arrive,
        )
        engine = _Mortal(self._functions, store=cast("Store", store), **self._options)
        engine._random.seed(self._begun)  # noqa: SLF001 - the same ids and pauses each time
        self._witness.born(self._begun)
        self._begun += 1
        if await _live(engine, self._scenario, store):
            await self._arrive()
            await self._witness.ended(inner)
            return True
        self.died.append(store.last)
        self._options["clock"] = engine.clock  # time goes on from there
        if engine.life is not None:
            inner.sever(engine.life.id)  # type: ignore[attr-defined]  # what stores for tests can do
        await self._witness.left_behind(inner)
        await store.abandon()
        if store.is_late:
            self._late.append(store)
        else:
            await self.home.retire()
        return False

    async def _arrive(self) -> None:
        while self._late:
            await self._late.pop().arrive()


async def _live(engine: _Mortal, scenario: Scenario, store: CrashingStore) -> bool:
    """Run the scenario in one process; whether it ended by itself."""

    async def live() -> None:
        async with engine:
            await scenario(engine)

    living = asyncio.ensure_future(live())
    dying = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, dying}, timeout=_LONGEST_LIFE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    if living.done() and not store.died.is_set():
        await living
        return True
    service = engine.life
    await kill(engine)
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    if service is not None and service.worker.sessions:
        await _take_apart(service)
    if not store.died.is_set():
        raise AssertionError(
            f"the scenario hangs: it did not end in {_LONGEST_LIFE_SECONDS:.0f} s, after {store.writes} writes"
        )
    return False


# ---------------------------------------------------------------- the sweep, for users


async def crash_points(
    scenario: Scenario, *, functions: Sequence[Function[Any]], store: Where = "memory://", **options: Any
) -> int:
    """Run `scenario` once per store write, with a process that dies before or after that write.

    Each time, `scenario` is called again with a new engine on the same store, until it ends by itself: give
    events and starts an `id`, so that it may be repeated. Time goes on from where the dead engine left it.

    Args:
        scenario: ``async def scenario(engine)``; its assertions are the proof.
        functions: What the engines host.
        store: ``"memory://"``, or a function that is called before each crash, and gives a new, empty store:
            an object, or the URL of one that every engine opens anew. A ledger of the test's own begins there.
        **options: Those of `TestEngine`.

    Returns:
        How many crashes were tried.

    Raises:
        AssertionError: The scenario's own, with a note that says at which write the process had died.

    Example:
        >>> async def scenario(engine):
        ...     run = await engine.start(transfer, {"amount": 5}, id="t-1")
        ...     assert await run.result() == "done"
        >>> await crash_points(scenario, functions=[transfer])
        26
    """
    if not callable(store) and not (isinstance(store, str) and store.startswith("memory:")):
        raise ConfigError(
            f"crash_points(store={store!r}): each crash needs an empty store of its own: "
            "give a function that returns a new URL or object each time"
        )
    await _life(scenario, functions, store, (), options)  # what fails without a crash says so
    tried = 0
    for at in range(1, 1_000_000):
        reached = False
        for moment in (Moment.BEFORE, Moment.AFTER):
            died = await _life(scenario, functions, store, (Death(at, moment),), options)
            reached = reached or bool(died)
            tried += len(died)
        if not reached:
            break
    return tried


async def _life(
    scenario: Scenario,
    functions: Sequence[Function[Any]],
    store: str | Callable[[], str | Store],
    deaths: Sequence[Death],
    options: dict[str, Any],
) -> list[str]:
    where = store() if callable(store) else store
    return await live_on(scenario, functions=functions, store=_opened_by(where), deaths=deaths, **options)


def _opened_by(where: str | Store) -> Store | Callable[[], Store]:
    """A store in memory outlives its engines; at any other URL each of them opens its own."""
    if not isinstance(where, str):
        return where
    return store_at(where) if where.startswith("memory:") else partial(store_at, where)
