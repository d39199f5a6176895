"""CEL: the conditions, keys and priorities that users write in CEL.

Duty: to compile a text once into an object that answers for one event, or for a run's event and an incoming
one (`async`); to say which equalities an index of waits can use; to cut an event down to what a condition
reads. An answer never raises: what has no result is "no match", the null key or priority 0, and is logged
once.

It may not know stores, functions or runs. celpy stands behind `cel_syntax`, RE2 behind `cel_functions`;
both are imported with the first expression. What expressions mean beyond
standard CEL stands in docs/decisions/0006-expressions-compiled.md.

Example:
    >>> large = compile_condition('event.data.amount > 100 && event.data.country == "DE"')
    >>> large({"name": "order", "data": {"amount": 150.5, "country": "DE"}})
    True
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from math import isnan
from typing import TYPE_CHECKING, Final

from attrs import frozen

from durable._core.cel_analysis import JSON, Equality, cut, equalities, fields_read, is_cheap, lookup
from durable._core.cel_compile import compile_tree
from durable._core.cel_kinds import EvaluationError, Meter, OverBounds, Unmetered
from durable._core.cel_rendering import as_text, canonical
from durable._core.cel_syntax import parse
from durable._core.cel_text import Misread, refuse
from durable._core.cel_tree import ASYNC_SLOT, EVENT_SLOT

if TYPE_CHECKING:
    from durable._core.cel_compile import Closure
    from durable._core.cel_tree import Node

__all__ = [
    "JSON",
    "NULL_KEY",
    "Condition",
    "Equality",
    "EvaluationError",
    "Key",
    "KeyValue",
    "Priority",
    "compile_condition",
    "compile_key",
    "compile_match",
    "compile_priority",
    "index_key",
    "lookup",
    "prune",
]

NULL_KEY: Final = "null"
"""The text of a key that is null."""

_EVENT: Final = frozenset({"event"})
_BOTH: Final = frozenset({"event", "async"})
_PRIORITY_BOUND: Final = 600
_CACHED: Final = 4096
_STEP = r"[A-Za-z_][A-Za-z0-9_]*"
_MATCH = re.compile(rf"{_STEP}(?:\.{_STEP}|\[\"[^\"\\\n]+\"\]|\['[^'\\\n]+'\])*")
_MATCH_STEP = re.compile(rf"{_STEP}|\"[^\"]+\"|'[^']+'")
_logger = logging.getLogger("durable.expressions")


class _Expression:
    """A compiled text: evaluates it, and says once what went wrong."""

    __slots__ = ("_cheap", "_run", "_said", "text", "tree")

    def __init__(self, text: str, roots: frozenset[str]) -> None:
        self.text = text
        self._said = False
        try:
            self.tree: Node = parse(text, roots)
            self._run: Closure = compile_tree(self.tree)
            self._cheap = is_cheap(self.tree)
        except Misread as found:
            refuse(text, found.at, found.message)
        except RecursionError:
            refuse(text, None, "nested too deep for the stack that is left; declare it in a shallower place")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def evaluate(self, event: JSON, async_: JSON = None) -> object:
        """The bare result, whatever its type.

        Args:
            event: The event, decoded.
            async_: The incoming event, for a condition of a wait or a cancellation.

        Raises:
            EvaluationError: There is none: an operation is not defined, or a bound was passed.
        """
        try:
            return self._run([event, async_, Meter(), None, None])
        except RecursionError:
            raise OverBounds("needs a deeper stack than there is") from None

    def say(self, what: object, instead: str) -> None:
        """Log what went wrong, the first time."""
        if not self._said:
            self._said = True
            _logger.warning("expression %r: %s; %s (said once)", self.text, what, instead)


class Condition(_Expression):
    """A compiled condition: call it with the event and, in waits and cancellations, the incoming event.

    Attributes:
        text: The expression as its author wrote it.
        uses_async: Whether it reads the incoming event.
        equalities: What an index can answer of it.
        exact: Whether the equalities are all of it, so that a hit in the index needs no evaluation.
    """

    __slots__ = ("equalities", "exact", "paths", "uses_async")

    def __init__(self, text: str, roots: frozenset[str]) -> None:
        super().__init__(text, roots)
        read = fields_read(self.tree)
        self.uses_async = any(slot == ASYNC_SLOT for slot, _ in read)
        self.paths: frozenset[tuple[str, ...]] = frozenset(keys for slot, keys in read if slot == EVENT_SLOT)
        self.equalities, self.exact = equalities(self.tree)

    def __call__(self, event: JSON, async_: JSON = None) -> bool:
        """Whether the result is the bool `true`: anything else is no match, and so is an error."""
        try:
            result = self._run([event, async_] if self._cheap else [event, async_, Meter(), None, None])
        except (EvaluationError, RecursionError) as error:
            self.say(error, "taken as no match")
            return False
        if result is True:
            return True
        if result is not False:
            self.say("the result is no bool", "taken as no match")
        return False


@frozen
class KeyValue:
    """What a key is for one event.

    Args:
        text: The key itself; "false" and "null" where these are the result.
        off: The result is `false`: rules that can be switched off (singleton, rate limit, idempotency) are.
        null: The result is null, a missing field or an error: idempotency is off, other rules use the text.
    """

    text: str
    off: bool = False
    null: bool = False


_OFF: Final = KeyValue("false", off=True)
_NULL: Final = KeyValue(NULL_KEY, null=True)


class Key(_Expression):
    """A compiled key: call it with the event."""

    __slots__ = ()

    def __call__(self, event: JSON) -> KeyValue:
        """The event's key, as text: `1.0` is `1`, lists and objects are canonical JSON."""
        try:
            result = self.evaluate(event)
            if result is None:
                return _NULL
            return _OFF if result is False else KeyValue(as_text(result, Meter()))
        except EvaluationError as error:
            self.say(error, "the key is `null`")
            return _NULL


class Priority(_Expression):
    """A compiled priority: call it with the event."""

    __slots__ = ()

    def __call__(self, event: JSON) -> int:
        """Seconds from -600 to 600 by which a run goes ahead; 0 if the result is no number."""
        try:
            result = self.evaluate(event)
        except EvaluationError as error:
            self.say(error, "the priority is 0")
            return 0
        if isinstance(result, bool) or not isinstance(result, (int, float)) or isnan(result):
            if result is not None:
                self.say("the result is no number", "the priority is 0")
            return 0
        return int(max(-_PRIORITY_BOUND, min(_PRIORITY_BOUND, result)))


def compile_condition(text: str, *, roots: frozenset[str] = _EVENT) -> Condition:
    """The condition that `text` says.

    Compiled conditions are kept, the last 4,096 of them: waits compile while runs execute.

    Args:
        text: CEL, at most 4,096 characters.
        roots: The documents it may read: "event", and "async" in waits and cancellations.

    Raises:
        ConfigError: The text is no such expression; the message says where, why and what would be right.

    Example:
        >>> compile_condition("async.data.id == event.data.id", roots=frozenset({"event", "async"})).exact
        True
    """
    return _condition(_checked(text), roots)


def compile_match(path_text: str) -> Condition:
    """The condition behind `match=`: a field is the same in the run's event and in the incoming one.

    Args:
        path_text: The field below the event: names with dots, or ``["…"]`` for other keys.

    Raises:
        ConfigError: It is no path.

    Example:
        >>> compile_match("data.order_id").text
        'event.data.order_id == async.data.order_id'
    """
    text = _checked(path_text).strip()
    if _MATCH.fullmatch(text) is None:
        refuse(
            path_text, None, 'no path; write the field below the event: "data.order_id", \'data["order-id"]\''
        )
    first, *rest = _MATCH_STEP.findall(text)
    if first in _BOTH:
        refuse(path_text, None, f"leave out the root: {'.'.join(rest) or 'data.order_id'!r}")
    reserved = {"true", "false", "null", "in"}
    path = "".join(
        f'["{step}"]' if step in reserved else f"[{step}]" if step[0] in "\"'" else f".{step}"
        for step in (first, *rest)
    )
    return _condition(f"event{path} == async{path}", _BOTH)


def compile_key(text: str) -> Key:
    """The key that `text` says, over `event`.

    Raises:
        ConfigError: As for `compile_condition`.

    Example:
        >>> compile_key("event.data.user")({"data": {"user": 7.0}}).text
        '7'
    """
    return _key(_checked(text))


def compile_priority(text: str) -> Priority:
    """The priority that `text` says, over `event`, in seconds.

    Raises:
        ConfigError: As for `compile_condition`.

    Example:
        >>> compile_priority("event.data.plan == 'gold' ? 120 : 0")({"data": {"plan": "gold"}})
        120
    """
    return _priority(_checked(text))


@lru_cache(maxsize=_CACHED)
def _condition(text: str, roots: frozenset[str]) -> Condition:
    return Condition(text, roots)


@lru_cache(maxsize=_CACHED)
def _key(text: str) -> Key:
    return Key(text, _EVENT)


@lru_cache(maxsize=_CACHED)
def _priority(text: str) -> Priority:
    return Priority(text, _EVENT)


def _checked(text: object) -> str:
    if not isinstance(text, str):
        refuse(
            text,
            None,
            f"a {type(text).__name__}; an expression is a str of CEL, such as 'event.data.amount > 100'",
        )
    return text


def index_key(value: JSON) -> str | None:
    """A value as an index knows it; ``None`` for null, which matches nothing.

    Two values have one key exactly if `==` holds between them: 1 and 1.0 alike, true and 1 and "1" apart.

    Example:
        >>> index_key(1.0), index_key("1"), index_key([True, {"a": 2}]), index_key(None)
        ('1', '"1"', '[true,{"a":2}]', None)
    """
    if value is None or value != value:  # noqa: PLR0124 (NaN equals nothing)
        return None
    # Linear: an event that was accepted is never too large for its index.
    return canonical(value, Unmetered())


def prune(condition: Condition, event: JSON) -> JSON:
    """The part of `event` that `condition` reads: evaluated with it, the condition answers the same.

    Why: a stored wait carries it instead of the whole event.

    Example:
        >>> prune(compile_condition("event.data.id == 7"), {"name": "n", "data": {"id": 7, "more": 1}})
        {'data': {'id': 7}}
    """
    return event if () in condition.paths else cut(event, condition.paths)
