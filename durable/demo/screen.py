"""Where the demo shows itself: a block that is redrawn in a terminal, a line now and then in a pipe."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from durable.demo.table import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

__all__ = ["Screen"]

_PIPE_SECONDS = 1.0
"""How often progress is told where it cannot be redrawn."""

_PLAIN = str.maketrans("█▓░·✓✗→", "#=.|+x>")

_COLOURS = {"good": "32", "bad": "31", "strong": "1", "faint": "2"}


class Screen:
    """A stream that people look at; `seconds` on it count from its creation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self._live and "NO_COLOR" not in os.environ
        self.ascii_only = not _can_draw(stream)
        self._began = time.monotonic()
        self._drawn = 0
        self._told = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been there."""
        return time.monotonic() - self._began

    def say(self, text: str = "", style: str | None = None) -> None:
        """Add a line that stays."""
        self._wipe()
        self._line(self._styled(text, style))
        self._stream.flush()

    def note(self, text: str, style: str | None = None) -> None:
        """Add a line that stays, with the time."""
        self.say(f"{self.seconds:7.2f} s  {text}", style)

    def show(self, block: Sequence[str], summary: str) -> None:
        """Redraw the block in a terminal; elsewhere, say the summary if that was not done for a while."""
        if not self._live:
            if self.seconds - self._told >= _PIPE_SECONDS:
                self._told = self.seconds
                self.note(summary)
            return
        self._wipe()
        width = shutil.get_terminal_size().columns - 1
        for line in block:
            self._line(self._styled(line[:width], "faint"))
        self._drawn = len(block)
        self._stream.flush()

    def table(self, header: Sequence[str], groups: Sequence[Sequence[Sequence[object]]]) -> None:
        """Add a table."""
        for line in table(header, groups, ascii_only=self.ascii_only):
            self.say(f"  {line}")

    def bar(self, *parts: tuple[str, int], width: int = 32) -> str:
        """A bar whose parts are filled with these characters in these proportions."""
        whole = sum(count for _, count in parts) or 1
        drawn = ""
        passed = 0
        for glyph, count in parts:
            passed += count
            drawn += glyph * (round(passed * width / whole) - len(drawn))
        return drawn

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write(f"\x1b[{self._drawn}A\x1b[0J")
            self._drawn = 0

    def _line(self, text: str) -> None:
        self._stream.write((text.translate(_PLAIN) if self.ascii_only else text) + "\n")

    def _styled(self, text: str, style: str | None) -> str:
        if style is None or not self._colours:
            return text
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"


def _can_draw(stream: TextIO) -> bool:
    try:
        "┌─█✓".encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
