import dataclasses
import functools
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    Never,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from durable.codec import PLAIN, convert, decode, decoder_for, encode, return_decoder
from durable.errors import ConfigError, SerializationError

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Size(IntEnum):
    BIG = 3


class Word(StrEnum):
    YES = "yes"


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Point(NamedTuple):
    x: int
    y: str = "y"


class Movie(TypedDict):
    name: str
    seen: NotRequired[date]


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal
    _hidden: int = 0


@attrs.frozen
class Address:
    street: str
    tags: frozenset[str] = frozenset()
    _hidden: int = 0


class Customer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    id: UUID
    since: datetime = pydantic.Field(alias="customerSince")
    score: float = pydantic.Field(0.0, validation_alias="in", serialization_alias="out")
    raw: bytes = b""


class Base64(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    raw: bytes


class Other(pydantic.BaseModel):
    kind: Literal["other"] = "other"


class Box(pydantic.BaseModel, Generic[T]):
    value: T


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]


@dataclasses.dataclass
class Order:
    id: UUID
    at: datetime
    lines: list[Line]
    address: Address | None
    customer: Customer | None
    point: Point
    colours: set[Colour]
    raw: bytes
    due: date
    extra: dict[str, Any]
    movie: Movie
    parent: Optional["Order"] = None


class Struct(msgspec.Struct, tag=True):
    n: int


class Stranger:
    pass


@dataclasses.dataclass
class Harbours:
    stranger: Stranger


@dataclasses.dataclass
class Unfinished:
    inner: "Nowhere"  # noqa: F821


class UnfinishedModel(pydantic.BaseModel):
    inner: "Nowhere"  # noqa: F821


class Raises:
    pass


@attrs.frozen
class Checked:
    n: int = attrs.field()

    @n.validator
    def check(self, attribute, value):
        if value < 0:
            raise KeyError(value)


UserId = NewType("UserId", int)
Json = TypeAliasType("Json", Union[dict[str, "Json"], list["Json"], str, int, float, bool, None])  # noqa: UP007
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=offsets)  # noqa: DTZ001
decimals = st.decimals(allow_nan=False)
floats = st.floats(allow_nan=False, allow_infinity=False)
customers = st.builds(
    lambda i, t, s, r: Customer.model_construct(id=i, since=t, score=s, raw=r),
    st.uuids(),
    moments,
    floats,
    st.text().map(str.encode),
)
lines = st.builds(Line, st.text(), decimals, st.integers(0, 9))
addresses = st.builds(Address, st.text(), st.frozensets(st.text()), st.integers(0, 9))
movies = st.fixed_dictionaries({"name": st.text()}, optional={"seen": st.dates()})
points = st.builds(Point, st.integers(0, 9), st.text())
orders = st.builds(
    Order,
    id=st.uuids(),
    at=moments,
    lines=st.lists(lines, max_size=2),
    address=st.none() | addresses,
    customer=st.none() | customers,
    point=points,
    colours=st.sets(st.sampled_from(Colour)),
    raw=st.binary(),
    due=st.dates(),
    extra=st.dictionaries(st.text(), st.none() | st.integers(0, 9), max_size=2),
    movie=movies,
    parent=st.none(),
)

LAW = [
    (int, st.integers(-(2**63), 2**63 - 1)),
    (float, floats),
    (str, st.text()),
    (bool, st.booleans()),
    (datetime, moments),
    (datetime, st.datetimes()),
    (date, st.dates()),
    (time, st.times()),
    (time, st.times(timezones=offsets)),
    (timedelta, st.timedeltas()),
    (dict[str, timedelta | None], st.dictionaries(st.text(), st.none() | st.timedeltas(), max_size=2)),
    (Json, documents),
    (list[Json], st.lists(documents, max_size=2)),
    (pydantic.JsonValue, documents),
    (UUID, st.uuids()),
    (Decimal, decimals),
    (bytes, st.binary()),
    (bytearray, st.binary().map(bytearray)),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Word, st.sampled_from(Word)),
    (dict[Word, int], st.dictionaries(st.sampled_from(Word), st.integers(0, 9))),
    (set[int], st.sets(st.integers(0, 99))),
    (frozenset[date], st.frozensets(st.dates())),
    (set[tuple[int, str]], st.sets(st.tuples(st.integers(0, 9), st.text()), max_size=4)),
    (tuple[int, str], st.tuples(st.integers(0, 9), st.text())),
    (tuple[Decimal, ...], st.lists(decimals, max_size=4).map(tuple)),
    (tuple, st.lists(st.integers(0, 9), max_size=4).map(tuple)),
    (list[bytes | None], st.lists(st.none() | st.binary(), max_size=4)),
    (dict[str, datetime], st.dictionaries(st.text(), moments, max_size=3)),
    (Mapping[str, UUID], st.dictionaries(st.text(), st.uuids(), max_size=3)),
    (Sequence[date], st.lists(st.dates(), max_size=3)),
    (int | str | None, st.none() | st.integers(0, 9) | st.text()),
    (Union[bool, float], st.booleans() | floats),  # noqa: UP007
    (Literal["a", "b", 1] | None, st.sampled_from(["a", "b", 1, None])),
    (Annotated[Decimal, "price"], decimals),
    (UserId, st.integers(0, 9)),
    (Point, points),
    (Movie, movies),
    (Line, lines),
    (Address, addresses),
    (Customer, customers),
    (list[Customer], st.lists(customers, max_size=2)),
    (dict[str, Customer | None], st.dictionaries(st.text(), st.none() | customers, max_size=2)),
    (Customer | Other, customers | st.just(Other())),
    (list[Customer | Other] | None, st.none() | st.lists(customers | st.just(Other()), max_size=2)),
    (Base64, st.builds(Base64, raw=st.binary())),
    (list[Base64 | Other], st.lists(st.builds(Base64, raw=st.binary()), max_size=2)),
    (Box[Customer], customers.map(lambda c: Box[Customer].model_construct(value=c))),
    (list[Box[int]], st.lists(st.builds(Box[int], value=st.integers(0, 9)), max_size=2)),
    (Page[Customer], st.builds(Page, st.lists(customers, max_size=2))),
    (Struct, st.builds(Struct, st.integers(0, 9))),
    (Order, orders),
    (
        list[Order],
        st.lists(st.builds(lambda o, p: dataclasses.replace(o, parent=p), orders, orders), max_size=1),
    ),
]


@pytest.mark.parametrize(("annotation", "values"), LAW, ids=[str(a) for a, _ in LAW])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_law_of_the_round_trip(annotation, values, data):
    value = data.draw(values)
    back = decode(encode(value), decoder_for(annotation))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("annotation", [Any, object, None, type(None), Never])
def test_without_a_type_values_come_back_as_json(annotation):
    assert decoder_for(annotation) is PLAIN
    assert decode(encode({"at": date(2030, 1, 1), "t": (1,)}), decoder_for(annotation)) == {
        "at": "2030-01-01",
        "t": [1],
    }
    assert decode(b"null", decoder_for(annotation)) is None


def test_parts_without_a_type_come_back_as_json():
    assert decode(encode([{"a": (1,)}]), decoder_for(list[object])) == [{"a": [1]}]
    assert decode(encode([(1,)]), decoder_for(list)) == [[1]]
    assert decode(b"[1]", decoder_for(list[T])) == [1]


def test_aliases_are_accepted_too():
    made = decode(
        b'{"id":"00000000-0000-0000-0000-000000000001","customerSince":"2030-01-01T00:00:00Z","in":2}',
        decoder_for(Customer),
    )
    assert made.since == datetime(2030, 1, 1, tzinfo=UTC)
    assert made.score == 2


@pytest.mark.parametrize(
    ("annotation", "json", "where", "expected"),
    [
        (int, b'"x"', "int", "Expected `int`, got `str`"),
        (int, b"true", "int", "Expected `int`, got `bool`"),
        (list[Line], b'[{"sku":"a","price":"1"},{"sku":1}]', "list[", "$[1].sku"),
        (Line, b"{}", "Line", "missing required field"),
        (Customer, b'{"id":"x"}', "Customer", "UUID"),
        (dict[str, Customer], b'{"a":{"id":5}}', "dict[str", "UUID"),
        (Customer | Other, b"[]", "", "Customer"),
        (Colour, b'"green"', "Colour", "Invalid enum value"),
        (Decimal, b'"x"', "Decimal", "decimal"),
        (bytes, b'"?"', "bytes", "base64"),
        (datetime, b'"2030"', "datetime", "datetime"),
        (Checked, b'{"n":-1}', "Checked", "-1"),
        (int, b"1 2", "int", "trailing characters"),
        (Any, b"{", "Any", "line 1"),
    ],
)
def test_what_does_not_fit_is_named(annotation, json, where, expected):
    with pytest.raises(SerializationError) as caught:
        decode(json, decoder_for(annotation), what="the memo of step 'load'")
    text = str(caught.value)
    assert text.startswith(f"the memo of step 'load' does not fit {where}")
    assert expected in text


@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (Stranger, "Stranger"),
        (list[Stranger], "Stranger"),
        (dict[str, Stranger | None], "Stranger"),
        (Harbours, "Harbours"),
        (list[Harbours], "Harbours"),
        (Unfinished, "Unfinished"),
        (UnfinishedModel, "UnfinishedModel"),
        (list[UnfinishedModel], "UnfinishedModel"),
        (Line | Address, "Line"),
        (str | UUID, "UUID"),
        (Customer | Stranger, "Customer"),
        (Mixed, "Mixed"),
        (Callable[[], int], "Callable"),
        (complex, "complex"),
        ("Order", "Order"),
        (list["Order"], "Order"),
        (5, "5"),
        (Annotated[Stranger, []], "Stranger"),
    ],
)
def test_types_that_json_cannot_become_are_refused_before_the_effect(annotation, named):
    with pytest.raises(ConfigError, match=rf"(?s)values of type .*{named}.* cannot be made from JSON: .+"):
        decoder_for(annotation)


def test_annotations_that_cannot_be_hashed():
    assert decode(b"[1]", decoder_for(Annotated[set[int], []])) == {1}


def test_decoders_are_made_once():
    assert decoder_for(list[Order]) is decoder_for(list[Order])


def test_converting():
    assert convert({"sku": "a", "price": "1"}, decoder_for(Line)) == Line("a", Decimal(1))
    with pytest.raises(SerializationError, match="the data of event 'x' does not fit Line"):
        convert({}, decoder_for(Line), what="the data of event 'x'")
    with pytest.raises(SerializationError, match="cannot be stored"):
        convert({"x": object()}, decoder_for(Line))


def load() -> set[int]: ...


class Loader:
    __hash__ = None

    def __call__(self) -> set[int]: ...

    def method(self) -> set[int]: ...


class NoHash(type):
    __hash__ = None


class Unhashable(metaclass=NoHash):
    pass


@pytest.mark.parametrize("fn", [load, functools.partial(load), Loader(), Loader().method, Loader.method])
def test_the_decoder_of_a_callable(fn):
    assert decode(b"[1,1]", return_decoder(fn)) == {1}
    assert return_decoder(fn) is return_decoder(fn)


def test_the_decoder_of_other_callables():
    assert return_decoder(lambda: 1) is PLAIN
    assert return_decoder(len) is PLAIN
    assert decode(encode(Line("a", Decimal(1))), return_decoder(Line)) == Line("a", Decimal(1))
    with pytest.raises(ConfigError):
        return_decoder(Unhashable)
    with pytest.raises(ConfigError):
        return_decoder(Stranger)


def test_functions_are_not_kept_alive():
    def local() -> int: ...

    assert return_decoder(local).annotation is int
    seen = weakref.ref(local)
    del local
    gc.collect()
    assert seen() is None


def test_nothing_heavy_is_imported():
    code = (
        "import sys, durable.codec, durable.events, durable.triggers, durable.retries, durable.failures\n"
        "durable.codec.decoder_for(list[int])\n"
        "print([m for m in ('pydantic', 'celpy', 'croniter', 'redis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=".")
    assert done.stdout.strip() == "[]"
