"""Which deliveries have come: so that an answer that was lost is asked for again, and none is taken twice.

A store numbers its deliveries to an engine. Several calls may be under way at once, and their answers come in
any order; a number may be passed over, where a later delivery says more about the same run.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Numbers"]


class Numbers:
    """The numbers of the deliveries to one engine."""

    __slots__ = ("_calls", "_came", "_greatest")

    def __init__(self) -> None:
        self._came: set[int] = set()
        self._greatest = 0
        self._calls: dict[object, int] = {}

    @contextmanager
    def asking(self) -> Generator[None, None, None]:
        """A call whose answer may hold deliveries, which are taken inside."""
        call = object()
        self._calls[call] = self._greatest
        try:
            yield
        finally:
            del self._calls[call]
            seen = self.seen
            self._came = {number for number in self._came if number > seen}

    @property
    def seen(self) -> int:
        """All up to this number has come: nothing that is under way can hold a smaller one."""
        return min(self._calls.values(), default=self._greatest)

    def is_new(self, number: int) -> bool:
        """Whether this delivery comes for the first time."""
        if number <= self.seen or number in self._came:
            return False
        self._came.add(number)
        self._greatest = max(self._greatest, number)
        return True
