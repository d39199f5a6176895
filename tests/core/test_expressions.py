# ruff: noqa: E501 (tables of expressions; campaigns print their counts)
"""What expressions mean: leniencies, bounds, errors, the index of waits. The oracle is in its own file."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._core.cel import (
    NULL_KEY,
    EvaluationError,
    KeyValue,
    compile_condition,
    compile_key,
    compile_match,
    compile_priority,
    index_key,
    lookup,
    prune,
)
from durable._core.cel_kinds import Uint
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


VALUES = {
    # literals
    "1": 1, "-1": -1, "0x1F": 31, "-0x1F": -31, "1.5": 1.5, ".5": 0.5, "1e3": 1000.0, "true": True, "null": None,
    "-9223372036854775808": -(2**63), "18446744073709551615u": 2**64 - 1,
    r"'a\n\t\\\'\"\?\`'": "a\n\t\\'\"?`", r"r'a\n'": r"a\n", r'r"\"': "\\", '"""a"b\nc"""': 'a"b\nc', "'''x'''": "x",
    r"'\u00e9\x41\101\U0001F600'": "éAA😀", r"b'\xff\101a'": b"\xffAa", "b'é'": "é".encode(), r"br'\x'": b"\\x",
    '""': "", "[]": [], "[1, 'a', [true]]": [1, "a", [True]], "{}": {}, "{'a': 1, 'b': [2]}": {"a": 1, "b": [2]},
    "1 // comment ' \"\n + 1": 2,
    # arithmetic
    "1 + 2 * 3": 7, "(1 + 2) * 3": 9, "7 / 2": 3, "-7 / 2": -3, "7 % 3": 1, "-7 % 3": -1, "7 % -3": 1, "1 - 2 - 3": -4,
    "1-2": -1, "1--1": 2, "2.0 * 3.5": 7.0, "1 + 1.5": 2.5, "3 / 2.0": 1.5, "2u + 3u": 5, "-event.data.price": -9.5,
    "[1] + [2]": [1, 2], "b'a' + b'b'": b"ab", "100 - 10 + 5 - 1": 94,
    # text
    "'a' + 'b'": "ab", "'a' + 3": "a3", "3 + 'a'": "3a", "'a' + 1.0": "a1", "'a' + 1.5": "a1.5", "'a' + true": "atrue",
    "'a' + null": "anull", "'a' + event.data.missing": "anull", "'a' + [1.0, {'b': 'c'}]": 'a[1,{"b":"c"}]', "'' + 2u": "2",
    # paths
    "event.data.amount": 150, 'event["data"]["amount"]': 150, "event.data['key with space']": 5, "event.data['']": 6,
    "event.data.missing": None, "event.data.missing.more": None, "event.data.country.x": None, "event.data.tags.x": None,
    "event.data.tags[0]": "a", "event.data.tags[2]": None, "event.data.tags[-1]": None, "event.data.tags[1.0]": "b",
    "event.data.tags[0.5]": None, "event.data.tags['0']": None, "event.data.tags[true]": None, "event.data.country[0]": None,
    "event.data.nothing.x[3].y": None, "event.data.items[1].sku": "y", "event.data.items[event.data.items[0].n].sku": "y",
    ".event.data.amount": 150, "event.missing[null]": None, "event.data[null]": None, "{'a': 1}.a": 1, "[[1]][0][0]": 1,
    "{1: 'a', true: 'b'}[1]": "a", "{1: 'a', true: 'b'}[true]": "b", "{1: 'a'}[1.0]": "a", "{'a': 1}['b']": None,
    # choice, logic
    "true ? 1 : 1 / 0": 1, "false ? 1 / 0 : 2": 2, "false ? 1 : true ? 2 : 3": 2, "!true": False, "!!true": True,
    # functions
    "size('äöü')": 3, "size([1, 2])": 2, "size({'a': 1})": 1, "size(b'abc')": 3, "'abc'.size()": 3, "event.data.tags.size()": 2,
    "'abc'.contains('b')": True, "'abc'.startsWith('ab')": True, "'abc'.endsWith('bc')": True, "'abc'.matches('^a.c$')": True,
    "matches('abc', 'd')": False, "int('12')": 12, "int(1.9)": 1, "int(-1.9)": -1, "int(5u)": 5, "uint(5)": 5, "uint('7')": 7,
    "uint(2.7)": 2, "double('1.5e2')": 150.0, "double(2)": 2.0, "string(1)": "1", "string(1.0)": "1", "string(1.5)": "1.5",
    "string(true)": "true", "string(b'a')": "a", "bool('true')": True, "bool('f')": False, "bytes('é')": "é".encode(),
    "dyn(1)": 1, "type(1) == int": True, "type(1u) == uint": True, "type(1.0) == double": True, "type('') == string": True,
    "type(b'') == bytes": True, "type([]) == list": True, "type({}) == map": True, "type(null) == null_type": True,
    "type(true) == bool": True, "type(int) == type": True, "type(type(1)) == type": True,
    "type(duration('1s')) == google.protobuf.Duration": True,
    "type(timestamp('2024-01-01T00:00:00Z')) == google.protobuf.Timestamp": True,
    # macros
    "event.data.items.exists(i, i.sku == 'y')": True, "event.data.items.all(i, i.n > 0)": True,
    "event.data.items.exists_one(i, i.n > 1)": True, "event.data.items.exists_one(i, i.n > 0)": False,
    "event.data.items.map(i, i.n * 2)": [2, 4], "event.data.items.map(i, i.n > 1, i.sku)": ["y"],
    "event.data.tags.filter(t, t != 'a')": ["b"], "{'a': 1}.exists(k, k == 'a')": True, "[].all(x, false)": True,
    "[].exists(x, true)": False, "[1, 2].map(x, [3, 4].map(y, x * y))": [[3, 4], [6, 8]], "{true: 1}.map(k, k)": [True],
    "[1].map(event, event + 1)": [2], "[1, 'a', true].exists(x, x > 0)": True, "[0, 'a'].all(x, x > 0)": False,
    "[[1, 2], [3]].filter(x, x.exists(y, y == 3)).map(x, x.size())": [1], "[{'int': 3}].map(int, int.int)": [3],
    # has
    "has(event.data.amount)": True, "has(event.data.nothing)": True, "has(event.data.missing)": False,
    "has(event.data.missing.more)": False, "has(event.data.country.x)": False, "has(event.data.items[0].sku)": True,
    # times
    "timestamp('2024-02-29T23:30:15Z').getFullYear()": 2024, "timestamp('2024-02-29T23:30:15Z').getMonth()": 1,
    "timestamp('2024-02-29T23:30:15Z').getDate()": 29, "timestamp('2024-02-29T23:30:15Z').getDayOfMonth()": 28,
    "timestamp('2024-02-29T23:30:15Z').getDayOfWeek()": 4, "timestamp('2024-02-29T23:30:15Z').getDayOfYear()": 59,
    "timestamp(event.data.when).getHours()": 23, "timestamp(event.data.when).getMinutes()": 30,
    "timestamp(event.data.when).getSeconds()": 15, "timestamp(event.data.when).getMilliseconds()": 250,
    "timestamp(event.data.when).getHours('Europe/Berlin')": 0, "timestamp(event.data.when).getDate('+01:00')": 1,
    "timestamp(event.data.when).getHours('-01:30')": 22, "duration('1h30m').getMinutes()": 90, "duration('1.5s').getMilliseconds()": 1500,
    "duration('-90s').getMinutes()": -1, "string(duration('1h1.5s'))": "3601.5s", "string(duration('-1ms'))": "-0.001s",
    "string(timestamp('2024-01-01T01:00:00.120+01:00'))": "2024-01-01T00:00:00.12Z", "int(timestamp('1970-01-01T00:01:00Z'))": 60,
    "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')": True,
    "timestamp('2024-01-01T00:00:00Z') + duration('1h') > timestamp('2024-01-01T00:00:00Z')": True,
    "duration('1s') + timestamp(0) == timestamp(1)": True, "duration('2s') - duration('500ms') == duration('1.5s')": True,
    "timestamp(event.ts / 1000).getFullYear()": 2023, "'x' + timestamp(0)": "x1970-01-01T00:00:00Z", "duration('0') == duration('0s')": True,
}  # fmt: skip


def test_values():
    for text, expected in VALUES.items():
        found = value(text)
        assert found == expected, text
        assert type(found) is type(expected) or (isinstance(found, Uint) and type(expected) is int), text


def test_equality_and_order():
    true = [
        "1 == 1.0", "1 == 1u", "1.0 == 1u", "1 != 2", "1 != '1'", "1 != true", "0 != false", "true != 'true'", "null == null", "null != 0",
        "null != ''", "null != false", "event.data.missing == null", "event.data.missing == event.data.other", "event.data.nothing == null",
        "event.data.missing != 1", "[1, 2] == [1.0, 2]", "[1] != [true]", "[1] != [1, 2]", "{'a': [1]} == {'a': [1.0]}", "{'a': 1} != {'b': 1}",
        "{'a': null} != {}", "[] != {}", "'a' != b'a'", "9007199254740993 != 9007199254740992.0", "event.data.big == 9007199254740993",
        "event.data.big != 9007199254740992.0", "event.data.big > 9007199254740992.0", "event.data.whole == 3", "event.data.amount > 100.5",
        "2 >= 2.0", "1 < 2u", "'a' < 'b'", "false < true", "b'a' < b'b'", "event.data.vip == true", "1 in [1.0]", "!(true in [1])", "!('1' in [1])",
        "'a' in {'a': 1}", "!(1 in {'a': 1})", "1.0 in {1: 2}", "!(true in {1: 2})", "null in [null]", "'a' in event.data.tags",
        "event.data.missing in [null]", "!('x' in event.data.nested)", "'deep' in event.data.nested", "!([] in {'a': 1})", "!(1.5 in {1: 1})",
        "{1: 2, 'a': 3} == {1u: 2.0, 'a': 3}", "{1: 2} != {true: 2}", "int != string",
    ]  # fmt: skip
    for text in true:
        assert value(text) is True, text


def test_errors():
    errors = [
        "1 < 'a'", "1 < null", "event.data.missing > 1", "null < null", "[1] < [2]", "true < 1", "{} < {}", "1 / 0", "1 % 0", "1u / 0u", "1.0 / 0.0",
        "1.5 % 2.0", "9223372036854775807 + 1", "-9223372036854775808 - 1", "9223372036854775807 * 2", "-9223372036854775808 / -1",
        "-(-9223372036854775808)", "18446744073709551615u + 1u", "0u - 1u", "1 + 1u", "1u * 1.0", "-(1u)", "-'a'", "-true", "true + 1", "null + 1",
        "event.data.missing + 1", "[1] + 1", "{} + {}", "'a' - 'b'", "'a' * 2", "!1", "!null", "1 ? 2 : 3", "null ? 1 : 2", "size(1)", "size(null)",
        "event.data.missing.size()", "event.data.missing.startsWith('a')", "'a'.contains(1)", "int(true)", "int('1.5')", "int('x')", "int(1e30)",
        "int(null)", "uint(-1)", "uint('-1')", "uint(null)", "uint(timestamp(0))", "double('x')", "double('nan')", "double(true)", "string(null)", "string([])",
        "bool(1)", "bool('yes')", "bytes(1)", r"string(b'\xff')", "'a'.matches(event.data.amount)", "'a'.matches('(' + 'b')", "1 in 1", "'a' in 'abc'", "1 in null",
        "1.all(x, true)".replace("1.", "event.data.amount."), "event.data.missing.exists(x, true)", "'abc'.map(c, c)", "[1].filter(x, x)", "[1].exists(x, x)",
        "['a', 0].all(x, x < 1)", "[1, 'a'].exists_one(x, x > 1)", "[1].map(x, x, x)", "{1.5: 1}", "{null: 1}", "{'a': 1, 'a': 2}", "{1: 1, 1u: 1}",
        "timestamp('yesterday')", "timestamp('2024-13-01T00:00:00Z')", "timestamp('2024-01-01')", "timestamp(true)", "timestamp(9223372036854775807)",
        "duration('1 hour')", "duration('')", "duration(5)", "duration('400000000000s')", "duration('1d')", "'a'.getHours()", "duration('1s').getFullYear()",
        "timestamp(0).getHours(1)", "timestamp(0).getHours('Ma' + 'rs')", "timestamp('9999-12-31T23:59:59Z') + duration('24h')",
        "timestamp('9999-12-31T23:59:59Z').getHours('+01:00')", "duration('1s').getHours('UTC')", "timestamp(0) + timestamp(0)", "duration('1s') * 2",
        "[1, 2].map(x, x / 0)", "true && 1", "false || 'x'", "'x' || 1",
    ]  # fmt: skip
    for text in errors:
        with pytest.raises(EvaluationError):
            pytest.fail(f"{text} is {value(text)!r}")


def test_absorption():
    cases = {
        "1 / 0 > 1 || true": True, "true || 1 / 0 > 1": True, "1 / 0 > 1 && false": False, "false && 1 / 0 > 1": False,
        "'x' && false": False, "'x' || true": True, "1 / 0 > 1 || 1 / 0 > 2 || true": True, "true && 1 / 0 > 1 && false": False,
        "true && true && true": True, "false || false || true": True, "false || false || false": False,
    }  # fmt: skip
    for text, expected in cases.items():
        assert value(text) is expected, text
    for text in (
        "1 / 0 > 1 || false",
        "true && 1 / 0 > 1",
        "1 / 0 > 1 && true && true",
        "false || 1 || false",
    ):
        with pytest.raises(EvaluationError):
            value(text)


def test_rule_28_needs_the_field_on_both_sides_wherever_the_equality_stands():
    nothing = {"data": {"x": None, "k": "x"}}
    empty = {"data": {"items": [{}]}}
    for text in (
        "event.data.x == async.data.x",
        "async.data.x == event.data.x",
        "(event.data.x) == (async.data.x)",
        "false || event.data.x == async.data.x",
        "[1].exists(i, event.data.x == async.data.x)",
        "event.data[event.data.k] == async.data.x",
        "async.data.items.exists(i, i.x == event.data.x)",
    ):
        condition = compile_condition(text, roots=BOTH)
        for event in (nothing, empty, {}):
            assert condition(event, empty) is False, text
            assert condition(event, nothing) is False, text
            assert compile_condition(f"!({text})", roots=BOTH)(event, empty) or "items" in text, text
        same = {"data": {"x": 1.0, "k": "x", "items": [{"x": 1}]}}
        assert condition(same, same) is True, text
    # Within one document, and beside constants, null stays null; `!=` is CEL's own.
    assert value("event.data.missing == event.data.other") is True
    assert value("async.data.x == null", {}) is True
    assert value("event.data.missing != async.data.x", {}) is False


def test_conditions_answer_only_true(caplog):
    condition = compile_condition("event.data.amount")
    with caplog.at_level(logging.WARNING, logger="durable.expressions"):
        assert condition(EVENT) is False
        assert condition(EVENT) is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "event.data.amount" in caplog.text
    caplog.clear()
    failing = compile_condition("event.data.missing > 7")
    with caplog.at_level(logging.WARNING, logger="durable.expressions"):
        assert [failing(EVENT), failing(EVENT), failing(None), failing([])] == [False] * 4
    assert len(caplog.records) == 1
    assert compile_condition("event.data.amount > 7")(EVENT) is True
    assert compile_condition("event.data.missing > 7") is failing


def test_keys():
    cases = {
        "event.data.country": "DE", "event.data.amount": "150", "event.data.whole": "3", "1.0": "1", "event.data.price": "9.5", "event.data.vip": "true",
        "event.data.nested": '{"deep":{"er":1}}', "[1.0, 'a', null, {'b': 1, 'a': true}]": '[1,"a",null,{"a":true,"b":1}]', "'openai'": "openai",
        "event.data.country + '-' + event.data.amount": "DE-150", "'null'": "null", "'false'": "false", "timestamp(0)": "1970-01-01T00:00:00Z", "1e300": "1e+300",
        "b'abc'": "abc", "-0.0": "0", "1u": "1", "int": "int",
    }  # fmt: skip
    for text, expected in cases.items():
        assert compile_key(text)(EVENT) == KeyValue(expected), text
    for text in ("null", "event.data.nothing", "event.data.missing.x", "1 / 0", r"b'\xff'"):
        found = compile_key(text)(EVENT)
        assert (found.text, found.null, found.off) == (NULL_KEY, True, False), text
    off = compile_key("event.data.amount > 1000")(EVENT)
    assert (off.text, off.off, off.null) == ("false", True, False)
    assert compile_key("event.data.amount > 100")(EVENT) == KeyValue("true")
    with pytest.raises(ConfigError):
        compile_key("async.data.x")


def test_priorities():
    cases = {
        "120": 120, "1.9": 1, "-1.9": -1, "6000": 600, "-6000.5": -600, "1e308 * 10.0": 600, "event.data.missing": 0, "'120'": 0, "true": 0, "1 / 0": 0,
        "event.data.vip ? 60 : 0": 60, "5u": 5, "1e308 * 10.0 - 1e308 * 10.0": 0,
    }  # fmt: skip
    for text, expected in cases.items():
        found = compile_priority(text)(EVENT)
        assert (found, type(found)) == (expected, int), text


def test_match():
    condition = compile_match("data.order_id")
    assert condition.exact
    assert condition.uses_async
    assert condition.equalities[0].path == condition.equalities[0].event_path == ("data", "order_id")
    assert condition({"data": {"order_id": 1}}, {"data": {"order_id": 1.0}})
    assert not condition({"data": {}}, {"data": {}})
    assert compile_match("data['order-id'].true").equalities[0].path == ("data", "order-id", "true")
    assert compile_match("id").equalities[0].path == ("id",)
    for wrong in (
        "",
        "data.",
        ".data",
        "data..x",
        "data.x == 1",
        "data[0]",
        "1x",
        "event.data.x",
        "async.x",
        "data.x()",
        "x" * 5000,
        None,
        3,
        "data['a\\'b']",
        "dätä",
    ):
        with pytest.raises(ConfigError):
            compile_match(wrong)


def test_equalities():
    def found(text):
        condition = compile_condition(text, roots=BOTH)
        return [
            (e.path, e.constant if e.event_path is None else e.event_path) for e in condition.equalities
        ], condition.exact

    assert found("async.data.x == 'a'") == ([(("data", "x"), "a")], True)
    assert found("7u == async.x") == ([(("x",), 7)], True)
    assert found("(async.x == 1.5 && (event.data.y == async['data'].y)) && true == async.z") == (
        [(("x",), 1.5), (("data", "y"), ("data", "y")), (("z",), True)],
        True,
    )
    assert found("async.x == 1 && async.y > 2") == ([(("x",), 1)], False)
    for text in (
        "async.x == 1 || async.y == 1", "!(async.x == 1)", "async.x != 1", "async.x == null", "async.x[0] == 1", "async.x == async.y", "event.x == 1", "async.x",
        "async == event", "async.x == event.y[0]", "async.x == b'a'", "async[event.k] == 1", "async.x == event", "true ? async.x == 1 : false", "async.x == 1 + 1",
    ):  # fmt: skip
        assert found(text) == ([], False), text
    assert compile_condition("async.a == event.b.c", roots=BOTH).equalities[0].value({"b": {"c": 3}}) == 3
    assert compile_condition("async.a == 'k'", roots=BOTH).equalities[0].value(None) == "k"
    assert not compile_condition("event.a == 1", roots=BOTH).uses_async


def test_index_keys():
    assert index_key(1) == index_key(1.0) == index_key(Uint(1)) == "1"
    assert len({index_key(v) for v in (1, "1", True, "true", [1], {"a": 1}, 0, False, "")}) == 9
    assert index_key(None) is None
    assert index_key(float("nan")) is None
    assert index_key(0.0) == index_key(-0.0) == "0"
    assert index_key(2**53 + 1) != index_key(2.0**53)
    assert index_key({"b": [1.0], "a": None}) == index_key({"a": None, "b": [1]}) == '{"a":null,"b":[1]}'
    assert index_key(10**20) == index_key(1e20)
    assert index_key(10**20 + 1) != index_key(1e20)
    assert lookup({"a": {"b": 1}}, ("a", "b")) == 1
    assert lookup({"a": [1]}, ("a", "0")) is None
    assert lookup(None, ("a",)) is None


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([1.0, 2.5, -0.0, 2.0**53, 2**53 + 1, 2**63, 1e20]) | st.sampled_from(["", "a", "1", "true", "null"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(derandomize=True, max_examples=150, deadline=None)
@given(JSONS, JSONS)
def test_index_keys_agree_with_the_evaluator(left, right):
    holds = compile_match("x")({"x": left}, {"x": right})
    ours, theirs = index_key(left), index_key(right)
    assert holds == (ours is not None and ours == theirs)
    if isinstance(right, (str, int, float)) and not (isinstance(right, int) and abs(right) >= 2**63):
        literal = {True: "true", False: "false"}[right] if isinstance(right, bool) else repr(right)
        condition = compile_condition(f"async.x == {literal}", roots=BOTH)
        (equality,) = condition.equalities
        assert condition.exact
        assert condition(None, {"x": left}) == (ours is not None and ours == index_key(equality.value(None)))


PIECES = [
    "event.data.a", "event.data.b.x", "event.x", "event.data", "event['data']['a']", "event.data[event.x]", "event.data.a[0]", "event.data.a[0].b", "event",
    "has(event.data.a)", "has(event.data.b.x)", "size(event.data.a)", "event.data.a.exists(i, i == event.x)", "event.data.b.map(k, k)", "async.data.a", "1", "'a'", "null",
]  # fmt: skip


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(PIECES), st.sampled_from(["==", "!=", "in", "+", "<"]), st.sampled_from(PIECES),
    st.dictionaries(st.sampled_from(["data", "x", "y"]), JSONS, max_size=3), st.fixed_dictionaries({"data": JSONS}),
)  # fmt: skip
def test_a_pruned_event_answers_the_same(left, operator, right, event, async_):
    condition = compile_condition(f"({left}) {operator} ({right})", roots=BOTH)
    pruned = prune(condition, event)
    assert outcome(condition, pruned, async_) == outcome(condition, event, async_)
    assert index_key(prune(condition, pruned)) == index_key(pruned)


def outcome(condition, event, async_):
    try:
        return "is", index_key([condition.evaluate(event, async_)])
    except EvaluationError:
        return ("error",)


def test_prune():
    condition = compile_condition(
        "event.data.nested.deep.er == 1 && has(event.data.nothing) && event.data.items[0].n == 1 && event.data.no.no == null"
    )
    assert prune(condition, EVENT) == {
        "data": {"nested": {"deep": {"er": 1}}, "nothing": None, "items": EVENT["data"]["items"]}
    }
    assert prune(compile_condition("event == {}"), EVENT) is EVENT
    assert prune(compile_condition("[1].exists(event, event == 1)"), EVENT) == {}
    assert prune(compile_condition("event.data.amount == event.data"), EVENT) == {"data": EVENT["data"]}
    assert prune(condition, None) is None
