"""The queue: all jobs with the same pool, throttle and slots stand in one lane, ordered by rank.

A lane is *ready* in its pool, by the rank of its head, or *blocked* at exactly one gate. What holds, and
what every function here restores: no lane is blocked at an open gate, unless a ready lane with the same
gate, pool and rule has a better head. Saturated keys are never scanned. May not know runs' lives.
"""

from __future__ import annotations

import heapq

from attrs import frozen

from durable.gates import rank as rank_of
from durable_stores.sqlite import gating
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.work import Work

__all__ = ["Lane", "block", "enter", "leave", "open_gates", "ready_lanes", "shrunk", "wake_all"]

_LANE = "no, pool, function, throttle, slots, head"


@frozen
class Lane:
    """A ready lane."""

    no: int
    pool: str
    function: str
    throttle: str
    slots: str
    head: int

    @property
    def wants(self) -> gating.Gated:
        """What its jobs ask for."""
        return gating.gated(self.function, self.throttle, self.slots)


def enter(
    work: Work,
    kind: str,
    run: str,
    ref: str,
    due: int,
    priority: int,
    number: int,
    *,
    pool: str,
    function: str,
    throttle: str,
    slots: str,
) -> None:
    """Queue a job whose time has come."""
    rank = rank_of(due, priority, number)
    lane = work.sql.execute(
        "SELECT no, head, gate, rule FROM lanes WHERE pool = ? AND throttle = ? AND slots = ? AND function = ?",
        (pool, throttle, slots, function),
    ).fetchone()
    if lane is None:
        no = _new_lane(work, pool, function, throttle, slots, rank)
    else:
        no, head, gate, rule = lane
        if rank < head:
            # A better job in a blocked lane may pass where a worse one, ready elsewhere, has the next place.
            wakes = gate is not None and gating.is_open(work, function, gate, rule)
            work.sql.execute(
                "UPDATE lanes SET head = :p1, gate = iif(:p2, NULL, gate), rule = iif(:p2, NULL, rule) "
                "WHERE no = :p3",
                numbered(rank, wakes, no),
            )
            if gate is None or wakes:
                _is_ready(work, pool, rank)
        elif gate is None:
            work.woke.add(pool)
    work.sql.execute(
        "INSERT INTO jobs (no, run, kind, ref, due, lane, rank) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, run, kind, ref, due, no, rank),
    )


def _new_lane(work: Work, pool: str, function: str, throttle: str, slots: str, rank: int) -> int:
    (no,) = work.sql.execute(
        "INSERT INTO lanes (pool, function, throttle, slots, head) VALUES (?, ?, ?, ?, ?) RETURNING no",
        (pool, function, throttle, slots, rank),
    ).fetchone()
    if throttle or slots:
        work.sql.executemany(
            "INSERT OR IGNORE INTO askers VALUES (?, ?)",
            [(gate, no) for gate, _ in gating.gated(function, throttle, slots).gates],
        )
    _is_ready(work, pool, rank)
    return int(no)


def leave(work: Work, lane: int, rank: int) -> None:
    """A job with `rank`, which is deleted already, has left `lane` without being taken."""
    row = work.sql.execute("SELECT head FROM lanes WHERE no = ?", (lane,)).fetchone()
    if row is not None and row[0] == rank:
        shrunk(work, lane)


def shrunk(work: Work, no: int) -> None:
    """The head of a lane is gone: it stands by its next job now, and others may have become the better."""
    pool, function, throttle, slots, gate = work.sql.execute(
        "SELECT pool, function, throttle, slots, gate FROM lanes WHERE no = ?", (no,)
    ).fetchone()
    (head,) = work.sql.execute("SELECT min(rank) FROM jobs WHERE lane = ?", (no,)).fetchone()
    asks = gating.gated(function, throttle, slots).gates
    if head is None:
        work.sql.execute("DELETE FROM lanes WHERE no = ?", (no,))
        work.sql.executemany(
            "DELETE FROM askers WHERE gate = ? AND lane = ?", [(name, no) for name, _ in asks]
        )
    else:
        work.sql.execute("UPDATE lanes SET head = ? WHERE no = ?", (head, no))
        if gate is None and work.heads is not None:
            heapq.heappush(work.heads, (head, pool))
    if gate is None:
        work.offers.update(asks)


def block(work: Work, lane: Lane, gate: str, rule: str) -> None:
    """`lane` waits at a gate that is shut; its other gates are offered to those that wait there."""
    work.sql.execute("UPDATE lanes SET gate = ?, rule = ? WHERE no = ?", (gate, rule, lane.no))
    work.offers.update(asked for asked in lane.wants.gates if asked[0] != gate)


def open_gates(work: Work) -> None:
    """Offer the gates at which something was given back, or that a ready lane has left: `Work.offers`.

    Of each pool and rule that wait at such a gate the lane with the best head is woken.
    """
    while work.offers:
        _offer(work, work.offers.popitem()[0])


def _offer(work: Work, gate: str) -> None:
    pool, rule = "", ""
    while True:
        # Two ranges, since `(pool, rule) > (?, ?)` would walk all that wait here.
        group = (
            work.sql.execute(
                "SELECT pool, rule FROM lanes WHERE gate = ? AND pool = ? AND rule > ? ORDER BY rule LIMIT 1",
                (gate, pool, rule),
            ).fetchone()
            or work.sql.execute(
                "SELECT pool, rule FROM lanes WHERE gate = ? AND pool > ? ORDER BY pool, rule LIMIT 1",
                (gate, pool),
            ).fetchone()
        )
        if group is None:
            return
        pool, rule = group
        no, function, head = work.sql.execute(
            "SELECT no, function, head FROM lanes WHERE gate = ? AND pool = ? AND rule = ? ORDER BY head LIMIT 1",
            (gate, pool, rule),
        ).fetchone()
        if gating.is_open(work, function, gate, rule):
            _wake(work, no, pool, head)


def wake_all(work: Work, function: str) -> None:
    """Limits of `function` may have changed: every lane of it that waits is looked at again."""
    rows = work.sql.execute(
        "UPDATE lanes SET gate = NULL, rule = NULL WHERE gate IS NOT NULL AND function = ? RETURNING pool, head",
        (function,),
    ).fetchall()
    for pool, head in rows:
        _is_ready(work, pool, head)


def ready_lanes(work: Work, pool: str) -> list[Lane]:
    """The best two of a pool: the first is to be taken from, until the second is the better."""
    rows = work.sql.execute(
        f"SELECT {_LANE} FROM lanes WHERE pool = ? AND gate IS NULL ORDER BY head LIMIT 2",  # noqa: S608
        (pool,),
    )
    return [Lane(*row) for row in rows]


def _wake(work: Work, no: int, pool: str, head: int) -> None:
    work.sql.execute("UPDATE lanes SET gate = NULL, rule = NULL WHERE no = ?", (no,))
    _is_ready(work, pool, head)


def _is_ready(work: Work, pool: str, head: int) -> None:
    work.woke.add(pool)
    if work.heads is not None:
        heapq.heappush(work.heads, (head, pool))
