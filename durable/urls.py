"""From a URL to a store: schemes are entry points of the group ``durable.stores``.

durable imports no store; a third party's store is found the same way as its own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

from durable.durations import shown
from durable.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from durable.store import Store

__all__ = ["store_at"]

_GROUP = "durable.stores"


@cache
def _schemes() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - it costs a tenth of `import durable`

    return {one.name: one for one in entry_points(group=_GROUP)}


def store_at(where: object) -> Store:
    """The store that a URL names; a store is itself.

    Raises:
        ConfigError: It is neither; nobody serves the scheme; its driver is missing; an option is wrong. The
            message says what to write or install.

    Example:
        >>> store_at("memory://")  # doctest: +ELLIPSIS
        <durable_stores.memory...>
    """
    if not isinstance(where, str):
        if all(callable(getattr(where, door, None)) for door in ("admit", "claim", "commit")):
            return cast("Store", where)
        raise ConfigError(
            f"store must be a URL such as 'sqlite:///durable.db' or a Store object, got {shown(where)}"
        )
    scheme, separator, _ = where.partition("://")
    if not separator or not scheme:
        raise ConfigError(
            f"store {shown(where)} is no URL: write 'memory://', 'sqlite:///file.db' or 'redis://host/0'"
        )
    found = _schemes()
    entry = found.get(scheme)
    if entry is None:
        known = ", ".join(sorted(found)) or "none; is durable-engine installed?"
        raise ConfigError(f"store {shown(where)}: nobody serves the scheme {scheme!r} (known: {known})")
    try:
        make = cast("Callable[[str], Store]", entry.load())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("durable"):
            raise
        raise ConfigError(
            f"store {shown(where)}: its driver is missing ({error}); "
            f"run: pip install 'durable-engine[{scheme.partition('+')[0]}]'"
        ) from error
    return make(where)
