"""Turns and places are taken: by `claim` out of the lanes, by `admit` out of what it has just queued.

May not know what made a run want to execute.
"""

from __future__ import annotations

import heapq
from operator import itemgetter
from typing import TYPE_CHECKING

from durable.gates import rank as rank_of
from durable.records import Cause, Effect, Timer
from durable.store import LOOK_AHEAD
from durable_stores.sqlite import gating, lanes, runs, turns
from durable_stores.sqlite.firing import fire
from durable_stores.sqlite.numbering import numbered

if TYPE_CHECKING:
    from durable.records import Request
    from durable_stores.sqlite.lanes import Lane
    from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

__all__ = ["take_fresh", "take_queued"]

_ACTIVE = """
WITH RECURSIVE active (pool) AS (
    SELECT min(pool) FROM lanes WHERE gate IS NULL
    UNION ALL
    SELECT (SELECT min(pool) FROM lanes WHERE gate IS NULL AND pool > active.pool) FROM active
    WHERE active.pool IS NOT NULL
)
SELECT (SELECT min(head) FROM lanes WHERE gate IS NULL AND lanes.pool = active.pool), pool FROM active
WHERE pool IS NOT NULL
"""
"""The pools that have something ready, with their best ranks: visits those, however many lanes there are."""


def take_queued(work: Work, request: Request) -> tuple[set[str], bool]:
    """Take up to `request.limit` turns, and the places for which the engine's own runs ask.

    Returns:
        Runs that came back to the engine that keeps them warm; whether there were too many lanes to look at.
    """
    engine = request.engine
    left, moves, most = request.limit, 0, LOOK_AHEAD + 4 * request.limit
    warm: set[str] = set()
    heads = [row for row in work.sql.execute(_ACTIVE) if row[1] == engine or row[1] in request.pools]
    heapq.heapify(heads)
    work.heads = heads
    while heads:
        head, pool = heapq.heappop(heads)
        if pool != engine and (left <= 0 or pool not in request.pools):
            continue
        ready = lanes.ready_lanes(work, pool)
        if not ready:
            continue
        lane = ready[0]
        if lane.head != head:
            heapq.heappush(heads, (lane.head, pool))
            continue
        shut = gating.shut_gate(work, lane.wants)
        if shut is not None:
            if moves == most:
                work.heads = None
                return warm, True
            moves += 1
            lanes.block(work, lane, *shut)
            lanes.open_gates(work)
            if len(ready) > 1:
                heapq.heappush(heads, (ready[1].head, pool))
            continue
        others = [head for head, _ in heads[:1]] + [other.head for other in ready[1:]]
        left -= _take_from(work, lane, engine, left, min(others, default=None), warm)
        if len(ready) > 1:
            heapq.heappush(heads, (ready[1].head, pool))
    work.heads = None
    return warm, False


def _take_from(
    work: Work,
    lane: Lane,
    engine: str,
    left: int,
    until: int | None,
    warm: set[str],
) -> int:
    """Take from the head of a lane whose gates are open; without gates, all that goes before `until`."""
    wants = lane.wants
    alone = bool(wants.gates) or lane.pool == engine
    jobs = work.sql.execute(
        "SELECT no, run, kind, ref FROM jobs WHERE lane = :p1 AND rank <= ifnull(:p2, rank) ORDER BY rank "
        "LIMIT :p3",
        numbered(lane.no, None if alone else until, 1 if alone else left),
    ).fetchall()
    work.sql.executemany("DELETE FROM jobs WHERE no = ?", [(no,) for no, *_ in jobs])
    work.load(run for _, run, _, _ in jobs)
    taken = 0
    for _, run_id, kind, ref in jobs:
        run = work.run(run_id)
        assert run is not None, run_id
        gating.pass_through(work, wants)
        if kind == "place":
            run.extra += 1
            work.touch(run)
            fire(work, run, ref, Cause.PLACE, work.now)
        else:
            taken += 1
            if _claim(work, run, engine):
                warm.add(run_id)
    lanes.shrunk(work, lane.no)
    lanes.open_gates(work)
    return taken


def _claim(work: Work, run: Run, engine: str) -> bool:
    """The run is the engine's; whether that one has kept it warm."""
    warm = run.affinity == engine
    run.queued = False
    run.owner, run.affinity, run.news = engine, None, 0
    run.gen += 1
    run.claim = work.tell(run, engine)
    if run.cancelled:
        return warm
    run.placed = 1
    if run.started is None:
        run.started = work.now
        if run.start_by is not None:
            work.sql.execute(
                "DELETE FROM jobs WHERE run = ? AND kind = 'timer' AND ref = '!start'", (run.id,)
            )
        if run.finish_in is not None:
            runs.set_timers(work, run, (Timer("!finish", work.now + run.finish_in, Effect.CANCEL),))
    return warm


# ---------------------------------------------------------------- at once


def take_fresh(work: Work, request: Request) -> set[str]:
    """Take turns that this very call has queued, where nobody is overtaken; the others enter their lanes.

    Not in pools where something was due before, nor where another queued job asks for one of the gates.
    """
    due: list[tuple[int, Run]] = []
    for run_id, (at, number) in work.turns.items():
        run = work.run(run_id)
        if run is not None and at <= work.now:
            due.append((rank_of(at, run.priority, number), run))
    due.sort(key=itemgetter(0))
    taboo: set[str] = set()  # pools in which a better one could go first
    asked: set[str] = set()  # gates for which a better one asks
    warm: set[str] = set()
    left = request.limit
    for _, run in due:
        wants = gating.gated(run.function, *turns.gates_of(run))
        names = {gate for gate, _ in wants.gates}
        if run.function in request.pools and gating.shut_gate(work, wants) is None:
            if (
                left
                and run.function not in taboo
                and not names & asked
                and _is_first(work, run.function, names)
            ):
                del work.turns[run.id]
                gating.pass_through(work, wants)
                if _claim(work, run, request.engine):
                    warm.add(run.id)
                left -= 1
                continue
            taboo.add(run.function)
        asked |= names
    turns.settle(work)
    return warm


def _is_first(work: Work, pool: str, gates: set[str]) -> bool:
    """Whether nothing that was queued before stands in the pool, or asks for one of the gates."""
    if work.sql.execute("SELECT 1 FROM lanes WHERE pool = ? LIMIT 1", (pool,)).fetchone() is not None:
        return False
    return not any(
        work.sql.execute("SELECT 1 FROM askers WHERE gate = ? LIMIT 1", (gate,)).fetchone() for gate in gates
    )
