"""Features are tested without the wait for the disk: what survives a loss of power is tested elsewhere."""

from __future__ import annotations

import pytest


@pytest.fixture
def store_url(store_url):
    """As everywhere; SQLite does not flush each commit to the disk."""
    return f"{store_url}?synchronous=normal" if store_url.startswith("sqlite:") else store_url
