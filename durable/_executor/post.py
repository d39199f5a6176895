"""Deliveries from the store, handed over a slice in each turn of the loop, and none twice."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from durable._executor.numbers import Numbers
from durable.records import Claim

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from durable.records import Delivery

__all__ = ["SLICE", "Post"]

_log = logging.getLogger("durable.worker")

SLICE = 64
"""What is handed over, or told, in one turn of the loop, at most: a thousand would hold it up for 10 ms."""


class Post:
    """What has come, and was not handed over yet.

    Args:
        loop: The event loop.
        hand_over: Takes one delivery.
        empty: Called when everything has been handed over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        hand_over: Callable[[Delivery], None],
        empty: Callable[[], None],
    ) -> None:
        self.numbers = Numbers()
        self._loop = loop
        self._hand_over = hand_over
        self._empty = empty
        self._bag: deque[Delivery] = deque()
        self._coming: set[str] = set()
        self._sorting = False

    def __len__(self) -> int:
        return len(self._bag)

    def brings(self, run_id: str) -> bool:
        """Whether a claim of this run has come, and was not handed over yet."""
        return run_id in self._coming

    def take(self, deliveries: Iterable[Delivery]) -> None:
        """These have come, among them perhaps some that came before."""
        for one in deliveries:
            if self.numbers.is_new(one.no):
                self._bag.append(one)
                if isinstance(one, Claim):
                    self._coming.add(one.history.run.id)
        if self._bag and not self._sorting:
            self._sorting = True
            self._sort()

    def _sort(self) -> None:
        for _ in range(min(SLICE, len(self._bag))):
            one = self._bag.popleft()
            if isinstance(one, Claim):
                self._coming.discard(one.history.run.id)
            try:
                self._hand_over(one)
            except Exception:
                _log.exception("the engine failed on a delivery: %r", one)
        if self._bag:
            self._loop.call_soon(self._sort)
        else:
            self._sorting = False
            self._empty()

    def discard(self) -> None:
        """Nothing of what has come concerns us any more, and numbers begin anew."""
        self._bag.clear()
        self._coming.clear()
        self.numbers = Numbers()
