"""Candidates: events that may resolve a wait, until somebody has evaluated its condition.

They come from events that were admitted by somebody who did not know of the wait yet, and from stored
events where a wait looks back. The smallest sequence is decided first. May not know the doors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable.records import Candidate, Cause
from durable.store import CANDIDATES_MAX
from durable_stores.sqlite import runs
from durable_stores.sqlite.firing import close_wait, fire
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.rows import EVENT, stored_event_of

if TYPE_CHECKING:
    from durable.records import Verdict
    from durable_stores.sqlite.work import Work

__all__ = ["add", "decide", "finish", "hand_out", "resolve", "settle", "time_is_up", "undecided"]


def undecided(work: Work, run: str, ref: str) -> bool:
    """Whether a wait has candidates to be decided before anything new may resolve it."""
    row = work.sql.execute(
        "SELECT 1 FROM candidates WHERE run = :p1 AND ref = :p2 "
        "UNION ALL SELECT 1 FROM waits WHERE run = :p1 AND ref = :p2 AND scanned IS NOT NULL LIMIT 1",
        numbered(run, ref),
    ).fetchone()
    return row is not None


def add(work: Work, run: str, ref: str, event: int, *, matches: bool) -> None:
    """One more candidate; one that is known to match waits for the earlier ones."""
    work.sql.execute(
        "INSERT OR IGNORE INTO candidates VALUES (?, ?, ?, ?, ?)", (run, ref, event, work.engine, matches)
    )


def decide(work: Work, verdict: Verdict) -> None:
    """A candidate was evaluated; a verdict on what is not there any more is ignored.

    A yes makes everything after it pointless: later candidates, and what was not looked at yet.
    """
    key = (verdict.run, verdict.ref, verdict.seq)
    sql = work.sql
    if not verdict.matches:
        changed = sql.execute(
            "DELETE FROM candidates WHERE run = ? AND ref = ? AND event = ? AND matches = 0", key
        ).rowcount
    else:
        changed = sql.execute(
            "UPDATE candidates SET matches = 1 WHERE run = ? AND ref = ? AND event = ? AND matches = 0", key
        ).rowcount
        if changed:
            sql.execute("DELETE FROM candidates WHERE run = ? AND ref = ? AND event > ?", key)
            sql.execute(
                "UPDATE waits SET scanned = NULL WHERE run = ? AND ref = ? AND scanned IS NOT NULL "
                "AND registered > ?",
                key,
            )
    if changed:
        settle(work, verdict.run, verdict.ref)


def settle(work: Work, run_id: str, ref: str) -> None:
    """Resolve a wait whose first candidate is a yes, or that has timed out and has none left."""
    wait = work.sql.execute(
        "SELECT effect, until, scanned, registered, closed FROM waits WHERE run = ? AND ref = ?",
        (run_id, ref),
    ).fetchone()
    if wait is None:
        return
    effect, until, scanned, registered, closed = wait
    first = _first(work, run_id, ref)
    if scanned is not None and (first is None or first[0] > registered):
        _look_back(work, run_id, ref)
        first = _first(work, run_id, ref)
    if first is not None:
        event, matches = first
        if matches:
            resolve(work, run_id, ref, effect, event)
    elif closed:
        time_is_up(work, run_id, ref, effect, until)


def _first(work: Work, run: str, ref: str) -> tuple[int, int] | None:
    row: tuple[int, int] | None = work.sql.execute(
        "SELECT event, matches FROM candidates WHERE run = ? AND ref = ? ORDER BY event LIMIT 1", (run, ref)
    ).fetchone()
    return row


def _look_back(work: Work, run: str, ref: str) -> None:
    """Make candidates of the next stored events that a wait looks back to."""
    work.store_events()
    sql = work.sql
    name, scanned, registered, since_seq, since_ms = sql.execute(
        "SELECT event, scanned, registered, since_seq, since_ms FROM waits WHERE run = ? AND ref = ?",
        (run, ref),
    ).fetchone()
    found = sql.execute(
        "SELECT seq FROM events WHERE name = :p1 AND seq > :p2 AND seq < :p3 AND (seq > :p4 OR received >= :p5) "
        "ORDER BY seq LIMIT :p6",
        numbered(name, scanned, registered, since_seq, since_ms, CANDIDATES_MAX),
    ).fetchall()
    sql.executemany(
        "INSERT OR IGNORE INTO candidates VALUES (?, ?, ?, NULL, 0)", [(run, ref, s) for (s,) in found]
    )
    more = len(found) == CANDIDATES_MAX
    sql.execute(
        "UPDATE waits SET scanned = ? WHERE run = ? AND ref = ?", (found[-1][0] if more else None, run, ref)
    )


def resolve(work: Work, run_id: str, ref: str, effect: str, event: int) -> None:
    """`event` matches: the wait is over, and does to its run what it is for."""
    started = close_wait(work, run_id, ref)
    finish(work, run_id, ref, effect, Cause.EVENT, started, event=event)


def time_is_up(work: Work, run_id: str, ref: str, effect: str, until: int) -> None:
    """The wait is over, and nothing came; one that would have cancelled its run only ends."""
    started = close_wait(work, run_id, ref)
    run = work.run(run_id)
    if run is not None and effect == "resume":
        fire(work, run, ref, Cause.DUE, until, started=started)


def finish(
    work: Work,
    run_id: str,
    ref: str,
    effect: str,
    cause: Cause,
    started: int,
    *,
    event: int | None = None,
    status: str | None = None,
    value: bytes | None = None,
) -> None:
    """What the run waited for since `started` (ms) has come: do to it what the wait was for."""
    run = work.run(run_id)
    if run is None:
        return
    if effect == "cancel":
        runs.cancel(work, run, ref)
    else:
        fire(work, run, ref, cause, work.now, event=event, status=status, value=value, started=started)


def hand_out(work: Work) -> tuple[tuple[Candidate, ...], bool]:
    """Candidates that nobody else who lives evaluates, from now on this engine's; whether there are more."""
    rows: list[tuple[Any, ...]] = []
    for engine in (None, work.engine):
        rows += work.sql.execute(
            f"SELECT c.run, c.ref, CAST(w.condition AS BLOB), {EVENT} "  # noqa: S608
            "FROM candidates AS c JOIN waits AS w ON w.run = c.run AND w.ref = c.ref "
            "JOIN events ON events.seq = c.event WHERE c.matches = 0 AND c.engine IS :p2 "
            "ORDER BY c.event, c.run, c.ref LIMIT :p1",
            numbered(CANDIDATES_MAX + 1, engine),
        ).fetchall()
    if not rows:
        return (), False
    found = [Candidate(row[0], row[1], row[2] or b"", stored_event_of(row[3:])) for row in rows]
    found.sort(key=lambda c: (c.event.seq, c.run, c.ref))
    answer = tuple(found[:CANDIDATES_MAX])
    work.sql.executemany(
        "UPDATE candidates SET engine = ? WHERE run = ? AND ref = ? AND event = ?",
        [(work.engine, c.run, c.ref, c.event.seq) for c in answer],
    )
    return answer, len(found) > CANDIDATES_MAX
