"""How long does one thing take when nothing else is going on?

- step: from the end of one step's callback to the beginning of the next one's: everything that the engine
  does for a sequential step, its commit included. Floor: the commit of the same memo.
- start to result: `engine.start` of a function with one step, and `run.result()`. Floor: the commits of the
  event and the run, and of the memo, the run's end and the event that tells of it, one after the other.
- gather: one step and then 200 in `asyncio.gather`, until the first callback after them. Floor: the commit of
  one memo, and that of 200.

Turn by turn: after each thing that is measured comes its floor, on the same connection, after the same gap.

Usage: python benchmarks/latency.py [--store sqlite] [--runs 300] [--gap-ms 0] [--loop uvloop] [--json FILE]
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter
from typing import Any

from floors import floor_of
from measuring import Bench, options

import durable

WARM_UP = 20
WIDTH = 200


class Measured:
    """Samples of one thing and of its floor, in seconds, without the first ones."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self.floor: list[float] = []
        self.left = 0.0

    def taken(self, seconds: float) -> None:
        """The engine has done it once."""
        self.samples.append(seconds)

    def warm(self, warm_up: int) -> tuple[list[float], list[float]]:
        """Everything after the warm-up."""
        return self.samples[warm_up:], self.floor[warm_up:]


async def nothing() -> dict[str, Any]:
    """What every step returns: 20 bytes of JSON."""
    return {"ok": True, "n": 12345}


def functions(floor: Any, gap: float, found: dict[str, Measured]) -> dict[str, durable.Function[Any]]:
    """The functions that are measured; between two of their steps the floor has its turn."""

    async def turn(measured: Measured, *rows: int) -> dict[str, Any]:
        """A callback that notes when it began, lets the floor have its turn, and notes when it ends."""
        began = perf_counter()
        if measured.left:
            measured.taken(began - measured.left)
            bare = 0.0
            for n in rows:
                await asyncio.sleep(gap)
                bare += await floor.steps(n)
            measured.floor.append(bare)
        await asyncio.sleep(gap)
        measured.left = perf_counter()
        return await nothing()

    @durable.function("one")
    async def one(ctx: durable.Context) -> Any:
        return await ctx.step.run("step", nothing)

    @durable.function("sequence")
    async def sequence(ctx: durable.Context) -> None:
        found["step"].left = 0.0
        for _ in range(ctx.event.data["n"]):
            await ctx.step.run("step", turn, found["step"], 1)

    @durable.function("wide")
    async def wide(ctx: durable.Context) -> None:
        found["gather"].left = 0.0
        for _ in range(ctx.event.data["n"]):
            await ctx.step.run("mark", turn, found["gather"], 1, WIDTH)
            await asyncio.gather(*[ctx.step.run(f"s{i}", nothing) for i in range(WIDTH)])

    return {"one": one, "sequence": sequence, "wide": wide}


async def measure(bench: Bench, name: str) -> None:
    """All three, on one store."""
    gap = bench.given.gap_ms / 1000
    store = bench.store(name)
    floor = floor_of(store)
    found = {"step": Measured(), "gather": Measured(), "start": Measured()}
    hosted = functions(floor, gap, found)
    limits = durable.Limits(steps=1_000_000, run_bytes=1 << 30)
    async with durable.Engine(store, functions=list(hosted.values()), limits=limits) as engine:
        first = await engine.start(hosted["one"])
        await first.result()
        await floor.learn(first.id)

        runs = bench.given.runs
        for _ in range(WARM_UP + runs):
            await asyncio.sleep(gap)
            began = perf_counter()
            run = await engine.start(hosted["one"])
            await run.result()
            found["start"].taken(perf_counter() - began)
            await asyncio.sleep(gap)
            bare = await floor.start()
            await asyncio.sleep(gap)
            found["start"].floor.append(bare + await floor.end())
        await engine.invoke(hosted["sequence"], {"n": 5 * WARM_UP + 5 * runs})
        await engine.invoke(hosted["wide"], {"n": WARM_UP // 4 + max(20, runs // 2)})

        about = f"gap {bench.given.gap_ms:g} ms"
        for what, key, warm_up, unit in (
            ("sequential step", "step", 5 * WARM_UP, "us"),
            ("start to result, one step", "start", WARM_UP, "us"),
            (f"gather of {WIDTH} steps", "gather", WARM_UP // 4, "ms"),
        ):
            samples, bare_ones = found[key].warm(warm_up)
            bench.compare(floor, what, samples, bare_ones, unit, about=about)


def main() -> None:
    """Read the options, and measure."""
    parser = options(__doc__.splitlines()[0], 200)
    parser.add_argument(
        "--gap-ms", type=float, default=0.0, help="idle time before each thing and each floor (default: none)"
    )
    Bench("latency", parser.parse_args()).main(measure)


if __name__ == "__main__":
    sys.exit(main())
