"""Exceptions to error records: what is stored of a failure.

Duty: an exception's name, message and stack, bounded and without the engine's own frames. It never raises
because of what users' exceptions do. It knows errors, and nothing of steps or runs.
"""

from __future__ import annotations

import importlib.util
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import orjson

from durable.errors import NonRetriableError, SerializationError, StepError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["OWN_FRAMES", "ErrorRecord", "error_record", "leaves"]

_LONGEST_NAME = 255
_LONGEST_MESSAGE = 64 * 1024
_LONGEST_STACK = 32 * 1024
_MOST_FRAMES = 100  # of one exception, before trimming: a runaway recursion has a thousand


def _folder(package: str) -> str:
    """The folder of a package, which is looked up and not imported."""
    found = importlib.util.find_spec(package)
    place = found.origin if found is not None else None
    return str(Path(place or __file__).parent) + os.sep


OWN_FRAMES: Final[tuple[str, ...]] = (
    str(Path(__file__).parent) + os.sep,
    _folder("asyncio"),
    _folder("anyio"),
    _folder("concurrent.futures"),
)
"""Folders whose frames are trimmed from stored stacks: durable, and the plumbing around it."""


@attrs.frozen
class ErrorRecord:
    """What is stored of a failure.

    Args:
        name: The class name of the exception, without its module.
        message: Its message.
        stack: Its traceback without the engine's own frames.
        step_id: The step that failed, where one did.

    Example:
        >>> ErrorRecord.decode(ErrorRecord("ValueError", "no such order").encode()).message
        'no such order'
    """

    name: str
    message: str
    stack: str | None = None
    step_id: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The record as internal events carry it."""
        return {"name": self.name, "message": self.message, "stack": self.stack, "step_id": self.step_id}

    def encode(self) -> bytes:
        """The record as JSON bytes."""
        return orjson.dumps(self.as_json())

    @staticmethod
    def from_json(value: object) -> ErrorRecord:
        """The record from what `as_json` made.

        Raises:
            SerializationError: It is none.
        """
        if isinstance(value, dict):
            found = cast("dict[str, Any]", value)
            name, message = found.get("name"), found.get("message")
            stack, step_id = found.get("stack"), found.get("step_id")
            if isinstance(name, str) and isinstance(message, str):
                return ErrorRecord(
                    name,
                    message,
                    stack if isinstance(stack, str) else None,
                    step_id if isinstance(step_id, str) else None,
                )
        msg = "an error record must be an object with `name` and `message`"
        raise SerializationError(msg)

    @staticmethod
    def decode(data: bytes) -> ErrorRecord:
        """The record from what `encode` made.

        Raises:
            SerializationError: It is none.
        """
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            msg = f"an error record must be JSON: {exc}"
            raise SerializationError(msg) from exc
        return ErrorRecord.from_json(value)


def error_record(exc: BaseException, *, step_id: str | None = None, trim: Iterable[str] = ()) -> ErrorRecord:
    """What to store of an exception.

    A `StepError` keeps its own name, message, stack and step. A group of nothing but `StepError` and
    `NonRetriableError` counts as its first leaf. Messages are cut at 65,536 characters, stacks in their
    middle to 32,768.

    Args:
        exc: The exception; nothing that it does makes this raise.
        step_id: The step that it came from.
        trim: More folders (with a separator at the end) whose frames are left out, besides `OWN_FRAMES`.

    Example:
        >>> error_record(ValueError("no such order"), step_id="load").name
        'ValueError'
    """
    leaf = _leaf(exc)
    if isinstance(leaf, StepError):
        stack = leaf.stack if leaf.stack is not None and leaf is exc else _stack(exc, (*OWN_FRAMES, *trim))
        own = leaf.step_id if leaf.step_id is not None else step_id
        return ErrorRecord(
            _text(leaf.name, _LONGEST_NAME), _text(leaf.message, _LONGEST_MESSAGE), stack, _id(own)
        )
    name = _text(type(leaf).__name__, _LONGEST_NAME)
    return ErrorRecord(name, _message(leaf), _stack(exc, (*OWN_FRAMES, *trim)), _id(step_id))


def _leaf(exc: BaseException) -> BaseException:
    """The first leaf of a group that counts as one of its leaves; else the exception itself."""
    found = list(leaves(exc))
    only_ours = all(isinstance(leaf, StepError | NonRetriableError) for leaf in found)
    return found[0] if only_ours else exc


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions that a group holds, at any depth and in their order; of anything else, itself."""
    left = [exc]
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left.extend(reversed(cast("BaseExceptionGroup[BaseException]", one).exceptions))
        else:
            yield one


def _message(exc: BaseException) -> str:
    try:
        return _text(str(exc), _LONGEST_MESSAGE)
    except Exception as again:
        return f"(its message cannot be read: {type(again).__name__})"


def _text(text: str, longest: int) -> str:
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    # Halves of surrogate pairs, which file names may hold, are no Unicode text.
    return text.encode("utf-8", "backslashreplace").decode()


def _id(step_id: str | None) -> str | None:
    return None if step_id is None else _text(step_id, _LONGEST_MESSAGE)


def _stack(exc: BaseException, folders: tuple[str, ...]) -> str | None:
    try:
        report = traceback.TracebackException.from_exception(exc, limit=-_MOST_FRAMES, compact=True)
        _trim(report, folders)
        text = "".join(report.format())
    except Exception as again:
        return f"(the stack cannot be shown: {type(again).__name__})"
    if len(text) > _LONGEST_STACK:
        half = _LONGEST_STACK // 2 - 50
        text = f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"
    return _text(text, _LONGEST_STACK)


def _trim(report: traceback.TracebackException, folders: tuple[str, ...]) -> None:
    """Leave the engine's frames out of an exception and of all that it came from or holds."""
    reports = [report]
    for found in reports:
        kept = [frame for frame in found.stack if not frame.filename.startswith(folders)]
        # Where nothing is the user's, the place where it was raised is better than none.
        kept = kept or list(found.stack[-1:])
        # Without columns: finding where the carets go parses each line, and takes half of the time.
        found.stack = traceback.StackSummary.from_list(
            [traceback.FrameSummary(f.filename, f.lineno, f.name, line=f.line) for f in kept]
        )
        reports.extend(more for more in (found.__cause__, found.__context__) if more is not None)
        reports.extend(found.exceptions or ())
