"""Buffers: debounces and batches that wait for their flush.

Duty: what has been put into each, and when it is due. What a flush creates is decided in `admission`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from durable.gates import batch_due, debounce_due

if TYPE_CHECKING:
    from durable.records import Parent, Plan

    from .agenda import Agenda
    from .events import Card

__all__ = ["Buffer", "Buffers"]


@define(eq=False, weakref_slot=False)
class Buffer:
    """Events of one key that will start one run, whose id is promised to all who put something in."""

    no: int
    due: int
    key: str
    run_id: str
    first: int
    plan: Plan
    cards: list[Card] = field(factory=list["Card"])
    parents: tuple[Parent, ...] = ()


class Buffers:
    """All buffers by key."""

    __slots__ = ("_agenda", "_by_key")

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._by_key: dict[str, Buffer] = {}

    def find(self, plan: Plan) -> Buffer | None:
        """The buffer into which `plan` would go."""
        return self._by_key.get(_key(plan))

    def open(self, plan: Plan, now: int, no: int) -> Buffer:
        """A new buffer, under the number of a job."""
        buffer = Buffer(no, -1, _key(plan), plan.run, now, plan)
        self._by_key[buffer.key] = buffer
        return buffer

    def schedule(self, buffer: Buffer, plan: Plan, now: int) -> int:
        """`plan` has just been put into `buffer`: when that is due now."""
        due = buffer.first
        if plan.batch is not None:
            due = batch_due(buffer.first, now, plan.batch.size, len(buffer.cards), plan.batch.timeout)
        elif plan.debounce is not None:
            due = debounce_due(buffer.first, now, plan.debounce.period, plan.debounce.timeout)
        if due != buffer.due:
            if buffer.due >= 0:
                self._agenda.moved()
            buffer.due = due
            self._agenda.add(buffer)
        return due

    def remove(self, buffer: Buffer) -> None:
        """`buffer` is flushed."""
        del self._by_key[buffer.key]
        if buffer.no:
            self._agenda.drop(buffer)


def _key(plan: Plan) -> str:
    if plan.batch is not None:
        return plan.batch.key
    assert plan.debounce is not None
    return plan.debounce.key
