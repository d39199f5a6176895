"""Which memos a rerun from a step keeps. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from durable.durations import shown
from durable.errors import ConfigError

if TYPE_CHECKING:
    from durable.records import History, Memo

__all__ = ["kept_memos"]

_UNKNOWN = 1 << 62
"""The position of a step that has no memo yet: in the moment in which it started, behind all that have one."""


def kept_memos(history: History, from_step: str | tuple[str, int]) -> tuple[Memo, ...]:
    """The memos of the steps that started before `from_step`, in the order of the journal.

    Raises:
        ConfigError: `from_step` is no step's name.
        LookupError: The run has no such step.
    """
    step, index = key = _key(from_step)
    chosen = _starts(history).get(key)
    if chosen is None:
        known = ", ".join(sorted({known for known, _ in _starts(history)})) or "none"
        raise LookupError(f"run {history.run.id} has no step {step!r} (repetition {index}); it has: {known}")
    kept = [
        one for one in history.memos if (one.started, one.position) < chosen and (one.step, one.index) != key
    ]
    return tuple(replace(one, position=number) for number, one in enumerate(kept))


def _key(from_step: object) -> tuple[str, int]:
    match from_step:
        case str():
            return from_step, 0
        case (str() as step, int() as index) if isinstance(from_step, tuple):
            return step, index
        case _:
            pass
    raise ConfigError(f"rerun(from_step): a step's id, or (id, index), got {shown(from_step)}")


def _starts(history: History) -> dict[tuple[str, int], tuple[int, int]]:
    """When each step started, and its place in the journal; with those that wait, or try again later."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    waiting = [(one.ref, one.started) for one in history.timers if one.kind is not None]
    waiting += [(one.ref, one.started) for one in history.waits if one.kind is not None]
    waiting += [(one.ref, one.started) for one in history.fired if one.started]
    for ref, started in waiting:
        step, _, index = ref.rpartition("#")
        found[step, int(index)] = started, _UNKNOWN
    for one in reversed(history.memos):  # of several entries of one step the first counts
        found[one.step, one.index] = one.started, one.position
    return found
