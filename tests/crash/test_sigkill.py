"""Processes that are killed, stopped, and asked to leave: real ones, on an SQLite file, with a ledger outside."""

import asyncio
import collections
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import durable
from durable.demo.ledger import BEGIN, EFFECT, READY, read
from durable_stores.sqlite import SQLiteStore
from tests.crash.child import CHAIN, LEAF

CHILD = Path(__file__).with_name("child.py")
PATIENCE = 10.0


def tell(text):
    """Figures, for those who run `pytest -s`."""
    sys.stdout.write(f"\n{text}\n")


class Nursery:
    """Starts children, and waits for them; they share a store, a ledger and a log in `place`."""

    def __init__(self, midwife, place):
        self.midwife = midwife
        self.place = place
        self.alive = set()

    def ask(self, line):
        self.midwife.stdin.write(line + "\n")
        self.midwife.stdin.flush()
        return int(self.midwife.stdout.readline())

    def start(self, what, **order):
        order |= {"what": what, "db": str(self.place / "durable.db"), "ledger": str(self.place / "ledger")}
        pid = self.ask("start " + json.dumps({**order, "log": str(self.place / "log")}))
        self.alive.add(pid)
        return pid

    def wait(self, pid):
        """How it ended: its exit code, or the negative number of a signal."""
        code = self.ask(f"wait {pid}")
        self.alive.discard(pid)
        return code

    def kill(self, pid, number=signal.SIGKILL):
        os.kill(pid, number)
        return self.wait(pid)

    def ledger(self):
        return read(self.place / "ledger")[0]

    def log(self):
        return (self.place / "log").read_text()

    def until(self, condition):
        """Look at the ledger until `condition(entries)` holds; the entries."""
        give_up = time.monotonic() + PATIENCE
        while not condition(entries := self.ledger()):
            assert time.monotonic() < give_up, [entries[-5:], self.log()]
            time.sleep(0.002)
        return entries


@pytest.fixture(scope="module")
def midwife():
    """The process from which all children are forked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with subprocess.Popen(
        [sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=kept
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def nursery(midwife, tmp_path):
    made = Nursery(midwife, tmp_path)
    yield made
    for pid in list(made.alive):
        made.kill(pid)


# ---------------------------------------------------------------- the law


def violations(entries, stages=(*CHAIN, *LEAF)):
    """What must not be in a ledger.

    A step begins when the ones before it are committed: so when a step has begun, none of an earlier stage
    may begin any more, whichever processes died in between. That needs no look into the store.
    """
    stage = {step: number for number, steps in enumerate(stages) for step in steps}
    reached = collections.defaultdict(int)
    attempts = collections.defaultdict(int)
    effects = collections.Counter()
    for one in entries:
        if one.what == BEGIN:
            if stage[one.step] < reached[one.run]:
                yield f"{one.step} begins again after stage {reached[one.run]}: {one}"
            if one.attempt < attempts[one.run, one.step]:
                yield f"an attempt that was committed as failed runs again: {one}"
            reached[one.run] = max(reached[one.run], stage[one.step])
            attempts[one.run, one.step] = one.attempt
        elif one.what == EFFECT:
            effects[one.run, one.step, one.pid] += 1
            if effects[one.run, one.step, one.pid] > 1:
                yield f"one process has done a step twice: {one}"


def results(entries):
    return next((json.loads(one.step) for one in entries if one.what == "results"), None)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_nothing_is_lost_and_nothing_repeated(nursery, seed):
    draw = random.Random(seed)
    runs, kills, began = 40, 0, time.monotonic()
    while kills < 10:
        pid = nursery.start("chains", runs=runs)
        if draw.random() < 0.25:
            time.sleep(draw.uniform(0.0, 0.1))  # while it opens, recovers and registers
        else:
            ready = len([one for one in nursery.ledger() if one.what == READY])
            nursery.until(lambda entries, ready=ready: sum(one.what == READY for one in entries) > ready)
            time.sleep(draw.uniform(0.0, 0.08))
        if nursery.kill(pid) == 0:
            break  # it had ended by itself
        kills += 1
    else:
        assert nursery.wait(nursery.start("chains", runs=runs)) == 0, nursery.log()
    entries = nursery.ledger()
    assert not list(violations(entries))
    assert results(entries) == [
        [n, "b", None, "p", "q", "r", "flaky", "d", n * 10, "e", "x", "y", "end"] for n in range(runs)
    ]
    done = collections.Counter((one.run, one.step) for one in entries if one.what == EFFECT)
    assert len(done) == runs * sum(map(len, (*CHAIN, *LEAF))), "every step of every run, and no more"
    again = sum(done.values()) - len(done)
    tell(
        f"seed {seed}: {kills} kills, {runs} runs, {len(done)} steps, 0 lost, 0 committed ones repeated, "
        f"{again} in flight ran again, {time.monotonic() - began:.1f} s"
    )
    assert kills > 3, "it was too quick to be killed often"


def test_the_law_can_be_broken():
    from durable.demo.ledger import Entry

    def told(*steps, what=BEGIN):
        return [Entry(what, pid, 0.0, "r", "f", step, attempt) for pid, step, attempt in steps]

    assert not list(violations(told((1, "a", 0), (2, "a", 0), (2, "b", 0), (2, "p", 0), (3, "q", 0))))
    assert list(violations(told((1, "a", 0), (1, "b", 0), (2, "a", 0))))
    assert list(violations(told((1, "flaky", 0), (1, "flaky", 1), (2, "flaky", 0))))
    assert list(violations(told((1, "a", 0), (1, "a", 0), what=EFFECT)))


# ---------------------------------------------------------------- recovery


def begun(step, times=1):
    return lambda entries: sum(one.what == BEGIN and one.step == step for one in entries) >= times


def has_results(entries):
    return results(entries) is not None


def test_what_a_dead_engine_left_is_recovered_at_once_and_not_after_its_lease(nursery):
    first = nursery.start("serve", seconds=[0, 30, 0], lease="1h")
    nursery.until(begun("b"))
    assert nursery.kill(first) == -signal.SIGKILL
    restarted = time.monotonic()
    second = nursery.start("serve", seconds=[0, 0, 0], lease="1h")
    entries = nursery.until(has_results)
    took = time.monotonic() - restarted
    assert results(entries) == ["a", "b", "c"]
    assert not list(violations(entries, "abc"))
    assert took < 5, "the lease is an hour: the lock that is free proves the death"
    assert nursery.kill(second, signal.SIGTERM) == 0
    tell(f"from the restart to the end of the run: {took:.2f} s")


def test_a_stopped_owner_is_taken_over_after_its_lease_and_writes_nothing_more(nursery):
    first = nursery.start("serve", seconds=[0, 0.05, 0], lease="600ms")
    nursery.until(begun("b"))
    os.kill(first, signal.SIGSTOP)
    stopped = time.monotonic()
    second = nursery.start("serve", seconds=[0, 0, 0.2], lease="600ms")
    entries = nursery.until(begun("c"))
    took = time.monotonic() - stopped
    assert took > 0.5, "its lock is held: only the lease tells"
    os.kill(first, signal.SIGCONT)  # in the middle of the other one's step c
    entries = nursery.until(has_results)
    time.sleep(
        0.5
    )  # whatever it would do wrongly now: its step b may end or be cancelled, and no other begin
    entries = nursery.ledger()
    assert {one.pid for one in entries if one.step == "c"} == {second}
    assert not list(violations(entries, "abc"))
    assert nursery.kill(first, signal.SIGTERM) == 0
    assert nursery.kill(second, signal.SIGTERM) == 0
    steps = asyncio.run(steps_of_the_run(nursery))
    assert [(one.id, one.status, one.output) for one in steps] == [(s, "completed", s) for s in "abc"]
    tell(f"taken over after {took:.2f} s; lease 0.6 s")


def test_a_living_engine_takes_over_from_one_that_dies(nursery):
    first = nursery.start("serve", seconds=[0, 30, 0], lease="900ms")
    nursery.until(begun("b"))
    second = nursery.start("serve", seconds=[0, 0, 0], lease="900ms")
    nursery.until(lambda entries: sum(one.what == READY for one in entries) == 2)
    assert nursery.kill(first) == -signal.SIGKILL
    killed = time.monotonic()
    entries = nursery.until(has_results)
    assert {one.pid for one in entries if one.step == "c"} == {second}
    assert not list(violations(entries, "abc"))
    assert nursery.kill(second, signal.SIGTERM) == 0
    tell(f"taken over after {time.monotonic() - killed:.2f} s; lease 0.9 s")


def test_an_engine_that_lives_is_not_taken_for_dead(nursery):
    first = nursery.start("serve", seconds=[0, 2, 0], lease="400ms")
    nursery.until(begun("b"))
    second = nursery.start("serve", seconds=[0, 0, 0], lease="400ms", others=True)
    nursery.until(lambda entries: sum(one.what == READY for one in entries) == 2)
    asyncio.run(want_other(nursery))  # the second one hears that it is not alone, and looks for the dead
    entries = nursery.until(has_results)
    assert {one.pid for one in entries if one.what in (BEGIN, EFFECT)} == {first}
    assert nursery.kill(first, signal.SIGTERM) == 0
    assert nursery.kill(second, signal.SIGTERM) == 0


async def want_other(nursery):
    async with durable.Engine(SQLiteStore(str(nursery.place / "durable.db"))) as engine:
        await engine.send(durable.Event("other/wanted"))


async def steps_of_the_run(nursery):
    async with durable.Engine(SQLiteStore(str(nursery.place / "durable.db"))) as engine:
        (run,) = (await engine.runs()).items
        return await run.steps()


# ---------------------------------------------------------------- asked to leave


def test_on_sigterm_a_step_in_flight_may_finish(nursery):
    first = nursery.start("serve", seconds=[0, 0.3, 0])
    nursery.until(begun("b"))
    assert nursery.kill(first, signal.SIGTERM) == 0
    told = [(one.what, one.step) for one in nursery.ledger() if one.step in ("a", "b", "c")]
    assert told == [(BEGIN, "a"), (EFFECT, "a"), (BEGIN, "b"), (EFFECT, "b")], "b ends, and c does not begin"
    second = nursery.start("serve", seconds=[0, 0, 0])
    entries = nursery.until(has_results)
    assert collections.Counter(one.step for one in entries if one.what == EFFECT) == {"a": 1, "b": 1, "c": 1}
    assert nursery.kill(second, signal.SIGTERM) == 0


def test_on_sigterm_a_step_that_takes_too_long_is_handed_back(nursery):
    first = nursery.start("serve", seconds=[0, 60, 0], shutdown="100ms")
    nursery.until(begun("b"))
    asked = time.monotonic()
    assert nursery.kill(first, signal.SIGTERM) == 0
    assert time.monotonic() - asked < 3
    assert "is interrupted in a step: its attempt runs again later" in nursery.log()
    second = nursery.start("serve", seconds=[0, 0, 0])
    entries = nursery.until(has_results)
    again = [(one.pid, one.attempt) for one in entries if (one.what, one.step) == (BEGIN, "b")]
    assert again == [(first, 0), (second, 0)], "the attempt is given back, and counts for nothing"
    assert not list(violations(entries, "abc"))
    assert nursery.kill(second, signal.SIGTERM) == 0


def test_a_second_sigterm_waits_for_nothing(nursery):
    first = nursery.start("serve", seconds=[0, 60, 0], shutdown="1h")
    nursery.until(begun("b"))
    os.kill(first, signal.SIGTERM)
    time.sleep(0.1)
    asked = time.monotonic()
    assert nursery.kill(first, signal.SIGTERM) == 0
    assert time.monotonic() - asked < 3


# ---------------------------------------------------------------- what the disk is told

TWENTY = """
import asyncio, sys, durable
from durable_stores.sqlite import SQLiteStore

@durable.function("twenty")
async def twenty(ctx):
    for number in range(20):
        await ctx.step.run(f"step-{number}", int)

async def main():
    async with durable.Engine(SQLiteStore(sys.argv[1]), functions=[twenty]) as engine:
        print(flush=True)
        await engine.invoke(twenty)
        print(flush=True)

asyncio.run(main())
"""


def flushes(trace):
    """Calls of fsync and fdatasync between the two lines that the program prints."""
    lines = trace.read_text().splitlines()
    marks = [number for number, line in enumerate(lines) if re.search(r'write\(1, "\\n", 1\)', line)]
    return sum(bool(re.search(r"\b(fsync|fdatasync)\(", line)) for line in lines[marks[0] : marks[1]])


def test_each_sequential_step_is_flushed_to_the_disk(tmp_path):
    """Counted by strace; where there is none, what SQLite was told is all that can be seen from here."""
    strace = shutil.which("strace")
    if strace is None:
        with sqlite3.connect(tmp_path / "x.db") as sql:
            sql.execute("PRAGMA synchronous = full")
            assert sql.execute("PRAGMA synchronous").fetchone() == (2,)
        pytest.skip("strace is not installed: the flushes of a run were not counted")
    trace = tmp_path / "trace"
    program = [sys.executable, "-c", TWENTY, tmp_path / "durable.db"]
    subprocess.run(
        [strace, "-f", "-e", "trace=fsync,fdatasync,write", "-o", trace, *program],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    counted = flushes(trace)
    tell(f"{counted} flushes for 20 sequential steps")
    assert counted >= 20
