"""Features are tested without the wait for the disk: what survives a loss of power is tested elsewhere."""

from __future__ import annotations

import asyncio
import inspect

import pytest


@pytest.fixture
def store_url(store_url):
    """As everywhere; SQLite does not flush each commit to the disk."""
    return f"{store_url}?synchronous=normal" if store_url.startswith("sqlite:") else store_url


@pytest.fixture
def until():
    """``await until(condition)``: give the loop its turns until the condition holds; it may be async."""

    async def until(condition):
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0)

    return until
