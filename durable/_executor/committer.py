"""Gathers what waits to be written, and writes it in one transaction.

Whatever sessions hand over while a transaction is under way goes into the next one: a run alone pays one
commit a step, a thousand runs together share each.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from durable._executor import ending
from durable._executor.patience import patiently
from durable._executor.post import SLICE
from durable.errors import UnstorableError
from durable.records import Commit, CommitAnswer, CommitState, Committed, Verdict

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from durable._core.catalog import Catalog
    from durable._executor.draft import Draft
    from durable._executor.session import Session
    from durable.clock import Clock
    from durable.store import Store

__all__ = ["Committer", "Landing"]

_log = logging.getLogger("durable.committer")

BATCH = 256
"""Commits in one transaction, at most."""

Sealed = tuple["Session", "Draft", Commit]


class Landing(Protocol):
    """Who is told what became of commits."""

    @property
    def catalog(self) -> Catalog:
        """What admissions are made from."""
        ...

    def asking(self) -> AbstractContextManager[object]:
        """A call whose answer may hold deliveries."""
        ...

    async def refresh(self) -> None:
        """Read the registry again."""
        ...

    def committed(self, answer: Committed, engine_id: str) -> None:
        """A batch of `engine_id` was answered: its deliveries and the pools it woke."""
        ...

    def judged(self) -> None:
        """Verdicts are written: there may be more candidates."""
        ...

    def landed(self, session: Session, draft: Draft, commit: Commit, answer: CommitAnswer, now: int) -> None:
        """One commit, written at `now`, was answered."""
        ...


class Committer:
    """Writes for all sessions of an engine, one transaction at a time."""

    def __init__(self, store: Store, engine_id: str, clock: Clock, landing: Landing) -> None:
        self._store = store
        self.engine_id = engine_id
        self._clock = clock
        self._landing = landing
        self._dirty: deque[Session] = deque()
        self._held: list[Session] = []
        self._verdicts: deque[Verdict] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.busy = False
        self._landing_now = 0
        self._told: asyncio.Future[None] | None = None

    def add(self, session: Session) -> None:
        """Write this session's draft with the next transaction."""
        if session.outbox.dirty:
            return
        session.outbox.dirty = True
        self._dirty.append(session)
        self._wake()

    def decide(self, verdicts: list[Verdict]) -> None:
        """Write these verdicts with the next transaction."""
        if verdicts:
            self._verdicts.extend(verdicts)
            self._wake()

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits to be written, is being written, or waits to be told."""
        return not (self._dirty or self._held or self._verdicts or self.busy or self._landing_now)

    def _wake(self) -> None:
        idle = self._idle
        if idle is not None and not idle.done():
            idle.set_result(None)

    async def run(self) -> None:
        """Write until cancelled; an error of the store delays what is to be written, and loses nothing."""
        while True:
            if not self._dirty and not self._verdicts:
                self._idle = self._loop.create_future()
                await self._idle
            self.busy = True
            sealed = self._seal()
            verdicts = [self._verdicts.popleft() for _ in range(min(len(self._verdicts), BATCH))]
            items = [*(commit for _, _, commit in sealed), *verdicts]
            if not items:
                self.busy = False
                if self._held:  # all that is dirty waits for what is under way
                    await self._all_told()
                continue
            with self._landing.asking():
                name = self.engine_id
                try:
                    now, answer = await self._write(items)
                except UnstorableError:
                    now, answer, sealed = await self._write_singly(sealed, verdicts)
                self._landing.committed(answer, name)
            if any(one.state is CommitState.OUTDATED for one in answer.answers):
                await patiently(self._landing.refresh, _log.error, "the registry cannot be read")
            if verdicts:
                self._landing.judged()
            self._landing_now += 1
            if len(sealed) <= SLICE:
                self._land(sealed, answer, now, 0)
            else:  # the next transaction is submitted before the news is told
                self._loop.call_soon(self._land, sealed, answer, now, 0)
            self.busy = False
            if self._landing_now > 1:  # the store answered without a pause: let others have the loop
                await self._all_told()

    async def _all_told(self) -> None:
        self._told = self._loop.create_future()
        await self._told

    def _seal(self) -> list[Sealed]:
        catalog = self._landing.catalog
        sealed: list[Sealed] = []
        while self._dirty and len(sealed) < BATCH:
            session = self._dirty.popleft()
            if session.lost:
                continue
            if session.outbox.in_flight:
                self._held.append(session)
                continue
            try:
                draft, commit = session.outbox.seal(session.run_id, session.gen, catalog)
            except Exception as error:
                _log.exception("run %s: its commit could not be made", session.run_id)
                session.crash(error)
                continue
            sealed.append((session, draft, commit))
        return sealed

    async def _write(self, items: list[Any]) -> tuple[int, Committed]:
        async def once() -> tuple[int, Committed]:
            now = self._clock.now_ms()
            return now, await self._store.commit(now, self.engine_id, items)

        return await patiently(once, _log.error, "the store refuses to write")

    async def _write_singly(
        self, sealed: list[Sealed], verdicts: list[Verdict]
    ) -> tuple[int, Committed, list[Sealed]]:
        """One of these can never be written: each goes by itself, so that it holds up no other."""
        now = self._clock.now_ms()
        written: list[Sealed] = []
        answers: list[Committed] = []
        for session, draft, commit in sealed:
            try:
                now, answer = await self._write([commit])
            except UnstorableError as error:
                if not ending.refused(session, draft, error):
                    self._landing.landed(session, draft, commit, CommitAnswer(CommitState.STALE), now)
                continue
            written.append((session, draft, commit))
            answers.append(answer)
        for verdict in verdicts:
            try:
                now, answer = await self._write([verdict])
            except UnstorableError as error:
                _log.error("a wait of run %s stays undecided: %s", verdict.run, error)
                continue
            answers.append(answer)
        merged = Committed(
            tuple(one for answer in answers for one in answer.answers),
            tuple(one for answer in answers for one in answer.deliveries),
            frozenset[str]().union(*(answer.woke for answer in answers)),
        )
        return now, merged, written

    def _land(self, sealed: list[Sealed], answer: Committed, now: int, start: int) -> None:
        for number in range(start, min(start + SLICE, len(sealed))):
            session, draft, commit = sealed[number]
            try:
                self._landing.landed(session, draft, commit, answer.answers[number], now)
            except Exception as error:
                _log.exception("run %s: the engine failed while it told of a commit", session.run_id)
                session.crash(error)
        if start + SLICE < len(sealed):
            self._loop.call_soon(self._land, sealed, answer, now, start + SLICE)
            return
        self._landing_now -= 1
        if self._held:
            self._dirty.extend(self._held)
            self._held.clear()
            self._wake()
        if self._told is not None and not self._told.done():
            self._told.set_result(None)
