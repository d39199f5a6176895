"""Engines: they join, leave, and are buried; what they owned is queued again.

May not know locks or bells: what the file system says of an engine's life is `liveness`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import StoreError
from durable.store import SWEEP_MAX
from durable_stores.sqlite import runs, turns

if TYPE_CHECKING:
    import sqlite3

    from durable_stores.sqlite.work import Work

__all__ = ["beat", "bury", "heartbeats", "join", "leave", "others", "present", "unburied"]


def join(work: Work, engine: str, lease: int) -> None:
    """The engine is alive from now on."""
    known = work.sql.execute("SELECT 1 FROM engines WHERE id = ?", (engine,)).fetchone()
    if known is not None:
        raise StoreError(f"Engine {engine} has been here before: an engine's id is used once.")
    work.sql.execute(
        "INSERT INTO engines (id, state, joined, lease) VALUES (?, 'alive', ?, ?)", (engine, work.now, lease)
    )


def others(work: Work) -> tuple[str, ...]:
    """Engines that joined, and neither left nor were buried."""
    rows = work.sql.execute("SELECT id FROM engines WHERE state = 'alive'").fetchall()
    return tuple(engine for (engine,) in rows)


def leave(work: Work, engine: str) -> bool:
    """The engine is gone of its own will; whether it was here."""
    left = work.sql.execute(
        "UPDATE engines SET state = 'left' WHERE id = ? AND state = 'alive'", (engine,)
    ).rowcount
    if left:
        _release(work, engine, None)
        _forget_candidates(work, engine)
    return bool(left)


def bury(work: Work, engine: str) -> bool:
    """Mark the engine, and release up to `SWEEP_MAX` of its runs; whether there are more."""
    marked = work.sql.execute(
        "UPDATE engines SET state = 'dying' WHERE id = ? AND state IN ('alive', 'dying')", (engine,)
    ).rowcount
    if not marked:
        return False
    more = _release(work, engine, SWEEP_MAX)
    if not more:
        _forget_candidates(work, engine)
        work.sql.execute("UPDATE engines SET state = 'buried' WHERE id = ?", (engine,))
    return more


def _release(work: Work, engine: str, limit: int | None) -> bool:
    rows = work.sql.execute(
        "SELECT id FROM runs WHERE owner = ? ORDER BY id LIMIT ?",
        (engine, -1 if limit is None else limit + 1),
    ).fetchall()
    owned = [run_id for (run_id,) in rows[:limit]]
    work.load(owned)
    for run_id in owned:
        run = work.run(run_id)
        assert run is not None, run_id
        runs.let_go(work, run)
        if not run.cancelled:
            turns.queue(work, run, work.now)
    turns.settle(work)
    return len(rows) > len(owned)


def _forget_candidates(work: Work, engine: str) -> None:
    work.sql.execute("UPDATE candidates SET engine = NULL WHERE engine = ? AND matches = 0", (engine,))


def beat(sql: sqlite3.Connection, engine: str) -> bool:
    """Count the engine's heartbeat on; whether it is alive."""
    return bool(
        sql.execute(
            "UPDATE engines SET heartbeat = heartbeat + 1 WHERE id = ? AND state = 'alive'", (engine,)
        ).rowcount
    )


def present(sql: sqlite3.Connection) -> set[str]:
    """Engines that have neither left nor been buried wholly."""
    rows = sql.execute("SELECT id FROM engines WHERE state IN ('alive', 'dying')")
    return {engine for (engine,) in rows}


def heartbeats(sql: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """The engines that have neither left nor been buried, each with its heartbeat and its lease."""
    return sql.execute(
        "SELECT id, heartbeat, lease FROM engines WHERE state = 'alive' ORDER BY id"
    ).fetchall()


def unburied(sql: sqlite3.Connection) -> list[str]:
    """Engines whose burial has begun and is not finished."""
    return [engine for (engine,) in sql.execute("SELECT id FROM engines WHERE state = 'dying' ORDER BY id")]
