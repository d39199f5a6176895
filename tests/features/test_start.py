"""`engine.start`: one run of one function, whatever its triggers say."""

from __future__ import annotations

import enum

import pytest

import durable
from durable.testing import TestEngine


def noting(seen, **config):
    @durable.function("f", **config)
    async def f(ctx):
        seen.append((ctx.event.name, ctx.event.data))
        return ctx.event.data

    return f


async def test_triggers_do_not_matter(store):
    seen = []
    f = noting(seen, trigger=durable.on("never/sent", if_="false"))
    async with TestEngine([f], store=store) as t:
        run = await t.start(f, {"n": 1})
        assert await run.result() == {"n": 1}
    assert seen == [("durable/function.invoked", {"n": 1})]


async def test_a_run_comes_back_at_once(store):
    async with TestEngine([f := noting([])], store=store) as t:
        run = await t.start(f)
        assert len(run.id) == 26
        assert run.function_id == "f"
        assert run.app == "app"
        assert run.event.data == {}


async def test_a_function_is_named_by_its_id_too(store):
    async with TestEngine([noting([])], store=store) as t:
        assert await (await t.start("f", {"n": 1})).result() == {"n": 1}


async def test_an_unknown_function_is_a_lookup_error(store):
    async with TestEngine([noting([])], store=store) as t:
        with pytest.raises(LookupError, match="nobody"):
            await t.start("nobody")


async def test_a_function_of_another_app_is_named_as_it_is_called_from_here(store):
    @durable.function("caller", retries=0)
    async def caller(ctx):
        await ctx.step.invoke("call", function="f")

    async with TestEngine([noting([])], store=store, app="shop"):
        pass
    async with TestEngine([caller], store=store) as t:
        says = "no function 'f' of app 'app' is registered in this store: name it as 'shop/f'"
        with pytest.raises(LookupError, match=says):
            await t.start("f")
        with pytest.raises(durable.RunFailed, match=says):
            await t.invoke(caller)
        assert (await t.start("shop/f")).app == "shop"


async def test_an_id_whose_run_was_removed_says_what_became_of_it(store):
    retention = durable.Retention(runs="1h", steps="1h", events="1h")
    async with TestEngine([f := noting([])], store=store, retention=retention) as t:
        await (await t.start(f, id="x")).result()
        await t.advance("3h")
        await t.invoke(f)
        await t.until_idle()
        with pytest.raises(
            LookupError, match=r"retention has removed the run that the same id .* has started"
        ):
            await t.start(f, id="x")


async def test_a_start_that_was_skipped_keeps_its_id(store):
    async with TestEngine([f := noting([])], store=store) as t:
        await t.pause(f)
        skipped = await t.start(f, id="x")
        await t.resume(f)
        assert (skipped.status, skipped.skip_reason) == ("skipped", "paused")
        assert (await t.start(f, id="x")).id == skipped.id
        assert (await t.start(f, id="y")).status == "queued"


async def test_the_same_id_is_the_same_run_for_24_hours(store):
    seen = []
    async with TestEngine([f := noting(seen)], store=store) as t:
        first = await t.start(f, {"n": 1}, id="x")
        await first.result()
        await t.advance("23h")
        assert (await t.start(f, {"n": 1}, id="x")).id == first.id
        await t.advance("1h")
        assert (await t.start(f, {"n": 1}, id="x")).id != first.id
        await t.until_idle()
    assert len(seen) == 2


async def test_a_run_that_was_found_again_has_its_result(store):
    async with TestEngine([f := noting([])], store=store) as t:
        first = await t.start(f, {"n": 1}, id="x")
        await first.result()
        again = await t.start(f, {"n": 1}, id="x")
        assert again.status == "completed"
        assert await again.result() == {"n": 1}


async def test_other_data_under_the_same_id_is_warned_about(store):
    async with TestEngine([f := noting([])], store=store) as t:
        first = await t.start(f, {"n": 1}, id="x")
        with pytest.warns(durable.DurableWarning, match="other data"):
            again = await t.start(f, {"n": 2}, id="x")
        assert again.id == first.id
        assert await again.result() == {"n": 1}


async def test_the_same_data_in_another_order_is_the_same_data(store):
    async with TestEngine([f := noting([])], store=store) as t:
        first = await t.start(f, {"a": 1, "b": 2}, id="x")
        assert (await t.start(f, {"b": 2, "a": 1}, id="x")).id == first.id


async def test_ids_are_apart_for_each_function(store):
    @durable.function("g")
    async def g(ctx): ...

    async with TestEngine([f := noting([]), g], store=store) as t:
        assert (await t.start(f, id="x")).id != (await t.start(g, id="x")).id


async def test_blanks_in_ids_do_not_bring_functions_together(store):
    @durable.function("f daily")
    async def daily(ctx): ...

    async with TestEngine([f := noting([]), daily], store=store) as t:
        first = await t.start(f, id="daily 1")
        other = await t.start(daily, id="1")
        assert (first.function_id, other.function_id) == ("f", "f daily")
        assert other.id != first.id
        await t.until_idle()


async def test_ids_are_apart_for_each_app(store):
    async with TestEngine([f := noting([])], store=store, app="one") as t:
        first = await t.start(f, id="x")
        await t.until_idle()
    async with TestEngine([f], store=store, app="two") as t:
        assert (await t.start(f, id="x")).id != first.id
        await t.until_idle()


async def test_ids_survive_a_restart(store):
    seen = []
    ids = set()
    for _ in range(2):
        async with TestEngine([f := noting(seen)], store=store) as t:
            ids.add((await t.start(f, id="x")).id)
            await t.until_idle()
    assert len(ids) == len(seen) == 1


@pytest.mark.parametrize(
    "data", [object(), {"x": object()}, {"x": float("nan")}], ids=["object", "deep", "nan"]
)
async def test_data_that_is_no_json_is_refused_and_nothing_starts(data):
    async with TestEngine([f := noting([])]) as t:
        with pytest.raises(durable.DurableError):
            await t.start(f, data)
        assert (await t.runs()).items == []


@pytest.mark.parametrize("data", [[1, 2], "text", 5], ids=repr)
async def test_data_that_is_no_object_is_refused(data):
    async with TestEngine([f := noting([])]) as t:
        with pytest.raises((durable.DurableError, TypeError)):
            await t.start(f, data)
        assert (await t.runs()).items == []


async def test_data_over_the_limit_is_refused(store):
    limits = durable.Limits(event_bytes=1000)
    async with TestEngine([f := noting([])], store=store, limits=limits) as t:
        with pytest.raises(durable.LimitError, match="event_bytes"):
            await t.start(f, {"x": "y" * 1000})


async def test_hundreds_of_starts(store):
    seen = []
    async with TestEngine([f := noting(seen)], store=store) as t:
        for n in range(300):
            await t.start(f, {"n": n})
        await t.until_idle()
    assert sorted(data["n"] for _, data in seen) == list(range(300))


async def test_an_id_that_is_no_text_is_refused(store):
    async with TestEngine([f := noting([])], store=store) as t:
        for wrong in ("", "\udcff", 5):
            with pytest.raises(durable.ConfigError, match=r"engine\.start\(id\) must be a non-empty string"):
                await t.start(f, id=wrong)
        with pytest.raises(LookupError, match="udcff"):
            await t.start("\udcff")
        assert len(await t.runs()) == 0


Name = enum.Enum("Name", {"F": "f"}, type=str)


async def test_a_member_of_an_enum_of_texts_is_its_text(store):
    seen = []

    @durable.function(Name.F)
    async def f(ctx):
        seen.append(ctx.function.id)

    async with TestEngine([f], store=store) as t:
        run = await t.start(Name.F, id=Name.F)
        assert (await t.start("f", id="f")).id == run.id
        await run.result()
        assert (await t.get_run(run.id)).function_id == "f"
    assert seen == ["f"]
