"""What do runs that wait cost, in time to resume one of them, and in memory?

- resume: n runs wait for an event, each for one with its own key; from `engine.send` of one key to the line after
  the wait in that run. The stores with n = 10, 1,000 and 100,000 take turns, so that they see the same machine.
  The waiting runs are evicted (they live in the store alone) or, with --warm, parked (their task lives, too).
  Floor: the commit of one event, on the same connection.
- memory (--memory): the slope of a process's resident memory between two numbers of waiting runs, each in a fresh
  process: evicted between 100,000 and 300,000 runs, parked between 10,000 and 30,000. For a store in memory that
  is the store's part, too.

Usage: python benchmarks/waits.py [--store sqlite] [--runs 200] [--sizes 10,1000,100000] [--warm] [--json FILE]
       python benchmarks/waits.py --memory [--store sqlite] [--evicted 100000,300000] [--parked 10000,30000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
from time import perf_counter
from typing import Any

from floors import floor_of
from measuring import Bench, options, resident_kb

import durable

WARM_UP = 10
CHUNK = 500


class Waiting:
    """One engine with n waiting runs."""

    def __init__(self, store: Any, n: int, *, warm: bool) -> None:
        self.n = n
        self.samples: list[float] = []
        self.floor: list[float] = []
        self._resumed: asyncio.Future[float] | None = None
        self._store = store

        @durable.function("waiter")
        async def waiter(ctx: durable.Context) -> None:
            await ctx.step.wait_for_event("wait", event="go", match="data.key", timeout="300d")
            if self._resumed is not None:
                self._resumed.set_result(perf_counter())

        @durable.function("one")
        async def one(ctx: durable.Context) -> Any:
            return await ctx.step.run("step", nothing)

        self._waiter, self._one = waiter, one
        self.engine = durable.Engine(
            store, functions=[waiter, one], max_warm=10_000_000 if warm else 0, warm_for="300d"
        )

    async def fill(self, start: int, stop: int) -> None:
        """Start runs with these keys, and see them wait."""
        for first in range(start, stop, CHUNK):
            keys = range(first, min(first + CHUNK, stop))
            await asyncio.gather(*[self.engine.start(self._waiter, {"key": key}) for key in keys])
        while await self.engine.runs(self._waiter, status=["queued", "running"], limit=1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)

    async def learn(self) -> None:
        """Show the floor what the engine writes."""
        run = await self.engine.start(self._one)
        await run.result()
        self.bare = floor_of(self._store)
        await self.bare.learn(run.id)

    async def resume(self, key: int) -> None:
        """Resume one run; then comes the floor's turn."""
        self._resumed = asyncio.get_running_loop().create_future()
        began = perf_counter()
        await self.engine.send(durable.Event("go", {"key": key}))
        self.samples.append(await self._resumed - began)
        self._resumed = None
        await asyncio.sleep(0.002)
        self.floor.append(await self.bare.event())


async def nothing() -> dict[str, Any]:
    """What the step of the example returns."""
    return {"ok": True}


def numbers(text: str) -> list[int]:
    """Numbers with commas between them."""
    return [int(one) for one in text.split(",")]


async def measure(bench: Bench, name: str) -> None:
    """Resume one of n, for each n in turn."""
    given = bench.given
    draw = random.Random(1)
    rooms = [Waiting(bench.store(name), n, warm=given.warm) for n in numbers(given.sizes)]
    for room in rooms:
        await room.engine.__aenter__()
    try:
        for room in rooms:
            await room.fill(0, room.n)
            await room.learn()
        left = {room.n: draw.sample(range(room.n), room.n) for room in rooms}
        for _ in range(WARM_UP + given.runs):
            for room in rooms:
                if not left[room.n]:  # few runs: fill up again
                    await room.fill(0, room.n)
                    left[room.n] = list(range(room.n))
                await room.resume(left[room.n].pop())
                await asyncio.sleep(0.002)
        for room in rooms:
            about = "parked" if given.warm else "evicted"
            bench.compare(
                room.bare,
                f"resume 1 of {room.n:,}",
                room.samples[WARM_UP:],
                room.floor[WARM_UP:],
                "us",
                about=about,
            )
    finally:
        for room in rooms:
            await room.engine.__aexit__(None, None, None)


# ---------------------------------------------------------------- memory


async def measure_memory(bench: Bench, name: str) -> None:
    """Two slopes, each in a process of its own."""
    for about, sizes in (("evicted", bench.given.evicted), ("parked", bench.given.parked)):
        command = [sys.executable, __file__, "--store", name, "--loop", bench.given.loop, "--slope", sizes]
        command += ["--warm"] if about == "parked" else []
        command += ["--folder", str(bench.folder)]
        child = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True)
        bench.add(**json.loads(child.stdout.splitlines()[-1]), about=about)


async def measure_slope(bench: Bench, name: str) -> None:
    """In the child: resident memory at two numbers of waiting runs."""
    low, high = numbers(bench.given.slope)
    room = Waiting(bench.store(name), high, warm=bench.given.warm)
    async with room.engine:
        await room.fill(0, 1000)
        await room.fill(1000, low)
        before = resident_kb()
        await room.fill(low, high)
        after = resident_kb()
        found = floor_of(room._store)  # noqa: SLF001 - for its label
        figure = {
            "store": found.label,
            "durability": found.durability,
            "what": f"memory of a waiting run, {low:,} to {high:,}",
            "unit": "KB",
            "kb_per_run": round((after - before) / (high - low), 3),
            "mb_at_most": round(after / 1024, 1),
        }
    print(json.dumps(figure))


def main() -> None:
    """Read the options, and measure."""
    parser = options(__doc__.splitlines()[0], 200)
    parser.add_argument(
        "--sizes", default="10,1000,100000", help="numbers of waiting runs (default: %(default)s)"
    )
    parser.add_argument("--warm", action="store_true", help="the waiting runs are parked, not evicted")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--evicted", default="100000,300000", help="two numbers (default: %(default)s)")
    parser.add_argument("--parked", default="10000,30000", help="two numbers (default: %(default)s)")
    parser.add_argument("--slope", help=argparse.SUPPRESS)
    given = parser.parse_args()
    bench = Bench("waits", given)
    if given.slope:
        bench.silent = True
        bench.main(measure_slope)
    else:
        bench.main(measure_memory if given.memory else measure)


if __name__ == "__main__":
    sys.exit(main())
