"""A question to the store that is asked again until it is answered.

For the engine's own work, which has nobody to whom it could raise. It may not know what is asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from durable.errors import StoreError, UnstorableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["patiently"]

T = TypeVar("T")

_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0


async def patiently(ask: Callable[[], Awaitable[T]], say: Callable[..., None], what: str) -> T:
    """What the store answers at last; each refusal is said, with `what` it hinders.

    Raises:
        UnstorableError: It never will.
    """
    pause = _PAUSE_SECONDS
    while True:
        try:
            return await ask()
        except UnstorableError:
            raise
        except StoreError as error:
            say("%s (%s); trying again in %.2f s", what, error, pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
