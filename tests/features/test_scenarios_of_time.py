"""Faults of systems that people run, each as a test; the numbers are those of the project's list of scenarios.

Here: time: cron lines on a host that sleeps, attempts that take too long, keys that are used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import os
import tempfile
import threading
import time
from datetime import timedelta

import pytest

import durable
from durable import Event
from durable.durations import to_ms
from durable.testing import TestEngine, VirtualClock, crash_points


@pytest.fixture(params=["memory", "sqlite"])
def fresh(request):
    """An empty store for each crash that `crash_points` tries."""
    if request.param == "memory":
        yield "memory://"
        return
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield lambda: f"sqlite:///{folder}/{next(numbers)}.db?synchronous=normal"


def sleep_through(t, duration):
    """The host sleeps: when it wakes, the clock shows another time."""
    t.clock.jump(t.clock.now_ms() + to_ms(duration))


# ---------------------------------------------------------------- 11: a host that sleeps, clocks that change


def ticking(line, id="tick", **options):
    @durable.function(id, trigger=durable.cron(line, **options))
    async def tick(ctx):
        return ctx.event.data["scheduled_at"]

    return tick


async def ticks(t):
    """The times (UTC) of the ticks that have a run, in the order in which the runs were made."""
    return [run.event.data["scheduled_at"][11:19] async for run in t.runs("tick")][::-1]


def every_10_s(first, last):
    """The times of such ticks, of which the first and the last are given in seconds."""
    return [time.strftime("%H:%M:%S", time.gmtime(s)) for s in range(first, last + 1, 10)]


EVERY_10_S = "* * * * * */10"
SLEPT_THROUGH = {"latest": ["01:18:20"], "none": [], "all": every_10_s(30, 78 * 60 + 20)}


@pytest.mark.parametrize("host", ["asleep", "off"])
@pytest.mark.parametrize("missed", SLEPT_THROUGH)
async def test_11_after_78_minutes_without_the_host_a_line_of_10_seconds_obeys_its_policy(
    store, missed, host
):
    tick = ticking(EVERY_10_S, missed=missed)
    async with TestEngine([tick], store=store) as t:
        await t.advance("20s")
        if host == "asleep":
            sleep_through(t, "78m")
            await t.until_idle()
    async with TestEngine([tick], store=store, start="2030-01-01T01:18:20Z") as t:
        await t.advance("10s")
        assert await ticks(t) == ["00:00:10", "00:00:20", *SLEPT_THROUGH[missed], "01:18:30"]


async def test_11_of_all_missed_ticks_at_most_a_thousand_run_and_a_warning_says_so(store, caplog):
    async with TestEngine([ticking(EVERY_10_S, missed="all")], store=store) as t:
        await t.until_idle()
        sleep_through(t, "3h")
        await t.until_idle()
        found = await ticks(t)
        assert (len(found), found[0], found[-1]) == (1000, "00:00:10", "02:46:40")
        assert "1000" in caplog.text
        await t.advance("10s")
        assert (await ticks(t))[1000:] == ["03:00:10"]


async def test_11_a_function_whose_id_looks_like_part_of_a_line_has_ticks_of_its_own(store):
    every_second, every_minute = ticking("* * * * * *"), ticking("* * * * *", id="tick *")
    async with TestEngine([every_second, every_minute], store=store) as t:
        await t.advance("1m")
        assert [len(await t.runs(one, limit=100)) for one in (every_second, every_minute)] == [60, 1]


@pytest.mark.parametrize("missed", ["latest", "all", "none"])
async def test_11_two_engines_that_wake_up_start_one_run_for_each_tick(store, missed):
    tick = ticking(EVERY_10_S, missed=missed)
    options = {"store": store, "clock": VirtualClock()}
    async with TestEngine([tick], **options) as one, TestEngine([tick], **options) as two:
        await one.advance("10s")
        sleep_through(one, "1m")
        await asyncio.gather(one.until_idle(), two.until_idle())
        await two.advance("10s")
        await one.until_idle()
        slept = {"latest": ["00:01:10"], "none": [], "all": every_10_s(20, 70)}[missed]
        assert sorted(await ticks(one)) == ["00:00:10", *slept, "00:01:20"]


async def test_11_a_line_that_was_taken_out_and_put_in_again_has_missed_nothing(store):
    @durable.function("tick")
    async def without(ctx): ...

    tick = ticking("0 * * * *", missed="all")
    async with TestEngine([tick], store=store) as t:
        await t.advance("2h")
    async with TestEngine([without], store=store, start="2030-01-01T02:30:00Z") as t:
        await t.advance("2d")
    async with TestEngine([tick], store=store, start="2030-01-03T02:30:00Z") as t:
        await t.advance("1h")
        assert await ticks(t) == ["01:00:00", "02:00:00", "03:00:00"]
    async with TestEngine([tick], store=store, start="2030-01-03T05:30:00Z") as t:
        await t.until_idle()
        assert await ticks(t) == ["01:00:00", "02:00:00", "03:00:00", "04:00:00", "05:00:00"]


async def test_11_a_crash_at_any_write_of_catching_up_neither_skips_nor_repeats_a_tick(fresh):
    async def scenario(engine):
        await engine.until_idle()
        sleep_through(engine, "30s")
        await engine.until_idle()
        found = await ticks(engine)
        assert sorted(found) == every_10_s(10, 10 * len(found))
        assert len(found) >= 3

    tick = ticking(EVERY_10_S, missed="all")
    assert await crash_points(scenario, functions=[tick], store=fresh) > 10


# In 2030 the clocks of Paris go on by an hour on 31 March, and back on 27 October, both at 01:00 UTC.
GAP, OVERLAP = "2030-03-30", "2030-10-26"
NIGHTS = [
    (GAP, "30 2 * * *", ["01:00:00"]),
    (GAP, "0 2,3 * * *", ["01:00:00"]),
    (GAP, "0 * * * *", ["23:00:00", "00:00:00", "01:00:00", "02:00:00"]),
    (OVERLAP, "30 2 * * *", ["00:30:00"]),
    (OVERLAP, "0 2,3 * * *", ["00:00:00", "02:00:00"]),
    (OVERLAP, "0 * * * *", ["23:00:00", "00:00:00", "01:00:00", "02:00:00"]),
]


@pytest.mark.parametrize("host", ["awake", "asleep", "off"])
@pytest.mark.parametrize(("evening", "line", "expected"), NIGHTS)
async def test_11_a_night_of_a_clock_change_has_one_run_for_each_tick(store, host, evening, line, expected):
    """A time that does not exist: right after the gap; one that comes twice: once, but of an hourly line twice."""
    tick = ticking(line, timezone="Europe/Paris", missed="all")
    async with TestEngine([tick], store=store, start=f"{evening}T22:30:00Z") as t:
        await t.until_idle()
        morning = (t.now + timedelta(hours=4)).isoformat()
        if host == "asleep":
            sleep_through(t, "4h")
            await t.until_idle()
        elif host == "awake":
            await t.advance("4h")
    async with TestEngine([tick], store=store, start=morning) as t:
        await t.until_idle()
        assert await ticks(t) == expected


async def test_11_no_tick_is_missed_on_a_host_that_never_sleeps_however_long_the_jitter(store):
    async with TestEngine([ticking(EVERY_10_S, jitter="30s")], store=store) as t:
        await t.advance("10m")
        assert len(await ticks(t)) >= 57


async def test_11_a_tick_that_its_jitter_puts_off_beyond_a_restart_is_not_missed(store):
    tick = ticking("0 * * * *", jitter="10m", missed="none")
    async with TestEngine([tick], store=store) as t:
        await t.advance("1h")
        assert await ticks(t) == []  # put off
    async with TestEngine([tick], store=store, start="2030-01-01T01:00:00Z") as t:
        await t.advance("10m")
        assert await ticks(t) == ["01:00:00"]


# ---------------------------------------------------------------- 15: an attempt that takes too long


class Stubborn:
    """A callback whose first attempt ignores that it is cancelled; `most`: so many were executing at once."""

    def __init__(self):
        self.attempts = self.executing = self.most = 0
        self.ignored = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self):
        self.attempts += 1
        mine = self.attempts
        self.executing += 1
        self.most = max(self.most, self.executing)
        while mine == 1 and not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.ignored.set()
        self.executing -= 1
        if mine == 1:
            raise ValueError
        return mine


LIMIT, LONGER = 0.02, 0.025
"""Seconds of real time: what an attempt may take, and what is more."""


def limited(step):
    return step.options(timeout=LIMIT, retries=20, backoff=durable.Backoff("0s", jitter=0))


async def a_day_passes(t):
    """And more than the limit of an attempt, which is one of real time."""
    sleep_through(t, "1d")
    end = time.monotonic() + LONGER
    while time.monotonic() < end:  # noqa: ASYNC110 - the turns of the loop matter
        await asyncio.sleep(0)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
async def test_15_the_retry_of_a_callback_that_ignores_its_end_starts_when_it_has_ended(store, beside):
    callback = Stubborn()

    @durable.function("f")
    async def f(ctx):
        another = ctx.step.sleep("nap", "1m") if beside else asyncio.sleep(0)
        return (await asyncio.gather(limited(ctx.step).run("slow", callback), another))[0]

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        await callback.ignored.wait()
        await a_day_passes(t)
        assert callback.attempts == 1
        callback.release.set()
        assert await run.result() == callback.attempts > 1
        assert callback.most == 1


class Blocking:
    """A plain function whose first call returns when it is let go, after more than its time."""

    def __init__(self):
        self.attempts = self.executing = self.most = 0
        self.begun = threading.Event()
        self.release = threading.Event()

    def __call__(self):
        self.attempts += 1
        mine = self.attempts
        self.executing += 1
        self.most = max(self.most, self.executing)
        self.begun.set()
        if mine == 1:
            self.release.wait(20)
            time.sleep(LONGER)
        self.executing -= 1
        return mine


def blocked(function):
    @durable.function("f")
    async def f(ctx):
        return await limited(ctx.step).run("slow", function)

    return f


async def test_15_the_retry_of_a_plain_function_starts_when_its_thread_has_returned(store):
    function = Blocking()
    async with TestEngine([f := blocked(function)], store=store) as t:
        run = await t.start(f)
        await asyncio.to_thread(function.begun.wait)
        await a_day_passes(t)
        assert function.attempts == 1
        function.release.set()
        assert await run.result() == function.attempts > 1
        assert function.most == 1


async def test_15_a_thread_over_its_time_keeps_the_place_of_its_run(store):
    function = Blocking()
    async with TestEngine([f := blocked(function)], store=store, max_concurrency=1) as t:
        first = await t.start(f)
        await asyncio.to_thread(function.begun.wait)
        second = await t.start(f)
        await a_day_passes(t)
        assert (await second.refresh()).status == "queued"
        function.release.set()
        assert await first.result() != await second.result()
        assert function.most == 1


@pytest.mark.parametrize("stubborn", [Stubborn, Blocking])
async def test_15_what_a_failed_attempt_of_the_handler_left_executing_is_fenced(store, stubborn, until):
    """The handler's next attempt does not wait for it: its result is dropped."""
    callback = stubborn()

    @durable.function("f", retries=1, backoff=durable.Backoff("0s", jitter=0))
    async def f(ctx):
        async def fail_once():
            await ctx.step.run("begun", until, lambda: callback.executing)
            if not ctx.attempt:
                raise ValueError

        return (await asyncio.gather(ctx.step.run("slow", callback), fail_once()))[0]

    async with TestEngine([f], store=store) as t:
        run = await t.start(f)
        assert await run.result() == 2
        callback.release.set()
        await until(lambda: not callback.executing)
        await t.until_idle()
        assert [s.output for s in await run.steps() if s.id == "slow"] == [2]


async def test_15_a_thread_that_a_shutdown_left_behind_is_fenced(store, until, caplog):
    function = Blocking()
    async with TestEngine([f := blocked(function)], store=store, shutdown_timeout="1ms") as t:
        run = await t.start(f)
        await asyncio.to_thread(function.begun.wait)
    assert run.id in caplog.text
    async with TestEngine([f], store=store) as t:
        run = await t.get_run(run.id)
        assert await run.result() == function.attempts > 1
        function.release.set()
        await until(lambda: not function.executing)
        await t.until_idle()
        assert [s.output for s in await run.steps()] == [function.attempts]


async def test_15_an_awaitable_that_a_plain_function_returns_too_late_is_closed(store):
    late = asyncio.sleep(0)

    def slow():
        time.sleep(LONGER)
        return late

    async with TestEngine([f := blocked(slow)], store=store) as t:
        with pytest.raises(durable.RunFailed):
            await t.invoke(f)
    state = inspect.getcoroutinestate(late)
    late.close()
    assert state == inspect.CORO_CLOSED


# ---------------------------------------------------------------- 20: a key that is used again

ALMOST_A_DAY = "23h59m59s999ms"
FATES = ["waiting", "completed", "failed", "cancelled"]


@durable.function("keyed", trigger="e", idempotency="event.data.key", retries=0)
async def keyed(ctx):
    if ctx.event.data["fate"] == "failed":
        raise ValueError("as it should")
    if ctx.event.data["fate"] != "completed":
        await ctx.step.sleep("nap", "30d")
    return "done"


async def by_start_id(t, fate):
    return (await t.start(keyed, {"fate": fate}, id="k")).id


async def by_event_id(t, fate):
    await t.send(Event("e", {"fate": fate}, id="k"))


async def by_idempotency(t, fate):
    await t.send(Event("e", {"fate": fate, "key": "k"}))


DOORS = [by_start_id, by_event_id, by_idempotency]


async def first_run(t, door, fate):
    """The run that the first use of the key has started, when it has met its fate."""
    await door(t, fate)
    await t.until_idle()
    (run,) = await t.runs()
    if fate == "cancelled":
        await run.cancel()
        await t.until_idle()
    assert (await run.refresh()).status == fate
    return run


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("door", DOORS)
async def test_20_for_24_hours_a_key_starts_nothing_more_whatever_became_of_its_run(store, door, fate):
    async with TestEngine([keyed], store=store) as t:
        run = await first_run(t, door, fate)
        for pause in ("0s", ALMOST_A_DAY):
            sleep_through(t, pause)
            assert await door(t, fate) in (None, run.id)
            await t.until_idle()
        assert [one.id for one in await t.runs()] == [run.id]
        assert (await run.refresh()).status == fate


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("door", DOORS)
async def test_20_after_24_hours_a_key_starts_a_new_run_whatever_became_of_the_first(store, door, fate):
    """They count from the first use, not from the end, nor from a use that started nothing."""
    async with TestEngine([keyed], store=store) as t:
        run = await first_run(t, door, fate)
        sleep_through(t, ALMOST_A_DAY)
        await door(t, fate)
        sleep_through(t, "1ms")
        assert await door(t, fate) != run.id
        await t.until_idle()
        assert len((await t.runs()).items) == 2
        assert (await run.refresh()).status == fate


@pytest.mark.parametrize("door", DOORS)
async def test_20_a_failed_run_is_repeated_by_rerun_and_the_key_stays_with_the_first(store, door):
    async with TestEngine([keyed], store=store) as t:
        run = await first_run(t, door, "failed")
        second = await t.rerun(run.id)
        await t.until_idle()
        assert await door(t, "failed") in (None, run.id)
        await t.until_idle()
        assert {one.id for one in await t.runs()} == {run.id, second.id}


@pytest.mark.parametrize("door", DOORS)
async def test_20_a_key_that_is_used_by_many_at_once_starts_one_run(store, door):
    options = {"store": store, "clock": VirtualClock()}
    async with TestEngine([keyed], **options) as one, TestEngine([keyed], **options) as two:
        given = await asyncio.gather(*(door(t, "failed") for t in (one, two) * 5))
        await asyncio.gather(one.until_idle(), two.until_idle())
        (run,) = await one.runs()
        assert set(given) <= {None, run.id}


@pytest.mark.parametrize("door", DOORS)
async def test_20_a_key_outlives_a_run_that_retention_has_removed(store, door):
    retention = durable.Retention(runs="1h", steps="1h", events="1h")
    async with TestEngine([keyed], store=store, retention=retention) as t:
        run = await first_run(t, door, "failed")
        await t.advance("2h")
        await t.invoke(keyed, {"fate": "completed"})
        with pytest.raises(LookupError):
            await t.get_run(run.id)
        before = {one.id for one in await t.runs()}
        with contextlib.suppress(LookupError):  # `start` would give it back
            await door(t, "failed")
        await t.until_idle()
        assert {one.id for one in await t.runs()} == before


async def test_20_a_crash_at_any_write_lets_a_failed_run_keep_its_key(fresh):
    async def scenario(engine):
        run = await engine.start(keyed, {"fate": "failed"}, id="k")
        with pytest.raises(durable.RunFailed):
            await run.result()
        assert (await engine.start(keyed, {"fate": "failed"}, id="k")).id == run.id
        assert [one.id for one in await engine.runs()] == [run.id]

    assert await crash_points(scenario, functions=[keyed], store=fresh) > 5
