"""The memory store and the SQLite store sit the exam.

`pytest -m campaign tests/stores/test_exam.py` searches long; EXAM_SEEDS=5000:9000 says where.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("durable.testing.exam")

from durable.testing.exam import CASES, DifferenceError, Harness, run_history, shrink  # noqa: E402
from durable.testing.exam.machine import history_test  # noqa: E402
from durable_stores.memory import MemoryStore  # noqa: E402
from durable_stores.sqlite import SQLiteStore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.store import Store


class MemoryHarness:
    """A store that lives as long as its object: a process that dies is all that can be played."""

    async def open(self) -> Store:
        store = MemoryStore()
        await store.open()
        return store

    async def close(self, store: Store) -> None:
        await store.close()

    async def kill(self, store: Store, engine: str) -> None:
        assert isinstance(store, MemoryStore)
        store.sever(engine)

    async def restart(self, store: Store, engines: Sequence[str]) -> Store:
        for engine in engines:
            await self.kill(store, engine)
        return store


class SQLiteHarness:
    """A file in `directory`, a new one for each store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made = 0

    async def open(self) -> Store:
        self.made += 1
        return await self._open()

    async def _open(self) -> Store:
        store = SQLiteStore(self.directory / f"{self.made}.db", synchronous="normal")
        await store.open()
        return store

    async def close(self, store: Store) -> None:
        await store.close()
        for path in self.directory.glob(f"{self.made}.db*"):
            path.unlink(missing_ok=True)

    async def kill(self, store: Store, engine: str) -> None:
        assert isinstance(store, SQLiteStore)
        store.sever(engine)

    async def restart(self, store: Store, engines: Sequence[str]) -> Store:
        await store.close()
        return await self._open()


@pytest.fixture(params=["memory", "sqlite"])
def harness(request, tmp_path) -> Harness:
    return MemoryHarness() if request.param == "memory" else SQLiteHarness(tmp_path)


@pytest.mark.parametrize("name", CASES)
async def test_case(harness, name):
    await CASES[name](harness)


async def search(harness: Harness, seeds: range, length: int, every: int) -> None:
    """Play histories; of the first that shows a difference, tell a short form."""
    for seed in seeds:
        try:
            await run_history(harness, seed, length, every=every)
        except DifferenceError as failure:
            pytest.fail(f"seed {seed}, length {length}: {await shrink(harness, failure)}")


@pytest.mark.parametrize("start", range(0, 200, 50))
async def test_histories_in_memory(start):
    await search(MemoryHarness(), range(start, start + 50), length=50, every=1)


@pytest.mark.parametrize("start", range(1000, 1050, 25))
async def test_histories_on_sqlite(start, tmp_path):
    await search(SQLiteHarness(tmp_path), range(start, start + 25), length=50, every=5)


test_hypothesis_in_memory = settings(
    max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)(history_test(MemoryHarness))


@pytest.mark.campaign
@pytest.mark.timeout(0)
async def test_campaign(harness):
    first, last = os.environ.get("EXAM_SEEDS", "10000:14000").split(":")
    seeds = range(int(first), int(last))
    await search(harness, seeds, length=int(os.environ.get("EXAM_LENGTH", "120")), every=1)
