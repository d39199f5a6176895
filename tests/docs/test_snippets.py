"""Every Python snippet of the documentation runs; what programs print is what the page says they print."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sqlite3
import subprocess
import sys
import types
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.pages import EXAMPLES, ROOT, blocks, name_of, pages

_TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_WITH_SNIPPETS = [page for page in pages() if any(block.language == "python" for block in blocks(page))]


@pytest.fixture
def namespace(request):
    """A module for the snippets of one page, so that what they declare has a home."""
    module = types.ModuleType(f"snippets_of_{abs(hash(request.node.name))}")
    sys.modules[module.__name__] = module
    yield module.__dict__
    del sys.modules[module.__name__]


def compiled(block):
    """The code of a block; its line numbers are those of the page."""
    text = "\n" * (block.line - 1) + block.text
    return compile(text, str(block.page), "exec", flags=_TOP_LEVEL_AWAIT, dont_inherit=True)


def run_script(block, expected):
    """Run a block as a program of its own, and compare what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", block.option("script")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if expected is not None:
        assert done.stdout == expected.text


def keep(block, name):
    """Write a block to a file, and see that it is the example of that name, if there is one."""
    example = EXAMPLES / name
    if example.exists():
        assert block.text == example.read_text(), f"{name_of(block.page)} and docs/examples/{name} differ"
    Path(name).write_text(block.text)


def play(block, following, runner, namespace):
    """Do what the fence of a block says."""
    code = compiled(block)
    if "no-run" in block.words:
        return
    name = block.option("file") or block.option("script")
    if name is not None:
        keep(block, name)
        if block.option("script"):
            run_script(block, following if following is not None and following.language == "text" else None)
        return
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        runner.run(result)


@pytest.mark.parametrize("page", _WITH_SNIPPETS, ids=name_of)
def test_the_snippets_of_a_page_run(page, namespace, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("DURABLE_STORE", raising=False)
    before = set(sys.modules)
    found = blocks(page)
    with asyncio.Runner() as runner:
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.language == "python" and "signatures" not in block.words:
                play(block, following, runner, namespace)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_what_is_not_run_has_an_example_that_is():
    """A snippet that cannot run repeats a part of an example, and examples are tested."""
    examples = "\n".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    for page in pages():
        for block in blocks(page):
            if block.language == "python" and "no-run" in block.words:
                assert block.text in examples, f"{name_of(page)}:{block.line}"


def test_every_example_is_shown():
    shown = {
        block.option("file") or block.option("script")
        for page in pages()
        for block in blocks(page)
        if block.language == "python"
    }
    assert {path.name for path in EXAMPLES.glob("*.py")} <= shown


def test_no_page_is_left_out():
    assert {ROOT / "README.md", ROOT / "stores" / "README.md"} <= set(pages())
    assert len(_WITH_SNIPPETS) > 1


def test_the_shell_session_in_storage_shows_what_is_there(tmp_path, monkeypatch, namespace):
    """Each statement behind ``sqlite>`` answers what the page says, as the shell would print it."""
    page = ROOT / "docs" / "design" / "storage.md"
    monkeypatch.chdir(tmp_path)
    program = next(block for block in blocks(page) if block.language == "python")
    session = next(block.text for block in blocks(page) if "sqlite>" in block.text)
    with asyncio.Runner() as runner:
        play(program, None, runner, namespace)
    with closing(sqlite3.connect("shop.db")) as sql:
        for part in session.split("sqlite> ")[1:]:
            statement, _, shown = part.partition("\n")
            rows = sql.execute(statement).fetchall()
            assert "".join("|".join(map(str, row)) + "\n" for row in rows) == shown, statement
