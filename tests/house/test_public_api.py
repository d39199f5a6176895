"""The public interface: every name that users were promised, with its parameters, their kinds and defaults."""

import asyncio
import inspect

import attrs
import pytest

import durable
import durable.testing
from durable.steps import Steps
from durable_stores.memory import MemoryStore
from durable_stores.sqlite import SQLiteStore

CALLS = {
    durable.function: "id, *, trigger=None, name=None, retries=4, backoff=None, idempotency=None, cancel_on=(), "
    "on_cancel='finish', timeouts=None, on_failure=None",
    durable.on: "event, if_=None",
    durable.cron: "expr, timezone=None, jitter=None, missed='latest'",
    durable.step: "id",
    durable.current: "",
    durable.Backoff: "initial='15s', factor=2.0, maximum='2h', jitter='30s'",
    durable.CancelOn: "event, if_=None, match=None, timeout=None",
    durable.Timeouts: "start=None, finish=None",
    durable.Event: "name, data=None, *, id=None, ts=None, user=None, v=None",
    durable.Limits: "steps=1000, step_bytes=4194304, run_bytes=33554432, event_bytes=524288, event_name=512, "
    "sleep='366d'",
    durable.Retention: "runs='7d', steps='7d', events='3d'",
    durable.RetryAfterError: "message, retry_after",
    durable.Engine: "store=None, *, functions=(), app='app', version=None, observers=(), max_concurrency=1000, "
    "max_threads=32, limits=..., retention=..., lease='10s', warm_for='60s', max_warm=10000, "
    "shutdown_timeout='10s', strict=False, clock=None",
    durable.Engine.lifespan: "self, app",
    durable.Engine.serve: "self",
    durable.Engine.send: "self, event",
    durable.Engine.send_soon: "self, event",
    durable.Engine.start: "self, function, data=None, *, id=None",
    durable.Engine.invoke: "self, function, data=None, *, timeout=None",
    durable.Engine.send_signal: "self, signal, data=None",
    durable.Engine.get_run: "self, run_id",
    durable.Engine.runs: "self, function=None, status=None, event_id=None, since=None, until=None, limit=50, "
    "cursor=None",
    durable.Engine.events: "self, name=None, since=None, until=None, limit=50, cursor=None",
    durable.Engine.cancel: "self, run_id",
    durable.Run.refresh: "self",
    durable.Run.result: "self, timeout=None",
    durable.Run.cancel: "self",
    durable.Run.steps: "self",
    Steps.run: "self, id, fn, /, *args, **kwargs",
    Steps.sleep: "self, id, duration",
    Steps.sleep_until: "self, id, when",
    Steps.wait_for_event: "self, id, *, event, timeout, if_=None, match=None, since=None",
    Steps.wait_for_signal: "self, id, *, signal, timeout, on_conflict='fail'",
    Steps.send_event: "self, id, event",
    Steps.send_signal: "self, id, signal, data=None",
    Steps.invoke: "self, id, *, function, data=None, timeout=None",
    Steps.timeout: "self, id, duration",
    Steps.options: "self, retries=None, timeout=None, backoff=None",
    durable.testing.TestEngine: "functions=(), *, store='memory://', start='2030-01-01T00:00:00Z', **options",
    durable.testing.TestEngine.until_idle: "self",
    durable.testing.TestEngine.advance: "self, duration",
    durable.testing.TestEngine.stub: "self, step_id, value",
    durable.testing.crash_points: "scenario, *, functions, store='memory://', **options",
    MemoryStore: "",
    SQLiteStore: "path, synchronous='full'",
}
"""``...`` stands for a default that is not looked at; parameters that were not promised have one."""

COROUTINES = [
    *(getattr(durable.Engine, name) for name in ("serve", "send", "start", "invoke", "send_signal")),
    *(getattr(durable.Engine, name) for name in ("get_run", "cancel", "__aenter__", "__aexit__")),
    *(getattr(durable.Run, name) for name in ("refresh", "result", "cancel", "steps")),
    *(getattr(Steps, name) for name in ("run", "sleep", "sleep_until", "wait_for_event", "wait_for_signal")),
    *(getattr(Steps, name) for name in ("send_event", "send_signal", "invoke")),
    *(getattr(durable.testing.TestEngine, name) for name in ("until_idle", "advance")),
    durable.testing.crash_points,
]

ERRORS = {
    "ConfigError": ValueError,
    "StepError": durable.DurableError,
    "NonRetriableError": durable.DurableError,
    "RetryAfterError": durable.DurableError,
    "NestedStepError": durable.DurableError,
    "SerializationError": durable.DurableError,
    "LimitError": durable.DurableError,
    "SignalConflictError": durable.DurableError,
    "NondeterminismError": durable.DurableError,
    "RunFailed": durable.DurableError,
    "RunCancelled": durable.DurableError,
    "StoreError": durable.DurableError,
    "EventRejected": durable.DurableError,
}

ATTRIBUTES = {
    durable.Run: "id function_id app status event events output error skip_reason waiting_for parent_id attempt "
    "queued_at started_at ended_at",
    durable.Context: "event events run_id attempt max_attempts evicting step logger function engine",
    durable.Function: "id name config",
    durable.Event: "name data id ts user v time",
    durable.Page: "items cursor __iter__ __len__",
    durable.StepRecord: "id index kind status attempts started_at ended_at output error",
    durable.ErrorRecord: "name message stack step_id",
    durable.Observer: "run_started run_ended step_started step_ended run_parked",
    durable.testing.TestEngine: "now",
}

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def promised(text):
    """The parameters that a line of the table names."""
    made = eval(f"lambda {text}: None")
    return list(inspect.signature(made).parameters.values())


def label(value):
    return getattr(value, "__qualname__", str(value)) if callable(value) else ""


@pytest.mark.parametrize(("call", "text"), CALLS.items(), ids=label)
def test_a_call_takes_what_was_promised(call, text):
    actual = inspect.signature(call).parameters
    wanted = promised(text)
    for one in wanted:
        assert one.name in actual, f"{label(call)} has no parameter {one.name!r}"
        found = actual[one.name]
        assert found.kind is one.kind, f"{label(call)}({one.name}) is {found.kind.description}"
        if one.default is not ...:
            assert found.default == one.default, f"{label(call)}({one.name}): {found.default!r}"
    order = [one.name for one in actual.values() if one.kind in POSITIONAL]
    assert order[: sum(one.kind in POSITIONAL for one in wanted)] == [
        one.name for one in wanted if one.kind in POSITIONAL
    ]
    for name in actual.keys() - {one.name for one in wanted}:
        free = actual[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        assert free or actual[name].default is not inspect.Parameter.empty, f"{label(call)} demands {name!r}"


@pytest.mark.parametrize("call", COROUTINES, ids=label)
def test_it_is_a_coroutine_function(call):
    assert inspect.iscoroutinefunction(call)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_their_bases(name):
    error = getattr(durable, name)
    assert issubclass(error, durable.DurableError)
    assert issubclass(error, ERRORS[name])


def test_an_event_that_is_too_large_is_a_limit_error_too():
    assert issubclass(durable.EventTooLarge, durable.LimitError)
    assert issubclass(durable.EventTooLarge, durable.EventRejected)


@pytest.mark.parametrize(("owner", "names"), ATTRIBUTES.items(), ids=label)
def test_attributes_are_there(owner, names):
    fields = (
        {one.name for one in attrs.fields(owner)}
        if attrs.has(owner)
        else set(getattr(owner, "__struct_fields__", ()))
    )
    fields |= set(getattr(owner, "__struct_fields__", ())) | set(getattr(owner, "__annotations__", ()))
    missing = [name for name in names.split() if name not in fields and not hasattr(owner, name)]
    assert not missing


def test_statuses():
    assert [str(one) for one in durable.RunStatus] == [
        "queued",
        "running",
        "waiting",
        "completed",
        "failed",
        "cancelled",
        "skipped",
    ]
    assert durable.RunStatus.QUEUED == "queued"


def test_errors_carry_what_was_promised():
    error = durable.StepError("no", step_id="charge", name="CardError", stack="...", attempts=3)
    assert (error.step_id, error.name, error.message, error.stack, error.attempts) == (
        "charge",
        "CardError",
        "no",
        "...",
        3,
    )
    failed = durable.RunFailed("no", run_id="01", error=None)
    assert (failed.run_id, failed.error) == ("01", None)


def test_a_function_is_a_value_that_can_be_called():
    @durable.function("greet")
    async def greet(ctx):
        return f"hello {ctx}"

    assert isinstance(greet, durable.Function)
    assert (greet.id, greet.name, greet.config.retries) == ("greet", "greet", 4)
    assert asyncio.run(greet("you")) == "hello you"


def test_the_front_door_has_no_other_names():
    """What is public is promised: a new name is added here, and to the reference, first."""
    known = set(ERRORS) | {label(one).split(".")[0] for one in [*CALLS, *ATTRIBUTES]}
    known |= {"Clock", "DurableError", "DurableWarning", "EventTooLarge", "FunctionConfig", "Interrupt"}
    known |= {"RunStatus", "Signal", "Store", "SystemClock"}
    found = {name for name in vars(durable) if not name.startswith("_")}
    found = {name for name in found if not inspect.ismodule(getattr(durable, name))}
    assert found <= known
