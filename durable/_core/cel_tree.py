"""The tree of an expression: what `cel_syntax` makes of the text and `cel_compile` turns into closures.

Duty: the node types, and nothing that acts. It may not know celpy, texts or documents.

Chains (member paths, sums, `&&`) are flat, so that walking a tree never recurses deeper than its brackets.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen

__all__ = [
    "ASYNC_SLOT",
    "CLOCK_SLOT",
    "EVENT_SLOT",
    "FIRST_VARIABLE",
    "Call",
    "Chain",
    "Choice",
    "Constant",
    "Has",
    "Index",
    "ListOf",
    "Logic",
    "Macro",
    "MapOf",
    "Node",
    "Path",
    "Place",
    "Relation",
    "Unary",
    "children",
    "origin",
]

EVENT_SLOT, ASYNC_SLOT, CLOCK_SLOT, FIRST_VARIABLE = 0, 1, 2, 3
"""Where an evaluation keeps the two documents, its deadline and the variables of its macros."""


@frozen
class Constant:
    """A literal, or the name of a type."""

    value: object


@frozen
class Place:
    """A document or a macro's variable.

    `origin` is the root ("event", "async") in which its value lies, ``None`` if in neither: rule 28 asks.
    """

    slot: int
    name: str
    origin: str | None


@frozen
class Path:
    """Fields and places in lists, one after the other, below `start`."""

    start: Node
    keys: tuple[str | int, ...]


@frozen
class Index:
    """`start[key]` with a key that only the evaluation knows."""

    start: Node
    key: Node


@frozen
class ListOf:
    """A list literal."""

    items: tuple[Node, ...]


@frozen
class MapOf:
    """A map literal."""

    pairs: tuple[tuple[Node, Node], ...]


@frozen
class Call:
    """A function, or a method with its target as the first argument; `at` is where it stands in the text."""

    name: str
    args: tuple[Node, ...]
    at: int


@frozen
class Unary:
    """`!` or `-`."""

    operator: str
    operand: Node


@frozen
class Relation:
    """`== != < <= > >= in`."""

    operator: str
    left: Node
    right: Node


@frozen
class Chain:
    """`first`, then operators and operands of one precedence, from left to right."""

    first: Node
    rest: tuple[tuple[str, Node], ...]


@frozen
class Logic:
    """`&&` or `||` over two operands or more."""

    operator: str
    operands: tuple[Node, ...]


@frozen
class Choice:
    """`condition ? yes : no`."""

    condition: Node
    yes: Node
    no: Node


@frozen
class Has:
    """`has(start.field)`."""

    start: Node
    field: str


@frozen
class Macro:
    """`elements.name(variable, body…)`; the variable lives in `slot` while the bodies are evaluated."""

    name: str
    elements: Node
    slot: int
    bodies: tuple[Node, ...]


Node: TypeAlias = (
    Constant
    | Place
    | Path
    | Index
    | ListOf
    | MapOf
    | Call
    | Unary
    | Relation
    | Chain
    | Logic
    | Choice
    | Has
    | Macro
)


def children(node: Node) -> tuple[Node, ...]:  # noqa: C901, PLR0911 (one line per kind of node)
    """The nodes right below `node`, in the order of the text.

    Why: analyses walk every kind of node and care about few.
    """
    match node:
        case Constant() | Place():
            return ()
        case Path(start=start) | Has(start=start):
            return (start,)
        case Index(start=start, key=key):
            return (start, key)
        case ListOf(items=items):
            return items
        case MapOf(pairs=pairs):
            return tuple(part for pair in pairs for part in pair)
        case Call(args=args):
            return args
        case Unary(operand=operand):
            return (operand,)
        case Relation(left=left, right=right):
            return (left, right)
        case Chain(first=first, rest=rest):
            return (first, *(operand for _, operand in rest))
        case Logic(operands=operands):
            return operands
        case Choice(condition=condition, yes=yes, no=no):
            return (condition, yes, no)
        case Macro(elements=elements, bodies=bodies):
            return (elements, *bodies)


def origin(node: Node) -> str | None:
    """The root whose document holds what `node` reads, if `node` is a path, computed keys included.

    Example:
        >>> origin(Path(Place(EVENT_SLOT, "event", "event"), ("data", "x")))
        'event'
    """
    while isinstance(node, (Path, Index)):
        node = node.start
    return node.origin if isinstance(node, Place) else None
