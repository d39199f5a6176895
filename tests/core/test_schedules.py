"""Cron lines: what is refused, and when the others fire, held against a clock watched minute by minute."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durable._core.schedules import Schedule
from durable.errors import ConfigError
from durable.triggers import CronTrigger, cron

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
PARIS, NEW_YORK, LORD_HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"


def ms(text: str, zone: str = "UTC") -> int:
    """The instant of ISO-8601 text, in this zone if it has no offset."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
    return (moment - EPOCH) // timedelta(milliseconds=1)


def local(tick: int, zone: str = "UTC") -> datetime:
    return (EPOCH + timedelta(milliseconds=tick)).astimezone(ZoneInfo(zone))


def schedule(line: str, zone: str = "UTC") -> Schedule:
    return Schedule(CronTrigger(line, zone))


def morning(line: str, zone: str, start: str) -> list[str]:
    """Ticks of the five hours from local midnight on, as local time and hours of offset."""
    before = ms(start, zone) - 1
    moments = [local(tick, zone) for tick in schedule(line, zone).between(before, before + 5 * HOUR, 100)]
    return [f"{m:%H:%M}{m:%z}"[:8] if m.minute or m.second else f"{m:%H}{m:%z}"[:5] for m in moments]


HINTS = ["0-59", "0-23", "1-31, L for the last one", "1-12 or JAN-DEC", "0-7 or SUN-SAT", "0-59"]
NAMES = ["minute", "hour", "day of the month", "month", "weekday", "second"]
BAD_WORDS = [
    ["60", "-5", "*/0", "a", "1,,2", "1-2-3", "5-", "?", "1.5", "*-5", "1/-2", "5#2"],
    ["24", "9-24", "L"],
    ["0", "32", "0-5", "l-2", "15w,16", "jan"],
    ["13", "0", "foo", "mon"],
    ["8", "funday", "1#6", "1#0", "l", "5l"],
    ["60", "?"],
]


@pytest.mark.parametrize(("place", "word"), [(i, bad) for i, words in enumerate(BAD_WORDS) for bad in words])
def test_a_field_that_does_not_parse_is_named_with_what_it_should_be(place: int, word: str) -> None:
    line = " ".join(word if i == place else "*" for i in range(max(5, place + 1)))
    with pytest.raises(ConfigError) as caught:
        schedule(line)
    assert str(caught.value).startswith(
        f"the cron line {line!r} does not parse: its {NAMES[place]} is {word.lower()!r}, "
        f"and should be {HINTS[place]}"
    )
    assert 'write for example "0 9 * * 1-5"' in str(caught.value)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("٣ * * * *", "is not ASCII"),
        ("0 0 * * 1,5#2", "mixes weekdays with places in the month"),
        ("0 9-9 * * *", "has '9-9' as its hour: a range needs two ends, or write '9'"),
        ("0 0 * * MON-MON/2", "a range needs two ends, or write 'mon'"),
        ("R * * * *", "leaves its minute to chance"),
        ("0 H(0-5) * * *", "leaves its hour to chance"),
        ("5,R/15 * * * *", "leaves its minute to chance"),
        ("* * * * * h", "leaves its second to chance"),
        ("* * * *", "has 4 fields, not 5, or 6 with seconds last"),
        ("* * * * * * *", "has 7 fields"),
        ("hourly", "has 1 fields"),
        ("@reboot", "has no known name: there are @hourly, @daily"),
        ("@every 5m", "has no known name"),
        ("@daily 5", "has no known name"),
    ],
)
def test_other_lines_that_are_refused(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        schedule(line)
    assert f"the cron line {line!r} " in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "* * 30-31 FEB *", "0 0 30 2 ?", "* * 31 4 * *", "0 0 31 6/5 *"],
)
def test_a_line_that_can_never_fire_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="never fires: no year has such a day"):
        schedule(line, PARIS)


NOISE = st.text(alphabet="0123456789*/-,#LWHR?@ janmonfri", min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(
    NOISE
    | st.tuples(st.integers(0, 5), NOISE).map(lambda p: " ".join([*"*****"[: p[0]], p[1], *"*****"[p[0] :]]))
)
@example("*,5 * * * *")
@example("0 0 *,5 * 1")
def test_any_text_is_a_schedule_or_a_config_error(line: str) -> None:
    try:
        made = schedule(line)
    except ConfigError:
        return
    tick = made.next_after(0)
    assert tick is not None
    assert made.latest(0, tick) == tick


def test_importing_the_module_does_not_import_croniter() -> None:
    code = "import sys, durable._core.schedules; sys.exit('croniter' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "ticks"),
    [
        ("@hourly", ["01-01 01:00", "01-01 02:00"]),
        ("@daily", ["01-02 00:00", "01-03 00:00"]),
        ("@WEEKLY", ["01-05 00:00", "01-12 00:00"]),
        ("@monthly", ["02-01 00:00", "03-01 00:00"]),
        ("0 9 * * MON-5", ["01-01 09:00", "01-02 09:00", "01-03 09:00", "01-06 09:00"]),
        ("0 0 * * 7", ["01-05 00:00", "01-12 00:00"]),
        ("0 0 * * SAT-MON", ["01-04 00:00", "01-05 00:00", "01-06 00:00", "01-11 00:00"]),
        ("0 22-1 * * *", ["01-01 01:00", "01-01 22:00", "01-01 23:00", "01-02 00:00", "01-02 01:00"]),
        ("10/20 5 * * *", ["01-01 05:10", "01-01 05:30", "01-01 05:50", "01-02 05:10"]),
        ("0 0 1 FEB,4 *", ["02-01 00:00", "04-01 00:00", "02-01 00:00"]),
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00", "03-31 00:00", "04-30 00:00"]),
        ("0 0 15,L * *", ["01-15 00:00", "01-31 00:00", "02-15 00:00", "02-28 00:00"]),
        ("0 0 * * 5#2", ["01-10 00:00", "02-14 00:00", "03-14 00:00"]),
        ("0 0 * * TUE#1,FRI#5", ["01-07 00:00", "01-31 00:00", "02-04 00:00", "03-04 00:00", "04-01 00:00"]),
        ("0 0 * * L5", ["01-31 00:00", "02-28 00:00", "03-28 00:00"]),
        ("0 0 13 * 5", ["01-03 00:00", "01-10 00:00", "01-13 00:00", "01-17 00:00"]),
        ("0 0 13 * 5#2", ["01-10 00:00", "01-13 00:00", "02-13 00:00", "02-14 00:00"]),
        ("0 0 30 2 5", ["02-07 00:00", "02-14 00:00"]),
        ("0 0 ? * 5", ["01-03 00:00", "01-10 00:00"]),
        ("0 0 */1 * 5", ["01-03 00:00", "01-10 00:00"]),
        ("0 0 1-31 * 5", ["01-02 00:00", "01-03 00:00"]),
    ],
)
def test_what_the_fields_mean(line: str, ticks: list[str]) -> None:
    got = schedule(line).between(ms("2025-01-01"), ms("2030-01-01"), len(ticks))
    assert [f"{local(t):%m-%d %H:%M}" for t in got] == ticks


@pytest.mark.skipif(version("croniter") < "7", reason="croniter 6 does not know W")
def test_w_is_the_nearest_weekday_within_the_month() -> None:
    for line, days in [
        ("0 0 1W * *", ["03-03", "04-01"]),
        ("0 0 16W * *", ["03-17", "04-16"]),
        ("0 0 31W 5,8 *", ["05-30", "08-29"]),
        ("0 0 1W 3 2#2", ["03-03", "03-11"]),
    ]:
        got = schedule(line).between(ms("2025-02-20"), ms("2026-01-01"), 2)
        assert [f"{local(t):%m-%d}" for t in got] == days


def test_seconds_stand_last() -> None:
    made = schedule("30 12 * * * 5,50/5")
    got = made.between(ms("2025-01-01 12:30:04"), ms("2025-01-02"), 10)
    assert got == [ms(f"2025-01-01 12:30:{second:02}") for second in (5, 50, 55)]
    assert made.latest(0, ms("2025-01-02")) == ms("2025-01-01 12:30:55")
    assert made.latest(0, ms("2025-01-01 12:30:49.999")) == ms("2025-01-01 12:30:05")
    assert schedule("* * * * * *").next_after(ms("2025-01-01 00:00:00.001")) == ms("2025-01-01 00:00:01")


def test_the_29th_of_february() -> None:
    made = schedule("0 12 29 2 *")
    got = made.between(ms("2095-01-01"), ms("2110-01-01"), 9)
    assert got == [ms("2096-02-29 12:00"), ms("2104-02-29 12:00"), ms("2108-02-29 12:00")]
    assert made.latest(0, ms("2104-02-29 11:59:59.999")) == ms("2096-02-29 12:00")


@pytest.mark.parametrize("weekday", range(7))
def test_the_rarest_day_of_all_is_found_in_every_century(weekday: int) -> None:
    made = schedule(f"0 0 * 2 {weekday}#5")
    expected = [
        ms(f"{year}-02-29")
        for year in range(1972, 2400, 4)
        if (year % 100 or year % 400 == 0) and date(year, 2, 29).isoweekday() % 7 == weekday
    ]
    assert made.between(0, ms("2400-01-01"), 1000) == expected
    assert [made.latest(0, tick + 1) for tick in expected] == expected


@pytest.mark.parametrize(
    ("line", "zone", "day", "ticks"),
    [
        # Paris: 02:00+01 -> 03:00+02 on 30 March 2025, 03:00+02 -> 02:00+01 on 26 October.
        ("30 2 * * *", PARIS, "2025-03-30", "03+02"),
        ("*/5 2 * * *", PARIS, "2025-03-30", "03+02"),
        ("30 2,3 * * *", PARIS, "2025-03-30", "03+02 03:30+02"),
        ("0 2,3 * * *", PARIS, "2025-03-30", "03+02"),
        ("0 */2 * * *", PARIS, "2025-03-30", "00+01 03+02 04+02"),
        ("0 * * * *", PARIS, "2025-03-30", "00+01 01+01 03+02 04+02 05+02"),
        ("30 * * * *", PARIS, "2025-03-30", "00:30+01 01:30+01 03:30+02 04:30+02 05:30+02"),
        ("30 2 * * *", PARIS, "2025-10-26", "02:30+02"),
        ("0 2 * * *", PARIS, "2025-10-26", "02+02"),
        ("0 3 * * *", PARIS, "2025-10-26", "03+01"),
        ("0 */2 * * *", PARIS, "2025-10-26", "00+02 02+02"),
        ("0 0-22 * * *", PARIS, "2025-10-26", "00+02 01+02 02+02 03+01"),
        ("0 * * * *", PARIS, "2025-10-26", "00+02 01+02 02+02 02+01 03+01"),
        # New York: 9 March and 2 November 2025, at 02:00.
        ("15 2 * * *", NEW_YORK, "2025-03-09", "03-04"),
        ("0 0/2 * * *", NEW_YORK, "2025-03-09", "00-05 03-04 04-04"),
        ("0,30 1 * * *", NEW_YORK, "2025-11-02", "01-04 01:30-04"),
        ("30 0-23 * * *", NEW_YORK, "2025-11-02", "00:30-04 01:30-04 01:30-05 02:30-05 03:30-05"),
        # Lord Howe, by half an hour: 02:00+1030 -> 02:30+11 on 5 October, 02:00+11 -> 01:30+1030 on 6 April.
        ("0 2 * * *", LORD_HOWE, "2025-10-05", "02:30+11"),
        ("15,45 2 * * *", LORD_HOWE, "2025-10-05", "02:30+11 02:45+11"),
        ("45 1 * * *", LORD_HOWE, "2025-04-06", "01:45+11"),
        ("0 2 * * *", LORD_HOWE, "2025-04-06", "02+10"),
        ("45 * * * *", LORD_HOWE, "2025-04-06", "00:45+11 01:45+11 01:45+10 02:45+10 03:45+10"),
        ("0 * * * *", LORD_HOWE, "2025-10-05", "00+10 01+10 03+11 04+11 05+11"),
        # Havana changes at midnight: the day of the change has no 00:30, or has it twice.
        ("30 0 * * *", "America/Havana", "2025-11-02", "00:30-04"),
        ("30 * 2 11 *", "America/Havana", "2025-11-02", "00:30-04 00:30-05 01:30-05 02:30-05 03:30-05"),
    ],
)
def test_when_the_clocks_change(line: str, zone: str, day: str, ticks: str) -> None:
    assert morning(line, zone, day) == ticks.split()


def test_an_instant_inside_the_repeated_hour_goes_on_from_there() -> None:
    daily, hourly = schedule("*/20 2 * * *", PARIS), schedule("*/20 * * * *", PARIS)
    second = ms("2025-10-26T02:10+01:00")
    assert daily.next_after(second) == ms("2025-10-27T02:00+01:00")
    assert daily.latest(0, second) == ms("2025-10-26T02:40+02:00")
    assert hourly.next_after(second) == ms("2025-10-26T02:20+01:00")
    assert hourly.latest(0, second) == ms("2025-10-26T02:00+01:00")
    first = ms("2025-10-26T02:50+02:00")
    assert daily.next_after(first) == ms("2025-10-27T02:00+01:00")
    assert hourly.next_after(first) == ms("2025-10-26T02:00+01:00")
    assert hourly.latest(0, first) == ms("2025-10-26T02:40+02:00")


def test_the_repeated_hour_may_be_the_end_of_a_day_that_fires() -> None:
    # Brazil, 18 February 2018: 24:00 -> 23:00 of the 17th.
    made = schedule("30 * 17 2 *", "America/Sao_Paulo")
    got = made.between(ms("2018-02-17T22:00-02:00"), ms("2018-02-19"), 99)
    times = ("22:30-02:00", "23:30-02:00", "23:30-03:00")
    assert got == [ms(f"2018-02-17T{time}") for time in times]


def test_a_day_that_was_left_out_runs_once_when_the_next_begins() -> None:
    # Samoa went over the date line: there was no 30 December 2011.
    made = schedule("0 9,15 * * *", "Pacific/Apia")
    got = made.between(ms("2011-12-29T12:00-10:00"), ms("2011-12-31T12:00+14:00"), 9)
    assert got == [ms("2011-12-29T15:00-10:00"), ms("2011-12-31T00:00+14:00"), ms("2011-12-31T09:00+14:00")]
    hourly = schedule("0 * 30 * *", "Pacific/Apia")
    assert hourly.next_after(ms("2011-12-29T12:00-10:00")) == ms("2012-01-30T00:00+14:00")
    assert hourly.latest(0, ms("2012-01-15")) == ms("2011-11-30T23:00-10:00")


YEAR = 2024
DAYS_OF_CHANGE = {5, 6, 7, 8, 26, 27, 28, 29, 30, 31}


@cache
def _halves(zone: str) -> list[tuple[int, datetime]]:
    """Each half hour of a year, as zones change at their beginnings only: instant and time shown."""
    begin = ms(f"{YEAR}-01-01")
    stamps = range(begin, begin + 366 * 24 * HOUR, HOUR // 2)
    return [(stamp, local(stamp, zone).replace(tzinfo=None)) for stamp in stamps]


def _watched(zone: str, fits: Callable[[datetime], bool], minutes: set[int], *, hourly: bool) -> list[int]:
    """What a watchman would do who looks at the clock each minute and remembers how far he has seen it go."""
    ticks: list[int] = []
    seen = _halves(zone)[0][1]
    for stamp, shown in _halves(zone):
        while not hourly and seen < shown:  # minutes that were left out: all of them at once, now
            if seen.minute in minutes and fits(seen) and ticks[-1:] != [stamp]:
                ticks.append(stamp)
            seen += timedelta(minutes=1)
        for minute in sorted(minutes & set(range(shown.minute, shown.minute + 30))):
            now = shown.replace(minute=minute)
            tick = stamp + (minute - shown.minute) * 60_000
            if fits(now) and (hourly or now >= seen) and ticks[-1:] != [tick]:
                ticks.append(tick)
        seen = max(seen, shown + timedelta(minutes=30))
    return ticks


@pytest.mark.parametrize("zone", [PARIS, LORD_HOWE])
@pytest.mark.parametrize(
    ("line", "minutes", "fits"),
    [
        ("30 2 * * *", {30}, lambda t: t.hour == 2),
        ("*/15 1-3 * * *", {0, 15, 30, 45}, lambda t: 1 <= t.hour <= 3),
        ("0,45 * 5-8,26-31 4,3,10 *", {0, 45}, lambda t: t.month in (3, 4, 10) and t.day in DAYS_OF_CHANGE),
        ("59 23 28-31 * 0", {59}, lambda t: t.hour == 23 and (t.day >= 28 or t.isoweekday() == 7)),
        ("*/20 * L * *", {0, 20, 40}, lambda t: (t + timedelta(days=1)).day == 1),
        ("10 2 * 3-10/7 0#1,0#5", {10}, lambda t: (t.hour, t.month % 7) == (2, 3) and _sunday(t) in (1, 5)),
        ("7 */6 29 2 *", {7}, lambda t: t.hour % 6 == 0 and (t.month, t.day) == (2, 29)),
    ],
)
def test_a_year_against_a_clock_watched_minute_by_minute(
    line: str, minutes: set[int], fits: Callable[[datetime], bool], zone: str
) -> None:
    expected = _watched(zone, fits, minutes, hourly=line.split()[1] == "*")
    made = schedule(line, zone)
    begin, end = ms(f"{YEAR}-01-01"), ms(f"{YEAR + 1}-01-01") - 1
    assert expected
    assert made.between(begin - 1, end, 100_000) == expected
    for tick, after in list(pairwise([*expected, end + 1]))[:: max(1, len(expected) // 300)]:
        assert made.latest(begin - 1, after - 1) == tick


def _sunday(moment: datetime) -> int | None:
    return (moment.day + 6) // 7 if moment.isoweekday() == 7 else None


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    several = st.lists(value, min_size=1, max_size=4, unique=True).map(lambda vs: ",".join(map(str, vs)))
    span = st.tuples(value, value).filter(lambda p: p[0] < p[1]).map(lambda p: f"{p[0]}-{p[1]}")
    return st.just("*") | several | span | st.integers(2, 20).map(lambda n: f"*/{n}")


MINUTES, HOURS, DATES = _field(0, 59), _field(0, 23), _field(1, 31) | st.just("L")
FIVE = st.tuples(MINUTES, HOURS, DATES, _field(1, 12), _field(0, 6) | st.just("2#2"))
SIX = st.tuples(MINUTES, HOURS, st.sampled_from(["* * *", "L * *"]), _field(0, 59))
LINES = (FIVE | SIX).map(" ".join)
ZONES = st.sampled_from(["UTC", PARIS, NEW_YORK, LORD_HOWE, "America/Havana", "Antarctica/Troll"])
TURNS = st.sampled_from(
    [ms(t) for t in ("2025-03-30T01:00", "2025-10-26T01:00", "2025-03-09T07:00", "2025-11-02T06:00")]
    + [ms(t) for t in ("2025-10-04T15:30", "2025-04-05T15:00", "2025-11-02T05:00", "2025-03-09T05:00")]
)
INSTANTS = st.integers(0, ms("2100-01-01")) | st.tuples(TURNS, st.integers(-3 * HOUR, 3 * HOUR)).map(sum)


def _made(line: str, zone: str) -> Schedule | None:
    try:
        return schedule(line, zone)
    except ConfigError as error:
        if "never fires" in str(error):
            return None
        raise


@settings(max_examples=120, deadline=None)
@given(LINES, ZONES, INSTANTS)
@example("*/5 2 * * *", PARIS, ms("2025-10-26T00:59:59.999"))
@example("* * * * * *", LORD_HOWE, ms("2025-04-05T15:00") - 1)
def test_ticks_rise_and_both_directions_agree(line: str, zone: str, start: int) -> None:
    made = _made(line, zone)
    if made is None:
        return
    ticks = made.between(start, ms("2200-01-01"), 8)
    assert ticks == sorted(set(ticks))
    assert ticks[0] > start
    assert made.between(start, ticks[-1], 100) == ticks
    assert made.between(start, ticks[-1] - 1, 100) == ticks[:-1]
    for before, tick in zip([start, *ticks], ticks, strict=False):
        assert made.next_after(tick - 1) == tick
        assert made.next_after((before + tick) // 2) == tick
        assert made.latest(start, tick) == tick
        assert made.latest(start, tick - 1) == (before if before != start else None)
        assert made.latest(tick, tick) is None
    for until in range(ticks[0], ticks[-1], max(1, (ticks[-1] - ticks[0]) // 7)):
        assert made.latest(start, until) == made.between(start, until, 100)[-1]


@settings(max_examples=60, deadline=None)
@given(LINES.filter(lambda line: "#" not in line and "1-31" not in line and "0-6" not in line), INSTANTS)
def test_in_a_zone_whose_clocks_never_change_croniter_agrees(line: str, start: int) -> None:
    from croniter import croniter

    made = _made(line, "UTC")
    if made is None:
        return
    theirs = croniter(line, start // 1000, ret_type=float)
    ticks = [int(theirs.get_next()) * 1000 for _ in range(5)]
    assert made.between(start // 1000 * 1000, ms("2200-01-01"), 5) == ticks


def test_every_second_of_a_century_is_one_look_back() -> None:
    made = schedule("* * * * * *", PARIS)
    assert made.latest(0, ms("2100-01-01") + 1) == ms("2100-01-01")
    assert made.between(0, ms("2100-01-01"), 3) == [1000, 2000, 3000]


def test_the_first_and_the_last_ticks() -> None:
    made = schedule("0 0 * * *")
    assert made.next_after(-1) == 0
    assert made.next_after(-(10**18)) == 0
    assert made.latest(-(10**18), 0) == 0
    assert made.latest(-(10**9), -1) is None
    assert made.next_after(ms("2099-12-31 23:59")) == ms("2100-01-01")
    assert made.next_after(ms("9997-12-31")) == ms("9998-01-01")
    assert made.next_after(ms("9998-01-01")) is None
    assert made.next_after(10**18) is None
    assert made.latest(0, 10**18) == ms("9998-01-01")
    made = schedule("0 0 29 2 *")
    assert made.between(ms("9990-01-01"), 10**18, 9) == [ms("9992-02-29"), ms("9996-02-29")]
    assert made.latest(0, ms("1971-01-01")) is made.next_after(ms("9997-06-01")) is None


def test_a_span_without_ticks() -> None:
    made = schedule("* * * * *")
    assert made.between(60_000, 119_999, 5) == made.between(0, 10**9, 0) == []
    assert made.latest(60_000, 0) is made.latest(60_000, 119_999) is None


def test_a_zone_with_an_offset_of_odd_seconds() -> None:
    # Monrovia stood at -00:44:30 until 1972.
    assert schedule("0 0 * * *", "Africa/Monrovia").next_after(0) == (44 * 60 + 30) * 1000


def test_the_key_names_line_and_zone_only() -> None:
    made = Schedule(cron("TZ=Europe/Paris   0 9  * * 1-5", jitter="30s", missed="all"))
    assert made.key == "0 9 * * 1-5 Europe/Paris"
    assert made.key == Schedule(cron("0 9 * * 1-5", timezone=PARIS)).key
    assert schedule("@daily").key == "@daily UTC"


def test_jitter_is_a_function_of_tick_and_seed() -> None:
    one, other = (Schedule(cron("* * * * *", jitter="50ms")) for _ in range(2))
    drawn = [one.jitter_of(tick, "report") for tick in range(0, 60_000_000, 60_000)]
    assert drawn == [other.jitter_of(tick, "report") for tick in range(0, 60_000_000, 60_000)]
    assert set(drawn) == set(range(51))
    assert drawn != [one.jitter_of(tick, "invoice") for tick in range(0, 60_000_000, 60_000)]
    # Pinned: engines of different versions must come to the same time.
    assert Schedule(cron("0 9 * * *", jitter="5m")).jitter_of(1_750_000_000_000, "report") == 222_569
    assert schedule("* * * * *").jitter_of(60_000, "report") == 0
