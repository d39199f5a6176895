"""Events: the named JSON messages that start functions, resume waits and cancel runs.

Duty: the value that users make and handlers receive, what may be sent, and its encoded form. It knows the
codec and limits; matching, sequence numbers and stores are not its business.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, cast

import attrs

from durable.codec import decode, encode, encodes_to_object
from durable.durations import from_ms, shown
from durable.errors import EventRejected, EventTooLarge, LimitError, SerializationError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from durable.limits import Limits

    T = TypeVar("T", default=dict[str, Any])
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["RESERVED", "EncodedEvent", "Event", "check_sendable", "check_signal", "encode_data"]

RESERVED: Final = "durable/"
"""Names that begin with it are the engine's own."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = 315_532_800_000  # 1980-01-01T00:00:00Z
_LAST_MS = 4_102_444_800_000  # 2100-01-01T00:00:00Z
_put = object.__setattr__


@attrs.frozen(init=False)
class Event(Generic[T]):
    """A named JSON message; frozen.

    ``Event[Order]`` types `data`; without it, `data` is a dict.

    Args:
        name: What happened, such as ``"order/created"``.
        data: A JSON object; ``None`` is an empty one.
        id: Deduplicates for 24 hours; a ULID is given on receipt where there is none.
        ts: When it happened: milliseconds since the epoch, or an aware datetime, 1980 to 2100; the time of
            receipt where there is none. In the future, it delays the start of the runs.
        user: A JSON object about the user concerned.
        v: The version of `data`'s shape.

    Raises:
        EventRejected: A value is none of these.

    Example:
        >>> Event("order/created", {"order_id": "o-1"}).data["order_id"]
        'o-1'
    """

    name: str
    data: T
    id: str | None
    ts: int | None
    user: dict[str, Any] | None
    v: str | None

    def __init__(
        self,
        name: str,
        data: T | None = None,
        *,
        id: str | None = None,
        ts: int | datetime | None = None,
        user: dict[str, Any] | None = None,
        v: str | None = None,
    ) -> None:
        if type(name) is not str or not name:
            name = _check_name(name)
        if data is None:
            data = cast("T", {})
        elif type(data) is not dict and not encodes_to_object(data):
            _reject(name, "data must be a JSON object", data)
        if user is not None and not isinstance(cast("object", user), dict):
            _reject(name, "user must be a JSON object", user)
        _put(self, "name", name)
        _put(self, "data", data)
        _put(self, "id", None if id is None else _check_text(name, "id", id))
        _put(self, "ts", None if ts is None else _ts_ms(name, ts))
        _put(self, "user", user)
        _put(self, "v", None if v is None else _check_text(name, "v", v))

    @property
    def time(self) -> datetime:
        """When it happened, an aware datetime in UTC.

        Raises:
            ValueError: It has no `ts` yet; a received event always has one.
        """
        if self.ts is None:
            msg = f"event {shown(self.name)} has no ts: one is given on receipt"
            raise ValueError(msg)
        return from_ms(self.ts)

    def as_json(self) -> dict[str, Any]:
        """The event as expressions see it; `data` as it is, which for a received event is plain JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "data": self.data,
            "user": self.user,
            "ts": self.ts,
            "v": self.v,
        }

    @staticmethod
    def received(
        name: str,
        data: bytes,
        *,
        id: str,
        ts: int,
        user: bytes | None = None,
        v: str | None = None,
    ) -> Event[dict[str, Any]]:
        """An event from its stored parts; its data is plain JSON.

        Raises:
            SerializationError: The bytes are not JSON.

        Example:
            >>> Event.received("order/created", b'{"n":1}', id="o-1", ts=1_900_000_000_000).data
            {'n': 1}
        """
        what = f"the data of event {shown(name)}"
        about = None if user is None else decode(user, what=what)
        return Event(name, cast("dict[str, Any]", decode(data, what=what)), id=id, ts=ts, user=about, v=v)


def _reject(name: object, wrong: str, value: object) -> NoReturn:
    msg = f"event {shown(name)}: {wrong}; got {shown(value)}"
    raise EventRejected(msg)


def _check_name(name: object) -> str:
    if name == "" or not isinstance(name, str):
        msg = f'an event\'s name must be text such as "order/created"; got {shown(name)}'
        raise EventRejected(msg)
    return str.__str__(name)  # what is received: of a subclass of `str`, the text alone


def _check_text(name: str, field: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        _reject(name, f"{field} must be text of at least one character", value)
    return str.__str__(value)


def _ts_ms(name: str, ts: object) -> int:
    if isinstance(ts, datetime):
        if ts.utcoffset() is None:
            _reject(name, "ts has no time zone: it must be an aware datetime or milliseconds", ts)
        ms = (ts - _EPOCH) // timedelta(milliseconds=1)
    elif isinstance(ts, int) and not isinstance(ts, bool):
        ms = ts
    else:
        _reject(name, "ts must be a whole number of milliseconds since the epoch, or an aware datetime", ts)
    if not _FIRST_MS <= ms <= _LAST_MS:
        _reject(name, "ts must lie between 1980 and 2100 (milliseconds since the epoch)", ts)
    return ms


@attrs.frozen
class EncodedEvent:
    """The JSON bytes of an event that may be sent."""

    data: bytes
    user: bytes | None


def encode_data(event: Event[Any]) -> bytes:
    """The JSON bytes of an event's data.

    Raises:
        EventRejected: It cannot be encoded, or is no JSON object.

    Example:
        >>> encode_data(Event("order/created", {"n": 1}))
        b'{"n":1}'
    """
    return _encode_object(event.name, "data", event.data)


def _encode_object(name: str, field: str, value: object) -> bytes:
    try:
        data = encode(value, what=f"{field} of event {shown(name)}")
    except SerializationError as exc:
        raise EventRejected(str(exc)) from exc
    if not data.startswith(b"{"):
        _reject(name, f"{field} must be a JSON object", value)
    return data


def check_sendable(event: Event[Any], limits: Limits) -> EncodedEvent:
    """Hold an event against what users may send, and encode it on the way.

    The size of an event is that of its encoded data and user and of its name, id and version together.

    Args:
        event: What is to be sent.
        limits: `event_name` is in characters, `event_bytes` in bytes.

    Raises:
        EventRejected: The name begins with ``durable/``, or something cannot be encoded.
        EventTooLarge: The name is too long, or the event too large; it is a `LimitError`, too.

    Example:
        >>> from durable.limits import Limits
        >>> check_sendable(Event("order/created", {"n": 1}), Limits()).data
        b'{"n":1}'
    """
    name = event.name
    if name.startswith(RESERVED):
        msg = f"event {shown(name)}: names that begin with {RESERVED!r} are the engine's own"
        raise EventRejected(msg)
    if len(name) > limits.event_name:
        msg = (
            f"event {shown(name)}: its name has {len(name):,} characters; "
            f"Limits.event_name allows {limits.event_name:,}"
        )
        raise EventTooLarge(msg)
    data = encode_data(event)
    user = None if event.user is None else _encode_object(name, "user", event.user)
    size = len(data) + len(user or b"") + _text_size(event)
    if size > limits.event_bytes:
        msg = f"event {shown(name)} has {size:,} bytes; Limits.event_bytes allows {limits.event_bytes:,}"
        raise EventTooLarge(msg)
    return EncodedEvent(data, user)


def check_signal(name: str, data: Any, limits: Limits) -> bytes:
    """The JSON bytes of a signal's data, which becomes the result of the step that waits for it.

    Raises:
        SerializationError: It cannot be encoded.
        LimitError: It is larger than `Limits.step_bytes`.

    Example:
        >>> from durable.limits import Limits
        >>> check_signal("approve", {"by": "ann"}, Limits())
        b'{"by":"ann"}'
    """
    encoded = encode(data, what=f"the data of signal {shown(name)}")
    if len(encoded) > limits.step_bytes:
        msg = (
            f"the data of signal {shown(name)} has {len(encoded):,} bytes; Limits.step_bytes allows "
            f"{limits.step_bytes:,}: store large things elsewhere and send where they are"
        )
        raise LimitError(msg)
    return encoded


def _text_size(event: Event[Any]) -> int:
    try:
        return len((event.name + (event.id or "") + (event.v or "")).encode())
    except UnicodeEncodeError:
        _reject(event.name, "its name, id and v must be Unicode text", (event.name, event.id, event.v))
