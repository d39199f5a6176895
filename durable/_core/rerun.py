"""Which memos a rerun from a step keeps. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from durable.records import History, Memo

__all__ = ["kept_memos"]


def kept_memos(history: History, from_step: str | tuple[str, int]) -> tuple[Memo, ...]:
    """The memos of the steps that started before `from_step`, in the order of the journal.

    Raises:
        LookupError: The run has no such step.
    """
    step, index = (from_step, 0) if isinstance(from_step, str) else from_step
    chosen = next((one for one in history.memos if (one.step, one.index) == (step, index)), None)
    if chosen is None:
        known = ", ".join(sorted({one.step for one in history.memos})) or "none"
        raise LookupError(f"run {history.run.id} has no step {step!r} (repetition {index}); it has: {known}")
    kept = [
        one
        for one in history.memos
        if (one.started, one.position) < (chosen.started, chosen.position)
        and (one.step, one.index) != (step, index)
    ]
    return tuple(replace(one, position=number) for number, one in enumerate(kept))
