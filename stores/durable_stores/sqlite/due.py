"""Time: timers, time-outs and buffers that are due fire, turns enter their lanes, throttles open.

May not know who takes what becomes ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.records import Cause
from durable.store import PROMOTE_MAX
from durable_stores.sqlite import lanes, plans, runs, turns, waits
from durable_stores.sqlite.firing import fire

if TYPE_CHECKING:
    from durable_stores.sqlite.work import Work

__all__ = ["enter_turns", "next_due", "open_throttles", "promote"]

_DUE = """
SELECT no, run, kind, ref, due, effect, attempt, CAST(error AS BLOB), step, started FROM jobs
WHERE lane IS NULL AND kind <> 'turn' AND due <= ? ORDER BY due, no LIMIT ?
"""
_NEXT = """
SELECT min(at) FROM (
    SELECT min(due) AS at FROM jobs WHERE lane IS NULL AND kind <> 'turn'
    UNION ALL SELECT min(due) FROM jobs WHERE lane IS NULL AND kind = 'turn'
    UNION ALL SELECT * FROM (
        SELECT opens FROM throttles WHERE opens > ?
        AND EXISTS (SELECT 1 FROM lanes WHERE lanes.gate = throttles.gate) ORDER BY opens LIMIT 1
    )
)
"""


def promote(work: Work) -> bool:
    """Fire what is due, in order of (due, creation); whether there is more than one call may do."""
    done = 0
    while done < PROMOTE_MAX:
        rows = work.sql.execute(_DUE, (work.now, PROMOTE_MAX - done)).fetchall()
        if not rows:
            return False
        work.load(row[1] for row in rows if row[2] == "timer")
        for no, run, kind, ref, due, effect, *rest in rows:
            if work.sql.execute("DELETE FROM jobs WHERE no = ?", (no,)).rowcount:
                _fire(work, kind, run, ref, due, effect, rest)
                done += 1
            if kind == "flush":
                break  # the run that it made may have a time-out that fell due before the others
    return bool(work.sql.execute(_DUE, (work.now, 1)).fetchone())


def _fire(
    work: Work, kind: str, run_id: str, ref: str, due: int, effect: str | None, rest: list[Any]
) -> None:
    if kind == "flush":
        plans.flush(work, ref)
    elif kind == "timeout":
        waits.time_out(work, run_id, ref, due)
    else:
        run = work.run(run_id)
        assert run is not None, run_id
        if effect == "cancel":
            runs.cancel(work, run, ref)
        else:
            *what, started = rest
            fire(work, run, ref, Cause.DUE, due, timer=(due, *what), started=started)


def enter_turns(work: Work) -> bool:
    """Turns whose time has come enter their lanes; whether there are more of them."""
    rows = work.sql.execute(
        "SELECT no, run, due FROM jobs WHERE lane IS NULL AND kind = 'turn' AND due <= ? ORDER BY due, no LIMIT ?",
        (work.now, PROMOTE_MAX + 1),
    ).fetchall()
    work.load(run_id for _, run_id, _ in rows)
    for no, run_id, due in rows[:PROMOTE_MAX]:
        run = work.run(run_id)
        assert run is not None, run_id
        work.sql.execute("DELETE FROM jobs WHERE no = ?", (no,))
        turns.promote(work, run, due, no)
    return len(rows) > PROMOTE_MAX


def open_throttles(work: Work) -> None:
    """Throttles that let one more pass by now wake the lanes that wait there."""
    opened = work.sql.execute(
        "UPDATE throttles SET opens = NULL WHERE opens <= ? RETURNING gate", (work.now,)
    )
    for (gate,) in opened.fetchall():
        work.offers[gate] = ""
    lanes.open_gates(work)


def next_due(work: Work) -> int | None:
    """When something falls due by itself."""
    (at,) = work.sql.execute(_NEXT, (work.now,)).fetchone()
    return None if at is None else int(at)
