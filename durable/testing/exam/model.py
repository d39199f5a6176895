"""The brute-force model: the contract of `durable.store` as a program that can be read.

It keeps plain lists and dicts, scans everything, and answers with the records of the doors. No indexes, no
lanes, nothing asynchronous: whatever a store does for speed must come to the same answers.

Two things are left to stores, within bounds (see `Bounds`): how many runs `admit` claims at once, and which
pools beyond the necessary ones are called `woke`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, frozen

from durable.records import (
    Admitted,
    Cancellation,
    Claimed,
    Commit,
    CommitAnswer,
    CommitState,
    Committed,
    Cursor,
    Registered,
    Registry,
    Waiting,
)
from durable.store import SWEEP_MAX
from durable.testing.exam import (
    model_admission,
    model_claims,
    model_commits,
    model_gates,
    model_retention,
    model_runs,
    model_waits,
)
from durable.testing.exam.model_state import EngineState, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import (
        Admission,
        Cutoffs,
        EventQuery,
        History,
        Registration,
        Request,
        RunQuery,
        StoredEvent,
        Verdict,
    )
    from durable.testing.exam.model_state import Job

__all__ = ["Bounds", "Model"]


@frozen
class Bounds:
    """What the answer of the last call may be, where stores have a choice.

    Args:
        may_wake: The pools that `woke` may name; the answer of the model holds those that it must name.
        must_claim: Runs that `admit` claims, unless it has claimed as many as were asked for.
        throttled: Whether due turns stand before a throttle: `next_due` may then be earlier than the model's.
    """

    may_wake: frozenset[str] = frozenset()
    must_claim: frozenset[str] = frozenset()
    throttled: bool = False


class Model:
    """A store as it should be: each method mirrors the door of that name."""

    def __init__(self) -> None:
        self.world = World()
        self.bounds = Bounds()
        self._before: set[int] = set()  # jobs that were ready before this call
        self._pending: set[str] = set()  # pools that were called, and have not been emptied by a claim since
        self._last_job = 0
        self._claimed = 0  # when somebody claimed last (ms): only then time acts

    def _begin(self, now: int) -> None:
        world = self.world
        world.now = now
        world.queued_pools.clear()
        world.offered.clear()
        self._last_job = world.jobs
        self._before = {job.number for job in world.queued() if model_gates.ready(world, job)}

    def _woke(self, *, may: frozenset[str] = frozenset()) -> frozenset[str]:
        """Pools that must be called: in which something became ready, if nobody was called to them before."""
        world = self.world
        offered = {job.pool for job in world.queued() if self._gates(job) & world.offered}
        fresh = [job for job in world.queued() if job.number not in self._before]
        news = [job for job in fresh if model_gates.ready(world, job) and not self._was_opened_by_time(job)]
        must = {job.pool for job in news} - self._pending
        self.bounds = Bounds(may_wake=may | must | world.queued_pools | offered)
        self._pending |= self.bounds.may_wake
        return frozenset(must)

    def _was_opened_by_time(self, job: Job) -> bool:
        """Whether time alone has opened the way to the first of those who queue with it for the same gates.

        That one was ready before this call, or stood at a throttle when somebody claimed last; `next_due` has
        told when to come, and who comes finds all of them.
        """
        world, asked = self.world, model_gates.asks(self.world, job)
        queue = [
            other
            for other in world.queued()
            if other.ripe and other.pool == job.pool and model_gates.asks(world, other) == asked
        ]
        first = min(queue, key=lambda other: other.rank)
        return first.number <= self._last_job and (
            first.number in self._before or model_gates.throttle_was_shut(world, first, self._claimed)
        )

    # ------------------------------------------------------------ life

    def join(self, now: int, engine: str, lease: int = 0) -> bool:  # noqa: ARG002 - here death is known
        """An engine lives."""
        self._begin(now)
        others = any(state.lives for state in self.world.engines.values())
        self.world.engines[engine] = EngineState(engine)
        return others

    def leave(self, now: int, engine: str) -> None:
        """An engine is gone of its own will."""
        self._begin(now)
        state = self.world.engines.get(engine)
        if state is not None and state.lives:
            state.left = True
            self._release(engine, len(self.world.runs))
            self._woke()

    def extend(self, engine: str) -> bool:
        """Whether it still lives."""
        return self.world.lives(engine)

    def sever(self, engine: str) -> None:
        """The process of an engine has died."""
        self.world.engines[engine].severed = True

    def dead(self) -> tuple[str, ...]:
        """Engines whose process has died, and who have not been buried wholly."""
        owners = {run.owner for run in self.world.runs.values()}
        states = self.world.engines.values()
        return tuple(
            sorted(s.id for s in states if s.severed and not s.left and (not s.buried or s.id in owners))
        )

    def bury(self, now: int, engine: str) -> tuple[bool, frozenset[str]]:
        """Take its runs away from an engine."""
        self._begin(now)
        state = self.world.engines.get(engine)
        if state is None or state.left:
            return False, self._woke()
        state.buried = True
        more = self._release(engine, SWEEP_MAX)
        return more, self._woke()

    def _release(self, engine: str, limit: int) -> bool:
        owned = sorted(run.id for run in self.world.runs.values() if run.owner == engine)
        for run_id in owned[:limit]:
            run = self.world.runs[run_id]
            model_runs.let_go(self.world, run)
            if not run.cancelled:
                model_runs.queue_turn(self.world, run, self.world.now)
        return len(owned) > limit

    # ------------------------------------------------------------ registry

    def register(self, now: int, _engine: str, functions: Sequence[Registration]) -> Registry:
        """An engine hosts functions."""
        self._begin(now)
        world = self.world
        changed = [r for r in functions if world.registrations.get(r.function) != r]
        for registration in changed:
            world.registrations[registration.function] = registration
            world.paths.update(registration.paths)
        world.version += bool(changed)
        self._pending.update(job.pool for job in world.queued())
        return self.registry()

    def registry(self) -> Registry:
        """Everything by which events are matched."""
        world = self.world
        names = sorted(world.registrations)
        return Registry(
            version=world.version,
            functions=tuple(Registered(world.registrations[n], n in world.paused) for n in names),
            paths=tuple(sorted(world.paths)),
            cursors=tuple(Cursor(name, world.cursors[name].at) for name in sorted(world.cursors)),
        )

    def pause(self, now: int, function: str, paused: bool) -> None:
        """Pause a function, or let it go on."""
        self._begin(now)
        world = self.world
        if function in world.registrations and paused != (function in world.paused):
            world.paused ^= {function}
            world.version += 1

    # ------------------------------------------------------------ the three doors

    def admit(
        self,
        now: int,
        admissions: Sequence[Admission],
        request: Request | None = None,
        taken: Sequence[str] | None = None,
    ) -> Admitted:
        """Store events. `taken`: the runs that the store has claimed at once, to do as it did."""
        self._begin(now)
        world = self.world
        decider = request.engine if request is not None else None
        answers = tuple(model_admission.admit_current(world, admission, decider) for admission in admissions)
        if request is None or not world.lives(request.engine):
            return Admitted(answers, (), self._woke())
        self._look_at_time()
        must, due = self._must_claim(request), self._ripe_pools()
        warm = set[str]()
        for run in must if taken is None else taken:
            jobs = {job.run: job for job in self._claimable(request)}
            if run in jobs and model_claims.take(world, jobs[run], request.engine):
                warm.add(run)
        told = world.engines[request.engine].told
        deliveries = model_claims.deliveries(world, request.engine, told, warm)
        woke = self._woke(may=due)
        self.bounds = evolve(self.bounds, must_claim=frozenset(must))
        return Admitted(answers, deliveries, woke)

    def _claimable(self, request: Request) -> list[Job]:
        """Turns of this call that may be taken at once: nobody is overtaken, in their pool or at a gate."""
        world = self.world
        due = [(job, self._gates(job)) for job in world.queued() if job.ripe]

        def is_first(job: Job, gates: set[tuple[str, str]]) -> bool:
            return not any(
                (other.pool == job.pool and other.rank < job.rank and model_gates.ready(world, other))
                or (others & gates and (other.number <= self._last_job or other.rank < job.rank))
                for other, others in due
                if other is not job
            )

        return [job for job, gates in due if self._is_new(job, request) and is_first(job, gates)]

    def _must_claim(self, request: Request) -> list[str]:
        """Those that any store takes: nobody else is due in the pool, or asks for one of the gates."""
        world = self.world
        queued = [(job, self._gates(job)) for job in world.queued()]

        def is_alone(job: Job, gates: set[tuple[str, str]]) -> bool:
            return not any(
                (other.pool == job.pool and other.ripe and other.number <= self._last_job) or others & gates
                for other, others in queued
                if other is not job
            )

        must, doubtful = list[str](), set[str]()
        for job, gates in sorted(queued, key=lambda pair: pair[0].rank):
            if self._is_new(job, request) and job.pool not in doubtful:
                if is_alone(job, gates):
                    must.append(job.run)
                else:
                    doubtful.add(job.pool)
        return must[: request.limit]

    def _is_new(self, job: Job, request: Request) -> bool:
        """Whether it is a turn that this call has queued, for which the request asks, and that may start."""
        wanted = job.ref is None and job.number > self._last_job and job.pool in request.pools
        return wanted and model_gates.ready(self.world, job)

    def _look_at_time(self) -> None:
        """Jobs whose time has come are ready from now on; that is no doing of this call."""
        world = self.world
        unripe = [job for job in world.queued() if not job.ripe]
        world.ripen()
        self._before |= {job.number for job in unripe if model_gates.ready(world, job)}

    def _ripe_pools(self) -> frozenset[str]:
        """Pools in which something may have become ready by time alone, which nobody was told yet."""
        return frozenset(job.pool for job in self.world.queued() if job.ripe)

    def _gates(self, job: Job) -> set[tuple[str, str]]:
        return {ask.gate for ask in model_gates.asks(self.world, job)}

    def claim(self, now: int, request: Request) -> Claimed:
        """Take work."""
        self._begin(now)
        world = self.world
        if not world.lives(request.engine):
            return Claimed()
        self._claimed = now
        more = model_claims.promote(world)
        self._look_at_time()
        due = self._ripe_pools()
        warm, left = model_claims.take_best(world, request)
        deliveries = model_claims.deliveries(world, request.engine, request.seen, warm)
        candidates, more_candidates = model_waits.hand_out(world, request.engine)
        next_due = model_claims.next_due(world, request.pools if left > 0 else frozenset())
        woke = self._woke(may=due)
        self._pending -= {request.engine, *(request.pools if left > 0 else ())}
        throttled = any(model_gates.opening(world, job) is not None for job in world.queued())
        self.bounds = evolve(self.bounds, throttled=throttled)
        return Claimed(deliveries, candidates, more or more_candidates, next_due, woke)

    def commit(self, now: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        """Write what runs have to write."""
        self._begin(now)
        world = self.world
        answers: list[CommitAnswer] = []
        for item in items:
            if isinstance(item, Commit):
                answers.append(model_commits.commit_one(world, engine, item))
                continue
            answers.append(CommitAnswer(CommitState.OK))
            if world.lives(engine):
                model_waits.decide(world, item)
        if not world.lives(engine):
            return Committed(tuple(answers), (), self._woke())
        deliveries = model_claims.deliveries(world, engine, world.engines[engine].told, set())
        return Committed(tuple(answers), deliveries, self._woke())

    def cancel(
        self, now: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        """Cancel runs."""
        self._begin(now)
        known = [self.world.runs.get(run) for run in runs]
        answers = tuple(
            Cancellation.UNKNOWN if run is None else model_runs.cancel(self.world, run, reason)
            for run in known
        )
        return answers, self._woke()

    # ------------------------------------------------------------ around them

    def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        """A page of the open waits that have a condition; the waits of one run are never torn apart."""
        found = [
            opened
            for opened in self.world.open_waits()
            if opened.wait.event == name
            and opened.wait.condition is not None
            and opened.hears
            and (opened.wait.index == "" or opened.wait.index in keys)
            and opened.run > after
        ]
        page = [opened for n, opened in enumerate(found) if n < limit or opened.run == found[limit - 1].run]
        return Waiting(self.world.sequence, tuple((o.run, o.wait) for o in page), more=len(page) < len(found))

    def sweep(self, now: int, cutoffs: Cutoffs) -> bool:
        """Remove what is old."""
        self._begin(now)
        return model_retention.sweep(self.world, cutoffs)

    # ------------------------------------------------------------ reads for people

    def history(self, run_id: str) -> History | None:
        """One run with all that is known of it."""
        run = self.world.runs.get(run_id)
        return None if run is None else self.world.history(run)

    def runs(self, query: RunQuery) -> tuple[History, ...]:
        """Runs, newest first."""
        return model_retention.runs(self.world, query)

    def events(self, query: EventQuery) -> tuple[StoredEvent, ...]:
        """Events, newest first."""
        return model_retention.events(self.world, query)
