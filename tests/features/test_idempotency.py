"""`idempotency`: one run per key in 24 hours, counted from the first acceptance."""

from __future__ import annotations

import pytest

import durable
from durable import Event
from durable.testing import TestEngine


def keyed(seen, key="event.data.key", id="f", trigger="e", **config):
    @durable.function(id, trigger=trigger, idempotency=key, **config)
    async def f(ctx):
        seen.append(ctx.event.data)
        return ctx.event.data.get("n")

    return f


async def numbers(store, key, *datas):
    """The `n` of those events that started a run."""
    seen = []
    async with TestEngine([keyed(seen, key)], store=store) as t:
        await t.send([Event("e", {**data, "n": n}) for n, data in enumerate(datas)])
        await t.until_idle()
    return sorted(one["n"] for one in seen)


async def test_the_same_key_starts_one_run(store):
    assert await numbers(store, "event.data.key", {"key": "a"}, {"key": "b"}, {"key": "a"}) == [0, 1]


async def test_after_24_hours_it_starts_another(store):
    seen = []
    async with TestEngine([keyed(seen)], store=store) as t:
        await t.send(Event("e", {"key": "a", "n": 1}))
        await t.advance("23h59m")
        await t.send(Event("e", {"key": "a", "n": 2}))
        await t.advance("2m")
        await t.send(Event("e", {"key": "a", "n": 3}))
        await t.until_idle()
    assert [one["n"] for one in seen] == [1, 3]


async def test_the_24_hours_count_from_the_first_acceptance(store):
    seen = []
    async with TestEngine([keyed(seen)], store=store) as t:
        for _ in range(5):
            await t.send(Event("e", {"key": "a"}))
            await t.advance("10h")
    assert len(seen) == 2


async def test_a_failed_run_blocks_its_key_like_any_other(store):
    calls = []

    @durable.function("f", trigger="e", idempotency="event.data.key", retries=0)
    async def f(ctx):
        calls.append(1)
        raise ValueError

    async with TestEngine([f], store=store) as t:
        for _ in range(2):
            await t.send(Event("e", {"key": "a"}))
            await t.until_idle()
    assert calls == [1]


@pytest.mark.parametrize("data", [{}, {"key": None}], ids=repr)
async def test_a_null_key_switches_it_off(store, data):
    assert await numbers(store, "event.data.key", data, data) == [0, 1]


async def test_false_switches_it_off_for_that_event(store):
    key = "event.data.important ? event.data.key : false"
    important, not_so = {"key": "a", "important": True}, {"key": "a", "important": False}
    assert await numbers(store, key, important, important, not_so, not_so) == [0, 2, 3]


async def test_an_error_in_the_key_switches_it_off(store):
    assert await numbers(store, "event.data.key / 0", {"key": 1}, {"key": 1}) == [0, 1]


async def test_keys_are_text_of_several_parts(store):
    key = 'event.data.a + "-" + event.data.b'
    assert await numbers(store, key, {"a": "x", "b": 1}, {"a": "x", "b": 1}, {"a": "x", "b": 2}) == [0, 2]


async def test_keys_may_be_objects(store):
    one, same, other = {"key": {"a": 1, "b": 2}}, {"key": {"b": 2, "a": 1}}, {"key": {"a": 1}}
    assert await numbers(store, "event.data.key", one, same, other) == [0, 2]


async def test_functions_do_not_share_keys(store):
    seen = []
    async with TestEngine([keyed(seen, id="one"), keyed(seen, id="two")], store=store) as t:
        await t.send([Event("e", {"key": "a"}), Event("e", {"key": "a"})])
        await t.until_idle()
    assert len(seen) == 2


async def test_blanks_in_keys_do_not_bring_functions_together(store):
    seen = []
    one, two = keyed(seen, id="report", trigger="one"), keyed(seen, id="report daily", trigger="two")
    async with TestEngine([one, two], store=store) as t:
        await t.send([Event("one", {"key": "daily 1", "n": 1}), Event("two", {"key": "1", "n": 2})])
        await t.until_idle()
    assert sorted(one["n"] for one in seen) == [1, 2]


async def test_it_survives_a_restart(store):
    seen = []
    for _ in range(2):
        async with TestEngine([keyed(seen)], store=store) as t:
            await t.send(Event("e", {"key": "a"}))
            await t.until_idle()
    assert len(seen) == 1


async def test_engine_start_obeys_it_and_gives_the_first_run(store):
    seen = []
    async with TestEngine([f := keyed(seen)], store=store) as t:
        first = await t.start(f, {"key": "a", "n": 1})
        assert await first.result() == 1
        again = await t.start(f, {"key": "a", "n": 1})
        assert again.id == first.id
        assert await again.result() == 1
    assert len(seen) == 1


async def test_invoke_of_a_key_that_is_held_is_skipped(store):
    seen = []
    child = keyed(seen, id="child")

    @durable.function("parent")
    async def parent(ctx):
        try:
            return await ctx.step.invoke("call", function=child, data={"key": "a", "n": 2})
        except durable.StepError as error:
            return error.name

    async with TestEngine([parent, child], store=store) as t:
        await t.send(Event("e", {"key": "a", "n": 1}))
        await t.until_idle()
        assert await t.invoke(parent) == "InvokeSkipped"
    assert [one["n"] for one in seen] == [1]
