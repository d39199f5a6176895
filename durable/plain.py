"""The JSON form of each type that may be stored, and why a value has none.

Duty: one step from any such object towards JSON (`plain`), and the search for the part of a value that JSON
cannot hold (`flaw`, `survives`). It knows orjson, msgspec and the look of pydantic's models, which it never
imports; it writes no bytes and reads none that are stored.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, cast, get_args
from uuid import UUID

import attrs
import msgspec
import orjson

from durable.durations import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["OPTIONS", "encodes_to_object", "flaw", "is_model", "plain", "survives"]

# Dataclasses go through our own fields: orjson leaves out those that begin with an underscore and adds what
# happens to lie in `__dict__`. Datetimes too: it rounds offsets to minutes.
OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""How orjson has to be called, so that the forms below hold."""

_DEEPEST = 254  # orjson's own bound
_SCALARS: frozenset[type] = frozenset({str, int, bool, NoneType})
_CONTAINERS: frozenset[type] = frozenset({dict, list})


def plain(value: object) -> Any:
    """What orjson cannot write by itself, one step nearer to what it can.

    Raises:
        TypeError: The type has no form in JSON.

    Example:
        >>> plain(b"!")
        'IQ=='
    """
    kind: type = type(value)
    plan = _plan(kind)
    if plan is None:
        msg = f"{kind.__qualname__} has no form in JSON"
        raise TypeError(msg)
    return plan(value)


@lru_cache(maxsize=4096)
def _plan(kind: type) -> Callable[[Any], Any] | None:
    """How values of a type are written; ``None``: not at all."""
    for base, plan in _PLANS:
        if issubclass(kind, base):
            return plan
    if is_model(kind):
        return _dump_wary if _may_lose(kind, set()) else _dump_model
    if attrs.has(kind):
        return _fields_of([field.name for field in attrs.fields(kind)])
    if dataclasses.is_dataclass(kind):
        return _fields_of([field.name for field in dataclasses.fields(kind)])
    return None


def _fields_of(names: list[str]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: getattr(value, name) for name in names}


def _dump_datetime(value: datetime) -> str:
    offset = value.utcoffset()
    if offset is not None and (offset.seconds % 60 or offset.microseconds):
        # Local mean time has seconds in its offset, for which there is no place in the text.
        value = value.astimezone(UTC)
    return value.isoformat()


def _dump_time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        msg = "its offset depends on the day, which a time does not have"
        raise ValueError(msg)
    return value.isoformat()


def _dump_set(value: set[Any] | frozenset[Any]) -> list[Any]:
    if all(type(item) is str for item in value) or all(type(item) is int for item in value):
        return sorted(value)
    return sorted(value, key=lambda item: orjson.dumps(item, plain, OPTIONS))


def _dump_model(value: Any) -> Any:
    # By field name, which decoding accepts whatever aliases there are.
    try:
        return value.model_dump(mode="json", by_alias=False, round_trip=True)
    except ValueError as exc:
        if "utf-8" not in str(exc):
            raise
        msg = (
            f"{exc}; for bytes that are no text, give the model "
            "`model_config = ConfigDict(ser_json_bytes='base64', val_json_bytes='base64')`"
        )
        raise ValueError(msg) from exc


def _dump_wary(value: Any) -> Any:
    """As `_dump_model`, for a model of which pydantic may leave something out, or write asterisks."""
    dumped = _dump_model(value)
    lost = _lost(value, dumped, "")
    if lost:
        raise ValueError(lost)
    return dumped


def _may_lose(kind: Any, seen: set[type]) -> bool:
    """Whether a model has, at any depth, fields that are secret or excluded."""
    if kind in seen:
        return False
    seen.add(kind)
    for field in getattr(kind, "model_fields", {}).values():
        parts = [field.annotation]
        for part in parts:
            parts.extend(get_args(part))
        if field.exclude or any(hasattr(part, "get_secret_value") for part in parts):
            return True
        if any(is_model(part) and _may_lose(part, seen) for part in parts):
            return True
    return False


def _lost(value: Any, dumped: Any, where: str) -> str | None:
    """What of a model's value is not in what pydantic made of it."""
    if hasattr(value, "get_secret_value"):
        if not dumped or dumped != str(value) or dumped == value.get_secret_value():
            return None
        return (
            f"field {where} is a secret, of which pydantic writes asterisks: give it a field_serializer that "
            "writes its value, or keep it out of what is stored"
        )
    kind: type[Any] = value.__class__
    made: type[Any] = dumped.__class__
    if is_model(kind):
        return _lost_of_model(value, dumped, where)
    if issubclass(kind, dict) and made is dict:
        pairs = zip(value.items(), dumped.values(), strict=False)
        inner = [(item, form, f"{where}[{key!r}]") for (key, item), form in pairs]
    elif issubclass(kind, list | tuple | set | frozenset) and made is list:
        inner = [
            (item, form, f"{where}[{n}]") for n, (item, form) in enumerate(zip(value, dumped, strict=False))
        ]
    else:
        return None
    return next((found for one in inner if (found := _lost(*one))), None)


def _lost_of_model(value: Any, dumped: Any, where: str) -> str | None:
    kind: type[Any] = value.__class__
    for name, field in getattr(kind, "model_fields", {}).items():
        item = getattr(value, name)
        path = f"{where}.{name}" if where else name
        if field.exclude:
            if not _is_default(field, item):
                return f"field {path} is excluded from what its model writes, and its value would be lost"
        elif found := _lost(
            item, dumped[name] if isinstance(dumped, dict) and name in dumped else dumped, path
        ):
            return found
    return None


def _is_default(field: Any, value: Any) -> bool:
    try:
        return bool(field.get_default(call_default_factory=True) == value)
    except Exception:  # a factory that needs the other fields
        return False


def _dump_struct(value: msgspec.Struct) -> Any:
    return msgspec.to_builtins(value, enc_hook=plain)


def is_model(kind: object) -> bool:
    """Whether it is one of pydantic's model classes, told without importing pydantic."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


_PLANS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (datetime, _dump_datetime),
    (date, date.isoformat),
    (time, _dump_time),
    (timedelta, msgspec.to_builtins),
    ((UUID, Decimal), str),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode()),
    ((set, frozenset), _dump_set),
    (tuple, list),
    (float, float),
    (msgspec.Struct, _dump_struct),
)


def encodes_to_object(value: object) -> bool:
    """Whether a value becomes a JSON object: a dict, or an instance of a class with fields."""
    if isinstance(value, dict):
        return True
    kind = type(value)
    return (
        is_model(kind)
        or attrs.has(kind)
        or dataclasses.is_dataclass(kind)
        or (isinstance(value, msgspec.Struct) and not value.__struct_config__.array_like)
    )


# ---------------------------------------------------------------- what cannot be written, and where


def survives(value: object, data: bytes) -> bool:
    """Whether no NaN or infinity was written as ``null``.

    Args:
        value: What was written.
        data: The bytes that orjson made of it.
    """
    try:
        if type(value) in _CONTAINERS and bool(orjson.loads(data) == value):
            return True
    except Exception:  # noqa: S110 - somebody's own comparison: look for ourselves
        pass
    parts: list[object] = [value]
    for part in parts:  # grows meanwhile; it comes to an end, for orjson came to one
        if isinstance(part, float):
            if not math.isfinite(part):
                return False
        elif type(part) not in _SCALARS:
            parts.extend(_inside(part))
    return True


def _inside(value: object) -> Iterable[Any]:
    """The parts of a value that orjson could write."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    if isinstance(value, list | tuple):
        return cast("list[Any]", value)
    if isinstance(value, enum.Enum):
        return (value.value,)
    if isinstance(value, str | int | UUID):
        return ()
    return (plain(value),)


def flaw(value: Any, path: str = "$", above: tuple[int, ...] = ()) -> str | None:
    """The first part of a value that JSON cannot hold.

    Args:
        value: What is looked through.
        path: Where it stands.
        above: The identities of what it stands in, from the top.

    Returns:
        The path and what is wrong there; ``None`` if nothing is.

    Example:
        >>> flaw({"items": [{"price": math.inf}]})
        '$.items[0].price is inf, for which JSON has no number'
    """
    while isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, str | int | float):
        return _flaw_in_scalar(value, path)
    if id(value) in above:
        return f"{path} contains itself"
    if len(above) >= _DEEPEST:
        return f"{path[:200]} is nested more than {_DEEPEST} levels deep"
    above = (*above, id(value))
    if isinstance(value, dict):
        return _flaw_in_dict(cast("dict[object, Any]", value), path, above)
    if isinstance(value, list) or type(value) is tuple:
        return _flaw_in_list(cast("list[Any]", value), path, above)
    return _flaw_in_object(value, path, above)


def _flaw_in_scalar(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return None if _is_unicode(value) else f"{path} holds half a surrogate pair, which is no Unicode text"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {float(value)}, for which JSON has no number"
    if value is None or -(2**63) <= value < 2**64:
        return None
    return f"{path} is an integer beyond 64 bits: make it text"


def _flaw_in_list(value: list[Any], path: str, above: tuple[int, ...]) -> str | None:
    for i, item in enumerate(value):
        found = flaw(item, f"{path}[{i}]", above)
        if found:
            return found
    return None


def _flaw_in_dict(value: dict[object, Any], path: str, above: tuple[int, ...]) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"{path} has a key of type {type(key).__qualname__} ({shown(key)}): keys must be text"
        if not _is_unicode(key):
            return f"{path} has a key with half a surrogate pair ({shown(key)}), which is no Unicode text"
        step = f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]"
        found = flaw(item, path + step, above)
        if found:
            return found
    return None


def _flaw_in_object(value: object, path: str, above: tuple[int, ...]) -> str | None:
    kind: type = type(value)
    plan = _plan(kind)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if plan is None:
        return f"{path} is of type {name}, which has no form in JSON"
    try:
        inner = plan(value)
    except RecursionError:
        raise
    except Exception as exc:
        if isinstance(value, set | frozenset):  # the order could not be found because of one of the items
            return flaw(list(cast("set[Any]", value)), path, above)
        return f"{path} is of type {name} and cannot be written: {type(exc).__name__}: {exc}"
    return flaw(inner, path, above)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
