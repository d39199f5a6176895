"""What is special to the SQLite store: its file, its processes, its cost. The contract is the exam's."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from durable.errors import ConfigError, StoreError, UnstorableError
from durable.records import (
    Admission,
    Commit,
    CommitState,
    Cutoffs,
    End,
    EventQuery,
    Memo,
    MemoState,
    NewEvent,
    Park,
    Plan,
    Registration,
    Request,
    Rule,
    RunQuery,
    RunStatus,
    Slot,
    StepKind,
    Timer,
    Wait,
)
from durable_stores.sqlite import SQLiteStore, open_url

F = "app/f"
POOLS = frozenset({F})
DONE = End(RunStatus.COMPLETED, output=b'{"ok":true}')


@asynccontextmanager
async def opened(path, *engines, synchronous="normal"):
    """A store on `path`, whose engines host `F`."""
    store = SQLiteStore(path, synchronous)
    await store.open()
    try:
        for engine in engines:
            await store.join(1, engine)
            await store.register(1, engine, [Registration(F, "1", b"{}", (("own", Rule(1)),))])
        yield store
    finally:
        await store.close()


def admission(run, *, due=5, name="made", **plan):
    return Admission(
        event=NewEvent(f"e-{run}", name, 5, b'{"id":1}'), plans=(Plan(F, run, due, **plan),), registry=1
    )


def memo(position, value=b"1"):
    return Memo(position, "step", position, StepKind.RUN, 1, MemoState.VALUE, value)


async def started(store, engine, *runs, **plan):
    """Runs that `engine` executes."""
    many = [admission(run, **plan) for run in runs]
    return await store.admit(5, many, Request(engine, 0, POOLS, len(runs)))


# ---------------------------------------------------------------- what the constructor refuses


@pytest.mark.parametrize("path", ["", ":memory:", "file:x?mode=memory"])
def test_a_path_that_is_no_file_is_refused(path):
    with pytest.raises(ConfigError, match="write a file's name"):
        SQLiteStore(path)


def test_an_unknown_synchronous_is_refused():
    with pytest.raises(ConfigError, match="'full' or 'normal'"):
        SQLiteStore("x.db", synchronous="off")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:x.db",
        "sqlite://host/x.db",
        "mysql:///x.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x#y",
    ],
)
def test_a_url_that_names_no_file_is_refused(url):
    with pytest.raises(ConfigError, match="write"):
        open_url(url)


def test_a_url_with_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match="'synchronos' is unknown"):
        open_url("sqlite:///x.db?synchronos=full")


def test_urls_name_relative_and_absolute_files():
    assert open_url("sqlite:///data/x.db").path == "data/x.db"
    assert open_url("sqlite:////data/a%20b.db?synchronous=normal").path == "/data/a b.db"


# ---------------------------------------------------------------- the file


async def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path):
    path = tmp_path / "x.db"
    odd = b'{"\xc3\xa4":"\x00\xff"}'
    async with opened(path, "a") as store:
        await started(store, "a", "r")
        commit = Commit("r", 1, memos=(memo(0, odd),), timers=(Timer("t", 50, error=odd),), then=Park())
        await store.commit(6, "a", [commit])
        before = await store.history("r")
    async with opened(path) as store:
        assert await store.history("r") == before
        assert before.memos == (memo(0, odd),)
        assert before.timers == (Timer("t", 50, error=odd),)
        assert len(await store.events(EventQuery())) == 1


async def test_a_person_can_read_it_in_the_shell(tmp_path):
    path = tmp_path / "x.db"
    async with opened(path, "a") as store:
        await started(store, "a", "r")
        await store.commit(6, "a", [Commit("r", 1, memos=(memo(0),), then=DONE)])
    with sqlite3.connect(path) as shell:
        rows = shell.execute(
            "SELECT status, json_extract(output, '$.ok'), name, json_extract(data, '$.id'), kind, state, value "
            "FROM runs JOIN events ON events.seq = runs.event JOIN memos ON memos.run = runs.id"
        ).fetchall()
    shell.close()
    assert rows == [("completed", 1, "made", 1, "run", "value", "1")]


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_it_writes_ahead_with_the_durability_that_was_asked_for(tmp_path, synchronous, level):
    async with opened(tmp_path / "x.db", synchronous=synchronous) as store:
        pragmas = await store._database.read(
            lambda sql: [sql.execute(f"PRAGMA {p}").fetchone()[0] for p in ("journal_mode", "synchronous")]
        )
        assert pragmas == ["wal", level]
        log = (tmp_path / "x.db-wal").stat().st_size
        assert log > 4_000_000 if synchronous == "full" else log < 1_000_000, "grown once, where it pays"


async def test_opening_counts(tmp_path):
    store = SQLiteStore(tmp_path / "x.db", "normal")
    await store.open()
    await store.open()
    await store.close()
    assert await store.runs(RunQuery()) == ()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="is not open"):
        await store.runs(RunQuery())


async def test_it_is_opened_and_closed_by_several_at_once(tmp_path):
    store = SQLiteStore(tmp_path / "x.db", "normal")
    await asyncio.gather(*(store.open() for _ in range(3)))
    await asyncio.gather(store.close(), store.close())
    assert await store.runs(RunQuery()) == ()
    await asyncio.gather(store.close(), store.open())
    assert await store.runs(RunQuery()) == ()
    closing = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    await store.open()  # while its file is being let go of
    await closing
    await store.join(1, "a")
    await store.leave(2, "a")
    await store.close()
    with pytest.raises(StoreError, match="is not open"):
        await store.runs(RunQuery())


def test_it_is_used_in_one_event_loop_after_another(tmp_path):
    store = SQLiteStore(tmp_path / "x.db", "normal")

    async def life():
        await asyncio.gather(*(store.open() for _ in range(3)))
        await asyncio.gather(*(store.close() for _ in range(3)))

    for _ in range(2):
        asyncio.run(life())


async def test_no_file_is_left_beside_it(tmp_path):
    async with opened(tmp_path / "x.db", "a", "b/c") as store:
        assert len(list(tmp_path.glob("x.db-engine-*"))) == 2
        await store.leave(9, "a")
        store.sever("b/c")
        await store.bury(9, "b/c")
    assert [path.name for path in tmp_path.iterdir()] == ["x.db"]


async def test_an_event_that_a_run_still_needs_outlives_retention(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        await store.admit(5, [admission("gone"), admission("kept")])
        await store.cancel(6, ["gone"], "user")
        assert len((await store.claim(6, Request("a", 0, POOLS, 2))).deliveries) == 2
        await store.commit(6, "a", [Commit("gone", 1, then=End(RunStatus.CANCELLED))])
        assert not await store.sweep(100, Cutoffs(50, 50, 50))
        assert [run.run.id for run in await store.runs(RunQuery())] == ["kept"]
        assert [event.id for event in await store.events(EventQuery())] == ["e-kept"]
        (new,) = (await store.admit(101, [admission("next")])).answers
        assert new.seq == 3, "a sequence is never used twice, though the newest event may be gone"


# ---------------------------------------------------------------- transactions


async def test_a_cancelled_await_is_written_whole(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        await started(store, "a", "r")
        writing = asyncio.ensure_future(store.commit(6, "a", [Commit("r", 1, memos=(memo(0),), then=DONE)]))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert (await store.history("r")).run.status is RunStatus.COMPLETED


async def test_a_refused_commit_leaves_its_neighbours(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        await started(store, "a", "r", "s")
        commits = [Commit("r", 1, memos=(memo(0),)), Commit("s", 7, memos=(memo(0),)), Commit("t", 1)]
        answers = (await store.commit(6, "a", commits)).answers
        assert [a.state for a in answers] == [CommitState.OK, CommitState.STALE, CommitState.STALE]
        assert [len((await store.history(run)).memos) for run in ("r", "s")] == [1, 0]


async def test_memos_alone_are_fenced(tmp_path):
    async with opened(tmp_path / "x.db", "a", "b") as store:
        await started(store, "a", "r")

        async def state(engine, gen=1):
            (answer,) = (await store.commit(6, engine, [Commit("r", gen, memos=(memo(0),))])).answers
            return answer.state

        assert await state("a") is CommitState.OK
        assert await state("b") is CommitState.STALE
        assert await state("a", 2) is CommitState.STALE
        await store.cancel(6, ["r"], "user")
        assert await state("a") is CommitState.CANCELLED
        await store.bury(7, "a")
        assert await state("a") is CommitState.STALE


async def test_a_value_that_cannot_be_stored_stores_nothing(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        for bad in (admission("r", due=2**70), admission("\ud800")):
            with pytest.raises(UnstorableError, match="a value cannot be stored"):
                await store.admit(5, [admission("q"), bad])
        assert await store.runs(RunQuery()) == ()


async def test_check_tells_what_does_not_agree(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        await store.admit(5, [admission("r", slots=(Slot("g", "own"),)), admission("s")])
        await store.check()
        for harm, fault in (
            ("DELETE FROM jobs WHERE run = 's'", "has no turn"),
            ("UPDATE lanes SET gate = 'slot:g', rule = 'own' WHERE slots <> ''", "which is open"),
            ("DELETE FROM askers", "askers"),
            ("INSERT INTO slots VALUES ('slot:h', 3)", "places held"),
        ):
            await store._database.run(lambda harm=harm: store._database._sql.execute(harm))
            with pytest.raises(AssertionError, match=fault):
                await store.check()


# ---------------------------------------------------------------- cost


async def steps_of(store, call):
    """How many hundreds of instructions SQLite needs for a call: its cost, without a clock."""
    count = 0

    def tick():
        nonlocal count
        count += 1
        return 0

    await store._database.run(lambda: store._database._sql.set_progress_handler(tick, 100))
    try:
        await call
    finally:
        await store._database.run(lambda: store._database._sql.set_progress_handler(None, 0))
    return count


async def cost_of_everything(store, run):
    """The cost of the doors for one new run, among whatever there is."""
    now, request = 1_000_000, Request("a", 10**9, POOLS, 1)
    waits = Commit(run, 1, timers=(Timer("t", 2 * now),), waits=(Wait("w", event="paid", until=2 * now),))
    return [
        await steps_of(store, store.admit(now, [admission(run, due=now)], request)),
        await steps_of(store, store.commit(now, "a", [Commit(run, 1, (memo(1),))])),
        await steps_of(store, store.commit(now, "a", [waits])),
        await steps_of(store, store.claim(now, request)),
        await steps_of(store, store.admit(now, [Admission(event=NewEvent("", "paid", 5, b"1"), registry=1)])),
        await steps_of(store, store.commit(now, "a", [Commit(run, 1, then=DONE)])),
        await steps_of(store, store.waiting("paid", ["x=1"])),
    ]


async def crowd(store, name, n):
    """Runs that sleep, wait, execute, have ended, and queue behind a gate that is shut: `n` of each."""
    fates = (
        Commit("", 1, timers=(Timer("t", 10**7),), then=Park()),
        Commit(
            "", 1, waits=(Wait("w", event="other", index="x=1", condition=b"c", until=10**7),), then=Park()
        ),
        Commit("", 1, memos=(memo(0),)),
        Commit("", 1, memos=(memo(0),), then=DONE),
    )
    for start in range(0, n, 50):
        commits = [
            replace(fate, run=f"{name}-{number}-{start + i}")
            for i in range(50)
            for number, fate in enumerate(fates)
        ]
        await started(store, "a", *[commit.run for commit in commits])
        await store.commit(5, "a", commits)
        behind = [f"{name}-{start + i}" for i in range(50)]
        await store.admit(5, [admission(run, slots=(Slot("g", "own"),)) for run in behind])


async def test_cost_is_flat(tmp_path):
    async with opened(tmp_path / "x.db", "a") as store:
        await started(store, "a", "holder", slots=(Slot("g", "own"),))
        await crowd(store, "first", 100)
        few = await cost_of_everything(store, "one")
        await crowd(store, "more", 3_000)
        many = await cost_of_everything(store, "two")
    assert all(after <= 1.5 * before + 5 for before, after in zip(few, many, strict=True)), (few, many)
