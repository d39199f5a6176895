"""The same histories, drawn and shrunk by hypothesis (which is not needed by the rest of the exam).

This module may not know any store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from durable.testing.exam.playing import run_history

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from durable.testing.exam.harness import Harness

__all__ = ["history_test"]


def history_test(make: Callable[[], Harness], length: int = 40) -> Callable[[], None]:
    """A hypothesis test of the stores that `make` makes; decorate it with `settings` as you like.

    Example:
        >>> test_memory = settings(max_examples=500)(history_test(MemoryHarness))
    """

    @given(rng=st.randoms(use_true_random=False))
    def check(rng: Random) -> None:
        asyncio.run(run_history(make(), rng, length))

    return check
