"""The program of the tutorial: an order is charged, packed and followed up, whatever happens meanwhile."""

import asyncio
import sys

import durable


async def reserve(order_id: str) -> dict:
    """Take the goods out of the stock; the total comes back."""
    print(f"reserve {order_id}", flush=True)
    return {"order_id": order_id, "total": 250}


async def charge(order: dict) -> str:
    """Charge the card: the payment service is not always there."""
    if durable.current().attempt == 0:
        raise ConnectionError("the payment service does not answer")
    print(f"charge {order['total']}", flush=True)
    return f"receipt for {order['order_id']}"


async def pack(order: dict) -> str:
    """Have the parcel packed, which takes a while."""
    print("pack ...", flush=True)
    await asyncio.sleep(1.5)
    print("packed", flush=True)
    return f"parcel for {order['order_id']}"


async def ask_for_review(order_id: str) -> None:
    """Write to the customer."""
    print(f"ask for a review of {order_id}", flush=True)


@durable.function("process-order", trigger="order/created", backoff=durable.Backoff("500ms", jitter=0))
async def process_order(ctx: durable.Context) -> dict:
    """What happens to one order."""
    order = await ctx.step.run("reserve", reserve, ctx.event.data["order_id"])
    receipt, parcel = await asyncio.gather(
        ctx.step.run("charge", charge, order),
        ctx.step.run("pack", pack, order),
    )
    await ctx.step.sleep("let-it-arrive", "1s")
    await ctx.step.run("ask-for-review", ask_for_review, order["order_id"])
    return {"receipt": receipt, "parcel": parcel}


async def main(order_id: str) -> None:
    """Send the event of a new order, and wait until all its runs have ended."""
    async with durable.Engine("sqlite:///orders.db", functions=[process_order]) as engine:
        event = durable.Event("order/created", {"order_id": order_id}, id=order_id)
        [event_id] = await engine.send(event)
        for run in await engine.runs(event_id=event_id):
            print(await run.result())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "o-1"))
