"""Files and functions that a person can hold in mind: at most 450 and 60 lines.

A file of tests may be longer: it is a list of short examples, read one at a time.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for folder in ("durable", "stores", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
LINES_OF_A_FILE = 450
LINES_OF_A_TEST_FILE = 700
LINES_OF_A_FUNCTION = 60


def code_lines(node):
    """The lines of a function without its docstring, its signature included."""
    first = node.body[0]
    start = node.lineno
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return node.end_lineno - start + 1 - (first.end_lineno - first.lineno + 1)
    return node.end_lineno - start + 1


def too_large(path):
    """What is too large in a file, in words."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    most = LINES_OF_A_TEST_FILE if path.is_relative_to(ROOT / "tests") else LINES_OF_A_FILE
    if lines > most:
        yield f"{path.relative_to(ROOT)}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and code_lines(node) > LINES_OF_A_FUNCTION
        ):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {code_lines(node)} lines"


def test_no_file_and_no_function_is_too_large():
    found = [one for path in FILES for one in too_large(path)]
    assert not found, "\n".join(found)
