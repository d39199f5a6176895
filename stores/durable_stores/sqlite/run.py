"""A run as one row, while a door acts on it. May not know what acts on it."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from attrs import define, field, fields

from durable.records import Parent, RunRecord, RunStatus

__all__ = ["ADD_RUN", "LOAD_RUN", "LOAD_RUNS", "SAVE_END", "SAVE_RUN", "Run", "added", "ended", "saved"]


@define(eq=False)
class Run:
    """The columns of a run that doors act on: first those that stay, and then from `status` on the others."""

    id: str
    function: str
    created: int
    due: int
    priority: int
    event: int
    parent_run: str | None
    parent_ref: str | None
    throttle: str
    slots: str
    singleton: str | None
    start_by: int | None
    finish_in: int | None
    origin: str | None
    holder: str | None
    status: str = ""
    reason: str | None = None
    gen: int = 0
    owner: str | None = None
    affinity: str | None = None
    claim: int = 0
    news: int = 0
    fired: int = 0
    tied: int = 0
    asked: int = 0
    placed: int = 0
    extra: int = 0
    attempt: int = 0
    started: int | None = None
    ended: int | None = None
    cancelled: bool = field(init=False)
    queued: bool = field(init=False)
    result: tuple[bytes | None, bytes | None, str | None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.cancelled = self.status == "cancelled"
        announces = self.cancelled and self.owner is None and self.ended is None
        self.queued = announces or self.status == "queued"

    def stands(self) -> str:
        """Its status: a function of all the rest."""
        if self.ended is not None:
            return self.status
        if self.cancelled:
            return "cancelled"
        if self.owner is not None:
            return "running"
        return "queued" if self.queued else "waiting"

    @property
    def is_over(self) -> bool:
        """Whether nothing happens to it any more, but the announcement that it was cancelled."""
        return self.cancelled or self.ended is not None

    def record(self) -> RunRecord:
        """What others see of it, while it has not ended."""
        return RunRecord(
            id=self.id,
            function=self.function,
            status=RunStatus(self.stands()),
            gen=self.gen,
            created=self.created,
            due=self.due,
            started=self.started,
            ended=self.ended,
            attempt=self.attempt,
            parent=None if self.parent_run is None else Parent(self.parent_run, self.parent_ref or ""),
            reason=self.reason,
            holder=self.holder,
            origin=self.origin,
        )


_ALL = tuple(column.name for column in fields(Run) if column.init)
_CHANGING = _ALL[_ALL.index("status") :]

_COLUMNS = ", ".join(_ALL)
_CHANGES = ", ".join(f"{name} = ?" for name in _CHANGING)

LOAD_RUN = f"SELECT {_COLUMNS} FROM runs WHERE id = ?"  # noqa: S608  # the columns are constants
LOAD_RUNS = f"SELECT {_COLUMNS} FROM runs WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608
ADD_RUN = f"INSERT INTO runs ({_COLUMNS}) VALUES ({', '.join('?' * len(_ALL))})"  # noqa: S608
SAVE_RUN = f"UPDATE runs SET {_CHANGES} WHERE id = ?"  # noqa: S608
SAVE_END = (
    f"UPDATE runs SET {_CHANGES}, output = CAST(? AS TEXT), error = CAST(? AS TEXT), unmet = ? "  # noqa: S608
    "WHERE id = ?"
)

_all_of = attrgetter(*_ALL)
_changing_of = attrgetter(*_CHANGING)


def added(run: Run) -> tuple[Any, ...]:
    """The parameters of `ADD_RUN`."""
    run.status = run.stands()
    return _all_of(run)


def saved(run: Run) -> tuple[Any, ...]:
    """The parameters of `SAVE_RUN`."""
    run.status = run.stands()
    return (*_changing_of(run), run.id)


def ended(run: Run) -> tuple[Any, ...]:
    """The parameters of `SAVE_END`, for a run with a result."""
    run.status = run.stands()
    return (*_changing_of(run), *(run.result or ()), run.id)
