"""Debounces and batches: events are kept under a key, until the run that they will start is due.

The buffer owns the id of that run: all who put something in are promised it. May not know how runs are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson
from attrs import evolve, frozen
from msgspec.structs import replace

from durable.gates import batch_due, debounce_due
from durable.records import Parent, Plan
from durable_stores.sqlite.rows import EVENT, stored_event_of

if TYPE_CHECKING:
    from durable.records import StoredEvent
    from durable_stores.sqlite.work import Work

__all__ = ["Put", "put", "take"]

_SAVE = """
INSERT INTO buffers (key, run, first, parents, plan) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET parents = excluded.parents, plan = excluded.plan
"""


@frozen
class Put:
    """What came of it: the promised run; when it is due, unless the plan is void; who was displaced."""

    run: str
    due: int | None
    displaced: tuple[Parent, ...] = ()


@frozen
class _Buffer:
    run: str
    first: int
    parents: tuple[Parent, ...]
    plan: Plan


def put(work: Work, key: str, plan: Plan, events: tuple[StoredEvent, ...]) -> Put:
    """Put a plan and its events into the buffer of `key`, which is made if need be."""
    parents = () if plan.parent is None else (plan.parent,)
    held = _load(work, key)
    displaced: tuple[Parent, ...] = ()
    if held is None:
        new = _Buffer(plan.run, work.now, parents, plan)
    elif plan.batch is not None:
        new = evolve(held, parents=held.parents + parents)
    elif _ts(events) < _ts(_events(work, key)):
        return Put(held.run, None, parents)
    else:
        displaced = held.parents
        new = evolve(held, parents=parents, plan=replace(plan, run=held.run))
        work.sql.execute("DELETE FROM buffered WHERE key = ?", (key,))
    size = _add(work, key, events)
    due = _due(work, plan, new.first, size)
    _save(work, key, new, due, is_new=held is None)
    return Put(new.run, due, displaced)


def take(work: Work, key: str) -> tuple[Plan, tuple[StoredEvent, ...], tuple[Parent, ...]]:
    """Empty the buffer of `key`: the plan to be carried out, with its events and all who invoked it."""
    held = _load(work, key)
    assert held is not None, key
    events = _events(work, key)
    work.sql.execute("DELETE FROM buffers WHERE key = ?", (key,))
    work.sql.execute("DELETE FROM buffered WHERE key = ?", (key,))
    work.sql.execute("DELETE FROM jobs WHERE run = ? AND kind = 'flush' AND ref = ?", (held.run, key))
    return held.plan, events, held.parents


def _add(work: Work, key: str, events: tuple[StoredEvent, ...]) -> int:
    """Keep more events; how many there are now."""
    (held,) = work.sql.execute("SELECT ifnull(max(place), 0) FROM buffered WHERE key = ?", (key,)).fetchone()
    rows = [(key, place, event.seq) for place, event in enumerate(events, held + 1)]
    work.sql.executemany("INSERT INTO buffered VALUES (?, ?, ?)", rows)
    return int(held) + len(events)


def _due(work: Work, plan: Plan, first: int, size: int) -> int:
    if plan.batch is not None:
        return batch_due(first, work.now, plan.batch.size, size, plan.batch.timeout)
    assert plan.debounce is not None
    return debounce_due(first, work.now, plan.debounce.period, plan.debounce.timeout)


def _load(work: Work, key: str) -> _Buffer | None:
    row = work.sql.execute("SELECT run, first, parents, plan FROM buffers WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    run, first, parents, plan = row
    invoked_by = tuple(Parent(*parent) for parent in orjson.loads(parents))
    return _Buffer(run, first, invoked_by, msgspec.json.decode(plan, type=Plan))


def _save(work: Work, key: str, held: _Buffer, due: int, *, is_new: bool) -> None:
    work.sql.execute(
        _SAVE,
        (
            key,
            held.run,
            held.first,
            orjson.dumps([(parent.run, parent.ref) for parent in held.parents]).decode(),
            msgspec.json.encode(held.plan).decode(),
        ),
    )
    if is_new:
        work.sql.execute(
            "INSERT INTO jobs (no, run, kind, ref, due) VALUES (?, ?, 'flush', ?, ?)",
            (work.number(), held.run, key, due),
        )
        work.later.add(held.plan.function)
    else:
        work.sql.execute(
            "UPDATE jobs SET due = ? WHERE run = ? AND kind = 'flush' AND ref = ?", (due, held.run, key)
        )


def _events(work: Work, key: str) -> tuple[StoredEvent, ...]:
    work.store_events()
    rows = work.sql.execute(
        f"SELECT {EVENT} FROM buffered JOIN events ON seq = buffered.event WHERE key = ? ORDER BY place",  # noqa: S608
        (key,),
    )
    return tuple(stored_event_of(row) for row in rows)


def _ts(events: tuple[StoredEvent, ...]) -> int:
    return events[-1].ts if events else 0
