"""The tasks of parked runs that stay in memory: for how long, and how many."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable._executor.session import Session

__all__ = ["Warm"]


class Warm:
    """Parked sessions, the one that was parked first in front.

    Args:
        keep: How long one stays (ms).
        most: How many stay.
    """

    def __init__(self, keep: int, most: int) -> None:
        self._keep = keep
        self._most = most
        self._parked: OrderedDict[str, tuple[Session, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._parked

    def put(self, session: Session, now: int) -> None:
        """A run was parked."""
        self._parked[session.run_id] = session, now

    def take(self, run_id: str) -> None:
        """A run goes on, or has ended."""
        self._parked.pop(run_id, None)

    @property
    def cold_at(self) -> int | None:
        """When the first of them has stayed long enough (ms)."""
        return next(iter(self._parked.values()))[1] + self._keep if self._parked else None

    def cold(self, now: int) -> Iterator[Session]:
        """Take out those that have stayed long enough, or are too many."""
        while self._parked:
            run_id, (session, since) = next(iter(self._parked.items()))
            if since + self._keep > now and len(self._parked) <= self._most:
                return
            del self._parked[run_id]
            yield session

    def all(self) -> list[Session]:
        """Take all of them out."""
        found = [session for session, _ in self._parked.values()]
        self._parked.clear()
        return found
