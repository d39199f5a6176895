import dataclasses
import functools
import math
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.codec import decode, decoder_for, digest, encode, encodes_to_object
from durable.errors import SerializationError


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    YES = "yes"


class Size(IntEnum):
    BIG = 3


class Boxed(Enum):
    TUPLE = (1, 2)
    NAN = math.nan


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Plain:
    n: int
    _hidden: int = 1
    later: int = dataclasses.field(default=5, init=False)

    @functools.cached_property
    def cached(self):
        return 1


@attrs.frozen
class Attrs:
    n: float
    _hidden: int = 1


class Model(pydantic.BaseModel):
    n: float = pydantic.Field(alias="number", default=1)
    at: datetime | None = None


class Struct(msgspec.Struct, tag="struct"):
    n: int


class Text(str):
    __slots__ = ()


class Real(float):
    __slots__ = ()


PLUS_ONE = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "x", True, None]}, b'{"a":[1,2.5,"x",true,null]}'),
        ((1, (2,)), b"[1,[2]]"),
        ((1, None), b"[1,null]"),
        (datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=PLUS_ONE), b'"2030-01-02T03:04:05.000006+01:00"'),
        (datetime(2030, 1, 2), b'"2030-01-02T00:00:00"'),  # noqa: DTZ001
        (datetime(1890, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), b'"1889-12-31T23:50:39+00:00"'),
        (date(2030, 1, 2), b'"2030-01-02"'),
        (time(1, 2, 3), b'"01:02:03"'),
        (time(1, 2, tzinfo=PLUS_ONE), b'"01:02:00+01:00"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.10"), b'"1.10"'),
        (b"\x00!", b'"ACE="'),
        (bytearray(b"!"), b'"IQ=="'),
        (memoryview(b"!"), b'"IQ=="'),
        ({"b", "a"}, b'["a","b"]'),
        (frozenset({10, 9}), b"[9,10]"),
        ({1, "a", None}, b'["a",1,null]'),
        ({UUID(int=2), UUID(int=1)}, None),
        ({frozenset({2, 1}), frozenset({3})}, b"[[1,2],[3]]"),
        (Colour.RED, b'"red"'),
        (Word.YES, b'"yes"'),
        (Size.BIG, b"3"),
        (Boxed.TUPLE, b"[1,2]"),
        ({Word.YES: 1, Text("no"): None}, b'{"yes":1,"no":null}'),
        (Point(1, 2), b"[1,2]"),
        (Plain(1, 2), b'{"n":1,"_hidden":2,"later":5}'),
        (Attrs(1.5), b'{"n":1.5,"_hidden":1}'),
        (Model(number=2), b'{"n":2.0,"at":null}'),
        ([Model(at=datetime(2030, 1, 1, tzinfo=UTC))], b'[{"n":1.0,"at":"2030-01-01T00:00:00Z"}]'),
        (Struct(1), b'{"type":"struct","n":1}'),
        (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        (Text("x"), b'"x"'),
        (Real(1.5), b"1.5"),
        (2**64 - 1, b"18446744073709551615"),
        (-(2**63), b"-9223372036854775808"),
        ("null", b'"null"'),
        (["null", Point(1, 2), {"x": None}], b'["null",[1,2],{"x":null}]'),
    ],
)
def test_each_type_has_its_form(value, json):
    data = encode(value)
    assert json is None or data == json
    orjson.loads(data)


def test_what_a_dataclass_caches_is_not_stored():
    value = Plain(1)
    before = encode(value)
    assert value.cached
    assert encode(value) == before


def looped():
    value = {"a": []}
    value["a"].append(value)
    return value


def looped_object():
    value = Plain(1)
    value.n = [value]
    return value


def deep():
    value = []
    for _ in range(300):
        value = [value]
    return value


class Rude:
    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None


@attrs.frozen
class Raising:
    @property
    def boom(self):
        raise KeyError(1)


@dataclasses.dataclass
class Missing:
    n: int = dataclasses.field(init=False)


@pytest.mark.parametrize(
    ("value", "path", "wrong"),
    [
        (math.nan, "$", "nan"),
        ({"items": [1, {"price": math.inf}]}, "$.items[1].price", "inf"),
        ((-math.inf,), "$[0]", "-inf"),
        ({"a b": Real("nan")}, '$["a b"]', "nan"),
        ([Plain(math.nan)], "$[0].n", "nan"),
        (Attrs(math.nan), "$.n", "nan"),
        ([Model(number=math.nan)], "$[0].n", "nan"),
        ({"s": {math.nan}}, "$.s[0]", "nan"),
        (Boxed.NAN, "$", "nan"),
        ([None, math.nan], "$[1]", "nan"),
        ({"a": 2**64}, "$.a", "64 bits"),
        (-(2**63) - 1, "$", "64 bits"),
        ({"a": {1: 2}}, "$.a", "key of type int (1)"),
        ({None: 2}, "$", "keys must be text"),
        ({(1,): 2}, "$", "keys must be text"),
        ({Colour.RED: 2}, "$", "keys must be text"),
        ({Text("ok"): 1, 5: 2}, "$", "key of type int"),
        ("\ud800", "$", "surrogate"),
        (["\ud800"], "$[0]", "surrogate"),
        ({"\ud800": 1}, "$", "surrogate"),
        (looped(), "$.a[0]", "contains itself"),
        (looped_object(), "$.n[0]", "contains itself"),
        (deep(), "$[0][0]", "254 levels"),
        ({"x": object()}, "$.x", "builtins.object"),
        ([lambda: 1], "$[0]", "function"),
        ((n for n in [1]), "$", "generator"),
        (ValueError("x"), "$", "builtins.ValueError"),
        (Plain, "$", "builtins.type"),
        (1j, "$", "complex"),
        (range(3), "$", "range"),
        ({"a": {Rude}}, "$.a[0]", "builtins.type"),
        ([None, Rude()], "$[1]", "Rude"),
        ({"x": Missing()}, "$.x", "AttributeError"),
        (time(1, tzinfo=ZoneInfo("Europe/Paris")), "$", "offset depends on the day"),
        (Struct(math.nan), "$.n", "nan"),
        (Struct(object()), "$", "cannot be written"),
    ],
)
def test_what_has_no_form_is_refused_with_its_path(value, path, wrong):
    with pytest.raises(SerializationError) as caught:
        encode(value, what="the result of step 'load-order'")
    text = str(caught.value)
    assert text.startswith(f"the result of step 'load-order' cannot be stored as JSON: {path}")
    assert wrong in text
    assert len(text) < 500


def test_a_value_too_deep_for_the_stack_is_refused(monkeypatch):
    def down(n):
        if n:
            down(n - 1)
        else:
            with pytest.raises(SerializationError, match="deep"):
                encode(deep())

    used = len(__import__("inspect").stack())
    down(sys.getrecursionlimit() - used - 150)


def test_a_comparison_that_raises_changes_nothing():
    class Odd(dict):
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    assert encode([Odd(a=None)]) == b'[{"a":null}]'
    with pytest.raises(SerializationError, match=r"\$\[0\]\.a is nan"):
        encode([Odd(a=math.nan)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def finite(value):
    if isinstance(value, float):
        return math.isfinite(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(finite, parts))


@given(JSON)
def test_json_survives_and_nothing_is_lost_in_silence(value):
    if finite(value):
        assert orjson.loads(encode(value)) == value
    else:
        with pytest.raises(SerializationError, match="has no number"):
            encode(value)


def test_what_becomes_an_object():
    for value in ({}, OrderedDict(), Plain(1), Attrs(1), Model(), Struct(1)):
        assert encodes_to_object(value)
        assert encode(value)[:1] == b"{"
    for value in (None, 1, "x", [], (), set(), Point(1, 2), object(), Plain, Colour.RED):
        assert not encodes_to_object(value)


def test_digests():
    assert digest((), {}) == digest((), {})
    assert len(digest((1,), {})) == 8
    assert digest((1,), {"a": 1, "b": 2}) == digest((1,), {"b": 2, "a": 1})
    assert digest(({"a": 1, "b": 2},), {}) == digest(({"b": 2, "a": 1},), {})
    assert digest((Plain(1), {"b", "a"}), {}) == digest((Plain(1), {"a", "b"}), {})
    different = [((1,), {}), ((), {"a": 1}), ((2,), {}), (("1",), {}), ((1, None), {}), ((Plain(1),), {})]
    assert len({digest(*arguments) for arguments in different}) == len(different)
    for unencodable in (object(), looped(), 2**70, {1: 2}, Missing()):
        assert digest((unencodable,), {}) is None


# ---------------------------------------------------------------- what pydantic would leave out


class Login(pydantic.BaseModel):
    user: str
    token: pydantic.SecretStr = pydantic.SecretStr("")
    rev: int = pydantic.Field(default=0, exclude=True)


class Shown(pydantic.BaseModel):
    token: pydantic.SecretStr

    @pydantic.field_serializer("token")
    def show(self, token: pydantic.SecretStr) -> str:
        return token.get_secret_value()


class Raw(pydantic.BaseModel):
    raw: bytes


class RawAsBase64(Raw):
    model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


class Session(pydantic.BaseModel):
    logins: dict[str, list[Login]]


SECRET = Login(user="u", token=pydantic.SecretStr("t0p"))
LOST = {
    r"field token is a secret, of which pydantic writes asterisks": SECRET,
    r"\$\.a is of type .*Login and cannot be written: .* field token is a secret": {"a": SECRET},
    r"field logins\['a'\]\[1\]\.token is a secret": Session(logins={"a": [Login(user="v"), SECRET]}),
    r"field root\[0\]\.token is a secret": pydantic.RootModel[list[Login]]([SECRET]),
    r"field rev is excluded from what its model writes": Login(user="u", rev=7),
    r"field logins\['a'\]\[0\]\.rev is excluded": Session(logins={"a": [Login(user="v", rev=7)]}),
    r"ConfigDict\(ser_json_bytes='base64', val_json_bytes='base64'\)": Raw(raw=b"\xff"),
}


@pytest.mark.parametrize(("match", "value"), LOST.items())
def test_what_pydantic_would_leave_out_is_refused(match, value):
    with pytest.raises(SerializationError, match=match):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        Login(user="u"),
        Session(logins={"a": [Login(user="v")], "b": []}),
        Shown(token=pydantic.SecretStr("t0p")),
        Raw(raw=b"text"),
        RawAsBase64(raw=b"\xff\x00"),
    ],
    ids=repr,
)
def test_models_of_which_nothing_is_left_out_survive(value):
    assert decode(encode(value), decoder_for(type(value))) == value
