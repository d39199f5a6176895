"""Values as rows, and rows as values. May not know a door, nor open a transaction.

Words stand for enums. What users wrote comes as the bytes of JSON and is stored as text, by ``CAST`` in the
statements, so that it is readable in a shell and comes back byte by byte.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from durable.records import (
    Cause,
    Effect,
    Fired,
    Memo,
    MemoState,
    Outcome,
    Parent,
    RunRecord,
    RunStatus,
    StepKind,
    StoredEvent,
    Timer,
    Verb,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "ADD_EVENT",
    "ADD_MEMO",
    "EVENT",
    "FIRED",
    "MEMO",
    "MEMO_COLUMNS",
    "RECORD",
    "TIMER",
    "WAIT",
    "fired_of",
    "load_outcomes",
    "marks",
    "memo_of",
    "memo_row",
    "record_of",
    "save_outcomes",
    "step_word",
    "stored_event_of",
    "timer_of",
    "wait_of",
]

Row = tuple[Any, ...]

_STATES = {state: state.name.lower() for state in MemoState}
_STATE_OF = {word: state for state, word in _STATES.items()}
_KIND_OF = {kind.value: kind for kind in StepKind}
_EFFECT_OF = {effect.name.lower(): effect for effect in Effect}
_CAUSE_OF = {cause.name.lower(): cause for cause in Cause}


def marks(values: Collection[object]) -> str:
    """Marks for so many values in a statement: `json_each` would cut texts off at a NUL."""
    return ", ".join("?" * len(values)) or "NULL"


# ---------------------------------------------------------------- events

EVENT = "events.seq, events.id, name, ts, received, CAST(data AS BLOB), CAST(user AS BLOB), v"


ADD_EVENT = """
INSERT INTO events (seq, id, name, ts, received, data, user, v)
VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT), ?)
"""


def stored_event_of(row: Row) -> StoredEvent:
    """An event out of the columns `EVENT`."""
    return StoredEvent(*row)


# ---------------------------------------------------------------- memos

MEMO = "position, step, repeat, kind, round, state, CAST(value AS BLOB), digest, attempts, started, ended"
MEMO_COLUMNS = "run, position, step, repeat, kind, round, state, value, digest, attempts, started, ended"

ADD_MEMO = f"""
INSERT OR REPLACE INTO memos ({MEMO_COLUMNS})
VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)
"""  # noqa: S608  # the columns are constants


def memo_row(run: str, memo: Memo) -> Row:
    """The parameters of `ADD_MEMO`."""
    return (
        run,
        memo.position,
        memo.step,
        memo.index,
        memo.kind.value,
        memo.round,
        _STATES[memo.state],
        memo.value,
        memo.digest,
        memo.attempts,
        memo.started,
        memo.ended,
    )


def memo_of(row: Row) -> Memo:
    """A memo out of the columns `MEMO`."""
    position, step, index, kind, number, state, *rest = row
    return Memo(position, step, index, _KIND_OF[kind], number, _STATE_OF[state], *rest)


# ---------------------------------------------------------------- timers, waits, what fired


def step_word(kind: StepKind | None) -> str | None:
    """A kind of step as a word."""
    return None if kind is None else kind.value


TIMER = "ref, due, effect, attempt, CAST(error AS BLOB), step, started"


def timer_of(row: Row) -> Timer:
    """A timer out of the columns `TIMER`."""
    ref, due, effect, attempt, error, step, started = row
    return Timer(ref, due, _EFFECT_OF[effect], attempt, error, step and _KIND_OF[step], started)


WAIT = (
    "ref, event, path, keyed, CAST(condition AS BLOB), since_seq, since_ms, signal, replace, child, until, "
    "effect, kind, started"
)


def wait_of(row: Row) -> Wait:
    """A wait out of the columns `WAIT`."""
    (
        ref,
        event,
        path,
        keyed,
        condition,
        since_seq,
        since_ms,
        signal,
        replace,
        child,
        until,
        effect,
        kind,
        started,
    ) = row
    return Wait(
        ref=ref,
        event=event,
        path=path,
        index=keyed,
        condition=condition,
        since_seq=since_seq,
        since_ms=since_ms,
        signal=signal,
        replace=bool(replace),
        child=child,
        until=until,
        effect=_EFFECT_OF[effect],
        kind=kind and _KIND_OF[kind],
        started=started,
    )


FIRED = (
    "ref, cause, at, status, CAST(value AS BLOB), due, attempt, CAST(error AS BLOB), step, fired.started, "
    "fired.event, " + EVENT
)


def fired_of(row: Row) -> Fired:
    """Something fired out of the columns `FIRED`, with its event joined."""
    ref, cause, at, status, value, due, attempt, error, step, started, event = row[:11]
    return Fired(
        ref=ref,
        cause=_CAUSE_OF[cause],
        at=at,
        event=stored_event_of(row[11:]) if event is not None else None,
        status=status and RunStatus(status),
        value=value,
        timer=None
        if due is None
        else Timer(ref, due, Effect.RESUME, attempt, error, step and _KIND_OF[step], started),
        started=started or 0,
    )


# ---------------------------------------------------------------- runs

RECORD = (
    "id, function, status, gen, created, due, started, ended, attempt, parent_run, parent_ref, "
    "CAST(output AS BLOB), CAST(error AS BLOB), reason, holder, origin, unmet"
)


def record_of(row: Row) -> RunRecord:
    """A run's record out of the columns `RECORD`."""
    run, function, status, gen, created, due, started, ended, attempt = row[:9]
    parent, ref, output, error, reason, holder, origin, unmet = row[9:]
    return RunRecord(
        id=run,
        function=function,
        status=RunStatus(status),
        gen=gen,
        created=created,
        due=due,
        started=started,
        ended=ended,
        attempt=attempt,
        parent=None if parent is None else Parent(parent, ref),
        output=output,
        error=error,
        reason=reason,
        holder=holder,
        origin=origin,
        unmet=() if unmet is None else tuple(orjson.loads(unmet)),
    )


# ---------------------------------------------------------------- outcomes, and plans that are kept


def save_outcomes(outcomes: tuple[Outcome, ...]) -> str:
    """What became of plans, as JSON."""
    return json.dumps([[o.verb.name.lower(), o.function, o.run, o.reason, o.holder] for o in outcomes])


def load_outcomes(text: str) -> tuple[Outcome, ...]:
    """The reverse of `save_outcomes`."""
    return tuple(Outcome(Verb[verb.upper()], *rest) for verb, *rest in json.loads(text))
