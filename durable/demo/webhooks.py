"""What a small team does with GitHub's webhooks, as durable functions.

Each step stands for a call to another service: it takes a moment, and the service notes it in the ledger.
Handlers and steps know nothing of the kill to come: there is no code here for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from typing import TYPE_CHECKING, Any

import orjson

import durable
from durable.demo.ledger import BEGIN, EFFECT, ERROR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.demo.ledger import Ledger

__all__ = ["Services", "functions"]

SOON = durable.Backoff("400ms", factor=1.0, maximum="400ms", jitter="200ms")


class UnavailableError(Exception):
    """A service that answers "503" now and then."""


class Services:
    """The world outside, which remembers in its ledger what was asked of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def call(self, step: str, answer: Any = None) -> Any:
        """Have the service behind `step` do its work, which takes 100 to 260 ms."""
        ctx = durable.current()
        await self._note(BEGIN, step)
        await asyncio.sleep(0.1 + zlib.crc32(f"{ctx.run_id}{step}".encode()) % 160 / 1000)
        await self._note(EFFECT, step)
        return answer

    async def flaky_call(self, step: str, answer: Any = None) -> Any:
        """As `call`, but the first attempt fails."""
        if durable.current().attempt == 0:
            await self._note(BEGIN, step)
            await asyncio.sleep(0.05)
            await self._note(ERROR, step)
            raise UnavailableError(f"503 from the service behind {step!r}")
        return await self.call(step, answer)

    def keep(self, data: dict[str, Any]) -> str:
        """Archive a payload; a plain function, which runs in a worker thread."""
        ctx = durable.current()
        self._ledger.write(BEGIN, ctx.run_id, ctx.function.id, "keep", ctx.attempt)
        digest = hashlib.sha256(orjson.dumps(data)).hexdigest()
        self._ledger.write(EFFECT, ctx.run_id, ctx.function.id, "keep", ctx.attempt)
        return digest

    async def _note(self, what: str, step: str) -> None:
        ctx = durable.current()
        await asyncio.to_thread(self._ledger.write, what, ctx.run_id, ctx.function.id, step, ctx.attempt)


def functions(services: Services, patterns: Sequence[str]) -> list[durable.Function[Any]]:
    """Everything that the demo's worker hosts; `patterns` are the events that are archived."""
    notify = _notify(services)
    return [
        _review_pull_request(services),
        _triage_issue(services, notify),
        _build_push(services),
        _announce_release(services, notify),
        _thank_stargazer(services),
        notify,
        _archive(services, patterns),
    ]


def _review_pull_request(services: Services) -> durable.Function[Any]:
    @durable.function(
        "review-pull-request",
        trigger=durable.on(
            "github/pull_request.*",
            if_="event.data.action in ['opened', 'reopened', 'ready_for_review', 'synchronize'] "
            "&& !event.data.pull_request.draft",
        ),
        backoff=SOON,
    )
    async def review_pull_request(ctx: durable.Context) -> dict[str, Any]:
        number = ctx.event.data["pull_request"]["number"]
        diff = await ctx.step.run("fetch-diff", services.call, "fetch-diff", f"diff of #{number}")
        lint, types, tests = await asyncio.gather(
            ctx.step.run("lint", services.call, "lint", "clean"),
            ctx.step.run("type-check", services.call, "type-check", "clean"),
            ctx.step.run("test", services.call, "test", "passed"),
        )
        await ctx.step.sleep("let-authors-push", "1500ms")
        await ctx.step.run("comment", services.call, "comment")
        return {"diff": diff, "lint": lint, "types": types, "tests": tests}

    return review_pull_request


def _triage_issue(services: Services, notify: durable.Function[Any]) -> durable.Function[Any]:
    @durable.function(
        "triage-issue",
        trigger=[
            durable.on("github/issues.opened"),
            durable.on("github/issues.assigned", if_="size(event.data.issue.labels) > 0"),
        ],
        backoff=SOON,
    )
    async def triage_issue(ctx: durable.Context) -> str:
        issue = ctx.event.data["issue"]
        kind = await ctx.step.run("classify", services.call, "classify", "docs")
        await ctx.step.run("label", services.call, "label")
        await ctx.step.invoke("tell-owner", function=notify, data={"text": issue["title"], "kind": kind})
        return str(kind)

    return triage_issue


def _build_push(services: Services) -> durable.Function[Any]:
    @durable.function(
        "build-push",
        trigger=durable.on("github/push", if_="!event.data.deleted"),
        backoff=SOON,
    )
    async def build_push(ctx: durable.Context) -> str:
        await ctx.step.run("checkout", services.call, "checkout")
        await ctx.step.run("build", services.call, "build")
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step.run("upload-eu", services.flaky_call, "upload-eu"))
            group.create_task(ctx.step.run("upload-us", services.call, "upload-us"))
        await ctx.step.run("go-live", services.call, "go-live")
        return str(ctx.event.data["ref"])

    return build_push


def _announce_release(services: Services, notify: durable.Function[Any]) -> durable.Function[Any]:
    @durable.function(
        "announce-release",
        trigger=durable.on("github/release.*", if_="!event.data.release.prerelease"),
        backoff=SOON,
    )
    async def announce_release(ctx: durable.Context) -> str:
        tag = ctx.event.data["release"]["tag_name"]
        notes = await ctx.step.run("write-notes", services.call, "write-notes", f"What is new in {tag}")
        await ctx.step.run("publish", services.flaky_call, "publish")
        await ctx.step.invoke("tell-all", function=notify, data={"text": notes})
        return str(tag)

    return announce_release


def _thank_stargazer(services: Services) -> durable.Function[Any]:
    @durable.function(
        "thank-stargazer", trigger=["github/star.created", "github/watch.started"], backoff=SOON
    )
    async def thank_stargazer(ctx: durable.Context) -> None:
        await ctx.step.sleep("not-too-eager", "1s")
        await ctx.step.run("thank", services.call, "thank")

    return thank_stargazer


def _notify(services: Services) -> durable.Function[Any]:
    @durable.function("notify", backoff=SOON)
    async def notify(ctx: durable.Context) -> None:
        await ctx.step.run("compose", services.call, "compose")
        await ctx.step.run("deliver", services.call, "deliver")

    return notify


def _archive(services: Services, patterns: Sequence[str]) -> durable.Function[Any]:
    @durable.function("archive", trigger=list(patterns), backoff=SOON)
    async def archive(ctx: durable.Context) -> str:
        return await ctx.step.run("keep", services.keep, ctx.event.data)

    return archive
