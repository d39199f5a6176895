"""Every handler of the corpus dies at each of its writes, on each store, and goes on.

The default run kills each handler once: before each write, after it, and before it with the write arriving
late; and a few times twice, at writes that a seed draws (it is printed). `pytest -m campaign tests/crash`
draws many more.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from durable.testing.faults import Death, Moment, live_on
from durable_stores.memory import MemoryStore
from durable_stores.sqlite import SQLiteStore
from tests.crash import corpus  # noqa: F401 - fills CASES
from tests.crash.sweeping import CASES, Report, World, sweep_case

SEED = int(os.environ.get("DURABLE_CRASH_SEED", "20300101"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder for databases, in memory where the system has one there; and an empty database to copy."""
    memory = Path("/dev/shm")
    folder = (
        Path(tempfile.mkdtemp(dir=memory)) if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("sweep")
    )

    async def make():
        store = SQLiteStore(folder / "empty.db", synchronous="normal")
        await store.open()
        await store.close()

    asyncio.run(make())
    yield folder / "empty.db"
    shutil.rmtree(folder)


NUMBERS = itertools.count()


@pytest.fixture(params=["memory", "sqlite"])
def stores(request, empty):
    """What makes an empty store for each try: one that outlives the deaths, or one that each life opens anew."""
    if request.param == "memory":
        return MemoryStore

    def make():
        path = empty.with_name(f"{next(NUMBERS)}.db")
        shutil.copy(empty, path)
        return lambda: SQLiteStore(path, synchronous="normal")

    return make


@pytest.fixture(scope="module")
def totals(request):
    """What has been found so far, by store; printed in the end."""
    found = {}
    yield found
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\ncrash sweep, seed {SEED}")
        for name, report in sorted(found.items()):
            sys.stdout.write(f"\ncrash sweep, {name}: {report}")


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_a_handler_survives_a_crash_at_every_write(one, stores, totals):
    report = await sweep_case(one, stores)
    totals.setdefault("memory" if stores is MemoryStore else "sqlite", Report()).add(report)
    assert not report.violations, "\n".join(report.violations)
    assert report.points > 15


def pairs(one, times, seed):
    """Deaths at two writes, drawn by a seed."""
    draw = random.Random(f"{seed} {one.name}")
    return [
        (
            Death(draw.randint(1, 12), draw.choice(one.moments)),
            Death(draw.randint(1, 8), draw.choice(one.moments)),
        )
        for _ in range(times)
    ]


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_a_handler_survives_two_crashes(one, stores, totals):
    report = await sweep_case(one, stores, deaths=pairs(one, 2, SEED))
    totals.setdefault("memory, twice" if stores is MemoryStore else "sqlite, twice", Report()).add(report)
    assert not report.violations, f"seed {SEED}\n" + "\n".join(report.violations)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_a_handler_survives_many_crashes(one, stores, totals):
    report = await sweep_case(one, stores, deaths=pairs(one, 300, SEED))
    totals.setdefault("campaign", Report()).add(report)
    assert not report.violations, f"seed {SEED}\n" + "\n".join(report.violations)


# ---------------------------------------------------------------- the kit that the sweep stands on


async def test_every_death_of_a_life_is_where_it_was_asked_for():
    one = next(one for one in CASES if one.name == "sequence")
    for at, moment in itertools.product(range(1, 6), Moment):
        world = World()
        scenario = one.build(world)
        died = await live_on(
            scenario, functions=world.functions, store=MemoryStore(), deaths=[Death(at, moment)]
        )
        assert len(died) == 1
