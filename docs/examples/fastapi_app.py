"""A sign-up service: an endpoint sends an event, a durable function does the rest.

Run it with ``uvicorn fastapi_app:app``.
"""

import durable
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Signup(BaseModel):
    """What a visitor sends."""

    email: str


async def send_link(email: str) -> str:
    """Mail the link that confirms an address."""
    return f"https://example.org/confirm?email={email}"


async def open_account(email: str) -> dict:
    """Open the account."""
    return {"account": email.partition("@")[0]}


@durable.function("sign-up", trigger="signup/requested")
async def sign_up(ctx: durable.Context) -> dict:
    """From the request to the account, which may take two days."""
    email = ctx.event.data["email"]
    await ctx.step.run("send-link", send_link, email)
    confirmed = await ctx.step.wait_for_event(
        "confirmed", event="signup/confirmed", match="data.email", timeout="2d", since="run"
    )
    if confirmed is None:
        return {"account": None}
    return await ctx.step.run("open-account", open_account, email)


@durable.function("quote")
async def quote(ctx: durable.Context) -> float:
    """A price that somebody waits for."""
    return 9.5 * ctx.event.data["seats"]


engine = durable.Engine("sqlite:///signups.db", functions=[sign_up, quote])
app = FastAPI(lifespan=engine.lifespan)


@app.post("/signups", status_code=202)
async def request_signup(signup: Signup) -> dict:
    """Accept a sign-up: it is durable when the answer goes out."""
    event = durable.Event("signup/requested", {"email": signup.email}, id=signup.email)
    [event_id] = await engine.send(event)
    [run] = await engine.runs(event_id=event_id)
    return {"run": run.id}


@app.post("/signups/{email}/confirm", status_code=202)
async def confirm_signup(email: str) -> None:
    """Resume the run that waits for this address."""
    await engine.send(durable.Event("signup/confirmed", {"email": email}))


@app.get("/runs/{run_id}")
async def read_run(run_id: str) -> dict:
    """Where a run stands."""
    try:
        run = await engine.get_run(run_id)
    except LookupError:
        raise HTTPException(404, "no such run") from None
    return {"status": run.status, "output": run.output}


@app.get("/quotes/{seats}")
async def read_quote(seats: int) -> float:
    """Start a run and wait for its result, for as long as a client waits."""
    try:
        return await engine.invoke(quote, {"seats": seats}, timeout="5s")
    except TimeoutError:
        raise HTTPException(504, "the run goes on") from None
