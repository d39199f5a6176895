"""Files and functions that a person can hold in mind: at most 450 and 60 lines."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for folder in ("durable", "stores", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
LINES_OF_A_FILE = 450
LINES_OF_A_FUNCTION = 60


def code_lines(node):
    """The lines of a function without its docstring and its decorators."""
    first = node.body[0]
    start = node.lineno
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return node.end_lineno - start + 1 - (first.end_lineno - first.lineno + 1)
    return node.end_lineno - start + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sizes(path):
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    wrong = [f"{lines} lines"] if lines > LINES_OF_A_FILE else []
    wrong += [
        f"{node.name} (line {node.lineno}) has {code_lines(node)} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > LINES_OF_A_FUNCTION
    ]
    assert not wrong, f"{path.relative_to(ROOT)}: {'; '.join(wrong)}"
