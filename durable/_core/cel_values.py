"""What the operators of expressions mean over raw JSON: equality, order, lookup, arithmetic.

Duty: standard CEL with its leniencies, on values as orjson decodes them. It may not know
texts of expressions, trees or closures.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

from durable._core.cel_kinds import (
    MANY,
    NUMBERS,
    ORDERED,
    Meter,
    OperationError,
    OverBounds,
    Uint,
    map_key,
    type_name,
)
from durable._core.cel_rendering import as_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "add",
    "arithmetic",
    "contains",
    "equal",
    "fetch",
    "integer",
    "negate",
    "ordered",
]

_LONGEST_TEXT = 262_144
_LONGEST_LIST = 100_000


def equal(a: object, b: object, meter: Meter) -> bool:  # noqa: C901, PLR0911 (one loop, no recursion)
    """Whether `a == b`: deep, numbers by value (exactly, beyond 2^53 too), bool never equal to a number.

    Why iterative: documents may be nested deeper than Python's stack, and macros can build lists whose parts
    are shared so often that only the clock ends the walk.
    """
    kind = type(a)
    if kind is not list and kind is not dict:
        other = type(b)
        return (kind is other or (kind in NUMBERS and other in NUMBERS)) and a == b
    pending: list[tuple[object, object]] = [(a, b)]
    seen = 0
    while pending:
        left, right = pending.pop()
        seen += 1
        if seen & 0x3FF == 0:
            meter()
        if isinstance(left, list):
            if not isinstance(right, list):
                return False
            lefts, rights = cast("list[object]", left), cast("list[object]", right)
            if len(lefts) != len(rights):
                return False
            pending.extend(zip(lefts, rights, strict=True))
        elif isinstance(left, dict):
            if not isinstance(right, dict):
                return False
            ours, theirs = cast("dict[object, object]", left), cast("dict[object, object]", right)
            if ours.keys() != theirs.keys():
                return False
            pending.extend((value, theirs[key]) for key, value in ours.items())
        elif not equal(left, right, meter):
            return False
    return True


def ordered(compare: Callable[[object, object], bool], a: object, b: object) -> bool:
    """Whether `compare` (one of Python's `lt`, `le`, `gt`, `ge`) holds.

    Raises:
        OperationError: Different types, null, or a type without an order.
    """
    kind, other = type(a), type(b)
    if (kind in NUMBERS and other in NUMBERS) or (kind is other and kind in ORDERED):
        return compare(a, b)
    raise OperationError(f"no order between {type_name(a)} and {type_name(b)}")


def contains(item: object, container: object, meter: Meter) -> bool:
    """Whether `item in container`: an element of a list, or a key of a map.

    Raises:
        OperationError: The container is neither.
    """
    if isinstance(container, dict):
        return _lookup_key(item) in cast("dict[object, object]", container)
    if not isinstance(container, list):
        raise OperationError(f"`in` asks a list or a map, not {type_name(container)}")
    elements = cast("list[object]", container)
    if len(elements) >= MANY:
        meter()
    return any(equal(item, element, meter) for element in elements)


def fetch(start: object, key: object) -> object:
    """`start[key]`; null for what is not there, of whatever kind `start` and `key` are."""
    if isinstance(start, dict):
        return cast("dict[object, object]", start).get(_lookup_key(key))
    if isinstance(start, list):
        place = _lookup_key(key)
        elements = cast("list[object]", start)
        if isinstance(place, int) and 0 <= place < len(elements):
            return elements[place]
    return None


_NO_KEY = object()


def _lookup_key(value: object) -> object:
    """The dict key for a value of CEL; one that no dict holds if it can be no key."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    if kind is float and cast("float", value).is_integer():
        return int(cast("float", value))
    try:
        return map_key(value)
    except OperationError:
        return _NO_KEY


def negate(value: object) -> object:
    """`-value`, for int and double."""
    if type(value) is int:
        return integer(-value)
    if type(value) is float:
        return -value
    raise OperationError(f"no `-` for {type_name(value)}")


def integer(value: int) -> int:
    """`value`, if it fits into CEL's int.

    Raises:
        OperationError: It needs more than 64 bits.
    """
    if -(2**63) <= value < 2**63:
        return value
    raise OperationError("integer overflow")


def add(a: object, b: object, meter: Meter) -> object:
    """`a + b`: numbers, lists, bytes, times; text as soon as one side is a string.

    Raises:
        OperationError: The operands do not add, or overflow.
        OverBounds: The result is too long.
    """
    if type(a) is int and type(b) is int:
        return integer(a + b)
    joined = _joined(a, b, meter)
    return arithmetic("+", a, b) if joined is None else joined


def _joined(a: object, b: object, meter: Meter) -> _Sized | None:
    if isinstance(a, str) or isinstance(b, str):
        return _bounded(as_text(a, meter) + as_text(b, meter), _LONGEST_TEXT, meter)
    if isinstance(a, list) and isinstance(b, list):
        return _bounded(cast("list[object]", a) + cast("list[object]", b), _LONGEST_LIST, meter)
    if isinstance(a, bytes) and isinstance(b, bytes):
        return _bounded(a + b, _LONGEST_TEXT, meter)
    return None


_Sized: TypeAlias = "str | bytes | list[object]"


def _bounded(value: _Sized, most: int, meter: Meter) -> _Sized:
    if len(value) >= MANY:
        meter()
        if len(value) > most:
            raise OverBounds(f"`+` makes more than {most:,} characters or elements")
    return value


def arithmetic(sign: str, a: object, b: object) -> object:
    """`a sign b` for one of ``+ - * / %`` over numbers, and ``+ -`` over timestamps and durations.

    An int beside a double counts as a double: JSON writers do not tell 10 from 10.0.

    Raises:
        OperationError: Overflow, division by zero, or operands that do not go together.
    """
    kind, other = type(a), type(b)
    if kind in NUMBERS and other in NUMBERS:
        if kind is float or other is float:
            if Uint not in (kind, other):
                return _of_doubles(sign, float(cast("float", a)), float(cast("float", b)))
        elif kind is other:
            result = _of_integers(sign, int(cast("int", a)), int(cast("int", b)))
            if kind is int:
                return integer(result)
            if 0 <= result < 2**64:
                return Uint(result)
            raise OperationError("unsigned integer overflow")
    elif sign in "+-":
        try:
            return _of_times(sign, a, b)
        except OverflowError:
            raise OperationError("a time out of range") from None
    raise OperationError(f"no `{sign}` between {type_name(a)} and {type_name(b)}")


def _of_integers(sign: str, a: int, b: int) -> int:
    match sign:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case _:
            if b == 0:
                raise OperationError("division by zero")
            if sign == "/":
                return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            return abs(a) % abs(b) * (-1 if a < 0 else 1)


def _of_doubles(sign: str, a: float, b: float) -> float:
    match sign:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            if b == 0:
                raise OperationError("division by zero")
            return a / b
        case _:
            raise OperationError("no `%` for double; convert with int(…)")


def _of_times(sign: str, a: object, b: object) -> object:
    if isinstance(b, timedelta):
        if isinstance(a, (datetime, timedelta)):
            return a + b if sign == "+" else a - b
    elif isinstance(a, timedelta) and isinstance(b, datetime) and sign == "+":
        return b + a
    elif isinstance(a, datetime) and isinstance(b, datetime) and sign == "-":
        return a - b
    raise OperationError(f"no `{sign}` between {type_name(a)} and {type_name(b)}")
