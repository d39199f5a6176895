"""What editors and type checkers infer of the public interface: read by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import durable


class Order:
    total: int


async def load(order_id: str) -> Order:
    raise AssertionError(order_id)


def plain(number: int) -> str:
    return str(number)


@durable.function("child")
async def child(ctx: durable.Context) -> int:
    return len(ctx.run_id)


@durable.function("parent", trigger=durable.on("order/created", if_="event.data.amount > 100"))
async def parent(ctx: durable.Context) -> bool:
    assert_type(await ctx.step.run("load", load, "o-1"), Order)
    assert_type(await ctx.step.run("plain", plain, 1), str)
    assert_type(await ctx.step.invoke("child", function=child), int)
    assert_type(await ctx.step.invoke("named", function="child"), Any)
    assert_type(await ctx.step.send_event("send", durable.Event("a/b")), list[str])
    assert_type(await ctx.step.send_signal("signal", "go"), bool)
    await ctx.step.sleep("nap", "1h")
    return ctx.evicting


async def outside(engine: durable.Engine) -> None:
    assert_type(child, durable.Function[int])
    assert_type(await engine.invoke(child), int)
    started = await engine.start(child)
    assert_type(started, durable.Run[int])
    assert_type(await started.result(), int)
    assert_type(await started.refresh(), durable.Run[int])
    assert_type(await (await engine.start("child")).result(), Any)
    assert_type(await engine.send([durable.Event("a/b")]), list[str])
    assert_type((await engine.runs(limit=10)).items, list[durable.Run])
    async for run in engine.runs(child):
        assert_type(run, durable.Run)
