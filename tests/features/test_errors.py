"""Errors: which are tried again and when, what a handler receives, what a failed run says."""

from __future__ import annotations

import asyncio
from contextlib import suppress

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


# ---------------------------------------------------------------- StepError


async def test_a_step_error_tells_what_happened(store):
    caught = []

    async def fail():
        raise KeyError("missing")

    @durable.function("f", retries=1)
    async def f(ctx):
        try:
            await ctx.step.run("load", fail)
        except durable.StepError as error:
            caught.append(error)

    async with TestEngine([f], store=store) as t:
        await t.invoke(f)
    error = caught[0]
    assert error.step_id == "load"
    assert error.name == "KeyError"
    assert error.message == "'missing'"
    assert error.attempts == 2
    assert "in fail" in error.stack
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error, durable.DurableError)


async def test_a_step_error_is_the_same_on_replay_except_for_its_cause(store):
    caught = []

    async def fail():
        raise KeyError("missing")

    @durable.function("f", retries=1)
    async def f(ctx):
        try:
            await ctx.step.run("load", fail)
        except durable.StepError as error:
            caught.append((error.step_id, error.name, error.message, error.stack, error.attempts))
        await ctx.step.sleep("nap", "1h")

    async with TestEngine([f], store=store, max_warm=0) as t:
        await t.invoke(f)
    assert len(caught) >= 2
    assert len(set(caught)) == 1


async def test_the_stack_holds_the_users_frames_only(store):
    def inner():
        raise ValueError("deep")

    async def fail():
        inner()

    async with TestEngine([f := one_step(fail, retries=0)], store=store) as t:
        error = await failure_of(t, f)
    assert "in inner" in error.stack
    assert "durable/_executor" not in error.stack


async def test_a_caught_step_error_lets_the_run_go_on(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        try:
            await ctx.step.run("charge", failing(9, ValueError, []))
        except durable.StepError:
            return await ctx.step.run("refund", failing(0, None, [], "refunded"))

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == "refunded"


async def test_an_uncaught_step_error_fails_the_run_without_calling_the_handler_again(store):
    passes = []

    @durable.function("f", retries=2)
    async def f(ctx):
        passes.append(ctx.attempt)
        await ctx.step.run("one", failing(99, ZeroDivisionError, []))

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert set(passes) == {0}
    assert error.name == "ZeroDivisionError"
    assert error.step_id == "one"


async def test_a_new_error_raised_from_a_step_error_is_the_handlers_own(store):
    attempts = []

    @durable.function("f", retries=2, backoff=NO_JITTER)
    async def f(ctx):
        attempts.append(ctx.attempt)
        try:
            await ctx.step.options(retries=0).run("one", failing(99, ValueError, []))
        except durable.StepError as error:
            raise RuntimeError("mine") from error

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert sorted(set(attempts)) == [0, 1, 2]
    assert error.name == "RuntimeError"


# ---------------------------------------------------------------- nested steps


async def test_a_nested_step_fails_step_and_run_without_retry(store):
    calls, inner = [], []

    async def outer():
        calls.append(1)
        await durable.current().step.run("inner", failing(0, None, inner))

    async with TestEngine([f := one_step(outer)], store=store) as t:
        error = await failure_of(t, f)
    assert error.name == "NestedStepError"
    assert "inner" in error.message
    assert "one" in error.message
    assert (len(calls), inner) == (1, [])


async def test_a_callback_cannot_hide_a_nested_step(store):
    async def outer():
        with suppress(Exception):
            await durable.current().step.sleep("inner", "1s")
        return "hidden"

    @durable.function("f")
    async def f(ctx):
        try:
            return await ctx.step.run("outer", outer)
        except durable.StepError:
            return "caught"

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert error.name == "NestedStepError"


async def test_a_decorated_step_inside_of_a_step_is_nested_too(store):
    @durable.step("inner")
    async def inner() -> None: ...

    async with TestEngine([f := one_step(inner.__wrapped__)], store=store) as t:
        assert await t.invoke(f) is None

    async def outer():
        await inner()

    async with TestEngine([f := one_step(outer)], store=store) as t:
        assert (await failure_of(t, f)).name == "NestedStepError"


# ---------------------------------------------------------------- groups, exits, cancellations


async def test_a_group_of_nothing_but_step_errors_counts_as_one(store):
    passes = []

    @durable.function("f", retries=2)
    async def f(ctx):
        passes.append(ctx.attempt)
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("one", failing(99, durable.NonRetriableError("a"), [])))

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert set(passes) == {0}
    assert error.name == "NonRetriableError"


async def test_a_group_with_another_leaf_is_the_handlers_own_error(store):
    attempts = []

    @durable.function("f", retries=1)
    async def f(ctx):
        attempts.append(ctx.attempt)
        raise ExceptionGroup("both", [durable.NonRetriableError("a"), ValueError("b")])

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert attempts == [0, 1]
    assert error.name == "ExceptionGroup"


async def test_a_nested_group_of_non_retriable_errors_is_not_retried(store):
    attempts = []

    @durable.function("f")
    async def f(ctx):
        attempts.append(ctx.attempt)
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [durable.NonRetriableError("a")])])

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).name == "NonRetriableError"
    assert attempts == [0]


async def test_system_exit_in_a_step_is_an_error_of_the_step(store):
    log = []
    async with TestEngine([f := one_step(failing(1, SystemExit(3), log))], store=store) as t:
        assert await t.invoke(f) == "done"
    assert log == [0, 1]


async def test_system_exit_in_the_handler_is_an_error_of_the_handler(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        raise SystemExit(3)

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).name == "SystemExit"


async def test_system_exit_in_a_worker_thread_is_an_error_of_the_step(store):
    def leave():
        raise SystemExit(3)

    async with TestEngine([f := one_step(leave, retries=0)], store=store) as t:
        assert (await failure_of(t, f)).name == "SystemExit"


async def test_a_cancelled_error_that_nobody_asked_for_is_an_ordinary_error(store):
    log = []
    async with TestEngine([f := one_step(failing(1, asyncio.CancelledError, log))], store=store) as t:
        assert await t.invoke(f) == "done"
    assert log == [0, 1]


async def test_a_cancelled_error_raised_by_the_handler_is_an_ordinary_error(store):
    attempts = []

    @durable.function("f", retries=1)
    async def f(ctx):
        attempts.append(ctx.attempt)
        raise asyncio.CancelledError

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).name == "CancelledError"
    assert attempts == [0, 1]


async def test_an_exception_whose_text_fails_is_recorded_all_the_same(store):
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    async with TestEngine([f := one_step(failing(99, Broken, []), retries=0)], store=store) as t:
        assert (await failure_of(t, f)).name == "Broken"


# ---------------------------------------------------------------- the tree of errors


def test_every_error_is_a_durable_error():
    names = (
        "ConfigError StepError NonRetriableError RetryAfterError NestedStepError SerializationError LimitError "
        "SignalConflictError NondeterminismError RunFailed RunCancelled StoreError EventRejected"
    )
    for name in names.split():
        assert issubclass(getattr(durable, name), durable.DurableError), name
    assert issubclass(durable.ConfigError, ValueError)


async def test_an_error_of_a_step_is_shown_by_the_run_and_its_steps(store):
    async with TestEngine([f := one_step(failing(99, ValueError("no"), []), retries=0)], store=store) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.refresh()
        (step,) = await run.steps()
        assert (run.error.name, run.error.message, run.error.step_id) == ("ValueError", "no", "one")
        assert (step.status, step.error.name, step.attempts) == ("failed", "ValueError", 1)


# ---------------------------------------------------------------- faults of the engine's own


async def test_a_run_ends_though_its_end_cannot_be_told(store, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("a fault of the engine")

    monkeypatch.setattr("durable._executor.ending.internal_events", broken)

    @durable.function("f")
    async def f(ctx):
        return 1

    async with TestEngine([f], store=store) as t:
        assert await t.invoke(f) == 1
    assert "no event is sent of it" in caplog.text


async def test_a_run_whose_end_cannot_be_made_fails(store, monkeypatch, caplog):
    def broken(*_, **__):
        raise RuntimeError("a fault of the engine")

    monkeypatch.setattr("durable._executor.ending.encode", broken)

    @durable.function("f", retries=1, backoff=NO_JITTER)
    async def f(ctx):
        return 1

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).message == "a fault of the engine"
    assert "the engine failed while it made its end" in caplog.text


async def test_what_was_handled_before_is_no_context_of_a_later_error(store):
    async def fail():
        raise KeyError("handled")

    async def refused():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("handled"))
        with suppress(KeyError):
            await future
        raise OSError("of the callback")

    @durable.function("f", retries=0)
    async def f(ctx):
        steps = ctx.step.options(retries=0)
        with suppress(durable.StepError):
            await asyncio.gather(steps.run("fail", fail), ctx.step.sleep("nap", "1h"))
        with pytest.raises(durable.StepError) as caught:
            await steps.run("refused", refused)
        assert "handled" not in caught.value.stack
        raise ValueError("of the handler")

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert error.name == "ValueError"
    assert "handled" not in error.stack


async def test_system_exit_in_a_task_of_the_handler_is_an_error_of_the_handler(store):
    async def leave():
        await asyncio.sleep(0)
        raise SystemExit(3)

    @durable.function("f", retries=0)
    async def f(ctx):
        await asyncio.gather(leave(), ctx.step.sleep("nap", "1h"))

    async with TestEngine([f], store=store) as t:
        error = await failure_of(t, f)
    assert (error.name, error.message) == ("SystemExit", "3")


async def test_a_generator_exit_of_the_handler_is_an_error_of_the_handler(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        raise GeneratorExit("own")

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).name == "GeneratorExit"


async def test_a_group_that_is_nested_deeper_than_calls_can_be_fails_the_run(store):
    @durable.function("f", retries=0)
    async def f(ctx):
        error = ValueError("innermost")
        for _ in range(900):
            error = ExceptionGroup("group", [error])
        raise error

    async with TestEngine([f], store=store) as t:
        assert (await failure_of(t, f)).name == "ExceptionGroup"


async def test_a_group_of_nothing_but_non_retriable_errors_in_a_step_is_not_retried(store):
    log = []
    error = ExceptionGroup("group", [durable.NonRetriableError("no")])
    async with TestEngine([f := one_step(failing(9, error, log))], store=store) as t:
        assert (await failure_of(t, f)).name == "NonRetriableError"
    assert log == [0]


async def test_a_group_in_a_step_is_retried_when_its_leaf_says(store):
    log = []
    error = ExceptionGroup("group", [durable.RetryAfterError("busy", "7h")])
    async with TestEngine([f := one_step(failing(1, error, log))], store=store) as t:
        began = t.now
        await t.invoke(f)
        assert (t.now - began).total_seconds() == 7 * 3600
