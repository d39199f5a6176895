"""Names say what a thing is; every module says its duty; every public name is documented; secrets stay out."""

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(path for folder in ("durable", "stores") for path in (ROOT / folder).rglob("*.py"))
ALL = sorted(
    path
    for folder in ("durable", "stores", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
TOP_LEVEL = {
    ".ci", ".gitignore", "README.md", "benchmarks", "docs", "durable", "pyproject.toml", "stores", "tests"
}  # fmt: skip

SAY_NOTHING = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "base",
    "misc",
    "constants",
    "types",
    "manager",
}
"""Names of files that say nothing of what is in them."""


def shown(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def listed(path):
    """What a module's ``__all__`` names; ``None`` where it has none."""
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


def test_names_of_files_and_classes_say_something():
    wrong = []
    for path in ALL:
        parts = path.relative_to(ROOT).with_suffix("").parts
        words = {word for part in parts for word in re.split(r"[_\-.]", part)}
        wrong += [f"{shown(path)}: {word}" for word in sorted(words & SAY_NOTHING)]
        wrong += [
            f"{shown(path)}:{node.lineno}: class {node.name}"
            for node in ast.walk(tree(path))
            if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?|Misc|Base)$", node.name)
        ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_its_duty():
    silent = [
        shown(path)
        for path in ALL
        if not path.is_relative_to(ROOT / "tests")
        and path.stat().st_size
        and not ast.get_docstring(tree(path))
    ]
    assert not silent, silent


def is_overload(node):
    return any(ast.unparse(one).split(".")[-1] in ("overload", "setter") for one in node.decorator_list)


def undocumented(body, only=None, where=""):
    """Public classes and functions without a docstring; what may override a documented method needs none."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or (only is not None and node.name not in only):
            continue
        if not ast.get_docstring(node) and not is_overload(node):
            yield f"{where}{node.name}"
        if isinstance(node, ast.ClassDef) and not node.bases:
            yield from undocumented(node.body, None, f"{where}{node.name}.")


def test_every_public_name_is_documented():
    missing = [
        f"{shown(path)}: {name}"
        for path in CODE
        if not path.name.startswith("cases_")  # the exam's cases are tests: a name is its docstring
        for name in undocumented(tree(path).body, listed(path))
    ]
    assert not missing, "\n".join(missing)


def bound(path):
    """The names that a module makes."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_what_modules_list_is_there():
    wrong = {shown(path): set(names) - bound(path) for path in CODE if (names := listed(path))}
    assert not {path: names for path, names in wrong.items() if names}


def tracked():
    """The files of the tree, by git where there is one."""
    try:
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed if (ROOT / line).is_file()]


def test_nothing_else_stands_at_the_top_level():
    found = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert found <= TOP_LEVEL


def test_no_paths_of_a_machine_stand_in_the_tree():
    pattern = re.compile(rb"/(?:home|Users|work|root)/[\w.]+/|registry\.npmjs|pypi\.org")
    wrong = []
    for path in tracked():
        if path.suffix in (".gz", ".db") or path == Path(__file__).resolve():
            continue
        found = pattern.search(path.read_bytes())
        if found:
            wrong.append(f"{shown(path)}: {found.group().decode()}")
    assert not wrong, wrong
