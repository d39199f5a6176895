import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable.errors import ConfigError
from durable.triggers import CronTrigger, EventTrigger, cron, on, patterns_of


def test_an_event_trigger():
    assert on("order/created") == EventTrigger("order/created", None)
    assert on("order/created", if_="event.data.n > 1").if_ == "event.data.n > 1"
    assert on("order/created", "true").if_ == "true"
    assert not on("order/created").is_pattern


@pytest.mark.parametrize("pattern", ["order/*", "user.*", "api/v1/*", "a.b/c.*", "durable/*"])
def test_patterns(pattern):
    assert on(pattern).is_pattern


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "*",
            "/*",
            ".*",
            "order*",
            "or*der/created",
            "*/created",
            "order/*/x",
            "order/**",
            "a/*.*",
            "a*/*",
        ),
        *(None, 5, b"order", ["order/created"], object()),
    ],
)
def test_bad_names_are_refused(name):
    with pytest.raises(ConfigError, match=r"order/created|order/\*"):
        on(name)


@pytest.mark.parametrize("condition", ["", "  ", 5, True, ["x"]])
def test_bad_conditions_are_refused(condition):
    with pytest.raises(ConfigError, match=r"if_ of the trigger 'order/created'"):
        on("order/created", if_=condition)


def test_a_typed_event_serves_as_a_trigger():
    class Typed:
        name = "order/created"

    assert on(Typed()).event == "order/created"


def test_patterns_of_a_name():
    assert patterns_of("app/user.created") == ("app/user.created", "app/*", "app/user.*")
    assert patterns_of("api/v1/users") == ("api/v1/users", "api/*", "api/v1/*")
    assert patterns_of("a.b/c") == ("a.b/c", "a.*", "a.b/*")
    assert patterns_of("plain") == ("plain",)
    assert patterns_of("order/") == ("order/",)
    assert patterns_of("/order") == ("/order",)
    assert patterns_of("order/*") == ("order/*",)


@given(st.text("ab/.*", min_size=1, max_size=12), st.text("ab/.", min_size=1, max_size=6))
def test_a_pattern_fits_what_continues_it(name, prefix):
    for end in ("/*", ".*"):
        pattern = prefix + end
        fits = name == pattern or (name.startswith(pattern[:-1]) and len(name) > len(pattern) - 1)
        assert (pattern in patterns_of(name)) == fits


def test_a_cron_trigger():
    assert cron("0 9 * * 1-5") == CronTrigger("0 9 * * 1-5", "UTC", 0, "latest")
    zoned = cron(" 0 9 * * * ", timezone="Europe/Paris", jitter="30s", missed="all")
    assert (zoned.expr, zoned.timezone, zoned.jitter_ms, zoned.missed) == (
        "0 9 * * *",
        "Europe/Paris",
        30_000,
        "all",
    )
    assert cron("@hourly", zoneinfo.ZoneInfo("Asia/Tokyo")).timezone == "Asia/Tokyo"


@pytest.mark.parametrize("prefix", ["TZ=Europe/Paris ", "CRON_TZ=Europe/Paris  ", "TZ=Europe/Paris\t"])
def test_a_zone_before_the_line(prefix):
    assert cron(prefix + "0 9 * * *") == cron("0 9 * * *", "Europe/Paris")
    assert cron(prefix + "0 9 * * *", timezone="Europe/Paris").timezone == "Europe/Paris"
    with pytest.raises(ConfigError, match="another one"):
        cron(prefix + "0 9 * * *", timezone="Asia/Tokyo")


@pytest.mark.parametrize("expr", ["", "  ", "* " * 200, None, 5, b"* * * * *", "TZ=Europe/Paris", "TZ=UTC "])
def test_bad_lines_are_refused(expr):
    with pytest.raises(ConfigError, match="a cron line must be"):
        cron(expr)


def test_a_zone_without_times_is_told_from_a_line_without_a_zone():
    with pytest.raises(ConfigError, match="also after a zone"):
        cron("TZ=Europe/Paris")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc", "/etc/passwd", "Europe", 5, "a\0b"])
def test_bad_zones_are_refused(zone):
    with pytest.raises(ConfigError, match="IANA"):
        cron("0 9 * * *", timezone=zone)
    if isinstance(zone, str) and zone:
        with pytest.raises(ConfigError):
            cron(f"TZ={zone} 0 9 * * *")


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="jitter of the cron line"):
        cron("0 9 * * *", jitter="a little")
    for missed in ("newest", None, True, []):
        with pytest.raises(ConfigError, match=r'"latest", "all" or "none"'):
            cron("0 9 * * *", missed=missed)
