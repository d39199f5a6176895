"""`import durable` is quick, and leaves what is heavy for the first use."""

import os
import subprocess
import sys

import pytest

BUDGET = 0.150
"""Seconds of CPU that `import durable` may take, Python's own start not counted."""

FLOOR = "asyncio, aiosqlite, orjson, attrs, msgspec, anyio"
TIMES_THE_FLOOR = 2.0
"""On a machine that is slower, or busy: so many times what the libraries take that it stands on."""

TRIES = 9
LATE = ("celpy", "croniter", "lark", "pydantic", "redis", "re2", "sqlite3")


def run(code):
    """What a fresh interpreter prints, without what coverage would add to it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "COVERAGE"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept)
    return done.stdout


def cpu_seconds(modules):
    return float(
        run(f"import time; began = time.process_time(); import {modules}; print(time.process_time() - began)")
    )


def test_import_durable_is_quick():
    """The best of several counts: CPU time only ever grows by what else the machine does."""
    ours = floor = float("inf")
    for _ in range(TRIES):
        floor = min(floor, cpu_seconds(FLOOR))
        ours = min(ours, cpu_seconds("durable"))
        if ours < BUDGET:
            break
    allowed = max(BUDGET, TIMES_THE_FLOOR * floor)
    assert ours < allowed, (
        f"import durable takes {ours * 1000:.0f} ms of CPU; {allowed * 1000:.0f} ms are allowed "
        f"(its libraries alone take {floor * 1000:.0f} ms)"
    )


@pytest.mark.parametrize("library", LATE)
def test_a_heavy_library_is_not_imported(library):
    assert run(f"import durable, sys; print({library!r} in sys.modules)").strip() == "False"


def test_no_store_is_imported():
    code = "import durable, sys; print([name for name in sys.modules if name.startswith('durable_stores')])"
    assert run(code).strip() == "[]"
