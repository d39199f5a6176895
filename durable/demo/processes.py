"""The worker process, as its parent sees it: started, watched, killed, or asked to leave."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

from durable.errors import DurableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["DemoFailedError", "Worker"]

_LAST_LINES = 15
_LEAVE_SECONDS = 10.0


class DemoFailedError(DurableError):
    """The demo could not be carried through; the message says why."""


class Worker:
    """One worker process; what it says on its standard error is kept in the file `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, store: str, ledger: Path, patterns: Sequence[str], log: Path) -> Worker:
        """Start it."""
        arguments = ["-m", "durable.demo.worker", store, str(ledger), *patterns]
        with log.open("ab") as file:
            # Nothing is written to the pipe of its stdin: it ends with this process, and the worker with it.
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=asyncio.subprocess.PIPE, stdout=file, stderr=file
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """See that it lives.

        Raises:
            DemoFailedError: It has ended by itself; the message holds its last words.
        """
        code = self._process.returncode
        if code is not None:
            words = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            raise DemoFailedError("\n  ".join([f"the worker ended by itself with exit code {code}:", *words]))

    async def kill(self) -> None:
        """End it as a crash does: it cannot notice, and nothing of it runs any more."""
        os.kill(self.pid, signal.SIGKILL)
        await self._process.wait()

    async def leave(self) -> int:
        """Ask it to end in order; its exit code. One that does not within 10 s is killed."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_LEAVE_SECONDS):
                    return await self._process.wait()
            except TimeoutError:
                await self.kill()
        return self._process.returncode or 0
