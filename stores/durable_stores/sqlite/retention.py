"""Retention: what is old is removed, in steps that do not block anybody.

May not know why somebody wants it removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.store import SWEEP_MAX
from durable_stores.sqlite.numbering import numbered

if TYPE_CHECKING:
    from durable.records import Cutoffs
    from durable_stores.sqlite.work import Work

__all__ = ["sweep"]

_LOOKS_AT = 4096
"""Events that one call looks at, at most: those that a run still needs stay, and are passed over."""

_ENDED = """
SELECT id FROM (
    SELECT id, ended FROM (
        SELECT id, ended FROM runs WHERE trimmed = 0 AND ended < :p1 ORDER BY ended, id LIMIT :p2)
    UNION ALL SELECT id, ended FROM (
        SELECT id, ended FROM runs WHERE trimmed = 1 AND ended < :p1 ORDER BY ended, id LIMIT :p2)
) ORDER BY ended, id LIMIT :p2
"""
_UNNEEDED = """
SELECT seq, received < :p3
AND NOT EXISTS (SELECT 1 FROM runs WHERE event = seq)
AND NOT EXISTS (SELECT 1 FROM more_events WHERE event = seq)
AND NOT EXISTS (SELECT 1 FROM fired WHERE event = seq)
AND NOT EXISTS (SELECT 1 FROM candidates WHERE event = seq)
AND NOT EXISTS (SELECT 1 FROM buffered WHERE event = seq), received < :p3
FROM events WHERE seq > :p1 ORDER BY seq LIMIT :p2
"""
_OUTLIVED = {
    "latches": ("key", "until <= ?"),
    "accepted": ("name, id", "until <= ?"),
    "rates": ("key, number", "until <= ?"),
    "throttles": ("gate", "tat_us < ? * 1000 AND opens IS NULL"),
}
"""What nothing depends on any more, by table: its key, and when that is so."""


def sweep(work: Work, cutoffs: Cutoffs) -> bool:
    """Remove up to `SWEEP_MAX` of each sort; whether there is more."""
    more = [_runs(work, cutoffs.runs), _memos(work, cutoffs.steps), _events(work, cutoffs.events)]
    more += [_outlived(work, table, *which) for table, which in _OUTLIVED.items()]
    return any(more)


def _outlived(work: Work, table: str, key: str, which: str) -> bool:
    rows = work.sql.execute(
        f"SELECT {key} FROM {table} WHERE {which} LIMIT ?",  # noqa: S608  # all of it constants
        (work.now, SWEEP_MAX + 1),
    ).fetchall()
    is_key = " AND ".join(f"{column} = ?" for column in key.split(", "))
    work.sql.executemany(f"DELETE FROM {table} WHERE {is_key}", rows[:SWEEP_MAX])  # noqa: S608
    return len(rows) > SWEEP_MAX


def _runs(work: Work, before: int) -> bool:
    rows = work.sql.execute(_ENDED, numbered(before, SWEEP_MAX + 1)).fetchall()
    for table, key in (("memos", "run"), ("more_events", "run"), ("more_parents", "run"), ("runs", "id")):
        work.sql.executemany(f"DELETE FROM {table} WHERE {key} = ?", rows[:SWEEP_MAX])  # noqa: S608
    return len(rows) > SWEEP_MAX


def _memos(work: Work, before: int) -> bool:
    sql, left = work.sql, SWEEP_MAX
    rows = sql.execute(
        "SELECT id FROM runs WHERE trimmed = 0 AND ended < ? ORDER BY ended, id LIMIT ?",
        (before, SWEEP_MAX + 1),
    ).fetchall()
    for (run,) in rows:
        gone = sql.execute(
            "DELETE FROM memos WHERE run = :p1 AND position IN "
            "(SELECT position FROM memos WHERE run = :p1 ORDER BY position LIMIT :p2)",
            numbered(run, left),
        ).rowcount
        left -= gone
        if sql.execute("SELECT 1 FROM memos WHERE run = ?", (run,)).fetchone():
            return True
        sql.execute("UPDATE runs SET trimmed = 1 WHERE id = ?", (run,))
    return len(rows) > SWEEP_MAX


def _events(work: Work, before: int) -> bool:
    sql = work.sql
    (after,) = sql.execute("SELECT looked_at FROM store").fetchone()
    rows = sql.execute(_UNNEEDED, numbered(after, _LOOKS_AT, before)).fetchall()
    unneeded = [seq for seq, is_unneeded, _ in rows if is_unneeded]
    gone = unneeded[:SWEEP_MAX]
    if gone:
        work.note_sequence()
        sql.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in gone])
    if len(unneeded) > SWEEP_MAX:
        reached, more = gone[-1], True
    elif len(rows) == _LOOKS_AT and any(is_old for _, _, is_old in rows):
        reached, more = rows[-1][0], True
    else:
        reached, more = 0, False
    if reached != after:
        sql.execute("UPDATE store SET looked_at = ?", (reached,))
    return more
