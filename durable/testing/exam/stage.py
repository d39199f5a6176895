"""What the example cases share: a store with an engine or two, and short ways to call its doors.

This module may not know any store.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, field

from durable.records import (
    STAY,
    Admission,
    AdmissionAnswer,
    Claim,
    Commit,
    CommitAnswer,
    Duplicate,
    New,
    NewEvent,
    News,
    Park,
    Plan,
    Registration,
    Request,
    Rule,
    Signal,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from durable.records import Admitted, Claimed, Fired, History, Outcome, Then
    from durable.store import Store
    from durable.testing.exam.harness import Harness

__all__ = ["F", "G", "Stage", "event", "plan", "staged"]

F, G = "app/f", "app/g"


def event(name: str = "thing/made", event_id: str = "e", *, ts: int = 0, once: bool = False) -> NewEvent:
    """An event."""
    return NewEvent(id=event_id, name=name, ts=ts, data=b"{}", once=once)


def plan(run: str, function: str = F, *, due: int = 0, **asks: Any) -> Plan:
    """A plan, due since long."""
    return Plan(function=function, run=run, due=due, **asks)


@define
class Stage:
    """A store, the time, and what engine ``"one"`` and others have received."""

    harness: Harness
    store: Store
    now: int = 1_700_000_000_000
    seen: dict[str, int] = Factory(dict[str, int])
    _ids: int = field(default=0, init=False)

    async def join(self, *engines: str) -> None:
        """Engines that host F and G."""
        for engine in engines:
            await self.store.join(self.now, engine)

    async def rules(self, function: str = F, **rules: Rule) -> None:
        """Register a function with limits."""
        about = Registration(function, "1", b"{}", tuple(rules.items()))
        await self.store.register(self.now, "one", (about,))

    # ------------------------------------------------------------ admit

    async def admit(self, *admissions: Admission, request: Request | None = None) -> Admitted:
        """Admit, with the registry as it stands."""
        return await self.store.admit(self.now, admissions, request)

    async def send(self, *plans: Plan, name: str = "thing/made", **more: Any) -> New:
        """An event with plans, and more of an admission."""
        self._ids += 1
        version = (await self.store.registry()).version
        sent = more.pop("event", None) or event(name, f"sent-{self._ids}", ts=self.now)
        answer = (await self.admit(Admission(event=sent, plans=plans, registry=version, **more))).answers[0]
        return as_new(answer)

    async def start(self, run: str, function: str = F, **asks: Any) -> Outcome:
        """An event with one plan; what became of it."""
        return (await self.send(plan(run, function, **asks))).outcomes[0]

    async def signal(self, name: str, data: bytes = b"1") -> bool:
        """A signal; whether somebody took it."""
        answer = (await self.admit(Admission(signal=Signal(name, data)))).answers[0]
        return as_new(answer).taken

    # ------------------------------------------------------------ claim

    def request(self, engine: str = "one", limit: int = 10, pools: Sequence[str] = (F, G)) -> Request:
        """An engine's wish for work."""
        return Request(engine, self.seen.get(engine, 0), frozenset(pools), limit)

    async def claim(self, engine: str = "one", limit: int = 10, pools: Sequence[str] = (F, G)) -> Claimed:
        """Claim, and take note of what has arrived."""
        answer = await self.store.claim(self.now, self.request(engine, limit, pools))
        numbers = [delivery.no for delivery in answer.deliveries]
        self.seen[engine] = max([self.seen.get(engine, 0), *numbers])
        return answer

    async def claimed(self, engine: str = "one", limit: int = 10, pools: Sequence[str] = (F, G)) -> list[str]:
        """The runs that a claim brings."""
        answer = await self.claim(engine, limit, pools)
        return [delivery.history.run.id for delivery in answer.deliveries if isinstance(delivery, Claim)]

    async def news(self, engine: str = "one") -> list[tuple[str, list[str]]]:
        """The news that a claim without limit brings: runs, and the refs that fired."""
        answer = await self.claim(engine, limit=0)
        news = [delivery for delivery in answer.deliveries if isinstance(delivery, News)]
        return [(item.run, [fired.ref for fired in item.fired]) for item in news]

    async def running(self, run: str, function: str = F, engine: str = "one", **asks: Any) -> None:
        """Start a run, and claim it."""
        await self.start(run, function, **asks)
        claimed = await self.claimed(engine)
        assert run in claimed, f"{run} was not claimed, but {claimed}"

    # ------------------------------------------------------------ commit

    async def commit(self, run: str, engine: str = "one", *, then: Then = STAY, **more: Any) -> CommitAnswer:
        """Commit something, in the run's present generation if none is given."""
        gen = more.pop("gen", None)
        if gen is None:
            gen = (await self.history(run)).run.gen
        item = Commit(run=run, gen=gen, then=then, **more)
        return (await self.store.commit(self.now, engine, (item,))).answers[0]

    async def park(self, run: str, engine: str = "one", *, affinity: str | None = None, **more: Any) -> None:
        """Park a run."""
        await self.commit(run, engine, then=Park(affinity), **more)

    # ------------------------------------------------------------ reads

    async def history(self, run: str) -> History:
        """All that is known of a run that must be there."""
        found = await self.store.history(run)
        assert found is not None, f"{run} is not there"
        return found

    async def status(self, run: str) -> str:
        """A run's status."""
        return str((await self.history(run)).run.status)

    async def fired(self, run: str) -> list[Fired]:
        """What has fired and was not dropped."""
        return list((await self.history(run)).fired)


def as_new(answer: AdmissionAnswer) -> New:
    """An answer that says: stored."""
    assert isinstance(answer, New), f"not new: {answer}"
    return answer


def as_duplicate(answer: AdmissionAnswer) -> Duplicate:
    """An answer that says: known."""
    assert isinstance(answer, Duplicate), f"no duplicate: {answer}"
    return answer


@asynccontextmanager
async def staged(harness: Harness, *engines: str) -> AsyncGenerator[Stage]:
    """A new store in which engine ``"one"`` has joined, and these others."""
    stage = Stage(harness, await harness.open())
    try:
        await stage.join("one", *engines)
        yield stage
    finally:
        await harness.close(stage.store)
