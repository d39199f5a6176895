"""Imports point down only: the floors of `durable`, the little that stores may know, and what is imported late."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = {
    # words: frozen values, validated, no behaviour
    "durable.errors": 0,
    "durable.clock": 0,
    "durable.durations": 0,
    "durable.names": 0,
    "durable.ids": 0,
    "durable.limits": 0,
    "durable.plain": 0,
    "durable.annotations": 0,
    "durable.failures": 0,
    "durable.codec": 0,
    "durable.events": 0,
    "durable.triggers": 0,
    "durable.flow": 0,
    "durable.retries": 0,
    "durable.stored": 0,
    "durable.doors": 0,
    "durable.records": 0,
    "durable.observers": 0,
    # the contract
    "durable.gates": 1,
    "durable.store": 1,
    "durable.urls": 1,
    # the mind
    "durable._core": 2,
    # the hands that users hold
    "durable.functions": 3,
    "durable.steps": 3,
    "durable.context": 3,
    "durable.runs": 3,
    "durable.hosting": 3,
    "durable.archive": 3,
    "durable.middleware": 3,
    # the executor
    "durable._executor": 4,
    # the roof
    "durable.engine": 5,
    "durable.control": 5,
    # the front door, and what stands before the house
    "durable": 6,
    "durable.demo": 7,
    "durable.testing": 7,
    "durable.__main__": 8,
}
"""Where a module stands; one inside a package stands with it."""

UP_FOR_TYPES = {
    ("durable._core.catalog", "durable.functions"),  # what a store keeps of a function is made from its value
    ("durable.context", "durable.engine"),  # `ctx.engine` has a type
    ("durable._executor.host", "durable.engine"),  # and what makes contexts passes it on
    ("durable._executor.worker", "durable.engine"),
}
"""Imports that type checkers alone see, and that point up."""

STORES_MAY_KNOW = {"codec", "durations", "errors", "gates", "records", "store"}
DRIVERS = {"memory": set(), "sqlite": {"aiosqlite", "sqlite3"}, "redis": {"redis"}}
DEPENDENCIES = {"aiosqlite", "anyio", "celpy", "croniter", "pydantic", "redis", "sqlite3"}
"""Libraries that a store may not use, unless one is its driver."""

LATE = {
    "celpy": "durable/_core/cel_syntax.py",
    "croniter": "durable/_core/schedules.py",
    "pydantic": None,
    "redis": None,
}
"""Libraries that are imported on first use, and the one file of `durable` that may do so."""


class Import:
    """One imported module: where it is imported, whether for types alone, and whether inside a function."""

    def __init__(self, target, line, *, typing, late):
        self.target = target
        self.line = line
        self.typing = typing
        self.late = late


def modules(*folders):
    """The files of source roots, by the name of their module."""
    found = {}
    for root, package in folders:
        for path in sorted((ROOT / root / package).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules((".", "durable"), ("stores", "durable_stores"))
HOUSE = [name for name in MODULES if name.partition(".")[0] == "durable"]


@functools.cache
def imports(name):
    """Every import of a module; of ``from package import module`` the module."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []

    def visit(node, typing, late):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, True, late)
            for child in node.orelse:
                visit(child, typing, late)
            return
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                start = ".".join([*above, *([start] if start else [])])
            inside = [f"{start}.{alias.name}" for alias in node.names]
            targets = [one if one in MODULES else start for one in inside]
        else:
            late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                visit(child, typing, late)
            return
        found.extend(Import(one, node.lineno, typing=typing, late=late) for one in targets)

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return found


def floor(name):
    """The floor of a module of `durable`."""
    known = name
    while known not in FLOORS:
        known = known.rpartition(".")[0]
        assert known != "durable", f"{name} stands on no floor: give it one in FLOORS"
    return FLOORS[known]


def belongs(target, package):
    return target == package or target.startswith(f"{package}.")


def test_every_module_of_the_table_that_should_exist_does():
    planned = {"durable.middleware"}
    assert set(FLOORS) - set(MODULES) <= planned


def test_imports_point_down():
    wrong = [
        f"{name}:{one.line} (floor {floor(name)}) imports {one.target} (floor {floor(one.target)})"
        for name in HOUSE
        for one in imports(name)
        if belongs(one.target, "durable")
        and floor(one.target) > floor(name)
        and not (one.typing and (name, one.target) in UP_FOR_TYPES)
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_for_types_that_point_up_are_needed():
    used = {(name, one.target) for name in MODULES for one in imports(name) if one.typing}
    assert used >= UP_FOR_TYPES


def test_durable_knows_no_store_and_not_its_testing_kit():
    wrong = [
        f"{name}:{one.line} imports {one.target}"
        for name in HOUSE
        for one in imports(name)
        if belongs(one.target, "durable_stores")
        or (belongs(one.target, "durable.testing") and not belongs(name, "durable.testing"))
    ]
    assert not wrong, "\n".join(wrong)


def may_know(name, target):
    """Whether the module `name` of a store may import `target`."""
    store = [*name.split("."), ""][1]
    top, _, rest = target.partition(".")
    if top == "durable":
        return rest in STORES_MAY_KNOW
    if top == "durable_stores":
        return belongs(target, f"durable_stores.{store}" if store else "durable_stores")
    return top not in DEPENDENCIES or top in DRIVERS.get(store, ())


def test_a_store_knows_the_contract_its_driver_and_nothing_else():
    wrong = [
        f"{name}:{one.line} imports {one.target}"
        for name in MODULES
        if belongs(name, "durable_stores")
        for one in imports(name)
        if not may_know(name, one.target)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", LATE)
def test_a_library_is_imported_late_and_in_one_place(library):
    wrong = []
    for name in HOUSE:
        path = MODULES[name].relative_to(ROOT).as_posix()
        for one in imports(name):
            if not belongs(one.target, library) or one.typing:
                continue
            if path != LATE[library]:
                wrong.append(f"{path}:{one.line}: {library} belongs into {LATE[library]}")
            elif not one.late:
                wrong.append(f"{path}:{one.line}: {library} is imported inside a function, on first use")
    assert not wrong, "\n".join(wrong)


def test_no_module_needs_itself_to_be_imported():
    """The graph of imports at the top of modules has no cycles; a package is imported before what is in it."""
    graph = {
        name: {
            one.target for one in imports(name) if not one.typing and not one.late and one.target in MODULES
        }
        for name in MODULES
    }
    done, path = set(), []

    def walk(name):
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for target in sorted(graph[name]):
            walk(target)
        path.pop()
        done.add(name)

    for name in sorted(graph):
        walk(name)
