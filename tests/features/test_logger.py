"""`ctx.logger`: a logger like any other that does not repeat itself on replay."""

from __future__ import annotations

import asyncio
import logging

import pytest

import durable
from durable.testing import TestEngine


@pytest.fixture
def lines(caplog):
    """The messages that were logged by handlers so far."""
    caplog.set_level(logging.DEBUG)
    return lambda: [one.message for one in caplog.records if one.name == "durable.run"]


async def echo(value=None):
    return value


async def test_a_line_is_logged_once_however_often_the_run_is_replayed(store, lines):
    @durable.function("f")
    async def f(ctx):
        ctx.logger.info("began")
        await ctx.step.run("one", echo)
        ctx.logger.info("after one")
        await ctx.step.sleep("nap", "1h")
        ctx.logger.info("after nap")
        await ctx.step.run("two", echo)
        ctx.logger.info("after two")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert lines() == ["began", "after one", "after nap", "after two"]


async def test_a_line_is_logged_once_over_a_restart(store, lines):
    @durable.function("f")
    async def f(ctx):
        ctx.logger.info("began")
        await ctx.step.sleep("nap", "1h")
        ctx.logger.info("awake")

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
    assert lines() == ["began"]
    async with TestEngine([f], store=store) as t:
        await (await t.get_run(run.id)).result()
    assert lines() == ["began", "awake"]


async def test_callbacks_log_whenever_they_run(store, lines):
    attempts = []

    @durable.function("f")
    async def f(ctx):
        async def work():
            attempts.append(1)
            ctx.logger.info("attempt %d", ctx.attempt)
            if len(attempts) < 3:
                raise ValueError

        await ctx.step.run("work", work)
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert lines() == ["attempt 0", "attempt 1", "attempt 2"]


async def test_lines_between_parallel_steps_are_logged_once(store, lines):
    @durable.function("f")
    async def f(ctx):
        async def branch(n):
            await ctx.step.run(f"s{n}", echo)
            ctx.logger.info("branch %d", n)

        await asyncio.gather(*(branch(n) for n in range(3)))
        await ctx.step.sleep("nap", "1h")
        ctx.logger.info("end")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert sorted(lines()) == ["branch 0", "branch 1", "branch 2", "end"]


async def test_it_carries_the_ids_of_run_and_function(store, caplog):
    caplog.set_level(logging.INFO)

    @durable.function("f")
    async def f(ctx):
        ctx.logger.info("hello", extra={"mine": 1})

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await run.result()
    (record,) = [one for one in caplog.records if one.name == "durable.run"]
    assert (record.run_id, record.function_id, record.mine) == (run.id, "f", 1)


async def test_it_has_all_methods_of_a_logger(store, caplog):
    caplog.set_level(logging.DEBUG)

    @durable.function("f")
    async def f(ctx):
        log = ctx.logger
        log.debug("1")
        log.info("2")
        log.warning("3")
        log.error("4")
        log.critical("5")
        log.log(logging.INFO, "6 %s", "args")
        try:
            int("no number")
        except ValueError:
            log.exception("7")

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    records = [one for one in caplog.records if one.name == "durable.run"]
    assert [one.message for one in records] == ["1", "2", "3", "4", "5", "6 args", "7"]
    assert records[-1].exc_info is not None


async def test_lines_after_a_retry_of_the_handler_are_those_of_the_new_attempt(store, lines):
    @durable.function("f")
    async def f(ctx):
        ctx.logger.info("began")
        await ctx.step.run("one", echo)
        ctx.logger.info("attempt %d", ctx.attempt)
        if ctx.attempt == 0:
            raise ValueError

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert lines() == ["began", "attempt 0", "attempt 1"]
