"""The door `admit`, and the admissions inside commits: an event is stored with everything that it causes.

May not know how plans are decided, nor how turns are claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Duplicate, New, Outdated, StoredEvent
from durable.store import HOLD_MS
from durable_stores.sqlite import plans, waits
from durable_stores.sqlite.rows import EVENT, load_outcomes, save_outcomes, stored_event_of

if TYPE_CHECKING:
    from durable.records import Admission, AdmissionAnswer, NewEvent, Outcome
    from durable_stores.sqlite.work import Work

__all__ = ["admit_current", "admit_one", "is_outdated"]

_REMEMBER = """
INSERT INTO accepted (name, id, until, event, outcomes) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET until = excluded.until, event = excluded.event, outcomes = excluded.outcomes
"""
_MOVE_CURSOR = """
INSERT INTO cursors (name, at, event, outcomes) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET at = excluded.at, event = excluded.event, outcomes = excluded.outcomes
"""


def is_outdated(work: Work, admission: Admission) -> bool:
    """Whether it was made from a registry that has changed. A signal is made from none."""
    return admission.signal is None and admission.registry < work.registry()


def admit_current(work: Work, admission: Admission) -> AdmissionAnswer:
    """Store one admission, if it was made from the registry as it is now."""
    if is_outdated(work, admission):
        return Outdated(work.registry())
    return admit_one(work, admission)


def admit_one(work: Work, admission: Admission) -> AdmissionAnswer:
    """Store one admission; the candidates of its answer are this call's engine's to decide."""
    known = _known(work, admission)
    if known is not None:
        return known
    answer = _store(work, admission)
    _remember(work, admission, answer.seq, answer.outcomes)
    return answer


def _store(work: Work, admission: Admission) -> New:
    if admission.signal is not None:
        taken = waits.give_signal(work, admission.signal.name, admission.signal.data)
        return New(work.sequence(), taken=taken)
    if admission.event is not None:
        event = _add_event(work, admission.event)
        candidates = waits.match_event(work, event, admission)
        outcomes = plans.decide_all(work, admission.plans, (event,))
        return New(event.seq, outcomes, tuple(candidates))
    work.store_events()
    events = tuple(
        stored_event_of(row)
        for seq in admission.again
        for row in work.sql.execute(f"SELECT {EVENT} FROM events WHERE seq = ?", (seq,))  # noqa: S608
    )
    return New(work.sequence(), plans.decide_all(work, admission.plans, events))


def _add_event(work: Work, new: NewEvent) -> StoredEvent:
    seq = work.next_sequence(stored=True)
    event = StoredEvent(seq, new.id, new.name, new.ts, work.now, new.data, new.user, new.v)
    work.events.append((seq, new.id, new.name, new.ts, work.now, new.data, new.user, new.v))
    return event


def _known(work: Work, admission: Admission) -> Duplicate | None:
    event, cursor = admission.event, admission.cursor
    if event is not None and event.once:
        row = work.sql.execute(
            "SELECT event, outcomes FROM accepted WHERE name = ? AND id = ? AND until > ?",
            (event.name, event.id, work.now),
        ).fetchone()
        if row is not None:
            return Duplicate(row[0], load_outcomes(row[1]))
    if cursor is not None:
        row = work.sql.execute(
            "SELECT event, outcomes FROM cursors WHERE name = ? AND at >= ?", (cursor.name, cursor.at)
        ).fetchone()
        if row is not None:
            return Duplicate(row[0], load_outcomes(row[1]))
    return None


def _remember(work: Work, admission: Admission, seq: int, outcomes: tuple[Outcome, ...]) -> None:
    event, cursor = admission.event, admission.cursor
    if event is not None and event.once:
        work.sql.execute(_REMEMBER, (event.name, event.id, work.now + HOLD_MS, seq, save_outcomes(outcomes)))
    if cursor is not None:
        work.sql.execute(_MOVE_CURSOR, (cursor.name, cursor.at, seq, save_outcomes(outcomes)))
