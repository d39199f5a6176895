"""Wrong configuration: a `ConfigError` where it stands, naming what is wrong, and what would be right."""

from __future__ import annotations

import functools

import pytest

import durable
from durable.testing import TestEngine


def declare(**config):
    """Declare a function `bad` with this configuration."""
    config = {"id": "bad", **config}

    @durable.function(config.pop("id"), **config)
    async def handler(ctx): ...

    return handler


# ---------------------------------------------------------------- functions

OPTIONS = [
    ("trigger", 5, "5"),
    ("trigger", ["e", 5], "5"),
    ("trigger", "", "''"),
    ("trigger", "order*", "order*"),
    ("trigger", "*", "*"),
    ("trigger", "*/created", "*/created"),
    ("trigger", ["e", "e"], "e"),
    ("trigger", [f"e{n}" for n in range(11)], "11"),
    ("name", "", "''"),
    ("name", 7, "7"),
    ("retries", -1, "-1"),
    ("retries", 21, "21"),
    ("retries", "4", "'4'"),
    ("retries", 2.5, "2.5"),
    ("retries", True, "True"),
    ("retries", None, "None"),
    ("backoff", "15s", "15s"),
    ("backoff", 15, "15"),
    ("idempotency", "event.", "event."),
    ("idempotency", 5, "5"),
    ("idempotency", "", "''"),
    ("idempotency", "async.data.x", "async"),
    ("cancel_on", 5, "5"),
    ("cancel_on", "e", "'e'"),
    ("cancel_on", ["e"], "'e'"),
    ("on_cancel", "kill", "kill"),
    ("on_cancel", None, "None"),
    ("timeouts", "1h", "1h"),
    ("on_failure", 5, "5"),
    ("on_failure", lambda ctx: None, "async def"),
]


async def no_argument(): ...


async def two_arguments(ctx, more): ...


async def by_name_only(*, ctx): ...


@pytest.mark.parametrize("handler", [no_argument, two_arguments, by_name_only])
def test_a_handler_that_cannot_be_called_with_a_context_is_refused_at_once(handler):
    with pytest.raises(durable.ConfigError, match=r"'f'.*one argument, the context"):
        durable.function("f")(handler)
    with pytest.raises(durable.ConfigError, match=r"'bad'.*on_failure.*one argument"):
        declare(on_failure=handler)


@pytest.mark.parametrize(("option", "value", "shown"), OPTIONS, ids=lambda v: repr(v)[:30])
def test_a_wrong_option_of_a_function_is_named_with_its_value(option, value, shown):
    with pytest.raises(durable.ConfigError) as caught:
        declare(**{option: value})
    message = str(caught.value)
    assert "'bad'" in message
    assert option in message
    assert shown in message
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("id", ["", "x" * 256, "a\nb", "a\tb", 5, None], ids=lambda v: repr(v)[:20])
def test_a_functions_id_is_1_to_255_printable_characters(id):
    with pytest.raises(durable.ConfigError, match=r"id.*1\.\.255.*got"):
        declare(id=id)


@pytest.mark.parametrize("id", ["a", "x" * 255, "ünï ✓", "a/b", "a#1", "a:1"], ids=lambda v: v[:20])
def test_any_printable_id_is_fine(id):
    assert declare(id=id).id == id


CONDITIONS = [
    "event.data.(",
    "event.data.x ==",
    "",
    "   ",
    "async.data.x == 1",
    "foo.bar == 1",
    "nofunc(event)",
    "'x' * ",
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=repr)
def test_a_condition_that_is_no_cel_is_refused_at_the_declaration(condition):
    with pytest.raises(durable.ConfigError):
        declare(trigger=durable.on("e", if_=condition))


def test_a_condition_that_is_refused_names_function_trigger_and_text():
    with pytest.raises(durable.ConfigError, match=r"'bad'.*'order/created'.*if_") as caught:
        declare(trigger=durable.on("order/created", if_="event.data.x =="))
    assert "event.data.x ==" in str(caught.value)


@pytest.mark.parametrize("condition", [5, b"true", True], ids=repr)
def test_a_condition_that_is_no_text_is_refused(condition):
    with pytest.raises(durable.ConfigError, match="if_"):
        durable.on("e", if_=condition)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not a cron",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
        "0 25 * * *",
        "@sometimes",
        5,
        None,
        "TZ=Mars/Base * * * * *",
    ],
    ids=repr,
)
def test_a_cron_line_that_does_not_parse_is_refused(line):
    with pytest.raises(durable.ConfigError, match="cron"):
        declare(trigger=durable.cron(line))


@pytest.mark.parametrize(
    ("option", "value"),
    [("timezone", "Mars/Base"), ("jitter", "soon"), ("jitter", -1), ("missed", "sometimes")],
)
def test_a_wrong_option_of_cron_is_named(option, value):
    with pytest.raises(durable.ConfigError, match=option) as caught:
        durable.cron("* * * * *", **{option: value})
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("other", [{"jitter": "10m"}, {"missed": "all"}, {"timezone": "UTC"}], ids=str)
def test_a_cron_line_that_is_given_twice_is_refused(other):
    lines = [durable.cron("0 * * * *"), durable.cron("0 * * * *", **other)]
    with pytest.raises(durable.ConfigError, match=r"function 'bad': .* given twice"):
        declare(trigger=lines)
    declare(trigger=[durable.cron("0 * * * *"), durable.cron("0 * * * *", timezone="Asia/Tokyo")])


@pytest.mark.parametrize("event", ["durable/cron.fired", "durable/function.invoked"])
def test_an_event_that_tells_of_a_start_is_no_trigger(event):
    with pytest.raises(durable.ConfigError, match=f"function 'bad': the event '{event}' .* starts none"):
        declare(trigger=event)
    declare(trigger=["durable/*", "durable/function.failed"])


def test_two_zones_of_one_cron_line_are_refused():
    with pytest.raises(durable.ConfigError, match="zone"):
        durable.cron("TZ=Europe/Paris * * * * *", timezone="UTC")


@pytest.mark.parametrize(
    "handler",
    [lambda ctx: None, print, dict, 5, None],
    ids=["lambda", "builtin", "class", "number", "None"],
)
def test_a_handler_must_be_async(handler):
    with pytest.raises(durable.ConfigError, match=r"'bad'.*async def"):
        durable.function("bad")(handler)


def test_a_handler_that_is_a_generator_is_refused():
    async def generator(ctx):
        yield 1

    with pytest.raises(durable.ConfigError, match="async def"):
        durable.function("bad")(generator)


def test_a_handler_whose_return_type_cannot_come_from_json_is_refused():
    class Strange: ...

    async def handler(ctx) -> Strange: ...

    handler.__annotations__["return"] = Strange
    with pytest.raises(durable.ConfigError, match="Strange"):
        durable.function("bad")(handler)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="retry"):
        declare(retry=3)


# ---------------------------------------------------------------- value objects


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: durable.Backoff(initial="soon"), ["Backoff", "initial", "soon"]),
        (lambda: durable.Backoff(factor=0.5), ["Backoff", "factor", "0.5"]),
        (lambda: durable.Backoff(factor="2"), ["Backoff", "factor", "2"]),
        (lambda: durable.Backoff("1h", maximum="1m"), ["Backoff", "maximum", "1m"]),
        (lambda: durable.Backoff(jitter=-1), ["Backoff", "jitter", "-1"]),
        (lambda: durable.Timeouts(start="soon"), ["Timeouts", "start", "soon"]),
        (lambda: durable.Timeouts(finish=0), ["Timeouts", "finish", "0"]),
        (lambda: durable.Timeouts(finish="-1s"), ["Timeouts", "finish", "-1s"]),
        (lambda: durable.CancelOn(""), ["CancelOn", "event", "''"]),
        (lambda: durable.CancelOn(5), ["CancelOn", "event", "5"]),
        (lambda: durable.CancelOn("order/*"), ["CancelOn", "event", "order/*"]),
        (lambda: durable.CancelOn("e", if_="true", match="data.x"), ["CancelOn", "if_", "match"]),
        (lambda: durable.CancelOn("e", timeout="soon"), ["CancelOn", "timeout", "soon"]),
        (lambda: durable.Retention(runs="long"), ["Retention", "runs", "long"]),
        (lambda: durable.Limits(steps=0), ["Limits", "steps", "0"]),
    ],
)
def test_value_objects_check_themselves(make, words):
    with pytest.raises(durable.ConfigError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)


def test_value_objects_may_be_written_by_position():
    assert durable.Backoff("1s", 3.0, "1h", "2s") == durable.Backoff(
        initial="1s", factor=3.0, maximum="1h", jitter="2s"
    )
    assert durable.Timeouts("1h", "2h") == durable.Timeouts(start="1h", finish="2h")
    assert durable.CancelOn("e", None, "data.x", "1h") == durable.CancelOn("e", match="data.x", timeout="1h")


@pytest.mark.parametrize(
    "cancel",
    [
        lambda: durable.CancelOn("e", if_="async.data.x =="),
        lambda: durable.CancelOn("e", if_="foo.x == 1"),
        lambda: durable.CancelOn("e", match="data..x"),
        lambda: durable.CancelOn("e", match=""),
        lambda: durable.CancelOn("e", match="data.x == 1"),
    ],
)
def test_expressions_of_cancel_on_are_compiled_at_the_declaration(cancel):
    with pytest.raises(durable.ConfigError, match=r"'bad'.*cancel_on"):
        declare(cancel_on=cancel())


def test_more_than_five_cancellations_are_refused():
    declare(cancel_on=[durable.CancelOn(f"e{n}") for n in range(5)])
    with pytest.raises(durable.ConfigError, match=r"'bad'.*cancel_on.*6.*5"):
        declare(cancel_on=[durable.CancelOn(f"e{n}") for n in range(6)])


# ---------------------------------------------------------------- engines


async def bare(ctx): ...


ENGINES = [
    ({"store": "nothing"}, ["store", "nothing"]),
    ({"store": ""}, ["store"]),
    ({"store": 5}, ["store", "5"]),
    ({"store": "mongodb://host/0"}, ["mongodb"]),
    ({"store": "memory://?shiny=1"}, ["shiny"]),
    ({"store": "sqlite:///x.db?shiny=1"}, ["shiny"]),
    ({"store": "sqlite:///x.db?synchronous=off"}, ["synchronous", "off"]),
    ({"functions": [5]}, ["functions", "5"]),
    ({"functions": [bare]}, ["functions", "durable.function"]),
    ({"functions": 5}, ["functions", "5"]),
    ({"functions": declare()}, ["functions", "list"]),
    ({"functions": [declare(), declare()]}, ["functions", "'bad'"]),
    ({"app": ""}, ["app", "''"]),
    ({"app": 5}, ["app", "5"]),
    ({"max_concurrency": 0}, ["max_concurrency", "0"]),
    ({"max_concurrency": "many"}, ["max_concurrency", "many"]),
    ({"max_threads": 0}, ["max_threads", "0"]),
    ({"max_warm": -1}, ["max_warm", "-1"]),
    ({"lease": "soon"}, ["lease", "soon"]),
    ({"lease": 0}, ["lease", "0"]),
    ({"warm_for": "a while"}, ["warm_for", "a while"]),
    ({"shutdown_timeout": -1}, ["shutdown_timeout", "-1"]),
    ({"limits": 5}, ["limits", "5"]),
    ({"retention": "7d"}, ["retention", "7d"]),
    ({"observers": [5]}, ["observers", "5"]),
    ({"observers": durable.Observer()}, ["observers", "a list"]),
    ({"observers": 3}, ["observers", "a list", "3"]),
    ({"version": 5}, ["version", "5"]),
]


@pytest.mark.parametrize(("options", "words"), ENGINES, ids=lambda v: repr(v)[:40])
def test_a_wrong_option_of_an_engine_is_refused_by_the_constructor(options, words):
    with pytest.raises(durable.ConfigError) as caught:
        durable.Engine(**{"store": "memory://", **options})
    for word in words:
        assert word in str(caught.value)


def test_a_store_whose_driver_is_missing_says_what_to_install():
    with pytest.raises(durable.ConfigError, match=r"pip install|scheme"):
        durable.Engine("postgres://host/0")


# ---------------------------------------------------------------- wrong calls in a handler

STEPS = {
    "an empty id": (lambda step: step.run("", dict), "id"),
    "an id that is no text": (lambda step: step.run(5, dict), "id"),
    "no id": (lambda step: step.sleep(None, "1s"), "id"),
    "a result in place of a function": (lambda step: step.run("x", {"a": 1}), "'x'"),
    "no event": (lambda step: step.wait_for_event("x", event="", timeout="1s"), "event"),
    "an event that is no text": (lambda step: step.wait_for_event("x", event=5, timeout="1s"), "event"),
    "a wrong time-out": (lambda step: step.wait_for_event("x", event="e", timeout="soon"), "timeout"),
    "no cel": (lambda step: step.wait_for_event("x", event="e", timeout="1s", if_="event."), "event."),
    "a wrong root": (lambda step: step.wait_for_event("x", event="e", timeout="1s", if_="foo == 1"), "foo"),
    "no path": (lambda step: step.wait_for_event("x", event="e", timeout="1s", match="a b"), "match"),
    "two conditions": (
        lambda step: step.wait_for_event("x", event="e", timeout="1s", match="data.x", if_="true"),
        "match",
    ),
    "a wrong since": (lambda step: step.wait_for_event("x", event="e", timeout="1s", since="ever"), "since"),
    "no signal": (lambda step: step.wait_for_signal("x", signal="", timeout="1s"), "signal"),
    "a wrong conflict": (
        lambda step: step.wait_for_signal("x", signal="s", timeout="1s", on_conflict="steal"),
        "on_conflict",
    ),
    "no function": (lambda step: step.invoke("x", function=5), "function"),
    "an empty function": (lambda step: step.invoke("x", function=""), "function"),
    "a wrong time to invoke": (lambda step: step.invoke("x", function="f", timeout="soon"), "timeout"),
    "events that are none": (lambda step: step.send_event("x", [{"name": "e"}]), "Event"),
    "text as event": (lambda step: step.send_event("x", "e"), "Event"),
    "nothing as event": (lambda step: step.send_event("x", None), "Event"),
    "no name of a signal": (lambda step: step.send_signal("x", ""), "signal"),
    "too many retries": (lambda step: step.options(retries=21).run("x", dict), "retries"),
    "retries in words": (lambda step: step.options(retries="many").run("x", dict), "retries"),
    "no time": (lambda step: step.options(timeout=0).run("x", dict), "timeout"),
    "a wrong backoff": (lambda step: step.options(backoff="1s").run("x", dict), "backoff"),
}


@pytest.mark.parametrize("name", STEPS)
async def test_a_wrong_call_of_a_step_fails_the_run_at_once(name):
    make, word = STEPS[name]
    passes = []

    @durable.function("f")
    async def f(ctx):
        passes.append(1)
        await make(ctx.step)

    async with TestEngine([f]) as t:
        run = await t.start(f)
        await t.until_idle()
        await run.refresh()
        assert run.status == "failed"
        assert run.error.name == "ConfigError"
        assert word in run.error.message
    assert len(passes) == 1


async def test_passing_a_coroutine_in_place_of_a_function_is_explained():
    async def work(): ...

    @durable.function("f")
    async def f(ctx):
        coroutine = work()
        try:
            await ctx.step.run("x", coroutine)
        finally:
            coroutine.close()

    async with TestEngine([f]) as t:
        with pytest.raises(durable.RunFailed, match="pass the function"):
            await t.invoke(f)


async def test_a_wrong_limit_around_steps_fails_the_run():
    @durable.function("f")
    async def f(ctx):
        async with ctx.step.timeout("limit", "soon"):
            pass

    async with TestEngine([f]) as t:
        with pytest.raises(durable.RunFailed, match="soon") as caught:
            await t.invoke(f)
    assert caught.value.error.name == "ConfigError"


@pytest.mark.parametrize("id", ["", 5, None], ids=repr)
def test_a_decorated_steps_id_is_checked_where_it_stands(id):
    with pytest.raises(durable.ConfigError, match="id"):
        durable.step(id)


def test_a_decorated_step_must_be_async():
    with pytest.raises(durable.ConfigError, match="async def"):
        durable.step("x")(lambda: None)


# ---------------------------------------------------------------- wrong calls of an engine


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: t.start(5), (LookupError, durable.ConfigError)),
        (lambda t: t.start(bare), (LookupError, durable.ConfigError)),
        (lambda t: t.start("bad", id=""), durable.ConfigError),
        (lambda t: t.start("bad", id=5), durable.ConfigError),
        (lambda t: t.get_run(""), LookupError),
        (lambda t: t.get_run(5), (LookupError, durable.ConfigError)),
        (lambda t: t.cancel(None), (LookupError, durable.ConfigError)),
        (lambda t: t.send_signal(""), durable.ConfigError),
        (lambda t: t.send_signal(5), durable.ConfigError),
        (lambda t: t.send_signal("s", object()), durable.SerializationError),
        (lambda t: t.invoke("bad", timeout="soon"), durable.ConfigError),
        (lambda t: t.advance("a while"), durable.ConfigError),
        (lambda t: t.advance(-1), durable.ConfigError),
    ],
)
async def test_a_wrong_call_of_an_engine_says_so(call, error):
    async with TestEngine([declare()]) as t:
        with pytest.raises(error):
            await call(t)


async def test_a_wrong_time_to_invoke_starts_nothing():
    async with TestEngine([declare()]) as t:
        with pytest.raises(durable.ConfigError, match=r"engine\.invoke\(timeout\)"):
            await t.invoke("bad", timeout="soon")
        assert len(await t.runs()) == 0


# ---------------------------------------------------------------- where it is wrong


class Shapeless:
    """A class without fields."""


async def shapeless() -> Shapeless:
    return Shapeless()


async def misspelt() -> Shapless:  # noqa: F821
    return Shapeless()


def test_a_handlers_annotation_that_cannot_be_decoded_names_the_function():
    async def handler(ctx) -> Shapeless: ...

    with pytest.raises(
        durable.ConfigError, match=r"^function 'orders': what its handler returns: .*Shapeless"
    ):
        durable.function("orders")(handler)


WRONG_STEPS = {
    r"step\.run\('load'\): what shapeless returns: values of type Shapeless": lambda s: s.run(
        "load", shapeless
    ),
    r"step\.run\('load'\): what misspelt returns: .*'Shapless'": lambda s: s.run(
        "load", functools.partial(misspelt)
    ),
    r"step\.wait_for_event\('paid'\): if_: .*compare with `==`": lambda s: s.wait_for_event(
        "paid", event="e", timeout="1d", if_="async.data.x = 3"
    ),
}


@pytest.mark.parametrize(("match", "call"), WRONG_STEPS.items())
async def test_a_steps_message_names_the_step(match, call):
    @durable.function("f")
    async def f(ctx):
        await call(ctx.step)

    async with TestEngine([f]) as t:
        with pytest.raises(durable.RunFailed, match=match):
            await t.invoke(f)


async def test_data_that_is_refused_is_told_of_the_function_as_the_user_wrote_it():
    @durable.function("orders")
    async def orders(ctx): ...

    async with TestEngine([orders]) as t:
        with pytest.raises(durable.SerializationError, match=r"^the data for function 'orders' cannot"):
            await t.start(orders, {"x": object()})
        with pytest.raises(durable.EventRejected, match=r"^the data for function 'orders' must be"):
            await t.start(orders, [1])
