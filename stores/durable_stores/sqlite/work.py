"""What one call of a door has read and has yet to write: runs, memos, deliveries, pools with new work.

A door makes one `Work` in its transaction, the other modules act on it, and `finish` writes. A run is read
at most once and written at most once. May not know what doors there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from attrs import define, field

from durable.records import Memo, Parent, Rule, RunRecord, RunStatus, StoredEvent, Wait
from durable_stores.sqlite.rows import ADD_MEMO, memo_row

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable


__all__ = ["Run", "Seed", "Work"]

_COLUMNS = (
    "id, function, status, gen, owner, affinity, claim, news, fired, asked, placed, extra, created, due, started, "
    "ended, attempt, priority, event, parent_run, parent_ref, throttle, slots, singleton, finish_in, reason, "
    "holder, origin"
)
_LOAD = f"SELECT {_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608  # the columns are constants
_LOAD_MANY = f"SELECT {_COLUMNS} FROM runs WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
_ADD = f"INSERT INTO runs ({_COLUMNS}) VALUES ({', '.join('?' * 28)})"  # noqa: S608
_SAVE = """
UPDATE runs SET status = ?, gen = ?, owner = ?, affinity = ?, claim = ?, news = ?, fired = ?, asked = ?, placed = ?, extra = ?,
started = ?, ended = ?, attempt = ?, reason = ? WHERE id = ?
"""
_SAVE_END = """
UPDATE runs SET status = ?, gen = ?, owner = ?, affinity = ?, claim = ?, news = ?, fired = ?, asked = ?, placed = ?, extra = ?,
started = ?, ended = ?, attempt = ?, reason = ?, output = CAST(? AS TEXT), error = CAST(? AS TEXT),
unmet = ? WHERE id = ?
"""


@define(eq=False)
class Run:
    """A run while a door acts on it; `Work.finish` writes what became of it."""

    id: str
    function: str
    status: str
    gen: int = 0
    owner: str | None = None
    affinity: str | None = None
    claim: int = 0
    news: int = 0
    fired: int = 0
    asked: int = 0
    placed: int = 0
    extra: int = 0
    created: int = 0
    due: int = 0
    started: int | None = None
    ended: int | None = None
    attempt: int = 0
    priority: int = 0
    event: int = 0
    parent_run: str | None = None
    parent_ref: str | None = None
    throttle: str = ""
    slots: str = ""
    singleton: str | None = None
    finish_in: int | None = None
    reason: str | None = None
    holder: str | None = None
    origin: str | None = None
    queued: bool = field(init=False)
    cancelled: bool = field(init=False)
    result: tuple[bytes | None, bytes | None, str | None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.cancelled = self.status == "cancelled"
        self.queued = self.status == "queued" or (
            self.cancelled and self.owner is None and self.ended is None
        )

    def stands(self) -> str:
        """Where it stands, as a word."""
        if self.ended is not None:
            return self.status
        if self.cancelled:
            return "cancelled"
        if self.owner is not None:
            return "running"
        return "queued" if self.queued else "waiting"

    def record(self) -> RunRecord:
        """What others see of it, while it has not ended."""
        return RunRecord(
            id=self.id,
            function=self.function,
            status=RunStatus(self.stands()),
            gen=self.gen,
            created=self.created,
            due=self.due,
            started=self.started,
            ended=self.ended,
            attempt=self.attempt,
            parent=None if self.parent_run is None else Parent(self.parent_run, self.parent_ref or ""),
            reason=self.reason,
            holder=self.holder,
            origin=self.origin,
        )

    def added(self) -> tuple[Any, ...]:
        """The parameters of `_ADD`."""
        return (
            self.id,
            self.function,
            self.stands(),
            self.gen,
            self.owner,
            self.affinity,
            self.claim,
            self.news,
            self.fired,
            self.asked,
            self.placed,
            self.extra,
            self.created,
            self.due,
            self.started,
            self.ended,
            self.attempt,
            self.priority,
            self.event,
            self.parent_run,
            self.parent_ref,
            self.throttle,
            self.slots,
            self.singleton,
            self.finish_in,
            self.reason,
            self.holder,
            self.origin,
        )

    def saved(self) -> tuple[Any, ...]:
        """The parameters of `_SAVE` or, with a result, of `_SAVE_END`."""
        return (
            self.stands(),
            self.gen,
            self.owner,
            self.affinity,
            self.claim,
            self.news,
            self.fired,
            self.asked,
            self.placed,
            self.extra,
            self.started,
            self.ended,
            self.attempt,
            self.reason,
            *(self.result or ()),
            self.id,
        )


@define
class Seed:
    """All that is known of a run that this very call has created: its claim needs no reads."""

    events: tuple[StoredEvent, ...]
    memos: tuple[Memo, ...]
    waits: tuple[Wait, ...]


class Work:
    """One call of a door, inside its transaction."""

    def __init__(self, sql: sqlite3.Connection, now: int, engine: str | None = None) -> None:
        self.sql = sql
        self.now = now
        self.engine = engine
        self.turns: dict[str, tuple[int, int]] = {}  # runs that this call has queued: when due, number; in no lane yet
        self.told: dict[str, Run] = {}  # runs of which this call has numbered a delivery
        self.seeds: dict[str, Seed] = {}
        self.memos: list[tuple[Any, ...]] = []
        self.held: dict[str, int] = {}  # places taken of gates that this call has touched
        self.offers: dict[str, str] = {}  # gates that may be open now for those that wait there
        self.woke: set[str] = set()  # pools in which something became ready
        self.later: set[str] = set()  # pools in which something will be ready
        self.heads: list[tuple[int, str]] | None = None  # while turns are taken: (rank, pool) of what became ready
        self.registry_changed = False
        self._runs: dict[str, Run | None] = {}
        self._new: list[Run] = []
        self._dirty: dict[str, Run] = {}
        self._number: int | None = None
        self._registry: int | None = None
        self._sequence: int | None = None
        self._note_sequence = False
        self._rules: dict[tuple[str, str], Rule] | None = None
        self._numbers: dict[str, int] = {}  # of each engine's last delivery

    # ------------------------------------------------------------ runs

    def run(self, run_id: str) -> Run | None:
        """The run as it stands now."""
        if run_id in self._runs:
            return self._runs[run_id]
        row = self.sql.execute(_LOAD, (run_id,)).fetchone()
        run = None if row is None else Run(*row)
        self._runs[run_id] = run
        return run

    def load(self, run_ids: Iterable[str]) -> None:
        """Read many runs at once."""
        missing = [run_id for run_id in run_ids if run_id not in self._runs]
        if len(missing) < 2:
            return
        self._runs.update(dict.fromkeys(missing))
        for row in self.sql.execute(_LOAD_MANY, (orjson.dumps(missing).decode(),)):
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
        if self._rules is None:
            self._rules = {
                (owner, rule): Rule(*limits)
                for owner, rules in self.sql.execute("SELECT id, rules FROM functions")
                for rule, *limits in orjson.loads(rules)
            }
        return self._rules.get((function, name))

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
            self.sql.execute("UPDATE engines SET deliveries = ?1, told = ?1 WHERE id = ?2", (number, engine))

    # ------------------------------------------------------------ the end

    def flush(self) -> None:
        """Write runs and memos, so that questions over all of them see what this call has done."""
        sql = self.sql
        if self.memos:
            sql.executemany(ADD_MEMO, self.memos)
            self.memos.clear()
        if self._new:
            sql.executemany(_ADD, [run.added() for run in self._new])
            for run in self._new:
                self._dirty.pop(run.id, None)
            self._new.clear()
        for run in self._dirty.values():
            sql.execute(_SAVE if run.result is None else _SAVE_END, run.saved())
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
        owners = {run.owner for run in self.told.values()} - {None, self.engine}
        if not (self.woke or self.later or owners):
            return []
        pools = self.woke | self.later
        return [
            engine
            for engine, hosts in self.sql.execute("SELECT id, hosts FROM engines WHERE state = 'alive'")
            if engine != self.engine
            and (engine in pools or engine in owners or not pools.isdisjoint(orjson.loads(hosts)))
        ]
