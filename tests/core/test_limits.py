import pytest

from durable.errors import ConfigError
from durable.limits import Limits, Retention


def test_defaults():
    limits = Limits()
    assert (limits.steps, limits.step_bytes, limits.run_bytes) == (1_000, 4_194_304, 33_554_432)
    assert (limits.event_bytes, limits.event_name, limits.sleep_ms) == (524_288, 512, 31_622_400_000)
    kept = Retention()
    assert (kept.runs_ms, kept.steps_ms, kept.events_ms) == (604_800_000, 604_800_000, 259_200_000)


@pytest.mark.parametrize("name", ["steps", "step_bytes", "run_bytes", "event_bytes", "event_name"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5", None, 1e9])
def test_limits_check_themselves(name, value):
    with pytest.raises(ConfigError, match=f"Limits.{name} must be a whole number"):
        Limits(**{name: value})


def test_durations_check_themselves():
    with pytest.raises(ConfigError, match=r"Limits\.sleep"):
        Limits(sleep="long")
    for name in ("runs", "steps", "events"):
        with pytest.raises(ConfigError, match=f"Retention.{name}"):
            Retention(**{name: "long"})


def test_there_is_no_ceiling():
    assert Limits(10**6, 10**12, 10**12, 10**12, 10**6, "3650d").steps == 10**6
    assert Retention(0, 0, 0).runs_ms == 0
