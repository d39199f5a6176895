"""Engines: who is alive, what each owns, hosts and has been told.

Duty: joining, leaving and dying, numbered deliveries, and the bell that `wait_for_work` listens to. All live
in one process, so that an engine is dead when somebody said so. It may not know runs from inside.
"""

from __future__ import annotations

from asyncio import Event
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .runs import Run
    from .waits import Pending

__all__ = ["Engine", "Engines"]


@define(eq=False)
class Engine:
    """One engine, from its join."""

    id: str
    alive: bool = True
    """Its writes are accepted: it has not left, and is not buried."""
    severed: bool = False
    delivered: int = 0
    """The number of the last delivery to it."""
    told: int = 0
    """The number of the last delivery that was in an answer to it."""
    news: dict[Run, None] = field(factory=dict["Run", None])
    """Runs of which it has not been told yet."""
    owned: dict[Run, None] = field(factory=dict["Run", None])
    deciding: dict[Pending, None] = field(factory=dict["Pending", None])
    pools: set[str] = field(factory=set[str])
    """Where it takes work from, as far as is known."""
    asked: frozenset[str] = frozenset()
    """The pools of its last request."""
    bell: Event = field(factory=Event)

    def number(self, run: Run) -> int:
        """The number of the next delivery, which concerns `run`."""
        self.delivered += 1
        self.news[run] = None
        return self.delivered


class Engines:
    """All engines that have joined, and where they can be reached."""

    __slots__ = ("_by_id", "_hosts")

    def __init__(self) -> None:
        self._by_id: dict[str, Engine] = {}
        self._hosts: dict[str, dict[Engine, None]] = {}

    def join(self, name: str) -> bool:
        """An engine is alive from now on; whether others are, who hear of it."""
        others = [one for one in self._by_id.values() if one.alive]
        for one in others:
            one.bell.set()
        engine = self._by_id[name] = Engine(name)
        self.hosts(engine, (name,))
        return bool(others)

    def find(self, name: str) -> Engine | None:
        """The engine, alive or not; ``None`` if it never joined."""
        return self._by_id.get(name)

    def living(self, name: str) -> Engine | None:
        """The engine, if its writes are accepted."""
        engine = self._by_id.get(name)
        return engine if engine is not None and engine.alive else None

    def dismiss(self, engine: Engine) -> None:
        """Nothing that it writes is accepted from now on; whoever waits in its name finds that out."""
        engine.alive = False
        for pool in engine.pools:
            hosts = self._hosts[pool]
            del hosts[engine]
            if not hosts:
                del self._hosts[pool]
        engine.pools.clear()
        engine.bell.set()

    def forget(self, engine: Engine) -> None:
        """It has left, or been buried, and owns nothing any more. Its id is never used again."""
        self._by_id.pop(engine.id, None)

    def sever_all(self) -> None:
        """The process lets go of the store."""
        for engine in self._by_id.values():
            engine.severed = engine.severed or engine.alive

    def dead(self) -> tuple[str, ...]:
        """Engines that are known to be dead, and still have something to be taken away."""
        return tuple(name for name, engine in self._by_id.items() if engine.severed)

    def hosts(self, engine: Engine, pools: Iterable[str]) -> None:
        """`engine` takes work from `pools`."""
        for pool in pools:
            self._hosts.setdefault(pool, {})[engine] = None
        engine.pools.update(pools)

    def asks(self, engine: Engine, pools: frozenset[str]) -> None:
        """`engine` asks for work from `pools`: whoever makes some rings its bell."""
        if pools is not engine.asked:
            engine.asked = pools
            self.hosts(engine, pools)

    def ring(self, pools: Iterable[str], caller: Engine | None) -> None:
        """There is work in `pools`; `caller` knows."""
        for pool in pools:
            for engine in self._hosts.get(pool, ()):
                if engine is not caller:
                    engine.bell.set()
