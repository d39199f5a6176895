"""The demo's events: the webhooks that are shipped with it, or a file of the user's."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from durable.errors import DurableError, EventRejected
from durable.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SHIPPED", "EventFileError", "load", "patterns_of"]

SHIPPED = Path(__file__).with_name("github-webhooks.jsonl.gz")
"""44 payloads; where they are from stands beside them."""

MOST_PATTERNS = 10
"""Triggers that one function may have."""

_GZIP = b"\x1f\x8b"


class EventFileError(DurableError):
    """A file of events cannot be used: the message names the line and says what would be right."""


def load(path: Path = SHIPPED) -> list[Event[dict[str, Any]]]:
    """The events of a file: one ``{"name": ..., "data": {...}}`` a line, compressed with gzip or not.

    Raises:
        EventFileError: It cannot be read, a line is no event, or there is none.
    """
    events = [
        _event(line, f"{path}, line {number}")
        for number, line in enumerate(_read(path).splitlines(), start=1)
        if line.strip()
    ]
    if not events:
        raise EventFileError(f'{path} holds no events: write one {{"name": ..., "data": {{...}}}} a line')
    return events


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except OSError as error:
        raise EventFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error):
        raise EventFileError(f"{path} is a gzip file that is damaged or cut off") from None


def _event(line: bytes, where: str) -> Event[dict[str, Any]]:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise EventFileError(f"{where} is not JSON: {error}") from None
    about = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    if not isinstance(about.get("name"), str):
        raise EventFileError(f'{where} is no event: an object with a "name" (text) and "data" (an object)')
    unknown = sorted(about.keys() - {"name", "data"})
    if unknown:
        raise EventFileError(
            f'{where}: only "name" and "data" are known, not {", ".join(map(repr, unknown))}'
        )
    try:
        return Event(about["name"], about.get("data"))
    except EventRejected as error:
        raise EventFileError(f"{where}: {error}") from None


def patterns_of(events: Sequence[Event[Any]]) -> list[str]:
    """Triggers that fit the events' names: ``"github/*"``; the most frequent ones first, ten at most."""
    counts = Counter(pattern for event in events if (pattern := _pattern(event.name)))
    return [pattern for pattern, _ in counts.most_common(MOST_PATTERNS)]


def _pattern(name: str) -> str | None:
    """The pattern that fits a name, or the name; ``None`` where a star in it stands in the way."""
    head, _, tail = name.partition("/")
    if head and tail and "*" not in head:
        return f"{head}/*"
    return None if "*" in name else name
