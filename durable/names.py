"""Names as users write them: ids of steps, functions and runs, names of events and signals.

Duty: one reading of them for all of durable. It knows nothing of what they stand for.
"""

from __future__ import annotations

__all__ = ["exact"]


def exact(value: object) -> str | None:
    """A name as a plain `str`; ``None`` for what is none: no text, no character, half of a surrogate pair.

    A member of an `Enum` of texts, or of any other subclass of `str`, is what a store gives back for it, so
    that the first pass sees what each replay will.

    Example:
        >>> exact("order/created"), exact(""), exact(5)
        ('order/created', None, None)
    """
    if type(value) is not str:
        if not isinstance(value, str):
            return None
        value = str.__str__(value)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return None
    return value or None
