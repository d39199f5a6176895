"""Questions that change nothing: for replays, and for people. May not write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import History, Waiting
from durable_stores.sqlite.firing import fired_by
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.rows import (
    EVENT,
    MEMO,
    RECORD,
    TIMER,
    WAIT,
    marks,
    memo_of,
    record_of,
    stored_event_of,
    timer_of,
    wait_of,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from durable.records import EventQuery, Memo, RunQuery, RunRecord, StoredEvent, Timer, Wait

__all__ = ["events", "history", "history_of", "runs", "timers_of", "waiting"]


def history(sql: sqlite3.Connection, run_id: str) -> History | None:
    """One run with all that is known of it."""
    row = sql.execute(f"SELECT {RECORD} FROM runs WHERE id = ?", (run_id,)).fetchone()  # noqa: S608
    return None if row is None else history_of(sql, record_of(row))


def history_of(sql: sqlite3.Connection, run: RunRecord, *, memos: bool = True, tied: bool = True) -> History:
    """What belongs to a run whose record is known; one that is not `tied` has nothing but events and memos."""
    return History(
        run=run,
        events=_events_of(sql, run.id),
        memos=_memos_of(sql, run.id) if memos else (),
        timers=timers_of(sql, run.id) if tied else (),
        waits=_waits_of(sql, run.id) if tied else (),
        fired=fired_by(sql, run.id) if tied else (),
    )


def _events_of(sql: sqlite3.Connection, run: str) -> tuple[StoredEvent, ...]:
    rows = sql.execute(
        f"SELECT {EVENT} FROM events WHERE seq = (SELECT event FROM runs WHERE runs.id = :p1) UNION ALL "  # noqa: S608
        f"SELECT {EVENT} FROM more_events JOIN events ON seq = more_events.event WHERE run = :p1 ORDER BY 1",
        numbered(run),
    )
    return tuple(stored_event_of(row) for row in rows)


def _memos_of(sql: sqlite3.Connection, run: str) -> tuple[Memo, ...]:
    rows = sql.execute(
        f"SELECT {MEMO} FROM memos WHERE run = ? ORDER BY position",  # noqa: S608
        (run,),
    )
    return tuple(memo_of(row) for row in rows)


def _waits_of(sql: sqlite3.Connection, run: str) -> tuple[Wait, ...]:
    rows = sql.execute(f"SELECT {WAIT} FROM waits WHERE run = ? ORDER BY ref", (run,))  # noqa: S608
    return tuple(wait_of(row) for row in rows)


def timers_of(sql: sqlite3.Connection, run: str) -> tuple[Timer, ...]:
    """The timers of a run, by due time and name."""
    rows = sql.execute(
        f"SELECT {TIMER} FROM jobs WHERE run = ? AND kind = 'timer' ORDER BY due, ref",  # noqa: S608
        (run,),
    )
    return tuple(timer_of(row) for row in rows)


# ---------------------------------------------------------------- waits


_WAITING = f"""
SELECT run, {WAIT} FROM waits WHERE event = ? AND keyed IN ('', {{}})
AND condition IS NOT NULL AND closed = 0 AND run > ? AND NOT EXISTS (
    SELECT 1 FROM candidates AS c WHERE c.run = waits.run AND c.ref = waits.ref AND c.matches = 1
)
ORDER BY run, ref
"""  # noqa: S608


def waiting(sql: sqlite3.Connection, name: str, keys: Sequence[str], after: str, limit: int) -> Waiting:
    """A page of open waits that need an evaluation; it ends with the last wait of a run."""
    (as_of,) = sql.execute(
        "SELECT max(sequence, ifnull((SELECT max(seq) FROM events), 0)) FROM store"
    ).fetchone()
    page: list[tuple[str, ...]] = []
    more = False
    for row in sql.execute(_WAITING.format(marks(keys)), (name, *keys, after)):
        if len(page) >= limit and row[0] != page[-1][0]:
            more = True
            break
        page.append(row)
    return Waiting(as_of, tuple((row[0], wait_of(row[1:])) for row in page), more=more)


# ---------------------------------------------------------------- for people


def runs(sql: sqlite3.Connection, query: RunQuery) -> tuple[History, ...]:
    """Runs that a query finds, newest first, without their memos."""
    wanted: list[str] = []
    values: list[object] = []
    for condition, value in (
        ("function = ?", query.function),
        ("created >= ?", query.since),
        ("created < ?", query.until),
        ("id < ?", query.before),
    ):
        if value is not None:
            wanted.append(condition)
            values.append(value)
    if query.statuses:
        wanted.append(f"status IN ({marks(query.statuses)})")
        values += sorted(query.statuses)
    if query.event_id is not None:
        seqs = "(SELECT seq FROM events WHERE events.id = ?)"
        wanted.append(f"(event IN {seqs} OR id IN (SELECT run FROM more_events WHERE event IN {seqs}))")  # noqa: S608
        values += [query.event_id, query.event_id]
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    rows = sql.execute(
        f"SELECT {RECORD} FROM runs {where} ORDER BY id DESC LIMIT ?",  # noqa: S608  # values are bound
        (*values, query.limit),
    ).fetchall()
    return tuple(history_of(sql, record_of(row), memos=False) for row in rows)


def events(sql: sqlite3.Connection, query: EventQuery) -> tuple[StoredEvent, ...]:
    """Events that a query finds, newest first."""
    wanted: list[str] = []
    values: list[object] = []
    for condition, value in (
        ("name = ?", query.name),
        ("received >= ?", query.since),
        ("received < ?", query.until),
        ("seq < ?", query.before),
    ):
        if value is not None:
            wanted.append(condition)
            values.append(value)
    where = f"WHERE {' AND '.join(wanted)}" if wanted else ""
    rows = sql.execute(
        f"SELECT {EVENT} FROM events {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608  # values are bound
        (*values, query.limit),
    )
    return tuple(stored_event_of(row) for row in rows)
