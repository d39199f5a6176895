"""Names say what a thing is; every module says its duty; every public name is documented; secrets stay out."""

import ast
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


@pytest.mark.parametrize("path", ALL, ids=shown)
def test_names_of_files_and_classes_say_something(path):
    words = {*path.relative_to(ROOT).with_suffix("").parts}
    words |= {word for part in words for word in re.split(r"[_\-.]", part)}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    wrong = sorted(words & SAY_NOTHING)
    wrong += [name for name in classes if re.search(r"(Manager|Helper|Utils?|Misc|Base)$", name)]
    assert not wrong, f"{shown(path)}: {wrong}"


@pytest.mark.parametrize("path", [path for path in ALL if path.stat().st_size], ids=shown)
def test_every_module_says_its_duty(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said or path.is_relative_to(ROOT / "tests"), f"{shown(path)} has no docstring"


def is_public(name):
    return not name.startswith("_")


def is_overload(node):
    return any(ast.unparse(one).split(".")[-1] in ("overload", "setter") for one in node.decorator_list)


def undocumented(body, where=""):
    """Public classes and functions without a docstring; what overrides a documented method needs none."""
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            if not ast.get_docstring(node):
                yield where + node.name
            inherits = [base for base in node.bases if ast.unparse(base) not in ("object", "Protocol")]
            if not inherits:
                yield from undocumented(node.body, f"{where}{node.name}.")
        elif (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and is_public(node.name)
            and not is_overload(node)
            and not ast.get_docstring(node)
        ):
            yield where + node.name


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_every_public_name_is_documented(path):
    missing = list(undocumented(ast.parse(path.read_text(encoding="utf-8")).body))
    assert not missing, f"{shown(path)}: {', '.join(missing)}"


@pytest.mark.parametrize("path", CODE, ids=shown)
def test_modules_that_others_read_list_their_names(path):
    """`__all__` names things that are there; a private module of a package needs none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
    for names in listed:
        assert list(names) == sorted(set(names)), f"{shown(path)}: __all__ is sorted, each name once"
        assert set(names) <= bound, f"{shown(path)}: __all__ names {set(names) - bound}, which is not there"


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
