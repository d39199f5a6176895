"""Observers: told what happens, never asked.

`Observers` fans out, and sees to it that an observer that fails changes nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import Memo, RunStatus

__all__ = ["Observer", "Observers"]

_log = logging.getLogger("durable.observers")


class Observer:
    """Subclass it, override what is of interest, and pass an instance as ``Engine(observers=[...])``.

    Every method is called in the engine's event loop and must return at once; what it raises is logged.

    Example:
        >>> class Counter(Observer):
        ...     ended = 0
        ...
        ...     def run_ended(self, run_id: str, function: str, status: RunStatus) -> None:
        ...         self.ended += 1
    """

    def run_started(self, run_id: str, function: str) -> None:
        """A handler is called from the top: for the first time, or to be replayed."""

    def run_parked(self, run_id: str, function: str) -> None:
        """A run waits; its task stays in memory."""

    def run_resumed(self, run_id: str, function: str) -> None:
        """A parked run goes on."""

    def run_evicted(self, run_id: str, function: str) -> None:
        """The task of a parked run was removed from memory; the run is replayed when it goes on."""

    def run_ended(self, run_id: str, function: str, status: RunStatus) -> None:
        """A run has ended, durably."""

    def handler_failed(self, run_id: str, attempt: int, error: BaseException) -> None:
        """A handler has raised; it will be called again."""

    def step_started(self, run_id: str, step: str, index: int, attempt: int) -> None:
        """An attempt of a step's callback begins."""

    def step_failed(self, run_id: str, step: str, index: int, attempt: int, error: BaseException) -> None:
        """An attempt of a step's callback has failed."""

    def step_ended(self, run_id: str, memo: Memo) -> None:
        """A step's result is remembered; it is about to be written."""


class Observers(Observer):
    """All observers of an engine, as one."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._all = tuple(observers)

    def _tell(self, what: str, *args: object) -> None:
        for observer in self._all:
            try:
                getattr(observer, what)(*args)
            except Exception:
                _log.exception("observer %r failed in %s; the run is not affected", observer, what)

    def run_started(self, run_id: str, function: str) -> None:
        if self._all:
            self._tell("run_started", run_id, function)

    def run_parked(self, run_id: str, function: str) -> None:
        if self._all:
            self._tell("run_parked", run_id, function)

    def run_resumed(self, run_id: str, function: str) -> None:
        if self._all:
            self._tell("run_resumed", run_id, function)

    def run_evicted(self, run_id: str, function: str) -> None:
        if self._all:
            self._tell("run_evicted", run_id, function)

    def run_ended(self, run_id: str, function: str, status: RunStatus) -> None:
        if self._all:
            self._tell("run_ended", run_id, function, status)

    def handler_failed(self, run_id: str, attempt: int, error: BaseException) -> None:
        if self._all:
            self._tell("handler_failed", run_id, attempt, error)

    def step_started(self, run_id: str, step: str, index: int, attempt: int) -> None:
        if self._all:
            self._tell("step_started", run_id, step, index, attempt)

    def step_failed(self, run_id: str, step: str, index: int, attempt: int, error: BaseException) -> None:
        if self._all:
            self._tell("step_failed", run_id, step, index, attempt, error)

    def step_ended(self, run_id: str, memo: Memo) -> None:
        if self._all:
            self._tell("step_ended", run_id, memo)
