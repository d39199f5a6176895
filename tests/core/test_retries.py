import math
from datetime import timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import ConfigError
from durable.retries import DEFAULT_BACKOFF, Backoff, BackoffTable


def test_the_default_table():
    seconds = [DEFAULT_BACKOFF.delay_ms(n, 0.0) / 1000 for n in range(21)]
    assert seconds == [15, 30, 60, 120, 300, 600, 1200, 2400, 3600] + [7200] * 12
    assert DEFAULT_BACKOFF.delay_ms(0, 0.5) == 30_000
    assert DEFAULT_BACKOFF.delay_ms(9, 1 - 2**-53) < 7_230_001


def test_exponential():
    backoff = Backoff("1s", 3, "1m", "10s")
    assert [backoff.delay_ms(n, 0.0) for n in range(6)] == [1_000, 3_000, 9_000, 27_000, 60_000, 60_000]
    assert backoff.delay_ms(0, 0.5) == 6_000
    assert Backoff().delay_ms(0, 0.0) == 15_000
    assert Backoff(timedelta(seconds=1), 1.0, 1, 0).delay_ms(20, 0.9) == 1_000


@pytest.mark.parametrize("factor", [2, 1e308, 10**30])
def test_nothing_overflows(factor):
    assert Backoff("15s", factor, "2h", 0).delay_ms(20, 0.0) == 7_200_000
    assert Backoff("15s", factor, "2h", 0).delay_ms(10_000, 0.0) == 7_200_000
    assert Backoff(0, factor, "2h", 0).delay_ms(10_000, 0.0) == 0


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True), st.floats(1, 1e9))
def test_waits_stay_within_their_bounds(attempt, draw, factor):
    wait = Backoff("1s", factor, "1h", "10s").delay_ms(attempt, draw)
    assert 1_000 <= wait <= 3_610_000


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"initial": "soon"}, "initial"),
        ({"initial": None}, "initial"),
        ({"initial": -1}, "initial"),
        ({"factor": 0.5}, "factor"),
        ({"factor": math.nan}, "factor"),
        ({"factor": math.inf}, "factor"),
        ({"factor": True}, "factor"),
        ({"factor": "2"}, "factor"),
        ({"maximum": "1s"}, "maximum"),
        ({"maximum": "x"}, "maximum"),
        ({"jitter": "x"}, "jitter"),
        ({"jitter": -1}, "jitter"),
    ],
)
def test_a_backoff_checks_itself(options, named):
    with pytest.raises(ConfigError, match=f"Backoff.{named}"):
        Backoff(**options)


def test_a_table_checks_itself():
    with pytest.raises(ConfigError, match="at least one"):
        BackoffTable(())
    with pytest.raises(ConfigError, match=r"waits\[1\]"):
        BackoffTable(("1s", "x"))
    with pytest.raises(ConfigError, match="jitter"):
        BackoffTable(("1s",), "x")


def test_they_are_values():
    assert Backoff("1s") == Backoff("1s")
    assert hash(Backoff("1s")) == hash(Backoff("1s"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Backoff().factor = 3
