# ruff: noqa: E501, T201 (tables of expressions; campaigns print their counts)
"""What is no expression, what is too much of one, and that nothing hangs or raises what is not ours."""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import time

import pytest

from durable._core.cel import (
    Condition,
    EvaluationError,
    compile_condition,
    compile_key,
    index_key,
    prune,
)
from durable._core.cel_kinds import OverBounds
from durable.errors import ConfigError

BOTH = frozenset({"event", "async"})
EVENT = {
    "name": "order/paid",
    "ts": 1_700_000_000_000,
    "data": {
        "amount": 150,
        "price": 9.5,
        "whole": 3.0,
        "big": 9_007_199_254_740_993,
        "country": "DE",
        "vip": True,
        "nothing": None,
        "tags": ["a", "b"],
        "items": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}],
        "nested": {"deep": {"er": 1}},
        "key with space": 5,
        "": 6,
        "when": "2024-02-29T23:30:15.250Z",
    },
}


def value(text, async_=None):
    return compile_condition(text, roots=BOTH).evaluate(EVENT, async_)


def test_nested_errors_are_not_evaluated_twice_at_each_level():
    text = "1 / 0 > 1"
    for _ in range(39):
        text = f"({text} && true)"
    started = time.perf_counter()
    with pytest.raises(EvaluationError):
        value(text)
    assert time.perf_counter() - started < 1


def test_config_errors_say_what_where_and_what_would_be_right():
    cases = {
        "": "empty", " \n": "empty", "// only": "too early", "event.data.x = 1": "`==`", "event.x === 1": "`==`", "event.x & true": "`&&`", "event.x | true": "`||`",
        "event.x and event.y": "`&&`", "not event.x": "cannot stand", "event.x or event.y": "`||`", "order.x": "unknown name `order`", "async.x == 1": "`async` is",
        "event.x.lower()": "unknown method `lower`", "now()": "unknown function `now`", "lowercase('A')": "unknown function", "contains('a', 'b')": "x.contains",
        "'1'.int()": "int(x)", "[1].reduce(a, b, 0, a + b)": "unknown method `reduce`", "[1].min()": "unknown method", "size()": "1 argument", "size(1, 2)": "1 argument",
        "'a'.contains()": "1 argument", "timestamp(0).getHours('a', 'b')": "0 or 1", "[1].map(x)": "variable and an expression", "[1].all(1, true)": "name of a variable",
        "[1].all((x), true)": "name of a variable", "has(event)": "one field", "has(event['a'])": "one field", "has()": "one field", "Foo{a: 1}": "protobuf", "event{}": "protobuf",
        "'abc": "not closed", '"""abc"': "not closed", "'a\nb'": "not closed", r"'\q'": "no escape", r"'\x1'": "no escape", r"'\ud800'": "no character",
        r"'\U00110000'": "no character", r"b'\u0041'": "no place in bytes", "b'\ud800'": "surrogate", "9223372036854775808": "64-bit integer", "18446744073709551616u": "unsigned",
        "event.x.matches('(')": "RE2", "event.x.matches(r'(?=a)')": "RE2", "timestamp(0).getHours('Mars')": "time zone", "event.": "too early", "(event": "too early",
        "event.x == 1)": "cannot stand", "[1, 2,]": "cannot stand", "event.true": "event['true']", "event x": "cannot stand", "a" * 5000: "4,096", "€": "cannot stand",
        "(" * 41 + "1" + ")" * 41: "40 levels", "!" * 41 + "true": "40 levels", "true ? 1 : " * 41 + "2": "40 levels", "(" * 4000: "40 levels", "[" * 4096: "40 levels",
        "event" + ".size()" * 41: "40 levels", "1 == " * 42 + "1": "40 levels", "[1].all(a, [1].all(b, [1].all(c, true)))": "one inside another", "google.protobuf.Any": "unknown name",
        "event.x.matches('" + "a" * 1100 + "')": "1,024",
    }  # fmt: skip
    for text, part in cases.items():
        with pytest.raises(ConfigError) as caught:
            compile_condition(text)
        message = str(caught.value)
        assert part in message, (text[:50], message)
        assert message.startswith(("expression '", 'expression "')), message
        assert len(message) < 800
    with pytest.raises(ConfigError, match="line 2 column 7: '==' cannot"):
        compile_condition("event.a\n   == == 2")
    for wrong in (None, 7, b"true", ["true"]):
        with pytest.raises(ConfigError, match="a str of CEL"):
            compile_condition(wrong)


def test_what_the_bounds_allow():
    assert value("(" * 40 + "1" + ")" * 40) == 1
    assert value("1" + " + 1" * 1000) == 1001
    assert value("event.data" + ".x" * 2000) is None
    assert value(" && ".join(["true"] * 500)) is True
    assert value("'" + "a" * 4094 + "'") == "a" * 4094
    assert value("[" + ", ".join(["1"] * 1000) + "].all(x, x == 1)") is True


def test_bounds_of_an_evaluation(caplog):
    many = {"data": {"list": [0] * 1001, "thousand": [0] * 1000, "text": "ab" * 100_000}}
    with pytest.raises(OverBounds, match="1,000"):
        compile_condition("event.data.list.exists(x, true) || true").evaluate(many)
    slow = compile_condition("event.data.thousand.all(x, event.data.thousand.all(y, x == y)) || true")
    with pytest.raises(OverBounds, match="20 ms"):
        slow.evaluate(many)
    with caplog.at_level(logging.WARNING, logger="durable.expressions"):
        assert slow(many) is False
    assert "20 ms" in caplog.text
    with pytest.raises(OverBounds, match="262,144"):
        compile_condition("event.data.text + event.data.text == 'a'").evaluate(many)
    with pytest.raises(OverBounds, match="65,536"):
        compile_condition("event.data.text.matches('a')").evaluate(many)


def test_a_pause_of_the_process_is_not_the_time_of_an_expression(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("durable._core.cel_kinds.perf_counter", lambda: float(next(clock)))
    assert value("[1, 2, 3].all(x, x > 0)") is True
    with pytest.raises(OverBounds, match="20 ms"):
        value("[1, 2, 3, 4, 5].all(x, x > 0)")


def test_values_that_grow_exponentially_end_by_the_clock():
    doubled = "[[1]]" + ".map(a, [a, a])" * 30
    for text in (f"{doubled} == {doubled}", f"'' + {doubled} == ''", f"{doubled} in [{doubled}]"):
        started = time.thread_time()
        with pytest.raises(OverBounds):
            value(text)
        assert time.thread_time() - started < 2


def test_deep_documents_are_no_recursion():
    deep = other = 1
    for _ in range(2000):
        deep, other = [deep], [other]
    event = {"data": {"a": deep, "b": other}}
    assert compile_condition("event.data.a == event.data.b")(event) is True
    assert compile_key("event.data.a")(event).text == "[" * 2000 + "1" + "]" * 2000
    assert index_key(deep) == index_key(other)


def test_little_stack_left_is_a_config_error_not_a_recursion_error():
    text = "false || true && 1 == 2 + 3 * -(" * 20 + "1" + ")" * 20
    frame, used = sys._getframe(), 0
    while frame is not None:
        frame, used = frame.f_back, used + 1

    def dive(frames):
        return dive(frames - 1) if frames else compile_condition(text)

    with pytest.raises(ConfigError, match="too deep for the stack"):
        dive(sys.getrecursionlimit() - used - 150)
    condition = compile_condition(text)

    def dive_to_evaluate(frames):
        return dive_to_evaluate(frames - 1) if frames else condition(EVENT)

    assert dive_to_evaluate(sys.getrecursionlimit() - used - 100) is False
    with pytest.raises(EvaluationError, match="bool"):
        condition.evaluate(EVENT)


ALPHABET = ["event", "async", ".", "data", "x", "[", "]", "(", ")", "{", "}", '"', "'", "\\", "//", "\n", "&&", "||", "!", "-", "+", "*", "/", "%", "==", "<", "in", "?", ":", ",",
            "1", "1.5", "0x", "u", "e9", "true", "null", "has(", ".exists(i,", ".map(", "size(", "r'", 'b"', '"""', "'''", "\\u12", "\\x", "é", "\x00", "\ud800", " ", "matches('('", "99999999999"]  # fmt: skip


VALID = ["event.data.b.x", "event['data']['a']", "has(event.data.a)", "size(event.data.a)", "event.data.a > 1 && (event.x == 'b' || !event.y)", "event.data.items.filter(i, i.n > 1).map(i, i.n + 'x')", "event.x ? 1 : {'a': [1, 2.5, \"t\"]}",
             "timestamp(event.x).getHours('UTC') % 2 == 0", "r'\\d+' + '\\u00e9' + b'a' + '''q'''", "event.x.matches('^a+$')"]  # fmt: skip


def fuzz(rng, count):
    """Random and mutated texts: each compiles or is a ConfigError, quickly; what compiles answers a bool."""
    compiled, slowest = 0, 0.0
    for number in range(count):
        if number % 2:
            text = "".join(rng.choice(ALPHABET) for _ in range(rng.choice((3, 8, 30, 300))))
        else:
            chars = list(rng.choice(VALID))
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(chars) + 1)
                chars[place : place + rng.randint(0, 2)] = rng.choice(ALPHABET) * rng.choice((1, 1, 2, 50))
            text = "".join(chars)
        started = time.perf_counter()
        try:
            condition = compile_condition(text, roots=BOTH)
        except ConfigError:
            pass
        else:
            compiled += 1
            assert isinstance(condition, Condition)
            assert condition(EVENT, EVENT) in (True, False)
            prune(condition, EVENT)
        slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 5
    return compiled, slowest


def test_fuzz():
    compiled, _ = fuzz(random.Random(1), 1000)
    assert compiled > 20


@pytest.mark.campaign
@pytest.mark.timeout(600)
def test_fuzz_campaign():
    compiled, slowest = fuzz(random.Random(2), 50_000)
    print(f"\nfuzz: 50000 texts, {compiled} compiled, slowest {slowest * 1000:.0f} ms")


def test_celpy_and_re2_come_with_the_first_expression():
    code = (
        "import sys, durable._core.cel as e; assert not {'celpy', 'lark', 're2'} & set(sys.modules);"
        "limit = sys.getrecursionlimit(); assert e.compile_condition('1 == 1')(None); assert sys.getrecursionlimit() == limit"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=__file__.rsplit("/tests/", 1)[0])
