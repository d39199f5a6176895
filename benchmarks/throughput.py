"""How many runs does one process finish in a second, and how long is its event loop held up meanwhile?

1,000 runs of 5 sequential steps each, started at once. The floor is what the same rows take in transactions of
256: the events and runs, four times the memos, the last memos with the ends and the events that tell of them.
Engine and floor take turns on the same connection. The stall is the longest time by which a timer of 1 ms came
late while the runs were going.

Usage: python benchmarks/throughput.py [--store sqlite] [--runs 1000] [--rounds 5] [--loop uvloop] [--json FILE]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from time import perf_counter
from typing import Any

from floors import floor_of
from measuring import Bench, Stalls, options

import durable

STEPS = 5
BATCH = 256


async def nothing() -> dict[str, Any]:
    """What every step returns."""
    return {"ok": True, "n": 12345}


@durable.function("five")
async def five(ctx: durable.Context) -> dict[str, Any]:
    """Five steps, one after the other."""
    for _ in range(STEPS - 1):
        await ctx.step.run("step", nothing)
    return await ctx.step.run("step", nothing)


async def engine_turn(engine: durable.Engine, runs: int) -> tuple[float, float]:
    """Seconds for all runs, and the longest stall."""

    async def one() -> None:
        run = await engine.start(five)
        await run.result()

    with Stalls() as stalls:
        began = perf_counter()
        await asyncio.gather(*[one() for _ in range(runs)])
        return perf_counter() - began, stalls.longest


async def floor_turn(floor: Any, runs: int) -> float:
    """Seconds for the same rows, in batches."""
    seconds = 0.0
    batches = [min(BATCH, runs - done) for done in range(0, runs, BATCH)]
    for n in batches:
        seconds += await floor.start(n)
    for _ in range(STEPS - 1):
        for n in batches:
            seconds += await floor.steps(n)
    for n in batches:
        seconds += await floor.end(n)
    return seconds


async def measure(bench: Bench, name: str) -> None:
    """Engine and floor in turns, on one store; the first turns warm up."""
    runs = bench.given.runs
    store = bench.store(name)
    floor = floor_of(store)
    mine, bare, stalls = [], [], []
    async with durable.Engine(store, functions=[five]) as engine:
        first = await engine.start(five)
        await first.result()
        await floor.learn(first.id)
        for number in range(1 + bench.given.rounds):
            seconds, stall = await engine_turn(engine, runs)
            floor_seconds = await floor_turn(floor, runs)
            if number:
                mine.append(seconds)
                stalls.append(stall * 1000)
                bare.append(floor_seconds)
    median, floor_median = statistics.median(mine), statistics.median(bare)
    bench.add(
        store=floor.label,
        durability=floor.durability,
        floor=floor.kind,
        what=f"{runs:,} runs x {STEPS} steps",
        n=len(mine),
        runs_per_s=round(runs / median),
        slowest_runs_per_s=round(runs / max(mine)),
        floor_runs_per_s=round(runs / floor_median),
        ratio=round(median / floor_median, 2),
        stall_ms=round(statistics.median(stalls), 1),
        longest_stall_ms=round(max(stalls), 1),
    )


def main() -> None:
    """Read the options, and measure."""
    parser = options(__doc__.splitlines()[0], 1000)
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often it is measured (default: %(default)s)"
    )
    Bench("throughput", parser.parse_args()).main(measure)


if __name__ == "__main__":
    sys.exit(main())
