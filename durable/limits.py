"""How much an engine accepts, and how long it keeps what has ended.

Duty: the numbers, checked. Who holds them against what is not its business.
"""

from __future__ import annotations

import attrs

from durable.durations import Duration, shown, to_ms
from durable.errors import ConfigError

__all__ = ["Limits", "Retention"]

_MIB = 1024 * 1024


@attrs.frozen
class Limits:
    """What a run and an event may amount to; going over it is a `LimitError` that names the limit.

    Args:
        steps: Steps in one run.
        step_bytes: Bytes of one step's encoded result, and of a run's.
        run_bytes: Bytes of all that one run has recorded: its events, results and output.
        event_bytes: Bytes of one encoded event.
        event_name: Characters of an event's name.
        sleep: The longest sleep or wait.

    Raises:
        ConfigError: A number is not a whole one from 1 up, or ``sleep`` is no duration.

    Example:
        >>> Limits(steps=10_000, sleep="2w").sleep_ms
        1209600000
    """

    steps: int = 1_000
    step_bytes: int = 4 * _MIB
    run_bytes: int = 32 * _MIB
    event_bytes: int = 512 * 1024
    event_name: int = 512
    sleep: Duration = "366d"

    def __attrs_post_init__(self) -> None:
        for name in ("steps", "step_bytes", "run_bytes", "event_bytes", "event_name"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"Limits.{name} must be a whole number, 1 or more; got {shown(value)}"
                raise ConfigError(msg)
        to_ms(self.sleep, what="Limits.sleep")

    @property
    def sleep_ms(self) -> int:
        """The longest sleep or wait, in milliseconds."""
        return to_ms(self.sleep)


@attrs.frozen
class Retention:
    """How long things are kept: runs and their steps from the run's end, events from their receipt.

    Args:
        runs: Runs that have ended.
        steps: The steps of runs that have ended.
        events: Events.

    Raises:
        ConfigError: A value is no duration.

    Example:
        >>> Retention(runs="30d").runs_ms
        2592000000
    """

    runs: Duration = "7d"
    steps: Duration = "7d"
    events: Duration = "3d"

    def __attrs_post_init__(self) -> None:
        for name in ("runs", "steps", "events"):
            to_ms(getattr(self, name), what=f"Retention.{name}")

    @property
    def runs_ms(self) -> int:
        """How long a run is kept, in milliseconds."""
        return to_ms(self.runs)

    @property
    def steps_ms(self) -> int:
        """How long the steps of a run are kept, in milliseconds."""
        return to_ms(self.steps)

    @property
    def events_ms(self) -> int:
        """How long an event is kept, in milliseconds."""
        return to_ms(self.events)
