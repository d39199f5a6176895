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

    Not while a callback is in flight: none is interrupted, and none is executed more often than without it.
    Parked runs are to be evicted at once: give the engine ``max_warm=0``.
    """

    def _went(self, session: Session, commit: Commit) -> None:
        """A commit is durable: if it has brought memos, the present pass is over."""
        super()._went(session, commit)
        if commit.memos and not session.active and not session.parked:
            session.halt()  # not `let_go`: a callback that is about to begin must not
