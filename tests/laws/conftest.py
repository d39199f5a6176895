import gc

import pytest


@pytest.fixture(autouse=True)
def thaw():
    """Trials freeze what the collector has looked at; afterwards it looks at everything again."""
    yield
    gc.unfreeze()
