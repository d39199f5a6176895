"""Stores for the laws: one that tells what was committed, and one with bad weather around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from durable._core.catalog import registration
from durable.records import Commit, CommitState, New
from tests.laws.interpreter import child

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from durable.records import CommitAnswer, Committed, Verdict
    from tests.laws.recorder import Book


class Passing:
    """Passes every call on."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Witness(Passing):
    """Writes down what each run has committed."""

    def __init__(self, store: Any, book: Book) -> None:
        super().__init__(store)
        self._book = book

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        self._book.progress += 1
        answer: Committed = await self._store.commit(now_ms, engine, items)
        for item, one in zip(items, answer.answers, strict=True):
            if isinstance(item, Commit) and one.state is CommitState.OK and item.run in self._book.runs:
                self._book.runs[item.run].committed(_answered(item, one))
        return answer


def _answered(commit: Commit, answer: CommitAnswer) -> Commit:
    """The commit as it was applied: whether somebody took a signal, the store has found out."""
    taken = {
        admission.memo: b"true" if isinstance(one, New) and one.taken else b"false"
        for admission, one in zip(commit.admit, answer.admitted, strict=False)
        if admission.memo is not None
    }
    if not taken:
        return commit
    memos = [replace(one, value=taken.get(one.position, one.value)) for one in commit.memos]
    return replace(commit, memos=tuple(memos))


class Weather(Passing):
    """Every call takes some turns of the loop. One commit may be refused: another engine has taken over.

    Args:
        store: The store inside.
        random: What draws the turns.
        turns: How many turns a call takes at most, before it is applied and after.
        refuse: The number of the commit before which the engine is buried.
        stop: The number of the commit at which the engine is to be stopped.
        outdate: The number of the commit before which the registry changes.
    """

    def __init__(
        self,
        store: Any,
        random: Random,
        *,
        turns: int = 0,
        refuse: int = 0,
        stop: int = 0,
        outdate: int = 0,
    ) -> None:
        super().__init__(store)
        self._random = random
        self._turns = turns
        self._refuse = refuse
        self._stop = stop
        self._outdate = outdate
        self.commits = 0
        self.stopped = asyncio.Event()
        """It is time to stop."""
        self.refused = False

    async def _take_time(self) -> None:
        if self._turns:
            for _ in range(self._random.randrange(self._turns)):
                await asyncio.sleep(0)

    async def _through(self, name: str, *args: Any) -> Any:
        await self._take_time()
        answer = await getattr(self._store, name)(*args)
        await self._take_time()
        return answer

    async def admit(self, *args: Any) -> Any:
        return await self._through("admit", *args)

    async def claim(self, *args: Any) -> Any:
        return await self._through("claim", *args)

    async def wait_for_work(self, engine: str) -> None:
        await self._store.wait_for_work(engine)

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Any:
        self.commits += 1
        if self.commits == self._refuse:
            self.refused = True
            more = True
            while more:
                more, _ = await self._store.bury(now_ms, engine)
        if self.commits == self._stop:
            self.stopped.set()
        if self.commits == self._outdate:
            about = registration("app", f"v{self.commits}", child.config)
            await self._store.register(now_ms, engine, [about])
        return await self._through("commit", now_ms, engine, items)
