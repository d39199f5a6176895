"""What the exam needs to know of a store: how to make one, and how the process of an engine dies.

This module may not know any store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.store import Store

__all__ = ["Checked", "Harness"]


class Harness(Protocol):
    """Implement it for a store, and hand it to `cases` and `run_history`.

    Example:
        >>> class MemoryHarness:
        ...     async def open(self):
        ...         store = MemoryStore()
        ...         await store.open()
        ...         return store
        ...
        ...     async def close(self, store):
        ...         await store.close()
        ...
        ...     async def kill(self, store, engine):
        ...         store.sever(engine)
        ...
        ...     async def restart(self, store, engines):
        ...         for engine in engines:
        ...             store.sever(engine)
        ...         return store
    """

    async def open(self) -> Store:
        """A new store without any data, opened."""
        ...

    async def close(self, store: Store) -> None:
        """Close it, and remove what it has left behind."""
        ...

    async def kill(self, store: Store, engine: str) -> None:
        """The process of one engine dies: it does not leave, and `dead` names it from now on."""
        ...

    async def restart(self, store: Store, engines: Sequence[str]) -> Store:
        """The process dies that uses the store, with these engines in it; another one opens the same data."""
        ...


@runtime_checkable
class Checked(Protocol):
    """A store that can examine its own indexes: the exam calls `check` after everything that it does."""

    async def check(self) -> None:
        """Say what is wrong, if anything is.

        Among the rest: no lane is blocked at an open gate unless a ready lane of the same (gate, pool,
        limit) has a better head.

        Raises:
            AssertionError: An index does not agree with the data.
        """
        ...
