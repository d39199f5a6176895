"""Tables in box-drawing characters, or in plain ASCII where the terminal has no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["table"]

_BOX = "┌┬┐├┼┤└┴┘─│"
_ASCII = "+++++++++-|"


def table(
    header: Sequence[str], groups: Sequence[Sequence[Sequence[object]]], *, ascii_only: bool
) -> list[str]:
    r"""The lines of a table; `groups` of rows are set apart by rules, columns of numbers to the right.

    Example:
        >>> print("\n".join(table(["name", "n"], [[["a", 1]], [["all", 1]]], ascii_only=True)))
        +------+---+
        | name | n |
        +------+---+
        | a    | 1 |
        +------+---+
        | all  | 1 |
        +------+---+
    """
    glyphs = _ASCII if ascii_only else _BOX
    rows = [row for group in groups for row in group]
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    right = [all(_is_number(row[i]) for row in rows) for i in range(len(header))]

    def rule(left: str, middle: str, end: str) -> str:
        return left + middle.join(glyphs[9] * (width + 2) for width in widths) + end

    def line(row: Sequence[object]) -> str:
        cells = [
            f"{cell!s:>{width}}" if is_right else f"{cell!s:<{width}}"
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        return f"{glyphs[10]} " + f" {glyphs[10]} ".join(cells) + f" {glyphs[10]}"

    lines = [rule(*glyphs[:3]), line(header)]
    for group in groups:
        lines.append(rule(*glyphs[3:6]))
        lines.extend(line(row) for row in group)
    return [*lines, rule(*glyphs[6:9])]


def _is_number(cell: object) -> bool:
    text = str(cell).removesuffix(" s")
    return text == "-" or text.replace(".", "", 1).isdigit()
