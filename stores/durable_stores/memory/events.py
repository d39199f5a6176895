"""Events in their one order, and what is remembered so that none is accepted twice.

Duty: sequence numbers, events by name, event ids and cursors. It may not know what events cause.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from attrs import define, field

from durable.records import Cursor, Duplicate, NewEvent, Outcome, StoredEvent
from durable.store import HOLD_MS, SWEEP_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from durable.records import EventQuery

__all__ = ["Card", "Events"]

_SLACK = 64


@define(eq=False, weakref_slot=False)
class Card:
    """An event, and how many hold it: runs, buffers, candidates, and things that it made fire."""

    event: StoredEvent
    holders: int = 0


@define(eq=False, weakref_slot=False)
class _Shelf:
    """The events of one name: their sequences, and the latest time of receipt up to each."""

    seqs: array[int] = field(factory=lambda: array("q"))
    latest: array[int] = field(factory=lambda: array("q"))
    gone: int = 0


class Events:
    """All stored events."""

    __slots__ = ("_accepted", "_cards", "_cursors", "_loose", "_shelves", "last")

    def __init__(self) -> None:
        self.last = 0
        """The greatest sequence number that was given."""
        self._cards: dict[int, Card] = {}
        self._shelves: dict[str, _Shelf] = {}
        self._loose: list[tuple[int, int]] = []  # (received, seq) of those that nobody holds
        self._accepted: dict[tuple[str, str], tuple[int, Duplicate]] = {}
        self._cursors: dict[str, tuple[int, Duplicate]] = {}

    # ------------------------------------------------------------ once

    def duplicate(self, event: NewEvent, now: int) -> Duplicate | None:
        """The answer to an event that was accepted before."""
        before = self._accepted.get((event.name, event.id)) if event.once else None
        return before[1] if before is not None and before[0] > now else None

    def behind(self, cursor: Cursor) -> Duplicate | None:
        """The answer to a cursor that would not move."""
        stands = self._cursors.get(cursor.name)
        return stands[1] if stands is not None and cursor.at <= stands[0] else None

    def accept(self, event: NewEvent, now: int, seq: int, outcomes: tuple[Outcome, ...]) -> None:
        """Remember the id of an event with `once`."""
        key = (event.name, event.id)
        self._accepted.pop(key, None)
        self._accepted[key] = now + HOLD_MS, Duplicate(seq, outcomes)

    def move(self, cursor: Cursor, seq: int, outcomes: tuple[Outcome, ...]) -> None:
        """The cursor stands there from now on."""
        self._cursors[cursor.name] = cursor.at, Duplicate(seq, outcomes)

    def cursors(self) -> tuple[Cursor, ...]:
        """Where all cursors stand."""
        return tuple(Cursor(name, self._cursors[name][0]) for name in sorted(self._cursors))

    # ------------------------------------------------------------ storing

    def store(self, event: NewEvent, now: int) -> Card:
        """Give `event` the next sequence number."""
        self.last += 1
        seq = self.last
        stored = StoredEvent(seq, event.id, event.name, event.ts, now, event.data, event.user, event.v)
        card = self._cards[seq] = Card(stored)
        shelf = self._shelves.get(event.name)
        if shelf is None:
            shelf = self._shelves[event.name] = _Shelf()
        latest = shelf.latest
        shelf.seqs.append(seq)
        latest.append(now if not latest or now > latest[-1] else latest[-1])
        return card

    def find(self, seqs: Iterable[int]) -> list[Card]:
        """Stored events by their sequences; those that are gone are left out."""
        return [self._cards[seq] for seq in seqs if seq in self._cards]

    def settle(self, card: Card) -> None:
        """All that `card`'s event causes is done: if nobody holds it, only its age counts."""
        if not card.holders:
            heappush(self._loose, (card.event.received, card.event.seq))

    def hold(self, event: StoredEvent) -> None:
        """One more needs `event` to stay."""
        card = self._cards.get(event.seq)
        if card is not None:
            card.holders += 1

    def release(self, event: StoredEvent) -> None:
        """One of those who held `event` needs it no more."""
        card = self._cards.get(event.seq)
        if card is not None:
            card.holders -= 1
            self.settle(card)

    def sweep(self, now: int, before: int) -> bool:
        """Forget up to `SWEEP_MAX` events that are older than `before` and nobody's; whether there are more.

        Ids that were accepted more than `HOLD_MS` ago go as well.
        """
        loose = self._loose
        for _ in range(SWEEP_MAX):
            if not loose or loose[0][0] >= before:
                break
            card = self._cards.get(heappop(loose)[1])
            if card is not None and not card.holders:
                self._remove(card)
        return self._sweep_ids(now) or bool(loose and loose[0][0] < before)

    def _sweep_ids(self, now: int) -> bool:
        gone: list[tuple[str, str]] = []
        for key, (until, _) in self._accepted.items():
            if until > now or len(gone) == SWEEP_MAX:
                break
            gone.append(key)
        for key in gone:
            del self._accepted[key]
        return len(gone) == SWEEP_MAX

    def _remove(self, card: Card) -> None:
        event = card.event
        del self._cards[event.seq]
        shelf = self._shelves[event.name]
        shelf.gone += 1
        if shelf.gone == len(shelf.seqs):
            del self._shelves[event.name]
        elif shelf.gone > _SLACK and shelf.gone * 2 > len(shelf.seqs):
            kept = [place for place, seq in enumerate(shelf.seqs) if seq in self._cards]
            shelf.seqs = array("q", [shelf.seqs[place] for place in kept])
            shelf.latest = array("q", [shelf.latest[place] for place in kept])
            shelf.gone = 0

    # ------------------------------------------------------------ reading

    def since(
        self, name: str, seq: int | None, at: int | None, start: int, end: int
    ) -> Iterator[StoredEvent]:
        """Events with sequences in [start, end] that come after `seq`, or were received at `at` or later."""
        shelf = self._shelves.get(name)
        if shelf is None:
            return
        places: list[int] = []
        if seq is not None:
            places.append(bisect_right(shelf.seqs, seq))
        if at is not None:
            places.append(bisect_left(shelf.latest, at))
        for place in range(max(min(places), bisect_left(shelf.seqs, start)), len(shelf.seqs)):
            card = self._cards.get(shelf.seqs[place])
            if card is None:
                continue
            event = card.event
            if event.seq > end:
                return
            if (seq is not None and event.seq > seq) or (at is not None and event.received >= at):
                yield event

    def newest(self, query: EventQuery) -> Iterator[StoredEvent]:
        """Events that `query` asks for, from the newest, without its limit."""
        for seq in self._backwards(query.name, query.before):
            card = self._cards.get(seq)
            if card is None:
                continue
            event = card.event
            if (query.since is None or event.received >= query.since) and (
                query.until is None or event.received < query.until
            ):
                yield event

    def _backwards(self, name: str | None, before: int | None) -> Iterator[int]:
        if name is None:
            first = next(iter(self._cards), self.last + 1)
            yield from range(min(self.last, self.last if before is None else before - 1), first - 1, -1)
            return
        shelf = self._shelves.get(name)
        if shelf is not None:
            seqs = shelf.seqs
            for place in range((len(seqs) if before is None else bisect_left(seqs, before)) - 1, -1, -1):
                yield seqs[place]
