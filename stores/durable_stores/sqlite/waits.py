"""Waits: registered, matched by events and signals, timed out.

A wait with undecided candidates is resolved in the order of their sequences; see `candidates`. May not
know how a condition is evaluated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Candidate, Cause
from durable_stores.sqlite import candidates, runs
from durable_stores.sqlite.firing import close_wait, fire, what_came_of
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.rows import marks, step_word
from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import Admission, StoredEvent, Wait

__all__ = ["give_signal", "match_event", "register", "time_out"]

_ADD = """
INSERT OR REPLACE INTO waits (run, ref, event, path, keyed, condition, since_seq, since_ms, signal, replace, child,
until, effect, kind, started, registered, scanned)
VALUES (?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_ADD_TIMEOUT = "INSERT OR REPLACE INTO jobs (no, run, kind, ref, due) VALUES (?, ?, 'timeout', ?, ?)"

_MATCHING = """
SELECT run, ref, CAST(condition AS BLOB), effect, registered FROM waits
WHERE event = ? AND keyed IN ('', {}) AND registered < ? AND closed = 0 AND (until IS NULL OR until > ?)
ORDER BY run, ref
"""
_FOR_SIGNAL = "SELECT run, ref, effect FROM waits WHERE signal = ? AND (until IS NULL OR until > ?)"


def register(work: Work, run: Run, waits: Iterable[Wait]) -> None:
    """Register `waits` of `run`; what is over already fires at once."""
    for wait in waits:
        if run.is_over:
            return
        if work.sql.execute("SELECT 1 FROM waits WHERE run = ? AND ref = ?", (run.id, wait.ref)).fetchone():
            close_wait(work, run.id, wait.ref)
        if not (_signal_is_taken(work, run, wait) or _child_is_over(work, run, wait)):
            runs.tie(work, run)
            _add(work, run.id, wait)


def _add(work: Work, run: str, wait: Wait) -> None:
    if wait.path is not None and wait.event is not None:
        added = work.sql.execute(
            "INSERT OR IGNORE INTO paths VALUES (?, ?)", (wait.event, wait.path)
        ).rowcount
        if added:
            work.bump_registry()
    if wait.event is not None:
        work.unheard.discard(wait.event)
    looks_back = wait.since_seq is not None or wait.since_ms is not None
    work.sql.execute(
        _ADD,
        (
            run,
            wait.ref,
            wait.event,
            wait.path,
            wait.index,
            wait.condition,
            wait.since_seq,
            wait.since_ms,
            wait.signal,
            wait.replace,
            wait.child,
            wait.until,
            wait.effect.name.lower(),
            step_word(wait.kind),
            wait.started,
            work.sequence() if wait.event is None else work.next_sequence(stored=False),
            0 if looks_back else None,
        ),
    )
    if wait.until is not None:
        work.sql.execute(_ADD_TIMEOUT, (work.number(), run, wait.ref, wait.until))
    if looks_back:
        candidates.settle(work, run, wait.ref)


def _signal_is_taken(work: Work, run: Run, wait: Wait) -> bool:
    if wait.signal is None:
        return False
    other = work.sql.execute("SELECT run, ref FROM waits WHERE signal = ?", (wait.signal,)).fetchone()
    if other is None:
        return False
    if not wait.replace:
        candidates.finish(work, run.id, wait.ref, wait.effect.name.lower(), Cause.CONFLICT, wait.started)
        return True
    started = close_wait(work, *other)
    loser = work.run(other[0])
    if loser is not None:
        fire(work, loser, other[1], Cause.REPLACED, work.now, started=started)
    return False


def _child_is_over(work: Work, run: Run, wait: Wait) -> bool:
    child = None if wait.child is None else work.run(wait.child)
    if child is None or not child.is_over:
        return False
    status, value = what_came_of(work, child)
    effect = wait.effect.name.lower()
    candidates.finish(work, run.id, wait.ref, effect, Cause.CHILD, wait.started, status=status, value=value)
    return True


def match_event(work: Work, event: StoredEvent, admission: Admission) -> list[Candidate]:
    """Let `event` resolve the waits for it; those that somebody has to evaluate are answered."""
    if event.name in work.unheard:
        return []
    if work.sql.execute("SELECT 1 FROM waits WHERE event = ? LIMIT 1", (event.name,)).fetchone() is None:
        work.unheard.add(event.name)
        return []
    matching = _MATCHING.format(marks(admission.keys))
    rows = work.sql.execute(matching, (event.name, *admission.keys, event.seq, work.now)).fetchall()
    hits = {(hit.run, hit.ref) for hit in admission.hits}
    found: list[Candidate] = []
    for run, ref, condition, effect, registered in rows:
        matches = condition is None or (run, ref) in hits
        if not matches and registered <= admission.as_of:
            continue
        if not _hears(work, run, ref):
            continue
        if matches and not candidates.undecided(work, run, ref):
            candidates.resolve(work, run, ref, effect, event.seq)
            continue
        candidates.add(work, run, ref, event.seq, matches=matches)
        if not matches:
            found.append(Candidate(run, ref, condition or b"", event))
    return found


def _hears(work: Work, run: str, ref: str) -> bool:
    # An earlier match of this very event may have cancelled the run; a yes that is kept makes it deaf.
    row = work.sql.execute(
        "SELECT (SELECT 1 FROM candidates AS c WHERE c.run = :p1 AND c.ref = :p2 AND matches = 1) FROM waits "
        "WHERE run = :p1 AND ref = :p2",
        numbered(run, ref),
    ).fetchone()
    return row is not None and row[0] is None


def give_signal(work: Work, name: str, data: bytes) -> bool:
    """Give a signal to the wait for it; whether there was one."""
    row = work.sql.execute(_FOR_SIGNAL, (name, work.now)).fetchone()
    if row is None:
        return False
    run, ref, effect = row
    started = close_wait(work, run, ref)
    candidates.finish(work, run, ref, effect, Cause.SIGNAL, started, value=data)
    return True


def time_out(work: Work, run: str, ref: str, due: int) -> None:
    """The time of a wait is over; with undecided candidates it only closes to new events."""
    row = work.sql.execute("SELECT effect FROM waits WHERE run = ? AND ref = ?", (run, ref)).fetchone()
    if row is None:
        return
    if candidates.undecided(work, run, ref):
        work.sql.execute("UPDATE waits SET closed = 1 WHERE run = ? AND ref = ?", (run, ref))
    else:
        candidates.time_is_up(work, run, ref, row[0], due)
