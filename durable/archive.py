"""What a store remembers, for people: runs and events.

The reading half of an engine; it may not know how runs are executed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from durable.errors import StoreError
from durable.functions import Function
from durable.hosting import event_query, position, run_cursor, run_query
from durable.records import RunStatus
from durable.runs import Listing, Page, Run, event_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.codec import Decoder
    from durable.durations import Duration, PointInTime
    from durable.events import Event
    from durable.records import History
    from durable.store import Store

__all__ = ["Archive", "Named"]

Named = Function[Any] | str


class Archive(ABC):
    """Reads runs and events of a store."""

    _store: Store

    @abstractmethod
    def _check(self, what: str) -> None:
        """Raise if it may not be used from here."""

    @abstractmethod
    def _at_home(self, what: str) -> None:
        """Raise if it is open in another event loop, or in another process."""

    @abstractmethod
    async def _key(self, function: Named) -> str:
        """The key of a function; `LookupError` for an unknown one."""

    @abstractmethod
    def _decoder(self, function: str) -> Decoder:
        """How results of a function (its key) are read."""

    @abstractmethod
    async def _result(self, run: Run, timeout: Duration | None) -> Any:
        """Wait for the end of a run."""

    @abstractmethod
    async def cancel(self, run_id: str) -> None:
        """Cancel a run."""

    async def get_run(self, run_id: str) -> Run:
        """A handle on a run.

        Raises:
            LookupError: There is none of that id.
        """
        self._check("get_run")
        return Run(self, await self._read(run_id))

    async def _read(self, run_id: str, why: str = "") -> History:
        self._at_home("get_run")
        try:
            history = await self._store.history(run_id)
        except StoreError:
            self._check("get_run")  # of an engine that was left, that is what is to be said
            raise
        if history is None:
            raise LookupError(f"there is no run {run_id!r} in this store{why}")
        return history

    def runs(
        self,
        function: Named | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        event_id: str | None = None,
        since: PointInTime | None = None,
        until: PointInTime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[Run]:
        """Runs, newest first: ``await`` it for a `Page`, or ``async for`` over all of them.

        Args:
            function: Only of this one.
            status: Only with this status, or one of these (of an empty list: none).
            event_id: Only those that this event started.
            since: Queued at this time or later.
            until: Queued before this time.
            limit: Runs on a page.
            cursor: `Page.cursor` of the page before.
        """
        self._check("runs")
        query = run_query(None, status, event_id, since, until, limit)

        async def fetch(before: str | None) -> Page[Run]:
            self._at_home("runs")
            last = None if before is None else run_cursor(before)
            if status is not None and not query.statuses:
                return Page([])  # one of none
            key = None if function is None else await self._key(function)
            found = await self._store.runs(replace(query, function=key, before=last, limit=limit + 1))
            more = found[limit - 1].run.id if len(found) > limit else None
            return Page([Run(self, one) for one in found[:limit]], more)

        return Listing(fetch, cursor)

    def events(
        self,
        name: str | None = None,
        since: PointInTime | None = None,
        until: PointInTime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Listing[Event[Any]]:
        """Events, newest first, as `runs`; `since` and `until` count from their receipt."""
        self._check("events")
        query = event_query(name, since, until, limit)

        async def fetch(before: str | None) -> Page[Event[Any]]:
            place = None if before is None else position(before)
            self._at_home("events")
            found = await self._store.events(replace(query, before=place, limit=limit + 1))
            more = str(found[limit - 1].seq) if len(found) > limit else None
            return Page([event_of(one) for one in found[:limit]], more)

        return Listing(fetch, cursor)
