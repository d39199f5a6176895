"""Values: what comes back is what the annotation says, on every pass; what is no JSON is said loudly."""

from __future__ import annotations

import dataclasses
import enum
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import attrs
import pydantic
import pytest

import durable
from durable.testing import TestEngine


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    when: datetime


@attrs.define
class Order:
    id: UUID
    tags: set[str]


class Row(TypedDict):
    price: Decimal


class Pair(NamedTuple):
    left: int
    right: bytes


class Model(pydantic.BaseModel):
    name: str
    colour: Colour


_WHEN = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
_ID = UUID(int=7)

ROUND_TRIPS = [
    (datetime, _WHEN),
    (date, date(2030, 1, 2)),
    (UUID, _ID),
    (Colour, Colour.RED),
    (Decimal, Decimal("1.10")),
    (bytes, b"\x00\xff"),
    (set[int], {1, 2}),
    (tuple[int, str], (1, "a")),
    (Point, Point(1, _WHEN)),
    (Order, Order(_ID, {"a", "b"})),
    (Row, {"price": Decimal("2.50")}),
    (Pair, Pair(1, b"x")),
    (Model, Model(name="n", colour=Colour.RED)),
    (list[Model], [Model(name="n", colour=Colour.RED)]),
    (dict[str, Point], {"p": Point(2, _WHEN)}),
    (Order | None, None),
]


@pytest.mark.parametrize(("annotation", "value"), ROUND_TRIPS, ids=lambda v: getattr(v, "__name__", None))
async def test_a_step_result_survives_in_its_annotated_type(annotation, value):
    async def make():
        return value

    make.__annotations__["return"] = annotation
    seen = []

    @durable.function("f")
    async def f(ctx):
        seen.append(await ctx.step.run("make", make))
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], max_warm=0) as t:
        await t.invoke(f)
    assert seen == [value, value]
    assert type(seen[0]) is type(seen[1]) is type(value)


async def test_without_an_annotation_json_comes_back(store):
    async def make():
        return {"when": _WHEN, "tags": {"a"}, "raw": b"!", "pair": (1, 2), "price": Decimal("1.10")}

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("make", make)

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == {
            "when": "2030-01-02T03:04:05+00:00",
            "tags": ["a"],
            "raw": "IQ==",
            "pair": [1, 2],
            "price": "1.10",
        }


async def test_the_output_of_a_run_has_the_handlers_type(store):
    @durable.function("f")
    async def f(ctx) -> Point:
        return Point(3, _WHEN)

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() == Point(3, _WHEN)
        assert (await t.get_run(run.id)).output == Point(3, _WHEN)


async def test_an_invoked_function_answers_in_its_handlers_type(store):
    @durable.function("child")
    async def child(ctx) -> Pair:
        return Pair(1, b"x")

    seen = []

    @durable.function("parent")
    async def parent(ctx):
        seen.append(await ctx.step.invoke("call", function=child))
        seen.append(await ctx.step.invoke("by id", function="child"))

    async with TestEngine([parent, child], store=store) as t:
        await t.invoke(parent)
    assert seen == [Pair(1, b"x"), [1, "eA=="]]


async def test_a_plain_function_is_decoded_by_its_annotation_too(store):
    def make() -> tuple[int, ...]:
        return (1, 2)

    seen = []

    @durable.function("f")
    async def f(ctx):
        seen.append(await ctx.step.run("make", make))

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert seen == [(1, 2)]


GARBAGE = {
    "object": object(),
    "NaN": math.nan,
    "infinity": {"deep": [math.inf]},
    "number as key": {1: "a"},
    "too large an integer": 2**65,
    "function": len,
}


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_result_that_is_no_json_fails_the_step_at_once(value):
    calls = []

    async def make():
        calls.append(1)
        return value

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.run("make", make)
        return [caught.value.name, caught.value.step_id, caught.value.attempts]

    async with TestEngine([f]) as t:
        assert await t.invoke(f) == ["SerializationError", "make", 1]
    assert len(calls) == 1


async def test_the_message_names_the_step_and_the_path_of_what_is_no_json(store):
    async def make():
        return {"rows": [{"ok": 1}, {"bad": object()}]}

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("make-rows", make)

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    error = caught.value.error
    assert error.name == "SerializationError"
    assert "make-rows" in error.message
    assert "rows" in error.message
    assert "bad" in error.message


async def test_an_output_that_is_no_json_fails_the_run(store):
    @durable.function("f")
    async def f(ctx):
        return {"x": object()}

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed) as caught:
            await t.invoke(f)
    assert caught.value.error.name == "SerializationError"


async def test_garbage_fails_its_run_and_no_other(store):
    @durable.function("bad")
    async def bad(ctx):
        await ctx.step.run("make", object)

    @durable.function("good")
    async def good(ctx):
        return await ctx.step.run("make", dict)

    async with TestEngine([bad, good], store=store) as t:
        runs = [await t.start(one) for one in (bad, good, bad, good)]
        await t.until_idle()
        assert [(await run.refresh()).status for run in runs] == ["failed", "completed"] * 2


async def test_a_result_that_does_not_fit_its_annotation_fails_the_step(store):
    async def make() -> int:
        return "seven"

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.run("make", make)
        return caught.value.name

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "SerializationError"


async def test_an_annotation_that_cannot_be_resolved_is_named_before_the_effect(store):
    calls = []

    async def make():
        calls.append(1)

    make.__annotations__["return"] = "NoSuchType"

    @durable.function("f", retries=0)
    async def f(ctx):
        await ctx.step.run("make", make)

    async with TestEngine([f], store=store) as t:
        with pytest.raises(durable.RunFailed, match="NoSuchType"):
            await t.invoke(f)
    assert calls == []


async def test_a_memo_that_does_not_fit_a_new_annotation_is_drift_that_a_roll_back_rescues(store):
    async def make():
        return "text"

    @durable.function("f", backoff=durable.Backoff("1h", jitter=0))
    async def f(ctx):
        got = await ctx.step.run("make", make)
        await ctx.step.sleep("nap", "1h")
        return got

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    make.__annotations__["return"] = int
    durable.codec._RETURNS.clear()
    async with TestEngine([f], store=store, start="2030-01-01T02:00:00Z") as t:
        await t.until_idle()
        assert (await t.get_run(run.id)).status == "waiting"
    del make.__annotations__["return"]
    durable.codec._RETURNS.clear()
    async with TestEngine([f], store=store, start="2030-01-01T03:00:00Z") as t:
        assert await (await t.get_run(run.id)).result() == "text"


async def test_event_data_arrives_as_json(store):
    seen = []

    @durable.function("f", trigger="e")
    async def f(ctx):
        seen.append(ctx.event.data)

    async with TestEngine([f], store=store) as t:
        await t.send(durable.Event("e", {"when": _WHEN, "tags": ("a", "b"), "nested": Point(1, _WHEN)}))
        await t.until_idle()
    text = "2030-01-02T03:04:05+00:00"
    assert seen == [{"when": text, "tags": ["a", "b"], "nested": {"x": 1, "when": text}}]


async def test_text_and_numbers_survive_exactly(store):
    values: dict[str, Any] = {
        "text": "ünï ✓ \u0000 \U0001f600",
        "float": 0.1,
        "int": 2**63 - 1,
        "negative": -(2**63),
        "true": True,
        "none": None,
        "empty": [[], {}, ""],
    }

    @durable.function("f")
    async def f(ctx):
        return await ctx.step.run("make", lambda: values)

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == values


# ---------------------------------------------------------------- a handler's own result


async def test_a_result_that_does_not_fit_the_handlers_annotation_fails_its_run(store):
    failures = []
    passes = []

    async def failed(ctx):
        failures.append(ctx.event.data["error"]["name"])

    @durable.function("child", on_failure=failed)
    async def child(ctx) -> int:
        passes.append(1)
        return None  # type: ignore[return-value]

    @durable.function("parent")
    async def parent(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.invoke("child", function=child)
        return [caught.value.name, caught.value.message]

    async with TestEngine([child, parent], store=store) as t:
        run = await t.start(child)
        with pytest.raises(durable.RunFailed, match="the result of function 'child' does not fit int"):
            await run.result()
        await t.until_idle()
        assert run.error.name == "SerializationError"
        assert (failures, len(passes)) == (["SerializationError"], 1)
        name, message = await t.invoke(parent)
    assert (name, message) == ("SerializationError", run.error.message)


async def test_the_result_of_another_version_of_a_child_fails_the_step(store):
    @durable.function("child")
    async def older(ctx) -> str:
        return "one"

    @durable.function("child")
    async def newer(ctx) -> int:
        return 1

    @durable.function("parent")
    async def parent(ctx):
        with pytest.raises(durable.StepError, match="does not fit int") as caught:
            await ctx.step.invoke("child", function=newer)
        await ctx.step.sleep("nap", "1h")
        return caught.value.name

    async with TestEngine([older, parent], store=store, max_warm=0) as t:
        assert await t.invoke(parent) == "SerializationError"
