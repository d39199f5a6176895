"""Runs as people and callers see them: the handle `Run`, its steps, and pages of things.

A handle is a snapshot that can be refreshed; what it does, its engine does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import orjson
from attrs import frozen

from durable._core.lifecycle import split_key
from durable.codec import decode
from durable.durations import from_ms
from durable.errors import RunCancelled, RunFailed
from durable.events import Event
from durable.failures import ErrorRecord
from durable.records import Effect, History, MemoState, RunStatus

if TYPE_CHECKING:
    from datetime import datetime

    from durable.codec import Decoder
    from durable.durations import Duration
    from durable.records import Memo, RunRecord, StoredEvent

__all__ = ["Listing", "Page", "Run", "StepRecord", "event_of"]

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultTypeVar

    Output_co = DefaultTypeVar("Output_co", default=Any, covariant=True)
else:
    Output_co = TypeVar("Output_co", covariant=True)


def event_of(stored: StoredEvent) -> Event[Any]:
    """A stored event as users know it."""
    return Event.received(stored.name, stored.data, id=stored.id, ts=stored.ts, user=stored.user, v=stored.v)


@frozen
class StepRecord:
    """One step of a run that is done, waits, or will be tried again.

    `status` is ``"completed"``, ``"failed"``, ``"withdrawn"``, ``"retrying"`` or ``"waiting"``. A step whose
    first attempt executes now is not recorded yet.
    """

    id: str
    index: int
    kind: str
    status: str
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    output: Any = None
    error: ErrorRecord | None = None


class RunKeeper(Protocol):
    """What a handle needs of its engine."""

    async def _read(self, run_id: str) -> History: ...
    async def _result(self, run: Run[T], timeout: Duration | None) -> T: ...
    async def cancel(self, run_id: str) -> None: ...
    def _decoder(self, function: str) -> Decoder: ...


class Run(Generic[Output_co]):
    """A run, as it stood when it was read last. `engine.start(f)` types what it returns: ``Run[Report]``.

    Times are aware datetimes in UTC. `output` is decoded into the type of its handler's annotation where the
    function is hosted here, and is JSON elsewhere.
    """

    __slots__ = ("_history", "_keeper")

    def __init__(self, keeper: RunKeeper, history: History) -> None:
        self._keeper = keeper
        self._history = history

    def __repr__(self) -> str:
        return f"<durable.Run {self.id} of {self.function_id!r}: {self.status}>"

    # ------------------------------------------------------------ what it is

    @property
    def id(self) -> str:
        """The run's id, a ULID."""
        return self._history.run.id

    @property
    def function_id(self) -> str:
        """The function's id, as its author wrote it."""
        return split_key(self._history.run.function)[1]

    @property
    def app(self) -> str:
        """The app of the engine that hosts the function."""
        return split_key(self._history.run.function)[0]

    @property
    def status(self) -> RunStatus:
        """Where it stands."""
        return self._history.run.status

    @property
    def event(self) -> Event[Any]:
        """The event that started it; of a batch, the first."""
        return event_of(self._history.events[0])

    @property
    def events(self) -> list[Event[Any]]:
        """All events that started it."""
        return [event_of(one) for one in self._history.events]

    @property
    def output(self) -> Output_co | None:
        """What the handler returned; ``None`` until it has."""
        output = self._history.run.output
        if output is None:
            return None
        decoder = self._keeper._decoder(self._history.run.function)  # noqa: SLF001 - a handle's own engine
        found: Output_co = decode(output, decoder, what=f"the result of run {self.id}")
        return found

    @property
    def error(self) -> ErrorRecord | None:
        """Why it failed: `name`, `message`, `stack`, `step_id`."""
        error = self._history.run.error
        return None if error is None else ErrorRecord.decode(error)

    @property
    def skip_reason(self) -> str | None:
        """Why it never ran, or why it was cancelled."""
        return _reason(self._history.run.reason)

    @property
    def parent_id(self) -> str | None:
        """The run that invoked it."""
        parent = self._history.run.parent
        return None if parent is None else parent.run

    @property
    def attempt(self) -> int:
        """The number of the handler's attempt, from 0."""
        return self._history.run.attempt

    @property
    def waiting_for(self) -> list[str]:
        """What it waits for, in words."""
        if self.status.ended:
            return []
        found: list[str] = []
        for timer in self._history.timers:
            when = from_ms(timer.due).isoformat(timespec="seconds")
            step = timer.ref.rpartition("#")[0]
            if timer.ref == "":
                found.append(f"attempt {timer.attempt + 1} of the handler at {when}")
            elif timer.attempt:
                found.append(f"step {step!r}: attempt {timer.attempt + 1} at {when}")
            elif timer.effect is Effect.RESUME:
                found.append(f"step {step!r}: {timer.kind or 'timer'} until {when}")
        for wait in self._history.waits:
            step = wait.ref.rpartition("#")[0]
            what = wait.event or wait.signal or wait.child
            if wait.effect is Effect.RESUME:
                until = (
                    ""
                    if wait.until is None
                    else f" until {from_ms(wait.until).isoformat(timespec='seconds')}"
                )
                word = "event" if wait.event else "signal" if wait.signal else "run"
                found.append(f"step {step!r}: {word} {what!r}{until}")
        return found

    @property
    def queued_at(self) -> datetime:
        """When it was created."""
        return from_ms(self._history.run.created)

    @property
    def started_at(self) -> datetime | None:
        """When it was executed for the first time."""
        return _at(self._history.run.started)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return _at(self._history.run.ended)

    def outcome(self) -> Output_co:
        """The output of a run that has ended, or the exception that says how it did."""
        if self.status is RunStatus.COMPLETED:
            return cast("Output_co", self.output)
        error, who = self.error, f"run {self.id} of {self.function_id!r}"
        if self.status is RunStatus.CANCELLED:
            raise RunCancelled(f"{who} was cancelled", run_id=self.id, error=error)
        why = f"failed: {error.name}: {error.message}" if error else f"{self.status}: {self.skip_reason}"
        raise RunFailed(f"{who} {why}", run_id=self.id, error=error)

    # ------------------------------------------------------------ what it does

    def ended(self, record: RunRecord) -> None:
        """Take note of the end, of which the engine was told."""
        self._history = History(record, self._history.events)

    async def refresh(self) -> Run[Output_co]:
        """Read it again, in place."""
        self._history = await self._keeper._read(self.id)  # noqa: SLF001 - as above
        return self

    async def result(self, timeout: Duration | None = None) -> Output_co:
        """Wait for its end: what the handler returned.

        Raises:
            RunFailed: It failed, or was skipped.
            RunCancelled: It was cancelled.
            TimeoutError: It did not end within `timeout`; it runs on.
        """
        return await self._keeper._result(self, timeout)  # noqa: SLF001 - as above

    async def cancel(self) -> None:
        """Cancel it; nothing happens if it has ended."""
        await self._keeper.cancel(self.id)

    async def steps(self) -> list[StepRecord]:
        """Its recorded steps, in order of their start."""
        history = await self._keeper._read(self.id)  # noqa: SLF001 - as above
        found = [_step(memo) for memo in history.memos if memo.state is not MemoState.LATE]
        found += [
            _open_step(one.ref, str(one.kind), one.attempt, one.error, one.started)
            for one in history.timers
            if one.kind is not None
        ]
        found += [
            _open_step(one.ref, str(one.kind), 0, None, one.started)
            for one in history.waits
            if one.kind is not None
        ]
        order = {(one.step, one.index): one.position for one in history.memos}
        found.sort(key=lambda one: (one.started_at or from_ms(0), order.get((one.id, one.index), 1 << 30)))
        return found


def _reason(text: str | None) -> str | None:
    """Why a run was cancelled or skipped, in words: stores name the timer or wait that did it."""
    if text is None or not text.startswith("!"):
        return text
    if text.startswith("!cancel "):
        return f"cancelled by the event {text.split(' ', 2)[2]!r}"
    return f"took longer than its time-out to {text[1:]}"


def _at(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)


def _step(memo: Memo) -> StepRecord:
    status = {MemoState.VALUE: "completed", MemoState.ERROR: "failed"}.get(memo.state, "withdrawn")
    error = ErrorRecord.decode(memo.value or b"null") if memo.state is MemoState.ERROR else None
    output = orjson.loads(memo.value or b"null") if memo.state is MemoState.VALUE else None
    return StepRecord(
        memo.step,
        memo.index,
        str(memo.kind),
        status,
        memo.attempts,
        _at(memo.started or None),
        _at(memo.ended or None),
        output,
        error,
    )


def _open_step(ref: str, kind: str, attempt: int, error: bytes | None, started: int) -> StepRecord:
    step, _, index = ref.rpartition("#")
    status = "retrying" if attempt else "waiting"
    record = None if error is None else ErrorRecord.decode(error)
    return StepRecord(step, int(index), kind, status, attempt, _at(started or None), None, None, record)


# ---------------------------------------------------------------- pages


@frozen
class Page(Generic[T]):
    """Some of many things. `cursor` asks for the next page; ``None``: there is none."""

    items: list[T]
    cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Listing(Generic[T]):
    """A question for things: ``await`` it for one `Page`, or ``async for`` over all of them."""

    __slots__ = ("_cursor", "_fetch")

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page[T]]], cursor: str | None) -> None:
        self._fetch = fetch
        self._cursor = cursor

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self._fetch(self._cursor).__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        cursor = self._cursor
        while True:
            page = await self._fetch(cursor)
            for item in page.items:
                yield item
            cursor = page.cursor
            if cursor is None:
                return
