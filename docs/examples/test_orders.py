"""The order of the tutorial, tested in virtual time: no second is slept."""

import durable
import pytest
from durable.testing import TestEngine, crash_points

from orders import process_order

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_an_order_is_charged_packed_and_followed_up():
    async with TestEngine([process_order]) as t:
        t.stub("pack", "parcel for o-1")
        began = t.now
        await t.send(durable.Event("order/created", {"order_id": "o-1"}))
        [run] = await t.runs(process_order)
        assert await run.result() == {"receipt": "receipt for o-1", "parcel": "parcel for o-1"}
        assert (t.now - began).total_seconds() == 1.5  # half a second until the retry, one asleep
        attempts = {step.id: step.attempts for step in await run.steps()}
        assert attempts["charge"] == 2


async def test_an_order_without_stock_fails():
    async with TestEngine([process_order]) as t:
        t.stub("reserve", durable.NonRetriableError("out of stock"))
        with pytest.raises(durable.RunFailed, match="out of stock"):
            await t.invoke(process_order, {"order_id": "o-1"})


async def test_a_crash_anywhere_repeats_nothing_that_was_committed():
    async def scenario(engine):
        engine.stub("pack", "parcel for o-1")
        run = await engine.start(process_order, {"order_id": "o-1"}, id="o-1")
        assert (await run.result())["receipt"] == "receipt for o-1"

    assert await crash_points(scenario, functions=[process_order]) > 10
