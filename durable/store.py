"""The contract of every store: three doors, and the little that stands around them.

The docstrings here are the law; `durable.testing.exam` is the same law in executable form, and a store that
passes it is a store. There are no capability flags: a store does all of it.

What holds for every door:

- It takes a **batch** and answers item by item. Each item is atomic by itself: one that is refused does not
  fail its neighbours. All that is stored is durable when the call returns.
- `now_ms` is an argument: no store reads a clock, so that time can be moved under every store.
- A door that raises `StoreError` has done nothing. An await that was cancelled means "unknown, but whole".
  A store that sends commands over a network repeats them itself, with a token, so that they act once.
- Cost does not grow with the backlog, with saturated keys, with sleeping runs or with finished ones.

Words: a run is **owned** by an engine from claim to park, yield or end; a **parked** run is nobody's. Its
**jobs** wait in one queue: a `turn` (the run wants to execute), timers, flushes of buffers, places. A job
whose time has come stands in a **lane**, all jobs with the same pool, throttle and slots; a lane is *ready*
by the rank of its head, or *blocked* on exactly one gate. ``rank = (due - 1000 * priority) * 1024 + n %
1024`` where n numbers the jobs in order of creation: priority moves the rank, never the due time.

This module may not know any store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import (
        Admission,
        Admitted,
        Cancellation,
        Claimed,
        Commit,
        Committed,
        Cutoffs,
        EventQuery,
        History,
        Registration,
        Registry,
        Request,
        RunQuery,
        StoredEvent,
        Verdict,
        Waiting,
    )

__all__ = ["BATCH_MAX", "CANDIDATES_MAX", "HOLD_MS", "LOOK_AHEAD", "PROMOTE_MAX", "SWEEP_MAX", "Store"]

BATCH_MAX = 256
"""Items in one call of `admit` or `commit`, at most."""

PROMOTE_MAX = 256
"""Due timers that one `claim` turns into fired things, at most; then it answers `more`."""

LOOK_AHEAD = 32
"""One `claim` of n runs moves at most ``LOOK_AHEAD + 4 * n`` lanes; then it answers `more`."""

CANDIDATES_MAX = 256
"""Candidates in one answer of `claim`, at most."""

SWEEP_MAX = 256
"""Runs that one call of `bury` or `sweep` handles, at most."""

HOLD_MS = 24 * 3600 * 1000
"""How long the id of an event is remembered, from its first acceptance."""


@runtime_checkable
class Store(Protocol):
    """Where events, runs, memos, timers, waits and the state of gates live."""

    # ------------------------------------------------------------ life

    async def open(self) -> None:
        """Make the store usable. Opening an open store counts: it closes with the last `close`.

        Raises:
            StoreError: It cannot be reached, read or written, or its data is from a newer version.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and locks. Engines that did not `leave` are then found among the dead."""
        ...

    async def join(self, now_ms: int, engine: str) -> None:
        """`engine`, an id that was never used before, is alive from now on: until it leaves, or is buried."""
        ...

    async def leave(self, now_ms: int, engine: str) -> None:
        """`engine` is gone of its own will. It has parked or yielded its runs; any others are released."""
        ...

    async def extend(self, engine: str) -> bool:
        """Say that `engine` lives. ``False``: it was buried, nothing that it writes will be accepted."""
        ...

    async def dead(self, lease_ms: int) -> tuple[str, ...]:
        """Engines that have joined, not left, and are known to be dead.

        Liveness is never judged by `now_ms` (SEMANTICS 50): an operating system's lock that is free proves
        death at once; one that is held proves nothing, and then a heartbeat that did not change for
        `lease_ms` of the *observer's* monotonic clock decides.
        """
        ...

    async def bury(self, now_ms: int, engine: str) -> tuple[bool, frozenset[str]]:
        """Take what a dead engine owned away from it, and queue it again.

        First the engine is marked: none of its writes is accepted from then on. Then up to `SWEEP_MAX` of
        its runs are released, each in the turn that it had (same attempt, `queued`). A run that was
        cancelled is queued to be announced; places and latches that its engine held for it are free.

        Returns:
            Whether there are more to release; the pools that have new work.
        """
        ...

    # ------------------------------------------------------------ registry

    async def register(self, now_ms: int, engine: str, functions: Sequence[Registration]) -> Registry:
        """`engine` hosts `functions`: from now on events start runs of them, wherever they are sent.

        What differs from the registration that is stored replaces it, and makes a new version. Rules that
        changed hold for what is queued already: a raised limit wakes the lanes that wait at it.
        """
        ...

    async def registry(self) -> Registry:
        """Everything that is needed to match events."""
        ...

    async def pause(self, now_ms: int, function: str, paused: bool) -> None:
        """While a function is paused, plans of it leave `skipped` runs (reason ``paused``)."""
        ...

    # ------------------------------------------------------------ the three doors

    async def admit(
        self, now_ms: int, admissions: Sequence[Admission], request: Request | None = None
    ) -> Admitted:
        """Store events, and everything that they cause.

        For each admission, in order:

        1. One made from an old registry is answered `Outdated`, and nothing is done.
        2. An event with `once` whose (name, id) was accepted in the last `HOLD_MS` is answered `Duplicate`
           with the first outcomes. A cursor that does not move is a duplicate, too.
        3. The event is stored, and gets the next sequence number.
        4. Its waits: open waits with this event name, registered before, whose `index` is ``""`` or among
           `keys`. One without `condition` matches. One with a condition matches if it is among `hits`; is
           left alone if it was registered at or before `as_of`; and is a *candidate* otherwise: the answer
           holds it, and the store keeps it until a `Verdict` comes, through `claim` if need be. A match
           fires a `RESUME` wait and removes it with its time-out; a match of a `CANCEL` wait cancels the
           run. A wait with undecided candidates is resolved in the order of their sequences; its time-out
           closes it to new events and is held until all are decided. Waits of runs that were created by
           this very admission do not see its event.
        5. Its plans, in the order that stands at `Plan`. The run is created with its event, its waits, its
           start time-out, and a turn due at `due`. A plan that creates no run and has a parent fires the
           parent's wait (`Cause.CHILD`, status `SKIPPED`, `value` the reason as JSON text).

        A signal fires the one wait for its name, if there is one.

        With a `request`, what became ready by this call is claimed at once, as by `claim`: runs that are
        due, whose pool is among the request's and has no ready lane, whose gates all pass, and none of
        whose gates is asked for by another queued job (so that nobody is overtaken).
        """
        ...

    async def claim(self, now_ms: int, request: Request) -> Claimed:
        """Take work.

        1. Deliveries to this engine with numbers above `request.seen` are repeated: a lost answer strands
           no run. A claim is repeated with the run's present history; news with everything that is fired
           and not dropped.
        2. Up to `PROMOTE_MAX` timers that are due fire, in order of (due, creation). A `RESUME` timer
           becomes a `Fired` of its run; an owned run hears of it as `News`, a parked one gets a turn (one
           at most, due when the first of them fell due). A time-out of a wait fires with `Cause.DUE` and
           removes the wait. A `CANCEL` timer cancels the run, with the timer's ref as reason. Buffers that
           are due create their runs.
        3. Up to `request.limit` turns in the pools are taken, best rank first: each takes the smallest head
           among the pools' ready lanes, checks its gates, and either takes it or moves its lane to the
           first gate that is shut. A run that is taken is owned by the engine, in a generation greater by
           one. Its first claim sets `started`, removes its start time-out, and sets its finish time-out as
           a `CANCEL` timer ``!finish``.
           A run that was parked with affinity to this engine comes without its memos (`Claim.warm`).
        4. Candidates that nobody who lives is known to be deciding are handed out.

        Deliveries are numbered per engine, 1, 2, 3 and so on, over all doors.
        """
        ...

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        """Write what runs have to write. At most one `Commit` per run in a batch.

        **Fence.** A commit is accepted from the engine that owns the run in this generation; or from the
        one to which a parked run has affinity, if the generation is still the same: the run is then its own
        again (and a turn that was queued for it is gone). Otherwise the answer is `STALE`, and nothing is
        stored.

        A commit that is accepted applies, in this order: `drop`, `forget`, `memos`, `attempt`, `timers`,
        `waits`, `ask` and `free`, `admit` (each admission as by the door, without a request), `then`.

        - A `Wait` for a signal that another wait has: with `replace` the other fires (`REPLACED`), else
          this one fires at once (`CONFLICT`). A wait for a child that has ended already fires at once. What
          fires at once for a run that stays owned is among the answer's `deliveries`.
        - `Park`: the run is nobody's. Things that fired and were not dropped queue it again at once.
        - `Yield`: it is nobody's and gets a turn, due now.
        - `End`: status, output and error are set; its jobs, waits and undropped things are removed; places
          and latches are free; parents are told (`Cause.CHILD`, with status and output or error).
          Admissions go first: if one of them cancels this very run, the end does not take place and the
          answer is `CANCELLED`.

        A commit for a run that was **cancelled** meanwhile stores nothing: the answer is `CANCELLED`. Its
        `free` and its `Park`, `Yield` or `End` still give back what the run held; it is then queued to be
        announced. A commit with ``End(CANCELLED)`` for a cancelled run announces it: its `admit` is stored,
        and the run is over.

        A commit with an admission from an old registry is answered `OUTDATED`, and nothing is stored.

        A `Verdict` of yes resolves its wait when no candidate with a smaller sequence is open; of no, removes
        the candidate. One that concerns nothing any more is ignored.
        """
        ...

    async def cancel(
        self, now_ms: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        """Cancel runs.

        The status is `cancelled` at once; timers, waits, turns and places that were queued are removed,
        parents are told (`Cause.CHILD`, status `CANCELLED`). A run that an engine owns hears of it as
        `News`; its places and latches are free when that engine has let go of it. One that nobody owns is
        queued to be announced: claimed, without gates, and ended with ``End(CANCELLED)`` and the internal
        events.

        Returns:
            What became of each; the pools that have new work.
        """
        ...

    # ------------------------------------------------------------ around them

    async def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        """Open waits for `name` under ``""`` and `keys` that have a condition, by run id and ref.

        `after` is the last run id of the page before. `as_of` is for `Admission.as_of`; of several pages
        the first one's.
        """
        ...

    async def wait_for_work(self, engine: str) -> None:
        """Return when somebody else may have made work for `engine`. May return for nothing, never misses."""
        ...

    async def sweep(self, now_ms: int, cutoffs: Cutoffs) -> bool:
        """Remove up to `SWEEP_MAX` of each sort of what is older than `cutoffs`; whether there is more.

        Runs that have not ended are never removed, nor their events, memos, timers and waits; events of
        runs that are still there stay, too. Latches that have run out go as well.
        """
        ...

    # ------------------------------------------------------------ reads for people

    async def history(self, run_id: str) -> History | None:
        """One run with all that is known of it, or ``None``."""
        ...

    async def runs(self, query: RunQuery) -> tuple[History, ...]:
        """Runs, newest first (by id), without their memos."""
        ...

    async def events(self, query: EventQuery) -> tuple[StoredEvent, ...]:
        """Events, newest first (by sequence)."""
        ...
