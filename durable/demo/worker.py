"""The process that does the work, and is killed: `python -m durable.demo.worker STORE LEDGER PATTERN...`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import durable
from durable.demo.ledger import READY, Ledger
from durable.demo.webhooks import Services, functions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["APP", "main"]

APP = "durable-demo"

AT_ONCE = 8
"""Runs that execute at the same time; the others queue, so that the kill meets runs in every state."""


async def work(store: str, ledger: Ledger, patterns: Sequence[str]) -> None:
    """Execute until SIGTERM, or until the parent is gone and with it the other end of our stdin.

    `durable.Engine.serve` is what other programs use; it writes no line into a ledger.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)
    services = Services(ledger)
    async with durable.Engine(
        store, app=APP, functions=functions(services, patterns), max_concurrency=AT_ONCE
    ):
        ledger.write(READY)
        await stop.wait()
        loop.remove_reader(sys.stdin.fileno())


def main(store: str, path: str, patterns: Sequence[str]) -> None:
    """Execute the demo's functions on `store`; what they do is noted in the ledger at `path`."""
    # Ctrl-C in the terminal goes to the whole group: the parent ends this process in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ledger = Ledger(path)
    try:
        asyncio.run(work(store, ledger, patterns))
    finally:
        ledger.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
