"""What is stored: words, events, what a run waits for, runs and memos. See `records`."""

from __future__ import annotations

from enum import Enum, StrEnum

from msgspec import Struct

# ---------------------------------------------------------------- words


class RunStatus(StrEnum):
    """Where a run stands. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def ended(self) -> bool:
        """Whether a run with this status will never execute again."""
        return self in _ENDED


_ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED})


class StepKind(StrEnum):
    """What a step does. A memo met again by a step of another kind is drift (`NondeterminismError`)."""

    RUN = "run"
    SLEEP = "sleep"
    WAIT = "wait"
    SIGNAL = "signal"
    SEND = "send"
    SEND_SIGNAL = "send_signal"
    INVOKE = "invoke"
    TIMEOUT = "timeout"
    AI = "ai"


class MemoState(Enum):
    """What became of a step: the two results, and the two ways in which a result is given up."""

    VALUE = 0
    ERROR = 1
    WITHDRAWN = 2  # its await was cancelled: it is never delivered
    LATE = 3  # its await was cancelled after delivery, before the task had picked the result up


class Effect(Enum):
    """What a timer that is due, or an event that matches a wait, does to the run."""

    RESUME = 0
    CANCEL = 1


class Cause(Enum):
    """Why something that a run waited for is over."""

    DUE = 0  # its time has come
    EVENT = 1  # an event matched
    CHILD = 2  # the run that it invoked has ended, or never came to be
    SIGNAL = 3  # a signal was sent
    REPLACED = 4  # another wait took the signal over
    CONFLICT = 5  # another run already waits for the signal
    PLACE = 6  # one more place was granted (concurrency)


class Verb(Enum):
    """What became of a plan."""

    RUN = 0  # a run was created
    BUFFERED = 1  # it was put into a buffer, which owns the run's id
    SKIPPED = 2  # a run with status `skipped` was recorded: `reason`, and for a singleton its `holder`
    DROPPED = 3  # nothing was recorded: `reason`
    EXISTS = 4  # a latch holds it: `run` is the run that took the latch


# ---------------------------------------------------------------- events


class NewEvent(Struct, frozen=True):
    """An event to be stored.

    `once`: the pair (name, id) is accepted one time in 24 hours. Set where the sender gave the id.
    """

    id: str
    name: str
    ts: int
    data: bytes
    user: bytes | None = None
    v: str | None = None
    once: bool = False


class StoredEvent(Struct, frozen=True):
    """An event with its place `seq` in the one order that all events of a store have."""

    seq: int
    id: str
    name: str
    ts: int
    received: int
    data: bytes
    user: bytes | None = None
    v: str | None = None


# ---------------------------------------------------------------- gates: what a plan asks for


class Latch(Struct, frozen=True):
    """Held from now for `hold` ms by the first run that asks for `key`."""

    key: str
    hold: int


class Slot(Struct, frozen=True):
    """One of the places of `gate`; `rule` names the limit in the registry. Asked for at every claim."""

    gate: str
    rule: str


class Throttle(Struct, frozen=True):
    """One passage through `gate` (GCRA); `rule` names limit, period and burst. Asked for once."""

    gate: str
    rule: str


class Rate(Struct, frozen=True):
    """At most `limit` acceptances of `key` in any rolling `period` ms; one more is dropped."""

    key: str
    limit: int
    period: int


class Debounce(Struct, frozen=True):
    """Keep the last event of `key`; flush `period` ms after it, at most `timeout` ms after the first."""

    key: str
    period: int
    timeout: int | None = None


class Batch(Struct, frozen=True):
    """Keep all events of `key`; flush at `size` of them, or `timeout` ms after the first."""

    key: str
    size: int
    timeout: int


class Singleton(Struct, frozen=True):
    """One live run per `key`: the newcomer is skipped, or with `replace` the holder is cancelled."""

    key: str
    replace: bool = False


class Rule(Struct, frozen=True):
    """A limit that jobs name: read when work starts, so that a change holds for what is queued.

    For a slot only `limit` counts. For a throttle: at once 1 + `burst`, then one per `period` / `limit` ms.
    """

    limit: int
    period: int = 0
    burst: int = 0


# ---------------------------------------------------------------- what a run waits for


class Timer(Struct, frozen=True):
    """Something that falls due. `ref` is its name within the run; a second one of that name replaces it.

    A retry carries the number of the `attempt` that it starts, and the `error` of the one before (an
    encoded record); `started` is when the step began, for people.
    """

    ref: str
    due: int
    effect: Effect = Effect.RESUME
    attempt: int = 0
    error: bytes | None = None
    kind: StepKind | None = None
    started: int = 0


class Wait(Struct, frozen=True):
    """A run waits for an event `name`, for a signal, or for a child.

    Exactly one of `event`, `signal`, `child` is set. Of events only those count whose sequence is greater
    than the store's at the moment of registration; with `since_seq` or `since_ms`, stored events after
    that sequence, or received at or after that time, are candidates besides.

    Args:
        ref: Its name within the run.
        event: The exact event name.
        path: The path in the event by which this wait is indexed, as text (``"data.order_id"``).
        index: ``f"{path}={value}"`` for the value that it needs there, or ``""``: any event of the name.
        condition: What is left to evaluate on those that the index finds, opaque to stores; ``None``:
            nothing, the index decides.
        signal: The signal's name.
        replace: Take a pending wait for `signal` over, instead of failing.
        child: The id of the run that was invoked.
        until: When it times out: from then on it hears neither events nor signals, and a claim ends it.
        effect: What a match does. (A time-out of a `CANCEL` wait only ends it.)
        kind: The step that waits, for people.
        started: When that step began, for people.
    """

    ref: str
    event: str | None = None
    path: str | None = None
    index: str = ""
    condition: bytes | None = None
    since_seq: int | None = None
    since_ms: int | None = None
    signal: str | None = None
    replace: bool = False
    child: str | None = None
    until: int | None = None
    effect: Effect = Effect.RESUME
    kind: StepKind | None = None
    started: int = 0


class Fired(Struct, frozen=True):
    """Something that a run waited for is over. It stays with the run until a commit drops its `ref`.

    `at` is when. `event` came with `Cause.EVENT`; `status` and `value` (output, or error record) with
    `Cause.CHILD`, where ``None`` or `SKIPPED` means that the child never ran and `value` then names the
    reason as JSON text; `value` is the data of a signal. `started` is when the step began (ms), as its
    timer or wait said; 0 where that is unknown, and for a place.
    """

    ref: str
    cause: Cause
    at: int
    event: StoredEvent | None = None
    status: RunStatus | None = None
    value: bytes | None = None
    timer: Timer | None = None
    started: int = 0


# ---------------------------------------------------------------- runs and memos


class Memo(Struct, frozen=True):
    """One entry of a run's journal.

    `position` orders the journal; `round` numbers the delivery to which the entry belongs.
    `value` is the encoded result, or the encoded error record.
    """

    position: int
    step: str
    index: int
    kind: StepKind
    round: int
    state: MemoState
    value: bytes | None = None
    digest: bytes | None = None
    attempts: int = 1
    started: int = 0
    ended: int = 0


class Parent(Struct, frozen=True):
    """The run that invoked, and the name of its wait."""

    run: str
    ref: str


class RunRecord(Struct, frozen=True):
    """A run as it stands. `function` is ``"<app>/<function id>"``; `gen` counts its claims."""

    id: str
    function: str
    status: RunStatus
    gen: int
    created: int
    due: int
    started: int | None = None
    ended: int | None = None
    attempt: int = 0
    parent: Parent | None = None
    output: bytes | None = None
    error: bytes | None = None
    reason: str | None = None
    holder: str | None = None
    origin: str | None = None
    unmet: tuple[str, ...] = ()


class History(Struct, frozen=True):
    """All that is known of a run: what a replay needs, and what a person wants to see."""

    run: RunRecord
    events: tuple[StoredEvent, ...]
    memos: tuple[Memo, ...] = ()
    timers: tuple[Timer, ...] = ()
    waits: tuple[Wait, ...] = ()
    fired: tuple[Fired, ...] = ()
