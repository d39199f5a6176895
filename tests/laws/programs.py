"""Small programs as trees: what a generated handler does, in a form that can be printed and made smaller.

A leaf is a step (or an exception of the handler's own); everything else says how its parts go together. The
tree knows nothing of asyncio: see `interpreter`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Node:
    """Part of a program."""

    @property
    def parts(self) -> tuple[Node, ...]:
        """The parts that it has, in order."""
        found: list[Node] = []
        for one in fields(self):
            value = getattr(self, one.name)
            found += [value] if isinstance(value, Node) else []
            found += value if isinstance(value, tuple) else []
        return tuple(found)

    def show(self, depth: int = 0) -> str:
        """The program as indented text."""
        about = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if not isinstance(getattr(self, one.name), Node | tuple)
            and getattr(self, one.name) != one.default
        ]
        lines = ["  " * depth + " ".join([type(self).__name__, *about])]
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Node):
                if one.name not in ("body", "main"):
                    lines.append("  " * depth + f" {one.name}:")
                lines.append(value.show(depth + 1))
            elif isinstance(value, tuple):
                lines += [part.show(depth + 1) for part in value]
        return "\n".join(lines)

    def smaller(self) -> list[Node]:
        """Programs that are a little smaller, the smallest first."""
        found: list[Node] = list(self.parts)
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Node):
                found += [replace(self, **{one.name: part}) for part in value.smaller()]
            elif isinstance(value, tuple):
                if len(value) > 1:
                    found += [
                        replace(self, **{one.name: value[:i] + value[i + 1 :]}) for i in range(len(value))
                    ]
                for i, part in enumerate(value):
                    found += [
                        replace(self, **{one.name: (*value[:i], lesser, *value[i + 1 :])})
                        for lesser in part.smaller()
                    ]
            elif value != one.default and one.name in ("turns", "fails", "pause", "thread"):
                plain: Any = False if one.name == "thread" else 0
                found.append(replace(self, **{one.name: plain}))
        return found

    def size(self) -> int:
        """How many parts it has in all."""
        return 1 + sum(part.size() for part in self.parts)


# ---------------------------------------------------------------- leaves


@dataclass(frozen=True)
class Step(Node):
    """A step. `pause`: turns of the loop that the handler gives away before it."""

    id: str
    pause: int = 0


@dataclass(frozen=True)
class Run(Step):
    """A callback that takes `turns`, fails `fails` times (-1: for good), in a worker thread or on the loop."""

    turns: int = 0
    fails: int = 0
    thread: bool = False
    never: bool = False
    """It never ends: somebody has to cancel it."""
    tag: str = ""
    """Tells apart what shares an id."""


@dataclass(frozen=True)
class Sleep(Step):
    """A durable sleep."""

    seconds: int = 1


@dataclass(frozen=True)
class Send(Step):
    """Sends an event on a channel of the run."""

    channel: str = "a"


@dataclass(frozen=True)
class Wait(Step):
    """Waits for an event on a channel of the run."""

    channel: str = "a"
    seconds: int = 1


@dataclass(frozen=True)
class Signal(Step):
    """Sends a signal of the run."""

    name: str = "s"


@dataclass(frozen=True)
class Await(Step):
    """Waits for a signal of the run."""

    name: str = "s"
    seconds: int = 1


@dataclass(frozen=True)
class Invoke(Step):
    """Invokes another function, which may fail."""

    fails: bool = False


@dataclass(frozen=True)
class Raise(Node):
    """The handler raises an exception of its own; with `first`, in its first attempt only."""

    label: str
    first: bool = False


# ---------------------------------------------------------------- how parts go together


@dataclass(frozen=True)
class Seq(Node):
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Loop(Node):
    """The same part several times, with the same ids."""

    body: Node
    times: int = 2


@dataclass(frozen=True)
class Gather(Node):
    """`asyncio.gather`; `errors`: with `return_exceptions`."""

    items: tuple[Node, ...]
    errors: bool = False


@dataclass(frozen=True)
class Group(Node):
    """`asyncio.TaskGroup`."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Race(Node):
    """`asyncio.wait(FIRST_COMPLETED)`: the losers are cancelled, and awaited with `reap`."""

    items: tuple[Node, ...]
    reap: bool = True


@dataclass(frozen=True)
class Lead(Node):
    """Tasks of which the first cancels the others in the very turn in which it ends."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Completed(Node):
    """`asyncio.as_completed` over tasks: the first `take` of them (0: all), the others are cancelled."""

    items: tuple[Node, ...]
    take: int = 0


@dataclass(frozen=True)
class Timeout(Node):
    """A durable time limit."""

    id: str
    body: Node
    otherwise: Node
    seconds: int = 2


@dataclass(frozen=True)
class Within(Node):
    """`asyncio.timeout`: fires when the run has done nothing for a while."""

    body: Node
    otherwise: Node


@dataclass(frozen=True)
class Shield(Node):
    """`asyncio.shield`."""

    body: Node


@dataclass(frozen=True)
class WaitFor(Node):
    """`asyncio.wait_for` with a limit that is never reached: another task around the body."""

    body: Node


@dataclass(frozen=True)
class Background(Node):
    """A task beside `main`: joined after it, or cancelled (`join=False`) and left to itself."""

    main: Node
    beside: Node
    join: bool = True


@dataclass(frozen=True)
class Try(Node):
    """``try``, ``except Exception`` (``None``: there is none), ``finally``."""

    body: Node
    otherwise: Node | None = None
    final: Node | None = None


@dataclass(frozen=True)
class Switch(Node):
    """What `main` resulted in decides which of the others comes next."""

    main: Node
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Program:
    """A handler: its tree, and how often it is called again when it fails."""

    root: Node
    retries: int = 0

    @property
    def timed(self) -> bool:
        """Whether it has limits in real time."""
        return _has_limits(self.root)

    def show(self) -> str:
        """The program as indented text."""
        return f"retries={self.retries}\n{self.root.show()}"


def _has_limits(node: Node) -> bool:
    return isinstance(node, Within) or any(_has_limits(part) for part in node.parts)


def sound(node: Node) -> bool:
    """Whether every callback that never ends is sure to be cancelled."""
    if isinstance(node, Run):
        return not node.never
    parts: tuple[Node, ...] = node.parts
    if isinstance(node, Race) and any(prompt(part) for part in parts):
        parts = tuple(part for part in parts if not _is_never(part))
    if isinstance(node, Within):
        body = node.body
        if isinstance(body, Seq) or (isinstance(body, Gather) and body.errors):
            parts = tuple(part for part in body.items if not _is_never(part))
            if not all(prompt(part) for part in parts):
                return False
            parts = (*parts, node.otherwise)
        elif _is_never(body):
            parts = (node.otherwise,)
    return all(sound(part) for part in parts)


def _is_never(node: Node) -> bool:
    return isinstance(node, Run) and node.never


def prompt(node: Node) -> bool:
    """Whether it ends without any time passing."""
    if isinstance(node, Run):
        return not node.never and node.fails <= 0
    if isinstance(node, Sleep | Wait | Await | Invoke):
        return False
    return all(prompt(part) for part in node.parts)
