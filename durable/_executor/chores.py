"""What has to be done by time: cron ticks, retention, heartbeats, the dead.

A single engine that has nothing to do makes no store call: ticks come from a heap in memory, retention follows
what is stored and what ends, and heartbeats are sent only once another engine has been heard of.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import orjson

from durable._core.admission import admission_of_tick
from durable._core.catalog import Catalog, name_of_parts
from durable._executor.patience import patiently
from durable.durations import from_ms
from durable.errors import StoreError
from durable.records import Admission, Cursor, Cutoffs, NewEvent
from durable.triggers import CronTrigger

if TYPE_CHECKING:
    from durable._core.catalog import Blueprint
    from durable._core.schedules import Schedule
    from durable._executor.service import Service

__all__ = ["Chores"]


_log = logging.getLogger("durable.chores")

_SWEEP_EVERY_MS = 3600 * 1000

_MOST_MISSED = 1000

_LATE_MS = 1000
"""A tick that comes later than this, when the next one has come too, was missed."""


class Tick:
    """One cron trigger of one function that is hosted here, and its next tick."""

    __slots__ = ("blueprint", "cursor", "due", "schedule", "tick", "trigger")

    def __init__(self, blueprint: Blueprint, trigger: CronTrigger, schedule: Schedule) -> None:
        self.blueprint = blueprint
        self.trigger = trigger
        self.schedule = schedule
        self.cursor = name_of_parts("cron", blueprint.key, schedule.key)
        self.tick: int | None = None
        self.due: int | None = None

    def aim(self, after: int) -> None:
        """Choose the first tick after that time. Ticks keep their order, however jitter puts them off."""
        self.tick = self.schedule.next_after(after)
        self.due = None if self.tick is None else max(self._moment(self.tick), self.due or 0)

    def reached(self, after: int, now: int) -> int | None:
        """The last tick after that time whose moment has come by `now`."""
        found = self.schedule.latest(after, now)
        while found is not None and self._moment(found) > now:
            found = self.schedule.latest(after, found - 1)
        return found

    def _moment(self, tick: int) -> int:
        return tick + self.schedule.jitter_of(tick, self.cursor)


class Chores:
    """The chores of one engine."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ticks: list[Tick] = []
        self._known: set[str] = set()
        self._busy = False
        self.peers = False
        self._sweep_at = 0
        self._alive = asyncio.Lock()
        self._untidy = asyncio.Event()
        self._untidy.set()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be done at the present time."""
        due = self.next_due
        return (
            not self._busy
            and not self._untidy.is_set()
            and (due is None or due > self._service.clock.now_ms())
        )

    @property
    def next_due(self) -> int | None:
        """The next tick, in ms."""
        return min((one.due for one in self._ticks if one.due is not None), default=None)

    def has_peers(self) -> None:
        """Another engine was heard of: from now on heartbeats are needed, and the dead are looked for."""
        if not self.peers:
            self.peers = True
            self._service.tasks.append(asyncio.Task(self._keep_alive(), loop=self._service.loop))

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        self._busy = True
        await self._first_ticks()
        self._busy = False
        self._service.pulse()
        while True:
            due = self.next_due
            if due is None:
                await asyncio.Event().wait()
                return
            clock = self._service.clock
            while clock.now_ms() < due:
                await clock.sleep_until(due)
            self._busy = True
            await self._fire()
            self._busy = False
            self._service.pulse()

    # ------------------------------------------------------------ cron

    async def look_back(self) -> None:
        """Note which schedules were registered until now; to be called before this engine registers its own."""
        hosted = self._service.options.functions
        if any(isinstance(one, CronTrigger) for its in hosted.values() for one in its.config.triggers):
            from durable._core.schedules import Schedule  # noqa: PLC0415 - croniter is imported on first use

            until_now = Catalog(await self._service.store.registry()).functions
            self._known = {
                Tick(until_now[key], trigger, Schedule(trigger)).cursor
                for key in hosted.keys() & until_now.keys()
                for trigger in until_now[key].crons
            }

    async def _first_ticks(self) -> None:
        """Aim every schedule; ticks that came due while nothing ran are handled as their trigger says."""
        service = self._service
        catalog = service.intake.catalog
        hosted = [catalog.functions[key] for key in service.options.functions if key in catalog.functions]
        found = [(one, trigger) for one in hosted for trigger in one.crons]
        if not found:
            return
        from durable._core.schedules import Schedule  # noqa: PLC0415 - croniter is imported on first use

        registry = await patiently(service.store.registry, _log.error, "cron lines cannot be looked up")
        cursors = {one.name: one.at for one in registry.cursors}
        now = service.clock.now_ms()
        for blueprint, trigger in found:
            tick = Tick(blueprint, trigger, Schedule(trigger))
            last = cursors.get(tick.cursor)
            if last is None or tick.cursor not in self._known:  # new, or new again: it has missed nothing
                await self._admit(tick, now, start=False)
                tick.aim(now)
            else:
                await self._catch_up(tick, last, now)
            self._ticks.append(tick)

    async def _catch_up(self, tick: Tick, last: int, now: int) -> None:
        """Nothing ran after the tick `last`: what was missed is handled as the trigger says."""
        reached = tick.reached(last, now)
        if reached is not None:
            for missed in self._missed(tick, last, reached):
                await self._admit(tick, missed)
        tick.aim(last if reached is None else reached)

    def _missed(self, tick: Tick, last: int, now: int) -> list[int]:
        """The ticks in (last, now] that are still to run."""
        if tick.trigger.missed == "latest":
            latest = tick.schedule.latest(last, now)
            return [] if latest is None else [latest]
        if tick.trigger.missed == "none":
            return []
        found = tick.schedule.between(last, now, _MOST_MISSED)
        if len(found) == _MOST_MISSED:
            _log.warning(
                "%s: more than %d ticks of %r were missed; the first %d run",
                tick.blueprint.key,
                _MOST_MISSED,
                tick.trigger.expr,
                _MOST_MISSED,
            )
        return found

    async def _fire(self) -> None:
        now = self._service.clock.now_ms()
        for tick in self._ticks:
            if tick.due is None or tick.tick is None or tick.due > now:
                continue
            if tick.due + _LATE_MS < now and tick.reached(tick.tick, now) is not None:  # the machine slept
                await self._catch_up(tick, tick.tick - 1, now)
                continue
            await self._admit(tick, tick.tick)
            tick.aim(tick.tick)

    async def _admit(self, tick: Tick, at: int, *, start: bool = True) -> None:
        """Start the run of one tick, once on all engines; or only move the cursor there."""
        intake = self._service.intake

        def letter(catalog: Catalog) -> Admission:
            cursor = Cursor(tick.cursor, at)
            if not start:
                return Admission(registry=catalog.version, cursor=cursor)
            now = self._service.clock.now_ms()
            fired = {
                "cron": tick.trigger.expr,
                "scheduled_at": from_ms(at).isoformat(),
                "fired_at": from_ms(now).isoformat(),
            }
            event = NewEvent(intake.new_id(), "durable/cron.fired", now, orjson.dumps(fired))
            blueprint = catalog.functions[tick.blueprint.key]
            return admission_of_tick(catalog, blueprint, event, fired, now, intake.new_id(), cursor)

        what = f"a tick of {tick.blueprint.key} could not be stored"
        await patiently(lambda: intake.admit([letter]), _log.error, what)

    # ------------------------------------------------------------ retention

    def has_grown(self) -> None:
        """Something was stored, or has ended: by now other things may be old enough to be removed."""
        if self._service.clock.now_ms() >= self._sweep_at:
            self._untidy.set()

    async def tidy(self) -> None:
        """Remove what is old: on entering, and then when more has come, once an hour at most."""
        while True:
            await self._sweep()
            self._untidy.clear()
            self._service.pulse()
            await self._untidy.wait()

    async def _sweep(self) -> None:
        """Remove what retention allows, in small steps."""
        service = self._service
        self._sweep_at = service.clock.now_ms() + _SWEEP_EVERY_MS
        retention = service.options.retention
        now = service.clock.now_ms()
        cutoffs = Cutoffs(now - retention.runs_ms, now - retention.steps_ms, now - retention.events_ms)
        try:
            more = True
            while more:
                more = await service.store.sweep(now, cutoffs)
        except StoreError as error:
            _log.warning("old runs could not be removed now: %s", error)

    # ------------------------------------------------------------ the living and the dead

    async def bury_the_dead(self) -> None:
        """Take over what dead engines have left behind."""
        service = self._service
        for dead in await service.store.dead(service.options.lease):
            more = True
            while more:
                more, _ = await service.store.bury(service.clock.now_ms(), dead)

    async def say_alive(self) -> bool:
        """Send a heartbeat; an engine that learns that it was buried joins anew. Whether it could."""
        service = self._service
        try:
            async with self._alive:  # whoever comes second says it under the new name
                if not await service.store.extend(service.id):
                    await service.rejoin()
        except StoreError as error:
            _log.warning("no heartbeat could be sent: %s", error)
            return False
        return True

    async def _keep_alive(self) -> None:
        service = self._service
        while True:
            await asyncio.sleep(service.options.lease / 3000)
            if not await self.say_alive():
                continue  # where nobody can write, silence says nothing
            try:
                await self.bury_the_dead()
            except StoreError as error:
                _log.warning("the dead could not be looked for: %s", error)
            service.worker.wake()
