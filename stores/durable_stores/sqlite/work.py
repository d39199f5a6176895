"""What one call of a door has read and has yet to write: runs, memos, deliveries, pools with new work.

A door makes one `Work` in its transaction, the other modules act on it, and `finish` writes. A run is read
at most once and written at most once. May not know what doors there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from attrs import define

from durable.records import Memo, Rule, StoredEvent, Wait
from durable_stores.sqlite.numbering import numbered
from durable_stores.sqlite.rows import ADD_EVENT, ADD_MEMO
from durable_stores.sqlite.run import (
    ADD_RUN,
    LOAD_RUN,
    LOAD_RUNS,
    SAVE_END,
    SAVE_RUN,
    Run,
    added,
    ended,
    saved,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


__all__ = ["Seed", "Work"]


@define
class Seed:
    """All that is known of a run that this very call has created: its claim needs no reads."""

    events: tuple[StoredEvent, ...]
    memos: tuple[Memo, ...]
    waits: tuple[Wait, ...]


class Work:
    """One call of a door, inside its transaction.

    Attributes:
        sql: The connection.
        now: The time of the call.
        engine: Who calls, if that is known.
        turns: Runs that this call has queued: when due, and the job's number. They are in no lane yet.
        told: Runs of which this call has numbered a delivery.
        seeds: What is known of runs that this call has created.
        events: Rows that are still to be written.
        memos: Rows that are still to be written.
        unheard: Names of events for which nothing waits.
        held: Places taken of the gates that this call has touched.
        offers: Gates, with a rule, that may be open now for those that wait there.
        woke: Pools in which something became ready.
        later: Pools in which something will be ready by time.
        heads: While turns are taken, a heap of (rank, pool) of what is ready.
    """

    def __init__(self, sql: sqlite3.Connection, now: int, engine: str | None = None) -> None:
        self.sql = sql
        self.now = now
        self.engine = engine
        self.turns: dict[str, tuple[int, int]] = {}
        self.told: dict[str, Run] = {}
        self.seeds: dict[str, Seed] = {}
        self.events: list[tuple[Any, ...]] = []
        self.memos: list[tuple[Any, ...]] = []
        self.unheard: set[str] = set()
        self.held: dict[str, int] = {}
        self.offers: dict[str, str] = {}
        self.woke: set[str] = set()
        self.later: set[str] = set()
        self.heads: list[tuple[int, str]] | None = None
        self.registry_changed = False
        self._runs: dict[str, Run | None] = {}
        self._new: list[Run] = []
        self._dirty: dict[str, Run] = {}
        self._number: int | None = None
        self._registry: int | None = None
        self._sequence: int | None = None
        self._note_sequence = False
        self._rules: dict[str, dict[str, Rule]] = {}
        self._paused: frozenset[str] | None = None
        self._numbers: dict[str, int] = {}  # of each engine's last delivery

    # ------------------------------------------------------------ runs

    def run(self, run_id: str) -> Run | None:
        """The run as it stands now."""
        if run_id in self._runs:
            return self._runs[run_id]
        row = self.sql.execute(LOAD_RUN, (run_id,)).fetchone()
        run = None if row is None else Run(*row)
        self._runs[run_id] = run
        return run

    def load(self, run_ids: Iterable[str]) -> None:
        """Read many runs at once."""
        missing = [run_id for run_id in run_ids if run_id not in self._runs]
        if len(missing) < 2:
            return
        self._runs.update(dict.fromkeys(missing))
        for row in self.sql.execute(LOAD_RUNS, (orjson.dumps(missing).decode(),)):
            self._runs[row[0]] = Run(*row)

    def add(self, run: Run) -> None:
        """A run that this call creates."""
        self._runs[run.id] = run
        self._new.append(run)

    def touch(self, run: Run) -> None:
        """Something of `run` was changed, and has to be written."""
        self._dirty[run.id] = run

    # ------------------------------------------------------------ counters

    def number(self) -> int:
        """The next number of a job: they order what was created, among those that are still there."""
        if self._number is None:
            (self._number,) = self.sql.execute("SELECT ifnull(max(no), 0) FROM jobs").fetchone()
        assert self._number is not None
        self._number += 1
        return self._number

    def registry(self) -> int:
        """The version of the registry."""
        if self._registry is None:
            self._read_counters()
        assert self._registry is not None
        return self._registry

    def bump_registry(self) -> None:
        """The registry has changed."""
        self._registry = self.registry() + 1
        self.registry_changed = True

    def sequence(self) -> int:
        """The sequence of the newest event or wait."""
        if self._sequence is None:
            self._read_counters()
        assert self._sequence is not None
        return self._sequence

    def next_sequence(self, *, stored: bool) -> int:
        """The next in the one order of events and waits; those that are not `stored` as events are noted."""
        self._sequence = self.sequence() + 1
        self._note_sequence = self._note_sequence or not stored
        return self._sequence

    def note_sequence(self) -> None:
        """The newest event may be gone: the sequence is to be remembered without it."""
        self.sequence()
        self._note_sequence = True

    def _read_counters(self) -> None:
        self._registry, self._sequence = self.sql.execute(
            "SELECT registry, max(sequence, ifnull((SELECT max(seq) FROM events), 0)) FROM store"
        ).fetchone()

    def rule(self, function: str, name: str) -> Rule | None:
        """The limit that jobs of `function` call `name`."""
        rules = self._rules.get(function)
        if rules is None:
            row = self.sql.execute("SELECT rules FROM functions WHERE id = ?", (function,)).fetchone()
            stored: list[list[Any]] = [] if row is None else orjson.loads(row[0])
            rules = self._rules[function] = {rule: Rule(*limits) for rule, *limits in stored}
        return rules.get(name)

    def is_paused(self, function: str) -> bool:
        """Whether plans of `function` are skipped."""
        if self._paused is None:
            rows = self.sql.execute("SELECT id FROM functions WHERE paused = 1")
            self._paused = frozenset(row[0] for row in rows)
        return function in self._paused

    # ------------------------------------------------------------ deliveries

    def tell(self, run: Run, engine: str) -> int:
        """Number a delivery of `run` to `engine`, in whose next answer it will stand."""
        number = self.numbered(engine) + 1
        self._numbers[engine] = number
        self.told[run.id] = run
        self.touch(run)
        return number

    def numbered(self, engine: str) -> int:
        """The number of the last delivery to `engine`."""
        number = self._numbers.get(engine)
        if number is None:
            row = self.sql.execute("SELECT deliveries FROM engines WHERE id = ?", (engine,)).fetchone()
            number = 0 if row is None else int(row[0])
        return number

    def answered(self, engine: str) -> None:
        """The answer of this call holds everything that `engine` has to be told."""
        number = self._numbers.pop(engine, None)
        if number is None:
            self.sql.execute("UPDATE engines SET told = deliveries WHERE id = ?", (engine,))
        else:
            self.sql.execute(
                "UPDATE engines SET deliveries = :p1, told = :p1 WHERE id = :p2", numbered(number, engine)
            )

    # ------------------------------------------------------------ the end

    def store_events(self) -> None:
        """Write the events of this call, for whoever reads them from their table."""
        if self.events:
            self.sql.executemany(ADD_EVENT, self.events)
            self.events.clear()

    def flush(self) -> None:
        """Write events, runs and memos, so that questions over all of them see what this call has done."""
        sql = self.sql
        self.store_events()
        if self.memos:
            sql.executemany(ADD_MEMO, self.memos)
            self.memos.clear()
        if self._new:
            sql.executemany(ADD_RUN, [added(run) for run in self._new])
            for run in self._new:
                self._dirty.pop(run.id, None)
            self._new.clear()
        if self._dirty:
            dirty = self._dirty.values()
            sql.executemany(SAVE_RUN, [saved(run) for run in dirty if run.result is None])
            sql.executemany(SAVE_END, [ended(run) for run in dirty if run.result is not None])
            self._dirty.clear()

    def finish(self) -> list[str]:
        """Write everything, and say whose bells are to be rung when it is durable."""
        sql = self.sql
        self.flush()
        for gate, held in self.held.items():
            if held:
                sql.execute("INSERT OR REPLACE INTO slots VALUES (?, ?)", (gate, held))
            else:
                sql.execute("DELETE FROM slots WHERE gate = ?", (gate,))
        for engine, number in self._numbers.items():
            sql.execute("UPDATE engines SET deliveries = ? WHERE id = ?", (number, engine))
        self.write_counters()
        return self._bells()

    def write_counters(self) -> None:
        """Write the counters of the whole store that have changed."""
        if self._note_sequence:
            self.sql.execute("UPDATE store SET sequence = ?", (self._sequence,))
        if self.registry_changed:
            self.sql.execute("UPDATE store SET registry = ?", (self._registry,))

    def _bells(self) -> list[str]:
        concerned = {run.owner for run in self.told.values() if run.owner != self.engine}
        concerned |= self.woke | self.later
        if not concerned:
            return []
        living = self.sql.execute("SELECT id, hosts FROM engines WHERE state = 'alive'").fetchall()
        return [
            engine
            for engine, hosts in living
            if engine != self.engine and not concerned.isdisjoint({engine, *orjson.loads(hosts)})
        ]
