"""An engine as a process of its own: it executes until a signal comes, and leaves in order.

It may not know what users call.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from durable._executor.service import Service

__all__ = ["serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def serve(service: Service) -> None:
    """Execute until SIGINT or SIGTERM, then leave in order; a second signal leaves at once.

    However it ends, a cancellation included, the signals are then what they were before.

    Raises:
        DurableError: The engine's own work has stopped.
    """
    stop = asyncio.Event()

    def signalled() -> None:
        if stop.is_set():
            service.hurry()
        stop.set()

    with ExitStack() as handlers:
        for one in _SIGNALS:
            service.loop.add_signal_handler(one, signalled)
            handlers.callback(service.loop.remove_signal_handler, one)
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), service.failed]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ends[0].cancel()
            stop.set()
            # The handlers stay until the engine is left: the second signal comes while it stops.
            await service.stop()
    service.check()
