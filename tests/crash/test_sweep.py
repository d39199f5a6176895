"""Every handler of the corpus dies before and after each of its writes, on each store."""

from __future__ import annotations

import itertools

import pytest
from durable_stores.memory import MemoryStore
from durable_stores.sqlite import SQLiteStore

from tests.crash import corpus  # noqa: F401 - fills CASES
from tests.crash.sweeping import CASES, sweep


@pytest.fixture(params=["memory", "sqlite"])
def stores(request, tmp_path):
    """What makes an empty store for each try: kept through the deaths, or opened anew by each life."""
    if request.param == "memory":
        return MemoryStore
    numbers = itertools.count()

    def make():
        path = tmp_path / f"{next(numbers)}.db"
        return lambda: SQLiteStore(path, synchronous="normal")

    return make


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_a_handler_survives_a_crash_at_every_write(one, stores):
    report = await sweep([one], stores)
    print(report)
    assert not report.violations, "\n".join(report.violations)
