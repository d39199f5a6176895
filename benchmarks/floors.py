"""What the same rows cost without an engine: bare commits on the same file and the same connection.

For SQLite a floor is one transaction: begin, the rows that the engine has just been seen to write, commit; in
one hop to the database's thread. Rows are copied from those that the engine has written, into the same tables,
under names that sort apart. A store that has no such thing, the one in memory among them, is called directly,
through its doors, with records like those that the engine hands over.
"""

# ruff: noqa: SLF001, S608  # floors go past the store's doors; names of columns are the database's own

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

import durable
from durable._core.catalog import registration
from durable.records import Admission, Commit, End, NewEvent, Plan, Request, RunStatus

if TYPE_CHECKING:
    import sqlite3

    from durable.records import Memo, StoredEvent

Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the rows with which it is executed."""


@durable.function("f")
async def nobodys(ctx: durable.Context) -> None:
    """The function whose runs the floor makes; it never executes."""


class DoorFloor:
    """The doors of a store, called by nobody's engine."""

    kind = "the store's door"
    durability = "none: gone with the process"

    def __init__(self, store: Any) -> None:
        self.store = store
        self.label = type(store).__name__.removesuffix("Store").lower()
        self._number = 0
        self._started: list[str] = []

    async def learn(self, run_id: str) -> None:
        """Take a run that the engine has brought to its end as the example."""
        history = await self.store.history(run_id)
        self._memo: Memo = history.memos[0]
        self._event: StoredEvent = history.events[0]
        self._now = history.run.ended
        await self.store.join(self._now, "~floor")
        about = registration("~floor", None, nobodys.config)
        made = await self.store.register(self._now, "~floor", [about])
        self._registry = made.version
        await self.start()
        self._open = self._started.pop()

    def _numbers(self, n: int) -> range:
        self._number += n
        return range(self._number - n + 1, self._number + 1)

    def _new_event(self, number: int) -> NewEvent:
        return NewEvent(f"~floor{number}", self._event.name, self._event.ts, self._event.data)

    async def steps(self, n: int = 1) -> float:
        """Seconds for a commit of `n` memos."""
        memos = tuple(replace(self._memo, position=i) for i in self._numbers(n))
        commit = Commit(self._open, 1, memos)
        began = perf_counter()
        await self.store.commit(self._now, "~floor", [commit])
        return perf_counter() - began

    async def event(self) -> float:
        """Seconds for a commit of one event."""
        (number,) = self._numbers(1)
        admission = Admission(event=self._new_event(number), registry=self._registry)
        began = perf_counter()
        await self.store.admit(self._now, [admission])
        return perf_counter() - began

    async def start(self, n: int = 1) -> float:
        """Seconds for a commit of `n` runs, each with its event."""
        admissions = []
        for i in self._numbers(n):
            plan = Plan("~floor/f", f"~floor{i}", self._now)
            admissions.append(Admission(self._new_event(i), (plan,), self._registry))
            self._started.append(plan.run)
        request = Request("~floor", 1 << 40, frozenset(["~floor/f"]), n)
        began = perf_counter()
        await self.store.admit(self._now, admissions, request)
        return perf_counter() - began

    async def end(self, n: int = 1) -> float:
        """Seconds for a commit of `n` last memos, ends of the runs of the last `start`, and their events."""
        runs, self._started = self._started[:n], self._started[n:]
        commits = []
        for run, i in zip(runs, self._numbers(n), strict=True):
            tells = Admission(self._new_event(i), registry=self._registry)
            then = End(RunStatus.COMPLETED, self._memo.value, admit=(tells,))
            commits.append(Commit(run, 1, (self._memo,), then=then))
        began = perf_counter()
        await self.store.commit(self._now, "~floor", commits)
        return perf_counter() - began


class SQLiteFloor:
    """Bare transactions on the connection of an open SQLite store."""

    kind = "bare commit"
    label = "sqlite"

    def __init__(self, store: Any) -> None:
        self.store = store
        self._number = 0
        self._ended = 0

    @property
    def durability(self) -> str:
        """What a commit survives."""
        setting = self.store._database._synchronous.upper()
        return f"WAL, synchronous={setting}"

    async def learn(self, run_id: str) -> None:
        """Copy the rows of a run that the engine has brought to its end."""

        def read(sql: sqlite3.Connection) -> None:
            def one(query: str, *values: Any) -> dict[str, Any]:
                cursor = sql.execute(query, values)
                row = cursor.fetchone()
                return dict(zip([about[0] for about in cursor.description], row, strict=True))

            self._run = one("SELECT * FROM runs WHERE id = ?", run_id)
            self._memo = one("SELECT * FROM memos WHERE run = ? LIMIT 1", run_id)
            self._event = one("SELECT * FROM events WHERE seq = ?", self._run["event"])

        await self.store._database.read(read)

    async def _commit(self, *statements: Statement) -> float:
        sql = self.store._database._sql

        def bare() -> None:
            sql.execute("BEGIN IMMEDIATE")
            for statement, rows in statements:
                if len(rows) == 1:
                    sql.execute(statement, rows[0])
                else:
                    sql.executemany(statement, rows)
            sql.execute("COMMIT")

        began = perf_counter()
        await self.store._database._thread.submit(bare)
        return perf_counter() - began

    def _numbers(self, n: int) -> range:
        self._number += n
        return range(self._number - n + 1, self._number + 1)

    def _memos(self, n: int) -> Statement:
        return _insert("memos", [{**self._memo, "run": "~floor", "position": i} for i in self._numbers(n)])

    def _events(self, n: int) -> Statement:
        # The engine numbers events upwards from one: these are out of its way.
        rows = [{**self._event, "seq": -i, "id": f"~floor{i}"} for i in self._numbers(n)]
        return _insert("events", rows)

    async def steps(self, n: int = 1) -> float:
        """Seconds for a commit of `n` memos."""
        return await self._commit(self._memos(n))

    async def event(self) -> float:
        """Seconds for a commit of one event."""
        return await self._commit(self._events(1))

    async def start(self, n: int = 1) -> float:
        """Seconds for a commit of `n` runs, each with its event."""
        fresh = {**self._run, "status": "queued", "ended": None, "output": None, "owner": None}
        rows = [{**fresh, "id": f"~floor{i}"} for i in self._numbers(n)]
        self._started = [row["id"] for row in rows]
        return await self._commit(self._events(n), _insert("runs", rows))

    async def end(self, n: int = 1) -> float:
        """Seconds for a commit of `n` last memos, ends of the runs of the last `start`, and their events."""
        rows = [
            (self._run["status"], self._run["ended"], self._run["output"], one) for one in self._started[:n]
        ]
        self._started = self._started[n:]
        update = "UPDATE runs SET status = ?, ended = ?, output = ? WHERE id = ?"
        return await self._commit(self._memos(n), (update, rows), self._events(n))


def _insert(name: str, rows: list[dict[str, Any]]) -> Statement:
    columns = list(rows[0])
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", [
        tuple(row.values()) for row in rows
    ]


def floor_of(store: Any) -> Any:
    """The floor of a store; it has to be open when it is used."""
    return SQLiteFloor(store) if type(store).__name__ == "SQLiteStore" else DoorFloor(store)
