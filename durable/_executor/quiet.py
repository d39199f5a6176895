"""Quiet: when a run has done nothing for a few turns of the loop.

The chain from a delivery to the next step takes up to 2 * depth + 1 turns for gather, TaskGroup, wait, shield
and as_completed; births and ends of tasks count as activity, so that 8 silent turns suffice at any depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["QUIET_TURNS", "Quiet"]

QUIET_TURNS = 8
"""Turns without activity after which a run is quiet."""

_MOST_TURNS = 1000
"""Turns after which a run that is never silent (one that makes tasks for ever, say) counts as quiet."""


class Quiet:
    """Counts the silent turns of one run, and calls `then` when it has become quiet."""

    __slots__ = ("_loop", "_scheduled", "_silent", "_then", "_turns", "reached")

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        self._loop = loop
        self._then = then
        self._silent = 0
        self._turns = 0
        self._scheduled = False
        self.reached = False

    def touch(self) -> None:
        """The run did something: start counting again."""
        self._silent = 0
        self.reached = False
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._silent += 1
        self._turns += 1
        if self._silent < QUIET_TURNS and self._turns < _MOST_TURNS:
            self._loop.call_soon(self._turn)
            return
        self._scheduled = False
        self._turns = 0
        self.reached = True
        self._then()
