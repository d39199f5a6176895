"""The functions and methods of CEL over the values of `cel_values`.

Duty: conversions, strings, regular expressions (RE2), timestamps and durations. The only module that knows
re2. It may not know texts, trees or closures; of the system's time zones it reads what `zoneinfo` caches.

re2 comes with celpy, whose own `matches` needs it, and is imported on first use.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from importlib import import_module
from math import isfinite, trunc
from types import NoneType
from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo

from durable._core.cel_kinds import MANY, Meter, OperationError, OverBounds, Uint, type_of
from durable._core.cel_rendering import as_text
from durable._core.cel_values import integer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Pattern(Protocol):
        """What we use of a compiled pattern of re2."""

        def search(self, text: str) -> object:
            """A match anywhere in `text`, or ``None``."""
            ...


__all__ = ["CALLS", "pattern", "zone"]

_LONGEST_MATCHED = 65_536
_LONGEST_PATTERN = 1_024
_LONGEST_NUMBER = 400
_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[-+]\d\d:\d\d)", re.ASCII)
_DURATION = re.compile(r"[-+]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MICROSECONDS: Final = {
    "ns": Decimal("0.001"),
    "us": Decimal(1),
    "µs": Decimal(1),
    "μs": Decimal(1),
    "ms": Decimal(1_000),
    "s": Decimal(1_000_000),
    "m": Decimal(60_000_000),
    "h": Decimal(3_600_000_000),
}
_LONGEST_DURATION = timedelta(seconds=315_576_000_000)
_OFFSET = re.compile(r"([-+]?)(\d\d):(\d\d)", re.ASCII)
_BOOLS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _refused(name: str, value: object) -> OperationError:
    return OperationError(f"`{name}` is not defined for {type_of(value).name}")


def _int(value: object, _meter: Meter) -> object:
    if isinstance(value, bool):
        raise _refused("int", value)
    if isinstance(value, int):
        return integer(int(value))
    if isinstance(value, float) and isfinite(value):
        return integer(trunc(value))
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _WHOLE.fullmatch(value):
        return integer(int(value))
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(seconds=1)
    raise (
        _refused("int", value)
        if not isinstance(value, str)
        else OperationError("`int` of a text that is no integer")
    )


def _uint(value: object, meter: Meter) -> object:
    found = int(value) if type(value) is Uint else None
    if isinstance(value, float) and isfinite(value):
        found = trunc(value)
    elif isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _WHOLE.fullmatch(value):
        found = int(value)
    elif found is None:
        if isinstance(value, datetime):
            raise _refused("uint", value)
        found = cast("int", _int(value, meter))
    if not 0 <= found < 2**64:
        raise OperationError("`uint` of a number out of range")
    return Uint(found)


def _double(value: object, _meter: Meter) -> object:
    if isinstance(value, bool):
        raise _refused("double", value)
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _DECIMAL.fullmatch(value):
        return float(value)
    raise (
        _refused("double", value)
        if not isinstance(value, str)
        else OperationError("`double` of a text that is no number")
    )


def _string(value: object, meter: Meter) -> object:
    if type(value) in (NoneType, list, dict):
        raise _refused("string", value)
    return as_text(value, meter)


def _bool(value: object, _meter: Meter) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in _BOOLS:
            return _BOOLS[value]
        raise OperationError("`bool` of a text that is no bool")
    raise _refused("bool", value)


def _bytes(value: object, _meter: Meter) -> object:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise OperationError("`bytes` of a text with half a surrogate pair") from None
    raise _refused("bytes", value)


def _size(value: object, _meter: Meter) -> object:
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, (list, dict)):
        return len(cast("list[object] | dict[object, object]", value))
    raise _refused("size", value)


def _type(value: object, _meter: Meter) -> object:
    return type_of(value)


def _timestamp(value: object, _meter: Meter) -> object:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return _EPOCH + timedelta(seconds=value)
        if not isinstance(value, str):
            raise _refused("timestamp", value)
        parts = _TIME.fullmatch(value)
        if parts is not None:
            # Python keeps microseconds: the rest of the nanoseconds is cut off.
            offset = "+00:00" if parts[4] in "Zz" else parts[4]
            return datetime.fromisoformat(f"{parts[1]}T{parts[2]}{(parts[3] or '')[:7]}{offset}").astimezone(
                UTC
            )
    except (ValueError, OverflowError):
        pass
    raise OperationError('`timestamp` takes RFC 3339: "2024-02-29T12:00:00Z"')


def _duration(value: object, _meter: Meter) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise _refused("duration", value)
    if len(value) <= _LONGEST_NUMBER and _DURATION.fullmatch(value):
        parts = _DURATION_PART.findall(value)
        micros = sum((Decimal(number) * _MICROSECONDS[unit] for number, unit in parts), Decimal(0))
        if micros <= _LONGEST_DURATION // timedelta(microseconds=1):
            return timedelta(microseconds=int(micros)) * (-1 if value.startswith("-") else 1)
    raise OperationError('`duration` takes numbers with units: "1h30m", "2.5s"; at most 315576000000s')


def _strings(name: str, test: Callable[[str, str], bool]) -> Callable[[object, object, Meter], object]:
    def run(text: object, part: object, meter: Meter) -> object:
        if not isinstance(text, str) or not isinstance(part, str):
            raise _refused(name, part if isinstance(text, str) else text)
        if len(text) >= MANY:
            meter()
        return test(text, part)

    return run


@lru_cache(maxsize=512)
def pattern(text: str) -> Pattern:
    """A compiled pattern of RE2, which takes linear time.

    Raises:
        OperationError: It is none, or too long.
    """
    if len(text) > _LONGEST_PATTERN:
        raise OperationError(f"a pattern may have {_LONGEST_PATTERN:,} characters")
    try:
        return _re2()(text)
    except UnicodeEncodeError:
        reason = "half of a surrogate pair"
    except Exception as error:
        found = error.args[0] if error.args else ""
        reason = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
    raise OperationError(f"{text!r} is no pattern of RE2: {reason}")


@cache
def _re2() -> Callable[[str], Pattern]:
    re2 = import_module("re2")  # untyped, and on first use
    options = re2.Options()
    options.log_errors = False
    return lambda text: cast("Pattern", re2.compile(text, options))


def _matches(text: object, wanted: object, meter: Meter) -> object:
    if not isinstance(text, str) or not isinstance(wanted, str):
        raise _refused("matches", wanted if isinstance(text, str) else text)
    if len(text) > _LONGEST_MATCHED:
        raise OverBounds(f"`matches` over a text of more than {_LONGEST_MATCHED:,} characters")
    found = pattern(wanted)
    meter()
    try:
        return found.search(text) is not None
    except UnicodeEncodeError:
        raise OperationError("`matches` of a text with half a surrogate pair") from None
    finally:
        meter()


@lru_cache(maxsize=512)
def zone(name: str) -> tzinfo:
    """The time zone of an IANA name, "UTC", or an offset such as "+01:00".

    Raises:
        OperationError: There is none of that name.
    """
    offset = _OFFSET.fullmatch(name)
    try:
        if offset is not None:
            ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
            return timezone(-ahead if offset[1] == "-" else ahead)
        return UTC if name == "UTC" else ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise OperationError(
            f"{name[:60]!r} is no time zone; write 'Europe/Paris', 'UTC' or '+01:00'"
        ) from None


def _getter(
    name: str, of_time: Callable[[datetime], int], of_duration: Callable[[timedelta], int] | None = None
) -> Callable[..., object]:
    def run(value: object, *rest: object) -> object:
        if isinstance(value, timedelta) and of_duration is not None and len(rest) == 1:
            return of_duration(value)
        if not isinstance(value, datetime):
            raise _refused(name, value)
        where: tzinfo = UTC
        if len(rest) > 1:
            if not isinstance(rest[0], str):
                raise _refused(name, rest[0])
            where = zone(rest[0])
        try:
            return of_time(value.astimezone(where))
        except OverflowError:
            raise OperationError("a time out of range") from None

    return run


def _whole_units(unit: timedelta) -> Callable[[timedelta], int]:
    return lambda value: value // unit if value >= timedelta(0) else -(-value // unit)


CALLS: Final[dict[str, Callable[..., object]]] = {
    "bool": _bool,
    "bytes": _bytes,
    "contains": _strings("contains", lambda text, part: part in text),
    "double": _double,
    "duration": _duration,
    "endsWith": _strings("endsWith", str.endswith),
    "getDate": _getter("getDate", lambda time: time.day),
    "getDayOfMonth": _getter("getDayOfMonth", lambda time: time.day - 1),
    "getDayOfWeek": _getter("getDayOfWeek", lambda time: time.isoweekday() % 7),
    "getDayOfYear": _getter("getDayOfYear", lambda time: time.timetuple().tm_yday - 1),
    "getFullYear": _getter("getFullYear", lambda time: time.year),
    "getHours": _getter("getHours", lambda time: time.hour, _whole_units(timedelta(hours=1))),
    "getMilliseconds": _getter(
        "getMilliseconds", lambda time: time.microsecond // 1000, _whole_units(timedelta(milliseconds=1))
    ),
    "getMinutes": _getter("getMinutes", lambda time: time.minute, _whole_units(timedelta(minutes=1))),
    "getMonth": _getter("getMonth", lambda time: time.month - 1),
    "getSeconds": _getter("getSeconds", lambda time: time.second, _whole_units(timedelta(seconds=1))),
    "int": _int,
    "matches": _matches,
    "size": _size,
    "startsWith": _strings("startsWith", str.startswith),
    "string": _string,
    "timestamp": _timestamp,
    "type": _type,
    "uint": _uint,
}
"""Each function or method by name; all take their arguments, the target first, and then a `Meter`."""
