"""What is held for a time, or may pass so often in a time: latches and rates.

Duty: the state behind `Plan.once`, `Plan.rate` and `Plan.singleton`. Reading changes nothing; what was
accepted is written by its own call. It may not know runs or plans from inside.
"""

from __future__ import annotations

from collections import deque
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
"""Drops of one key in any period that leave a run which says why; the rest only counts."""


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


@define(eq=False, weakref_slot=False)
class _Rate:
    """The acceptances of a key, and its drops that left a run, of the longest `period` that was named."""

    period: int
    accepted: deque[int] = field(factory=deque[int])
    recorded: deque[int] | None = None

    def note(self, times: deque[int], now: int) -> None:
        """One more of `times`. The clock may step back, `times` do not."""
        last = max(now, times[-1]) if times else now
        times.append(last)
        while times[0] <= last - self.period:
            times.popleft()


class Rates:
    """Rolling rates by key."""

    __slots__ = ("_by_age", "_rates")

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}
        self._by_age: list[tuple[int, str]] = []  # a time before which the key need not be looked at

    def passes(self, rate: Rate, now: int) -> bool:
        """Whether one more is accepted."""
        state = self._rates.get(rate.key)
        return state is None or _passes(state.accepted, rate.limit, now, rate.period)

    def accept(self, rate: Rate, now: int) -> None:
        """One more was accepted."""
        state = self._rates.get(rate.key)
        if state is None:
            state = self._rates[rate.key] = _Rate(rate.period)
            heappush(self._by_age, (now + rate.period, rate.key))
        state.period = max(state.period, rate.period)
        state.note(state.accepted, now)

    def records_drop(self, rate: Rate, now: int) -> bool:
        """One more was dropped: whether it leaves a run."""
        state = self._rates[rate.key]
        if state.recorded is None:
            state.recorded = deque()
        if not _passes(state.recorded, RECORDED_DROPS, now, rate.period):
            return False
        state.note(state.recorded, now)
        return True

    def sweep(self, now: int) -> bool:
        """Forget up to `SWEEP_MAX` keys whose last acceptance is a period old; whether there are more."""
        by_age = self._by_age
        for _ in range(SWEEP_MAX):
            if not by_age or by_age[0][0] > now:
                return False
            _, key = heappop(by_age)
            state = self._rates[key]
            until = max(state.accepted[-1], state.recorded[-1] if state.recorded else 0) + state.period
            if until <= now:
                del self._rates[key]
            else:
                heappush(by_age, (until, key))
        return bool(by_age) and by_age[0][0] <= now


def _passes(times: deque[int], limit: int, now: int, period: int) -> bool:
    oldest = times[-limit] if len(times) >= limit else None
    return rate_passes(oldest, times[-1] if times else None, now, period)
