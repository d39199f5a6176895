"""Workers for tests: one that stubs steps, and one that replays a run after each of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from durable._executor.worker import Worker

if TYPE_CHECKING:
    from durable._core.operations import Call
    from durable._executor.session import Session
    from durable.context import Attempt
    from durable.records import Commit

__all__ = ["ReplayingWorker", "StubbedWorker"]


class StubbedWorker(Worker):
    """Executes runs, and returns what a test wants in the place of some steps."""

    stubs: dict[str, Any]

    async def call(self, op: Call, attempt: Attempt) -> Any:
        if op.step not in self.stubs:
            return await super().call(op, attempt)
        stub = self.stubs[op.step]
        if isinstance(stub, BaseException) or (inspect.isclass(stub) and issubclass(stub, BaseException)):
            raise stub
        return stub


class ReplayingWorker(StubbedWorker):
    """Hands each run back as soon as something new is in its journal, and replays it from there.

    Not while a callback is in flight: none is interrupted, and none is executed more often than without it.
    """

    def _went(self, session: Session, commit: Commit) -> None:
        """A commit is durable: if it has brought memos, the present pass is over."""
        super()._went(session, commit)
        if commit.memos and not session.active and not session.parked:
            session.halt()  # not `let_go`: a callback that is about to begin must not
