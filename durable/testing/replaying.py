"""Replays a run after every step: what a test of a handler's determinism wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.testing.engine import StubbedWorker

if TYPE_CHECKING:
    from durable._executor.session import Session
    from durable.records import Commit

__all__ = ["ReplayingWorker"]


class ReplayingWorker(StubbedWorker):
    """Hands each run back as soon as something new is in its journal, and replays it from there.

    Callbacks in flight may end first, so that none is executed more often than without it. Parked runs are
    to be evicted at once: give the engine ``max_warm=0``.
    """

    def _went(self, session: Session, commit: Commit) -> None:
        """A commit is durable: if it has brought memos, the present pass is over."""
        super()._went(session, commit)
        going = session.end is None and not session.parked and not session.unwinding and not session.halted
        if commit.memos and going:
            session.halt()
