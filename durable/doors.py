"""What passes the doors of a store: admissions, claims, commits, their answers; and queries. See `records`."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from durable.stored import (
    Batch,
    Debounce,
    Fired,
    History,
    Latch,
    Memo,
    NewEvent,
    Parent,
    Rate,
    Rule,
    RunStatus,
    Singleton,
    Slot,
    StoredEvent,
    Throttle,
    Timer,
    Verb,
    Wait,
)

# ---------------------------------------------------------------- admit


class Plan(Struct, frozen=True):
    """One function would like to start one run for an event.

    Decided in this order: `once`, `rate`, `batch` or `debounce`, `singleton`, paused, run.
    All is read before anything is written: a plan that is refused consumes nothing.

    Args:
        function: ``"<app>/<id>"``, which is also the pool of its jobs.
        run: The id of the run that it would create (a ULID).
        due: Not before this time (ms).
        priority: Seconds by which its rank is better, -600..600.
        parent: Who invoked it; is told of the end, or that there will be no run.
        start_timeout: When the run is cancelled if it has not been claimed (absolute ms).
        finish_timeout: How long after its first claim the run is cancelled (ms).
        memos: What the new run already knows (a rerun from a step).
        origin: The run of which it is a rerun.
    """

    function: str
    run: str
    due: int
    priority: int = 0
    parent: Parent | None = None
    once: tuple[Latch, ...] = ()
    rate: Rate | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    singleton: Singleton | None = None
    throttle: Throttle | None = None
    slots: tuple[Slot, ...] = ()
    waits: tuple[Wait, ...] = ()
    start_timeout: int | None = None
    finish_timeout: int | None = None
    memos: tuple[Memo, ...] = ()
    origin: str | None = None


class Signal(Struct, frozen=True):
    """A signal to be given to the one wait for `name`; with none, it is gone."""

    name: str
    data: bytes


class Cursor(Struct, frozen=True):
    """A place that only moves forward: an admission whose `at` is not beyond it is a duplicate."""

    name: str
    at: int


class Hit(Struct, frozen=True):
    """A wait for which an event was evaluated, with the result: yes."""

    run: str
    ref: str


class Admission(Struct, frozen=True):
    """An event to be stored, with everything it causes; or a signal; or stored events once more.

    One of `event`, `signal` and `again` is set; with none, a `cursor` is moved and nothing else happens.

    Args:
        registry: The version of the registry that the plans and keys were made from. Where the store's is
            newer nothing is done, and the answer is `Outdated`: make the plans anew.
        keys: The event's entries for the index of waits: ``"<path>=<value>"`` of each known path.
        as_of: All waits registered up to this sequence have been evaluated...
        hits: ...and these matched.
        again: Sequences of stored events, for a rerun.
        cursor: Admitted only if it moves this cursor forward.
        memo: In a commit: the position of the memo whose value becomes ``true`` or ``false``, by whether a
            wait took the signal.
    """

    event: NewEvent | None = None
    plans: tuple[Plan, ...] = ()
    registry: int = 0
    keys: tuple[str, ...] = ()
    as_of: int = 0
    hits: tuple[Hit, ...] = ()
    signal: Signal | None = None
    again: tuple[int, ...] = ()
    cursor: Cursor | None = None
    memo: int | None = None


class Outcome(Struct, frozen=True):
    """What became of a plan of `function`: see `Verb`."""

    verb: Verb
    function: str
    run: str | None = None
    reason: str | None = None
    holder: str | None = None


class Candidate(Struct, frozen=True):
    """A wait that `event` may resolve: somebody has to evaluate `condition` and answer with a `Verdict`."""

    run: str
    ref: str
    condition: bytes
    event: StoredEvent


class New(Struct, frozen=True):
    """The admission is stored. `taken`: whether a wait took the signal."""

    seq: int
    outcomes: tuple[Outcome, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    taken: bool = False


class Duplicate(Struct, frozen=True):
    """The event was accepted before, or the cursor already stood there: these were its outcomes then."""

    seq: int
    outcomes: tuple[Outcome, ...] = ()


class Outdated(Struct, frozen=True):
    """Nothing was done: the registry has moved on to `version`."""

    version: int


AdmissionAnswer = New | Duplicate | Outdated


# ---------------------------------------------------------------- claim


class Request(Struct, frozen=True):
    """An engine asks for work.

    Args:
        engine: Who.
        seen: The greatest delivery number that it has; everything above it is delivered again.
        pools: The functions whose jobs it takes.
        limit: How many runs it takes at most.
    """

    engine: str
    seen: int
    pools: frozenset[str]
    limit: int


class Claim(Struct, frozen=True):
    """A run is yours, in generation `history.run.gen`, with all that it knows.

    One whose status is `cancelled` is yours only to announce its end (`Commit` with `End(CANCELLED)`).
    `warm`: it was parked with affinity to you, so that its memos, which you have, are left out; whoever
    has evicted it meanwhile reads `Store.history`.
    """

    no: int
    history: History
    warm: bool = False


class News(Struct, frozen=True):
    """Something happened to a run that is yours: things fired, or it was cancelled."""

    no: int
    run: str
    gen: int
    fired: tuple[Fired, ...] = ()
    cancelled: bool = False


Delivery = Claim | News


class Admitted(Struct, frozen=True):
    """The answers to `admit`: one an admission; deliveries to the asking engine; pools with new work."""

    answers: tuple[AdmissionAnswer, ...]
    deliveries: tuple[Delivery, ...] = ()
    woke: frozenset[str] = frozenset()


class Claimed(Struct, frozen=True):
    """The answer of `claim`.

    `more`: ask again, there was more than one answer holds. `next_due`: when a claim will find something
    without anybody's doing (timers, gates that open by time, buffers), or ``None``.
    """

    deliveries: tuple[Delivery, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    more: bool = False
    next_due: int | None = None
    woke: frozenset[str] = frozenset()


# ---------------------------------------------------------------- commit


class Stay(Struct, frozen=True):
    """The run goes on executing."""


class Park(Struct, frozen=True):
    """The run waits, and is nobody's.

    Args:
        affinity: The engine that keeps it warm, and gets it first.
        seen: Refs of fired things that the engine knows of and has no use for yet. They stay with the run,
            and do not queue it now. Without this a run that rests, while its code has not reached a step
            whose wait is over, would lose the step's result, or be woken for ever.
    """

    affinity: str | None = None
    seen: tuple[str, ...] = ()


class Yield(Struct, frozen=True):
    """The run gives its place back and queues again at once."""

    affinity: str | None = None


class End(Struct, frozen=True):
    """The run has ended with `status`: `output`, or `error` (an encoded record).

    `unmet` names the steps whose memos the code never met. `admit` is what tells of the end: it is stored with
    it, when the run is over, and not at all where the run turns out to be cancelled.
    """

    status: RunStatus
    output: bytes | None = None
    error: bytes | None = None
    unmet: tuple[str, ...] = ()
    admit: tuple[Admission, ...] = ()


Then = Stay | Park | Yield | End
STAY = Stay()


class Commit(Struct, frozen=True):
    """What one run has to write: applied whole, or refused whole.

    Args:
        run: The run.
        gen: The generation in which it was claimed: the fencing token, together with the engine.
        memos: Entries to append to the journal, in order.
        timers: Timers to set.
        waits: Waits to register.
        drop: Refs of timers, waits and fired things that are over, delivered or not.
        forget: The handler's attempt failed: remove its `WITHDRAWN` and `LATE` entries.
        attempt: Set the handler's count of attempts.
        ask: Refs under which the run queues for one more place each.
        free: How many additional places it gives back.
        admit: What becomes visible to others together with this.
        then: Where the run goes from here.
    """

    run: str
    gen: int
    memos: tuple[Memo, ...] = ()
    timers: tuple[Timer, ...] = ()
    waits: tuple[Wait, ...] = ()
    drop: tuple[str, ...] = ()
    forget: bool = False
    attempt: int | None = None
    ask: tuple[str, ...] = ()
    free: int = 0
    admit: tuple[Admission, ...] = ()
    then: Then = STAY


class Verdict(Struct, frozen=True):
    """A candidate was evaluated."""

    run: str
    ref: str
    seq: int
    matches: bool


class CommitState(Enum):
    """What became of a commit."""

    OK = 0
    STALE = 1  # the run is not yours (any more): nothing was stored
    CANCELLED = 2  # the run was cancelled: nothing was stored, but what it gave back is given back
    OUTDATED = 3  # one of its admissions was made from an old registry: nothing was stored


class CommitAnswer(Struct, frozen=True):
    """The answer to one `Commit`, with those to its admissions, first of `Commit.admit`, then of `End.admit`.

    That to a `Verdict` is always `OK`.
    """

    state: CommitState
    admitted: tuple[AdmissionAnswer, ...] = ()


class Committed(Struct, frozen=True):
    """The answers to `commit`: one an item, in order; deliveries to this engine; pools with new work."""

    answers: tuple[CommitAnswer, ...]
    deliveries: tuple[Delivery, ...] = ()
    woke: frozenset[str] = frozenset()


# ---------------------------------------------------------------- registry, cancellation, retention, reads


class Registration(Struct, frozen=True):
    """A function that an engine hosts, as data.

    `about` is opaque to stores: from it any engine of the store makes plans. `rules` are the limits that
    its jobs name; `paths` the (event name, path) pairs by which its cancellations are indexed.
    """

    function: str
    version: str
    about: bytes
    rules: tuple[tuple[str, Rule], ...] = ()
    paths: tuple[tuple[str, str], ...] = ()


class Registered(Struct, frozen=True):
    """A function as the registry knows it."""

    registration: Registration
    paused: bool = False


class Registry(Struct, frozen=True):
    """Everything by which events are matched; `version` grows with every change of it.

    `paths`: the (event name, path) pairs by which waits are indexed. `cursors`: see `Cursor`.
    """

    version: int
    functions: tuple[Registered, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    cursors: tuple[Cursor, ...] = ()


class Cancellation(Enum):
    """What became of the wish to cancel a run."""

    DONE = 0
    ENDED = 1  # it had ended before
    UNKNOWN = 2


class Waiting(Struct, frozen=True):
    """A page of open waits that need an evaluation, and the sequence up to which it is complete."""

    as_of: int
    waits: tuple[tuple[str, Wait], ...]
    more: bool = False


class Cutoffs(Struct, frozen=True):
    """Runs, memos of ended runs, and events older than these times (ms) may be removed."""

    runs: int
    steps: int
    events: int


class RunQuery(Struct, frozen=True):
    """Which runs: `since` <= created < `until`; `before` is the cursor: ids smaller than it; newest first."""

    function: str | None = None
    statuses: frozenset[RunStatus] = frozenset()
    event_id: str | None = None
    since: int | None = None
    until: int | None = None
    before: str | None = None
    limit: int = 50


class EventQuery(Struct, frozen=True):
    """Which events: `since` <= received < `until`; `before` is the cursor: sequences smaller than it."""

    name: str | None = None
    since: int | None = None
    until: int | None = None
    before: int | None = None
    limit: int = 50
