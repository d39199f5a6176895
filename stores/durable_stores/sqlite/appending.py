"""The commit that is made most: runs that go on, each with some memos. Its fence is part of the insertion.

One statement a memo, no run is read: in a durable transaction the cost of the bare rows, nearly. May not do
anything that `committing` would not do, only sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Commit, CommitAnswer, CommitState, Committed, Stay
from durable_stores.sqlite.rows import MEMO_COLUMNS, memo_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from durable.records import Verdict

__all__ = ["append_memos"]

_HAS_ALL = "SELECT 1 FROM engines WHERE id = ? AND state = 'alive' AND deliveries = told"
_APPEND = f"""
INSERT OR REPLACE INTO memos ({MEMO_COLUMNS})
SELECT ?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ? FROM runs
WHERE id = ? AND owner = ? AND gen = ? AND status = 'running'
"""  # noqa: S608  # the columns are constants
_OK = CommitAnswer(CommitState.OK)


def append_memos(sql: sqlite3.Connection, engine: str, items: Sequence[Commit | Verdict]) -> Committed | None:
    """Do all of a batch, if it is nothing but memos of runs that are the engine's.

    ``None``: there is more to it. What was inserted then was the engine's to insert, and may be again.
    """
    rows: list[tuple[object, ...]] = []
    for item in items:
        if not isinstance(item, Commit) or not _is_plain(item):
            return None
        run, gen = item.run, item.gen
        rows += [(*memo_row(run, memo), run, engine, gen) for memo in item.memos]
    if not rows or sql.execute(_HAS_ALL, (engine,)).fetchone() is None:
        return None
    cursor = sql.execute(_APPEND, rows[0]) if len(rows) == 1 else sql.executemany(_APPEND, rows)
    return Committed((_OK,) * len(items)) if cursor.rowcount == len(rows) else None


def _is_plain(commit: Commit) -> bool:
    if not isinstance(commit.then, Stay) or not commit.memos or commit.attempt is not None:
        return False
    return not (
        commit.admit
        or commit.timers
        or commit.waits
        or commit.drop
        or commit.forget
        or commit.ask
        or commit.free
    )
