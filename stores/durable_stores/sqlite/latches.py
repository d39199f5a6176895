"""Latches and rates: what a plan takes when it is accepted, and must find free. May not know plans' fates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable import gates

if TYPE_CHECKING:
    from durable.records import Latch, Plan, Rate
    from durable_stores.sqlite.work import Work

__all__ = ["holder_of", "is_open", "notes_drop", "take"]

_LIMIT_MAX = 10_000
"""The greatest limit of a rate: so many acceptances of a key have to be known."""

_KEPT = 3600 * 1000
"""So long (ms) acceptances are known at least: somebody may declare a longer period."""

_DROPS_RECORDED = 100
"""So many drops of one key leave a skipped run, in any rolling period of its rate."""


def holder_of(work: Work, once: tuple[Latch, ...]) -> str | None:
    """The run that holds the first of the latches that is held."""
    for latch in once:
        row = work.sql.execute("SELECT until, run FROM latches WHERE key = ?", (latch.key,)).fetchone()
        if row is not None and not gates.latch_is_free(row[0], work.now):
            return str(row[1])
    return None


def is_open(work: Work, rate: Rate) -> bool:
    """Whether one more acceptance fits into the rolling period."""
    return _passes(work, f"pass:{rate.key}", rate.limit, rate.period)


def notes_drop(work: Work, rate: Rate) -> bool:
    """A plan is dropped: whether that leaves a run, as the first drops of a period do."""
    key = f"drop:{rate.key}"
    if not _passes(work, key, _DROPS_RECORDED, rate.period):
        return False
    _note(work, key, rate)
    return True


def take(work: Work, plan: Plan, holder: str) -> None:
    """The plan was accepted: `holder` has its latches, and it counts in its rate."""
    for latch in plan.once:
        work.sql.execute(
            "INSERT OR REPLACE INTO latches (key, run, until) VALUES (?, ?, ?)",
            (latch.key, holder, work.now + latch.hold),
        )
    if plan.rate is not None:
        _note(work, f"pass:{plan.rate.key}", plan.rate)


def _passes(work: Work, key: str, limit: int, period: int) -> bool:
    number, at = _newest(work, key)
    oldest = work.sql.execute(
        "SELECT at FROM rates WHERE key = ? AND number = ?", (key, number - limit + 1)
    ).fetchone()
    return gates.rate_passes(None if oldest is None else oldest[0], at, work.now, period)


def _note(work: Work, key: str, rate: Rate) -> None:
    number, newest = _newest(work, key)
    at = work.now if newest is None else max(newest, work.now)
    work.sql.execute("DELETE FROM rates WHERE key = ? AND number <= ?", (key, number - _LIMIT_MAX))
    work.sql.execute(
        "INSERT INTO rates (key, number, at, until) VALUES (?, ?, ?, ?)",
        (key, number + 1, at, at + max(rate.period, _KEPT)),
    )


def _newest(work: Work, key: str) -> tuple[int, int | None]:
    row: tuple[int, int] | None = work.sql.execute(
        "SELECT number, at FROM rates WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)
    ).fetchone()
    return row or (0, None)
