"""A proof that the contract of `durable.store` can be kept in Lua on Valkey. Not a store to use.

It has the three doors, engines, the registry and reads. It lacks the gates (slots, throttle, rate, buffers,
singletons, additional places), retention and heartbeats (of a death it is told); its reads for people scan
everything.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from durable.errors import StoreError
from durable.records import (
    Admitted,
    Cancellation,
    Claimed,
    CommitAnswer,
    CommitState,
    Committed,
    Cursor,
    Registered,
    Registration,
    Registry,
    RunQuery,
    Waiting,
)
from tests.stores.valkey_spike import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import (
        Admission,
        Commit,
        Cutoffs,
        EventQuery,
        History,
        Request,
        StoredEvent,
        Verdict,
    )

__all__ = ["SpikeStore"]

_HERE = Path(__file__).parent
_PARTS = {
    "admit": ("prelude", "admission", "admit"),
    "claim": ("prelude", "claim"),
    "commit": ("prelude", "admission", "commit"),
    "around": ("prelude", "around"),
}
_SCRIPTS = {
    name: "\n".join((_HERE / f"{part}.lua").read_text() for part in parts) for name, parts in _PARTS.items()
}


class SpikeStore:
    """All keys begin with `prefix`; each door is one call of one script, whole or not at all."""

    def __init__(self, host: str, port: int, prefix: str) -> None:
        self.address = host, port
        self.prefix = prefix
        self.opened = 0
        self.client: redis.asyncio.Redis[bytes]

    async def _call(self, script: str, **call: Any) -> Any:
        return await self.send(script, {"now": 0, **call})

    async def send(self, script: str, call: dict[str, Any]) -> Any:
        """Call a script; where the connection fails, again, with the same token."""
        packed = wire.pack(call)
        for left in (2, 1, 0):
            try:
                return await self.scripts[script](keys=[self.prefix], args=[packed])
            except redis.exceptions.ConnectionError as error:
                if not left:
                    raise StoreError(str(error)) from error
        raise AssertionError

    async def _around(self, door: str, **call: Any) -> Any:
        return await self._call("around", door=door, **call)

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        self.opened += 1
        if self.opened == 1:
            host, port = self.address
            once = Retry(NoBackoff(), 0)  # `send` repeats
            self.client = redis.asyncio.Redis(host=host, port=port, retry=once)
            self.scripts = {name: self.client.register_script(text) for name, text in _SCRIPTS.items()}

    async def close(self) -> None:
        self.opened -= 1
        if self.opened == 0:
            await self.client.aclose()

    async def join(self, now_ms: int, engine: str, lease_ms: int = 0) -> bool:
        return bool((await self._around("join", now=now_ms, engine=engine, lease=lease_ms))[0])

    async def leave(self, now_ms: int, engine: str) -> None:
        await self._around("leave", now=now_ms, engine=engine)

    async def extend(self, engine: str) -> bool:
        return bool(await self._around("extend", engine=engine))

    async def sever(self, engine: str) -> None:
        """The process of an engine has died, and everybody knows."""
        await self._around("sever", engine=engine)

    async def dead(self, lease_ms: int) -> tuple[str, ...]:
        return tuple(engine.decode() for engine in await self._around("dead"))

    async def bury(self, now_ms: int, engine: str) -> tuple[bool, frozenset[str]]:
        more, woke = await self._around("bury", now=now_ms, engine=engine)
        return bool(more), wire.pools_out(woke)

    # ------------------------------------------------------------ registry

    async def register(self, now_ms: int, engine: str, functions: Sequence[Registration]) -> Registry:
        hosted = [
            {"name": f.function, "blob": wire.blob(f), "paths": ["\0".join(path) for path in f.paths]}
            for f in functions
        ]
        await self._around("register", now=now_ms, functions=hosted)
        return await self.registry()

    async def registry(self) -> Registry:
        version, flat, paused, paths, cursors = await self._around("registry")
        functions = [
            Registered(msgspec.msgpack.decode(packed, type=Registration), name in paused)
            for name, packed in zip(flat[::2], flat[1::2], strict=True)
        ]
        pairs = [path.decode().split("\0", 1) for path in paths]
        return Registry(
            version,
            tuple(sorted(functions, key=lambda f: f.registration.function)),
            tuple(sorted((name, path) for name, path in pairs)),
            tuple(Cursor(name.decode(), at) for name, at in sorted(cursors)),
        )

    async def pause(self, now_ms: int, function: str, paused: bool) -> None:
        await self._around("pause", now=now_ms, fn=function, paused=paused)

    # ------------------------------------------------------------ the three doors

    async def admit(
        self, now_ms: int, admissions: Sequence[Admission], request: Request | None = None
    ) -> Admitted:
        answers, deliveries, woke = await self._call(
            "admit",
            now=now_ms,
            token=secrets.token_bytes(12),
            admissions=[wire.admission_in(admission) for admission in admissions],
            request=wire.request_in(request),
        )
        return Admitted(
            tuple(map(wire.answer_out, answers)), wire.deliveries_out(deliveries), wire.pools_out(woke)
        )

    async def claim(self, now_ms: int, request: Request) -> Claimed:
        deliveries, candidates, more, due, woke = await self._call(
            "claim", now=now_ms, request=wire.request_in(request)
        )
        return Claimed(
            wire.deliveries_out(deliveries),
            wire.candidates_out(candidates),
            bool(more),
            due,
            wire.pools_out(woke),
        )

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        answers, deliveries, woke = await self._call(
            "commit",
            now=now_ms,
            token=secrets.token_bytes(12),
            engine=engine,
            items=[wire.item_in(item) for item in items],
        )
        states = tuple(
            CommitAnswer(CommitState(state), tuple(map(wire.answer_out, admitted)))
            for state, admitted in answers
        )
        return Committed(states, wire.deliveries_out(deliveries), wire.pools_out(woke))

    async def cancel(
        self, now_ms: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        answers, woke = await self._around(
            "cancel", now=now_ms, token=secrets.token_bytes(12), runs=runs, reason=reason
        )
        return tuple(map(Cancellation, answers)), wire.pools_out(woke)

    # ------------------------------------------------------------ around them

    async def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        as_of, found = await self._around("waiting", name=name, keys=keys, after=after)
        found.sort()
        page = [item for n, item in enumerate(found) if n < limit or item[0] == found[limit - 1][0]]
        waits = tuple((run.decode(), wire.wait_out(packed)) for run, _, packed in page)
        return Waiting(as_of, waits, more=len(page) < len(found))

    async def wait_for_work(self, engine: str) -> None:
        rung = asyncio.ensure_future(self.client.blpop([f"{self.prefix}bell:{engine}"]))
        try:
            await asyncio.shield(rung)
        finally:
            while not rung.done():  # while it connects, the client swallows a cancellation
                rung.cancel()
                await asyncio.wait((rung,), timeout=0.01)

    async def sweep(self, now_ms: int, cutoffs: Cutoffs) -> bool:
        raise NotImplementedError("retention")

    # ------------------------------------------------------------ reads for people

    async def history(self, run_id: str) -> History | None:
        raw = await self._around("history", run=run_id)
        return raw and wire.history_out(raw)

    async def runs(self, query: RunQuery) -> tuple[History, ...]:
        found = [wire.history_out(raw) for raw in await self._around("runs")]
        kept = [history for history in found if _is_asked_for(history, query)]
        return tuple(sorted(kept, key=lambda history: history.run.id, reverse=True)[: query.limit])

    async def events(self, query: EventQuery) -> tuple[StoredEvent, ...]:
        found = [wire.event_out(raw) for raw in await self._around("events")]
        kept = [
            event
            for event in found
            if (query.name is None or event.name == query.name)
            and (query.since is None or event.received >= query.since)
            and (query.until is None or event.received < query.until)
            and (query.before is None or event.seq < query.before)
        ]
        return tuple(sorted(kept, key=lambda event: event.seq, reverse=True)[: query.limit])


def _is_asked_for(history: History, query: RunQuery) -> bool:
    run = history.run
    return (
        (query.function is None or run.function == query.function)
        and (not query.statuses or run.status in query.statuses)
        and (query.event_id is None or query.event_id in [event.id for event in history.events])
        and (query.since is None or run.created >= query.since)
        and (query.until is None or run.created < query.until)
        and (query.before is None or run.id < query.before)
    )
