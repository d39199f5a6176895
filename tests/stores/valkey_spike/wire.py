"""Between the records of the doors and what the scripts read and answer.

Scripts get one msgpack value, and answer with nested arrays of the protocol. What no script has to
understand (an event, a memo, a timer, a wait) goes there and back as one opaque string.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
from msgspec.structs import replace

from durable.records import (
    Admission,
    AdmissionAnswer,
    Candidate,
    Cause,
    Claim,
    Commit,
    Delivery,
    Duplicate,
    Effect,
    End,
    Fired,
    History,
    Memo,
    New,
    NewEvent,
    News,
    Outcome,
    Outdated,
    Parent,
    Park,
    Plan,
    Request,
    RunRecord,
    RunStatus,
    StoredEvent,
    Then,
    Timer,
    Verb,
    Verdict,
    Wait,
    Yield,
)

blob = msgspec.msgpack.encode
"""An opaque string: only `msgspec.msgpack.decode` opens it."""


def pack(value: Any) -> bytes:
    """As msgpack, with bytes as its strings: the scripts' reader knows no type for bytes."""
    match value:
        case None | bool() | int():
            return msgspec.msgpack.encode(value)
        case str():
            return pack(value.encode())
        case bytes():
            return b"\xdb" + struct.pack(">I", len(value)) + value
        case dict():
            kept = {key: item for key, item in value.items() if item is not None}
            head = b"\xdf" + struct.pack(">I", len(kept))
            return head + b"".join(pack(key) + pack(item) for key, item in kept.items())
        case _:
            return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))


# ---------------------------------------------------------------- there


def admission_in(admission: Admission) -> dict[str, Any]:
    event, signal, cursor = admission.event, admission.signal, admission.cursor
    return {
        "event": event and {"name": event.name, "blob": blob(event)},
        "once": {"name": event.name, "id": event.id} if event and event.once else None,
        "signal": signal and {"name": signal.name, "data": signal.data},
        "cursor": cursor and {"name": cursor.name, "at": cursor.at},
        "registry": admission.registry,
        "keys": admission.keys,
        "as_of": admission.as_of,
        "hits": [{"run": hit.run, "ref": hit.ref} for hit in admission.hits],
        "again": admission.again,
        "memo": admission.memo,
        "plans": [plan_in(plan) for plan in admission.plans],
    }


def plan_in(plan: Plan) -> dict[str, Any]:
    if plan.rate or plan.debounce or plan.batch or plan.singleton or plan.throttle or plan.slots:
        raise NotImplementedError("gates")
    return {
        "fn": plan.function,
        "run": plan.run,
        "due": plan.due,
        "priority": plan.priority,
        "parent": plan.parent and {"run": plan.parent.run, "ref": plan.parent.ref},
        "once": [{"key": latch.key, "hold": latch.hold} for latch in plan.once],
        "start": plan.start_timeout,
        "finish": plan.finish_timeout,
        "origin": plan.origin,
        "waits": [wait_in(wait) for wait in plan.waits],
        "memos": [memo_in(memo) for memo in plan.memos],
    }


def wait_in(wait: Wait) -> dict[str, Any]:
    kept = ("ref", "event", "path", "index", "since_seq", "since_ms", "signal", "replace", "child", "started")
    return {
        **{name: getattr(wait, name) for name in kept},
        "condition": wait.condition,
        "deadline": wait.until,
        "effect": wait.effect.value,
        "blob": blob(wait),
    }


def memo_in(memo: Memo) -> dict[str, Any]:
    return {"position": memo.position, "state": memo.state.value, "blob": blob(memo)}


def request_in(request: Request | None) -> dict[str, Any] | None:
    if request is None:
        return None
    return {
        "engine": request.engine,
        "seen": request.seen,
        "pools": sorted(request.pools),
        "limit": request.limit,
    }


def item_in(item: Commit | Verdict) -> dict[str, Any]:
    if isinstance(item, Verdict):
        return {"run": item.run, "ref": item.ref, "seq": item.seq, "matches": item.matches}
    if item.ask or item.free:
        raise NotImplementedError("places")
    return {
        "run": item.run,
        "gen": item.gen,
        "memos": [memo_in(memo) for memo in item.memos],
        "timers": [
            {"ref": t.ref, "due": t.due, "effect": t.effect.value, "blob": blob(t)} for t in item.timers
        ],
        "waits": [wait_in(wait) for wait in item.waits],
        "drop": item.drop,
        "forget": item.forget,
        "attempt": item.attempt,
        "admit": [admission_in(admission) for admission in item.admit],
        "go": then_in(item.then),
    }


def then_in(then: Then) -> dict[str, Any]:
    match then:
        case End():
            status = then.status.value
            end = {"status": status, "output": then.output, "error": then.error, "unmet": then.unmet}
            return {"kind": "end", **end, "admit": [admission_in(admission) for admission in then.admit]}
        case Park():
            return {"kind": "park", "affinity": then.affinity, "seen": then.seen}
        case Yield():
            return {"kind": "yield", "affinity": then.affinity}
        case _:
            return {"kind": "stay"}


# ---------------------------------------------------------------- and back


def text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()


def event_out(raw: list[Any]) -> StoredEvent:
    seq, received, packed = raw
    new = msgspec.msgpack.decode(packed, type=NewEvent)
    return StoredEvent(seq, new.id, new.name, new.ts, received, new.data, new.user, new.v)


def timer_out(raw: list[Any]) -> Timer:
    packed, ref, due, effect = raw
    if packed is None:  # one that a script has set
        return Timer(ref.decode(), due, Effect(effect))
    return msgspec.msgpack.decode(packed, type=Timer)


def fired_out(raw: list[Any]) -> Fired:
    ref, cause, at, event, status, value, packed, started = raw
    timer = packed and timer_out(packed)
    return Fired(
        ref.decode(),
        Cause(cause),
        at,
        event=event and event_out(event),
        status=status and RunStatus(status.decode()),
        value=value,
        timer=timer,
        started=timer.started if timer else started,
    )


def record_out(raw: list[Any]) -> RunRecord:
    run, function, status, gen, created, due, started, ended, attempt, parent, *rest = raw
    output, error, reason, holder, origin, unmet = rest
    return RunRecord(
        run.decode(),
        function.decode(),
        RunStatus(status.decode()),
        gen,
        created,
        due,
        started=started,
        ended=ended,
        attempt=attempt,
        parent=parent and Parent(parent[0].decode(), parent[1].decode()),
        output=output,
        error=error,
        reason=text(reason),
        holder=text(holder),
        origin=text(origin),
        unmet=tuple(name.decode() for name in unmet),
    )


def memo_out(raw: list[Any]) -> Memo:
    _, packed, value = raw
    memo = msgspec.msgpack.decode(packed, type=Memo)
    return memo if value is None else replace(memo, value=value)


def wait_out(packed: bytes) -> Wait:
    return msgspec.msgpack.decode(packed, type=Wait)


def history_out(raw: list[Any]) -> History:
    record, events, memos, timers, waits, fired = raw
    return History(
        run=record_out(record),
        events=tuple(map(event_out, sorted(events, key=lambda event: event[0]))),
        memos=tuple(map(memo_out, memos)),
        timers=tuple(map(timer_out, timers)),
        waits=tuple(wait_out(packed) for _, packed in waits),
        fired=tuple(map(fired_out, fired)),
    )


def delivery_out(raw: list[Any]) -> Delivery:
    if raw[0] == 0:
        return Claim(raw[1], history_out(raw[2]), warm=bool(raw[3]))
    _, number, run, gen, fired, cancelled = raw
    return News(number, run.decode(), gen, tuple(map(fired_out, fired)), bool(cancelled))


def deliveries_out(raw: list[Any]) -> tuple[Delivery, ...]:
    return tuple(map(delivery_out, raw))


def candidates_out(raw: list[Any]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(run.decode(), ref.decode(), condition, event_out(event))
        for run, ref, condition, event in raw
    )


def answer_out(raw: list[Any]) -> AdmissionAnswer:
    if raw[0] == 2:
        return Outdated(raw[1])
    outcomes = tuple(
        Outcome(Verb(verb), function.decode(), text(run), text(reason))
        for verb, function, run, reason in raw[2]
    )
    if raw[0] == 1:
        return Duplicate(raw[1], outcomes)
    return New(raw[1], outcomes, candidates_out(raw[3]), taken=bool(raw[4]))


def pools_out(raw: list[bytes]) -> frozenset[str]:
    return frozenset(pool.decode() for pool in raw)
