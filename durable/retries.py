"""How long a failed attempt waits for the next one.

Duty: delays from the number of the failed attempt and one random draw. It knows durations; who draws, counts
and waits is not its business.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import attrs

from durable.durations import Duration, shown, to_ms
from durable.errors import ConfigError

__all__ = ["DEFAULT_BACKOFF", "Backoff", "BackoffTable", "RetryDelays"]


class RetryDelays(Protocol):
    """What says how long to wait after a failed attempt."""

    def delay_ms(self, failed_attempt: int, draw: float) -> int:
        """Milliseconds to wait.

        Args:
            failed_attempt: The attempt that failed, counted from 0.
            draw: A random number, 0 <= draw < 1: one for each retry.
        """
        ...


@attrs.frozen
class Backoff:
    """Exponential backoff: ``initial * factor ** failed_attempt``, at most ``maximum``, plus jitter.

    Args:
        initial: The wait after the first attempt.
        factor: How much longer each wait is than the one before; 1 or more.
        maximum: The longest wait, before jitter.
        jitter: The most that is added at random, evenly from 0.

    Raises:
        ConfigError: A value is none of these.

    Example:
        >>> Backoff("1s", 3, jitter=0).delay_ms(2, 0.5)
        9000
    """

    initial: Duration = "15s"
    factor: float = 2.0
    maximum: Duration = "2h"
    jitter: Duration = "30s"

    def __attrs_post_init__(self) -> None:
        initial = to_ms(self.initial, what="Backoff.initial")
        to_ms(self.jitter, what="Backoff.jitter")
        if not _is_factor(self.factor):
            msg = f"Backoff.factor must be a number, 1 or more; got {shown(self.factor)}"
            raise ConfigError(msg)
        if to_ms(self.maximum, what="Backoff.maximum") < initial:
            msg = (
                f"Backoff.maximum must not be shorter than Backoff.initial ({shown(self.initial)}); "
                f"got {shown(self.maximum)}"
            )
            raise ConfigError(msg)

    def delay_ms(self, failed_attempt: int, draw: float) -> int:
        """Milliseconds to wait after the failed attempt with this number, counted from 0."""
        longest = to_ms(self.maximum)
        try:
            wait = min(to_ms(self.initial) * float(self.factor) ** failed_attempt, longest)
        except OverflowError:
            wait = longest if to_ms(self.initial) else 0
        return math.ceil(wait) + int(draw * to_ms(self.jitter))


def _is_factor(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf


@attrs.frozen
class BackoffTable:
    """Waits that are listed; the last one holds for all further attempts.

    Args:
        waits: The wait after each attempt in turn, without jitter; at least one.
        jitter: The most that is added at random, evenly from 0.

    Raises:
        ConfigError: A value is none of these.

    Example:
        >>> BackoffTable(("1s", "1m"), "10s").delay_ms(7, 0.5)
        65000
    """

    waits: tuple[Duration, ...]
    jitter: Duration = "30s"

    def __attrs_post_init__(self) -> None:
        if not self.waits:
            msg = "BackoffTable.waits must list at least one wait"
            raise ConfigError(msg)
        for number, wait in enumerate(self.waits):
            to_ms(wait, what=f"BackoffTable.waits[{number}]")
        to_ms(self.jitter, what="BackoffTable.jitter")

    def delay_ms(self, failed_attempt: int, draw: float) -> int:
        """Milliseconds to wait after the failed attempt with this number, counted from 0."""
        wait = self.waits[min(failed_attempt, len(self.waits) - 1)]
        return to_ms(wait) + int(draw * to_ms(self.jitter))


DEFAULT_BACKOFF: Final = BackoffTable(("15s", "30s", "1m", "2m", "5m", "10m", "20m", "40m", "1h", "2h"))
"""What holds where a function or a step says nothing else."""
