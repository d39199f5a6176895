"""The door to expressions: what the rest of durable calls, without paying for it before it is used.

`cel` and what stands behind it are imported with the first expression; a program without one never does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable._core.cel import JSON, Condition, Key, Priority

__all__ = [
    "compile_condition",
    "compile_key",
    "compile_match",
    "compile_priority",
    "index_key",
    "lookup",
    "prune",
]

_EVENT = frozenset({"event"})


def compile_condition(text: str, *, roots: frozenset[str] = _EVENT) -> Condition:
    """See `cel.compile_condition`."""
    from durable._core import cel  # noqa: PLC0415 - on first use, here and below

    return cel.compile_condition(text, roots=roots)


def compile_match(path_text: str) -> Condition:
    """See `cel.compile_match`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.compile_match(path_text)


def compile_key(text: str) -> Key:
    """See `cel.compile_key`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.compile_key(text)


def compile_priority(text: str) -> Priority:
    """See `cel.compile_priority`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.compile_priority(text)


def index_key(value: JSON) -> str | None:
    """See `cel.index_key`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.index_key(value)


def lookup(document: JSON, path: tuple[str, ...]) -> JSON:
    """See `cel.lookup`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.lookup(document, path)


def prune(condition: Condition, event: JSON) -> JSON:
    """See `cel.prune`."""
    from durable._core import cel  # noqa: PLC0415

    return cel.prune(condition, event)
