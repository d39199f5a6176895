"""Retries: which errors are tried again, when, and how often."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest

import durable
from durable.testing import TestEngine

NO_JITTER = durable.Backoff("10s", factor=2.0, jitter=0)


def failing(times, error, log, value="done"):
    """A callback that raises `error` so many times and then returns `value`; `log` gets its attempts."""

    async def callback():
        log.append(durable.current().attempt)
        if len(log) <= times:
            raise error() if isinstance(error, type) else error
        return value

    return callback


def one_step(callback, **config):
    """A function whose only step calls `callback`."""

    @durable.function("f", **config)
    async def f(ctx):
        return await ctx.step.run("one", callback)

    return f


async def failure_of(t, function):
    """The error record of a run of `function`, which has to fail."""
    run = await t.start(function)
    with pytest.raises(durable.RunFailed) as caught:
        await run.result()
    assert (await run.refresh()).status == "failed"
    assert caught.value.run_id == run.id
    return caught.value.error


# ---------------------------------------------------------------- retries of steps


async def test_a_step_that_fails_is_tried_again_until_it_succeeds(store):
    log = []
    async with TestEngine([f := one_step(failing(2, ValueError, log))], store=store) as t:
        assert await t.invoke(f) == "done"
    assert log == [0, 1, 2]


async def test_the_default_is_four_retries(store):
    log = []
    async with TestEngine([f := one_step(failing(99, ValueError, log))], store=store) as t:
        await failure_of(t, f)
    assert log == [0, 1, 2, 3, 4]


async def test_no_retries_mean_one_attempt(store):
    log = []
    async with TestEngine([f := one_step(failing(99, ValueError, log), retries=0)], store=store) as t:
        await failure_of(t, f)
    assert log == [0]


async def test_each_step_has_retries_of_its_own(store):
    logs = [], []

    @durable.function("f", retries=1)
    async def f(ctx):
        await ctx.step.run("one", failing(1, ValueError, logs[0]))
        await ctx.step.run("two", failing(1, ValueError, logs[1]))

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert logs == ([0, 1], [0, 1])


async def test_the_default_waits_lengthen_as_listed(store):
    times = []

    async def fail():
        times.append(t.now)
        raise ValueError

    async with TestEngine([f := one_step(fail)], store=store) as t:
        await failure_of(t, f)
    waits = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert len(waits) == 4
    for wait, base in zip(waits, [15, 30, 60, 120], strict=True):
        assert base <= wait <= base + 30


async def test_a_backoff_replaces_the_default_waits(store):
    times = []

    async def fail():
        times.append(t.now)
        raise ValueError

    async with TestEngine([f := one_step(fail, backoff=NO_JITTER, retries=3)], store=store) as t:
        await failure_of(t, f)
    assert [(b - a).total_seconds() for a, b in itertools.pairwise(times)] == [10, 20, 40]


async def test_a_retry_is_a_durable_timer(store):
    log = []
    f = one_step(failing(1, ValueError, log), backoff=durable.Backoff("1h", jitter=0))
    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        assert (await run.refresh()).status == "waiting"
    async with TestEngine([f], store=store) as t:
        await t.advance("59m")
        assert log == [0]
        await t.advance("1m")
        assert await (await t.get_run(run.id)).result() == "done"
    assert log == [0, 1]


async def test_memoised_steps_are_not_repeated_by_a_retry_of_a_later_one(store):
    log, first = [], []

    @durable.function("f")
    async def f(ctx):
        await ctx.step.run("first", failing(0, None, first))
        return await ctx.step.run("second", failing(2, ValueError, log))

    async with TestEngine([f], store=store, max_warm=0) as t:
        assert await t.invoke(f) == "done"
    assert first == [0]


# ---------------------------------------------------------------- NonRetriableError, RetryAfterError


async def test_a_non_retriable_error_fails_the_step_at_once_and_can_be_caught(store):
    log = []

    @durable.function("f")
    async def f(ctx):
        with pytest.raises(durable.StepError) as caught:
            await ctx.step.run("one", failing(99, durable.NonRetriableError("stolen"), log))
        return [caught.value.name, caught.value.message, caught.value.attempts]

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == ["NonRetriableError", "stolen", 1]
    assert log == [0]


async def test_a_subclass_of_non_retriable_error_keeps_its_name(store):
    class Stolen(durable.NonRetriableError):
        pass

    log = []
    async with TestEngine([f := one_step(failing(99, Stolen("card"), log))], store=store) as t:
        error = await failure_of(t, f)
    assert (error.name, error.message, log) == ("Stolen", "card", [0])


async def test_a_non_retriable_error_in_the_handler_fails_the_run_at_once(store):
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        raise durable.NonRetriableError("never")

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert (error.name, error.message, len(passes)) == ("NonRetriableError", "never", 1)


@pytest.mark.parametrize(
    "after",
    ["90s", 90, timedelta(seconds=90), datetime(2030, 1, 1, 0, 1, 30, tzinfo=UTC), "2030-01-01T00:01:30Z"],
    ids=repr,
)
async def test_retry_after_sets_when_the_next_attempt_runs(after):
    times = []

    async def fail_once():
        times.append(t.now)
        if len(times) == 1:
            raise durable.RetryAfterError("later", after)

    async with TestEngine([f := one_step(fail_once)]) as t:
        await t.invoke(f)
    assert times[1] - times[0] == timedelta(seconds=90)


async def test_retry_after_a_time_in_the_past_retries_now(store):
    times = []

    async def fail_once():
        times.append(t.now)
        if len(times) == 1:
            raise durable.RetryAfterError("now", "2001-01-01T00:00:00Z")

    async with TestEngine([f := one_step(fail_once)], store=store) as t:
        await t.invoke(f)
    assert times[0] == times[1]


async def test_retry_after_is_bounded_by_366_days(store):
    times = []

    async def fail_once():
        times.append(t.now)
        if len(times) == 1:
            raise durable.RetryAfterError("much later", "1000d")

    async with TestEngine([f := one_step(fail_once)], store=store) as t:
        await t.invoke(f)
    assert times[1] - times[0] == timedelta(days=366)


@pytest.mark.parametrize("wrong", [datetime(2030, 1, 1, 12), "2030-01-01T12:00:00", "5 minutes", -5, None])  # noqa: DTZ001
async def test_retry_after_what_is_no_time_is_said_and_not_guessed(store, wrong):
    log = []

    async def busy():
        log.append(durable.current().attempt)
        raise durable.RetryAfterError("busy", wrong)

    async with TestEngine([f := one_step(busy)], store=store) as t:
        error = await failure_of(t, f)
    assert error.name == "ConfigError"
    assert error.message.startswith("RetryAfterError(retry_after)")
    assert "in busy" in error.stack, "it names the line"
    assert log == [0], "what is written wrongly is not tried again"


async def test_retry_after_that_was_changed_to_what_is_no_time_fails_the_step(store):
    error = durable.RetryAfterError("busy", "5m")
    error.retry_after = "5 minutes"
    async with TestEngine([f := one_step(failing(1, error, []))], store=store) as t:
        assert (await failure_of(t, f)).name == "ConfigError"


async def test_retry_after_consumes_attempts(store):
    log = []
    error = durable.RetryAfterError("later", "1s")
    async with TestEngine([f := one_step(failing(99, error, log), retries=2)], store=store) as t:
        record = await failure_of(t, f)
    assert log == [0, 1, 2]
    assert record.name == "RetryAfterError"


async def test_retry_after_in_the_handler_calls_it_again_then(store):
    times = []

    @durable.function("f")
    async def f(ctx):
        times.append(t.now)
        if len(times) == 1:
            raise durable.RetryAfterError("later", "2h")

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    assert times[1] - times[0] == timedelta(hours=2)


# ---------------------------------------------------------------- the handler's own errors


async def test_an_error_of_the_handler_calls_it_again_and_repeats_no_step(store):
    attempts, log = [], []

    @durable.function("f", retries=3)
    async def f(ctx):
        await ctx.step.run("one", failing(0, None, log))
        attempts.append(ctx.attempt)
        if len(attempts) < 3:
            raise ValueError("mine")
        return "done"

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "done"
    assert attempts == [0, 1, 2]
    assert log == [0]


async def test_a_handler_out_of_attempts_fails_the_run_with_the_last_error(store):
    attempts = []

    @durable.function("f", retries=2)
    async def f(ctx):
        attempts.append(ctx.attempt)
        raise ValueError(f"attempt {ctx.attempt}")

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert attempts == [0, 1, 2]
    assert (error.name, error.message, error.step_id) == ("ValueError", "attempt 2", None)


async def test_the_handlers_attempts_are_counted_anew_after_a_new_step(store):
    attempts, failed = [], []

    @durable.function("f", retries=1)
    async def f(ctx):
        for n in range(3):
            await ctx.step.run(f"step {n}", failing(0, None, []))
            attempts.append(ctx.attempt)
            if n not in failed:
                failed.append(n)
                raise ValueError(n)
        return "done"

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "done"


async def test_the_attempt_of_a_run_is_the_handlers(store):
    @durable.function("f", retries=1)
    async def f(ctx):
        raise ValueError

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.refresh()
        assert run.attempt == 1
        assert run.status == "waiting"


async def test_an_attempt_that_is_given_back_keeps_its_number_whatever_comes_meanwhile(store):
    attempts, retried, release, heard = [], asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work():
        attempts.append(durable.current().attempt)
        if len(attempts) == 1:
            raise ValueError("once")
        retried.set()
        await release.wait()

    @durable.function("f", backoff=durable.Backoff("1ms", jitter=0))
    async def f(ctx):
        try:
            event, _ = await asyncio.gather(
                ctx.step.wait_for_event("w", event="go", timeout="1h"), ctx.step.run("work", work)
            )
        finally:
            if ctx.evicting:
                await heard.wait()
        return event.data

    async with durable.Engine(store, functions=[f]) as engine:
        run = await engine.start(f)
        await retried.wait()
        (session,) = engine._service.worker.sessions.values()
        hear = session.hear
        session.hear = lambda fired: (hear(fired), heard.set())
        session.let_go()
        while session.rounds.awaiting:  # noqa: ASYNC110 (a turn of the loop is what is waited for)
            await asyncio.sleep(0)
        await engine.send(durable.Event("go", {"n": 1}))
        await heard.wait()
        release.set()
        assert await run.result("10s") == {"n": 1}
    assert attempts == [0, 1, 1]
