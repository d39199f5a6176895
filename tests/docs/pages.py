"""The documentation as data: its pages, and the code blocks in them.

A block's opening fence may say more than its language:

- ``python``: runs in the namespace of its page, in order; top-level ``await`` is allowed.
- ``python file=NAME``: is written to the page's directory under that name; where `docs/examples` has a file of
  that name, the two must be alike.
- ``python script=NAME``: likewise, and is run as a program; the ``text`` block that follows is what it prints.
- ``python signatures``: one public signature a line, held against the code.
- ``python no-run``: only has to be Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"

_FENCE = re.compile(r"^```(.*)$")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block; `line` is that of its first line of text, counted from 1."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def option(self, name):
        """The value of ``name=value`` behind the language, or ``None``."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)


def pages():
    """All pages, sorted by name."""
    return sorted([ROOT / "README.md", ROOT / "stores" / "README.md", *(ROOT / "docs").rglob("*.md")])


def name_of(page):
    """A page as people call it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """The fenced blocks of a page, in order."""
    found = []
    fence, start, lines = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        match = _FENCE.match(line)
        if match is None:
            lines.append(line)
        elif fence is None:
            fence, start, lines = match[1].split(), number + 1, []
        else:
            language, *words = fence or ["text"]
            found.append(Block(page, start, language, tuple(words), "\n".join(lines) + "\n"))
            fence, lines = None, []
    assert fence is None, f"{name_of(page)}: the block that begins in line {start} is never closed"
    return found


def _prose(page):
    """The lines of a page outside of its blocks."""
    inside = False
    for line in page.read_text().splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            yield line


def links(page):
    """What a page links to."""
    return [target for line in _prose(page) for target in _LINK.findall(line)]


def anchors(page):
    """The anchors that the headings of a page have on the usual sites."""
    headings = [match[1] for line in _prose(page) if (match := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
