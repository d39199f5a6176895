"""Functions: a handler with an id, triggers and configuration, as a value.

`function` checks everything that can be checked at the place where it is written. It registers nothing
anywhere: an engine is given the functions that it hosts.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import attrs

from durable._core.expressions import compile_condition, compile_key, compile_match
from durable.codec import return_decoder
from durable.durations import shown
from durable.errors import ConfigError
from durable.flow import CancelOn, Timeouts
from durable.names import exact
from durable.retries import DEFAULT_BACKOFF, Backoff, RetryDelays
from durable.triggers import CronTrigger, EventTrigger, on

if TYPE_CHECKING:
    from durable.codec import Decoder
    from durable.context import Context

__all__ = ["Function", "FunctionConfig", "Handler", "function"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Handler = Callable[[Any], Coroutine[Any, Any, T]]
Trigger = str | EventTrigger | CronTrigger

_LONGEST_ID = 255
_MOST_TRIGGERS = 10
_MOST_CANCELS = 5
_MOST_RETRIES = 20
_BOTH = frozenset({"event", "async"})


@attrs.frozen
class FunctionConfig:
    """The configuration of a function, checked.

    `retries` counts those after the first attempt, of each step by itself and of the handler. `failure_of`
    is set on an `on_failure` handler: the id of the function whose failures it handles.
    """

    id: str
    name: str
    triggers: tuple[EventTrigger | CronTrigger, ...] = ()
    retries: int = 4
    backoff: RetryDelays = DEFAULT_BACKOFF
    idempotency: str | None = None
    cancel_on: tuple[CancelOn, ...] = ()
    on_cancel: Literal["finish", "interrupt"] = "finish"
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    failure_of: str | None = None


class Function(Generic[T_co]):
    """A durable function: what `function` makes of a handler. Callable as the bare handler, for unit tests."""

    __slots__ = ("_handler", "config", "decoder", "on_failure")

    def __init__(
        self,
        handler: Callable[[Any], Coroutine[Any, Any, T_co]],
        config: FunctionConfig,
        on_failure: Function[Any] | None = None,
    ) -> None:
        self._handler = handler
        self.config = config
        self.on_failure = on_failure
        try:
            self.decoder: Decoder = return_decoder(handler)
        except ConfigError as error:
            raise ConfigError(f"function {config.id!r}: what its handler returns: {error}") from error

    @property
    def id(self) -> str:
        """The id, as it was declared."""
        return self.config.id

    @property
    def name(self) -> str:
        """The name for people; the id, where none was given."""
        return self.config.name

    def __call__(self, ctx: Any) -> Coroutine[Any, Any, T_co]:
        return self._handler(ctx)

    def __repr__(self) -> str:
        return f"<durable.Function {self.id!r}>"


def function(
    id: str,
    *,
    trigger: Trigger | Sequence[Trigger] | None = None,
    name: str | None = None,
    retries: int = 4,
    backoff: Backoff | None = None,
    idempotency: str | None = None,
    cancel_on: CancelOn | Sequence[CancelOn] = (),
    on_cancel: Literal["finish", "interrupt"] = "finish",
    timeouts: Timeouts | None = None,
    on_failure: Callable[[Context], Awaitable[Any]] | None = None,
) -> Callable[[Callable[[Context], Coroutine[Any, Any, T]]], Function[T]]:
    """Make a durable function of ``async def handler(ctx)``.

    Args:
        id: Its stable name, 1..255 printable characters: another id is another function.
        trigger: What starts it: an event's name or pattern, `on`, `cron`, or a list of up to 10; ``None``:
            only `invoke` and `Engine.start` do.
        name: A name for people.
        retries: Retries after the first attempt, 0..20, for each step independently and for the handler.
        backoff: How long to wait between attempts; ``None``: 15 s, 30 s, 1 m, 2 m, 5 m, 10 m, 20 m, 40 m, 1 h,
            2 h, each plus up to 30 s.
        idempotency: A CEL key over ``event``: one run per value in 24 hours.
        cancel_on: Up to 5 events that cancel a run.
        on_cancel: What a step's callback in flight gets when its run is cancelled: it may ``"finish"``, or is
            sent `asyncio.CancelledError` (``"interrupt"``).
        timeouts: Limits to the start and the end of a run.
        on_failure: ``async def handler(ctx)`` that runs, as a function of its own, after a run has failed for
            good: ``ctx.event.data["event"]`` is the original event, ``ctx.event.data["error"]`` the error.

    Raises:
        ConfigError: Something is wrong: the message names the function, the option, the value and the remedy.

    Example:
        >>> @durable.function("greet", trigger="user/created", retries=2)
        ... async def greet(ctx: durable.Context) -> str:
        ...     return await ctx.step.run("hello", hello, ctx.event.data["name"])
    """
    own = _checked_id(id)
    here = f"function {own!r}"
    config = FunctionConfig(
        id=own,
        name=_named(here, name, own),
        triggers=_triggers(here, trigger),
        retries=_retries(here, retries),
        backoff=_backoff(here, backoff),
        idempotency=_idempotency(here, idempotency),
        cancel_on=_cancel_on(here, cancel_on),
        on_cancel=_on_cancel(here, on_cancel),
        timeouts=_timeouts(here, timeouts),
    )

    def decorate(handler: Callable[[Context], Coroutine[Any, Any, T]]) -> Function[T]:
        _check_handler(here, "the handler", handler)
        failure = None
        if on_failure is not None:
            _check_handler(here, "on_failure", on_failure)
            of_failure = FunctionConfig(
                id=f"{own}-failure",
                name=f"{config.name} (failure)",
                retries=config.retries,
                backoff=config.backoff,
                failure_of=own,
            )
            failure = Function(cast("Handler[Any]", on_failure), of_failure)
        return Function(handler, config, failure)

    return decorate


# ---------------------------------------------------------------- checks


def _checked_id(id: object) -> str:
    name = exact(id)
    if name is None or len(name) > _LONGEST_ID or not name.isprintable():
        raise ConfigError(f"a function's id must be 1..{_LONGEST_ID} printable characters, got {shown(id)}")
    return name


def _check_handler(here: str, what: str, handler: object) -> None:
    called = handler if inspect.isroutine(handler) else getattr(handler, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(called) and not inspect.iscoroutinefunction(handler):
        raise ConfigError(f"{here}: {what} must be an `async def` function of one argument, got {handler!r}")
    try:
        shape = inspect.signature(cast("Callable[..., Any]", handler))
    except ValueError:  # written in C: it tells nobody
        return
    try:
        shape.bind("ctx")
    except TypeError as error:
        raise ConfigError(
            f"{here}: {what} is called with one argument, the context, which does not fit {shape}: {error}"
        ) from None


def _named(here: str, name: object, default: str) -> str:
    if name is None:
        return default
    text = exact(name)
    if text is None:
        raise ConfigError(f"{here}: name must be a non-empty string, got {shown(name)}")
    return text


def _listed(given: object) -> list[object]:
    """One thing, several, or none, as a list."""
    if isinstance(given, list | tuple):
        return list(cast("Sequence[object]", given))
    return [] if given is None else [given]


def _triggers(here: str, given: object) -> tuple[EventTrigger | CronTrigger, ...]:
    listed = _listed(given)
    if len(listed) > _MOST_TRIGGERS:
        raise ConfigError(f"{here}: trigger holds {len(listed)} triggers; {_MOST_TRIGGERS} are allowed")
    found: list[EventTrigger | CronTrigger] = []
    keys: list[str | None] = []
    for one in listed:
        try:
            made = on(one) if isinstance(one, str) else one
        except ConfigError as error:
            raise ConfigError(f"{here}: {error}") from None
        if not isinstance(made, EventTrigger | CronTrigger):
            raise ConfigError(
                f"{here}: trigger must be an event's name, durable.on(...) or durable.cron(...), got {shown(one)}"
            )
        key = _compile(here, made)
        if made in found:
            raise ConfigError(f"{here}: trigger {made} is given twice")
        if key is not None and key in keys:
            raise ConfigError(
                f"{here}: the cron line {key!r} is given twice; one tick starts one run: give it once, with one "
                "jitter and one missed"
            )
        keys.append(key)
        found.append(made)
    return tuple(found)


def _compile(here: str, trigger: EventTrigger | CronTrigger) -> str | None:
    """Check what is compiled later; for a cron line, the key by which its ticks are counted."""
    if isinstance(trigger, EventTrigger):
        if trigger.if_ is not None:
            _valid(f"{here}: trigger {trigger.event!r}: if_", compile_condition, trigger.if_)
        return None
    from durable._core.schedules import Schedule  # noqa: PLC0415 - croniter is imported on first use

    schedule: Schedule = _valid(f"{here}: trigger", Schedule, trigger)
    return schedule.key


def _valid(where: str, check: Callable[..., Any], *args: Any) -> Any:
    try:
        return check(*args)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _retries(here: str, retries: object) -> int:
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= _MOST_RETRIES:
        raise ConfigError(f"{here}: retries must be a whole number, 0..{_MOST_RETRIES}, got {shown(retries)}")
    return retries


def _backoff(here: str, backoff: object) -> RetryDelays:
    if backoff is None:
        return DEFAULT_BACKOFF
    if not isinstance(backoff, Backoff):
        raise ConfigError(f"{here}: backoff must be a durable.Backoff(...), got {shown(backoff)}")
    return backoff


def _idempotency(here: str, key: object) -> str | None:
    if key is not None:
        _valid(f"{here}: idempotency", compile_key, key)
    return cast("str | None", key)


def _cancel_on(here: str, given: object) -> tuple[CancelOn, ...]:
    listed = _listed(given)
    if len(listed) > _MOST_CANCELS:
        raise ConfigError(f"{here}: cancel_on holds {len(listed)} entries; {_MOST_CANCELS} are allowed")
    checked: list[CancelOn] = []
    for one in listed:
        if not isinstance(one, CancelOn):
            raise ConfigError(
                f"{here}: cancel_on must be durable.CancelOn(...) or a list of them, got {shown(one)}"
            )
        where = f"{here}: cancel_on {one.event!r}"
        if one.match is not None:
            _valid(f"{where}: match", compile_match, one.match)
        if one.if_ is not None:
            _valid(f"{where}: if_", partial(compile_condition, roots=_BOTH), one.if_)
        checked.append(one)
    return tuple(checked)


def _on_cancel(here: str, mode: object) -> Literal["finish", "interrupt"]:
    if mode not in ("finish", "interrupt"):
        raise ConfigError(f"{here}: on_cancel must be 'finish' or 'interrupt', got {shown(mode)}")
    return mode


def _timeouts(here: str, timeouts: object) -> Timeouts:
    if timeouts is None:
        return Timeouts()
    if not isinstance(timeouts, Timeouts):
        raise ConfigError(f"{here}: timeouts must be a durable.Timeouts(...), got {shown(timeouts)}")
    return timeouts
