import itertools
import math
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.durations import format_ms, from_ms, point_or_duration_ms, to_ms, to_point_ms
from durable.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("4m45s", 285_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("1d12h", 129_600_000),
        ("1w1d1h1m1s1ms", 694_861_001),
        ("1.5h", 5_400_000),
        ("0.1s", 100),
        ("0.1ms", 1),
        ("0s", 0),
        (timedelta(days=7), 604_800_000),
        (timedelta(microseconds=1), 1),
        (timedelta(0), 0),
        (0, 0),
        (30, 30_000),
        (0.25, 250),
        (16.1, 16_100),
        (4.35, 4_350),
        (0.0001, 1),
        (1e-300, 1),
        (-0.0, 0),
    ],
)
def test_durations_read_as_whole_milliseconds_rounded_up(value, ms):
    assert to_ms(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "s",
            "30",
            "30 s",
            " 30s",
            "30s\n",
            "5x",
            "-5s",
            "+5s",
            "5s4m",
            "1m1m",
            "1H",
            "٣s",
            "1e3s",
        ),
        *(".5s", "5.s", "1_000s", "9" * 200 + "s", "999999999d", "2030-01-01T00:00:00Z", "P1D"),
        *(True, False, None, math.nan, math.inf, -math.inf, -1, -0.001, 1e300, 10**40, 1j, b"30s", [], {}),
        *(timedelta(microseconds=-1), timedelta.max, object(), datetime(2030, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_is_no_duration_is_refused_by_name(value):
    with pytest.raises(ConfigError, match="timeout") as caught:
        to_ms(value, what="timeout")
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 400


def test_the_message_says_what_was_given_and_what_is_right():
    with pytest.raises(ConfigError, match=r"throttle\.period must be .*\"4m45s\".*got '4 minutes'"):
        to_ms("4 minutes", what="throttle.period")


@given(st.integers(0, 86_400_000_000_000))
def test_formatted_durations_read_back(ms):
    text = format_ms(ms)
    assert to_ms(text) == ms
    assert " " not in text


def test_formatting():
    assert [format_ms(ms) for ms in (0, 250, 285_000, 604_800_000, -1_500)] == [
        "0s",
        "250ms",
        "4m45s",
        "7d",
        "-1s500ms",
    ]


@given(st.floats(0, 1e9))
def test_seconds_are_never_shortened(seconds):
    ms = to_ms(seconds)
    assert ms >= seconds * 1000 - 1e-3
    assert ms - seconds * 1000 < 1.001


PARIS = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 1, tzinfo=PARIS), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), -1),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("2030-01-01T00:00:00Z", 1_893_456_000_000),
    ],
)
def test_points_in_time(value, ms):
    assert to_point_ms(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        *("", "now", "2030-01-01", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z", "30s", "12:00Z"),
        *(datetime(2030, 1, 1), date(2030, 1, 1), 0, 1.5, None, True, timedelta(1)),  # noqa: DTZ001
    ],
)
def test_what_is_no_point_in_time_is_refused_by_name(value):
    with pytest.raises(ConfigError, match=r"when .*offset"):
        to_point_ms(value, what="when")


def test_a_naive_datetime_is_told_what_it_lacks():
    with pytest.raises(ConfigError, match="has no time zone"):
        to_point_ms(datetime(2030, 1, 1))  # noqa: DTZ001


def test_a_point_or_a_duration_from_now():
    assert point_or_duration_ms("30s", 1_000) == 31_000
    assert point_or_duration_ms(2, 1_000) == 3_000
    assert point_or_duration_ms(timedelta(seconds=1), 1_000) == 2_000
    assert point_or_duration_ms("1970-01-01T00:00:09Z", 1_000) == 9_000
    assert point_or_duration_ms(from_ms(5), 1_000) == 5
    for wrong in ("soon", "2030-01-01T00:00:00", datetime(2030, 1, 1), True, None, -1, math.nan):  # noqa: DTZ001
        with pytest.raises(ConfigError, match="retry_after"):
            point_or_duration_ms(wrong, 0, what="retry_after")


@given(st.integers(-60_000_000_000_000, 250_000_000_000_000))
def test_from_ms_is_the_inverse_of_to_point_ms(ms):
    when = from_ms(ms)
    assert when.utcoffset() == timedelta(0)
    assert to_point_ms(when) == to_point_ms(when.isoformat()) == ms


@given(st.permutations(["1w", "1d", "1h", "1m", "1s", "1ms"]), st.integers(1, 6))
def test_units_come_in_one_order(parts, count):
    chosen = parts[:count]
    order = ["1w", "1d", "1h", "1m", "1s", "1ms"]
    if all(order.index(a) < order.index(b) for a, b in itertools.pairwise(chosen)):
        assert to_ms("".join(chosen)) == sum(map(to_ms, chosen))
    else:
        with pytest.raises(ConfigError):
            to_ms("".join(chosen))
