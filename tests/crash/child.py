"""Processes that are to be killed, forked from one that has imported everything before: they start in no time.

Speaks in lines on its standard streams: ``start {json}`` answers the new process's id, ``wait PID`` how it
ended. The children execute durable functions on an SQLite file, and note what they do in a ledger.
"""

import asyncio
import json
import logging
import os
import sys
import traceback

import durable
from durable._core.expressions import compile_condition
from durable.demo.ledger import BEGIN, EFFECT, ERROR, READY, Ledger
from durable_stores.sqlite import SQLiteStore

SOON = durable.Backoff("15ms", factor=1.0, maximum="15ms", jitter=0)

CHAIN = [["a"], ["b"], ["c"], ["p", "q", "r"], ["flaky"], ["d"], ["e"], ["x", "y"], ["f"], ["end"]]
"""The steps of `chain`, in stages: a step of a stage begins when those of the stage before are committed."""

LEAF = [["leaf-a"], ["leaf-b"]]


class World:
    """What is outside of the store: the ledger."""

    def __init__(self, path):
        self.ledger = Ledger(path)

    def note(self, what, step=""):
        ctx = durable.current()
        self.ledger.write(what, ctx.run_id, ctx.function.id, step, ctx.attempt)

    async def step(self, name, seconds=0.0, answer=None):
        self.note(BEGIN, name)
        await asyncio.sleep(seconds)
        self.note(EFFECT, name)
        return answer

    def blocking(self, name):
        """The same in a worker thread."""
        self.note(BEGIN, name)
        self.note(EFFECT, name)
        return name

    async def flaky(self, name):
        if durable.current().attempt < 2:
            self.note(BEGIN, name)
            await asyncio.sleep(0.001)
            self.note(ERROR, name)
            raise ValueError("not yet")
        return await self.step(name, 0.001, name)


def chain_of(world):
    @durable.function("leaf")
    async def leaf(ctx):
        await ctx.step.run("leaf-a", world.step, "leaf-a", 0.002)
        return await ctx.step.run("leaf-b", world.step, "leaf-b", 0.0, ctx.event.data["n"] * 10)

    @durable.function("chain", backoff=SOON)
    async def chain(ctx):
        n = ctx.event.data["n"]
        got = [await ctx.step.run("a", world.step, "a", 0.003, n)]
        got.append(await ctx.step.run("b", world.blocking, "b"))
        got.append(await ctx.step.run("c", world.step, "c"))
        got += await asyncio.gather(*(ctx.step.run(one, world.step, one, 0.004, one) for one in "pqr"))
        got.append(await ctx.step.run("flaky", world.flaky, "flaky"))
        await ctx.step.sleep("nap", "20ms")
        got.append(await ctx.step.run("d", world.step, "d", 0.002, "d"))
        got.append(await ctx.step.invoke("child", function=leaf, data={"n": n}))
        got.append(await ctx.step.run("e", world.step, "e", 0.001, "e"))
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(ctx.step.run(one, world.step, one, 0.003, one)) for one in "xy"]
        got += [one.result() for one in both]
        await ctx.step.run("f", world.step, "f")
        return [*got, await ctx.step.run("end", world.step, "end", 0.001, "end")]

    return [chain, leaf]


async def chains(world, db, *, runs, **_):
    """Start `runs` runs, under ids of ours, and execute until all of them have ended."""
    functions = chain_of(world)
    async with durable.Engine(SQLiteStore(db), functions=functions, lease="60s") as engine:
        world.ledger.write(READY)
        started = [await engine.start(functions[0], {"n": n}, id=f"run-{n}") for n in range(runs)]
        results = [await run.result() for run in started]
        world.ledger.write("results", step=json.dumps(results))


def steps_of(world, seconds):
    lasting = dict(zip("abc", seconds, strict=True))  # no arguments: they may differ from life to life

    async def last(name):
        return await world.step(name, lasting[name], name)

    @durable.function("steps")
    async def steps(ctx):
        return [await ctx.step.run(name, last, name) for name in lasting]

    return steps


@durable.function("other", trigger="other/wanted")
async def other(ctx):
    """What only some of the processes host."""


async def serve(world, db, *, seconds, shutdown="5s", lease="60s", others=False, **_):
    """A worker process whose one run has three steps that take `seconds`; it writes when that has ended."""
    function = steps_of(world, seconds)
    functions = [function, other] if others else [function]
    engine = durable.Engine(SQLiteStore(db), functions=functions, shutdown_timeout=shutdown, lease=lease)

    async def client():
        while True:
            try:
                run = await engine.start(function, id="the run")
                break
            except (durable.DurableError, LookupError):  # not open yet
                await asyncio.sleep(0.005)
        world.ledger.write(READY)
        world.ledger.write("results", step=json.dumps(await run.result()))

    asking = asyncio.ensure_future(client())
    asking.add_done_callback(failed)
    await engine.serve()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def failed(task):
    """A client that fails says why in the log, where the test finds it."""
    if not task.cancelled() and task.exception() is not None:
        logging.getLogger("child").error("the client failed", exc_info=task.exception())


def live(order):
    """What a child does with its life."""
    logging.basicConfig(filename=order["log"], level=logging.INFO)
    world = World(order["ledger"])
    try:
        asyncio.run({"chains": chains, "serve": serve}[order.pop("what")](world, **order))
    except BaseException:
        logging.getLogger("child").exception("the child failed")
        traceback.print_exc()
        return 1
    return 0


def main():
    compile_condition("event.data.x == 1")  # imports what is imported on first use
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "start":
            pid = os.fork()
            if pid == 0:
                os._exit(live(json.loads(rest)))
            answer = str(pid)
        else:
            answer = str(os.waitstatus_to_exitcode(os.waitpid(int(rest), 0)[1]))
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
