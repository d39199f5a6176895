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
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import durable
from durable._core.journal import Journal
from durable.records import StepKind
from durable.testing.faults import Death, Moment, crash_points, live_on
from durable_stores.memory import MemoryStore
from durable_stores.sqlite import SQLiteStore
from tests.crash import corpus, corpus_waiting  # noqa: F401 - they fill CASES
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


async def test_the_corpus_has_steps_of_every_kind(monkeypatch):
    kinds = set()
    record = Journal.record

    def recorded(self, key, kind, state, **about):
        kinds.add(kind)
        return record(self, key, kind, state, **about)

    monkeypatch.setattr(Journal, "record", recorded)
    for one in CASES:
        await sweep_case(one, MemoryStore, deaths=[])
    assert kinds == set(StepKind) - {StepKind.AI}


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


def paying(*, in_a_step, urls=itertools.repeat("memory://")):  # noqa: B008 - it never ends
    """A function that pays, its scenario, and a store for each try that begins a new ledger."""
    paid = []

    async def pay():
        paid.append(1)

    @durable.function("pay")
    async def function(ctx):
        await (ctx.step.run("pay", pay) if in_a_step else pay())
        await ctx.step.sleep("rest", "1h")
        await ctx.step.run("thank", asyncio.sleep, 0)

    async def scenario(engine):
        run = await engine.start(function, id="p-1")
        await run.result()
        assert len(paid) <= 2, "it was paid too often"

    def store():
        paid.clear()
        return next(urls)

    return [function], scenario, store


async def test_crash_points_prove_that_a_function_survives_crashes():
    functions, scenario, store = paying(in_a_step=True)
    assert await crash_points(scenario, functions=functions, store=store, max_warm=0) > 15


async def test_crash_points_find_a_function_that_does_not_and_say_when_the_process_had_died():
    functions, scenario, store = paying(in_a_step=False)
    with pytest.raises(AssertionError, match="paid too often") as caught:
        await crash_points(scenario, functions=functions, store=store, max_warm=0)
    assert re.search(r"died (before|after) write \d+ \(\w+\)", " ".join(caught.value.__notes__))


async def test_crash_points_take_a_new_url_for_each_crash(empty):
    urls = (f"sqlite:///{empty.with_name(f'points{n}.db')}?synchronous=normal" for n in itertools.count())
    functions, scenario, store = paying(in_a_step=True, urls=urls)
    assert await crash_points(scenario, functions=functions, store=store) > 15


async def test_crash_points_refuse_a_store_that_keeps_the_data_of_the_try_before(tmp_path):
    functions, scenario, _ = paying(in_a_step=True)
    with pytest.raises(durable.ConfigError, match="a function that returns a new URL"):
        await crash_points(scenario, functions=functions, store=f"sqlite:///{tmp_path / 'x.db'}")


@pytest.mark.parametrize("group", [False, True])
async def test_what_an_attempt_withdraws_while_it_fails_goes_with_it(group):
    failures = []

    async def work():
        return 1

    @durable.function("f")
    async def f(ctx):
        async def branch():
            await ctx.step.run("work", work)
            if not failures:
                failures.append(1)
                raise OSError("refused once, outside of a step")

        if group:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(branch())
                tasks.create_task(ctx.step.sleep("nap", "30m"))
        else:
            await asyncio.gather(branch(), ctx.step.sleep("nap", "30m"))
        return "done"

    def store():
        failures.clear()
        return MemoryStore()

    async def scenario(engine):
        run = await engine.start(f, id="k")
        assert await asyncio.wait_for(run.result(), 5) == "done"

    await crash_points(scenario, functions=[f], store=store)
