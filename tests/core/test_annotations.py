from __future__ import annotations

import asyncio
import functools
import typing
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest

from durable.annotations import return_annotation
from durable.errors import ConfigError

if TYPE_CHECKING:
    from nowhere import Order as Elsewhere


@dataclass
class Order:
    n: int


def plain() -> Order: ...
async def coroutine() -> list[Order]: ...
def text() -> "list[Order] | None": ...  # noqa: UP037
def blank(): ...
def anything() -> Any: ...
def nothing() -> None: ...
def awaitable() -> Awaitable[Order]: ...
def coroutine_object() -> Coroutine[Any, Any, dict[str, Order]]: ...
def future() -> asyncio.Future[Order]: ...
def bare_awaitable() -> Awaitable: ...
def optional() -> Optional[Order]: ...  # noqa: UP045
def annotated() -> Annotated[int, "meta"]: ...
def only_the_return_counts(order: Elsewhere) -> Order: ...
def unresolvable() -> Elsewhere: ...
def misspelt() -> list[Oder]: ...  # noqa: F821


class Shop:
    def load(self) -> Order: ...
    @staticmethod
    def static() -> Order: ...
    @classmethod
    def clsm(cls) -> Order: ...


class CallableShop:
    field: int

    def __call__(self) -> Order: ...


@functools.cache
def cached() -> Order: ...


def decorator(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


@decorator
def wrapped() -> Order: ...


@pytest.mark.parametrize(
    ("fn", "found"),
    [
        (plain, Order),
        (coroutine, list[Order]),
        (text, typing.Union[Order, None] | list[Order]),  # noqa: UP007
        (blank, Any),
        (anything, Any),
        (nothing, type(None)),
        (awaitable, Order),
        (coroutine_object, dict[str, Order]),
        (future, Order),
        (bare_awaitable, Any),
        (optional, Order | None),
        (annotated, Annotated[int, "meta"]),
        (only_the_return_counts, Order),
        (functools.partial(plain), Order),
        (functools.partial(functools.partial(Shop().load)), Order),
        (Shop().load, Order),
        (Shop.load, Order),
        (Shop.static, Order),
        (Shop.clsm, Order),
        (CallableShop(), Order),
        (cached, Order),
        (wrapped, Order),
        (Order, Order),
        (functools.partial(Order, 1), Order),
        (lambda: 1, Any),
        (len, Any),
        ([].append, Any),
        (5, Any),
    ],
)
def test_what_a_callable_returns(fn, found):
    if fn is text:
        assert set(typing.get_args(return_annotation(fn))) == {list[Order], type(None)}
    else:
        assert return_annotation(fn) == found


def test_names_of_the_closure_are_found():
    @dataclass
    class Local:
        n: int

    def load() -> list[Local]:
        return [Local(1)]

    assert return_annotation(load) == list[Local]


def test_a_name_that_is_not_bound_yet_is_not_found():
    def load() -> Later:
        return Later()

    with pytest.raises(ConfigError, match="Later"):
        return_annotation(load)

    class Later: ...

    assert return_annotation(load) is Later


@pytest.mark.parametrize(("fn", "named"), [(unresolvable, "Elsewhere"), (misspelt, "Oder")])
def test_what_cannot_be_resolved_is_named(fn, named):
    with pytest.raises(ConfigError, match=f"{named}.* of {fn.__name__} cannot be resolved"):
        return_annotation(fn)
