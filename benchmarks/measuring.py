"""What the benchmarks share: options, samples and percentiles, stalls of the loop, JSON lines and the table.

It knows nothing of what is measured; what a store's bare commits cost is the business of `floors`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from durable.urls import store_at

NAMES = {
    "memory": "memory://",
    "sqlite": "sqlite:///{folder}/{name}.db",
    "sqlite-normal": "sqlite:///{folder}/{name}.db?synchronous=normal",
}
"""Stores that can be named without a URL; `sqlite` has its default, synchronous=FULL."""

UNITS = {"us": 1e6, "ms": 1e3}


def options(description: str, runs: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--store",
        action="append",
        help=f"one of {', '.join(NAMES)}, or a URL; may be repeated (default: memory and sqlite)",
    )
    parser.add_argument("--runs", type=int, default=runs, help="how much is measured (default: %(default)s)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument(
        "--json", metavar="FILE", help="append the figures as JSON lines; '-': standard output"
    )
    parser.add_argument("--folder", help="where databases are made (default: a temporary folder)")
    return parser


class Bench:
    """One benchmark: where its stores are, and what it has found."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.name = name
        self.given = given
        self.figures: list[dict[str, Any]] = []
        self.silent = False
        self._made = 0

    def main(self, measure: Any) -> None:
        """Run ``measure(bench, store)`` for each store in a fresh event loop; print what was found."""
        for store in self.given.store or ["memory", "sqlite"]:
            folder = tempfile.mkdtemp(prefix="durable-bench-", dir=self.given.folder)
            self.folder = Path(folder)
            factory = None
            if self.given.loop == "uvloop":
                import uvloop  # noqa: PLC0415 - a choice

                factory = uvloop.new_event_loop
            try:
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(measure(self, store))
            finally:
                shutil.rmtree(folder)
        if not self.silent:
            self.report()

    def store(self, name: str) -> Any:
        """A new, empty store of this name, or the one at this URL."""
        self._made += 1
        url = NAMES.get(name, name).format(folder=self.folder.as_posix(), name=f"bench{self._made}")
        return store_at(url)

    def add(self, **figure: Any) -> None:
        """Note one line of the table."""
        self.figures.append({"benchmark": self.name, "loop": self.given.loop, **figure})

    def compare(
        self, floor: Any, what: str, samples: list[float], bare_ones: list[float], unit: str, **more: Any
    ) -> None:
        """Note what was measured beside its floor: times in seconds."""
        scale = UNITS[unit]
        mine, bare = statistics.median(samples), statistics.median(bare_ones)
        self.add(
            store=floor.label,
            durability=floor.durability,
            floor=floor.kind,
            what=what,
            unit=unit,
            n=len(samples),
            p50=round(mine * scale, 2),
            p99=round(percentile(samples, 99) * scale, 2),
            floor_p50=round(bare * scale, 2),
            floor_p99=round(percentile(bare_ones, 99) * scale, 2),
            ratio=round(mine / bare, 2),
            **more,
        )

    def report(self) -> None:
        """Print the table, and write the JSON lines."""
        if self.given.json:
            lines = "".join(json.dumps({**one, "machine": machine()}) + "\n" for one in self.figures)
            if self.given.json == "-":
                sys.stdout.write(lines)
                return
            with Path(self.given.json).open("a", encoding="utf-8") as file:
                file.write(lines)
        print(f"{self.name}: {machine()}")
        columns = [key for key in _columns(self.figures) if key != "benchmark"]
        print(table(columns, [[one.get(key, "") for key in columns] for one in self.figures]))


def _columns(figures: list[dict[str, Any]]) -> list[str]:
    found: dict[str, None] = {}
    for one in figures:
        found.update(dict.fromkeys(one))
    return list(found)


def table(columns: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table."""
    cells = [
        columns,
        *[[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows],
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def percentile(samples: list[float], percent: float) -> float:
    """The smallest sample that so many percent of them do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]


def machine() -> str:
    """Processor, versions, and how busy the machine was: noise has to be seen."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return (
        f"{os.cpu_count()} x {model}, {platform.system()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, load {os.getloadavg()[0]:.1f}"
    )


class Stalls:
    """Notes how late the event loop is for a timer of 1 ms: its longest stall."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Stalls:
        self._due = self._loop.time()
        self._handle = self._loop.call_soon(self._tick)
        return self

    def _tick(self) -> None:
        now = self._loop.time()
        self.longest = max(self.longest, now - self._due)
        self._due = now + 0.001
        self._handle = self._loop.call_at(self._due, self._tick)

    def __exit__(self, *_: object) -> None:
        self._handle.cancel()


def resident_kb() -> int:
    """The memory of this process, in KB, after garbage was collected and given back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only the GNU C library has it
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
