"""The store in the process's own memory: fast, indexed, gone with the process.

Duty: the doors of `durable.store.Store` over the indexes of this package. All of them run without a break,
so that a cancelled await is whole. Several engines of one event loop may share a store: whoever makes work
for another rings its bell.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from durable.errors import ConfigError, StoreError
from durable.records import (
    Admitted,
    Cancellation,
    Claimed,
    Commit,
    CommitAnswer,
    CommitState,
    Committed,
    Waiting,
)
from durable.store import SWEEP_MAX

from . import matching
from .admission import admit_current
from .claims import deliver, next_due, promote, take, take_fresh
from .commits import commit_one
from .ledger import Call, Ledger
from .runs import history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import (
        Admission,
        Cutoffs,
        EventQuery,
        History,
        Registration,
        Registry,
        Request,
        RunQuery,
        StoredEvent,
        Verdict,
    )

    from .engines import Engine

__all__ = ["MemoryStore", "open_url"]

_OK = CommitAnswer(CommitState.OK)
_STALE = CommitAnswer(CommitState.STALE)
_NONE: frozenset[str] = frozenset()


def open_url(url: str) -> MemoryStore:
    """A new, empty store for the URL ``memory://``.

    Raises:
        ConfigError: The URL says more than that: a store in memory has no place and no options.
    """
    if url != "memory://":
        raise ConfigError(f"a store in memory has neither a path nor options: {url!r} should be 'memory://'")
    return MemoryStore()


class MemoryStore:
    """See `durable.store.Store`.

    Example:
        >>> store = MemoryStore()
        >>> await store.open()
        >>> await store.join(now_ms, "engine-1")
    """

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._opened = 0

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """See `Store.open`."""
        self._opened += 1

    async def close(self) -> None:
        """See `Store.close`. What is stored stays for as long as the object lives."""
        if self._opened == 0:
            raise StoreError("the store is not open")
        self._opened -= 1
        if self._opened == 0:
            self._ledger.engines.sever_all()

    def sever(self, engine: str) -> None:
        """Do to `engine` what the death of a process does to its engines: for tests of recovery.

        From now on it is among the `dead`. What it still writes is accepted until it is buried.
        """
        found = self._ledger.engines.find(engine)
        if found is not None:
            found.severed = True

    async def join(self, now_ms: int, engine: str, lease_ms: int = 0) -> bool:  # noqa: ARG002 - no time here
        """See `Store.join`."""
        return self._ledger.engines.join(engine)

    async def leave(self, now_ms: int, engine: str) -> None:
        """See `Store.leave`."""
        found = self._ledger.engines.living(engine)
        if found is None:
            return
        call = Call(now_ms, found)
        self._dismiss(found)
        self._release(call, found, len(found.owned))
        self._ledger.engines.forget(found)
        self._woke(call)

    async def extend(self, engine: str) -> bool:
        """See `Store.extend`."""
        return self._ledger.engines.living(engine) is not None

    async def dead(self, lease_ms: int) -> tuple[str, ...]:  # noqa: ARG002 - in one process death is known
        """See `Store.dead`: those that were severed."""
        return self._ledger.engines.dead()

    async def bury(self, now_ms: int, engine: str) -> tuple[bool, frozenset[str]]:
        """See `Store.bury`."""
        found = self._ledger.engines.find(engine)
        if found is None:
            return False, frozenset()
        call = Call(now_ms)
        if found.alive:
            self._dismiss(found)
        self._release(call, found, SWEEP_MAX)
        if not found.owned:
            self._ledger.engines.forget(found)
        return bool(found.owned), self._woke(call)

    def _dismiss(self, engine: Engine) -> None:
        self._ledger.engines.dismiss(engine)
        self._ledger.candidates.loosen(engine.deciding)
        engine.deciding.clear()

    def _release(self, call: Call, engine: Engine, limit: int) -> None:
        for run in sorted(engine.owned, key=lambda run: run.id)[:limit]:
            self._ledger.let_go(call, run)
            if not run.cancelled:
                self._ledger.queue(call, run, call.now)

    # ------------------------------------------------------------ registry

    async def register(self, now_ms: int, engine: str, functions: Sequence[Registration]) -> Registry:
        """See `Store.register`."""
        ledger, call = self._ledger, Call(now_ms)
        host = ledger.engines.living(engine)
        if host is not None:
            ledger.engines.hosts(host, [registration.function for registration in functions])
        for name, rule in ledger.functions.register(functions).items():
            ledger.lanes.limit(name, rule, now_ms, call.woke)
        self._woke(call)
        return await self.registry()

    async def registry(self) -> Registry:
        """See `Store.registry`."""
        return self._ledger.functions.snapshot(self._ledger.events.cursors())

    async def pause(self, now_ms: int, function: str, paused: bool) -> None:  # noqa: ARG002 - as `join`
        """See `Store.pause`."""
        self._ledger.functions.pause(function, paused)

    # ------------------------------------------------------------ the three doors

    async def admit(
        self, now_ms: int, admissions: Sequence[Admission], request: Request | None = None
    ) -> Admitted:
        """See `Store.admit`."""
        ledger = self._ledger
        engine = ledger.engines.living(request.engine) if request is not None else None
        call = Call(now_ms, engine)
        if engine is None or request is None:
            answers = tuple([admit_current(ledger, call, admission, None) for admission in admissions])
            return Admitted(answers, (), self._woke(call))
        ledger.engines.asks(engine, request.pools)
        call.fresh = []
        answers = tuple([admit_current(ledger, call, admission, engine) for admission in admissions])
        warm = take_fresh(ledger, call, engine, request)
        deliveries = deliver(engine, engine.told, warm)
        return Admitted(answers, deliveries, self._woke(call))

    async def claim(self, now_ms: int, request: Request) -> Claimed:
        """See `Store.claim`."""
        ledger = self._ledger
        engine = ledger.engines.living(request.engine)
        if engine is None:
            return Claimed()
        call = Call(now_ms, engine)
        ledger.engines.asks(engine, request.pools)
        more_due = promote(ledger, call)
        warm, more_jobs = take(ledger, call, engine, request)
        deliveries = deliver(engine, request.seen, warm)
        candidates, more_candidates = ledger.candidates.hand_out(engine)
        more = more_due or more_jobs or more_candidates
        return Claimed(deliveries, candidates, more, next_due(ledger), self._woke(call))

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        """See `Store.commit`."""
        ledger = self._ledger
        writer = ledger.engines.living(engine)
        if writer is None:
            return Committed(tuple([_STALE if isinstance(item, Commit) else _OK for item in items]))
        call = Call(now_ms, writer)
        answers: list[CommitAnswer] = []
        for item in items:
            if isinstance(item, Commit):
                answers.append(commit_one(ledger, call, writer, item))
            else:
                matching.decide(ledger, call, item)
                answers.append(_OK)
        return Committed(tuple(answers), deliver(writer, writer.told), self._woke(call))

    async def cancel(
        self, now_ms: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        """See `Store.cancel`."""
        ledger, call = self._ledger, Call(now_ms)
        found = [ledger.runs.by_id.get(run_id) for run_id in runs]
        answers = tuple(
            [Cancellation.UNKNOWN if run is None else ledger.cancel(call, run, reason) for run in found]
        )
        return answers, self._woke(call)

    # ------------------------------------------------------------ around them

    async def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        """See `Store.waiting`."""
        found, more = self._ledger.waits.page(name, keys, after, limit)
        waits = tuple([(waiter.run.id, waiter.wait) for waiter in found])
        return Waiting(self._ledger.events.last, waits, more)

    async def wait_for_work(self, engine: str) -> None:
        """See `Store.wait_for_work`. Returns at once for an engine that is not (or no more) alive."""
        found = self._ledger.engines.living(engine)
        if found is not None:
            await found.bell.wait()
            found.bell.clear()

    def _woke(self, call: Call) -> frozenset[str]:
        """The pools that have new work by `call`; engines that host them, besides the caller, are rung."""
        if not call.woke:
            return _NONE
        woke = self._ledger.lanes.awake(call.woke)
        self._ledger.engines.ring(woke, call.engine)
        return woke

    async def sweep(self, now_ms: int, cutoffs: Cutoffs) -> bool:
        """See `Store.sweep`."""
        ledger = self._ledger
        removed, more = ledger.runs.sweep(cutoffs)
        for run in removed:
            for event in run.events:
                ledger.events.release(event)
        more |= ledger.events.sweep(now_ms, cutoffs.events)
        more |= ledger.latches.sweep(now_ms)
        more |= ledger.rates.sweep(now_ms)
        more |= ledger.lanes.sweep(now_ms)
        return more

    # ------------------------------------------------------------ reads for people

    async def history(self, run_id: str) -> History | None:
        """See `Store.history`."""
        run = self._ledger.runs.by_id.get(run_id)
        return None if run is None else history(run)

    async def runs(self, query: RunQuery) -> tuple[History, ...]:
        """See `Store.runs`."""
        found = islice(self._ledger.runs.matching(query), query.limit)
        return tuple([history(run, memos=False) for run in found])

    async def events(self, query: EventQuery) -> tuple[StoredEvent, ...]:
        """See `Store.events`."""
        return tuple(islice(self._ledger.events.newest(query), query.limit))
