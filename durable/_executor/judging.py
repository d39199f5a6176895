"""Evaluates the conditions of waits on the events that the store's index has found for them."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from durable._core.admission import condition_holds
from durable._core.settling import document_of
from durable.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import Candidate

__all__ = ["judge"]

_SECONDS_PER_TURN = 0.002


async def judge(candidates: Iterable[Candidate]) -> list[Verdict]:
    """Whether each event resolves its wait; yields to the loop every 2 ms."""
    verdicts: list[Verdict] = []
    began = perf_counter()
    for one in candidates:
        matches = condition_holds(one.condition, document_of(one.event))
        verdicts.append(Verdict(one.run, one.ref, one.event.seq, matches))
        if perf_counter() - began > _SECONDS_PER_TURN:
            await asyncio.sleep(0)
            began = perf_counter()
    return verdicts
