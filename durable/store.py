"""The contract of every store: three doors, and the little that stands around them.

The docstrings here are the law; `durable.testing.exam` is the same law in executable form, and a store that
passes it is a store. There are no capability flags: a store does all of it.

What holds for every door:

- It takes a **batch** and answers item by item. Each item is atomic by itself: one that is refused does not
  fail its neighbours. All that is stored is durable when the call returns.
- `now_ms` is an argument: no store reads a clock, so that time can be moved under every store.
- A door that raises `StoreError` has done nothing. An await that was cancelled means "unknown, but whole".
  `UnstorableError`, which is one, says that an item of the batch holds a value that the store can never hold:
  the caller gives the items again, one at a time, so that only that one is refused.
  A store that sends commands over a network repeats them itself, with a token, so that they act once.
- Cost does not grow with the backlog, with saturated keys, with sleeping runs or with finished ones.

Words: a run is **owned** by an engine from claim to park, yield or end; a **parked** run is nobody's. Its
**jobs** wait in one queue: a `turn` (the run wants to execute), timers, flushes of buffers, places. A job
whose time has come stands in a **lane**, all jobs with the same pool, throttle and slots; a lane is *ready*
by the rank of its head, or *blocked* on exactly one gate. ``rank = (due - 1000 * priority) * 1024 + n %
1024`` where n numbers the jobs in order of creation: priority moves the rank, never the due time. (A timer
that is set again is a new job; a debounce that slides is the old one.)

One **sequence** numbers events and the registrations of waits for events, so that `as_of` tells exactly
which waits it covers. Where several waits or runs are acted on at once, it is in order of (run, ref).

**Deliveries** are numbered per engine: whenever an engine's run is claimed, cancelled, or something of it
fires, by whichever door, the run gets the engine's next number. An answer to an engine holds of each of its
runs that got one since the last answer its state at the end of the call: the `Claim`, if that was not
answered yet, or else `News` with all that is fired and not dropped, under the run's last number; in order
of numbers. So no answer skips what an earlier call made known: `seen` is the greatest number received, or
where an answer was lost, the greatest before it.

A status is a function of the rest: final once the run is over; else `cancelled` as soon as it was cancelled;
`running` while owned; `queued` with a turn; `waiting` without.

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

    async def join(self, now_ms: int, engine: str, lease_ms: int = 0) -> bool:
        """`engine`, an id that was never used before, is alive from now on: until it leaves, or is buried.

        It sends a heartbeat several times in each `lease_ms`, by which others judge it; 0: it does not say.

        Returns:
            Whether others are there that joined and did not leave. Each of them hears its bell
            (`wait_for_work`): from now on they have to send heartbeats, and to look for each other's death.
        """
        ...

    async def leave(self, now_ms: int, engine: str) -> None:
        """`engine` is gone of its own will. It has parked or yielded its runs; any others are released."""
        ...

    async def extend(self, engine: str) -> bool:
        """Say that `engine` lives. ``False``: it was buried, nothing that it writes will be accepted."""
        ...

    async def dead(self, lease_ms: int) -> tuple[str, ...]:
        """Engines that have joined, not left, and are known to be dead.

        Liveness is never judged by `now_ms`: an operating system's lock that is free proves
        death at once; one that is held proves nothing, and then a heartbeat decides that did not change for
        the lease with which its engine joined (`lease_ms` is for those that did not say) of the *observer's*
        monotonic clock. Of the time between two calls at most half a lease counts: an observer that was
        held up itself does not know whether others could have sent any.
        """
        ...

    async def bury(self, now_ms: int, engine: str) -> tuple[bool, frozenset[str]]:
        """Take what a dead engine owned away from it, and queue it again.

        First the engine is marked: none of its writes is accepted from then on, and it is given nothing.
        Then up to `SWEEP_MAX` of its runs, by id, are released: each gets a turn, due now, with its attempt
        as it was and no affinity. One that was cancelled is queued to be announced; places and latches that
        its engine held for it are free. An engine that has left, or never joined, has nothing to bury.

        Returns:
            Whether there are more to release; the pools that have new work.
        """
        ...

    # ------------------------------------------------------------ registry

    async def register(self, now_ms: int, engine: str, functions: Sequence[Registration]) -> Registry:
        """`engine` hosts `functions`: from now on events start runs of them, wherever they are sent.

        What differs from the registration that is stored replaces it; a call that changes anything makes
        one new version. Rules that changed hold for what is queued already: a raised limit wakes the lanes
        that wait at it. A rule is looked up by function and name; a name that is unknown is no limit.
        """
        ...

    async def registry(self) -> Registry:
        """Everything that is needed to match events: functions, paths and cursors sorted.

        `paths` are those of registrations and of waits; once known they stay. The first wait for an (event,
        path) makes a new version, since events must be indexed by it from then on; cursors make none.
        """
        ...

    async def pause(self, now_ms: int, function: str, paused: bool) -> None:
        """While a function is paused, plans of it leave `skipped` runs (reason ``paused``).

        A change makes a new version of the registry. A function that is not registered cannot be paused.
        """
        ...

    # ------------------------------------------------------------ the three doors

    async def admit(
        self, now_ms: int, admissions: Sequence[Admission], request: Request | None = None
    ) -> Admitted:
        """Store events, and everything that they cause.

        For each admission, in order:

        1. One made from an old registry is answered `Outdated`, and nothing is done. (A signal needs none.)
        2. An event with `once` whose (name, id) was accepted in the last `HOLD_MS` is answered `Duplicate`
           with the first sequence and outcomes. A cursor that does not move is a duplicate, too, of the
           admission that moved it last.
        3. The event is stored, and gets the next sequence number. (For a signal, and for stored events
           `again`, `New.seq` is the sequence as it stands; those events meet no waits.)
        4. Its waits: open waits with this event name, registered before, whose `index` is ``""`` or among
           `keys`, and whose `until`, if they have one, is later than `now_ms`. One without `condition`
           matches. One with a condition matches if it is among `hits`; is left alone if it was registered
           at or before `as_of`; and is a *candidate* otherwise: the answer holds it, and the store keeps
           it until a `Verdict` comes, through `claim` if need be. A match fires a `RESUME` wait and removes
           it with its time-out; a match of a `CANCEL` wait cancels the run, with the wait's ref as reason.
           A wait with undecided candidates is resolved in the order of their sequences: a match is kept
           until the smaller ones are decided, and makes all that is greater, and new events, pointless. Its
           time-out is held until all are decided. Waits of runs that were created by this very admission
           do not see its event.
        5. Its plans, each by the first of these that applies; only what is accepted takes latches and rate:

           - A latch of `once` is held: `EXISTS`, with its holder.
           - The rate is used up: `SKIPPED` (``rate_limit``) for the first 100 of the key in any rolling
             period, then `DROPPED`.
           - It is buffered: `BUFFERED`, with the run id of the plan that opened the buffer. A debounce
             whose last event is newer (`ts`) than this plan's keeps it, and the plan is void; otherwise it
             takes plan and events of the new one, and the parent that is displaced is told ``debounced``.
             A batch keeps its first plan, and all events and parents. What is due at once (a full batch) is
             flushed at once. A buffer that is flushed goes through the points below.
           - A `singleton` without `replace` is held: `SKIPPED` (``singleton``, with the holder).
           - The function is paused: `SKIPPED` (``paused``).
           - `RUN`: with `replace` the singleton's holder is cancelled (reason ``singleton``); the latch is
             the new run's. The run is created with its event, its memos, a turn due at `due`, its waits, and
             its start time-out, a `CANCEL` timer ``!start``.

           A skipped run has no jobs, is over from the start, and is not announced. A plan that creates no
           run, or is void, fires its parent's wait, if that is open: `Cause.CHILD`, status `SKIPPED`, value
           the reason as JSON text (``"exists"``, ``"debounced"``, ...).

        A signal fires the one wait for its name, if there is one whose `until` is not reached.

        With a `request`, turns that this call queued are claimed at once, as by `claim`, best rank first:
        those that are due, in a pool of the request, whose gates pass. Nobody is overtaken: no turn is
        claimed while another one of its pool could go first, or while a job that was queued before asks
        for one of its gates. A store may leave turns to the next `claim` where their pool held due turns
        before, or where several jobs ask for a gate.

        Candidates of the answer are being decided by the engine of the request, or by nobody.
        """
        ...

    async def claim(self, now_ms: int, request: Request) -> Claimed:
        """Take work.

        1. Deliveries to this engine with numbers above `request.seen` are repeated: a lost answer strands
           no run. A claim is repeated with the run's present history.
        2. Up to `PROMOTE_MAX` timers, time-outs and buffers that are due fire, in order of (due, creation).
           A `RESUME` timer becomes a `Fired` of its run; an owned run hears of it as `News`, a parked one
           gets a turn (one at most, due when the first of them fell due). A time-out of a wait fires with
           `Cause.DUE` and removes the wait. A `CANCEL` timer cancels the run, with the timer's ref as
           reason. Buffers that are due create their runs. Time acts here and nowhere else: until then a
           buffer fills, and a wait that is due, though it hears no more, keeps its signal's name.
        3. Up to `request.limit` turns that are due in the pools are taken, best rank first: each takes the
           smallest head among the pools' ready lanes, checks its gates, and either takes it or moves its
           lane to the first gate that is shut. (A turn that was due when it was queued, or when a claim
           looked, stays due though a clock steps back.) Its gates: its throttle, if it was never claimed; a
           place of each of its slots; and the one place of its singleton (which runs of either kind take
           and ask for). A run that was cancelled has none. A run that is taken is owned by the engine, in a
           generation greater by one. Its first claim sets `started`, removes its start time-out, and sets
           its finish time-out as a `CANCEL` timer ``!finish``; that of a cancelled run does neither.
           A run that was parked with affinity to this engine comes without its memos (`Claim.warm`), but
           not when the claim is repeated.
           Places for which the engine's own runs ask stand in the pool of its name, ask for the slots
           alone, do not count against the limit, and come as `News` (`Cause.PLACE`).
        4. Candidates that nobody else who lives is known to be deciding are handed out, by (sequence, run,
           ref): this engine's own, too, as its last answer may be lost.

        `more` speaks of 2, of 4, and of lanes that were not looked at; not of `request.limit`. `next_due` may
        be too early where a throttle is concerned, but is later than `now_ms`. An engine that is not alive is
        answered with nothing.
        """
        ...

    async def commit(self, now_ms: int, engine: str, items: Sequence[Commit | Verdict]) -> Committed:
        """Write what runs have to write. At most one `Commit` per run in a batch.

        **Fence.** A commit is accepted from the engine that owns the run in this generation; or from the
        one to which a run that is nobody's has affinity, if the generation is still the same: the run is
        then its own again, without places (a turn that was queued for it is gone, and what is fired and
        stays undropped is told as `News`). Otherwise the answer is `STALE`, and nothing is stored. So it is
        for all commits of an engine that is not alive.

        A commit that is accepted applies, in this order: `drop` (timers, waits, fired things and places
        asked for, of these refs), `forget`, `memos`, `attempt`, `timers`, `waits`, `ask` and `free`, `admit`
        (each admission as by the door, without a request; its candidates are this engine's to decide),
        `then`. A timer or wait replaces the one with its ref; of several things that fire under one ref
        the first stays.

        - A `Wait` for a signal that another wait has: with `replace` the other fires (`REPLACED`), else
          this one fires at once (`CONFLICT`). A wait for a child that has ended, or is cancelled, already
          fires at once. What fires at once for a run that stays owned is among the answer's `deliveries`.
        - A `Wait` with `since_seq` or `since_ms` takes stored events (of a smaller sequence than its own) as
          candidates that nobody decides yet, the first `CANDIDATES_MAX` at once, the next when these are
          decided. (One without a condition has ``b""`` there: what the index says has to be checked, too.)
        - `Park`: the run is nobody's. Its own place and all others are free, places asked for or granted
          are forgotten. Things that fired and were not dropped queue it again at once, due now, except
          those that `seen` names: they stay with the run, in the history of its next claim and among later
          news, and do not queue it now. What fires later queues it as ever. But while a timer with the ref
          ``""`` is set its handler backs off, and only that timer queues it.
        - `Yield`: likewise, and it gets a turn, due now, in any case.
        - `End`: status, output and error are set; its jobs, waits and undropped things are removed; places
          and latches are free; parents, and other waits for it, are told (`Cause.CHILD`, with status and
          output or error). Then its `End.admit` is stored, in which the end is told of: no wait of the run
          hears that, and its latches are not held any more.

        If one of the commit's own `admit` cancels this very run, the `then` of the commit only gives back what
        the run held, it is queued to be announced, nothing of `End.admit` is stored, and the answer is
        `CANCELLED`, though all else is stored.

        A commit for a run that was **cancelled** meanwhile stores nothing: the answer is `CANCELLED`. Its
        `free` and its `Park`, `Yield` or `End` still give back what the run held; it is then queued to be
        announced. A commit with ``End(CANCELLED)`` for a cancelled run announces it: nothing is stored but its
        `End.admit`, and the run is over.

        A commit with an admission, in `admit` or `End.admit`, from an old registry (older than before the
        commit; of a cancelled run that is announced only `End.admit` counts) is answered
        `OUTDATED`, and nothing is stored. Its own waits may name new paths: no admission of the same commit is
        old because of that, and its `keys` are to hold their entries. `STALE` goes before `CANCELLED`, and
        that before `OUTDATED`.

        A `Verdict` of yes resolves its wait when no candidate with a smaller sequence is open; of no, removes
        the candidate. One that concerns nothing any more is ignored.
        """
        ...

    async def cancel(
        self, now_ms: int, runs: Sequence[str], reason: str
    ) -> tuple[tuple[Cancellation, ...], frozenset[str]]:
        """Cancel runs.

        The status is `cancelled` at once; timers, waits, undropped things, turns and places that were queued
        are removed, parents are told (`Cause.CHILD`, status `CANCELLED`). A run that an engine owns hears
        of it as `News`; its places and latches are free when that engine has let go of it. One that nobody
        owns is queued to be announced, due now: claimed, without gates, and ended with ``End(CANCELLED)``
        and the internal events, at which `ended` is set. A run that was cancelled before has `ENDED`.

        Returns:
            What became of each; the pools that have new work.
        """
        ...

    # ------------------------------------------------------------ around them

    async def waiting(self, name: str, keys: Sequence[str], after: str = "", limit: int = 256) -> Waiting:
        """Open waits for `name` under ``""`` and `keys` that have a condition, by run id and ref.

        `after` is the last run id of the page before; a page ends with a run's last wait, be it over `limit`.
        `as_of` is for `Admission.as_of`; of several pages the first one's. Waits to which new events are of
        no concern any more are left out.
        """
        ...

    async def wait_for_work(self, engine: str) -> None:
        """Return when somebody else may have made work for `engine`. May return for nothing, never misses."""
        ...

    async def sweep(self, now_ms: int, cutoffs: Cutoffs) -> bool:
        """Remove up to `SWEEP_MAX` of each sort of what is older than `cutoffs`; whether there is more.

        Runs that have not ended are never removed (a cancelled one ends with its announcement), nor their
        events, memos, timers and waits. Events stay that a run, a buffer, an undropped thing or an undecided
        wait still needs. Latches that have run out go as well.
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
