"""Open waits: for events by name and index, for signals, for children; and candidates that are undecided.

Duty: finding the waits that something concerns, at the cost of those alone. What a match does to a run is
decided in `ledger`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from heapq import heappop, heappush, merge, nsmallest
from typing import TYPE_CHECKING

from attrs import define, field

from durable.records import Candidate
from durable.store import CANDIDATES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from durable.records import StoredEvent, Wait

    from .engines import Engine
    from .runs import Run

__all__ = ["Candidates", "Pending", "Waiter", "Waits"]

_SLACK = 32


@define(eq=False, weakref_slot=False)
class Waiter:
    """One open wait. As a thing on the agenda (`no`, `due`) it stands for its time-out.

    `registered` is its place among the sequences of events. `scan`: the sequence from which stored events
    are still to be looked at, 0 when all have been.
    """

    run: Run
    wait: Wait
    registered: int
    no: int = 0
    due: int = 0
    open: bool = True
    closed: bool = False
    """Its time has come, but candidates are undecided: new events do not concern it."""
    scan: int = 0
    pending: dict[int, Pending] | None = None

    @property
    def undecided(self) -> bool:
        """Whether something with a smaller sequence may come before anything new."""
        return bool(self.pending or self.scan)

    @property
    def hears(self) -> bool:
        """Whether new events concern it: not after its time-out, nor after a yes."""
        return not self.closed and not (
            self.pending is not None and any(pending.yes for pending in self.pending.values())
        )

    def is_due(self, now: int) -> bool:
        """Whether its time-out is reached, be it that no claim has closed it yet."""
        until = self.wait.until
        return until is not None and until <= now

    @property
    def place(self) -> tuple[str, str]:
        """The order in which everything is done to waits."""
        return self.run.id, self.wait.ref


@define(eq=False, weakref_slot=False)
class Pending:
    """An event that may resolve a wait: undecided, or (`yes`) behind smaller ones that are."""

    waiter: Waiter
    event: StoredEvent
    decider: Engine | None = None
    yes: bool = False
    open: bool = True

    def __lt__(self, other: Pending) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, str, str]:
        return self.event.seq, self.waiter.run.id, self.waiter.wait.ref

    @property
    def candidate(self) -> Candidate:
        """It as the doors show it."""
        wait = self.waiter.wait
        return Candidate(self.waiter.run.id, wait.ref, wait.condition or b"", self.event)


@define(eq=False, weakref_slot=False)
class _Roll:
    """Waits for one name under one index, in order of registration; those that are over are skipped."""

    waiters: list[Waiter] = field(factory=list[Waiter])
    living: int = 0
    by_place: list[Waiter] | None = None
    """The same by run and ref: built when a page is asked for, and kept from then on."""

    def add(self, waiter: Waiter) -> None:
        self.living += 1
        self.waiters.append(waiter)
        if self.by_place is not None:
            insort(self.by_place, waiter, key=_place)

    def lost(self) -> None:
        """One of its waits is over."""
        self.living -= 1
        most = 2 * self.living + _SLACK
        if len(self.waiters) > most:
            self.waiters = [waiter for waiter in self.waiters if waiter.open]
        if self.by_place is not None and len(self.by_place) > most:
            self.by_place = [waiter for waiter in self.by_place if waiter.open]

    def after(self, sequence: int) -> Iterator[Waiter]:
        """Open waits that were registered after `sequence`, the last one first."""
        waiters = self.waiters
        while waiters and not waiters[-1].open:
            waiters.pop()
        for waiter in reversed(waiters):
            if waiter.registered <= sequence:
                return
            if waiter.open:
                yield waiter

    def from_run(self, run_id: str) -> Iterator[Waiter]:
        """Open waits of runs with greater ids, in order."""
        if self.by_place is None:
            self.by_place = sorted((waiter for waiter in self.waiters if waiter.open), key=_place)
        by_place = self.by_place
        for number in range(bisect_right(by_place, run_id, key=_run_id), len(by_place)):
            if by_place[number].open:
                yield by_place[number]


def _place(waiter: Waiter) -> tuple[str, str]:
    return waiter.run.id, waiter.wait.ref


def _run_id(waiter: Waiter) -> str:
    return waiter.run.id


_Index = dict[str, dict[str, _Roll]]


class Waits:
    """All open waits. Those for events lie by name, index, and whether they have a condition."""

    __slots__ = ("_children", "_conditional", "_plain", "_signals")

    def __init__(self) -> None:
        self._plain: _Index = {}
        self._conditional: _Index = {}
        self._signals: dict[str, Waiter] = {}
        self._children: dict[str, list[Waiter]] = {}

    def add(self, waiter: Waiter) -> None:
        """Open a wait; of one for a signal the caller knows that the name is free."""
        wait = waiter.wait
        waits = waiter.run.waits
        if waits is None:
            waits = waiter.run.waits = {}
        waits[wait.ref] = waiter
        if wait.event is not None:
            index = self._plain if wait.condition is None else self._conditional
            index.setdefault(wait.event, {}).setdefault(wait.index, _Roll()).add(waiter)
        elif wait.signal is not None:
            self._signals[wait.signal] = waiter
        elif wait.child is not None:
            self._children.setdefault(wait.child, []).append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """A wait is over, whatever it waited for."""
        wait = waiter.wait
        waiter.open = False
        waits = waiter.run.waits
        if waits is not None and waits.pop(wait.ref, None) is not None and not waits:
            waiter.run.waits = None
        if wait.event is not None:
            index = self._plain if wait.condition is None else self._conditional
            rolls = index[wait.event]
            roll = rolls[wait.index]
            roll.lost()
            if not roll.living:
                del rolls[wait.index]
                if not rolls:
                    del index[wait.event]
        elif wait.signal is not None:
            del self._signals[wait.signal]
        elif wait.child is not None:
            siblings = self._children[wait.child]
            siblings.remove(waiter)
            if not siblings:
                del self._children[wait.child]

    def signal(self, name: str) -> Waiter | None:
        """The wait for a signal."""
        return self._signals.get(name)

    def child(self, run_id: str) -> list[Waiter]:
        """The waits for a child."""
        return list(self._children.get(run_id, ()))

    def knows(self, name: str) -> bool:
        """Whether any wait for events `name` is open."""
        return name in self._plain or name in self._conditional

    def plain(self, name: str, keys: Sequence[str]) -> Iterator[Waiter]:
        """Open waits that an event with these entries matches without more ado."""
        for roll in _rolls(self._plain, name, keys):
            yield from roll.after(-1)

    def conditional(self, name: str, keys: Sequence[str], as_of: int) -> Iterator[Waiter]:
        """Open waits with a condition that were registered after `as_of`."""
        for roll in _rolls(self._conditional, name, keys):
            yield from roll.after(as_of)

    def page(self, name: str, keys: Sequence[str], after: str, limit: int) -> tuple[list[Waiter], bool]:
        """A page of open waits with a condition, by run and ref: `limit`, and the rest of a run; any more?"""
        found: list[Waiter] = []
        rolls = [roll.from_run(after) for roll in _rolls(self._conditional, name, keys)]
        for waiter in merge(*rolls, key=_place):
            if not waiter.hears:
                continue
            if len(found) >= limit and waiter.run is not found[-1].run:
                return found, True
            found.append(waiter)
        return found, False


def _rolls(index: _Index, name: str, keys: Sequence[str]) -> Iterator[_Roll]:
    rolls = index.get(name)
    if rolls:
        for key in dict.fromkeys(("", *keys)):
            roll = rolls.get(key)
            if roll is not None:
                yield roll


class Candidates:
    """Undecided candidates: each is decided by an engine, or loose."""

    __slots__ = ("_loose",)

    def __init__(self) -> None:
        self._loose: list[Pending] = []

    def loosen(self, pendings: Iterable[Pending]) -> None:
        """Nobody who lives decides these (any more)."""
        for pending in pendings:
            pending.decider = None
            heappush(self._loose, pending)

    def hand_out(self, engine: Engine) -> tuple[tuple[Candidate, ...], bool]:
        """Give up to `CANDIDATES_MAX` to `engine`, and what it has been given before; whether there are more.

        What is loose is asked for once. What the engine is deciding is repeated: its answer may be lost.
        """
        loose = self._loose
        if not loose and not engine.deciding:
            return (), False
        found = nsmallest(CANDIDATES_MAX + 1, engine.deciding)
        fresh: list[Pending] = []
        while loose and len(fresh) <= CANDIDATES_MAX:
            pending = heappop(loose)
            if pending.open and not pending.yes and pending.decider is None:
                fresh.append(pending)
        found = sorted(found + fresh)
        for pending in found[:CANDIDATES_MAX]:
            pending.decider = engine
            engine.deciding[pending] = None
        self.loosen(pending for pending in found[CANDIDATES_MAX:] if pending.decider is None)
        return tuple([pending.candidate for pending in found[:CANDIDATES_MAX]]), len(found) > CANDIDATES_MAX
