"""The tutorial, followed to the letter: run the program, run it again, kill it, start it again, test it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from tests.docs.pages import EXAMPLES, ROOT, blocks

PAGE = ROOT / "docs" / "tutorial" / "first-program.md"


def output(word):
    """What the page says that a program prints."""
    return next(block.text for block in blocks(PAGE) if block.language == "text" and word in block.words)


@pytest.fixture
def place(tmp_path):
    """A directory with the files of the tutorial."""
    for name in ("orders.py", "test_orders.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    return tmp_path


def run(place, *arguments):
    """Run Python to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_program_runs_and_a_second_time_reads_its_result(place):
    assert run(place, "orders.py") == output("first")
    assert run(place, "orders.py") == output("again")


def test_a_killed_program_goes_on_where_it_was(place):
    with subprocess.Popen(
        [sys.executable, "orders.py", "o-2"],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as program:
        killed = [program.stdout.readline() for _ in output("killed").splitlines()]
        assert "".join(killed) == output("killed")
        until_committed(place / "orders.db", "charge")
        program.send_signal(signal.SIGKILL)
    assert run(place, "orders.py", "o-2") == output("resumed")


def until_committed(database, step):
    """Return when the file holds the result of a step: what a person does by waiting a moment."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as sql:
            if sql.execute("SELECT 1 FROM memos WHERE step = ?", (step,)).fetchone():
                return
        time.sleep(0.01)
    raise AssertionError(f"step {step!r} was never committed")


def test_the_tests_of_the_tutorial_pass(place):
    assert "3 passed" in run(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_orders.py")
