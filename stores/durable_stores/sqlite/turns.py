"""Turns: a run that wants to execute stands in the queue once, and is in its lane when the call ends.

A turn is kept in memory (`Work.turns`) until the door decides whether it takes it at once; `settle` puts
what is left into lanes. May not know why a run wants to execute.
"""

from __future__ import annotations

from durable_stores.sqlite import gating, lanes
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

__all__ = ["gates_of", "promote", "queue", "settle", "unqueue"]


def queue(work: Work, run: Run, due: int) -> None:
    """The run wants to execute from `due` on. One that is queued already stays where it is."""
    if not run.queued:
        run.queued = True
        work.turns[run.id] = (due, work.number())
        work.touch(run)


def unqueue(work: Work, run: Run) -> None:
    """The run's turn is gone, whether it was in a lane or not."""
    if not run.queued:
        return
    run.queued = False
    work.touch(run)
    if work.turns.pop(run.id, None) is not None:
        return
    row = work.sql.execute(
        "DELETE FROM jobs WHERE run = ? AND kind = 'turn' AND ref = '' RETURNING lane, rank", (run.id,)
    ).fetchone()
    if row is not None and row[0] is not None:
        lanes.leave(work, *row)


def gates_of(run: Run) -> tuple[str, str]:
    """The throttle and the slots that a turn of `run` asks for: an announcement asks for nothing."""
    if run.cancelled:
        return "", ""
    return (run.throttle if run.started is None else ""), gating.turn_slots(run)


def settle(work: Work) -> None:
    """Put the turns of this call into their lanes, and those whose time has not come among the timers."""
    for run_id, (due, number) in work.turns.items():
        run = work.run(run_id)
        assert run is not None
        if due > work.now:
            work.sql.execute(
                "INSERT INTO jobs (no, run, kind, ref, due) VALUES (?, ?, 'turn', '', ?)",
                (number, run_id, due),
            )
            work.later.add(run.function)
        else:
            promote(work, run, due, number)
    work.turns.clear()
    lanes.open_gates(work)


def promote(work: Work, run: Run, due: int, number: int) -> None:
    """The time of a turn has come: it enters its lane. Its job, if there was one, is deleted already."""
    throttle, slots = gates_of(run)
    lanes.enter(
        work,
        "turn",
        run.id,
        "",
        due,
        run.priority,
        number,
        pool=run.function,
        function=run.function,
        throttle=throttle,
        slots=slots,
    )
