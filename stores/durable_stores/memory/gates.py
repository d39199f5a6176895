"""The gates that a job asks for when it is claimed: places that are held, and passages in time.

Duty: the state of each gate, by the algorithms of `durable.gates`; the limits that engines have registered;
and who asks, a line for each (gate, pool, limit). It may not know runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from attrs import define, field

from durable.gates import slot_is_free, throttle
from durable.records import Rule
from durable.store import SWEEP_MAX

if TYPE_CHECKING:
    from .pools import Head, Lane, Pool

__all__ = ["NEVER", "Ask", "Gate", "GateKey", "Gates", "Limit", "Line", "Passage", "Places", "RuleName"]

RuleName = tuple[str, str]
"""A limit as jobs name it: (function, name)."""

GateKey = tuple[str, str]
"""What sort of gate, and its key: ``("slot", "app/f:7")``."""

Ask = tuple[GateKey, "RuleName | None"]
"""What a job asks for: one of this gate, under this limit (``None``: there is one place)."""

FORGET_MS: Final = 60_000
"""So long is a throttle remembered that is as good as fresh: the clock may step back."""

NEVER: Final = -1
"""Shut until somebody gives a place back."""

_SLACK = 32


@define(eq=False, weakref_slot=False)
class Limit:
    """A limit that jobs name; without a `rule` there is none (yet). `blocked`: lines in which lanes stand."""

    rule: Rule | None = None
    blocked: dict[Line, None] = field(factory=dict["Line", None])


@define(eq=False, weakref_slot=False)
class Gate(ABC):
    """One gate: `asking` counts the jobs in lanes that will ask for it."""

    key: GateKey
    asking: int = 0
    lines: dict[tuple[Pool, Limit], Line] = field(factory=dict["tuple[Pool, Limit]", "Line"])

    @abstractmethod
    def shut(self, rule: Rule | None, now: int) -> int | None:
        """``None`` if it is open; else the time when it will be, or `NEVER`."""
        ...

    @abstractmethod
    def take(self, rule: Rule | None, now: int) -> None:
        """Go through; it is open."""
        ...

    @abstractmethod
    def idle(self, now: int) -> bool:
        """Whether a fresh gate would answer the same."""
        ...


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
    fades: bool = False
    """It is on the list of those that will be as good as fresh."""

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
        return self.tat is None or self.forget_at <= now

    @property
    def forget_at(self) -> int:
        """When it is as good as fresh, and will be if the clock steps back a little."""
        return (self.tat or 0) // 1000 + FORGET_MS


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
    heads: list[Head] | None = None

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

    def _stands(self, head: Head) -> bool:
        _, no, lane = head
        return lane.line is self and lane.jobs[0][1] == no


class Gates:
    """All gates that are asked for or held, and all limits."""

    __slots__ = ("_by_key", "_fading", "_limits")

    def __init__(self) -> None:
        self._by_key: dict[GateKey, Gate] = {}
        self._fading: list[tuple[int, GateKey]] = []  # throttles that nobody asks for, by `forget_at`
        self._limits: dict[RuleName | None, Limit] = {None: Limit(Rule(1))}

    def limit(self, name: RuleName | None) -> Limit:
        """The limit of that name, whether or not it was ever registered."""
        limit = self._limits.get(name)
        if limit is None:
            limit = self._limits[name] = Limit()
        return limit

    def find(self, key: GateKey) -> Gate:
        """The gate; a fresh one, if nobody has asked for it before."""
        gate = self._by_key.get(key)
        if gate is None:
            gate = self._by_key[key] = Passage(key) if key[0] == "throttle" else Places(key)
        return gate

    def forget(self, gate: Gate, now: int) -> None:
        """Forget `gate`, if nobody asks for it and a fresh one would answer the same; a throttle later."""
        if gate.asking:
            return
        if gate.idle(now):
            self._by_key.pop(gate.key, None)
        elif isinstance(gate, Passage) and not gate.fades:
            gate.fades = True
            heappush(self._fading, (gate.forget_at, gate.key))

    def sweep(self, now: int) -> bool:
        """Forget up to `SWEEP_MAX` throttles that are as good as fresh; whether there are more."""
        fading = self._fading
        for _ in range(SWEEP_MAX):
            if not fading or fading[0][0] > now:
                return False
            gate = self._by_key.get(heappop(fading)[1])
            if isinstance(gate, Passage):
                gate.fades = False
                self.forget(gate, now)
        return bool(fading) and fading[0][0] <= now
