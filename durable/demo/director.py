"""Who runs the demo: starts a worker, sends events, kills it in the middle, starts another, and shows all."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durable.demo import ledger, payloads, report
from durable.demo.evidence import Snapshot, in_flight, weigh
from durable.demo.ledger import EFFECT, ERROR, READY
from durable.demo.processes import DemoFailedError, Worker
from durable.demo.worker import APP
from durable.engine import Engine
from durable.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.demo.evidence import Evidence
    from durable.demo.ledger import Entry
    from durable.demo.screen import Screen
    from durable.events import Event
    from durable.runs import Run

__all__ = ["direct"]

_LOOK_SECONDS = 0.12
_START_SECONDS = 30.0
_STALL_SECONDS = 30.0
_KILL_SECONDS = 3.0
"""The worker is killed at the latest so long after the events were sent."""

_SEND_AT_ONCE = 200


async def direct(screen: Screen, store: str | None, events: Sequence[Event[Any]]) -> bool:
    """Run the demo; whether the ledger proves what it should.

    Raises:
        ConfigError: `store` cannot survive the death of a process, or is no store.
        DemoFailedError: It could not be carried through.
    """
    if store is not None and store.startswith("memory:"):
        raise ConfigError(
            f"--store {store}: this store is gone with its process, and the demo kills the process: "
            "use one that survives, such as sqlite:///demo.db"
        )
    place = Path(tempfile.mkdtemp(prefix="durable-demo-"))
    url = store or f"sqlite:///{place / 'demo.db'}"
    play = _Play(screen, url, place, events)
    try:
        evidence = await play.run()
    except BaseException:
        if play.has_begun:
            screen.say(f"  What was written so far is in {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
        raise
    report.show(screen, evidence)
    if evidence.holds:
        shutil.rmtree(place, ignore_errors=True)
    else:
        screen.say(f"  The ledger and the log of the workers are in {place}")
    return evidence.holds


class _Play:
    """One performance."""

    def __init__(self, screen: Screen, store: str, place: Path, events: Sequence[Event[Any]]) -> None:
        self._screen = screen
        self._store = store
        self._log = place / "worker.log"
        self._ledger = place / "ledger.jsonl"
        self._events = events
        self._patterns = payloads.patterns_of(events)
        self._entries: list[Entry] = []
        self._read = 0
        self._since = datetime.now(UTC) - timedelta(seconds=1)
        self._client: Engine
        self._worker: Worker
        self._runs: dict[str, Run] = {}
        self.has_begun = False

    async def run(self) -> Evidence:
        """All acts; the evidence."""
        async with Engine(self._store, app=APP):
            report.title(self._screen, self._store, len(self._events))  # the store can be used
        self.has_begun = True
        await self._start()
        try:
            await self._ready(0)
            # An engine without functions is a client: it sends, and others execute.
            async with Engine(self._store, app=APP) as self._client:
                await self._send()
                await self._watch(until_kill=True)
                killed, at_kill = await self._kill()
                restarted = time.time()
                await self._start()
                await self._ready(killed)
                await self._watch(until_kill=False)
                at_end = await self._snapshot()
            await self._leave()
        finally:
            await self._worker.leave()
        self._look()
        return weigh(self._entries, at_kill, at_end, killed=killed, restarted=restarted)

    # ------------------------------------------------------------ the worker

    async def _start(self) -> None:
        self._worker = await Worker.start(self._store, self._ledger, self._patterns, self._log)
        self._screen.note(f"worker {self._worker.pid} starts")

    async def _ready(self, killed: int) -> None:
        give_up = time.monotonic() + _START_SECONDS
        while not any(one.what == READY and one.pid == self._worker.pid for one in self._entries):
            self._worker.check()
            if time.monotonic() > give_up:
                raise DemoFailedError(f"the worker was not ready within {_START_SECONDS:.0f} s")
            await asyncio.sleep(0.02)
            self._look()
        again = f" and takes over what {killed} left behind" if killed else ""
        self._screen.note(f"worker {self._worker.pid} executes{again}")

    async def _kill(self) -> tuple[int, Snapshot]:
        killed = self._worker.pid
        await self._worker.kill()
        self._look()
        self._screen.note(f"SIGKILL: worker {killed} is dead", "bad")
        snapshot = await self._snapshot()
        flying = in_flight(self._entries, frozenset({ERROR})) - snapshot.committed
        report.state_at_kill(self._screen, snapshot, len(flying))
        return killed, snapshot

    async def _leave(self) -> None:
        code = await self._worker.leave()
        if code:
            raise DemoFailedError(f"the worker did not leave in order: exit code {code}")

    # ------------------------------------------------------------ events and runs

    async def _send(self) -> None:
        began = time.perf_counter()
        ids: set[str] = set()
        for start in range(0, len(self._events), _SEND_AT_ONCE):
            ids.update(await self._client.send(self._events[start : start + _SEND_AT_ONCE]))
        took = time.perf_counter() - began
        async for run in self._client.runs(since=self._since, limit=200):
            if run.app == APP and run.event.id in ids:
                self._runs[run.id] = run
        if not self._runs:
            raise DemoFailedError("none of the events starts a function")
        self._screen.note(
            f"{len(ids)} events sent, durable in {took * 1000:.0f} ms; they start {len(self._runs)} runs"
        )

    async def _refresh(self, *statuses: str) -> Counter[str]:
        """Read how the runs stand that have one of these statuses (all of them, without): how many have which.

        Those that were invoked meanwhile are found, too.
        """
        found: Counter[str] = Counter()
        async for run in self._client.runs(since=self._since, status=statuses or None, limit=200):
            if run.id in self._runs or run.parent_id in self._runs:
                self._runs[run.id] = run
                found[run.status] += 1
        return found

    async def _snapshot(self) -> Snapshot:
        await self._refresh()
        runs = self._runs
        results: dict[tuple[str, str], str] = {}
        for run in runs.values():
            for step in await run.steps():
                if step.kind == "run" and step.status in ("completed", "failed"):
                    results[run.id, step.id] = step.status
        return Snapshot(
            {key: run.function_id for key, run in runs.items()},
            {key: str(run.status) for key, run in runs.items()},
            frozenset(results),
            frozenset(key for key, status in results.items() if status == "failed"),
            max((run.ended_at.timestamp() for run in runs.values() if run.ended_at), default=0.0),
        )

    # ------------------------------------------------------------ watching

    def _look(self) -> None:
        fresh, self._read = ledger.read(self._ledger, self._read)
        self._entries.extend(fresh)

    async def _watch(self, *, until_kill: bool) -> None:
        """Show how it goes: until it is time to kill the worker, or until every run has ended."""
        began = changed = time.monotonic()
        before: object = None
        while True:
            self._look()
            states = await self._refresh("queued", "running", "waiting")
            states["ended"] = len(self._runs) - states.total()
            flying = len(in_flight(self._entries, frozenset({EFFECT, ERROR})))
            report.progress(self._screen, states, self._entries, flying)
            ended = states["ended"]
            if ended == len(self._runs):
                return
            now = time.monotonic()
            if until_kill and (_is_worst_moment(states, ended, flying) or now - began > _KILL_SECONDS):
                return
            if (ended, len(self._entries)) != before:
                before, changed = (ended, len(self._entries)), now
            self._worker.check()
            if now - changed > _STALL_SECONDS:
                raise DemoFailedError(
                    f"nothing has happened for {_STALL_SECONDS:.0f} s; the runs: {dict(states)}"
                )
            await asyncio.sleep(_LOOK_SECONDS)


def _is_worst_moment(states: Counter[str], ended: int, flying: int) -> bool:
    """Some runs have ended, some wait, some queue, and steps are in flight."""
    return ended * 3 > states.total() and states["waiting"] > 0 and flying >= 4
