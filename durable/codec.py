"""Values to JSON bytes and back, into the type that an annotation names.

Duty: `encode`, `decode` and `decoder_for`, and a short digest of arguments; how each type is written is the
business of `plain`. It knows orjson, msgspec and the look of pydantic's models, which it never imports; it
knows nothing of steps, runs or events.
"""

from __future__ import annotations

import hashlib
import sys
import weakref
from functools import lru_cache
from types import FunctionType, NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    ForwardRef,
    Never,
    NoReturn,
    Union,
    cast,
    get_args,
    get_origin,
)

import attrs
import msgspec
import orjson

from durable.annotations import annotations_of, qualified_name, return_annotation, target_of
from durable.errors import ConfigError, SerializationError
from durable.plain import OPTIONS, encodes_to_object, flaw, is_model, plain, survives

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "PLAIN",
    "Decoder",
    "convert",
    "decode",
    "decoder_for",
    "digest",
    "encode",
    "encodes_to_object",
    "return_annotation",
    "return_decoder",
]

# ---------------------------------------------------------------- values to bytes


def encode(value: object, *, what: str = "the value") -> bytes:
    """The JSON bytes of a value.

    Datetimes, dates, times, timedeltas and UUIDs become their ISO text, enums their values, decimals text,
    bytes base64, sets and tuples lists (sets in a fixed order), classes with fields objects.

    orjson writes NaN and infinities as ``null``. Bytes without ``null`` are therefore fine; others are
    compared with the value in C, and only where they differ (a tuple, an object) the value is walked through
    in Python, at about 0.1 µs for each part.

    Args:
        value: What is to be stored.
        what: What it is, for the message: ``"the result of step 'load-order'"``.

    Raises:
        SerializationError: It cannot be written, or not without loss: NaN and infinities, keys that are not
            text, integers beyond 64 bits, cycles, objects of other types. The message names the path.

    Example:
        >>> encode({"tags": {"b", "a"}, "raw": b"!"})
        b'{"tags":["a","b"],"raw":"IQ=="}'
    """
    try:
        data = orjson.dumps(value, plain, OPTIONS)
    except Exception as exc:
        data = _encode_leniently(value, what, exc)
    if b"null" in data and value is not None and not survives(value, data):
        msg = f"{what} cannot be stored as JSON: {flaw(value)}"
        raise SerializationError(msg)
    return data


def _encode_leniently(value: object, what: str, cause: Exception) -> bytes:
    """Explain what orjson refused; or encode what we accept and it does not: keys of subclasses of `str`."""
    try:
        found = flaw(value)
        if found is None:
            return orjson.dumps(value, plain, OPTIONS | orjson.OPT_NON_STR_KEYS)
    except RecursionError:
        found = "it is nested too deeply"
    except Exception as exc:
        found = f"{type(exc).__name__}: {exc}"
    msg = f"{what} cannot be stored as JSON: {found}"
    raise SerializationError(msg) from (cause.__cause__ or cause)


# ---------------------------------------------------------------- bytes to values


@attrs.frozen(eq=False)
class Decoder:
    """How stored bytes become a value of one type; made by `decoder_for`.

    Args:
        annotation: The type.
        name: How messages call it.
        read: From bytes to the value; raises whatever it likes.
    """

    annotation: Any
    name: str
    read: Callable[[bytes], Any] = attrs.field(repr=False)


PLAIN: Final = Decoder(Any, "Any", orjson.loads)
"""Decodes to what JSON itself has: dicts, lists, text, numbers, booleans, ``None``."""


def decode(data: bytes, decoder: Decoder = PLAIN, *, what: str = "the value") -> Any:
    """The value that stored bytes hold, in the type that the decoder was made for.

    Args:
        data: What `encode` made.
        decoder: Which type is wanted.
        what: What it is, for the message.

    Raises:
        SerializationError: The bytes do not fit the type; the message says where and what was expected.

    Example:
        >>> decode(b"[1,2]", decoder_for(tuple[int, ...]))
        (1, 2)
    """
    try:
        return decoder.read(data)
    except Exception as exc:
        msg = f"{what} does not fit {decoder.name}: {exc}"
        raise SerializationError(msg) from exc


def convert(value: object, decoder: Decoder, *, what: str = "the value") -> Any:
    """A value in another type, by way of its JSON: a dict as a model, say.

    Raises:
        SerializationError: It cannot be encoded, or does not fit the type.

    Example:
        >>> convert({"tags": ["a"]}, decoder_for(dict[str, set[str]]))
        {'tags': {'a'}}
    """
    return decode(encode(value, what=what), decoder, what=what)


def decoder_for(annotation: Any) -> Decoder:
    """The decoder for a type; made once for each.

    Without a type (`Any`, ``object``, ``None``) values come back as JSON has them.

    Args:
        annotation: A resolved annotation: a class, ``list[Order]``, ``Order | None``, …

    Raises:
        ConfigError: Values of this type cannot be made from JSON; the message names it.

    Example:
        >>> decoder_for(tuple[int, ...]).name
        'tuple[int, ...]'
    """
    try:
        return _cached_decoder(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _build(annotation)


def return_decoder(fn: object) -> Decoder:
    """The decoder for what a callable says it returns; remembered for each function.

    Raises:
        ConfigError: The annotation cannot be resolved, or values of that type cannot be made from JSON.

    Example:
        >>> def load() -> set[int]: ...
        >>> decode(b"[1,2]", return_decoder(load))
        {1, 2}
    """
    if isinstance(fn, FunctionType) and not annotations_of(fn):
        return PLAIN  # lambdas above all, which are new at each call
    target = target_of(fn)
    try:
        found = _RETURNS.get(target)
    except TypeError:  # neither hashable nor weakly referable
        return decoder_for(return_annotation(target))
    if found is None:
        found = decoder_for(return_annotation(target))
        _RETURNS[target] = found
    return found


# Weak: a function that was made within a run must not live on here.
_RETURNS: weakref.WeakKeyDictionary[object, Decoder] = weakref.WeakKeyDictionary()


def _build(annotation: Any) -> Decoder:
    if any(annotation is blank for blank in (Any, object, None, NoneType, Never, NoReturn)):
        return PLAIN
    name = qualified_name(annotation)
    try:
        if is_model(annotation):
            _complete(annotation)
            return Decoder(annotation, name, lambda data: _read_model(annotation, data))
        _refuse_strangers(msgspec.inspect.type_info(annotation), set())
        return Decoder(annotation, name, msgspec.json.Decoder(annotation, dec_hook=_revive).decode)
    except Exception as exc:
        if _is_json(annotation, frozenset()):
            return Decoder(annotation, name, orjson.loads)
        try:
            read = _read_by_pydantic(annotation)
        except Exception as again:
            raise _not_decodable(name, again) from again
        if read is None:
            raise _not_decodable(name, exc) from exc
        return Decoder(annotation, name, read)


_cached_decoder = lru_cache(maxsize=4096)(_build)


def _not_decodable(name: str, why: Exception) -> ConfigError:
    return ConfigError(
        f"values of type {name} cannot be made from JSON: {why}. Annotate with JSON types, dataclasses, "
        "attrs classes, TypedDict, NamedTuple or pydantic models, or with Any to get the JSON itself"
    )


def _read_model(model: Any, data: bytes) -> Any:
    return model.model_validate_json(data, by_alias=True, by_name=True)


def _revive(kind: Any, value: Any) -> Any:
    """Help msgspec with types that it does not know: models, and ``object``, which takes anything."""
    return _read_model(kind, orjson.dumps(value)) if is_model(kind) else value


def _complete(model: Any) -> None:
    """Have pydantic resolve a model's annotations now: later would be after the effect."""
    if not getattr(model, "__pydantic_complete__", True):
        model.model_rebuild()


def _refuse_strangers(info: Any, seen: set[int]) -> None:
    """Raise for classes within a type that msgspec would only pass to a hook, unless ours knows them."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        if is_model(info.cls):
            _complete(info.cls)
        elif info.cls is not object:
            msg = f"{qualified_name(info.cls)} has no fields that could be filled"
            raise TypeError(msg)
    elif isinstance(info, tuple):
        for item in cast("tuple[object, ...]", info):
            _refuse_strangers(item, seen)
    elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
        for name in info.__struct_fields__:
            _refuse_strangers(getattr(info, name), seen)


def _read_by_pydantic(annotation: Any) -> Callable[[bytes], Any] | None:
    """For what msgspec cannot do with models, unions of them above all; ``None`` where there is no model."""
    if not any(is_model(part) for part in _parts(annotation)):
        return None
    adapter = sys.modules["pydantic"].TypeAdapter(annotation, config={"val_json_bytes": "base64"})
    if not adapter.pydantic_complete:
        adapter.rebuild()
    return lambda data: adapter.validate_json(data, by_alias=True, by_name=True)


def _is_json(annotation: Any, aliases: frozenset[str]) -> bool:
    """Whether it is what JSON itself has: an alias that names itself, which msgspec would follow for ever."""
    if any(annotation is one for one in _JSON):
        return True
    if isinstance(annotation, str | ForwardRef):
        return (annotation if isinstance(annotation, str) else annotation.__forward_arg__) in aliases
    if hasattr(annotation, "__value__"):
        name = annotation.__name__
        return name in aliases or _is_json(annotation.__value__, aliases | {name})
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_json(args[0], aliases)
    if origin is dict and args[0] is not str:
        return False
    return origin in (Union, UnionType, list, dict) and all(_is_json(one, aliases) for one in args)


_JSON = (Any, object, None, NoneType, str, int, float, bool, dict, list)


def _parts(annotation: Any) -> list[Any]:
    parts = [annotation]
    for part in parts:
        parts.extend(get_args(part))
    return parts


# ---------------------------------------------------------------- digests


def digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
    """Eight bytes that tell a step's arguments apart; ``None`` where they cannot be encoded.

    It costs about 1 µs, and as much as encoding them where they are large.

    Example:
        >>> digest((1, "a"), {}) == digest((1, "a"), {}) != digest((2, "a"), {})
        True
    """
    try:
        data = orjson.dumps([args, kwargs], plain, OPTIONS | orjson.OPT_SORT_KEYS)
    except Exception:
        return None
    return hashlib.blake2b(data, digest_size=8).digest()
