"""What starts a function: events by name or pattern, and cron lines.

Duty: the declarations, checked as far as that needs no parser. The CEL text and the cron line are kept as
they were written; the core compiles them. It knows durations and nothing of events or functions.
"""

from __future__ import annotations

import zoneinfo
from typing import Literal, Protocol, TypeAlias, get_args

import attrs

from durable.durations import Duration, shown, to_ms
from durable.errors import ConfigError
from durable.names import exact

__all__ = ["CronTrigger", "EventTrigger", "Missed", "NamedEvent", "Trigger", "cron", "on", "patterns_of"]

Missed: TypeAlias = Literal["latest", "all", "none"]
"""What happens to ticks that came due while nothing ran."""

_LONGEST_CRON = 255
_TOLD_OF_STARTS = ("durable/function.invoked", "durable/cron.fired")
_ZONE_PREFIXES = ("TZ=", "CRON_TZ=")


class NamedEvent(Protocol):
    """What has an event's name: a typed event serves as a trigger."""

    @property
    def name(self) -> str:
        """The event's name."""
        ...


@attrs.frozen
class EventTrigger:
    """Starts a function for each event with this name, or one that fits this pattern.

    Args:
        event: A name, or a pattern: ``"order/*"`` and ``"user.*"`` fit every name that goes on after the
            ``/`` or ``.``.
        if_: A CEL expression over ``event``; the event starts nothing where it is not true.

    Raises:
        ConfigError: The name is empty or of an event that starts nothing, the star stands elsewhere, or
            ``if_`` is not text.
    """

    event: str
    if_: str | None = None

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "event", _check_name(self.event))
        if self.event in _TOLD_OF_STARTS:
            msg = (
                f"the event {shown(self.event)} tells of a run that is started already, and starts none: "
                "durable.cron(...) starts runs by time, step.invoke those of another function"
            )
            raise ConfigError(msg)
        _check_condition(self.if_, self.event)

    @property
    def is_pattern(self) -> bool:
        """Whether it fits more names than one."""
        return self.event.endswith("*")


def _check_name(given: object) -> str:
    name = exact(given)
    if name is None:
        msg = f'a trigger\'s event must be a name such as "order/created"; got {shown(given)}'
        raise ConfigError(msg)
    if "*" in name and not (len(name) > 2 and name.endswith(("/*", ".*")) and name.count("*") == 1):
        msg = (
            "a trigger's pattern must be a name that ends in one `/*` or `.*` after something, "
            f'such as "order/*" or "user.*"; got {shown(name)}'
        )
        raise ConfigError(msg)
    return name


def _check_condition(condition: object, name: str) -> None:
    if condition is not None and (not isinstance(condition, str) or not condition.strip()):
        msg = (
            f"if_ of the trigger {shown(name)} must be a CEL expression "
            f'such as "event.data.amount > 100"; got {shown(condition)}'
        )
        raise ConfigError(msg)


@attrs.frozen
class CronTrigger:
    """Starts a function at each tick of a cron line.

    Args:
        expr: The cron line, without a zone.
        timezone: The IANA name of the zone it is read in.
        jitter: How far a tick may be put off, so that many functions do not start at one instant.
        missed: What happens to ticks that came due while nothing ran.

    Raises:
        ConfigError: A value is none of these; whether the line parses is the core's business.
    """

    expr: str
    timezone: str = "UTC"
    jitter: Duration = 0
    missed: Missed = "latest"

    def __attrs_post_init__(self) -> None:
        expr = self.expr
        _check_line(expr)
        _check_zone(self.timezone, expr)
        to_ms(self.jitter, what=f"jitter of the cron line {shown(expr)}")
        if self.missed not in get_args(Missed):
            msg = (
                f'missed of the cron line {shown(expr)} must be "latest", "all" or "none"; '
                f"got {shown(self.missed)}"
            )
            raise ConfigError(msg)

    @property
    def jitter_ms(self) -> int:
        """How far a tick may be put off, in milliseconds."""
        return to_ms(self.jitter)


def _check_line(expr: object) -> None:
    if not isinstance(expr, str) or not expr.strip() or len(expr) > _LONGEST_CRON:
        msg = (
            f"a cron line must be text of 1 to {_LONGEST_CRON} characters "
            f'such as "0 9 * * 1-5" or "@hourly"; got {shown(expr)}'
        )
        raise ConfigError(msg)


def _check_zone(name: object, expr: str) -> None:
    try:
        if not isinstance(name, str):
            raise ValueError  # noqa: TRY004, TRY301 - answered below, like a name that is not known
        zoneinfo.ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        msg = (
            f'timezone of the cron line {shown(expr)} must be an IANA name such as "Europe/Paris"; '
            f"got {shown(name)}"
        )
        raise ConfigError(msg) from None


Trigger: TypeAlias = EventTrigger | CronTrigger
"""Anything that starts a function."""


def on(event: str | NamedEvent, if_: str | None = None) -> EventTrigger:
    """A trigger: the event that starts a function.

    Args:
        event: A name (``"order/created"``), a pattern (``"order/*"``), or a typed event.
        if_: A CEL expression over ``event``, such as ``"event.data.amount > 100"``.

    Raises:
        ConfigError: The name is empty, the star stands elsewhere, or ``if_`` is not text.

    Example:
        >>> on("order/created", if_="event.data.amount > 100").event
        'order/created'
    """
    return EventTrigger(event if isinstance(event, str) else _name_of(event), if_)


def _name_of(event: NamedEvent) -> str:
    _check_name(getattr(event, "name", event))
    return event.name


def cron(
    expr: str,
    timezone: str | zoneinfo.ZoneInfo | None = None,
    jitter: Duration | None = None,
    missed: Missed = "latest",
) -> CronTrigger:
    """A trigger: the times at which a function starts.

    Args:
        expr: Five fields (minute, hour, day, month, weekday), or six with seconds last, or ``@hourly`` and
            the like; ``TZ=Europe/Paris`` may stand before them.
        timezone: The IANA name of the zone that the line is read in; UTC without one.
        jitter: How far a tick may be put off, a duration.
        missed: What happens to ticks that came due while nothing ran: ``"latest"`` of them runs, ``"all"``,
            or ``"none"``.

    Raises:
        ConfigError: A value is none of these, or two zones are given.

    Example:
        >>> cron("TZ=Europe/Paris 0 9 * * 1-5").timezone
        'Europe/Paris'
    """
    _check_line(expr)
    line = expr.strip()
    zone = timezone.key if isinstance(timezone, zoneinfo.ZoneInfo) else timezone
    if line.startswith(_ZONE_PREFIXES):
        prefix, *rest = line.split(maxsplit=1)
        own = prefix.partition("=")[2]
        if not rest:
            msg = f'a cron line must be times, also after a zone ("TZ=Europe/Paris 0 9 * * *"); got {shown(expr)}'
            raise ConfigError(msg)
        line = rest[0]
        if zone is not None and zone != own:
            msg = f"the cron line {shown(expr)} names a zone, timezone={shown(zone)} another one: give one"
            raise ConfigError(msg)
        zone = own
    return CronTrigger(line.strip(), "UTC" if zone is None else zone, 0 if jitter is None else jitter, missed)


def patterns_of(name: str) -> tuple[str, ...]:
    """All triggers that an event of this name fits: its name, then each pattern, shortest first.

    Example:
        >>> patterns_of("app/user.created")
        ('app/user.created', 'app/*', 'app/user.*')
    """
    cuts = [i for i, letter in enumerate(name) if letter in "/." and 0 < i < len(name) - 1]
    return tuple(dict.fromkeys([name, *(name[: i + 1] + "*" for i in cuts)]))
