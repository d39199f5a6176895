"""The type that a callable says it returns.

Duty: find and resolve one annotation, the return's; the others may name what exists for type checkers only.
It knows errors, and nothing of how values are encoded.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Awaitable, Coroutine
from typing import Any, cast

from durable.errors import ConfigError

__all__ = ["annotations_of", "qualified_name", "return_annotation", "target_of"]

_AWAITABLES = frozenset({Awaitable, Coroutine, asyncio.Future, asyncio.Task})


def qualified_name(thing: object) -> str:
    """How messages call a type or a callable: ``Order``, ``list[Order]``, ``Shop.load_order``."""
    if typing.get_args(thing):
        return str(thing).replace("typing.", "").replace("__main__.", "")
    return str(getattr(thing, "__qualname__", None) or repr(thing).replace("typing.", ""))


def target_of(fn: object) -> object:
    """What carries a callable's annotations: the function in a partial, method or object; a class itself."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.ismethod(fn):
        return fn.__func__
    if isinstance(fn, type) or inspect.isroutine(fn) or "return" in annotations_of(fn):
        return fn
    return getattr(type(fn), "__call__", fn)  # noqa: B004 - the function itself is wanted


def annotations_of(fn: object) -> dict[str, Any]:
    """A callable's annotations as they stand, text or not."""
    try:
        found = getattr(fn, "__annotations__", None)
    except NameError:  # from Python 3.14 on they are evaluated when asked for, all at once
        library: Any = importlib.import_module("annotationlib")
        found = library.getannotations_of(fn, format=library.Format.FORWARDREF)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def return_annotation(fn: object) -> Any:
    """The type that a callable says it returns, resolved.

    Text is evaluated where the function was written (its module and its closure). What an awaitable yields
    counts, so that ``-> Awaitable[Order]`` is ``Order``. A class returns itself.

    Args:
        fn: A function, method, `functools.partial`, class, or object with ``__call__``.

    Returns:
        The annotation; `typing.Any` where there is none.

    Raises:
        ConfigError: It cannot be resolved; the message names it.

    Example:
        >>> def load() -> "Awaitable[list[int]]": ...
        >>> return_annotation(load)
        list[int]
    """
    target = target_of(fn)
    if isinstance(target, type):
        return target
    found = annotations_of(target).get("return", Any)
    if found is Any or type(found) is type:
        return Any if found in _AWAITABLES else found
    return _awaited(_resolved(target, found))


def _resolved(fn: object, annotation: object) -> Any:
    def stub() -> None: ...

    stub.__annotations__ = {"return": annotation}
    names, local = _names(fn)
    try:
        return typing.get_type_hints(stub, names, local, include_extras=True)["return"]
    except Exception as exc:
        msg = (
            f"the return annotation {annotation!r} of {qualified_name(fn)} cannot be resolved ({exc}): "
            "it decides the type that the result is decoded to, so import what it names where the function "
            "stands, not only under TYPE_CHECKING"
        )
        raise ConfigError(msg) from exc


def _names(fn: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The global and the local names that a function's annotations may use."""
    inner = inspect.unwrap(fn) if callable(fn) else fn
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    names: dict[str, Any] = getattr(inner, "__globals__", None) or getattr(module, "__dict__", {})
    local: dict[str, Any] = {p.__name__: p for p in getattr(inner, "__type_params__", ())}
    free = getattr(getattr(inner, "__code__", None), "co_freevars", ())
    for name, cell in zip(free, getattr(inner, "__closure__", None) or (), strict=True):
        try:
            local[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return names, local


def _awaited(annotation: Any) -> Any:
    """What awaiting a value of this type yields, or the type itself."""
    if typing.get_origin(annotation) in _AWAITABLES:
        return typing.get_args(annotation)[-1]
    return Any if annotation in _AWAITABLES else annotation
