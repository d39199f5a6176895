"""A ledger of effects: what callbacks did, what the handler's own code did, and what it had been told before.

It outlives the engines, as the world outside of a process does. What is done after the moment of death is not
written down: in a process that has died nobody does it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from attrs import field, frozen, mutable

import durable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Key = tuple[str, int]
"""A step: its id, and how often that was met before."""


@frozen
class Effect:
    """One execution of a step's callback, and which results its handler had got before."""

    life: int
    run: str
    step: Key
    attempt: int
    told: frozenset[Key]

    @property
    def name(self) -> tuple[str, Key, int]:
        """What is executed once."""
        return self.run, self.step, self.attempt


@mutable(eq=False)
class Pass:
    """One call of a handler: what its own code did, in order, and the results that it got."""

    life: int
    run: str
    function: str
    notes: list[str] = field(factory=list)
    told: set[Key] = field(factory=set)
    returned: bool = False


@mutable
class Ledger:
    """Everything that one try did to the world."""

    life: int = 0
    dead: bool = False
    effects: list[Effect] = field(factory=list)
    passes: list[Pass] = field(factory=list)

    def executed(self, mine: Pass, step: Key, attempt: int, told: frozenset[Key]) -> None:
        """A callback does what it is for."""
        if not self.dead and mine.life == self.life:
            self.effects.append(Effect(self.life, mine.run, step, attempt, told))

    def begin(self, ctx: durable.Context) -> Pass:
        """A handler is called."""
        mine = Pass(self.life, ctx.run_id, ctx.function.id)
        if not self.dead:
            self.passes.append(mine)
        return mine

    def counts(self) -> Counter[tuple[str, Key, int]]:
        """How often each attempt of each step was executed."""
        return Counter(one.name for one in self.effects)


class Steps:
    """The steps of a run, written down: which results the handler has got."""

    def __init__(self, book: Recorded, steps: Any) -> None:
        self._book = book
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._steps, name)

        async def through(id: str, *args: Any, **kwargs: Any) -> Any:
            return await self._book.told(self._book.count(id), method(id, *args, **kwargs))

        return through

    def timeout(self, id: str, duration: Any) -> Any:
        """A time limit is no result of its own."""
        self._book.count(id)
        return self._steps.timeout(id, duration)


class Recorded:
    """What a handler of the corpus is given: the context, with everything written down."""

    def __init__(self, ledger: Ledger, ctx: durable.Context) -> None:
        self.ctx = ctx
        self.event = ctx.event
        self.step = Steps(self, ctx.step)
        self._ledger = ledger
        self._pass = ledger.begin(ctx)
        self._counts: Counter[str] = Counter()

    def count(self, id: str) -> Key:
        """Which repetition of a step this is."""
        index = self._counts[id]
        self._counts[id] += 1
        return id, index

    async def told(self, key: Key, result: Awaitable[Any]) -> Any:
        """The handler gets a result, which may be an error."""
        try:
            value = await result
        except durable.StepError:
            self._pass.told.add(key)
            raise
        self._pass.told.add(key)
        return value

    def note(self, text: str) -> None:
        """The handler's own code does something: it may be repeated, and is never lost."""
        self._pass.notes.append(text)

    def returned(self) -> None:
        """The handler has come to its end."""
        self._pass.returned = True

    async def run(self, id: str, value: Any = None, **how: Any) -> Any:
        """A step whose callback has an effect: see `callback`. Its value is its id, if none is given."""
        key = self.count(id)
        options = {one: how.pop(one) for one in ("retries", "timeout", "backoff") if one in how}
        steps = self.ctx.step.options(**options) if options else self.ctx.step
        return await self.told(key, steps.run(id, self.callback(key, id if value is None else value, **how)))

    def callback(
        self,
        key: Key,
        value: Any,
        *,
        turns: int = 0,
        fails: int = 0,
        error: Callable[[], Exception] = lambda: ValueError("no"),
        thread: bool = False,
        begun: asyncio.Event | None = None,
        until: asyncio.Event | None = None,
    ) -> Callable[[], Any]:
        """Take `turns`, fail `fails` times, and return `value`; or set `begun`, and wait for `until`."""

        def effect(told: frozenset[Key] | None = None) -> Any:
            attempt = durable.current().attempt
            self._ledger.executed(
                self._pass, key, attempt, frozenset(self._pass.told) if told is None else told
            )
            if attempt < fails:
                raise error()
            return value

        async def slowly() -> Any:
            told = frozenset(self._pass.told)
            if until is not None:
                effect(told)
                if begun is not None:
                    begun.set()
                await until.wait()
                return value
            for _ in range(turns):
                await asyncio.sleep(0)
            return effect(told)

        return effect if thread else slowly
