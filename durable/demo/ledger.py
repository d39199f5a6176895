"""The ledger: an append-only file in which the outside world notes what steps have done to it.

It knows nothing of durable and is written outside of every store, so that it can bear witness against one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import orjson
from attrs import asdict, frozen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["BEGIN", "EFFECT", "ERROR", "READY", "Entry", "Ledger", "read"]

READY = "ready"
"""A worker executes."""

BEGIN = "begin"
"""A step's callback was called."""

EFFECT = "effect"
"""It has done its work: what must not happen twice."""

ERROR = "error"
"""It has failed, and done nothing."""


@frozen
class Entry:
    """One line: what happened, when (seconds since the epoch), and in which process."""

    what: str
    pid: int
    at: float
    run: str = ""
    function: str = ""
    step: str = ""
    attempt: int = 0


class Ledger:
    """The file at `path`, to write to. A line is on the disk when `write` returns; it blocks until then."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: str, run: str = "", function: str = "", step: str = "", attempt: int = 0) -> None:
        """Add one line."""
        entry = Entry(what, os.getpid(), time.time(), run, function, step, attempt)
        # One write to a file opened for appending is one whole line, whoever else writes.
        os.write(self._file, orjson.dumps(asdict(entry)) + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def read(path: Path, start: int = 0) -> tuple[list[Entry], int]:
    """The whole lines from byte `start` on, and where the next reading begins."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return [], start
    whole = data[: data.rfind(b"\n") + 1]
    return _entries(whole.splitlines()), start + len(whole)


def _entries(lines: Iterable[bytes]) -> list[Entry]:
    return [Entry(**orjson.loads(line)) for line in lines]
