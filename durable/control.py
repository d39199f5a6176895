"""What people do to runs and functions from outside: cancel, pause, resume.

The acting half of an engine that starts nothing; it may not know how runs are executed.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable._core.expressions import compile_condition
from durable.archive import Archive, Named
from durable.durations import to_point_ms
from durable.hosting import run_query
from durable.records import Cancellation, RunStatus
from durable.runs import event_of

if TYPE_CHECKING:
    from durable._core.catalog import Blueprint
    from durable._executor.service import Service
    from durable.clock import Clock
    from durable.durations import PointInTime

__all__ = ["Control"]


class Control(Archive):
    """Cancels runs, pauses functions."""

    _clock: Clock

    @abstractmethod
    def _outside(self, what: str, instead: str) -> Service:
        """The open engine; warns inside of a handler, where each replay would repeat the call."""

    @abstractmethod
    async def _known(self, service: Service, function: Named) -> Blueprint:
        """A function that is registered in the store; `LookupError` for an unknown one."""

    async def cancel(self, run_id: str) -> None:
        """Cancel a run; nothing happens if it has ended.

        Raises:
            LookupError: There is none of that id.
        """
        states = await self._outside("cancel", "a step").cancel([run_id])
        if states[0] is Cancellation.UNKNOWN:
            raise LookupError(f"there is no run {run_id!r} in this store")

    async def cancel_runs(
        self,
        function: Named,
        *,
        if_: str | None = None,
        started_after: PointInTime | None = None,
        started_before: PointInTime | None = None,
    ) -> int:
        """Cancel many runs of a function; how many there were.

        Args:
            function: Whose runs.
            if_: A CEL condition over ``event``.
            started_after: Only those queued at this time or later.
            started_before: Only those queued before this time.
        """
        service = self._outside("cancel_runs", "a step")
        condition = None if if_ is None else compile_condition(if_)
        after = (
            None if started_after is None else to_point_ms(started_after, what="cancel_runs(started_after)")
        )
        before = (
            None
            if started_before is None
            else to_point_ms(started_before, what="cancel_runs(started_before)")
        )
        alive = [status for status in RunStatus if not status.ended]
        query = replace(
            run_query((await self._known(service, function)).key, alive, None, None, None, 256),
            since=after,
            until=before,
        )
        count = 0
        while found := await self._store.runs(query):
            chosen = [
                one.run.id
                for one in found
                if condition is None or condition(event_of(one.events[0]).as_json())
            ]
            count += (await service.cancel(chosen)).count(Cancellation.DONE)
            query = replace(query, before=found[-1].run.id)
        return count

    async def pause(self, function: Named) -> None:
        """Start no more runs of a function: what would start one leaves a `skipped` run. Others go on."""
        await self._pause("pause", function, paused=True)

    async def resume(self, function: Named) -> None:
        """Start runs of a paused function again."""
        await self._pause("resume", function, paused=False)

    async def _pause(self, what: str, function: Named, *, paused: bool) -> None:
        service = self._outside(what, "a step")
        blueprint = await self._known(service, function)
        await self._store.pause(self._clock.now_ms(), blueprint.key, paused)
        await service.intake.refresh()
