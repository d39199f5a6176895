"""Event + functions + now -> what is asked of the store.

Pure: ids and time come in as arguments. It decides keys, due times and cancellations; the store decides,
in one transaction, what becomes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

from durable._core.catalog import name_of_parts, path_text
from durable._core.expressions import compile_condition, index_key, prune
from durable._core.settling import document_of
from durable.records import Admission, Effect, End, Latch, NewEvent, Plan, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from durable._core.catalog import Blueprint, Cancel, Catalog
    from durable._core.cel import Condition
    from durable.records import Commit, Cursor, History, Memo, Parent

__all__ = [
    "INVOKED",
    "admission",
    "admission_of_tick",
    "condition_holds",
    "due_times",
    "event_wait",
    "invocation",
    "plan",
    "repetition",
    "written_due_times",
]

INVOKED = "durable/function.invoked"
_DAY_MS = 24 * 3600 * 1000
_NEVER = "!"
"""An index that no event has: for a wait whose own side of the equality is missing."""


def admission(
    catalog: Catalog, event: NewEvent, document: Mapping[str, Any] | None, now: int, new_id: Callable[[], str]
) -> Admission:
    """Everything that an event causes: a plan for each function that it starts, and its index keys."""
    plans = tuple(
        plan(blueprint, new_id(), document, ts=event.ts, now=now)
        for blueprint in catalog.matches(event.name, document)
    )
    return Admission(event, plans, catalog.version, catalog.index_keys(event.name, document))


def invocation(
    catalog: Catalog,
    blueprint: Blueprint,
    event: NewEvent,
    document: Mapping[str, Any],
    now: int,
    run: str,
    *,
    parent: Parent | None = None,
) -> Admission:
    """One run of one function, whatever its triggers say; all its other rules hold."""
    made = plan(blueprint, run, document, ts=event.ts, now=now, parent=parent)
    return Admission(event, (made,), catalog.version, catalog.index_keys(event.name, document))


def admission_of_tick(
    catalog: Catalog,
    blueprint: Blueprint,
    event: NewEvent,
    data: Mapping[str, Any],
    now: int,
    run: str,
    cursor: Cursor,
) -> Admission:
    """One run for one tick of a schedule, once on all engines."""
    document = {"id": event.id, "name": event.name, "data": data, "user": None, "ts": event.ts, "v": None}
    made = plan(blueprint, run, document, ts=event.ts, now=now)
    keys = catalog.index_keys(event.name, document)
    return Admission(event, (made,), catalog.version, keys, cursor=cursor)


def repetition(catalog: Catalog, history: History, memos: tuple[Memo, ...], run: str, now: int) -> Admission:
    """One more run from the events of `history`, which already knows `memos`.

    What its function says of runs that exist holds for it, counted from now; what it says of runs to be made
    (once a key, say) was obeyed by the first one.
    """
    key = history.run.function
    blueprint = catalog.functions.get(key)
    made = Plan(key, run, now)
    if blueprint is not None:
        document = document_of(history.events[0]) if history.events else None
        made = replace(plan(blueprint, run, document, ts=now, now=now), once=())
    made = replace(made, memos=memos, origin=history.run.id)
    again = tuple(event.seq for event in history.events)
    return Admission(plans=(made,), registry=catalog.version, again=again)


def plan(
    blueprint: Blueprint,
    run: str,
    document: Mapping[str, Any] | None,
    *,
    ts: int,
    now: int,
    parent: Parent | None = None,
) -> Plan:
    """The run that `blueprint` would like to have for an event."""
    due = max(now, ts)
    once: tuple[Latch, ...] = ()
    if blueprint.idempotency is not None:
        key = blueprint.idempotency(document)
        if not key.off and not key.null:
            once = (Latch(name_of_parts("idempotency", blueprint.key, key.text), _DAY_MS),)
    return Plan(
        blueprint.key,
        run,
        due,
        parent=parent,
        once=once,
        waits=tuple(
            _cancellation(number, cancel, document or {}, now)
            for number, cancel in enumerate(blueprint.cancel_on)
        ),
        start_timeout=None if blueprint.start_timeout is None else due + blueprint.start_timeout,
        finish_timeout=blueprint.finish_timeout,
    )


def _cancellation(number: int, cancel: Cancel, document: Mapping[str, Any], now: int) -> Wait:
    until: int | None = None
    if isinstance(cancel.timeout, int):
        until = now + cancel.timeout
    elif cancel.timeout is not None:
        until = int(cancel.timeout[1:])
    return event_wait(
        f"!cancel {number} {cancel.event}",
        cancel.event,
        cancel.condition,
        document,
        until=until,
        effect=Effect.CANCEL,
    )


def due_times(admission: Admission, now: int) -> Iterator[int]:
    """When something of an admission that was stored at `now` will happen by time alone (ms)."""
    for one in admission.plans:
        if one.due > now:
            yield one.due
        if one.start_timeout is not None:
            yield one.start_timeout
        yield from (wait.until for wait in one.waits if wait.until is not None)


def written_due_times(commit: Commit, now: int) -> Iterator[int]:
    """As `due_times`, of a commit."""
    yield from (timer.due for timer in commit.timers)
    yield from (wait.until for wait in commit.waits if wait.until is not None)
    told = commit.then.admit if isinstance(commit.then, End) else ()
    for one in (*commit.admit, *told):
        yield from due_times(one, now)


# ---------------------------------------------------------------- waits


def event_wait(
    ref: str,
    event: str,
    condition: Condition | None,
    document: Mapping[str, Any],
    *,
    until: int | None,
    effect: Effect = Effect.RESUME,
    **about: Any,
) -> Wait:
    """A wait for an event, indexed by the first equality of its condition that can be.

    Where that equality is the whole condition the index decides alone, and nothing is left to evaluate.
    `document` is the event that started the run; of it only what the condition reads is kept.
    """
    if condition is None:
        return Wait(ref, event, until=until, effect=effect, **about)
    path, index = _index_of(condition, document)
    rest: bytes | None = None
    # Stored events are not found by the index: for those that `since` adds, the condition is kept whole.
    since = about.get("since_seq") is not None or about.get("since_ms") is not None
    decided = path is not None and condition.exact and len(condition.equalities) == 1
    if since or (index != _NEVER and not decided):
        rest = orjson.dumps({"if": condition.text, "event": prune(condition, document)})
    return Wait(ref, event, path, index, rest, until=until, effect=effect, **about)


def _index_of(condition: Condition, document: Mapping[str, Any]) -> tuple[str | None, str]:
    for equality in condition.equalities:
        wanted = index_key(equality.value(document))
        if wanted is None:
            return None, _NEVER
        path = path_text(equality.path)
        return path, f"{path}={wanted}"
    return None, ""


def condition_holds(condition: bytes, document: Mapping[str, Any]) -> bool:
    """Evaluate what a store kept of a wait, for the event `document` that came in."""
    if not condition:
        return True
    kept = orjson.loads(condition)
    found: bool = compile_condition(kept["if"], roots=frozenset({"event", "async"}))(kept["event"], document)
    return found
