"""Things that a run waited for are over: they stay with it until a commit drops them.

An owned run hears of it as news, one that nobody owns gets a turn. May not know what made them fire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Cause
from durable_stores.sqlite import turns
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.rows import FIRED, fired_of
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

if TYPE_CHECKING:
    import sqlite3

    from durable.records import Fired, Parent

__all__ = ["backs_off", "close_wait", "fire", "fired_by", "refuse_parents", "tell_parents", "what_came_of"]

_ADD = """
INSERT INTO fired (run, number, ref, cause, at, event, status, value, due, attempt, error, step, started)
VALUES (?, ?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, CAST(? AS TEXT), ?, ?)
"""
_NO_TIMER = (None, None, None, None)


def fire(
    work: Work,
    run: Run,
    ref: str,
    cause: Cause,
    at: int,
    *,
    event: int | None = None,
    status: str | None = None,
    value: bytes | None = None,
    timer: tuple[object, ...] = _NO_TIMER,
    started: int = 0,
) -> None:
    """`ref` of `run` is over, unless it was before. `started`: when its step began (ms), 0 where unknown."""
    if run.is_over:
        return
    if (
        run.fired
        and work.sql.execute("SELECT 1 FROM fired WHERE run = ? AND ref = ?", (run.id, ref)).fetchone()
    ):
        return
    run.fired += 1
    run.tied = 1
    work.touch(run)
    work.seeds.pop(run.id, None)
    what = (event, status, value, *timer, started)
    work.sql.execute(_ADD, (run.id, run.fired, ref, cause.name.lower(), at, *what))
    if run.owner is not None:
        run.news = work.tell(run, run.owner)
    elif not backs_off(work, run):
        turns.queue(work, run, at)


def backs_off(work: Work, run: Run) -> bool:
    """Whether its handler waits for its next attempt: nothing else queues the run then."""
    if not run.tied:
        return False
    found = work.sql.execute("SELECT 1 FROM jobs WHERE run = ? AND kind = 'timer' AND ref = ''", (run.id,))
    return found.fetchone() is not None


def close_wait(work: Work, run: str, ref: str) -> int:
    """A wait is over: it is gone, with its time-out and its candidates. When its step began (ms)."""
    sql = work.sql
    work.seeds.pop(run, None)
    row: tuple[int] | None = sql.execute(
        "DELETE FROM waits WHERE run = ? AND ref = ? RETURNING started", (run, ref)
    ).fetchone()
    sql.execute("DELETE FROM jobs WHERE run = ? AND kind = 'timeout' AND ref = ?", (run, ref))
    sql.execute("DELETE FROM candidates WHERE run = ? AND ref = ?", (run, ref))
    return 0 if row is None else row[0]


def tell_parents(work: Work, child: Run) -> None:
    """The child is over: all who wait for it are told."""
    waits = work.sql.execute("SELECT run, ref FROM waits WHERE child = ?", (child.id,)).fetchall()
    if child.parent_run is not None:
        waits += work.sql.execute(
            "SELECT run, ref FROM waits WHERE child IS NOT NULL AND (run, ref) IN "
            "(VALUES (:p2, :p3) UNION SELECT parent_run, parent_ref FROM more_parents WHERE run = :p1)",
            numbered(child.id, child.parent_run, child.parent_ref),
        ).fetchall()
    for run, ref in sorted(set(waits)):
        started = close_wait(work, run, ref)
        _hear_of_child(work, run, ref, *what_came_of(work, child), started)


def what_came_of(work: Work, child: Run) -> tuple[str, bytes | None]:
    """The status of a run that is over, and the value that those who wait for it receive."""
    status = child.stands()
    if status == "skipped":
        return status, as_json(child.reason or "")
    if status == "cancelled":
        return status, None
    if child.result is None:
        child.result = work.sql.execute(
            "SELECT CAST(output AS BLOB), CAST(error AS BLOB), unmet FROM runs WHERE id = ?", (child.id,)
        ).fetchone()
    output, error, _ = child.result or (None, None, None)
    return status, error if status == "failed" else output


def refuse_parents(work: Work, parents: tuple[Parent, ...], reason: str) -> None:
    """There will be no child: `reason` says why."""
    for parent in sorted(parents, key=lambda parent: (parent.run, parent.ref)):
        row = work.sql.execute(
            "SELECT 1 FROM waits WHERE run = ? AND ref = ? AND child IS NOT NULL", (parent.run, parent.ref)
        ).fetchone()
        if row is not None:
            started = close_wait(work, parent.run, parent.ref)
            _hear_of_child(work, parent.run, parent.ref, "skipped", as_json(reason), started)


def as_json(reason: str) -> bytes:
    """A reason as the value of what a parent receives."""
    return f'"{reason}"'.encode()


def _hear_of_child(work: Work, run_id: str, ref: str, status: str, value: bytes | None, started: int) -> None:
    run = work.run(run_id)
    if run is not None:
        fire(work, run, ref, Cause.CHILD, work.now, status=status, value=value, started=started)


def fired_by(sql: sqlite3.Connection, run: str) -> tuple[Fired, ...]:
    """What fired for `run` and was not dropped, in order."""
    rows = sql.execute(
        f"SELECT {FIRED} FROM fired LEFT JOIN events ON events.seq = fired.event "  # noqa: S608
        "WHERE run = ? ORDER BY number",
        (run,),
    )
    return tuple(fired_of(row) for row in rows)
