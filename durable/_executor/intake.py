"""The way in: events are checked, matched, planned and admitted.

Sends that are made while a transaction is under way share the next one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from durable._core.admission import INVOKED, admission, invocation, repetition
from durable._core.catalog import Catalog, name_of_parts
from durable._core.lifecycle import split_key
from durable._core.rerun import kept_memos
from durable._executor.post import SLICE
from durable.codec import encode
from durable.durations import shown
from durable.errors import EventRejected, EventTooLarge, StoreError, UnstorableError
from durable.events import check_sendable
from durable.records import Admission, Duplicate, New, NewEvent, Outdated, Parent, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from durable._core.catalog import Blueprint
    from durable._executor.draft import Letter
    from durable.clock import Clock
    from durable.events import Event
    from durable.ids import Ulids
    from durable.limits import Limits
    from durable.records import Admitted, History
    from durable.store import Store

__all__ = ["Intake"]

BATCH = 256
"""Admissions of several senders in one transaction, at most; one sender's list is never divided."""

Answered = New | Duplicate


class _Parcel:
    """What one sender wants to have admitted, all or nothing."""

    __slots__ = ("answer", "letters")

    def __init__(self, letters: Sequence[Letter], answer: asyncio.Future[list[Answered]]) -> None:
        self.letters = letters
        self.answer = answer


class Intake:
    """Turns events into admissions, and has them admitted."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        limits: Limits,
        ulids: Ulids,
        *,
        asking: Callable[[], AbstractContextManager[Request]],
        admitted: Callable[[Sequence[Admission], Admitted, int, Request], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._ulids = ulids
        self._asking = asking
        self._admitted = admitted
        self._parcels: deque[_Parcel] = deque()
        self._loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[None] | None = None
        self.busy = False
        self.catalog = Catalog()

    async def refresh(self) -> None:
        """Read the registry again."""
        self.catalog = Catalog(await self._store.registry())

    async def find(self, app: str, function: str) -> Blueprint | None:
        """A function of the store. One that is not known here may have been registered since the last look."""
        found = self.catalog.find(app, function)
        if found is None:
            await self.refresh()
            found = self.catalog.find(app, function)
        return found

    def new_id(self) -> str:
        """A fresh ULID."""
        return self._ulids.new(self._clock.now_ms())

    @property
    def at_rest(self) -> bool:
        """Whether nothing waits to be admitted."""
        return not (self._parcels or self.busy)

    # ------------------------------------------------------------ what is asked of the store

    def letters(self, events: Sequence[Event[Any]]) -> tuple[list[Letter], list[str]]:
        """How users' events are admitted, and their ids.

        Raises:
            EventRejected: One of them is not valid: none is to be sent.
        """
        made: list[Letter] = []
        ids: list[str] = []
        now = self._clock.now_ms()
        for number, event in enumerate(events):
            try:
                encoded = check_sendable(event, self._limits)
            except Exception as error:
                if len(events) > 1:
                    error.args = (f"event {number + 1} of {len(events)}: {error.args[0]}", *error.args[1:])
                raise
            stored = NewEvent(
                event.id or self._ulids.new(now),
                event.name,
                now if event.ts is None else event.ts,
                encoded.data,
                encoded.user,
                event.v,
                once=event.id is not None,
            )
            ids.append(stored.id)
            made.append(self.letter(stored))
        return made, ids

    def letter(self, event: NewEvent) -> Letter:
        """How an event is admitted."""

        def write(catalog: Catalog) -> Admission:
            document = _document(event) if catalog.needs_document(event.name) else None
            return admission(catalog, event, document, self._clock.now_ms(), self.new_id)

        return write

    def internal(self, name: str, data: bytes, ts: int) -> Letter:
        """How an event of the engine's own is admitted."""
        return self.letter(NewEvent(self.new_id(), name, ts, data))

    def invocation(
        self,
        function: str,
        data: Any,
        *,
        parent: tuple[str, str] | None = None,
        start_id: str | None = None,
    ) -> tuple[Letter, str, NewEvent]:
        """How one run of `function` (its key) is started; the id that it gets if it is a new one; its event.

        Raises:
            SerializationError: `data` is no JSON.
            EventRejected: It is no JSON object.
            EventTooLarge: It is larger than `Limits.event_bytes`.
        """
        _, name = split_key(function)
        now = self._clock.now_ms()
        encoded = encode(data, what=f"the data for function {name!r}")
        if not encoded.startswith(b"{"):
            raise EventRejected(f"the data for function {name!r} must be a JSON object, got {shown(data)}")
        if len(encoded) > self._limits.event_bytes:
            raise EventTooLarge(
                f"the data for function {name!r} has {len(encoded):,} bytes; Limits.event_bytes allows "
                f"{self._limits.event_bytes:,}"
            )
        # With a start id the event is accepted once, and so is what it causes.
        event_id = self.new_id() if start_id is None else name_of_parts(function, start_id)
        event = NewEvent(event_id, INVOKED, now, encoded, once=start_id is not None)
        run = self.new_id()
        who = None if parent is None else Parent(*parent)

        def write(catalog: Catalog) -> Admission:
            blueprint = catalog.functions[function]
            return invocation(catalog, blueprint, event, _document(event), now, run, parent=who)

        return write, run, event

    def repetition(self, history: History, from_step: str | tuple[str, int] | None) -> tuple[Letter, str]:
        """How a run is repeated from its event, and the id of the new one.

        Raises:
            LookupError: The run has no step `from_step`.
        """
        memos = () if from_step is None else kept_memos(history, from_step)
        run, now = self.new_id(), self._clock.now_ms()

        def write(catalog: Catalog) -> Admission:
            return repetition(catalog, history, memos, run, now)

        return write, run

    # ------------------------------------------------------------ admitting

    async def admit(self, letters: Sequence[Letter]) -> list[Answered]:
        """Have all of these admitted in one transaction.

        Raises:
            StoreError: The store could not; nothing of it is stored.
        """
        if not letters:
            return []
        parcel = _Parcel(letters, self._loop.create_future())
        self._parcels.append(parcel)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return await parcel.answer

    async def run(self) -> None:
        """Admit until cancelled."""
        while True:
            if not self._parcels:
                self._idle = self._loop.create_future()
                await self._idle
            self.busy = True
            parcels = self._gather()
            try:
                await self._deliver_all(parcels)
            except Exception as error:
                _fail(parcels, error)
            except asyncio.CancelledError:
                unknown = "the engine was left before the store had answered: this may be stored, or not"
                _fail(parcels, StoreError(unknown))
                raise
            self.busy = False

    async def _deliver_all(self, parcels: list[_Parcel]) -> None:
        """Together; where one of them can never be stored, each by itself, so that it spoils no other."""
        try:
            await self._deliver(parcels)
        except UnstorableError:
            if len(parcels) == 1:
                raise
            for parcel in parcels:
                try:
                    await self._deliver([parcel])
                except Exception as error:
                    _fail([parcel], error)

    def _gather(self) -> list[_Parcel]:
        taken: list[_Parcel] = []
        count = 0
        while self._parcels and (not taken or count + len(self._parcels[0].letters) <= BATCH):
            taken.append(self._parcels.popleft())
            count += len(taken[-1].letters)
        return taken

    async def _deliver(self, parcels: list[_Parcel]) -> None:
        while True:
            catalog = self.catalog
            admissions = [letter(catalog) for parcel in parcels for letter in parcel.letters]
            now = self._clock.now_ms()
            with self._asking() as request:
                admitted = await self._store.admit(now, admissions, request)
                self._admitted(admissions, admitted, now, request)
            # The check of the registry is the same for all: either all are outdated, or none is.
            if not any(isinstance(one, Outdated) for one in admitted.answers):
                break
            await self.refresh()
        answers = iter(admitted.answers)
        for number, parcel in enumerate(parcels):
            if number and number % SLICE == 0:
                await asyncio.sleep(0)
            answered = [one for one in islice(answers, len(parcel.letters)) if not isinstance(one, Outdated)]
            if not parcel.answer.done():
                parcel.answer.set_result(answered)

    def close(self) -> None:
        """Refuse what is still waiting."""
        _fail(self._parcels, StoreError("the engine was closed before this was stored"))
        self._parcels.clear()


def _fail(parcels: Iterable[_Parcel], error: Exception) -> None:
    for parcel in parcels:
        if not parcel.answer.done():
            parcel.answer.set_exception(error)


def _document(event: NewEvent) -> dict[str, Any]:
    """The event as expressions see it."""
    return {
        "id": event.id,
        "name": event.name,
        "data": orjson.loads(event.data),
        "user": None if event.user is None else orjson.loads(event.user),
        "ts": event.ts,
        "v": event.v,
    }
