"""The four gates on which all flow control rests, as pure functions over tiny states.

========  ==============================  =======================  ====================
gate      question                        asked by `admit`         asked by `claim`
========  ==============================  =======================  ====================
slot      is one of n places free?        --                       concurrency
rate      may one more pass?              rate limit (drop)        throttle (delay)
latch     is this key held until t?       idempotency, singleton   --
buffer    add; when is it flushed?        debounce, batch          --
========  ==============================  =======================  ====================

Every store, and the model in the exam, decides by these (or by their translation into Lua). They know no
store, no clock and no keys: times come in and go out as integers, in milliseconds where no unit is named.
"""

from __future__ import annotations

__all__ = ["batch_due", "debounce_due", "latch_is_free", "rank", "rate_passes", "slot_is_free", "throttle"]

_TIES = 1024


def rank(due: int, priority: int, number: int) -> int:
    """Order of a job in its lane, the smaller the sooner; fits 53 bits, so that it is exact in Lua, too.

    Priority (seconds) moves the rank and never the due time. `number` counts the jobs of the store: among
    equals the older goes first.
    """
    return (due - 1000 * priority) * _TIES + number % _TIES


def slot_is_free(held: int, limit: int) -> bool:
    """Whether one more of `limit` places may be taken; a limit that was lowered leaves more held."""
    return held < limit


def rate_passes(oldest: int | None, newest: int | None, now: int, period: int) -> bool:
    """Whether one more passes, of at most `limit` in *any* rolling `period`.

    The acceptances of a key are numbered; `oldest` is the time of the one `limit` before this one (``None``:
    there were fewer), `newest` the time of the last. Exact, in constant time; a clock that steps back
    changes nothing, since time is never taken to be before `newest`.
    """
    return oldest is None or max(now, newest or now) - oldest >= period


def throttle(tat_us: int | None, now: int, limit: int, period: int, burst: int) -> tuple[bool, int]:
    """Ask for one passage: at once at most 1 + `burst`, then one per `period` / `limit`.

    The generic cell rate algorithm (ITU-T I.371, "virtual scheduling") in integer microseconds, with the
    interval rounded up. `tat_us` is the stored theoretical arrival time, ``None`` for a fresh key.

    Returns:
        ``(True, new tat_us)``, or ``(False, the first ms at which it will pass)``.
    """
    interval = -(-period * 1000 // limit)
    now_us = now * 1000
    tat = now_us if tat_us is None else max(tat_us, now_us)
    opens = tat - burst * interval
    if opens <= now_us:
        return True, tat + interval
    return False, -(-opens // 1000)


def latch_is_free(until: int | None, now: int) -> bool:
    """Whether a latch that is held until `until` (``None``: never taken) may be taken."""
    return until is None or until <= now


def debounce_due(first: int, now: int, period: int, timeout: int | None) -> int:
    """When a debounce flushes, after an event at `now`: `period` later, at most `timeout` after the first."""
    due = now + period
    return due if timeout is None else max(now, min(due, first + timeout))


def batch_due(first: int, now: int, size: int, held: int, timeout: int) -> int:
    """When a batch of `held` events flushes: at once when it is full, else `timeout` after the first."""
    return now if held >= size else first + timeout
