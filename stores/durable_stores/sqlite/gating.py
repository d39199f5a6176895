"""The gates that are asked when work starts: slots and throttles, as rows.

A gate's name carries its sort (``slot:``, ``throttle:``, ``singleton:``), so that no two share a name. The
arithmetic is `durable.gates`'. May not know lanes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from attrs import frozen

from durable import gates
from durable_stores.sqlite.numbering import numbered

if TYPE_CHECKING:
    from durable.records import Slot, Throttle
    from durable_stores.sqlite.run import Run
    from durable_stores.sqlite.work import Work

__all__ = [
    "Gated",
    "gated",
    "give_back",
    "is_open",
    "pass_through",
    "shut_gate",
    "singleton_gate",
    "slots_text",
    "throttle_text",
    "turn_slots",
]

Gate = tuple[str, str]
"""A gate and the name of the rule that limits it."""


@frozen
class Gated:
    """What a lane's jobs ask for, and for whom: rules are known by function and name."""

    function: str
    throttle: Gate | None
    slots: tuple[Gate, ...]

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All of them, in the order in which they are asked."""
        return self.slots if self.throttle is None else (self.throttle, *self.slots)


def gated(function: str, throttle: str, slots: str) -> Gated:
    """Read the texts by which runs and lanes hold their gates."""
    return Gated(
        function,
        tuple(orjson.loads(throttle)) if throttle else None,
        tuple((gate, rule) for gate, rule in orjson.loads(slots)) if slots else (),
    )


def throttle_text(throttle: Throttle | None) -> str:
    """A throttle as runs and lanes hold it."""
    return "" if throttle is None else orjson.dumps([f"throttle:{throttle.gate}", throttle.rule]).decode()


def slots_text(slots: tuple[Slot, ...]) -> str:
    """Slots as runs and lanes hold them."""
    return orjson.dumps([[f"slot:{slot.gate}", slot.rule] for slot in slots]).decode() if slots else ""


def singleton_gate(key: str) -> str:
    """The slot of 1 that runs of a singleton share."""
    return f"singleton:{key}"


def turn_slots(run: Run) -> str:
    """What a turn of `run` asks for besides its throttle: its slots, and its singleton's."""
    if run.singleton is None:
        return run.slots
    own: list[list[str]] = orjson.loads(run.slots) if run.slots else []
    return orjson.dumps([*own, [singleton_gate(run.singleton), ""]]).decode()


def shut_gate(work: Work, wants: Gated) -> Gate | None:
    """The first of the gates that is shut, if one is."""
    for gate in wants.gates:
        if not is_open(work, wants.function, *gate):
            return gate
    return None


def is_open(work: Work, function: str, gate: str, rule: str) -> bool:
    """Whether one more may pass; a throttle that is shut is told to wake us when it opens."""
    if gate.startswith("singleton:"):
        return gates.slot_is_free(_held(work, gate), 1)
    limit = work.rule(function, rule)
    if limit is None:
        return True
    if gate.startswith("slot:"):
        return gates.slot_is_free(_held(work, gate), limit.limit)
    passes, opens = gates.throttle(_tat(work, gate), work.now, limit.limit, limit.period, limit.burst)
    if not passes:
        work.sql.execute(
            "UPDATE throttles SET opens = :p1 WHERE gate = :p2 AND (opens IS NULL OR opens > :p1)",
            numbered(opens, gate),
        )
    return passes


def pass_through(work: Work, wants: Gated) -> None:
    """Take a place in each slot, and one passage of the throttle."""
    for gate, _ in wants.slots:
        work.held[gate] = _held(work, gate) + 1
    if wants.throttle is not None:
        gate, name = wants.throttle
        rule = work.rule(wants.function, name)
        if rule is not None:
            _, tat = gates.throttle(_tat(work, gate), work.now, rule.limit, rule.period, rule.burst)
            work.sql.execute(
                "INSERT INTO throttles (gate, tat_us) VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET tat_us = excluded.tat_us",
                (gate, tat),
            )


def give_back(work: Work, run: Run, places: int, *, own: bool) -> None:
    """Free `places` in each slot of `run`, with its `own` the singleton's, too: others are offered them."""
    if run.slots:
        for gate, rule in orjson.loads(run.slots):
            work.held[gate] = max(0, _held(work, gate) - places)
            work.offers[gate] = rule
    if own and run.singleton is not None:
        gate = singleton_gate(run.singleton)
        work.held[gate] = max(0, _held(work, gate) - 1)
        work.offers[gate] = ""


def _held(work: Work, gate: str) -> int:
    held = work.held.get(gate)
    if held is None:
        row = work.sql.execute("SELECT held FROM slots WHERE gate = ?", (gate,)).fetchone()
        held = work.held[gate] = 0 if row is None else row[0]
    return held


def _tat(work: Work, gate: str) -> int | None:
    row = work.sql.execute("SELECT tat_us FROM throttles WHERE gate = ?", (gate,)).fetchone()
    return None if row is None else row[0]
