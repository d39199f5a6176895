"""What ends runs from outside: cancelling events and time limits, as a user declares them.

Duty: values that check themselves. The expressions in them are compiled by the core, when the function is
declared.
"""

from __future__ import annotations

import attrs

from durable.durations import Duration, PointInTime, point_or_duration_ms, shown, to_ms
from durable.errors import ConfigError
from durable.names import exact

__all__ = ["CancelOn", "Timeouts"]


@attrs.frozen
class CancelOn:
    """Cancel the run when an event comes.

    Args:
        event: The exact name of the event.
        if_: A CEL condition over ``event`` (which started the run) and ``async`` (which came now).
        match: A path that must have the same value in both, such as ``"data.order_id"``.
        timeout: How long after the run was created it listens; ``None``: as long as the run lives.

    Raises:
        ConfigError: A value is none of these, or both `if_` and `match` are given.
    """

    event: str
    if_: str | None = None
    match: str | None = None
    timeout: Duration | PointInTime | None = None

    def __attrs_post_init__(self) -> None:
        name = exact(self.event)
        if name is None or "*" in name:
            raise ConfigError(f"CancelOn.event must be the exact name of an event, got {shown(self.event)}")
        object.__setattr__(self, "event", name)
        if self.if_ is not None and self.match is not None:
            raise ConfigError(f"CancelOn({shown(name)}): give either if_ or match, not both")
        if self.timeout is not None:
            point_or_duration_ms(self.timeout, 0, what=f"CancelOn({shown(name)}): timeout")


@attrs.frozen
class Timeouts:
    """How long a run may take; over it, the run is cancelled at the deadline itself.

    Args:
        start: From the moment in which the run was created (or its event's future `ts`) to its first
            execution.
        finish: From its first execution to its end.

    Raises:
        ConfigError: A value is no duration.
    """

    start: Duration | None = None
    finish: Duration | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("start", "finish"):
            value = getattr(self, name)
            if value is not None and to_ms(value, what=f"Timeouts.{name}") == 0:
                raise ConfigError(f"Timeouts.{name} must be longer than nothing, got {shown(value)}")

    @property
    def start_ms(self) -> int | None:
        """The limit to the first execution, in milliseconds."""
        return None if self.start is None else to_ms(self.start)

    @property
    def finish_ms(self) -> int | None:
        """The limit to the end, in milliseconds."""
        return None if self.finish is None else to_ms(self.finish)
