"""From text to tree. The only module that knows celpy (and lark, celpy's parser).

Duty: to have celpy parse a text, and to turn what lark returns into the nodes of `cel_tree`, refusing what
is not in the language: unknown names and functions, wrong numbers of arguments, constructs for protobuf. It
may not know how anything is evaluated.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from durable._core.cel_kinds import TYPES, Uint
from durable._core.cel_text import DEEPEST, TOO_DEEP, Misread, Scanned, scan
from durable._core.cel_tree import (
    ASYNC_SLOT,
    EVENT_SLOT,
    FIRST_VARIABLE,
    Call,
    Chain,
    Choice,
    Constant,
    Has,
    Index,
    ListOf,
    Logic,
    Macro,
    MapOf,
    Node,
    Path,
    Place,
    Relation,
    Unary,
    origin,
)

if TYPE_CHECKING:
    from celpy.celparser import CELParser
    from lark import Token, Tree

__all__ = ["FUNCTIONS", "METHODS", "parse"]

FUNCTIONS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(("bool", "bytes", "double", "duration", "dyn", "int", "size"), (1, 1)),
    **dict.fromkeys(("string", "timestamp", "type", "uint"), (1, 1)),
    "matches": (2, 2),
}
"""How many arguments each function takes."""

METHODS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(("contains", "endsWith", "matches", "startsWith"), (1, 1)),
    **dict.fromkeys(("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear"), (0, 1)),
    **dict.fromkeys(("getHours", "getMilliseconds", "getMinutes", "getMonth", "getSeconds"), (0, 1)),
    "size": (0, 0),
}
"""How many arguments each method takes, its target not counted."""

_MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
_MACRO_DEPTH = 2
_SLOTS: Final = {"event": EVENT_SLOT, "async": ASYNC_SLOT}
_OPERATORS: Final = {
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_in": "in",
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
}
_WRAPPERS: Final = frozenset(
    {
        *("expr", "conditionalor", "conditionaland", "relation", "addition"),
        *("multiplication", "unary", "member", "primary"),
    }
)
_GOOGLE: Final = {"Timestamp": "google.protobuf.Timestamp", "Duration": "google.protobuf.Duration"}
_HINTS: Final = (
    (re.compile(r"=(?!=)"), "compare with `==`"),
    (re.compile(r"&(?!&)"), "write `&&`"),
    (re.compile(r"\|(?!\|)"), "write `||`"),
    (re.compile(r"and\b"), "write `&&`"),
    (re.compile(r"or\b"), "write `||`"),
    (re.compile(r"not\b"), "write `!`"),
    (re.compile(r"[,\]})]"), "something is missing before it"),
)
_LOCK: Final = threading.Lock()


def parse(text: str, roots: frozenset[str]) -> Node:
    """The tree of `text`, whose names may be `roots` and those of CEL.

    Why: everything that can be wrong with an expression is said here, at its declaration.

    Args:
        text: The expression.
        roots: "event", or "event" and "async".

    Raises:
        Misread: It is no expression of the language, or over the bounds.

    Example:
        >>> parse("event.data.x", frozenset({"event"}))
        Path(start=Place(slot=0, name='event', origin='event'), keys=('data', 'x'))
    """
    scanned = scan(text)
    return _Reader(scanned, roots).node(_tree(scanned.text), 0)


@cache
def _parser() -> CELParser:
    from celpy.celparser import CELParser  # noqa: PLC0415 (0.2 s: on first use)

    # celpy's Environment would raise the recursion limit of the whole process: its parser alone does not.
    parser = CELParser()
    # celpy builds it with lark's debug mode, which prints the parser's stack to stdout at each syntax error.
    parts: object = CELParser.CEL_PARSER
    while (inner := getattr(parts, "parser", None)) is not None and not isinstance(inner, str):
        parts = inner
    if getattr(parts, "debug", False):
        setattr(parts, "debug", False)  # noqa: B010 (lark declares no such attribute)
    return parser


def _tree(text: str) -> Tree[Token]:
    with _LOCK:
        parser = _parser()
        from celpy.celparser import CELParseError  # noqa: PLC0415 (as above)

        try:
            return cast("Tree[Token]", parser.parse(text))  # type: ignore[redundant-cast, unused-ignore]
        except CELParseError as error:
            line, column, token = error.line, error.column, getattr(error.__context__, "token", None)
    kind, shown = getattr(token, "type", ""), getattr(token, "value", "")
    if kind == "$END":
        raise Misread(len(text), "ends too early: an operand or a closing bracket is missing")
    if line is None or column is None or line < 1 or column < 1:
        raise Misread(None, f"{shown!r} cannot stand here; a field of that name is `event[{shown!r}]`")
    at = sum(len(part) + 1 for part in text.split("\n")[: line - 1]) + column - 1
    found = shown or text[at : at + 1]
    hint = next((hint for pattern, hint in _HINTS if pattern.match(text, at)), None)
    if text[max(at - 2, 0) : at + 1] == "===":
        hint = "write `==`"
    raise Misread(
        at, f"{found!r} cannot stand here; {hint or 'an operator, a bracket or an operand is missing'}"
    )


def _at(tree: Tree[Token]) -> int | None:
    return None if tree.meta.empty else tree.meta.start_pos


def _inner(tree: Tree[Token] | Token) -> Tree[Token]:
    """What stands below rules that have only one part: iteratively, for lark's trees are deep."""
    found = _branch(tree)
    while found.data in _WRAPPERS and len(found.children) == 1:
        found = _branch(found.children[0])
    return found


def _branch(tree: Tree[Token] | Token) -> Tree[Token]:
    if isinstance(tree, str):
        raise Misread(tree.start_pos, f"{tree.value!r} cannot stand here")
    return tree


def _leaf(tree: Tree[Token] | Token) -> Token:
    if not isinstance(tree, str):
        raise Misread(_at(tree), "a name is expected here")
    return tree


class _Reader:
    """One reading of one tree: the names in scope, and how many macros surround the place."""

    def __init__(self, scanned: Scanned, roots: frozenset[str]) -> None:
        self.literals = scanned.literals
        self.roots = roots
        self.scope: list[Place] = []

    def node(self, tree: Tree[Token] | Token, depth: int) -> Node:  # noqa: PLR0911 (one rule a line)
        tree = _inner(tree)
        if depth > DEEPEST:
            raise Misread(
                _at(tree),
                TOO_DEEP,
            )
        match str(tree.data):
            case "expr":
                first, second, third = tree.children
                return Choice(
                    self.node(first, depth + 1), self.node(second, depth + 1), self.node(third, depth + 1)
                )
            case "conditionalor" | "conditionaland" as rule:
                return self.logic(rule, tree, depth)
            case "relation":
                sign = _branch(tree.children[0])
                before = _inner(sign.children[0])
                left = self.node(before, depth + (before.data == "relation"))
                return Relation(_OPERATORS[str(sign.data)], left, self.node(tree.children[1], depth))
            case "addition" | "multiplication" as rule:
                return self.chain(rule, tree, depth)
            case "unary":
                operator = "!" if _branch(tree.children[0]).data == "unary_not" else "-"
                return Unary(operator, self.node(tree.children[1], depth + 1))
            case "member_dot" | "member_index" | "member_dot_arg":
                return self.member(tree, depth)
            case "member_object":
                raise Misread(_at(tree), "protobuf messages are not supported; write a map: {'field': value}")
            case _:
                return self.primary(tree, depth)

    def logic(self, rule: str, tree: Tree[Token], depth: int) -> Logic:
        operands: list[Node] = []
        while tree.data == rule:
            operands.append(self.node(tree.children[1], depth))
            tree = _inner(tree.children[0])
        operands.append(self.node(tree, depth))
        return Logic("||" if rule == "conditionalor" else "&&", tuple(reversed(operands)))

    def chain(self, rule: str, tree: Tree[Token], depth: int) -> Chain:
        rest: list[tuple[str, Node]] = []
        while tree.data == rule:
            sign = _branch(tree.children[0])
            rest.append((_OPERATORS[str(sign.data)], self.node(tree.children[1], depth)))
            tree = _inner(sign.children[0])
        return Chain(self.node(tree, depth), tuple(reversed(rest)))

    def member(self, tree: Tree[Token], depth: int) -> Node:
        links: list[Tree[Token]] = []
        while tree.data in ("member_dot", "member_index", "member_dot_arg"):
            links.append(tree)
            tree = _inner(tree.children[0])
        # Each call and each computed key surrounds what stands before it.
        left = sum(1 for link in links if link.data != "member_dot")
        node = self.node(tree, depth + left) if self.google(tree, links) is None else self.google(tree, links)
        assert node is not None
        if isinstance(node, Constant) and node.value in TYPES.values() and links:
            return node
        for link in reversed(links):
            if link.data == "member_dot":
                node = _further(node, _leaf(link.children[1]).value)
                continue
            left -= 1
            if link.data == "member_dot_arg":
                node = self.method(node, link, depth + left + 1)
                continue
            key = self.node(link.children[1], depth + left + 1)
            constant = key.value if isinstance(key, Constant) else None
            if isinstance(constant, str) or type(constant) is int:
                node = _further(node, constant)
            else:
                node = Index(node, key)
        return node

    def google(self, tree: Tree[Token], links: list[Tree[Token]]) -> Constant | None:
        """The two types that CEL names by paths."""
        if tree.data != "ident" or _leaf(tree.children[0]).value != "google" or len(links) != 2:
            return None
        if any(link.data != "member_dot" for link in links) or _leaf(links[1].children[1]) != "protobuf":
            return None
        name = _GOOGLE.get(_leaf(links[0].children[1]).value)
        return None if name is None else Constant(TYPES[name])

    def arguments(self, tree: Tree[Token], first: int) -> list[Tree[Token] | Token]:
        return list(_branch(tree.children[first]).children) if len(tree.children) > first else []

    def method(self, target: Node, tree: Tree[Token], depth: int) -> Node:
        name = _leaf(tree.children[1])
        args = self.arguments(tree, 2)
        if name.value in _MACROS:
            return self.macro(target, name, args, depth)
        _check(name, len(args), METHODS, "method")
        nodes = tuple(self.node(arg, depth) for arg in args)
        return Call(name.value, (target, *nodes), name.start_pos or 0)

    def macro(self, elements: Node, name: Token, args: list[Tree[Token] | Token], depth: int) -> Macro:
        if len(args) not in _MACROS[name.value]:
            raise Misread(
                name.start_pos, f"`{name}` takes a variable and an expression: `list.{name}(x, x > 1)`"
            )
        variable = _inner(args[0])
        if variable.data != "ident":
            raise Misread(
                _at(variable),
                f"the first argument of `{name}` is the name of a variable: `list.{name}(x, x > 1)`",
            )
        if len(self.scope) >= _MACRO_DEPTH:
            raise Misread(
                name.start_pos, "a macro inside a macro inside a macro; one inside another is the most"
            )
        slot = FIRST_VARIABLE + len(self.scope)
        self.scope.append(Place(slot, _leaf(variable.children[0]).value, origin(elements)))
        bodies = tuple(self.node(arg, depth) for arg in args[1:])
        self.scope.pop()
        return Macro(name.value, elements, slot, bodies)

    def primary(self, tree: Tree[Token], depth: int) -> Node:  # noqa: PLR0911 (as above)
        match str(tree.data):
            case "literal":
                return Constant(self.literal(_leaf(tree.children[0])))
            case "paren_expr":
                return self.node(tree.children[0], depth + 1)
            case "list_lit":
                return ListOf(tuple(self.node(item, depth + 1) for item in self.arguments(tree, 0)))
            case "map_lit":
                parts = [self.node(part, depth + 1) for part in self.arguments(tree, 0)]
                return MapOf(tuple(zip(parts[::2], parts[1::2], strict=True)))
            case "ident":
                return self.name(_leaf(tree.children[0]), self.scope)
            case "dot_ident":
                return self.name(_leaf(tree.children[0]), [])
            case "ident_arg" | "dot_ident_arg":
                return self.function(_leaf(tree.children[0]), self.arguments(tree, 1), depth + 1)
            case other:
                raise Misread(_at(tree), f"`{other}` is not supported")

    def name(self, token: Token, scope: list[Place]) -> Node:
        name = token.value
        for place in reversed(scope):
            if place.name == name:
                return place
        if name in self.roots:
            return Place(_SLOTS[name], name, name)
        if name in TYPES:
            return Constant(TYPES[name])
        known = " and ".join(f"`{root}`" for root in sorted(self.roots, reverse=True))
        if name == "async":
            raise Misread(
                token.start_pos,
                f"`async` is the incoming event of a wait or cancellation; here only {known} is known",
            )
        raise Misread(
            token.start_pos, f'unknown name `{name}`; known here: {known}; texts stand in quotes: "{name}"'
        )

    def function(self, name: Token, args: list[Tree[Token] | Token], depth: int) -> Node:
        if name.value == "has":
            field = _inner(args[0]) if len(args) == 1 else None
            if field is None or field.data != "member_dot":
                raise Misread(name.start_pos, "`has` takes one field: `has(event.data.amount)`")
            return Has(self.node(field.children[0], depth), _leaf(field.children[1]).value)
        _check(name, len(args), FUNCTIONS, "function")
        nodes = tuple(self.node(arg, depth) for arg in args)
        return nodes[0] if name.value == "dyn" else Call(name.value, nodes, name.start_pos or 0)

    def literal(self, token: Token) -> object:
        match token.type:
            case "INT_LIT":
                return _whole(token, token.value, -(2**63), 2**63 - 1, "64-bit integer")
            case "UINT_LIT":
                return Uint(_whole(token, token.value[:-1], 0, 2**64 - 1, "unsigned 64-bit integer"))
            case "FLOAT_LIT":
                return float(token.value)
            case "BOOL_LIT":
                return token.value == "true"
            case "NULL_LIT":
                return None
            case _:
                return self.literals[token.start_pos or 0]


def _further(node: Node, key: str | int) -> Path:
    return Path(node.start, (*node.keys, key)) if isinstance(node, Path) else Path(node, (key,))


def _whole(token: Token, digits: str, least: int, most: int, what: str) -> int:
    value = int(digits, 16 if "x" in digits else 10)
    if not least <= value <= most:
        raise Misread(token.start_pos, f"{digits[:40]} is no {what}")
    return value


def _check(name: Token, given: int, table: dict[str, tuple[int, int]], kind: str) -> None:
    other, instead = (METHODS, f"x.{name}(…)") if kind == "function" else (FUNCTIONS, f"{name}(x)")
    if name.value not in table:
        if name.value in other:
            raise Misread(name.start_pos, f"`{name}` is no {kind}; write `{instead}`")
        known = ", ".join(sorted(table))
        raise Misread(name.start_pos, f"unknown {kind} `{name}`; there are {known}")
    least, most = table[name.value]
    if not least <= given <= most:
        right = str(least) if least == most else f"{least} or {most}"
        raise Misread(
            name.start_pos, f"`{name}` takes {right} argument{'' if right == '1' else 's'}, not {given}"
        )
