"""Workers for tests: one that stubs steps, and one that replays a run after each of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from durable._core import operations as ops
from durable._executor.worker import Worker
from durable.codec import encode
from durable.errors import ConfigError
from durable.events import Event
from durable.failures import error_record
from durable.records import MemoState

if TYPE_CHECKING:
    from durable._core.operations import Call
    from durable._executor.draft import Pending
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
        if _is_exception(stub):
            raise stub
        return stub

    def arm(self, session: Session, pending: Pending) -> None:
        op = pending.op
        if op.step not in self.stubs or isinstance(op, ops.Deadline):
            return super().arm(session, pending)
        stub = self.stubs[op.step]
        try:
            value = _stored(op, stub, self.clock.now_ms())
        except Exception as error:
            record = error_record(error, step_id=op.step)
            return session.remember_now(pending, MemoState.ERROR, record.encode())
        return session.remember_now(pending, MemoState.VALUE, value)


def _is_exception(stub: object) -> bool:
    return isinstance(stub, BaseException) or (inspect.isclass(stub) and issubclass(stub, BaseException))


def _stored(op: ops.Operation, stub: Any, now: int) -> bytes:
    """What the store would keep of a step that has this result."""
    what = f"the stub of step {op.step!r}"
    if _is_exception(stub):
        raise stub
    if isinstance(op, ops.WaitForSignal) and stub is not None:
        data = stub.data if isinstance(stub, ops.Signal) else stub
        return encode({"data": data}, what=what)
    if isinstance(op, ops.WaitForEvent) and stub is not None:
        if not isinstance(stub, Event):
            raise ConfigError(f"{what}: it waits for an event, so give a durable.Event or None, got {stub!r}")
        return encode({**stub.as_json(), "id": stub.id or "stub", "ts": stub.ts or now}, what=what)
    return encode(stub, what=what)


class ReplayingWorker(StubbedWorker):
    """Hands each run back as soon as something new is in its journal, and replays it from there.

    Not while a callback is in flight: none is interrupted, and none is executed more often than without it.
    """

    def _went(self, session: Session, commit: Commit) -> None:
        """A commit is durable: if it has brought memos, the present pass is over."""
        super()._went(session, commit)
        if commit.memos and not session.active and not session.parked:
            session.halt()  # not `let_go`: a callback that is about to begin must not
