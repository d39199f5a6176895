"""The text of an expression, before celpy sees it: string literals, comments, depth of brackets.

Duty: to read all string and bytes literals itself and to leave blank ones in their places; to bound length
and nesting; to say where an error stands. It may not know celpy, trees or documents.

Why: celpy's pattern for strings takes exponential time on an unterminated string with backslashes, accepts
escapes that CEL has not, and takes a backslash in a raw string for an escape. With blank literals it is
harmless.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from durable.errors import ConfigError

__all__ = ["DEEPEST", "LONGEST", "TOO_DEEP", "Misread", "Scanned", "refuse", "scan"]

LONGEST: Final = 4096
"""Characters in one expression."""

DEEPEST: Final = 40
"""Brackets, calls, conditionals and unary operators inside each other."""

TOO_DEEP: Final = f"nested more than {DEEPEST} levels deep; split the expression, or decide in the handler"
"""What is said of deeper ones."""

_SHOWN = 200
_IDENT = re.compile(r"[A-Za-z_0-9]+")
_OPENING = re.compile(r"([bB]?)([rR]?)(\"\"\"|'''|\"|')")
_PLAIN_ESCAPES: Final = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))
_NUMBERED = re.compile(r"[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})")


class Misread(Exception):
    """Something is wrong at the offset `at` of the text; ``None`` where no place is to blame."""

    def __init__(self, at: int | None, message: str) -> None:
        super().__init__(message)
        self.at = at
        self.message = message


class Scanned:
    """A text with blank literals.

    Args:
        text: As long as the original, line for line and column for column.
        literals: The value of each string or bytes literal, by its offset.
    """

    __slots__ = ("literals", "text")

    def __init__(self, text: str, literals: dict[int, str | bytes]) -> None:
        self.text = text
        self.literals = literals


def refuse(text: object, at: int | None, message: str) -> NoReturn:
    """Raise the `ConfigError` for an expression: which one, where, what is wrong and what would be right."""
    shown = repr(text if not isinstance(text, str) or len(text) <= _SHOWN else text[:_SHOWN] + "…")
    where = ""
    if at is not None and isinstance(text, str):
        line = text.count("\n", 0, at) + 1
        where = f", line {line} column {at - (text.rfind(chr(10), 0, at) + 1) + 1}"
    raise ConfigError(f"expression {shown[: _SHOWN * 2]}{where}: {message}") from None


def scan(text: str) -> Scanned:
    """Read the literals of `text`, blank them and its comments, and count its brackets.

    Raises:
        Misread: The text is empty, too long or too deep, or a literal is not CEL.

    Example:
        >>> scan('a == "x" // why').text
        'a == ""        '
    """
    if len(text) > LONGEST:
        raise Misread(None, f"{len(text)} characters; at most {LONGEST:,} are allowed")
    if not text.strip():
        raise Misread(
            None,
            'is empty; write a CEL expression such as `event.data.amount > 100 || "x" in event.data.tags`',
        )
    out: list[str] = []
    literals: dict[int, str | bytes] = {}
    at, depth = 0, 0
    while at < len(text):
        opening = _OPENING.match(text, at)
        if opening is not None:
            literals[at], end = _read(text, opening)
            out.append('""' + re.sub(r"[^\n]", " ", text[at + 2 : end]))
        elif text.startswith("//", at):
            found = text.find("\n", at)
            end = len(text) if found < 0 else found
            out.append(" " * (end - at))
        else:
            word = _IDENT.match(text, at)
            end = word.end() if word else at + 1
            out.append(text[at:end])
            depth += (text[at] in "([{") - (text[at] in ")]}")
            if depth > DEEPEST:
                raise Misread(
                    at,
                    TOO_DEEP,
                )
        at = end
    return Scanned("".join(out), literals)


def _read(text: str, opening: re.Match[str]) -> tuple[str | bytes, int]:
    in_bytes, raw, quote = bool(opening[1]), bool(opening[2]), opening[3]
    parts: list[str | bytes] = []
    at = opening.end()
    while True:
        if at >= len(text) or (text[at] in "\r\n" and len(quote) == 1):
            raise Misread(
                opening.start(), f"a literal that begins with {quote} is not closed; end it with {quote}"
            )
        if text.startswith(quote, at):
            break
        if text[at] == "\\" and not raw:
            part, at = _escape(text, at, in_bytes=in_bytes)
        else:
            part, at = text[at], at + 1
        parts.append(part)
    if not in_bytes:
        return "".join(part for part in parts if isinstance(part, str)), at + len(quote)
    try:
        found = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    except UnicodeEncodeError:
        raise Misread(opening.start(), "holds half of a surrogate pair, which no text may") from None
    return found, at + len(quote)


def _escape(text: str, at: int, *, in_bytes: bool) -> tuple[str | bytes, int]:
    following = text[at + 1 : at + 2]
    if following in _PLAIN_ESCAPES:
        return _PLAIN_ESCAPES[following], at + 2
    numbered = _NUMBERED.match(text, at + 1)
    if numbered is None:
        raise Misread(
            at, f"`\\{following}` is no escape of CEL; write `\\\\` for a backslash, or a raw string r'…'"
        )
    base = 8 if numbered[4] else 16
    code = int(numbered[1] or numbered[2] or numbered[3] or numbered[4], base)
    if in_bytes:
        if numbered[2] or numbered[3]:
            raise Misread(at, "`\\u` and `\\U` have no place in bytes; write the bytes as `\\xHH`")
        return bytes([code]), numbered.end()
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise Misread(at, f"U+{code:X} is no character")
    return chr(code), numbered.end()
