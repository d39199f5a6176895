"""A run's life once it is there: let go of, cancelled, ended. May not know which door asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from durable_stores.sqlite import gating, lanes, turns
from durable_stores.sqlite.firing import tell_parents
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import End, Timer

__all__ = ["cancel", "end", "give_places", "let_go", "set_timers", "tie"]

_SET_TIMER = """
INSERT OR REPLACE INTO jobs (no, run, kind, ref, due, effect, attempt, error, step, started)
VALUES (?, ?, 'timer', ?, ?, ?, ?, CAST(? AS TEXT), ?, ?)
"""


def set_timers(work: Work, run: Run, timers: Iterable[Timer]) -> None:
    """Set timers; one with a ref that there is already replaces it."""
    tie(work, run)
    work.sql.executemany(
        _SET_TIMER,
        [
            (
                work.number(),
                run.id,
                timer.ref,
                timer.due,
                timer.effect.name.lower(),
                timer.attempt,
                timer.error,
                None if timer.kind is None else timer.kind.value,
                timer.started,
            )
            for timer in timers
        ],
    )


def tie(work: Work, run: Run) -> None:
    """The run has something in other tables, which its end has to remove."""
    if not run.tied:
        run.tied = 1
        work.touch(run)


def give_places(work: Work, run: Run, places: int) -> None:
    """Give back up to `places` that the run holds besides its own."""
    places = min(places, run.extra)
    if places:
        run.extra -= places
        work.touch(run)
        gating.give_back(work, run, places, own=False)


def let_go(work: Work, run: Run, affinity: str | None = None) -> None:
    """Nobody owns the run any more: what it held is free, and a cancelled one is queued to be announced."""
    asked, run.asked = run.asked, 0
    _release(work, run, affinity)
    if asked:
        _remove_jobs(work, run, "kind = 'place'")
        work.sql.execute("DELETE FROM fired WHERE run = ? AND cause = 'place'", (run.id,))
    if run.cancelled:
        _free_latch(work, run)
        turns.queue(work, run, work.now)


def cancel(work: Work, run: Run, reason: str) -> bool:
    """Cancel a run that has not ended; whether it was still to be cancelled."""
    if run.is_over:
        return False
    turns.unqueue(work, run)
    run.cancelled = True
    run.reason = reason
    work.touch(run)
    _clear(work, run)
    tell_parents(work, run)
    if run.owner is not None:
        run.news = work.tell(run, run.owner)
    else:
        _free_latch(work, run)
        turns.queue(work, run, work.now)
    return True


def end(work: Work, run: Run, then: End) -> None:
    """The run is over."""
    announced = run.cancelled
    turns.unqueue(work, run)
    _release(work, run, None)
    run.status = then.status.value
    run.ended = work.now
    run.result = (then.output, then.error, orjson.dumps(then.unmet).decode() if then.unmet else None)
    _clear(work, run)
    _free_latch(work, run)
    if not announced:
        tell_parents(work, run)


def _release(work: Work, run: Run, affinity: str | None) -> None:
    held = run.placed + run.extra
    if held:
        gating.give_back(work, run, held, own=bool(run.placed))
    run.placed = run.extra = 0
    run.owner, run.affinity = None, affinity
    run.claim = run.news = 0
    work.touch(run)


def _clear(work: Work, run: Run) -> None:
    work.seeds.pop(run.id, None)
    if not run.tied:
        return
    _remove_jobs(work, run, "kind <> 'turn'")
    work.sql.execute("DELETE FROM waits WHERE run = ?", (run.id,))
    work.sql.execute("DELETE FROM candidates WHERE run = ?", (run.id,))
    if run.fired:
        work.sql.execute("DELETE FROM fired WHERE run = ?", (run.id,))


def _remove_jobs(work: Work, run: Run, which: str) -> None:
    rows = work.sql.execute(
        f"DELETE FROM jobs WHERE run = ? AND {which} RETURNING lane, rank",  # noqa: S608  # a constant
        (run.id,),
    ).fetchall()
    for lane, rank in rows:
        if lane is not None:
            lanes.leave(work, lane, rank)


def _free_latch(work: Work, run: Run) -> None:
    if run.singleton is not None:
        work.sql.execute("DELETE FROM singletons WHERE key = ? AND run = ?", (run.singleton, run.id))
