"""An engine's life: entering, leaving, what it refuses meanwhile, and serving as a process of its own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings

import pytest

import durable
from durable._executor import service
from durable.testing import TestEngine


async def echo(value=None):
    return value


@durable.function("quick", trigger="e")
async def quick(ctx):
    return await ctx.step.run("one", echo, ctx.event.data.get("n"))


@durable.function("sleeping")
async def sleeping(ctx):
    await ctx.step.sleep("nap", "1h")
    return "awake"


async def is_waiting(run):
    return (await run.refresh()).status == "waiting"


class Callback:
    """A callback that hangs until it is let go, and notes its attempts and how they ended."""

    def __init__(self):
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.log = []

    async def __call__(self):
        attempt = durable.current().attempt
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.log.append((attempt, "cancelled"))
            raise
        self.log.append((attempt, "finished"))
        return "result"


def two_steps(first, later):
    """A function whose first step calls `first`; `later` notes that its second one was called."""

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("first", first)
        return await ctx.step.run("second", remember, later)

    async def remember(log):
        log.append(1)
        return "done"

    return f


# ---------------------------------------------------------------- entering and leaving


async def test_entering_twice_is_an_error(store):
    engine = durable.Engine(store, functions=[quick])
    async with engine:
        with pytest.raises(durable.DurableError, match="entered"):
            await engine.__aenter__()
        assert await engine.invoke(quick, {"n": 1}, timeout="10s") == 1


async def test_entering_again_after_leaving_is_fine(store):
    engine = durable.Engine(store, functions=[quick])
    for n in range(3):
        async with engine:
            assert await engine.invoke(quick, {"n": n}, timeout="10s") == n


async def test_an_engine_that_could_not_be_entered_can_be_entered_later(tmp_path):
    folder = tmp_path / "later"
    engine = durable.Engine(f"sqlite:///{folder / 'd.db'}", functions=[quick])
    with pytest.raises(durable.DurableError):
        async with engine:
            pass
    folder.mkdir()
    async with engine:
        assert await engine.invoke(quick, {"n": 1}, timeout="10s") == 1


async def test_an_error_inside_of_the_block_goes_on_and_the_engine_is_left(store):
    engine = durable.Engine(store, functions=[quick])
    with pytest.raises(ZeroDivisionError):
        async with engine:
            raise ZeroDivisionError
    with pytest.raises(durable.DurableError, match="not open"):
        await engine.send(durable.Event("e"))


async def test_a_handle_whose_engine_was_left_speaks_of_the_engine_not_of_its_store(tmp_path):
    engine = durable.Engine(f"sqlite:///{tmp_path}/left.db", functions=[quick])
    async with engine:
        run = await engine.start(quick, {"n": 1})
    for read in (run.refresh, run.steps):
        with pytest.raises(durable.DurableError, match="the engine is not open: use `async with engine:`"):
            await read()


async def test_leaving_leaves_no_task_behind(store):
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    async with durable.Engine(store, functions=[quick, sleeping]) as engine:
        await engine.start(sleeping)
        await engine.invoke(quick, timeout="10s")
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert loop.get_task_factory() is factory


async def test_two_engines_live_in_one_loop(store_url, tmp_path):
    other = f"sqlite:///{tmp_path / 'other.db'}"
    async with (
        durable.Engine(store_url, functions=[quick]) as one,
        durable.Engine(other, functions=[quick]) as two,
    ):
        assert await one.invoke(quick, {"n": 1}, timeout="10s") == 1
        assert await two.invoke(quick, {"n": 2}, timeout="10s") == 2
        assert len((await one.runs()).items) == 1


async def test_two_engines_share_one_store_and_each_run_is_executed_once(store):
    calls = []

    @durable.function("f", trigger="e")
    async def f(ctx):
        await ctx.step.run("note", remember, ctx.event.data["n"])

    async def remember(n):
        calls.append(n)

    async with durable.Engine(store, functions=[f]) as one, durable.Engine(store, functions=[f]) as two:
        await one.send([durable.Event("e", {"n": n}) for n in range(20)])
        await two.send([durable.Event("e", {"n": n}) for n in range(20, 40)])
        for run in [run async for run in one.runs()]:
            await run.result("10s")
    assert sorted(calls) == list(range(40))


async def test_whoever_waits_for_a_result_is_told_that_the_engine_was_left(store):
    async with durable.Engine(store, functions=[sleeping]) as engine:
        run = await engine.start(sleeping)
        waiting = asyncio.create_task(run.result())
        await asyncio.sleep(0.01)
    with pytest.raises(durable.DurableError, match=rf"was left before run {run.id} has ended"):
        await asyncio.wait_for(waiting, 5)


# ---------------------------------------------------------------- where it may not be used

CALLS = {
    "send": lambda e: e.send(durable.Event("e")),
    "start": lambda e: e.start(quick),
    "invoke": lambda e: e.invoke(quick),
    "send_signal": lambda e: e.send_signal("go"),
    "get_run": lambda e: e.get_run("x"),
    "cancel": lambda e: e.cancel("x"),
    "runs": lambda e: e.runs(),
    "events": lambda e: e.events(),
}


async def call(name, engine):
    """Make one of `CALLS`; all are awaitable."""
    return await CALLS[name](engine)


@pytest.mark.parametrize("name", CALLS)
async def test_an_engine_that_is_not_open_says_so(name):
    engine = durable.Engine("memory://", functions=[quick])
    with pytest.raises(durable.DurableError, match=rf"{name}.*not open.*async with"):
        await call(name, engine)


def test_send_soon_of_an_engine_that_is_not_open_says_so():
    with pytest.raises(durable.DurableError, match="not open"):
        durable.Engine("memory://").send_soon(durable.Event("e"))


@pytest.mark.parametrize("name", CALLS)
async def test_another_event_loop_is_refused(name, until):
    found = []

    def elsewhere(engine):
        try:
            asyncio.run(call(name, engine))
        except durable.DurableError as error:
            found.append(str(error))

    async with durable.Engine("memory://", functions=[quick]) as engine:
        thread = threading.Thread(target=elsewhere, args=(engine,))
        thread.start()
        await until(lambda: not thread.is_alive())
    (message,) = found
    assert "another event loop" in message
    assert "send_soon" in message


@pytest.mark.parametrize("name", ["refresh", "steps", "runs", "events"])
async def test_another_event_loop_is_refused_where_a_handle_is_used(store, name, until):
    found = []

    def elsewhere(awaitable):
        async def use():
            await awaitable()

        try:
            asyncio.run(use())
        except durable.DurableError as error:
            found.append(str(error))

    async with durable.Engine(store, functions=[quick]) as engine:
        run = await engine.start(quick)
        listing = {"runs": engine.runs(), "events": engine.events()}.get(name)
        use = getattr(run, name) if listing is None else lambda: listing
        thread = threading.Thread(target=elsewhere, args=(use,))
        thread.start()
        await until(lambda: not thread.is_alive())
    (message,) = found
    assert "another event loop" in message


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.send(durable.Event("e")).send(None),
        lambda engine: engine.send_soon(durable.Event("e")),
        lambda engine: engine.__aenter__().send(None),
    ],
    ids=["send", "send_soon", "enter"],
)
async def test_a_forked_child_is_refused(store, use):
    async with durable.Engine(store, functions=[quick]) as engine:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                use(engine)
                answer = "nothing was raised"
            except BaseException as error:
                answer = f"{type(error).__name__}: {error}"
            os.write(writer, answer.encode())
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it ends at once
        os.close(writer)
        message = os.read(reader, 10_000).decode()
        os.close(reader)
        assert message.startswith("DurableError")
        assert "fork" in message
        assert await engine.invoke(quick, {"n": 1}, timeout="10s") == 1


# ---------------------------------------------------------------- where the store comes from


async def test_without_a_store_the_environment_says_which(tmp_path, monkeypatch):
    monkeypatch.setenv("DURABLE_STORE", f"sqlite:///{tmp_path / 'env.db'}")
    async with durable.Engine(functions=[quick]) as engine:
        await engine.invoke(quick, timeout="10s")
    assert (tmp_path / "env.db").exists()


async def test_without_anything_it_is_a_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("DURABLE_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    async with durable.Engine(functions=[quick]) as engine:
        await engine.invoke(quick, timeout="10s")
    assert (tmp_path / "durable.db").exists()


async def test_each_memory_url_is_a_store_of_its_own():
    async with durable.Engine("memory://", functions=[quick]) as one, durable.Engine("memory://") as two:
        await one.invoke(quick, timeout="10s")
        assert (await two.runs()).items == []


# ---------------------------------------------------------------- graceful shutdown


async def test_leaving_lets_a_callback_in_flight_end_and_keeps_its_result(store):
    first, later = Callback(), []
    f = two_steps(first, later)
    engine = durable.Engine(store, functions=[f])
    async with engine:
        run = await engine.start(f)
        await first.started.wait()
        asyncio.get_running_loop().call_later(0.02, first.release.set)
    assert first.log == [(0, "finished")]
    assert later == []
    async with engine:
        run = await engine.get_run(run.id)
        assert await run.result("10s") == "done"
    assert first.log == [(0, "finished")]


@pytest.mark.parametrize("thread", [False, True])
async def test_a_step_in_flight_may_use_the_engine_while_it_is_left(store, until, thread):
    started, calls = threading.Event(), []

    async def tell(engine):
        started.set()
        await until(lambda: engine._service.leaving)
        calls.append("tell")
        await engine.send(durable.Event("e", {"n": 1}))
        return (await engine.start(sleeping)).function_id

    def tell_from_a_thread(engine):
        started.set()
        while not engine._service.leaving:
            time.sleep(0.001)
        calls.append("tell")
        engine.send_soon(durable.Event("e", {"n": 1})).result(10)
        return "sleeping"

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("tell", tell_from_a_thread if thread else tell, ctx.engine)

    async with durable.Engine(store, functions=[f, quick, sleeping]) as engine:
        run = await engine.start(f)
        await until(started.is_set)
    async with durable.Engine(store, functions=[f, quick, sleeping]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "sleeping"
        (told,) = await engine.runs(quick)
        assert await told.result("10s") == 1
    assert calls == ["tell"]


async def test_nobody_else_may_use_an_engine_while_it_is_left(store, until):
    first = Callback()
    f = two_steps(first, [])
    engine = durable.Engine(store, functions=[f])
    async with engine:
        await engine.start(f)
        await first.started.wait()
        leaving = asyncio.create_task(engine.__aexit__(None, None, None))
        await until(lambda: engine._service.leaving)
        for name in CALLS:
            with pytest.raises(durable.DurableError, match=rf"{name}.*is being left"):
                await call(name, engine)
        first.release.set()
        await leaving
        with pytest.raises(durable.DurableError, match="is not open: use"):
            await engine.send(durable.Event("e"))


async def test_a_leave_that_is_cancelled_leaves_no_step_running(store, until):
    begun, going = [], []

    async def work():
        begun.append(1)
        if len(begun) > 1:
            return "worked"
        going.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            going.clear()

    @durable.function("f", retries=0)
    async def f(ctx):
        return await ctx.step.run("work", work)

    before = asyncio.all_tasks()
    engine = await durable.Engine(store, functions=[f], shutdown_timeout="1h").__aenter__()
    run = await engine.start(f)
    await until(lambda: going)
    leaving = asyncio.ensure_future(engine.__aexit__(None, None, None))
    for _ in range(3):
        await asyncio.sleep(0)
        leaving.cancel()  # a second one does not cut short what the first has begun
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not going, "it would run beside its next attempt"
    assert asyncio.all_tasks() == before
    async with durable.Engine(store, functions=[f]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "worked"


async def test_leaving_ends_though_the_store_refuses_to_write(store, monkeypatch, caplog):
    started, go = asyncio.Event(), asyncio.Event()

    async def work():
        started.set()
        await go.wait()

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("work", work)
        return "done"

    async def refuse(*_):
        raise durable.StoreError("the disk is full")

    monkeypatch.setattr(service, "_HURRIED_MS", 100)
    with monkeypatch.context() as patch:
        async with durable.Engine(store, functions=[f], shutdown_timeout="100ms") as engine:
            run = await engine.start(f)
            await started.wait()
            for door in ("commit", "leave"):
                patch.setattr(store, door, refuse)
            go.set()
    assert "did not take all that was to be written" in caplog.text
    assert "could not sign off (the disk is full)" in caplog.text
    async with durable.Engine(store, functions=[f]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "done"


async def test_in_a_hurry_leaving_does_not_wait_for_a_store_that_does_not_answer(store, monkeypatch, until):
    async def silent(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(service, "_HURRIED_MS", 60_000)
    engine = await durable.Engine(store).__aenter__()
    inside = engine._service
    monkeypatch.setattr(store, "admit", silent)
    sending = asyncio.ensure_future(engine.send(durable.Event("e")))
    await until(lambda: inside.intake.busy)
    leaving = asyncio.ensure_future(engine.__aexit__(None, None, None))
    await asyncio.sleep(0)
    inside.hurry()
    await asyncio.wait_for(leaving, 10)
    with pytest.raises(durable.StoreError, match="may be stored, or not"):
        await sending


async def test_after_the_shutdown_time_a_callback_is_interrupted_and_its_attempt_given_back(store):
    first, later = Callback(), []
    f = two_steps(first, later)
    async with durable.Engine(store, functions=[f], shutdown_timeout="20ms") as engine:
        run = await engine.start(f)
        await first.started.wait()
    assert first.log == [(0, "cancelled")]
    first.release.set()
    async with durable.Engine(store, functions=[f]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "done"
    assert first.log == [(0, "cancelled"), (0, "finished")]


async def test_an_interruption_does_not_call_the_handlers_except_block(store):
    first, caught = Callback(), []

    @durable.function("f")
    async def f(ctx):
        try:
            return await ctx.step.run("first", first)
        except Exception as error:
            caught.append(error)
            raise

    async with durable.Engine(store, functions=[f], shutdown_timeout="0s") as engine:
        run = await engine.start(f)
        await first.started.wait()
    first.release.set()
    async with durable.Engine(store, functions=[f]) as engine:
        assert await (await engine.get_run(run.id)).result("10s") == "result"
    assert caught == []


async def test_sleeping_runs_do_not_hold_up_the_end(store, until):
    async with durable.Engine(store, functions=[sleeping], shutdown_timeout="60s") as engine:
        runs = [await engine.start(sleeping) for _ in range(20)]
        for run in runs:
            await until(lambda run=run: is_waiting(run))
        began = time.monotonic()
    assert time.monotonic() - began < 5
    async with TestEngine([sleeping], store=store, start="2100-01-01T00:00:00Z") as t:
        assert [await (await t.get_run(run.id)).result() for run in runs] == ["awake"] * 20


async def test_parallel_steps_in_flight_all_end(store):
    callbacks = [Callback() for _ in range(3)]

    @durable.function("f")
    async def f(ctx):
        return await asyncio.gather(*(ctx.step.run(f"s{n}", one) for n, one in enumerate(callbacks)))

    engine = durable.Engine(store, functions=[f])
    async with engine:
        run = await engine.start(f)
        for one in callbacks:
            await one.started.wait()
            one.release.set()
    async with engine:
        assert await (await engine.get_run(run.id)).result("10s") == ["result"] * 3
    assert [one.log for one in callbacks] == [[(0, "finished")]] * 3


async def test_a_worker_thread_that_goes_on_is_left_behind_and_named(store, caplog, until):
    going, release = threading.Event(), threading.Event()

    def hang():
        going.set()
        release.wait(10)

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("hang", hang)

    try:
        async with durable.Engine(store, functions=[f], shutdown_timeout="10ms") as engine:
            run = await engine.start(f)
            await until(going.is_set)
    finally:
        release.set()
    assert run.id in caplog.text
    (said,) = [one.getMessage() for one in caplog.records if "worker threads" in one.getMessage()]
    assert "'hang' in 'AnyIO worker thread' (" in said
    assert "the process ends only after them" in said


async def test_an_event_that_was_sent_is_kept_though_the_engine_is_left_at_once(store):
    async with durable.Engine(store, functions=[quick], max_concurrency=1) as engine:
        await engine.send([durable.Event("e", {"n": n}) for n in range(50)])
    async with durable.Engine(store, functions=[quick]) as engine:
        runs = [run async for run in engine.runs()]
        assert sorted([await run.result("10s") for run in runs]) == list(range(50))


# ---------------------------------------------------------------- blocking


async def test_a_handler_that_blocks_the_loop_is_named_in_the_log(store, caplog, monkeypatch):
    monkeypatch.setattr("durable._executor.driver._BLOCKING_SECONDS", 0.01)

    @durable.function("rude")
    async def rude(ctx):
        time.sleep(0.02)  # noqa: ASYNC251 - the point

    async with durable.Engine(store, functions=[rude]) as engine:
        run = await engine.start(rude)
        await run.result("10s")
    assert "rude" in caplog.text or run.id in caplog.text


# ---------------------------------------------------------------- how much at once


async def test_max_concurrency_bounds_the_runs_that_execute_at_once(store):
    now, most = [], []

    @durable.function("f", trigger="e")
    async def f(ctx):
        await ctx.step.run("work", work)

    async def work():
        now.append(1)
        most.append(len(now))
        await asyncio.sleep(0.001)
        now.pop()

    async with TestEngine([f], store=store, max_concurrency=3) as t:
        await t.send([durable.Event("e") for _ in range(20)])
        await t.until_idle()
        assert len([run async for run in t.runs(status="completed")]) == 20
    assert max(most) == 3


async def test_max_threads_bounds_the_plain_functions_that_run_at_once(store):
    now, most, lock = [], [], threading.Lock()

    @durable.function("f", trigger="e")
    async def f(ctx):
        await ctx.step.run("work", work)

    def work():
        with lock:
            now.append(1)
            most.append(len(now))
        time.sleep(0.002)
        with lock:
            now.pop()

    async with TestEngine([f], store=store, max_threads=2) as t:
        await t.send([durable.Event("e") for _ in range(10)])
        await t.until_idle()
    assert len(most) == 10
    assert max(most) <= 2
