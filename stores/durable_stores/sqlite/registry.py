"""What is registered: functions as data, their rules, the paths by which waits are indexed, cursors.

`version` grows with every change by which events would be matched in another way. May not know plans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from durable.records import Cursor, Registered, Registration, Registry, Rule
from durable_stores.sqlite import lanes
from durable_stores.sqlite.numbering import numbered

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from durable_stores.sqlite.work import Work

__all__ = ["pause", "register", "registry"]

_FUNCTION = "id, version, CAST(about AS BLOB), rules, paths"
_SAVE = """
INSERT INTO functions (id, version, about, rules, paths) VALUES (?, ?, CAST(? AS TEXT), ?, ?)
ON CONFLICT DO UPDATE SET version = excluded.version, about = excluded.about, rules = excluded.rules,
paths = excluded.paths
"""


def register(work: Work, engine: str, functions: Sequence[Registration]) -> Registry:
    """`engine` hosts `functions`; what differs from the registration that is stored replaces it."""
    sql = work.sql
    changed = [new for new in functions if _stored(sql, new.function) != new]
    for new in changed:
        sql.execute(_SAVE, _row(new))
        sql.executemany("INSERT OR IGNORE INTO paths VALUES (?, ?)", new.paths)
        lanes.wake_all(work, new.function)
    if changed:
        work.bump_registry()
    row = sql.execute("SELECT hosts FROM engines WHERE id = ?", (engine,)).fetchone()
    if row is not None:
        hosts = sorted({*orjson.loads(row[0]), *(new.function for new in functions)})
        sql.execute("UPDATE engines SET hosts = ? WHERE id = ?", (orjson.dumps(hosts).decode(), engine))
    work.write_counters()
    return registry(sql)


def registry(sql: sqlite3.Connection) -> Registry:
    """Everything that is needed to match events."""
    (version,) = sql.execute("SELECT registry FROM store").fetchone()
    functions = sql.execute(f"SELECT paused, {_FUNCTION} FROM functions ORDER BY id")  # noqa: S608
    return Registry(
        version=version,
        functions=tuple(Registered(_registration(row), bool(paused)) for paused, *row in functions),
        paths=tuple(sql.execute("SELECT event, path FROM paths ORDER BY event, path")),
        cursors=tuple(Cursor(*row) for row in sql.execute("SELECT name, at FROM cursors ORDER BY name")),
    )


def pause(work: Work, function: str, *, paused: bool) -> None:
    """Pause a function, or let it go on."""
    changed = work.sql.execute(
        "UPDATE functions SET paused = :p1 WHERE id = :p2 AND paused <> :p1", numbered(int(paused), function)
    ).rowcount
    if changed:
        work.bump_registry()


def _stored(sql: sqlite3.Connection, function: str) -> Registration | None:
    row = sql.execute(f"SELECT {_FUNCTION} FROM functions WHERE id = ?", (function,)).fetchone()  # noqa: S608
    return None if row is None else _registration(row)


def _registration(row: Sequence[object]) -> Registration:
    function, version, about, rules, paths = row
    return Registration(
        function=str(function),
        version=str(version),
        about=bytes(about) if isinstance(about, bytes) else b"",
        rules=tuple((name, Rule(*limits)) for name, *limits in orjson.loads(str(rules))),
        paths=tuple((event, path) for event, path in orjson.loads(str(paths))),
    )


def _row(new: Registration) -> tuple[object, ...]:
    rules = [(name, rule.limit, rule.period, rule.burst) for name, rule in new.rules]
    return (
        new.function,
        new.version,
        new.about,
        orjson.dumps(rules).decode(),
        orjson.dumps(new.paths).decode(),
    )
