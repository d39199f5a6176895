"""What sessions need of the engine around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from random import Random

    from durable._core.operations import Call
    from durable._executor.committer import Committer
    from durable._executor.draft import Pending
    from durable._executor.intake import Intake
    from durable._executor.session import Session
    from durable.clock import Clock
    from durable.context import Attempt
    from durable.engine import Engine
    from durable.limits import Limits
    from durable.observers import Observers

__all__ = ["Host"]


class Host(Protocol):
    """The worker, as its sessions see it."""

    engine: Engine
    engine_id: str
    loop: asyncio.AbstractEventLoop
    clock: Clock
    limits: Limits
    random: Random
    committer: Committer
    intake: Intake
    observers: Observers
    strict: bool

    def warn_once(self, text: str) -> None:
        """Warn of something about a function, the first time."""
        ...

    def revived(self, session: Session) -> None:
        """A parked run goes on by itself: a cancelled await, say."""
        ...

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Execute this beside everything else, to its end."""
        ...

    def call(self, op: Call, attempt: Attempt) -> Coroutine[Any, Any, Any]:
        """Call a step's function once."""
        ...

    def arm(self, session: Session, pending: Pending) -> None:
        """Begin a fresh step that calls nothing: set its timer, register its wait, send what it sends."""
        ...
