"""The exam that every store sits: the contract of `durable.store` in executable form.

It has two parts. The **cases** are small examples, one promise each: `CASES` holds them by name, each an async
function that takes a `Harness`. The **histories** are random: `run_history` plays what a few engines might do
against a store and against the `Model`, a store of plain lists and dicts that scans everything, and compares
every answer, and then everything that can be read.

Example:
    >>> for case in CASES.values():
    ...     asyncio.run(case(MyHarness()))
    >>> for seed in range(1_000):
    ...     asyncio.run(run_history(MyHarness(), seed))

A `DifferenceError` holds the calls that led to it; `shrink` leaves out what is not needed. With hypothesis,
`durable.testing.exam.machine.history_test` does both.

This package may not know any store, nor a test runner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from durable.testing.exam import (
    cases_claims,
    cases_commits,
    cases_ends,
    cases_engines,
    cases_events,
    cases_gates,
    cases_reads,
    cases_waits,
)
from durable.testing.exam.examiner import Call, DifferenceError
from durable.testing.exam.harness import Checked, Harness
from durable.testing.exam.model import Model
from durable.testing.exam.playing import play, run_history, shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

__all__ = [
    "CASES",
    "Call",
    "Case",
    "Checked",
    "DifferenceError",
    "Harness",
    "Model",
    "play",
    "run_history",
    "shrink",
]

Case: TypeAlias = "Callable[[Harness], Coroutine[object, object, None]]"

CASES: Mapping[str, Case] = {
    case.__name__: case
    for cases in (
        cases_events.CASES,
        cases_claims.CASES,
        cases_commits.CASES,
        cases_ends.CASES,
        cases_waits.CASES,
        cases_gates.CASES,
        cases_engines.CASES,
        cases_reads.CASES,
    )
    for case in cases
}
"""Every case by its name."""
