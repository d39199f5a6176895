"""The kinds of values in expressions, their errors, and the clock that bounds an evaluation.

Duty: what CEL has beside JSON (unsigned integers, types, bools as keys), and `Meter`. It may not know
operators.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from math import inf
from time import perf_counter
from types import NoneType
from typing import Final

from attrs import frozen

__all__ = [
    "BUDGET_S",
    "MANY",
    "NUMBERS",
    "ORDERED",
    "TYPES",
    "BoolKey",
    "CelType",
    "EvaluationError",
    "Meter",
    "OperationError",
    "OverBounds",
    "Uint",
    "Unmetered",
    "map_key",
    "type_name",
    "type_of",
    "unkeyed",
]

BUDGET_S: Final = 0.020
_PAUSE_S: Final = 0.005
"""Seconds that one evaluation may take of its thread."""

MANY: Final = 10_000
"""From this many characters or elements on, an operation looks at the clock."""


class EvaluationError(Exception):
    """An expression has no result for these documents: for a condition, no match. Never leaves the core."""


class OperationError(EvaluationError):
    """An operation is not defined for its operands: an error as CEL has them, which `&&` and `||` absorb."""


class OverBounds(EvaluationError):
    """The evaluation is too long or too large: nothing absorbs that."""


class Uint(int):
    """An unsigned integer of CEL: equal to the same int, but with arithmetic of its own."""

    __slots__ = ()


class BoolKey(Enum):
    """A boolean as a key of a map literal: Python takes True and 1 for the same key, CEL does not."""

    FALSE = 0
    TRUE = 1


@frozen
class CelType:
    """A type as a value: `type(1) == int`."""

    name: str


TYPES: Final = {
    name: CelType(name)
    for name in (
        *("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"),
        *("google.protobuf.Duration", "google.protobuf.Timestamp"),
    )
}
"""The types that have names."""

_TYPE_OF: Final[dict[type, str]] = {
    NoneType: "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    datetime: "google.protobuf.Timestamp",
    timedelta: "google.protobuf.Duration",
    CelType: "type",
}

NUMBERS: Final[frozenset[type]] = frozenset({int, float, Uint})
"""The types that compare by value with each other."""

ORDERED: Final[frozenset[type]] = frozenset({str, bool, bytes, datetime, timedelta})
"""The types that are ordered, each among its own."""


class Meter:
    """Twenty milliseconds, counted from the first call.

    It starts with the first operation that may be costly, so that cheap expressions never read the clock.

    No operation between two calls takes five milliseconds by itself: what takes longer was a pause of the
    garbage collector or of the machine, and five are counted. An event that misses its match is lost for a
    wait, so that a bound on work must not depend on what else a process does.
    """

    # Class attributes and no __init__: each evaluation makes one, few use it.
    last = inf
    left = BUDGET_S

    def __call__(self) -> None:
        """Look at the clock.

        Raises:
            OverBounds: The evaluation is over its time.
        """
        now = perf_counter()
        if now > self.last:
            self.left -= min(now - self.last, _PAUSE_S)
            if self.left <= 0:
                raise OverBounds(f"takes more than {BUDGET_S * 1000:.0f} ms")
        self.last = now


class Unmetered(Meter):
    """A meter for work that is bounded by the size of what it is done on."""

    def __call__(self) -> None:
        """Do nothing."""


def type_of(value: object) -> CelType:
    """CEL's type of a value."""
    name = _TYPE_OF.get(type(value))
    if name is None:
        raise OperationError(f"a {type(value).__name__} is no value of JSON")
    return TYPES[name]


def map_key(value: object) -> str | int | BoolKey:
    """The key under which a map literal keeps a value.

    Raises:
        OperationError: CEL allows strings, integers and bools.
    """
    if isinstance(value, bool):
        return BoolKey(int(value))
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return int(value)
    raise OperationError(f"{type_name(value)} is no key of a map")


def unkeyed(key: object) -> object:
    """The value of CEL that `map_key` turned into `key`."""
    return key is BoolKey.TRUE if isinstance(key, BoolKey) else key


def type_name(value: object) -> str:
    """What an error calls the type of a value."""
    found = _TYPE_OF.get(type(value))
    return "null" if value is None else found or type(value).__name__
