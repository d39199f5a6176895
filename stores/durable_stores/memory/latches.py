"""What is held for a time, or may pass so often in a time: latches and rates.

Duty: the state behind `Plan.once`, `Plan.rate` and `Plan.singleton`. Reading changes nothing; what was
accepted is written by its own call. It may not know runs or plans from inside.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from attrs import define, field

from durable.gates import latch_is_free, rate_passes
from durable.store import SWEEP_MAX

if TYPE_CHECKING:
    from durable.records import Latch, Rate

    from .runs import Run

__all__ = ["Latches", "Rates"]

RECORDED_DROPS: Final = 100
"""Drops of one key in any period that leave a run which says why; the rest leaves nothing."""

KEPT_TIMES: Final = 4
"""So many acceptances are remembered at least: the next rule of the key may allow more than this one."""

FORGET_MS: Final = 60_000
"""So long is the last one remembered at least: the next rule may have a longer period."""


class Latches:
    """Keys that are held: until a time (`once`), or until a run is over (singletons)."""

    __slots__ = ("_by_age", "_once", "_singletons")

    def __init__(self) -> None:
        self._once: dict[str, tuple[int, str]] = {}
        self._by_age: list[tuple[int, str]] = []
        self._singletons: dict[str, Run] = {}

    def holder(self, key: str, now: int) -> str | None:
        """The run that has taken the latch `key`, while it is held."""
        held = self._once.get(key)
        return None if held is None or latch_is_free(held[0], now) else held[1]

    def take(self, latch: Latch, run_id: str, now: int) -> None:
        """Hold a latch that is free."""
        until = now + latch.hold
        self._once[latch.key] = until, run_id
        heappush(self._by_age, (until, latch.key))

    def single(self, key: str) -> Run | None:
        """The run that holds the singleton `key`."""
        return self._singletons.get(key)

    def take_single(self, key: str, run: Run) -> None:
        """`run` holds the singleton from now on, whoever held it before."""
        self._singletons[key] = run

    def free_single(self, run: Run) -> None:
        """`run` is over: what it still holds is free."""
        key = run.singleton
        if key is not None and self._singletons.get(key) is run:
            del self._singletons[key]

    def sweep(self, now: int) -> bool:
        """Forget up to `SWEEP_MAX` latches that have run out; whether there are more."""
        by_age = self._by_age
        for _ in range(SWEEP_MAX):
            if not by_age or not latch_is_free(by_age[0][0], now):
                return False
            until, key = heappop(by_age)
            held = self._once.get(key)
            if held is not None and held[0] == until:
                del self._once[key]
        return bool(by_age) and latch_is_free(by_age[0][0], now)


class _Times:
    """The last times at which something passed: enough of them for every limit that was named so far."""

    __slots__ = ("_keep", "_times")

    def __init__(self) -> None:
        self._times: array[int] = array("q")
        self._keep = KEPT_TIMES

    @property
    def last(self) -> int | None:
        """The last of them."""
        return self._times[-1] if self._times else None

    def passes(self, limit: int, period: int, now: int) -> bool:
        """Whether one more may pass."""
        oldest = self._times[-limit] if len(self._times) >= limit else None
        return rate_passes(oldest, self.last, now, period)

    def note(self, limit: int, now: int) -> None:
        """One more has passed. The clock may step back, these times do not."""
        times = self._times
        self._keep = max(self._keep, limit)
        times.append(now if self.last is None else max(now, self.last))
        if len(times) > 2 * self._keep:
            del times[: -self._keep]


@define(eq=False, weakref_slot=False)
class _Rate:
    """What was accepted of a key, and its drops that left a run; `period` is the longest that was named."""

    period: int
    accepted: _Times = field(factory=_Times)
    recorded: _Times | None = None


class Rates:
    """Rolling rates by key."""

    __slots__ = ("_by_age", "_rates")

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}
        self._by_age: list[tuple[int, str]] = []  # a time before which the key need not be looked at

    def passes(self, rate: Rate, now: int) -> bool:
        """Whether one more is accepted."""
        state = self._rates.get(rate.key)
        return state is None or state.accepted.passes(rate.limit, rate.period, now)

    def accept(self, rate: Rate, now: int) -> None:
        """One more was accepted."""
        state = self._rates.get(rate.key)
        if state is None:
            state = self._rates[rate.key] = _Rate(FORGET_MS)
            heappush(self._by_age, (now + rate.period, rate.key))
        state.period = max(state.period, rate.period)
        state.accepted.note(rate.limit, now)

    def records_drop(self, rate: Rate, now: int) -> bool:
        """One more was dropped: whether it leaves a run."""
        state = self._rates[rate.key]
        if state.recorded is None:
            state.recorded = _Times()
        if not state.recorded.passes(RECORDED_DROPS, rate.period, now):
            return False
        state.recorded.note(RECORDED_DROPS, now)
        return True

    def sweep(self, now: int) -> bool:
        """Forget up to `SWEEP_MAX` keys whose last acceptance is a period old; whether there are more."""
        by_age = self._by_age
        for _ in range(SWEEP_MAX):
            if not by_age or by_age[0][0] > now:
                return False
            _, key = heappop(by_age)
            state = self._rates[key]
            recorded = state.recorded.last if state.recorded is not None else None
            until = max(state.accepted.last or 0, recorded or 0) + state.period
            if until <= now:
                del self._rates[key]
            else:
                heappush(by_age, (until, key))
        return bool(by_age) and by_age[0][0] <= now
