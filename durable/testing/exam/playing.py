"""Play a random history against a store and the model; find a short one that fails, when one does.

The same seed gives the same history, as long as the drawing is not changed. This module may not know any
store.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from attrs import evolve
from msgspec import Struct
from msgspec.structs import fields, replace

from durable.testing.exam.draws import Draws
from durable.testing.exam.examiner import Call, DifferenceError, Examiner, is_tuple
from durable.testing.exam.histories import Author

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable.testing.exam.harness import Harness

__all__ = ["play", "run_history", "shrink"]

_JOBS_MAX = 1000  # from 1024 on the ties of ranks may fall otherwise


async def run_history(harness: Harness, seed: int | Random, length: int = 60, *, every: int = 1) -> int:
    """Play a random history against a new store; how many calls there were.

    Args:
        harness: How the store is made.
        seed: The same number gives the same history.
        length: How many calls are drawn, at most.
        every: After how many calls all contents are compared; answers are compared always.

    Raises:
        DifferenceError: The store did something else than the model.
    """
    rng = seed if isinstance(seed, Random) else Random(seed)  # noqa: S311 - no secrets are drawn
    examiner = Examiner(harness, await harness.open(), every=every)
    try:
        author = Author(Draws(rng), examiner.model)
        for call in author.beginning():
            await examiner.play(call)
        for _ in range(length):
            if examiner.model.world.jobs > _JOBS_MAX:
                break
            call = author.next()
            author.heard(call, await examiner.play(call))
        await examiner.finish()
    finally:
        await harness.close(examiner.store)
    return len(examiner.calls)


async def play(harness: Harness, calls: Sequence[Call]) -> None:
    """Play these calls against a new store.

    Raises:
        DifferenceError: The store did something else than the model.
    """
    examiner = Examiner(harness, await harness.open())
    try:
        for call in calls:
            await examiner.play(call)
        await examiner.finish()
    finally:
        await harness.close(examiner.store)


async def shrink(harness: Harness, failure: DifferenceError) -> DifferenceError:
    """Leave out calls, then parts of them, as long as there is a difference of the same kind."""
    size = len(failure.calls) // 2
    while size:
        start, found = 0, False
        while start < len(failure.calls):
            shorter = (*failure.calls[:start], *failure.calls[start + size :])
            smaller = await _fails(harness, shorter, failure)
            if smaller is None:
                start += size
            else:
                failure, found = smaller, True
        size = size if found and size == 1 else size // 2
    for number in range(len(failure.calls)):
        failure = await _simplify(harness, failure, number)
    return failure


async def _simplify(harness: Harness, failure: DifferenceError, number: int) -> DifferenceError:
    """Take parts out of one call, one after the other."""
    tried = 0
    while True:
        args = failure.calls[number].args
        parts = [(n, part) for n, arg in enumerate(args) for part in _variants(arg)]
        if tried >= len(parts):
            return failure
        position, part = parts[tried]
        call = evolve(failure.calls[number], args=(*args[:position], part, *args[position + 1 :]))
        calls = (*failure.calls[:number], call, *failure.calls[number + 1 :])
        smaller = await _fails(harness, calls, failure)
        if smaller is None or len(smaller.calls) <= number:
            tried += 1
        else:
            failure = smaller


def _variants(value: Any) -> Iterator[Any]:
    """The same value with an item less, or with a default in place of something, at any depth."""
    if is_tuple(value):
        for number, item in enumerate(value):
            before, after = value[:number], value[number + 1 :]
            yield before + after
            yield from ((*before, part, *after) for part in _variants(item))
    elif isinstance(value, Struct):
        for field in fields(value):
            held = getattr(value, field.name)
            if held == field.default:
                continue
            if any(field.default == kind for kind in (None, (), 0)):
                yield replace(value, **{field.name: field.default})
            yield from (replace(value, **{field.name: part}) for part in _variants(held))


async def _fails(harness: Harness, calls: Sequence[Call], like: DifferenceError) -> DifferenceError | None:
    """The difference that these calls lead to, if it is of the same kind."""
    try:
        await play(harness, calls)
    except DifferenceError as failure:
        return failure if failure.message.partition(":")[0] == like.message.partition(":")[0] else None
    return None
