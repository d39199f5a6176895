"""The reference, held against the code: every public name, and every signature that it shows."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module

import pytest

import durable
import durable.testing
from durable.steps import Steps
from tests.docs.pages import ROOT, blocks, name_of, pages

PAGE = ROOT / "docs" / "reference" / "api.md"

OBJECTS = {
    "ctx.step": Steps,
    "engine": durable.Engine,
    "run": durable.Run,
    "t": durable.testing.TestEngine,
    "Observer": durable.Observer,
}
"""What the names in signatures stand for."""

_LINE = re.compile(r"(?P<coroutine>await )?(?P<name>[\w.]+)\((?P<parameters>.*)\)")
_PATH = re.compile(r"`((?:durable|durable_stores|stores|tests|docs)/(?:[\w./-]*\.(?:py|md)|[\w/-]*/))`")

_LONG = re.compile(r"\(\n +(.*)\n\)")
"""A signature that the formatter has put on three lines."""

SIGNATURES = [
    line
    for block in blocks(PAGE)
    if "signatures" in block.words
    for line in _LONG.sub(r"(\1)", block.text).splitlines()
    if line
]


def found(name):
    """The object that a dotted name in the reference stands for."""
    owner, _, last = name.rpartition(".")
    holder = OBJECTS.get(owner) or import_module(owner)
    return getattr(holder, last)


@pytest.mark.parametrize("line", SIGNATURES)
def test_a_signature_is_that_of_the_code(line):
    match = _LINE.fullmatch(line)
    assert match, "a signature is `[await ]name(parameters)`"
    thing = found(match["name"])
    is_method = match["name"].rpartition(".")[0] in OBJECTS
    shown = ast.parse(f"def f({match['parameters']}): ...").body[0].args
    signature = inspect.signature(thing)
    parameters = list(signature.parameters.values())[is_method:]
    actual = ast.parse(f"def f({', '.join(written(parameters))}): ...").body[0].args
    assert ast.unparse(shown) == ast.unparse(actual)
    assert bool(match["coroutine"]) == inspect.iscoroutinefunction(thing)


def written(parameters):
    """Parameters as source, without annotations."""
    kinds = [one.kind for one in parameters]
    for number, one in enumerate(parameters):
        if one.kind is one.KEYWORD_ONLY and not {one.KEYWORD_ONLY, one.VAR_POSITIONAL} & set(kinds[:number]):
            yield "*"
        star = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        yield star + one.name + ("" if one.default is one.empty else f"={one.default!r}")
        if one.kind is one.POSITIONAL_ONLY and one.POSITIONAL_ONLY not in kinds[number + 1 :]:
            yield "/"


def public(module):
    """The names that a front door exports on purpose: all but its submodules."""
    names = getattr(module, "__all__", None) or vars(module)
    return {name for name in names if not name.startswith("_") and not inspect.ismodule(vars(module)[name])}


@pytest.mark.parametrize("module", [durable, durable.testing], ids=lambda module: module.__name__)
def test_every_public_name_is_in_the_reference(module):
    text = PAGE.read_text()
    missing = {name for name in public(module) if not re.search(rf"\b{name}\b", text)}
    assert not missing


@pytest.mark.parametrize("owner", ["ctx.step", "engine", "run", "Observer"])
def test_every_public_method_has_its_signature(owner):
    holder = OBJECTS[owner]
    methods = {
        name
        for name, value in inspect.getmembers(holder, inspect.isfunction)
        if not name.startswith("_") and name not in {"ended", "lifespan"}
    }
    shown = {_LINE.match(line)["name"] for line in SIGNATURES}
    assert {f"{owner}.{name}" for name in methods} <= shown


def test_the_tree_of_the_house_shows_every_module():
    """But for the CEL modules, which stand there as one."""
    page = ROOT / "docs" / "design" / "house.md"
    tree = blocks(page)[0].text
    shown = set(re.findall(r"[\w*]+\.py", tree)) - {"cel*.py", "__init__.py"}
    rooms = [ROOT / "durable", ROOT / "durable" / "_core", ROOT / "durable" / "_executor"]
    there = {path.name for room in rooms for path in room.glob("[!_]*.py")}
    assert shown == {name for name in there if not name.startswith("cel")}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_files_that_a_page_names_exist(page):
    for path in _PATH.findall(page.read_text()):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}"
