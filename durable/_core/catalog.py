"""The catalog: all functions that a store knows, and which of them an event concerns.

Made from the registry, which holds functions as data, so that any process can dispatch to all of them, those
that it does not host included. Pure; it may not know the store that the registry came from.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import orjson
from attrs import field, frozen

from durable._core.expressions import compile_condition, compile_key, compile_match, index_key, lookup
from durable.records import Registration
from durable.triggers import CronTrigger, EventTrigger, patterns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from durable._core.cel import Condition, Key
    from durable.functions import FunctionConfig
    from durable.records import Registry, Wait

__all__ = ["Blueprint", "Cancel", "Catalog", "name_of_parts", "path_text", "registration"]

_BOTH = frozenset({"event", "async"})
_NAMES_KEPT = 4096
"""Names of events whose triggers are remembered, at most."""


# ---------------------------------------------------------------- functions as data


def registration(app: str, version: str | None, config: FunctionConfig) -> Registration:
    """What the store keeps of a function, from its configuration."""
    triggers: list[dict[str, Any]] = []
    for one in config.triggers:
        if isinstance(one, EventTrigger):
            triggers.append({"event": one.event, "if": one.if_})
        else:
            triggers.append(_cron_data(one))
    if config.failure_of is not None:
        which = orjson.dumps(config.failure_of).decode(), orjson.dumps(app).decode()
        condition = f"event.data.function_id == {which[0]} && event.data.app == {which[1]}"
        triggers.append({"event": "durable/function.failed", "if": condition})
    cancels = [
        {"event": one.event, "if": one.if_, "match": one.match, "timeout": _timeout_data(one.timeout)}
        for one in config.cancel_on
    ]
    about = {
        "id": config.id,
        "app": app,
        "name": config.name,
        "triggers": triggers,
        "idempotency": config.idempotency,
        "cancel_on": cancels,
        "start_timeout": config.timeouts.start_ms,
        "finish_timeout": config.timeouts.finish_ms,
    }
    paths = tuple(
        (one.event, path_text(equality.path))
        for one, condition in zip(config.cancel_on, map(_cancel_condition, cancels), strict=True)
        if condition is not None
        for equality in condition.equalities[:1]
    )
    return Registration(
        f"{app}/{config.id}", version or "", orjson.dumps(about), (), tuple(sorted(set(paths)))
    )


def _cron_data(trigger: CronTrigger) -> dict[str, Any]:
    return {
        "cron": trigger.expr,
        "timezone": trigger.timezone,
        "jitter": trigger.jitter_ms,
        "missed": trigger.missed,
    }


def _timeout_data(timeout: Any) -> int | str | None:
    """A duration as ms, a point in time as text: which of the two it is decides when it is counted from."""
    from durable.durations import to_ms, to_point_ms  # noqa: PLC0415 - only when something is registered
    from durable.errors import ConfigError  # noqa: PLC0415 - as above

    if timeout is None:
        return None
    try:
        return to_ms(timeout)
    except ConfigError:
        return f"@{to_point_ms(timeout, what='CancelOn.timeout')}"


def _cancel_condition(about: Mapping[str, Any]) -> Condition | None:
    if about["match"] is not None:
        return compile_match(about["match"])
    if about["if"] is not None:
        return compile_condition(about["if"], roots=_BOTH)
    return None


@frozen
class Cancel:
    """An event that cancels runs: `timeout` is ms from the run's creation, or ``"@<ms>"``, a point in time."""

    event: str
    condition: Condition | None
    timeout: int | str | None


@frozen
class Blueprint:
    """A function as the registry tells it, ready to make plans from."""

    key: str
    id: str
    app: str
    paused: bool
    triggers: tuple[tuple[str, Condition | None], ...]
    crons: tuple[CronTrigger, ...] = ()
    idempotency: Key | None = None
    cancel_on: tuple[Cancel, ...] = ()
    start_timeout: int | None = None
    finish_timeout: int | None = None
    about: dict[str, Any] = field(factory=dict[str, Any], repr=False)

    @staticmethod
    def of(registration: Registration, *, paused: bool) -> Blueprint:
        """Read a function back from what the store keeps of it."""
        about: dict[str, Any] = orjson.loads(registration.about)
        events = [one for one in about["triggers"] if "event" in one]
        crons = [one for one in about["triggers"] if "cron" in one]
        return Blueprint(
            key=registration.function,
            id=about["id"],
            app=about["app"],
            paused=paused,
            triggers=tuple(
                (one["event"], None if one["if"] is None else compile_condition(one["if"])) for one in events
            ),
            crons=tuple(
                CronTrigger(one["cron"], one["timezone"], one["jitter"] / 1000, one["missed"])
                for one in crons
            ),
            idempotency=None if about["idempotency"] is None else compile_key(about["idempotency"]),
            cancel_on=tuple(
                Cancel(one["event"], _cancel_condition(one), one["timeout"]) for one in about["cancel_on"]
            ),
            start_timeout=about["start_timeout"],
            finish_timeout=about["finish_timeout"],
            about=about,
        )


def name_of_parts(*parts: str) -> str:
    """One name made of several: others make another, whatever characters the parts hold."""
    return orjson.dumps(parts).decode()


# ---------------------------------------------------------------- matching


def path_text(path: tuple[str, ...]) -> str:
    """A path as the index of waits and people write it: ``data.order_id``."""
    if all(part.isidentifier() for part in path):
        return ".".join(path)
    return orjson.dumps(path).decode()


def _path_of(text: str) -> tuple[str, ...]:
    return tuple(orjson.loads(text)) if text.startswith("[") else tuple(text.split("."))


class Catalog:
    """All functions of a store in one version of its registry, indexed by what starts them."""

    __slots__ = ("_by_event", "_found", "_paths", "functions", "version")

    def __init__(self, registry: Registry | None = None) -> None:
        self.version = 0 if registry is None else registry.version
        self.functions: dict[str, Blueprint] = {}
        self._by_event: dict[str, list[tuple[Blueprint, Condition | None]]] = {}
        self._found: dict[str, list[tuple[Blueprint, Condition | None]]] = {}
        self._paths: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        if registry is None:
            return
        for registered in registry.functions:
            self._add(Blueprint.of(registered.registration, paused=registered.paused))
        for name, path in registry.paths:
            self._paths.setdefault(name, []).append((path, _path_of(path)))

    def _add(self, blueprint: Blueprint) -> None:
        self.functions[blueprint.key] = blueprint
        for event, condition in blueprint.triggers:
            self._by_event.setdefault(event, []).append((blueprint, condition))

    def find(self, app: str, function: str) -> Blueprint | None:
        """A function by its id in `app`, or by its full key."""
        return self.functions.get(f"{app}/{function}") or self.functions.get(function)

    def unknown(self, app: str, function: str) -> str:
        """Why `find` found nothing, and what to do: perhaps another app has it."""
        elsewhere = ", ".join(sorted(repr(one.key) for one in self.functions.values() if one.id == function))
        remedy = f"name it as {elsewhere}" if elsewhere else "give it to an engine, or mend the id"
        return f"no function {function!r} of app {app!r} is registered in this store: {remedy}"

    def starts(self, name: str) -> list[tuple[Blueprint, Condition | None]]:
        """The triggers that events of this name may fire, wildcards included."""
        found = self._found.get(name)
        if found is None:
            found = [one for pattern in patterns_of(name) for one in self._by_event.get(pattern, ())]
            if len(self._found) < _NAMES_KEPT:
                self._found[name] = found
        return found

    def matches(self, name: str, document: Mapping[str, Any] | None) -> Iterable[Blueprint]:
        """The functions that an event starts, each once."""
        seen: set[str] = set()
        for blueprint, condition in self.starts(name):
            if blueprint.key not in seen and (condition is None or condition(document)):
                seen.add(blueprint.key)
                yield blueprint

    def needs_document(self, name: str) -> bool:
        """Whether matching an event of this name looks inside it."""
        return name in self._paths or any(
            condition is not None or blueprint.idempotency is not None or blueprint.cancel_on
            for blueprint, condition in self.starts(name)
        )

    def knowing(self, waits: Iterable[Wait]) -> Catalog:
        """This catalog, and the paths of waits that are about to be registered.

        An event that is sent in the same commit comes after them, and is for them, too.
        """
        new = [
            (one.event, one.path)
            for one in waits
            if one.event is not None
            and one.path is not None
            and all(one.path != text for text, _ in self._paths.get(one.event, ()))
        ]
        if not new:
            return self
        wider = copy(self)
        wider._paths = paths = {name: [*known] for name, known in self._paths.items()}  # noqa: SLF001 - our own
        for name, path in dict.fromkeys(new):
            paths.setdefault(name, []).append((path, _path_of(path)))
        return wider

    def index_keys(self, name: str, document: Mapping[str, Any] | None) -> tuple[str, ...]:
        """The event's entries for the index of waits: ``"<path>=<value>"`` of each path that waits know."""
        paths = self._paths.get(name)
        if not paths or document is None:
            return ()
        keys: list[str] = []
        for text, path in paths:
            value = index_key(lookup(document, path))
            if value is not None:
                keys.append(f"{text}={value}")
        return tuple(keys)
