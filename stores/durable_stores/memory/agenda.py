"""What falls due, in order of (due, creation): timers, time-outs, turns of the future, flushes, wake-ups.

Duty: one heap. Removal is lazy: a thing whose number or due time has changed is skipped when it comes up.
It may not know what its things are, nor what becomes of them.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Protocol

__all__ = ["Agenda", "Thing"]

_SLACK = 64  # so many stale entries are never worth a clean-up


class Thing(Protocol):
    """What may stand on the agenda: `no` is its number, 0 once it is over."""

    no: int
    due: int


class Agenda:
    """A heap of things by (due, number)."""

    __slots__ = ("_heap", "_stale")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Thing]] = []
        self._stale = 0

    def add(self, thing: Thing) -> None:
        """Put `thing` down for its due time; one whose due time has changed is added again."""
        heappush(self._heap, (thing.due, thing.no, thing))

    def drop(self, thing: Thing) -> None:
        """`thing` is over."""
        thing.no = 0
        self.moved()

    def moved(self) -> None:
        """An entry has become stale. Once most of them are, the heap is rebuilt: constant cost, amortised."""
        self._stale += 1
        if self._stale > _SLACK and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if _stands(entry)]
            heapify(self._heap)
            self._stale = 0

    def next_due(self) -> int | None:
        """When the first thing falls due."""
        heap = self._heap
        while heap:
            if _stands(heap[0]):
                return heap[0][0]
            heappop(heap)
            self._stale -= 1
        return None

    def pop(self, now: int) -> Thing | None:
        """Take the first thing that is due at `now`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        return heappop(self._heap)[2]


def _stands(entry: tuple[int, int, Thing]) -> bool:
    due, no, thing = entry
    return thing.no == no and thing.due == due
