"""Who waits for the ends of runs, and what is known of runs that were started or have ended here lately.

It may not know stores or sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from durable.records import RunRecord

__all__ = ["Watchers"]

_RECENT = 256
"""Ends that are remembered for those who ask a little late."""

_STARTED = 10_000
"""Runs that were started here: whether they have ended need not be looked up."""


class Watchers:
    """The futures of those who wait for a run's end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[str, list[asyncio.Future[RunRecord]]] = {}
        self._recent: dict[str, RunRecord] = {}
        self._started: dict[str, None] = {}

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waiting

    def started(self, run_id: str) -> None:
        """A run was started here: who waits for its end need not look whether it has come already."""
        self._started[run_id] = None
        if len(self._started) > _STARTED:
            del self._started[next(iter(self._started))]

    def is_new(self, run_id: str) -> bool:
        """Whether a run was started here, and has not been told to have ended."""
        return run_id in self._started

    def watch(self, run_id: str) -> tuple[asyncio.Future[RunRecord], Callable[[], None]]:
        """Resolves with the end of a run that executes here; and how to stop watching."""
        watcher: asyncio.Future[RunRecord] = self._loop.create_future()
        if run_id in self._recent:
            watcher.set_result(self._recent[run_id])
            return watcher, lambda: None
        watchers = self._waiting.setdefault(run_id, [])
        watchers.append(watcher)

        def forget() -> None:
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers:
                self._waiting.pop(run_id, None)

        return watcher, forget

    def tell(self, record: RunRecord) -> None:
        """A run has ended."""
        self._started.pop(record.id, None)
        self._recent[record.id] = record
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        for watcher in self._waiting.pop(record.id, ()):
            if not watcher.done():
                watcher.set_result(record)

    def give_up(self, why: Callable[[str], Exception]) -> None:
        """Nobody will be told of an end any more: whoever still waits is told `why`, for the run's id."""
        for run_id, watchers in self._waiting.items():
            for watcher in watchers:
                if not watcher.done():
                    watcher.set_exception(why(run_id))
        self._waiting.clear()
