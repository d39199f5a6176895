"""Whether the tables agree with each other: what indexes claim is counted again. May not repair anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from durable_stores.sqlite import gating
from durable_stores.sqlite.work import Work

if TYPE_CHECKING:
    import sqlite3

__all__ = ["faults"]

_NONE = {
    "a lane's head is not the best rank in it": """
SELECT no FROM lanes WHERE head IS NOT (SELECT min(rank) FROM jobs WHERE lane = lanes.no)
""",
    "a job stands in a lane that is not there": """
SELECT no FROM jobs WHERE lane IS NOT NULL AND lane NOT IN (SELECT no FROM lanes)
""",
    "a job's run is not there": """
SELECT no FROM jobs WHERE kind <> 'flush' AND run NOT IN (SELECT id FROM runs)
""",
    "a run is not queued, and has a turn": """
SELECT run FROM jobs JOIN runs ON id = run WHERE kind = 'turn' AND status NOT IN ('queued', 'cancelled')
""",
    "a run is queued, and has no turn": """
SELECT id FROM runs WHERE (status = 'queued' OR (status = 'cancelled' AND owner IS NULL AND ended IS NULL))
AND NOT EXISTS (SELECT 1 FROM jobs WHERE run = id AND kind = 'turn')
""",
    "a run has ended, and something of it is left": """
SELECT id FROM runs WHERE ended IS NOT NULL AND (
    owner IS NOT NULL OR placed OR extra OR EXISTS (SELECT 1 FROM jobs WHERE run = id)
    OR EXISTS (SELECT 1 FROM waits WHERE run = id) OR EXISTS (SELECT 1 FROM fired WHERE run = id)
)
""",
    "nobody owns a run, and it holds places": """
SELECT id FROM runs WHERE owner IS NULL AND (placed OR extra)
""",
    "a wait that may time out has no time-out": """
SELECT run, ref FROM waits AS w WHERE until IS NOT NULL AND closed = 0
AND NOT EXISTS (SELECT 1 FROM jobs WHERE run = w.run AND kind = 'timeout' AND ref = w.ref AND due = w.until)
""",
    "a time-out has no wait": """
SELECT run, ref FROM jobs AS j WHERE kind = 'timeout'
AND NOT EXISTS (SELECT 1 FROM waits WHERE run = j.run AND ref = j.ref)
""",
    "a candidate has no wait": """
SELECT run, ref FROM candidates AS c WHERE NOT EXISTS (SELECT 1 FROM waits WHERE run = c.run AND ref = c.ref)
""",
    "a buffer has no flush": """
SELECT key FROM buffers AS b
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE run = b.run AND kind = 'flush' AND ref = b.key)
""",
    "a singleton is held by a run that has ended": """
SELECT key FROM singletons JOIN runs ON runs.id = run WHERE ended IS NOT NULL
""",
}


def faults(sql: sqlite3.Connection) -> list[str]:
    """What is wrong, in words; nothing, if all is well."""
    found = [
        f"{what}: {rows[:3]}"
        for what, statement in _NONE.items()
        if (rows := sql.execute(statement).fetchall())
    ]
    return [*found, *_places(sql), *_lanes(sql)]


def _places(sql: sqlite3.Connection) -> list[str]:
    """Gates whose places are not those that runs hold."""
    held: dict[str, int] = {}
    for slots, singleton, placed, extra in sql.execute(
        "SELECT slots, singleton, placed, extra FROM runs WHERE placed OR extra"
    ):
        for gate, _ in orjson.loads(slots) if slots else ():
            held[gate] = held.get(gate, 0) + placed + extra
        if singleton is not None and placed:
            gate = gating.singleton_gate(singleton)
            held[gate] = held.get(gate, 0) + placed
    stored = dict(sql.execute("SELECT gate, held FROM slots"))
    held = {gate: count for gate, count in held.items() if count}
    return [] if stored == held else [f"places held are {held}, stored is {stored}"]


def _lanes(sql: sqlite3.Connection) -> list[str]:
    """Lanes blocked at a gate that is open, with no ready one of their kind before them; askers that are wrong."""
    work, found = Work(sql, 0), list[str]()
    asked: set[tuple[str, int]] = set()
    ready: dict[tuple[str, str, str], int] = {}
    blocked: list[tuple[int, str, str, str, str, int]] = []
    for no, pool, function, throttle, slots, head, gate, rule in sql.execute(
        "SELECT no, pool, function, throttle, slots, head, gate, rule FROM lanes"
    ):
        gates = gating.gated(function, throttle, slots).gates
        asked.update((name, no) for name, _ in gates)
        if gate is not None:
            blocked.append((no, pool, function, gate, rule, head))
            continue
        for name, limit in gates:
            key = (name, pool, limit)
            ready[key] = min(head, ready.get(key, head))
    if asked != set(sql.execute("SELECT gate, lane FROM askers")):
        found.append("the askers of gates are not those of the lanes")
    for no, pool, function, gate, rule, head in blocked:
        better = ready.get((gate, pool, rule), head)
        if not gate.startswith("throttle:") and better >= head and gating.is_open(work, function, gate, rule):
            found.append(f"lane {no} is blocked at {gate}, which is open")
    return found
