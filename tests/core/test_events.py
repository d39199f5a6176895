import copy
import dataclasses
import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import attrs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.durations import from_ms
from durable.errors import EventRejected, EventTooLarge, LimitError
from durable.events import Event, check_sendable, encode_data
from durable.limits import Limits

NOW = 1_893_456_000_000


class Order(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class Line:
    n: int


def test_an_event():
    event = Event("order/created", {"n": 1}, id="e-1", ts=NOW, user={"id": 5}, v="2")
    assert (event.name, event.data, event.id, event.ts, event.user, event.v) == (
        "order/created",
        {"n": 1},
        "e-1",
        NOW,
        {"id": 5},
        "2",
    )
    assert event.time == datetime(2030, 1, 1, tzinfo=UTC)
    assert event.as_json() == {
        "id": "e-1",
        "name": "order/created",
        "data": {"n": 1},
        "user": {"id": 5},
        "ts": NOW,
        "v": "2",
    }
    assert event == Event("order/created", data={"n": 1}, id="e-1", ts=NOW, user={"id": 5}, v="2")
    assert event != Event("order/created", {"n": 1})


def test_it_is_frozen_and_can_be_copied():
    event = Event("order/created", {"n": 1})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.name = "x"
    assert attrs.evolve(event, id="e-1").id == "e-1"
    assert pickle.loads(pickle.dumps(event)) == copy.deepcopy(event) == event
    assert not hasattr(event, "__dict__")


def test_what_is_left_out():
    event = Event("order/created")
    assert (event.data, event.id, event.ts, event.user, event.v) == ({}, None, None, None, None)
    assert Event("a").data is not Event("b").data
    with pytest.raises(ValueError, match="no ts"):
        _ = event.time


@pytest.mark.parametrize("name", ["", None, 5, b"order", ["x"]])
def test_bad_names(name):
    with pytest.raises(EventRejected, match="name must be text"):
        Event(name)


@pytest.mark.parametrize("data", [[], [1], "x", 5, 1.5, True, (), {1}, object(), b"x", Order, iter([])])
def test_data_is_an_object(data):
    with pytest.raises(EventRejected, match="'order/created': data must be a JSON object"):
        Event("order/created", data)


@pytest.mark.parametrize("data", [Order(n=1), Line(1), {"n": 1}])
def test_typed_data(data):
    assert encode_data(Event("order/created", data)) == b'{"n":1}'


@pytest.mark.parametrize(
    ("ts", "ms"),
    [
        (NOW, NOW),
        (from_ms(NOW), NOW),
        (datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), NOW),
        (datetime(2030, 1, 1, 0, 0, 0, 999, tzinfo=UTC), NOW),
        (315_532_800_000, 315_532_800_000),
        (4_102_444_800_000, 4_102_444_800_000),
    ],
)
def test_times(ts, ms):
    assert Event("x", ts=ts).ts == ms


@pytest.mark.parametrize(
    "ts",
    [
        *(0, -1, 315_532_799_999, 4_102_444_800_001, 10**30, float(NOW), 1.5, True, False),
        *("2030-01-01T00:00:00Z", date(2030, 1, 1), datetime(2030, 1, 1), timedelta(1), []),  # noqa: DTZ001
        datetime(1979, 12, 31, tzinfo=UTC),
    ],
)
def test_bad_times(ts):
    with pytest.raises(EventRejected, match="event 'x': ts "):
        Event("x", ts=ts)


@pytest.mark.parametrize("value", ["", 5, b"x", True, ["x"]])
def test_bad_ids_and_versions(value):
    with pytest.raises(EventRejected, match="id must be text"):
        Event("x", id=value)
    with pytest.raises(EventRejected, match="v must be text"):
        Event("x", v=value)


@pytest.mark.parametrize("user", [[], "x", 5, True, Order(n=1)])
def test_bad_users(user):
    with pytest.raises(EventRejected, match="user must be a JSON object"):
        Event("x", user=user)


def test_what_may_be_sent():
    sendable = check_sendable(Event("order/created", {"n": (1,)}, user={"id": 1}), Limits())
    assert (sendable.data, sendable.user) == (b'{"n":[1]}', b'{"id":1}')
    assert check_sendable(Event("x" * 512), Limits()).user is None
    assert check_sendable(Event("é" * 512), Limits()).data == b"{}"


def test_the_engines_own_names():
    internal = Event("durable/function.failed", {})
    with pytest.raises(EventRejected, match="engine's own"):
        check_sendable(internal, Limits())
    check_sendable(Event("durable.x"), Limits())


def test_a_name_that_is_too_long():
    with pytest.raises(EventTooLarge, match=r"513 characters; Limits\.event_name allows 512") as caught:
        check_sendable(Event("x" * 513), Limits())
    assert isinstance(caught.value, LimitError)
    assert isinstance(caught.value, EventRejected)


def test_an_event_that_is_too_large():
    limits = Limits(event_bytes=100)
    fits = {"a": "x" * (100 - len(b'{"a":""}') - 1)}
    check_sendable(Event("n", fits), limits)
    for more in (
        Event("nn", fits),
        Event("n", fits, id="1"),
        Event("n", fits, v="1"),
        Event("n", fits, user={}),
        Event("n", {"a": "é" * 60}),
    ):
        with pytest.raises(EventTooLarge, match=r"bytes; Limits\.event_bytes allows 100"):
            check_sendable(more, limits)


@pytest.mark.parametrize("bad", [float("nan"), 2**70, object(), "\ud800"])
def test_what_cannot_be_encoded(bad):
    for event in (Event("x", {"a": [bad]}), Event("x", user={"a": [bad]})):
        with pytest.raises(EventRejected, match=r"of event 'x' cannot be stored as JSON: \$\.a\[0\]"):
            check_sendable(event, Limits())


def test_data_that_only_looks_like_an_object():
    class Root(pydantic.RootModel[list[int]]):
        pass

    with pytest.raises(EventRejected, match="data must be a JSON object"):
        encode_data(Event("x", Root([1])))


@pytest.mark.parametrize("event", [Event("\ud800"), Event("x", id="\ud800"), Event("x", v="\udfff")])
def test_halves_of_surrogate_pairs(event):
    with pytest.raises(EventRejected, match="Unicode"):
        check_sendable(event, Limits())


@given(st.text(min_size=1), st.dictionaries(st.text(), st.none() | st.integers(0, 9)), st.integers(0, 10**12))
def test_what_was_sent_is_received(name, data, ms):
    event = Event(name, data, id="e-1", ts=NOW + ms, user={"u": name}, v="1")
    if name.startswith("durable/"):
        return
    sent = check_sendable(event, Limits())
    back = Event.received(name, sent.data, id="e-1", ts=NOW + ms, user=sent.user, v="1")
    assert back == event
