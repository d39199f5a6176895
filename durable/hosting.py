"""What an engine is given, checked; and the questions about runs and events, turned into queries.

Duty: errors that name the argument, the value and the remedy. It may not know the executor.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import frozen

from durable.durations import PointInTime, shown, to_point_ms
from durable.errors import ConfigError
from durable.events import Event
from durable.functions import Function
from durable.ids import is_ulid
from durable.names import exact
from durable.observers import Observer, Observers
from durable.records import EventQuery, RunQuery, RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable.limits import Limits, Retention

__all__ = [
    "Options",
    "at_least",
    "event_list",
    "event_query",
    "hosted",
    "instance",
    "name_of",
    "observing",
    "position",
    "run_cursor",
    "run_query",
]

T = TypeVar("T")

_SEQUENCE = re.compile("[0-9]{1,18}")


@frozen
class Options:
    """An engine's configuration, checked; durations in ms."""

    app: str
    version: str | None
    functions: Mapping[str, Function[Any]]
    limits: Limits
    retention: Retention
    observers: Observers
    max_concurrency: int
    max_threads: int
    lease: int
    warm_for: int
    max_warm: int
    shutdown: int
    strict: bool


def hosted(app: str, functions: Sequence[Function[Any]]) -> dict[str, Function[Any]]:
    """The functions of an engine by their keys ``"<app>/<id>"``, with their handlers of failures."""
    listed = cast("object", functions)
    if isinstance(listed, Function) or not isinstance(listed, list | tuple | set | frozenset):
        raise ConfigError(f"Engine(functions): give a list of functions, got {shown(functions)}")
    found: dict[str, Function[Any]] = {}
    for one in functions:
        if not isinstance(cast("object", one), Function):
            raise ConfigError(
                f"Engine(functions): {shown(one)} is no durable function: decorate it with @durable.function(...)"
            )
        for made in (one, one.on_failure):
            if made is None:
                continue
            key = f"{app}/{made.id}"
            if key in found:
                raise ConfigError(f"Engine(functions): two functions have the id {made.id!r}")
            found[key] = made
    return found


def at_least(what: str, value: object, least: int) -> int:
    """A whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{what} must be a whole number, {least} or more, got {shown(value)}")
    return value


def instance(what: str, value: object, wanted: type[T]) -> T:
    """A value of this class; ``None`` is its default."""
    if value is None:
        return wanted()
    if not isinstance(value, wanted):
        raise ConfigError(f"{what} must be a durable.{wanted.__name__}(...), got {shown(value)}")
    return value


def observing(observers: Sequence[Observer]) -> tuple[Observer, ...]:
    """Observers, checked."""
    if not isinstance(cast("object", observers), list | tuple):
        raise ConfigError(f"Engine(observers): give a list of observers, got {shown(observers)}")
    for one in observers:
        if not isinstance(cast("object", one), Observer):
            raise ConfigError(f"Engine(observers): a list of durable.Observer objects, got {shown(one)}")
    return tuple(observers)


def event_list(what: str, given: object) -> list[Event[Any]]:
    """One event, or a list of them, as a list."""
    if isinstance(given, Event):
        return [given]
    listed: list[Any] = list(cast("Sequence[Any]", given)) if isinstance(given, list | tuple) else [given]
    for one in listed:
        if not isinstance(one, Event):
            raise ConfigError(f"{what}: expected a durable.Event or a list of them, got {shown(one)}")
    return listed


def name_of(what: str, value: object) -> str:
    """A non-empty name, as a plain `str`."""
    name = exact(value)
    if name is None:
        raise ConfigError(f"{what} must be a non-empty string of Unicode text, got {shown(value)}")
    return name


def _time(what: str, when: PointInTime | None) -> int | None:
    return None if when is None else to_point_ms(when, what=what)


def run_query(
    function: str | None,
    status: object,
    event_id: str | None,
    since: PointInTime | None,
    until: PointInTime | None,
    limit: int,
) -> RunQuery:
    """Which runs: `function` is a key."""
    several = isinstance(status, list | tuple | set | frozenset)
    listed: list[object] = list(cast("Any", status)) if several else [] if status is None else [status]
    return RunQuery(
        function,
        frozenset(_status(one) for one in listed),
        event_id,
        _time("runs(since)", since),
        _time("runs(until)", until),
        limit=at_least("runs(limit)", limit, 1),
    )


def _status(value: object) -> RunStatus:
    try:
        return RunStatus(cast("str", value))
    except ValueError:
        known = ", ".join(RunStatus)
        raise ConfigError(f"runs(status): one of {known}, got {shown(value)}") from None


def event_query(
    name: str | None, since: PointInTime | None, until: PointInTime | None, limit: int
) -> EventQuery:
    """Which events; times count from their receipt."""
    return EventQuery(
        name,
        _time("events(since)", since),
        _time("events(until)", until),
        limit=at_least("events(limit)", limit, 1),
    )


def run_cursor(cursor: object) -> str:
    """The id in a cursor of runs."""
    if not isinstance(cursor, str) or not is_ulid(cursor):
        raise ConfigError(f"runs(cursor): a cursor that a page gave, got {shown(cursor)}")
    return cursor


def position(cursor: object) -> int:
    """The sequence in a cursor of events."""
    if not isinstance(cursor, str) or not _SEQUENCE.fullmatch(cursor):
        raise ConfigError(f"events(cursor): a cursor that a page gave, got {shown(cursor)}")
    return int(cursor)
