"""Crashes on purpose: a store that dies at a chosen write, and the sweep over all of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from durable._executor import ending
from durable.testing.engine import TestEngine
from durable.urls import store_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable.functions import Function
    from durable.store import Store
    from durable.testing.clock import VirtualClock

__all__ = ["CrashingStore", "crash_points", "kill"]

_WRITES = frozenset({"admit", "claim", "commit", "cancel", "join", "register", "bury", "pause"})
_MOST_LIVES = 50


class CrashingStore:
    """A store whose process dies before or after its n-th write: from then on no call returns.

    `died` is set at that moment. Everything else is passed through to the store inside.
    """

    def __init__(self, store: Store, *, at: int | None = None, after: bool = False) -> None:
        self._store = store
        self._at = at
        self._after = after
        self.writes = 0
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def through(*args: Any, **kwargs: Any) -> Any:
            if self.died.is_set():
                await asyncio.get_running_loop().create_future()
            if name not in _WRITES:
                return await method(*args, **kwargs)
            self.writes += 1
            number = self.writes
            if number == self._at and not self._after:
                self.died.set()
                await asyncio.get_running_loop().create_future()
            answer = await method(*args, **kwargs)
            if number == self._at or self.died.is_set():
                self.died.set()
                await asyncio.get_running_loop().create_future()
            return answer

        return through


async def kill(engine: TestEngine) -> None:
    """What the death of its process does to an engine: nothing more is written, nothing is handed back."""
    service, engine._service = engine._service, None  # noqa: SLF001 - a process dies with its insides
    if service is None:
        return
    worker = service.worker
    for task in service.tasks:
        task.cancel()
    for session in list(worker.sessions.values()):
        session.end = session.end or ending.GIVEN_UP
        await ending.unwind(session)
    if worker._alarm is not None:  # noqa: SLF001
        worker._alarm.cancel()  # noqa: SLF001
    await asyncio.gather(*service.tasks, return_exceptions=True)
    had_started = bool(service.tasks)
    service.tasks.clear()
    service.intake.close()
    if had_started:
        service.factory.release(service.loop)


async def crash_points(
    scenario: Callable[[TestEngine], Awaitable[Any]],
    *,
    functions: Sequence[Function[Any]],
    store: str | Store | Callable[[], Store] = "memory://",
    **options: Any,
) -> int:
    """Run `scenario` once per store write, with a process that dies before or after that write.

    Each time, `scenario` is called again with a new engine on the same store, until it ends by itself: give
    events and starts an `id`, so that it may be repeated.

    Args:
        scenario: ``async def scenario(engine)``; its assertions are the proof.
        functions: What the engines host.
        store: A URL of a store that starts empty for each crash (``memory://``), or what makes one.
        **options: Those of `TestEngine`.

    Returns:
        How many crashes were tried.

    Example:
        >>> async def scenario(engine):
        ...     run = await engine.start(transfer, {"amount": 5}, id="t-1")
        ...     assert await run.result() == "done"
        >>> await crash_points(scenario, functions=[transfer])
        14
    """
    writes = await _one_life(scenario, functions, CrashingStore(_fresh(store)), options)
    assert writes is None, "without a crash the scenario has to end by itself"
    tried = 0
    at = 1
    while True:
        reached = False
        for after in (False, True):
            inner = _fresh(store)
            crashed = await _lives(scenario, functions, inner, at, options, after=after)
            reached = reached or crashed
            tried += crashed
        if not reached:
            return tried
        at += 1


def _fresh(store: str | Store | Callable[[], Store]) -> Store:
    if callable(store) and not isinstance(store, str):
        return store()  # type: ignore[no-any-return, operator]  # a store object is not callable
    return store_at(store)


async def _lives(
    scenario: Callable[[TestEngine], Awaitable[Any]],
    functions: Sequence[Function[Any]],
    inner: Store,
    at: int,
    options: dict[str, Any],
    *,
    after: bool,
) -> bool:
    """One crash, and then life after life until the scenario ends by itself; whether it came to the crash."""
    await inner.open()
    clock: VirtualClock | None = None
    try:
        crashing = CrashingStore(inner, at=at, after=after)
        left = await _one_life(scenario, functions, crashing, options, clock)
        if left is None:
            return False
        for _ in range(_MOST_LIVES):
            left = await _one_life(scenario, functions, CrashingStore(inner), options, left)
            if left is None:
                return True
        raise AssertionError(f"after a crash at write {at} the scenario did not end in {_MOST_LIVES} lives")
    finally:
        await inner.close()


async def _one_life(
    scenario: Callable[[TestEngine], Awaitable[Any]],
    functions: Sequence[Function[Any]],
    store: CrashingStore,
    options: dict[str, Any],
    clock: VirtualClock | None = None,
) -> VirtualClock | None:
    """Run the scenario in one process; the clock at its death, or ``None`` if it ended by itself."""
    engine = TestEngine(functions, store=store, **({**options, "clock": clock} if clock else options))  # type: ignore[arg-type]  # it passes every call on

    async def live() -> None:
        async with engine:
            await scenario(engine)

    living = asyncio.ensure_future(live())
    dying = asyncio.ensure_future(store.died.wait())
    await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED)
    dying.cancel()
    if not store.died.is_set():
        await living
        return None
    await _perish(engine, living, store)
    return engine._virtual  # noqa: SLF001


async def _perish(engine: TestEngine, living: asyncio.Future[None], store: CrashingStore) -> None:
    service = engine._service  # noqa: SLF001 - a process dies with its insides
    await kill(engine)
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)
    if service is not None:
        store.sever(service.id)
