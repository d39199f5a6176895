"""The worker: asks for work, keeps the sessions of the runs that are its own, and sees that time passes.

It makes no store call while there is nothing to do: claims are caused by what was just written, by a timer
that falls due, by a place that becomes free, or by the doorbell of another process.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

from durable._core.admission import due_times, written_due_times
from durable._core.lifecycle import ended_record
from durable._executor import arming, callbacks, ending, hearing
from durable._executor.alarm import Alarm
from durable._executor.committer import Committer
from durable._executor.judging import judge
from durable._executor.keeping import Keepers
from durable._executor.patience import patiently
from durable._executor.post import Post
from durable._executor.session import Session
from durable._executor.warm import Warm
from durable.errors import DurableWarning, StoreError
from durable.records import (
    Admitted,
    Claim,
    CommitState,
    End,
    Park,
    Request,
    RunStatus,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
    from random import Random

    from durable._core.catalog import Catalog
    from durable._core.operations import Call
    from durable._executor.draft import Draft, Pending
    from durable._executor.intake import Intake
    from durable.clock import Clock
    from durable.context import Attempt
    from durable.engine import Engine
    from durable.functions import Function
    from durable.limits import Limits
    from durable.observers import Observers
    from durable.records import (
        Admission,
        Candidate,
        Commit,
        CommitAnswer,
        Committed,
        Delivery,
        RunRecord,
        Then,
    )
    from durable.store import Store

__all__ = ["Worker"]

_log = logging.getLogger("durable.worker")
_RETRY_SECONDS = 0.2


class Worker:
    """Executes runs of the functions that an engine hosts. Fulfils `host.Host` and `committer.Landing`."""

    def __init__(
        self,
        engine: Engine,
        engine_id: str,
        store: Store,
        clock: Clock,
        functions: Mapping[str, Function[Any]],
        *,
        limits: Limits,
        observers: Observers,
        random: Random,
        threads: callbacks.Threads,
        capacity: int,
        warm_for: int,
        max_warm: int,
        strict: bool,
        ended: Callable[[RunRecord], None],
        cancelled: Callable[[str], None],
        pulse: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.engine_id = engine_id
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.limits = limits
        self.observers = observers
        self.random = random
        self.strict = strict
        self.intake: Intake
        self.committer = Committer(store, engine_id, clock, self)
        self.sessions: dict[str, Session] = {}
        self.warm = Warm(warm_for, max_warm)
        self._store = store
        self._functions = functions
        self._pools = frozenset(functions)
        self._threads = threads
        self._capacity = capacity
        self._ended = ended
        self._cancelled = cancelled
        self._pulse = pulse
        self._warned: set[str] = set()
        self._backlog = False
        self._promised = 0
        self._wanted = asyncio.Event()
        self.post = Post(self.loop, self._hand_over, pulse)
        self.alarm = Alarm(self.loop, clock, self.warm, self._wanted.set)
        self._asked = False
        self._asking = False
        self.keepers = Keepers(self.loop, self._pulse)
        self.draining = False

    # ------------------------------------------------------------ asking for work

    def wake(self) -> None:
        """Ask for work soon."""
        self._asked = True
        self._wanted.set()

    @contextmanager
    def asking(self) -> Generator[Request, None, None]:
        """A call whose answer may hold deliveries: what it may claim for us, which may be nothing."""
        with self.post.numbers.asking():
            free = 0 if self.draining or not self._pools else max(0, self._free())
            self._promised += free
            try:
                yield Request(self.engine_id, self.post.numbers.seen, self._pools, free)
            finally:
                self._promised -= free
                if free and self._backlog:
                    self.wake()
                if self.draining:
                    self._pulse()

    def has(self, run_id: str) -> bool:
        """Whether a run is in this process: then its end will be told."""
        return run_id in self.sessions or self.post.brings(run_id)

    def _free(self) -> int:
        return self._capacity - (len(self.sessions) - len(self.warm)) - len(self.post) - self._promised

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way that could make work at the present time."""
        if (
            self._wanted.is_set()
            or self._asking
            or self.keepers
            or len(self.post)
            or not self.committer.at_rest
        ):
            return False
        due = self.alarm.next_due
        if due is not None and due <= self.clock.now_ms():
            return False
        return len(self.sessions) == len(self.warm)

    async def run(self) -> None:
        """Ask for work whenever there may be some, until cancelled."""
        while True:
            await self._wanted.wait()
            self._asking = True
            self._wanted.clear()
            self._evict_cold(self.clock.now_ms())
            try:
                if self._is_time() and await self.turn():
                    self.wake()
            except StoreError as error:
                _log.error("the store gives no work (%s); asking again in %.1f s", error, _RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)
                self.wake()
            self.alarm.set()
            self._asking = False
            self._pulse()

    def _is_time(self) -> bool:
        """Whether the store is to be asked: an eviction alone is no reason."""
        asked, self._asked = self._asked, False
        return asked or self.alarm.store_is_due

    async def turn(self) -> bool:
        """Ask once; whether there is more to ask for."""
        self.alarm.asking()
        with self.asking() as request:
            claimed = await self._store.claim(self.clock.now_ms(), request)
            if request.engine != self.engine_id:  # taken for dead meanwhile: what it says concerns nobody
                return True
            self.post.take(claimed.deliveries)
            self._backlog = sum(isinstance(one, Claim) for one in claimed.deliveries) >= request.limit
        self.alarm.told(claimed.next_due)
        await self._judge(claimed.candidates)
        # Places that were promised to another call, and were not taken, are free again.
        asked = bool(request.limit) or self.draining or not self._pools
        return claimed.more or (not asked and self._free() > 0)

    def _heard(self, woke: Iterable[str]) -> None:
        if self.engine_id in woke or not self._pools.isdisjoint(woke):
            self.wake()

    # ------------------------------------------------------------ deliveries

    def admitted(self, admissions: Sequence[Admission], answer: Admitted, now: int, request: Request) -> None:
        """What became of a batch of admissions, stored at `now`."""
        self.alarm.due(chain.from_iterable(due_times(one, now) for one in admissions))
        if request.engine == self.engine_id:
            self.post.take(answer.deliveries)
        self._heard(answer.woke)
        self._consider(answer.answers)
        self._pulse()

    def _consider(self, answers: Iterable[Any]) -> None:
        candidates = [one for answer in answers for one in getattr(answer, "candidates", ())]
        if candidates:
            self.keep(self._judge(candidates))

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """See `host.Host`."""
        self.keepers.keep(work)

    async def _judge(self, candidates: Iterable[Candidate]) -> None:
        self.committer.decide(await judge(candidates))

    def _hand_over(self, one: Delivery) -> None:
        if isinstance(one, Claim):
            self._claimed(one)
            return
        session = self.sessions.get(one.run)
        if session is not None and session.gen == one.gen:
            if one.cancelled:
                session.cancel()
                self._cancelled(one.run)
            session.hear(one.fired)

    def _claimed(self, claim: Claim) -> None:
        run = claim.history.run
        session = self.sessions.get(run.id)
        if run.status is RunStatus.CANCELLED:
            if session is not None:
                self._forget(session)
                self.keep(ending.unwind(session))
            self._announce(claim)
        elif session is not None and not claim.warm:  # another engine has gone on with it meanwhile
            self._lose(session)
            self._begin(claim)
        elif session is not None and not session.unwinding and session.end is None:
            self.warm.take(run.id)
            self.observers.run_resumed(run.id, run.function)
            session.resume(claim.history)
        elif claim.warm:
            self.keep(self._reload(claim))
        else:
            self._begin(claim)

    async def _reload(self, claim: Claim) -> None:
        """A run that we had parked and evicted came back without its memos."""
        history = await patiently(
            lambda: self._store.history(claim.history.run.id), _log.error, "an evicted run cannot be read"
        )
        if history is not None:
            self._begin(Claim(claim.no, history))

    def _begin(self, claim: Claim) -> None:
        run = claim.history.run
        self.alarm.due(timer.due for timer in claim.history.timers)
        session = Session(self, self._functions[run.function], claim.history)
        self.sessions[run.id] = session
        if self.draining:
            return session.let_go()  # the answer came too late
        self.observers.run_started(run.id, run.function)
        return session.start()

    def _announce(self, claim: Claim) -> None:
        session = Session(self, self._functions[claim.history.run.function], claim.history)
        self.sessions[session.run_id] = session
        ending.announce_cancelled(session)

    # ------------------------------------------------------------ what sessions ask for

    def call(self, op: Call, attempt: Attempt) -> Coroutine[Any, Any, Any]:
        """Call a step's function once."""
        return callbacks.call(op, attempt, self._threads)

    def arm(self, session: Session, pending: Pending) -> None:
        """Begin a fresh step that calls nothing."""
        arming.arm(session, pending)

    def warn_once(self, text: str) -> None:
        """Warn of something about a function, the first time."""
        if text not in self._warned:
            self._warned.add(text)
            warnings.warn(text, DurableWarning, stacklevel=6)

    def revived(self, session: Session) -> None:
        """A parked run goes on by itself: a cancelled await, say."""
        self.warm.take(session.run_id)
        if self.draining:
            session.halt()

    # ------------------------------------------------------------ what became of commits

    @property
    def catalog(self) -> Catalog:
        """See `committer.Landing`."""
        return self.intake.catalog

    async def refresh(self) -> None:
        """Read the registry again."""
        await self.intake.refresh()

    def committed(self, answer: Committed, engine_id: str) -> None:
        """A batch of `engine_id` was answered."""
        if engine_id == self.engine_id:
            self.post.take(answer.deliveries)
        self._heard(answer.woke)
        for one in answer.answers:
            if one.admitted:
                self._consider(one.admitted)
        self._pulse()

    def judged(self) -> None:
        """Verdicts are written: there may be more candidates."""
        self.wake()

    def landed(self, session: Session, draft: Draft, commit: Commit, answer: CommitAnswer, now: int) -> None:
        """One commit, written at `now`, was answered."""
        if answer.state is CommitState.OK:
            if commit.timers or commit.waits or commit.admit or isinstance(commit.then, End):
                self.alarm.due(written_due_times(commit, now))
                if any(one.since_seq is not None or one.since_ms is not None for one in commit.waits):
                    self.wake()  # stored events are candidates: a claim hands them out
            hearing.landed(session, draft, answer)
            self._went(session, commit)
        elif answer.state is CommitState.CANCELLED:
            session.outbox.landed()
            if session.end is None:
                session.cancel()
            elif isinstance(commit.then, End):
                ending.announce_cancelled(session)
            else:
                self._over(session, None)
        elif answer.state is CommitState.OUTDATED or session.gen != commit.gen:
            hearing.refused(session, draft)
        elif session.end is None and not session.lost:
            say = _log.debug if session.free else _log.warning  # a run that rests may go to any engine
            say("run %s was taken over by another engine; it is left to it", session.run_id)
            self._lose(session)
        else:
            session.lost = True
            self._over(session, None)

    def _went(self, session: Session, commit: Commit) -> None:
        session.free = isinstance(commit.then, Park)
        if commit.then is session.end or isinstance(commit.then, End):
            self._over(session, commit.then)
        elif isinstance(commit.then, Park) and session.may_rest(commit.gen):
            self._parked(session)

    def _parked(self, session: Session) -> None:
        session.parked = True
        run = session.run_id
        now = self.clock.now_ms()
        self.warm.put(session, now)
        self.observers.run_parked(run, session.history.run.function)
        self._evict_cold(now)
        self.alarm.set()
        self._place_is_free()

    def _over(self, session: Session, then: Then | None) -> None:
        self._forget(session)
        if isinstance(then, End):
            self.observers.run_ended(session.run_id, session.history.run.function, then.status)
            self._ended(ended_record(session.history.run, then, session.attempt, self.clock.now_ms()))
        self._place_is_free()

    def _forget(self, session: Session) -> None:
        if self.sessions.get(session.run_id) is session:
            del self.sessions[session.run_id]
            self.warm.take(session.run_id)

    def _place_is_free(self) -> None:
        if self._backlog:
            self.wake()
        self._pulse()

    def lose_all(self) -> None:
        """None of our runs is ours any more."""
        for session in list(self.sessions.values()):
            self._lose(session)
        self.post.discard()

    def _lose(self, session: Session) -> None:
        session.lost = True
        self._forget(session)
        self.keep(ending.unwind(session))

    # ------------------------------------------------------------ eviction

    def _evict_cold(self, now: int) -> None:
        for session in self.warm.cold(now):
            self._evict(session)

    def _evict(self, session: Session) -> None:
        self.sessions.pop(session.run_id, None)
        self.observers.run_evicted(session.run_id, session.history.run.function)
        self.keep(ending.unwind(session))

    # ------------------------------------------------------------ stopping

    def drain(self) -> None:
        """Let callbacks in flight end, and hand runs back before their next step."""
        self.draining = True
        for session in list(self.sessions.values()):
            if not session.parked:
                session.halt()

    def hurry(self) -> None:
        """Interrupt callbacks in flight; their attempts are given back."""
        for session in list(self.sessions.values()):
            if not session.parked and session.end is None and not session.unwinding:
                _log.warning("run %s is interrupted in a step: its attempt runs again later", session.run_id)
                ending.let_go(session)

    @property
    def empty(self) -> bool:
        """Whether no run is ours any more, parked ones apart, nor can come to us."""
        return len(self.sessions) == len(self.warm) and not (self._promised or self.post)

    async def close(self) -> None:
        """Drop the tasks of parked runs; they are nobody's, and are replayed when they go on."""
        self.alarm.stop()
        for session in self.warm.all():
            self._evict(session)
        await self.keepers.end()
