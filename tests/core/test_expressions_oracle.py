# ruff: noqa: E501, T201 (tables of expressions; campaigns print their counts)
"""The closures against celpy's own interpreter, over expressions and documents that hypothesis makes up.

celpy is the oracle where it follows the standard. Where `durable` is lenient on purpose, or celpy
strays from the standard, the operators and functions given to its runner say what is meant; they are written
against celpy's types, beside the code under test.
"""

from __future__ import annotations

import json
import logging
import math
import operator
import sys
from collections import Counter
from functools import cache

import celpy
import pytest
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError, base_functions
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from durable._core.cel import EvaluationError, compile_condition
from durable._core.cel_kinds import CelType, OverBounds, Uint

BOTH = frozenset({"event", "async"})
NUMBERS = (celtypes.IntType, celtypes.DoubleType, celtypes.UintType)


def no_overload(*values):
    raise TypeError(values)


def failed(*values):
    return next((v for v in values if isinstance(v, CELEvalError)), None)


def plain_number(v):
    return float(v) if isinstance(v, float) else int(v)


def same(a, b):
    if isinstance(a, NUMBERS) and isinstance(b, NUMBERS):
        return plain_number(a) == plain_number(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return {str(k) for k in a} == {str(k) for k in b} and all(
            same(v, dict.get(b, k)) for k, v in a.items()
        )
    return a is None or str(a) == str(b)


def comparison(name):
    compare = getattr(operator, name)

    def run(a, b):
        if (error := failed(a, b)) is not None:
            return error
        if isinstance(a, NUMBERS) and isinstance(b, NUMBERS):
            return celtypes.BoolType(compare(plain_number(a), plain_number(b)))
        if type(a) is not type(b) or not isinstance(a, (str, bytes, celtypes.BoolType)):
            no_overload(a, b)
        plain = str if isinstance(a, str) else bytes if isinstance(a, bytes) else int
        return celtypes.BoolType(compare(plain(a), plain(b)))

    return run


def text_of(v):
    if isinstance(v, str):
        return str(v)
    return json.dumps(normal(v), sort_keys=True, separators=(",", ":"))


def normal(v):
    """JSON in which equal numbers look alike."""
    if isinstance(v, celtypes.BoolType):
        return bool(v)
    if isinstance(v, float):
        return int(v) if v.is_integer() and abs(v) < 2**64 else float(v)
    if isinstance(v, list):
        return [normal(x) for x in v]
    if isinstance(v, dict):
        return {str(k): normal(x) for k, x in v.items()}
    return str(v) if isinstance(v, str) else v if v is None else int(v)


def mapped(a, b):
    """A map literal, which in celpy keeps errors as values."""
    return celtypes.MapType({celtypes.StringType("a"): a, celtypes.StringType("b"): b})


def add(a, b):
    if (error := failed(a, b)) is not None:
        return error
    if isinstance(a, str) or isinstance(b, str):
        return celtypes.StringType(text_of(a) + text_of(b))
    return arithmetic("_+_")(a, b)


def arithmetic(name):
    def run(a, b):
        if (error := failed(a, b)) is not None:
            return error
        numbers = isinstance(a, NUMBERS) and isinstance(b, NUMBERS)
        if numbers and type(a) is not type(b):
            if isinstance(a, celtypes.UintType) or isinstance(b, celtypes.UintType):
                no_overload(a, b)
            a, b = celtypes.DoubleType(float(a)), celtypes.DoubleType(float(b))
        if not numbers and not (name == "_+_" and isinstance(a, list) and isinstance(b, list)):
            no_overload(a, b)
        if name == "_/_" and float(b) == 0:
            return CELEvalError("division by zero")
        if isinstance(a, celtypes.DoubleType):
            if name == "_%_":
                no_overload(a, b)
            operation = {
                "_+_": operator.add,
                "_-_": operator.sub,
                "_*_": operator.mul,
                "_/_": operator.truediv,
            }[name]
            return celtypes.DoubleType(operation(float(a), float(b)))
        result = base_functions[name](a, b)
        return celtypes.ListType(result) if isinstance(result, list) else result

    return run


def fetch(start, key):
    """`start[key]` with null for whatever is missing."""
    if (error := failed(start, key)) is not None:
        return error
    if isinstance(start, dict) and isinstance(key, str):
        return dict.get(start, key)
    if (
        isinstance(start, list)
        and isinstance(key, NUMBERS)
        and plain_number(key) == int(key)
        and 0 <= int(key) < len(start)
    ):
        return list.__getitem__(start, int(key))
    return None


def contained(item, container):
    if (error := failed(item, container)) is not None:
        return error
    if isinstance(container, dict):
        return celtypes.BoolType(isinstance(item, str) and dict.__contains__(container, item))
    return (
        celtypes.BoolType(any(same(item, x) for x in container))
        if isinstance(container, list)
        else no_overload(item)
    )


def only(kinds, name):
    inner = base_functions[name]

    def run(*args):
        if (error := failed(*args)) is not None:
            return error
        if not all(
            isinstance(a, kinds) and not (isinstance(a, celtypes.BoolType) and celtypes.BoolType not in kinds)
            for a in args
        ):
            no_overload(*args)
        return inner(*args)

    return run


def number(kind):
    def run(v):
        return (
            no_overload(v)
            if isinstance(v, celtypes.BoolType) or not isinstance(v, (*NUMBERS, str))
            else kind(v)
        )

    return run


def present(a, b):
    """`==` between a field of `event` and one of `async`: rule 28."""
    return celtypes.BoolType(False) if a is None or b is None else equals(a, b)


def equals(a, b):
    return failed(a, b) or celtypes.BoolType(same(a, b))


def logic(decisive):
    """celpy lets `true && 1` be 1; an operand that is no bool is an error."""

    def run(*operands):
        operands = [
            v if isinstance(v, (celtypes.BoolType, CELEvalError)) else CELEvalError("no bool")
            for v in operands
        ]
        if any(isinstance(v, celtypes.BoolType) and bool(v) is decisive for v in operands):
            return celtypes.BoolType(decisive)
        return failed(*operands) or celtypes.BoolType(not decisive)

    return run


STRING = (celtypes.StringType,)
FUNCTIONS = {
    "_==_": equals,
    "_!=_": lambda a, b: failed(a, b) or celtypes.BoolType(not same(a, b)),
    "_<_": comparison("lt"), "_<=_": comparison("le"), "_>_": comparison("gt"), "_>=_": comparison("ge"),
    "_+_": add, "_-_": arithmetic("_-_"), "_*_": arithmetic("_*_"), "_/_": arithmetic("_/_"), "_%_": arithmetic("_%_"),
    "_&&_": logic(False), "_||_": logic(True), "_[_]": fetch, "_in_": contained,
    "size": only((celtypes.StringType, celtypes.ListType, celtypes.MapType), "size"),
    "contains": only(STRING, "contains"), "startsWith": only(STRING, "startsWith"), "endsWith": only(STRING, "endsWith"), "matches": only(STRING, "matches"),
    "int": number(celtypes.IntType), "double": number(celtypes.DoubleType), "string": lambda v: no_overload(v) if v is None or isinstance(v, (list, dict)) else celtypes.StringType(text_of(v)),
    "mapped": mapped,
    "fetch": fetch, "present": present,
}  # fmt: skip


@pytest.fixture(autouse=True)
def celpy_at_its_best(monkeypatch):
    """Its Environment raises the process's limit, which other tests shall not see; its dump of trees fails on `[]`."""
    monkeypatch.setattr("celpy.evaluation.tree_dump", lambda ast: "")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2500)
    yield
    sys.setrecursionlimit(before)


@cache
def environment():
    logging.getLogger("celpy").setLevel(logging.CRITICAL)
    return celpy.Environment()


def oracle(text, event, async_):
    """celpy's answer: a plain value, or "error"."""
    env = environment()
    runner = env.program(env.compile(text), functions=FUNCTIONS)
    try:
        found = runner.evaluate({"event": json_to_cel(event), "async": json_to_cel(async_)})
    except (CELEvalError, TypeError, ValueError, OverflowError, AttributeError):
        return "error", None
    return "value", plain(found)


def ours(text, event, async_):
    try:
        return "value", plain(compile_condition(text, roots=BOTH).evaluate(event, async_))
    except OverBounds:
        raise
    except EvaluationError:
        return "error", None


def plain(v):
    if isinstance(v, (bool, celtypes.BoolType)):
        return ("bool", bool(v))
    if isinstance(v, (Uint, celtypes.UintType)):
        return ("uint", int(v))
    if isinstance(v, int):
        return ("int", int(v))
    if isinstance(v, float):
        return ("double", "nan" if math.isnan(v) else float(v))
    if isinstance(v, str):
        return ("string", str(v))
    if isinstance(v, list):
        return ("list", tuple(plain(x) for x in v))
    if isinstance(v, dict):
        return ("map", tuple(sorted((str(k), plain(x)) for k, x in v.items())))
    assert v is None or isinstance(v, CelType)
    return ("null", None)


class Text(str):
    """A piece of an expression as `durable` reads it, and as the oracle has to be asked."""

    __slots__ = ("asked",)

    def __new__(cls, text, asked=None):
        made = super().__new__(cls, text)
        made.asked = text if asked is None else asked
        return made


def join(form, *parts):
    return Text(form.format(*parts), form.format(*(part.asked for part in parts)))


def a_path(root, keys):
    text = asked = root
    for key in keys:
        text += f".{key}" if isinstance(key, str) else f"[{key}]"
        asked = f"fetch({asked}, {key!r})"
    return Text(text, asked)


KEYS = ["a", "b", "n", "s"]
STEP = st.sampled_from([*KEYS, *KEYS, 0, 1])
EVENT_PATHS = st.lists(STEP, min_size=1, max_size=3).map(lambda keys: a_path("event", keys))
ASYNC_PATHS = st.lists(STEP, min_size=1, max_size=2).map(lambda keys: a_path("async", keys))
NUMBER_TEXTS = [
    "0",
    "1",
    "2",
    "-1",
    "7",
    "1.0",
    "2.5",
    "-0.5",
    "3u",
    "1u",
    "9007199254740993",
    "9007199254740992.0",
    "9223372036854775807",
]
SMALL = st.sampled_from(NUMBER_TEXTS).map(Text)
STRINGS = st.sampled_from(["''", "'a'", "'ab'", '"1"', "r'\\n'", "'\\u00e9'", "'true'"]).map(Text)
ATOMS = st.one_of(
    EVENT_PATHS,
    EVENT_PATHS,
    ASYNC_PATHS,
    SMALL,
    STRINGS,
    st.sampled_from(["true", "false", "null", "[]", "{}"]).map(Text),
)


def is_path(text, root):
    return text.startswith(root) and all(c.isalnum() or c in ".[]" for c in text)


def equality(left, right):
    sides = {root for root in ("event", "async") for side in (left, right) if is_path(side, root)}
    asked = (
        f"present({left.asked}, {right.asked})" if len(sides) == 2 else f"({left.asked}) == ({right.asked})"
    )
    return Text(f"({left}) == ({right})", asked)


def bodies(variable):
    """What may stand in a macro over `variable`."""
    one = st.sampled_from([
        f"{variable} == 1", f"{variable} > 0", f"{variable} == 'a'", "true", "false", f"{variable} != null", f"size({variable}) > 0", f"1 / 0 > {variable}",
    ]).map(Text)  # fmt: skip
    return one | st.tuples(EVENT_PATHS, one).map(lambda p: join(variable + " != {} && {}", *p))


def extended(inner):
    pairs = st.tuples(inner, inner)
    binary = st.sampled_from(["!=", "<", "<=", ">", ">=", "in", "-", "*", "/", "%", "&&", "||"])
    return st.one_of(
        pairs.map(lambda p: equality(*p)),
        st.tuples(inner, binary, inner).map(lambda p: join("({}) " + p[1] + " ({})", p[0], p[2])),
        st.tuples(inner, binary, inner).map(lambda p: join("({}) " + p[1] + " ({})", p[0], p[2])),
        pairs.map(lambda p: join("({}) + ({})", *p)),
        st.tuples(inner, inner, inner).map(lambda p: join("({}) ? ({}) : ({})", *p)),
        st.lists(inner, min_size=3, max_size=4).map(lambda p: join(" && ".join(["({})"] * len(p)), *p)),
        st.lists(inner, min_size=3, max_size=4).map(lambda p: join(" || ".join(["({})"] * len(p)), *p)),
        inner.map(lambda x: join("!({})", x)),
        SMALL.map(lambda x: join("-({})", x)),
        st.lists(inner, max_size=3).map(lambda p: join("[" + ", ".join(["{}"] * len(p)) + "]", *p)),
        pairs.map(lambda p: Text(f"{{'a': {p[0]}, 'b': {p[1]}}}", f"mapped({p[0].asked}, {p[1].asked})")),
        inner.map(lambda x: Text(f"({x}).a", f"fetch({x.asked}, 'a')")),
        pairs.map(lambda p: Text(f"({p[0]})[{p[1]}]", f"fetch({p[0].asked}, {p[1].asked})")),
        st.tuples(st.sampled_from(["size", "int", "double", "string", "dyn"]), inner).map(lambda p: join(p[0] + "({})", p[1])),
        st.tuples(inner, st.sampled_from(["contains", "startsWith", "endsWith"]), STRINGS).map(lambda p: join("({})." + p[1] + "({})", p[0], p[2])),
        inner.map(lambda x: join("({}).matches('^[a1]')", x)),
        st.tuples(st.lists(inner, max_size=3), st.sampled_from(["all", "exists"]), bodies("i")).map(
            lambda p: join("[" + ", ".join(["{}"] * len(p[0])) + "]." + p[1] + "(i, {})", *p[0], p[2])
        ),
        st.tuples(st.sampled_from(["exists_one", "filter"]), st.sampled_from(["i == 1", "i != null", "i == 'a'", "i in [1, 2.5]"])).flatmap(
            lambda p: st.lists(inner, max_size=3).map(lambda xs: join("[" + ", ".join(["{}"] * len(xs)) + "]." + p[0] + "(i, " + p[1] + ")", *xs))
        ),
        st.lists(inner, max_size=3).map(lambda xs: join("[" + ", ".join(["{}"] * len(xs)) + "].map(i, [i, i == 1])", *xs)),
        st.lists(inner, max_size=2).map(lambda xs: join("[" + ", ".join(["{}"] * len(xs)) + "].map(i, [1, 2].exists(j, j == i))", *xs)),
    )  # fmt: skip


NUMERIC = st.one_of(SMALL, st.just(a_path("event", ["n"])), st.just(a_path("async", ["n"])))
PLAIN = st.one_of(EVENT_PATHS, ASYNC_PATHS, NUMERIC, STRINGS)
COMPARISONS = st.one_of(
    st.tuples(PLAIN, PLAIN).map(lambda p: equality(*p)),
    st.tuples(PLAIN, PLAIN).map(lambda p: join("{} != {}", *p)),
    st.tuples(NUMERIC, st.sampled_from(["<", "<=", ">", ">="]), NUMERIC).map(
        lambda p: join("{} " + p[1] + " {}", p[0], p[2])
    ),
    st.tuples(NUMERIC, NUMERIC, NUMERIC).map(lambda p: join("{} * {} < {}", *p)),
    st.tuples(PLAIN, PLAIN, PLAIN).map(lambda p: join("{} in [{}, {}]", *p)),
    st.tuples(PLAIN, PLAIN).map(lambda p: join("'' + {} + {} == 'a1'", *p)),
    st.tuples(PLAIN, PLAIN, PLAIN).map(lambda p: join("[{}, {}].exists(i, i == {})", *p)),
)
CONDITIONS = st.recursive(COMPARISONS, lambda inner: st.one_of(
    st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: join("({}) " + p[1] + " ({})", p[0], p[2])),
    inner.map(lambda x: join("!({})", x)),
    st.tuples(inner, inner, inner).map(lambda p: join("({}) ? ({}) : ({})", *p)),
), max_leaves=5)  # fmt: skip
EXPRESSIONS = st.one_of(CONDITIONS, st.recursive(ATOMS, extended, max_leaves=6))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 8), st.sampled_from([1.0, 2.5, -0.5, 2**53 + 1, 2.0**53, 2**63 - 1]), st.sampled_from(["", "a", "ab", "1", "true", "é"]))  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4), max_leaves=8
)  # fmt: skip
EVENTS = st.fixed_dictionaries({"a": DOCUMENTS, "n": st.integers(-3, 300) | st.floats(-5, 5).map(lambda x: round(x, 2)), "s": st.sampled_from(["a", "ab", ""])}, optional={"b": DOCUMENTS})  # fmt: skip

TALLY: Counter[str] = Counter()


def check(text, event, async_):
    expected = oracle(text.asked, event, async_)
    found = ours(text, event, async_)
    TALLY[f"{found[0]} {found[1][0] if found[1] else ''}".strip()] += 1
    assert found == expected, (str(text), text.asked, event, async_)


LENIENT = {
    "phases": (Phase.generate, Phase.shrink),
    "suppress_health_check": list(HealthCheck),
    "deadline": None,
    "database": None,
}


@settings(derandomize=True, max_examples=400, **LENIENT)
@given(EXPRESSIONS, EVENTS, EVENTS)
def test_closures_agree_with_celpy(text, event, async_):
    check(text, event, async_)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_closures_agree_with_celpy_campaign():
    TALLY.clear()

    @settings(derandomize=False, max_examples=20_500, **LENIENT)
    @given(EXPRESSIONS, EVENTS, EVENTS)
    def search(text, event, async_):
        check(text, event, async_)

    search()
    print(f"\ndifferential: {TALLY.total()} expressions, {dict(TALLY)}")
    assert TALLY.total() >= 20_000
