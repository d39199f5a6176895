"""ULIDs: the ids of events and runs, sorted by the time they were made.

Duty: 26 characters of Crockford's base32, 48 bits of milliseconds and 80 random ones. It knows nothing of
durable and reads no clock.
"""

from __future__ import annotations

import random

__all__ = ["Ulids", "is_ulid"]

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ALPHABET, _LENGTH = frozenset(_DIGITS), 26
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]  # two digits for each ten bits
_TIMES = 1 << 48
_LOWS = 1 << 20


def is_ulid(text: str) -> bool:
    """Whether a text has the form of an id that is made here.

    Example:
        >>> is_ulid("0000000000V3RS3DTR98H6BCFN"), is_ulid("cursor")
        (True, False)
    """
    return len(text) == _LENGTH and _ALPHABET.issuperset(text)


def _six_pairs(bits: int) -> str:
    """Twelve digits of 60 bits, the most significant first."""
    pairs = _PAIRS
    return (
        pairs[bits >> 50]
        + pairs[bits >> 40 & 1023]
        + pairs[bits >> 30 & 1023]
        + pairs[bits >> 20 & 1023]
        + pairs[bits >> 10 & 1023]
        + pairs[bits & 1023]
    )


class Ulids:
    """Makes ULIDs that grow strictly, also within one millisecond and when the clock steps back.

    Within a millisecond the random bits are counted up. Not for several threads: one for each event loop.

    Args:
        source: Where random bits come from; a seeded `random.Random` makes ids repeatable. The default is
            seeded by the operating system at the first id, so that processes forked before do not draw alike.

    Example:
        >>> Ulids(random.Random(1)).new(0)
        '0000000000V3RS3DTR98H6BCFN'
    """

    __slots__ = ("_head", "_low", "_ms", "_source")

    def __init__(self, source: random.Random | None = None) -> None:
        self._source = source
        self._ms = -1
        self._head = ""  # all digits but the last four
        self._low = _LOWS  # the last twenty bits; run over, so that the first id draws

    def new(self, now_ms: int) -> str:
        """A new ULID, greater than all that this object made before.

        Args:
            now_ms: Milliseconds since the epoch, 0 to 2**48 - 1.

        Raises:
            ValueError: The time is outside those bounds.
        """
        low = self._low + 1
        if now_ms > self._ms or low >= _LOWS:
            self._draw(now_ms)
            low = self._low
        else:
            self._low = low
        return self._head + _PAIRS[low >> 10] + _PAIRS[low & 1023]

    def _draw(self, now_ms: int) -> None:
        """Begin a new millisecond; when the count ran over within one, the next one."""
        ms = max(now_ms, self._ms + 1)
        if not 0 <= now_ms < _TIMES or ms >= _TIMES:
            msg = f"a ULID holds times from 0 to {_TIMES - 1} ms since the epoch; got {now_ms}"
            raise ValueError(msg)
        if self._source is None:
            self._source = random.Random()  # noqa: S311 - no secret: ids have to differ, not to be unguessable
        bits = self._source.getrandbits(80)
        self._head = _six_pairs(ms)[2:] + _six_pairs(bits >> 20)
        self._low = bits & (_LOWS - 1)
        self._ms = ms
