"""An engine that is a client, one within a web application, and one that is a worker process."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import FastAPI

import durable
from durable.testing import TestEngine


async def echo(value=None):
    return value


@durable.function("quick", trigger="e")
async def quick(ctx):
    return await ctx.step.run("one", echo, ctx.event.data.get("n"))


# ---------------------------------------------------------------- a client


async def test_an_engine_without_functions_is_a_client(store):
    async with durable.Engine(store, functions=[quick]), durable.Engine(store) as client:
        await client.send(durable.Event("e", {"n": 1}, id="x"))
        (run,) = await client.runs(event_id="x")
        assert await run.result("10s") == 1
        assert await client.invoke("quick", {"n": 2}, timeout="10s") == 2


async def test_a_client_executes_nothing(store):
    async with TestEngine([quick], store=store):
        pass
    async with TestEngine([], store=store) as client:
        run = await client.start("quick")
        await client.advance("1h")
        assert (await run.refresh()).status == "queued"


async def test_a_client_is_stuck_where_nobody_executes(store):
    async with TestEngine([quick], store=store):
        pass
    async with durable.Engine(store) as client:
        run = await client.start("quick")
        with pytest.raises(TimeoutError):
            await run.result("20ms")


# ---------------------------------------------------------------- ASGI


async def test_the_lifespan_of_a_fastapi_application(store):
    engine = durable.Engine(store, functions=[quick])
    app = FastAPI(lifespan=engine.lifespan)

    @app.post("/orders/{n}")
    async def order(n: int) -> dict[str, int]:
        return {"got": await engine.invoke(quick, {"n": n}, timeout="10s")}

    for n in range(2):
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            answer = await client.post(f"/orders/{n}")
            assert answer.json() == {"got": n}
    with pytest.raises(durable.DurableError, match="not open"):
        await engine.send(durable.Event("e"))


# ---------------------------------------------------------------- a worker process


def test_serve_outside_of_the_main_thread_is_refused_before_anything_is_opened(tmp_path):
    engine = durable.Engine(f"sqlite:///{tmp_path}/never.db", functions=[quick])
    with ThreadPoolExecutor(1) as threads:
        served = threads.submit(lambda: asyncio.run(engine.serve()))
        with pytest.raises(durable.DurableError, match=r"engine\.serve: only the main thread hears signals"):
            served.result()
    assert list(tmp_path.iterdir()) == []


WORKER = """
import asyncio, sys, durable

async def hang():
    print("in step", flush=True)
    try:
        await asyncio.sleep(float(sys.argv[2]))
    finally:
        print("step ended", flush=True)
    return "result"

@durable.function("f", trigger="e")
async def f(ctx):
    await ctx.step.run("hang", hang)
    await ctx.step.run("second", print, "second", flush=True)


async def main():
    engine = durable.Engine(sys.argv[1], functions=[f], shutdown_timeout=sys.argv[3])
    serving = asyncio.ensure_future(engine.serve())
    while not serving.done():
        try:
            await engine.send(durable.Event("e", id="once"))
            break
        except durable.DurableError:  # not open yet
            await asyncio.sleep(0.01)
    await serving
    print("left in order", flush=True)

asyncio.run(main())
"""


class Child:
    """A worker process on a SQLite file."""

    def __init__(self, tmp_path, step_seconds, shutdown):
        self.url = f"sqlite:///{tmp_path / 'd.db'}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, self.url, str(step_seconds), shutdown],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, line):
        """Read on until the child has printed `line`."""
        seen = []
        for one in self.process.stdout:
            seen.append(one.rstrip())
            if one.rstrip() == line:
                return
        raise AssertionError(f"the child ended before it said {line!r}: {seen}")

    def ended(self):
        """Its exit status and the rest of what it printed."""
        rest = self.process.communicate(timeout=20)[0]
        return self.process.returncode, rest.split("\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_serve_returns_normally_on_a_signal(tmp_path, number):
    child = Child(tmp_path, 0, "10s")
    child.until("second")
    child.process.send_signal(number)
    status, lines = child.ended()
    assert status == 0
    assert "left in order" in lines


def test_a_step_in_flight_ends_before_serve_returns(tmp_path):
    child = Child(tmp_path, 0.3, "20s")
    child.until("in step")
    child.process.send_signal(signal.SIGTERM)
    status, lines = child.ended()
    assert status == 0
    assert "step ended" in lines
    assert "left in order" in lines
    assert "second" not in lines
    again = Child(tmp_path, 0, "10s")
    again.until("second")
    again.process.send_signal(signal.SIGTERM)
    status, lines = again.ended()
    assert status == 0


def test_a_second_signal_stops_at_once(tmp_path):
    child = Child(tmp_path, 60, "60s")
    child.until("in step")
    child.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)  # two signals at one moment are one
    child.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    status, lines = child.ended()
    assert time.monotonic() - began < 10
    assert "second" not in lines
    assert status in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    again = Child(tmp_path, 0, "10s")
    again.until("in step")
    again.until("second")
    again.process.send_signal(signal.SIGTERM)
    assert again.ended()[0] == 0


async def test_a_serving_engine_that_is_cancelled_is_left_and_gives_the_signals_back(store, until):
    loop = asyncio.get_running_loop()
    engine = durable.Engine(store, functions=[quick])
    serving = asyncio.create_task(engine.serve())
    await until(lambda: engine._service is not None and engine._service.open)
    await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    for number in (signal.SIGINT, signal.SIGTERM):
        assert not loop.remove_signal_handler(number), "it was still ours"
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    async with engine:
        assert await engine.invoke(quick, {"n": 1}, timeout="10s") == 1


# ---------------------------------------------------------------- functions that come later


@durable.function("late", trigger="late")
async def late(ctx):
    return "done"


async def test_a_client_learns_of_functions_that_are_registered_after_it_has_opened(store):
    async with durable.Engine(store) as client:
        with pytest.raises(LookupError, match="late"):
            await client.start("late")
        async with durable.Engine(store, functions=[late]):
            run = await client.start("late")
            assert await run.result("10s") == "done"
            assert [one.id for one in await client.runs("late")] == [run.id]
            await client.pause("late")
            assert await client.cancel_runs("late") == 0


@pytest.mark.parametrize("what", ["runs", "pause", "cancel_runs"])
async def test_each_question_about_a_function_looks_again(store, what):
    async with durable.Engine(store) as client, durable.Engine(store, functions=[late]):
        await getattr(client, what)("late")


@pytest.mark.parametrize("beside", [False, True])
async def test_a_run_invokes_a_function_that_is_registered_after_its_engine_has_opened(store, until, beside):
    @durable.function("parent")
    async def parent(ctx):
        await ctx.step.wait_for_signal("go", signal="go", timeout="1h")
        first = ctx.step.invoke("call", function="late")
        return await asyncio.gather(first, ctx.step.sleep("nap", "1ms")) if beside else await first

    async with durable.Engine(store, functions=[parent]) as one:
        run = await one.start(parent)
        async with durable.Engine(store, functions=[late]):
            await until(lambda: one.send_signal("go"))
            assert await run.result("10s") == (["done", None] if beside else "done")


async def test_invoking_a_function_that_nobody_has_registered_fails_the_step(store):
    @durable.function("parent")
    async def parent(ctx):
        try:
            await ctx.step.invoke("call", function="nobody")
        except durable.StepError as error:
            return [error.name, await ctx.step.run("on", echo, 1)]

    async with TestEngine([parent], store=store, replay_every_step=True) as t:
        assert await t.invoke(parent) == ["LookupError", 1]
