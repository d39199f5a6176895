"""Durations and points in time, as users write them, to whole milliseconds.

Duty: one reading of ``"4m45s"``, timedeltas, seconds, aware datetimes and ISO-8601 text for all of durable.
It knows errors and nothing else; it reads no clock.
"""

from __future__ import annotations

import math
import re
import reprlib
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from durable.errors import ConfigError

__all__ = [
    "Duration",
    "PointInTime",
    "format_ms",
    "from_ms",
    "point_or_duration_ms",
    "shown",
    "to_ms",
    "to_point_ms",
]

Duration: TypeAlias = str | float | timedelta
"""``"4m45s"``, a `timedelta`, or a number of seconds."""

PointInTime: TypeAlias = str | datetime
"""An aware `datetime`, or ISO-8601 text with an offset or ``Z``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_TEXT = re.compile("".join(rf"(?:([0-9]+(?:\.[0-9]+)?){unit})?" for unit, _ in _UNITS))
# Over 2,700 years: no real wait is longer, and a date that far from now can still be written.
_LONGEST_MS = 1_000_000 * 86_400_000
_LONGEST_TEXT = 100

_RIGHT = 'a duration such as "250ms", "30s", "4m45s", "24h" or "7d", a timedelta, or a number of seconds'
_RIGHT_POINT = (
    'an aware datetime, or ISO-8601 text with an offset such as "2030-01-31T09:00:00+01:00" or "…Z"'
)

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


def shown(value: object) -> str:
    """A short `repr` for messages: bounded, and never an error of the value's own.

    Example:
        >>> shown("4 minutes")
        "'4 minutes'"
    """
    return _repr.repr(value)


def to_ms(value: Duration, *, what: str = "duration") -> int:
    """Read a duration as whole milliseconds, rounded up.

    Args:
        value: Text of numbers and units (``w d h m s ms``, larger ones first, each at most once), a
            `timedelta`, or a number of seconds.
        what: What is being read, for the message.

    Returns:
        Milliseconds, 0 or more.

    Raises:
        ConfigError: It is no duration, is negative, not finite, or longer than a million days.

    Example:
        >>> to_ms("4m45s"), to_ms(0.25), to_ms(timedelta(days=7))
        (285000, 250, 604800000)
    """
    if isinstance(value, str):
        ms = _read_text(value)
    elif isinstance(value, timedelta):
        ms = -(value // timedelta(milliseconds=-1)) if value >= timedelta(0) else -1
    else:
        ms = _read_seconds(value)
    if ms is None:
        msg = f"{what} must be {_RIGHT}; got {shown(value)}"
        raise ConfigError(msg)
    if ms < 0:
        msg = f"{what} must not be negative; got {shown(value)}"
        raise ConfigError(msg)
    if ms > _LONGEST_MS:
        msg = f"{what} must be at most 1,000,000 days; got {shown(value)}"
        raise ConfigError(msg)
    return ms


@lru_cache(maxsize=1024)
def _read_text(text: str) -> int | None:
    found = _TEXT.fullmatch(text) if 0 < len(text) <= _LONGEST_TEXT else None
    if found is None:
        return None
    total = sum(Fraction(n) * ms for n, (_, ms) in zip(found.groups(), _UNITS, strict=True) if n)
    return math.ceil(total)


def _read_seconds(value: object) -> int | None:
    """Milliseconds of a number of seconds; ``None`` for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value * 1000
    return _read_float(value) if math.isfinite(value) else None


@lru_cache(maxsize=1024)
def _read_float(value: float) -> int:
    # Through the number's shortest text: 16.1 s are 16,100 ms, although 16.1 * 1000 is a little more.
    return math.ceil(Fraction(float.__repr__(value)) * 1000)


def to_point_ms(value: PointInTime, *, what: str = "point in time") -> int:
    """Read a point in time as whole milliseconds since the epoch, rounded up.

    Args:
        value: An aware `datetime`, or ISO-8601 text with an offset or ``Z``.
        what: What is being read, for the message.

    Returns:
        Milliseconds since 1970-01-01T00:00:00Z; negative before it.

    Raises:
        ConfigError: It is no point in time, or has no time zone: that is never guessed.

    Example:
        >>> to_point_ms("1970-01-01T01:00:00+01:00")
        0
    """
    when = _read_point(value)
    if when is None:
        msg = f"{what} must be {_RIGHT_POINT}; got {shown(value)}"
        raise ConfigError(msg)
    if when.utcoffset() is None:
        msg = f"{what} has no time zone: it must be {_RIGHT_POINT}; got {shown(value)}"
        raise ConfigError(msg)
    return -((_EPOCH - when) // timedelta(milliseconds=1))


def _read_point(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def point_or_duration_ms(
    value: Duration | PointInTime, now_ms: int, *, what: str = "duration or point in time"
) -> int:
    """Read a point in time, or a duration from now, as milliseconds since the epoch.

    Args:
        value: Anything that `to_ms` or `to_point_ms` reads.
        now_ms: What a duration counts from, in milliseconds since the epoch.
        what: What is being read, for the message.

    Returns:
        Milliseconds since the epoch.

    Raises:
        ConfigError: It is neither, or a point without a time zone.

    Example:
        >>> point_or_duration_ms("30s", 1_000)
        31000
    """
    if isinstance(value, datetime):
        return to_point_ms(value, what=what)
    if isinstance(value, str) and _read_text(value) is None:
        if _read_point(value) is None:
            msg = f"{what} must be {_RIGHT}; or {_RIGHT_POINT}; got {shown(value)}"
            raise ConfigError(msg)
        return to_point_ms(value, what=what)
    return now_ms + to_ms(value, what=what)


def from_ms(ms: int) -> datetime:
    """The aware datetime, in UTC, of milliseconds since the epoch.

    Raises:
        OverflowError: It is outside the years 1 to 9999.

    Example:
        >>> from_ms(0).isoformat()
        '1970-01-01T00:00:00+00:00'
    """
    return _EPOCH + timedelta(milliseconds=ms)


def format_ms(ms: int) -> str:
    """Milliseconds as a person writes them; `to_ms` reads the text back.

    Example:
        >>> format_ms(285_000), format_ms(0)
        ('4m45s', '0s')
    """
    if ms == 0:
        return "0s"
    parts: list[str] = []
    rest = abs(ms)
    for unit, size in _UNITS[1:]:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if ms < 0 else "") + "".join(parts)
