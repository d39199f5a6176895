"""What a session has to write and has not handed over yet, and the steps it awaits."""

from __future__ import annotations

from enum import IntEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from durable.records import STAY, Commit, End, MemoState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Context as Variables

    from durable._core.catalog import Catalog
    from durable._core.journal import Entry, Key
    from durable._core.operations import Operation
    from durable.records import Admission, Memo, Then, Timer, Wait

    Letter = Callable[[Catalog], Admission]
    """Makes an admission anew from a catalog: it is made again when the registry has moved on."""

__all__ = ["Draft", "Pending", "Phase", "reference"]

RESULTS = frozenset({MemoState.VALUE, MemoState.ERROR})
"""What is left of an attempt of the handler that has failed."""


class Draft:
    """A commit in the making. What is added before it is sealed goes out in one transaction."""

    __slots__ = (
        "attempt",
        "drop",
        "forget",
        "given_up",
        "letters",
        "memos",
        "signals",
        "then",
        "timers",
        "told",
        "waits",
        "withdrawn",
    )

    def __init__(self) -> None:
        self.memos: list[Memo] = []
        self.timers: list[Timer] = []
        self.waits: list[Wait] = []
        self.drop: list[str] = []
        self.withdrawn: list[Memo] = []
        self.given_up: list[str] = []
        self.letters: list[Letter] = []
        self.signals: list[tuple[int, Pending]] = []
        self.forget = False
        self.attempt: int | None = None
        self.then: Then = STAY
        self.told: list[Letter] = []
        """What tells of the end."""

    def give_up(self, ref: str) -> None:
        """The step of that name is withdrawn: what is not written of it need not be."""
        self.timers = [one for one in self.timers if one.ref != ref]
        self.waits = [one for one in self.waits if one.ref != ref]
        self.given_up.append(ref)

    def keep_given_up(self) -> None:
        """What was withdrawn and is not written was not: the run is handed back before anything followed."""
        self.withdrawn.clear()
        self.given_up.clear()

    def extend(self, later: Draft) -> None:
        """Put what has come later behind what is here, without what that has given up."""
        offset = len(self.letters)
        gone = {*later.drop, *later.given_up}
        self.timers = [one for one in self.timers if one.ref not in gone]
        self.waits = [one for one in self.waits if one.ref not in gone]
        self.withdrawn += later.withdrawn
        self.given_up += later.given_up
        self.memos += later.memos
        self.timers += later.timers
        self.waits += later.waits
        self.drop += later.drop
        self.letters += later.letters
        self.signals += [(offset + number, pending) for number, pending in later.signals]
        self.forget = self.forget or later.forget
        self.attempt = self.attempt if later.attempt is None else later.attempt
        if later.then is not STAY:
            self.then, self.told = later.then, later.told

    def commit(self, run: str, gen: int, catalog: Catalog) -> Commit:
        """The record that passes the door."""
        if self.withdrawn or self.given_up:
            self.memos = sorted(self.memos + self.withdrawn, key=attrgetter("position"))
            self.drop += self.given_up
            self.keep_given_up()
        if not (self.timers or self.waits or self.drop or self.letters or self.forget or self.told):
            return Commit(run, gen, tuple(self.memos), attempt=self.attempt, then=self.then)
        if (self.letters or self.told) and self.waits:
            catalog = catalog.knowing(self.waits)
        memos, then = self.memos, self.then
        if self.told:
            assert isinstance(then, End)
            then = replace(then, admit=tuple(letter(catalog) for letter in self.told))
        if self.forget:  # what the failed attempt has withdrawn is fresh for the next one
            memos = [one for one in memos if one.state in RESULTS]
        return Commit(
            run,
            gen,
            tuple(memos),
            tuple(self.timers),
            tuple(self.waits),
            tuple(self.drop),
            self.forget,
            self.attempt,
            admit=tuple(letter(catalog) for letter in self.letters),
            then=then,
        )


def reference(key: Key) -> str:
    """The name of a step's timer or wait within its run."""
    return f"{key[0]}#{key[1]}"


class Phase(IntEnum):
    """Where a step that is awaited stands."""

    RECORDED = 0  # its result is in the journal, and will be delivered in its round
    GONE = 1  # withdrawn before: nothing comes until the handler cancels it again
    HELD = 2  # fresh, and not begun: something recorded may still be delivered
    ACTIVE = 3  # its callback executes, or is about to
    WAITING = 4  # it has a timer or a wait in the store
    DONE = 5  # its result is recorded, and not delivered
    DELIVERED = 6


class Pending:
    """A step that the handler awaits."""

    __slots__ = (
        "attempt",
        "cause",
        "digest",
        "entry",
        "expired",
        "future",
        "key",
        "lone",
        "op",
        "phase",
        "ref",
        "result",
        "started",
        "task",
        "variables",
    )

    def __init__(
        self, op: Operation, key: Key, entry: Entry | None, future: asyncio.Future[None] | None, *, lone: bool
    ) -> None:
        self.op = op
        self.key = key
        self.ref = reference(key)
        self.entry = entry
        self.future = future
        self.lone = lone
        self.phase = Phase.HELD
        self.expired: Callable[[], None] | None = None
        self.task: asyncio.Task[Any] | None = None
        self.variables: Variables | None = None
        self.attempt = 0
        self.digest: bytes | None = None
        self.started = 0
        self.result: Memo | None = None
        self.cause: BaseException | None = None

    @property
    def has_expired(self) -> bool:
        """Whether it is a deadline that was delivered, whose block goes on: it keeps nothing from waiting."""
        return self.phase is Phase.DELIVERED and self.expired is not None
