"""Values of expressions as text: what `+` concatenates, what keys are, what an index compares.

Duty: one text for equal values. It may not know texts of expressions, trees or closures.
"""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii as quoted
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, cast

from durable._core.cel_kinds import MANY, CelType, OperationError, unkeyed

if TYPE_CHECKING:
    from durable._core.cel_kinds import Meter

__all__ = ["as_text", "canonical"]


def number_text(value: float) -> str:
    """A number as text: equal numbers alike, so `1.0` is `1`.

    Beyond 64 bits an integral number is written as a double writes itself, if that loses nothing.
    """
    if abs(value) < 2**64:
        return str(int(value)) if value == int(value) else repr(value)
    if type(value) is float:
        return repr(value)
    nearest = float(value) if abs(value) < 2**1023 else inf
    return repr(nearest) if nearest == value else str(value)


def as_text(value: object, meter: Meter) -> str:  # noqa: PLR0911 (one line per kind of value)
    """A value as `+` and keys write it: strings as they are, lists and maps as canonical JSON.

    Raises:
        OperationError: Bytes that are not UTF-8.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return _number_or_name(value)
    if isinstance(value, datetime):
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat()
        return (text.rstrip("0") if "." in text else text) + "Z"
    if isinstance(value, timedelta):
        return _duration_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise OperationError("bytes that are not UTF-8 have no text") from None
    return value.name if isinstance(value, CelType) else canonical(value, meter)


def _number_or_name(value: float) -> str:
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return number_text(value)


def _duration_text(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{'-' if micros < 0 else ''}{seconds}{fraction}s"


class _Ready(str):
    """Text that is already JSON, between values that are not."""

    __slots__ = ()


def canonical(value: object, meter: Meter) -> str:
    """Canonical JSON: sorted keys, no spaces, equal values alike, and different ones different.

    Why iterative: see `equal`.

    Example:
        >>> from durable._core.cel_kinds import Meter
        >>> canonical({"b": 1.0, "a": [True, None]}, Meter())
        '{"a":[true,null],"b":1}'
    """
    if not isinstance(value, (list, dict)):
        return _scalar(value, meter)
    out: list[str] = []
    pending: list[object] = [cast("object", value)]
    size = 0
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += _listed(cast("list[object]", item))
        elif isinstance(item, dict):
            pending += _mapped(cast("dict[object, object]", item), meter)
        else:
            out.append(_scalar(item, meter))
            size += len(out[-1])
        if len(out) & 0x3FF == 0:
            meter()
    if size >= MANY:
        meter()
    return "".join(out)


def _listed(items: list[object]) -> list[object]:
    """What to write for a list, last part first."""
    parts: list[object] = [_Ready("]")]
    for item in reversed(items):
        parts += (item, _Ready(","))
    return [*parts[:-1], _Ready("[")] if items else [*parts, _Ready("[")]


def _mapped(items: dict[object, object], meter: Meter) -> list[object]:
    """What to write for a map, last part first."""
    named = [(as_text(unkeyed(key), meter), value) for key, value in items.items()]
    named.sort(key=operator.itemgetter(0), reverse=True)
    parts: list[object] = [_Ready("}")]
    for name, value in named:
        parts += (value, _Ready(f"{quoted(name)}:"), _Ready(","))
    return [*parts[:-1], _Ready("{")] if named else [*parts, _Ready("{")]


def _scalar(value: object, meter: Meter) -> str:
    if type(value) is str:
        return quoted(value)
    if isinstance(value, _Ready):
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return as_text(value, meter)
    return quoted(as_text(value, meter))
