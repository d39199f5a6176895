"""What engines have registered: functions, their limits and pauses, and the paths by which waits are indexed.

Duty: the registry and its version. It may not know runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Registered, Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.records import Cursor, Registration, Rule

__all__ = ["Functions"]


class Functions:
    """All functions that were ever registered."""

    __slots__ = ("_by_name", "_paths", "_paused", "version")

    def __init__(self) -> None:
        self.version = 0
        self._by_name: dict[str, Registration] = {}
        self._paused: set[str] = set()
        self._paths: set[tuple[str, str]] = set()

    def register(self, functions: Sequence[Registration]) -> dict[tuple[str, str], Rule | None]:
        """Replace what differs; the limits that changed by that, and what they are now."""
        limits: dict[tuple[str, str], Rule | None] = {}
        changed = False
        for registration in functions:
            name = registration.function
            before = self._by_name.get(name)
            if registration == before:
                continue
            changed = True
            self._by_name[name] = registration
            self._paths.update(registration.paths)
            old = dict(before.rules) if before is not None else {}
            new = dict(registration.rules)
            limits.update(
                {(name, rule): new.get(rule) for rule in old | new if old.get(rule) != new.get(rule)}
            )
        self.version += changed
        return limits

    def index(self, event: str, path: str) -> None:
        """A wait is indexed by `path`: events made without knowing it would miss the wait."""
        if (event, path) not in self._paths:
            self._paths.add((event, path))
            self.version += 1

    def pause(self, function: str, paused: bool) -> None:
        """Whether plans of `function` leave skipped runs."""
        if function not in self._by_name or paused is (function in self._paused):
            return
        if paused:
            self._paused.add(function)
        else:
            self._paused.discard(function)
        self.version += 1

    def paused(self, function: str) -> bool:
        """Whether `function` is paused."""
        return function in self._paused

    def snapshot(self, cursors: tuple[Cursor, ...]) -> Registry:
        """Everything by which events are matched."""
        functions = tuple(
            Registered(self._by_name[name], name in self._paused) for name in sorted(self._by_name)
        )
        return Registry(self.version, functions, tuple(sorted(self._paths)), cursors)
