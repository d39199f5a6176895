"""The gates that a job asks for when it is claimed: places that are held, and passages in time.

Duty: the state of each gate, by the algorithms of `durable.gates`; the limits that engines have registered;
and who asks, a line for each (gate, pool, limit). It may not know runs.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from attrs import define, field

from durable.gates import slot_is_free, throttle

if TYPE_CHECKING:
    from durable.records import Rule

    from .lanes import Lane, Pool

__all__ = ["NEVER", "Gate", "GateKey", "Limit", "Line", "Passage", "Places", "RuleName"]

RuleName = tuple[str, str]
"""A limit as jobs name it: (function, name)."""

GateKey = tuple[str, str]
"""What sort of gate, and its key: ``("slot", "app/f:7")``."""

NEVER: Final = -1
"""Shut until somebody gives a place back."""

_SLACK = 32


@define(eq=False, weakref_slot=False)
class Limit:
    """A limit that jobs name; without a `rule` there is none (yet). `blocked`: lines in which lanes stand."""

    rule: Rule | None = None
    blocked: dict[Line, None] = field(factory=dict["Line", None])


@define(eq=False, weakref_slot=False)
class Gate:
    """One gate: `asking` counts the jobs in lanes that will ask for it."""

    key: GateKey
    asking: int = 0
    lines: dict[tuple[Pool, Limit], Line] = field(factory=dict["tuple[Pool, Limit]", "Line"])

    def shut(self, rule: Rule | None, now: int) -> int | None:
        """``None`` if it is open; else the time when it will be, or `NEVER`."""
        raise NotImplementedError

    def take(self, rule: Rule | None, now: int) -> None:
        """Go through; it is open."""
        raise NotImplementedError

    def idle(self, now: int) -> bool:
        """Whether a fresh gate would answer the same."""
        raise NotImplementedError


@define(eq=False, weakref_slot=False)
class Places(Gate):
    """A gate of n places, of which `held` are taken."""

    held: int = 0

    def shut(self, rule: Rule | None, now: int) -> int | None:  # noqa: ARG002 - the gate of time needs it
        """See `Gate`."""
        return None if rule is None or slot_is_free(self.held, rule.limit) else NEVER

    def take(self, rule: Rule | None, now: int) -> None:  # noqa: ARG002
        """See `Gate`. Counted without a rule, too: there may be one before the place is given back."""
        self.held += 1

    def idle(self, now: int) -> bool:  # noqa: ARG002
        """See `Gate`."""
        return not self.held


@define(eq=False, weakref_slot=False)
class Passage(Gate):
    """A gate of time: `tat` is the theoretical arrival time of GCRA, in microseconds."""

    tat: int | None = None

    def shut(self, rule: Rule | None, now: int) -> int | None:
        """See `Gate`."""
        if rule is None:
            return None
        passes, opens = throttle(self.tat, now, rule.limit, rule.period, rule.burst)
        return None if passes else opens

    def take(self, rule: Rule | None, now: int) -> None:
        """See `Gate`."""
        if rule is not None:
            self.tat = throttle(self.tat, now, rule.limit, rule.period, rule.burst)[1]

    def idle(self, now: int) -> bool:
        """See `Gate`."""
        return self.tat is None or self.tat <= now * 1000


@define(eq=False, weakref_slot=False)
class Line:
    """The lanes of `pool` that ask for `gate` under `limit`; the blocked ones by the ranks of their heads.

    As a thing on the agenda (`no`, `due`) it stands for the moment at which its gate opens by time.
    """

    gate: Gate
    pool: Pool
    limit: Limit
    lanes: int = 0
    blocked: int = 0
    no: int = 0
    due: int = NEVER
    heads: list[tuple[int, int, Lane]] | None = None

    def shut(self, now: int) -> int | None:
        """``None`` if the gate is open for those in this line; else when it will be, or `NEVER`."""
        return self.gate.shut(self.limit.rule, now)

    def put(self, lane: Lane) -> None:
        """`lane` is blocked here, and has this head."""
        rank, no, _ = lane.jobs[0]
        if self.heads is None:
            self.heads = []
        heappush(self.heads, (rank, no, lane))
        if len(self.heads) > 2 * self.blocked + _SLACK:
            self.heads = list({head[2]: head for head in self.heads if self._stands(head)}.values())
            heapify(self.heads)

    def pop(self) -> Lane:
        """Take the lane with the best head; there is one."""
        assert self.heads is not None
        while True:
            head = heappop(self.heads)
            if self._stands(head):
                return head[2]

    def _stands(self, head: tuple[int, int, Lane]) -> bool:
        _, no, lane = head
        return lane.line is self and lane.jobs[0][1] == no
