import asyncio
import time

import pytest

from durable import clock
from durable.clock import Clock, SystemClock


def test_the_system_clock_tells_the_time():
    now: Clock = SystemClock()
    assert abs(now.now_ms() - time.time() * 1000) < 5_000


@pytest.mark.parametrize(
    ("ahead_ms", "low", "high"), [(-5_000, 0, 0), (0, 0, 0.001), (30_000, 29, 30), (3_600_000, 60, 60)]
)
def test_it_sleeps_at_most_a_minute(monkeypatch, ahead_ms, low, high):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(clock, "sleep", sleep)
    system = SystemClock()
    asyncio.run(system.sleep_until(system.now_ms() + ahead_ms))
    assert low <= slept[0] <= high
