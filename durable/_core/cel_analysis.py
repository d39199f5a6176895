"""What a tree reads, and which of its equalities an index can answer.

Duty: questions about trees, and the same paths followed in documents. It may not know texts, celpy or
closures.
"""

from __future__ import annotations

from typing import TypeAlias, cast

from attrs import frozen

from durable._core.cel_kinds import Uint
from durable._core.cel_tree import (
    ASYNC_SLOT,
    EVENT_SLOT,
    Call,
    Chain,
    Constant,
    Has,
    Logic,
    Macro,
    Node,
    Path,
    Place,
    Relation,
    children,
)

__all__ = ["JSON", "Equality", "cut", "equalities", "fields_read", "is_cheap", "lookup"]

JSON: TypeAlias = object
"""A decoded JSON value: dict, list, str, int, float, bool or None."""


@frozen
class Equality:
    """One conjunct of a condition that an index can answer: `async.<path> == <value>`.

    Args:
        path: The field of the incoming event, below `async`.
        constant: What it has to equal, where `event_path` is ``None``. Never null.
        event_path: The field of the run's event, below `event`, that it has to equal; null matches nothing.
    """

    path: tuple[str, ...]
    constant: JSON = None
    event_path: tuple[str, ...] | None = None

    def value(self, event: JSON) -> JSON:
        """What the incoming event's field has to equal, for the run's event; null: nothing will do."""
        return self.constant if self.event_path is None else lookup(event, self.event_path)


def lookup(document: JSON, path: tuple[str, ...]) -> JSON:
    """The value at a path below a document, or ``None``: what an expression reads there.

    Example:
        >>> lookup({"data": {"id": 7}}, ("data", "id"))
        7
    """
    for name in path:
        if type(document) is not dict:
            return None
        document = cast("dict[str, JSON]", document).get(name)
    return document


def fields_read(tree: Node) -> set[tuple[int, tuple[str, ...]]]:
    """Which fields of which document the tree reads; a place in a list counts as the whole list."""
    found: set[tuple[int, tuple[str, ...]]] = set()
    pending = [tree]
    while pending:
        node = pending.pop()
        match node:
            case Place(slot=slot, origin=str()) if slot in (EVENT_SLOT, ASYNC_SLOT):
                found.add((slot, ()))
            case Path(start=Place(slot=slot), keys=keys) if slot in (EVENT_SLOT, ASYNC_SLOT):
                found.add((slot, _fields(keys)))
            case Has(start=Place(slot=slot), field=field) if slot in (EVENT_SLOT, ASYNC_SLOT):
                found.add((slot, (field,)))
            case Has(start=Path(start=Place(slot=slot), keys=keys), field=field) if slot in (
                EVENT_SLOT,
                ASYNC_SLOT,
            ):
                found.add((slot, _fields((*keys, field))))
            case _:
                pending.extend(children(node))
    return found


def _fields(keys: tuple[str | int, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for key in keys:
        if not isinstance(key, str):
            break
        names.append(key)
    return tuple(names)


def equalities(tree: Node) -> tuple[tuple[Equality, ...], bool]:
    """The conjuncts of `tree` that an index can answer, and whether there are no others."""
    found = [_equality(part) for part in _conjuncts(tree)]
    return tuple(part for part in found if part is not None), None not in found


def _conjuncts(tree: Node) -> list[Node]:
    if isinstance(tree, Logic) and tree.operator == "&&":
        return [part for operand in tree.operands for part in _conjuncts(operand)]
    return [tree]


def _equality(node: Node) -> Equality | None:
    if not isinstance(node, Relation) or node.operator != "==":
        return None
    for ours, theirs in ((node.left, node.right), (node.right, node.left)):
        path = _plain_path(ours, ASYNC_SLOT)
        if not path:
            continue
        event_path = _plain_path(theirs, EVENT_SLOT)
        if event_path:
            return Equality(path, event_path=event_path)
        if isinstance(theirs, Constant) and isinstance(theirs.value, (str, int, float)):
            value = theirs.value
            return Equality(path, constant=int(value) if isinstance(value, Uint) else value)
    return None


def _plain_path(node: Node, slot: int) -> tuple[str, ...] | None:
    if not isinstance(node, Path) or not isinstance(node.start, Place) or node.start.slot != slot:
        return None
    names = _fields(node.keys)
    return names if len(names) == len(node.keys) else None


def is_cheap(tree: Node) -> bool:
    """Whether nothing in the tree may take long or needs a variable: it is then evaluated without a meter."""
    pending = [tree]
    while pending:
        node = pending.pop()
        match node:
            case Macro() | Chain() | Call() | Relation(operator="in"):
                return False
            case Relation(operator="==" | "!=") if not isinstance(node.left, Constant) and not isinstance(
                node.right, Constant
            ):
                return False
            case _:
                pending.extend(children(node))
    return True


def cut(event: JSON, paths: frozenset[tuple[str, ...]]) -> JSON:
    """The part of `event` that lies at `paths`."""
    if not isinstance(event, dict):
        return event
    kept: dict[str, JSON] = {}
    source = cast("dict[str, JSON]", event)
    # Shorter paths first: what they keep whole, longer ones find there.
    for path in sorted(paths, key=lambda path: (len(path), path)):
        _keep(kept, source, path)
    return kept


def _keep(kept: dict[str, JSON], source: dict[str, JSON], path: tuple[str, ...]) -> None:
    *above, last = path
    for name in above:
        below = source.get(name)
        if type(below) is not dict:
            return  # What has no fields reads as null below, and so does what is missing.
        if kept.get(name) is below:
            return  # Kept whole by a shorter path.
        kept = cast("dict[str, JSON]", kept.setdefault(name, {}))
        source = cast("dict[str, JSON]", below)
    if last in source:
        kept[last] = source[last]
