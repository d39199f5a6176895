"""Parameters that a statement uses more than once: named ``:p1``, ``:p2`` and so on.

`sqlite3` deprecates numbers (``?1``) bound from a sequence.
"""

from __future__ import annotations

__all__ = ["numbered"]


def numbered(*values: object) -> dict[str, object]:
    """Values for ``:p1``, ``:p2`` ... in order."""
    return {f"p{number}": value for number, value in enumerate(values, 1)}
