"""Handlers as people write them, for the laws: plain asyncio around steps, with what each may result in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

import durable
from durable import StepError
from tests.laws.interpreter import SECOND, Boom, Traced, said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable import Context
    from tests.laws.recorder import Book


@dataclass(frozen=True)
class Handler:
    """A hand-written handler, and the outcomes that it may have."""

    run: Callable[[Traced], Awaitable[Any]]
    outcomes: tuple[Any, ...]
    retries: int = 0
    timed: bool = False
    """It has a limit in real time that no replay repeats by itself."""

    @property
    def name(self) -> str:
        """How it is called."""
        return self.run.__name__

    def make(self, book: Book) -> Any:
        """It as a durable function."""

        async def handler(ctx: Context) -> Any:
            at = book.called(ctx)
            try:
                value = await self.run(Traced(ctx, at))
            except BaseException as error:
                if not ctx.evicting:
                    at.outcome = ("error", said(error))
                raise
            if not ctx.evicting:
                at.outcome = ("ok", value)
            return value

        return durable.function("h", retries=self.retries, backoff=SECOND)(handler)

    def may(self, outcome: tuple[str, Any]) -> bool:
        """Whether the program could have given this outcome."""
        return any(outcome in (one, ("ok", one)) for one in self.outcomes)


HANDLERS: list[Handler] = []


def handler(*outcomes: Any, retries: int = 0, timed: bool = False) -> Callable[[Any], Any]:
    """Put a handler into the corpus."""

    def decorate(run: Any) -> Any:
        HANDLERS.append(Handler(run, outcomes, retries, timed))
        return run

    return decorate


def _task(coro: Any) -> asyncio.Task[Any]:
    return asyncio.get_running_loop().create_task(coro)


# ---------------------------------------------------------------- one after the other


@handler(["a.0", "b.0", "c.0"])
async def sequence(step: Traced) -> Any:
    return [await step.run("a"), await step.run("b", turns=3), await step.run("c", thread=True)]


@handler(["tick.0", "tick.1", "tick.2", "tick.3"])
async def loop_with_repeated_ids(step: Traced) -> Any:
    found = []
    for _ in range(4):
        found.append(await step.run("tick"))
        await step.sleep("pause", 1)
    return found


@handler(["undo-b.0", "undo-a.0"])
async def saga(step: Traced) -> Any:
    done = []
    try:
        for name in ("a", "b", "c"):
            await step.run(name, fails=-1 if name == "c" else 0)
            done.append(name)
    except StepError:
        return [await step.run(f"undo-{name}", fails=1) for name in reversed(done)]


@handler("last.0")
async def finally_with_a_step(step: Traced) -> Any:
    try:
        await step.run("a", fails=-1)
    except StepError:
        pass
    finally:
        found = await step.run("last", turns=1)
    return found


@handler(["a.0", "b.0", "b.0"], retries=2)
async def fails_at_first(step: Traced) -> Any:
    first, second = await asyncio.gather(step.run("a"), step.run("b", turns=4))
    if not step.at.attempt:
        raise Boom("first")
    return [first, second, second]


@handler(("error", "Boom for good"))
async def fails(step: Traced) -> Any:
    await step.run("a")
    raise Boom("for good")


@handler(["step.0", "beside.0"], retries=1)
async def fails_while_others_wait(step: Traced) -> Any:
    """What the first attempt has given up, the second one does."""

    async def failing() -> str:
        found = await step.run("step")
        if not step.at.attempt:
            raise Boom("first")
        return found

    async def beside() -> str:
        await step.sleep("nap", 1)
        return await step.run("beside")

    return await asyncio.gather(failing(), beside())


@handler(["nap", "b.0"], retries=1)
async def changes_its_mind(step: Traced) -> Any:
    """What the first attempt has given up and recorded as such, the second one waits for."""
    nap = _task(step.sleep("nap", 5))
    await step.run("a", turns=5)
    if not step.at.attempt:
        nap.cancel()
        await step.run("b")
        raise Boom("first")
    return [await nap, await step.run("b")]


@handler([["told", "told-too"], *(f"s{number}.0" for number in range(6))])
async def tells_while_others_work(step: Traced) -> Any:
    """Commits that carry events are refused when the registry changes; nothing may go before them."""

    async def tell() -> list[str]:
        await step.run("fast")
        return [await step.send("told"), await step.send("told-too")]

    slow = [step.run(f"s{number}", turns=10 + 4 * number) for number in range(6)]
    return await asyncio.gather(tell(), *slow)


# ---------------------------------------------------------------- all of them


@handler([f"s{n}.0" for n in range(6)])
async def gather_six(step: Traced) -> Any:
    return await asyncio.gather(*[step.run(f"s{n}", turns=(7 * n) % 5, fails=n % 2) for n in range(6)])


@handler(["step b: ValueError b.0", "after.0"])
async def gather_fails_and_siblings_go_on(step: Traced) -> Any:
    try:
        await asyncio.gather(step.sleep("a", 2), step.run("b", fails=-1), step.run("c", turns=9))
    except StepError as error:
        await step.sleep("meanwhile", 3)
        return [said(error), await step.run("after")]


@handler(["a.0", "step b: ValueError b.0", "c"])
async def gather_with_exceptions(step: Traced) -> Any:
    found = await asyncio.gather(
        step.run("a", turns=5), step.run("b", fails=-1), step.sleep("c", 1), return_exceptions=True
    )
    return [said(one) if isinstance(one, BaseException) else one for one in found]


@handler([[[[["e.0", "d.0"], "c.0"], "b.0"], "a.0"], "z.0"])
async def five_levels(step: Traced) -> Any:
    async def level(names: str) -> Any:
        if len(names) == 1:
            return await step.run(names)
        async with asyncio.TaskGroup() as group:
            below = group.create_task(level(names[1:]))
            beside = group.create_task(step.run(names[0], turns=len(names)))
        return [below.result(), beside.result()]

    return [await level("abcde"), await step.run("z")]


@handler("group(step b: ValueError b.0)")
async def group_aborts_its_siblings(step: Traced) -> Any:
    async def careful(name: str) -> Any:
        try:
            return await step.run(name, turns=30)
        finally:
            await step.run(f"clean-{name}", turns=2)

    try:
        async with asyncio.TaskGroup() as group:
            for name in ("c", "d", "e", "f"):
                group.create_task(careful(name))
            group.create_task(step.run("b", fails=-1))
    except* StepError as errors:
        found = said(errors)
    return found


@handler(["a.0", "b.0", "c.0"])
async def group_in_a_callers_task(step: Traced) -> Any:
    async with asyncio.TaskGroup() as group:
        a = group.create_task(step.run("a"))
        b = group.create_task(step.run("b"))
    return [a.result(), b.result(), await step.run("c")]


@handler(["a.0", "b.0"])
async def anyio_group(step: Traced) -> Any:
    found: dict[str, str] = {}

    async def work(name: str) -> None:
        found[name] = await step.run(name, turns=3)

    async with anyio.create_task_group() as group:
        group.start_soon(work, "a")
        group.start_soon(work, "b")
    return [found["a"], found["b"]]


@handler([f"s{n}.0" for n in range(5)])
async def two_at_a_time(step: Traced) -> Any:
    places = asyncio.Semaphore(2)

    async def one(number: int) -> str:
        async with places:
            return await step.run(f"s{number}", turns=5 - number)

    return await asyncio.gather(*[one(number) for number in range(5)])


@handler(["a.0", "b.0", "c.0", "stored-a.0", "stored-b.0", "stored-c.0"])
async def producer_and_consumer(step: Traced) -> Any:
    queue: asyncio.Queue[str | None] = asyncio.Queue(1)
    found: list[str] = []

    async def produce() -> None:
        for name in "abc":
            await queue.put(await step.run(name))
        await queue.put(None)

    async def consume() -> None:
        while (made := await queue.get()) is not None:
            found.append(made)
            found.append(await step.run(f"stored-{made[0]}", turns=2))

    await asyncio.gather(produce(), consume())
    return sorted(found)


@handler(["a.0", "b.0"])
async def one_branch_lets_the_other_go(step: Traced) -> Any:
    ready = asyncio.Event()

    async def first() -> str:
        found = await step.run("a", turns=4)
        ready.set()
        return found

    async def second() -> str:
        await ready.wait()
        return await step.run("b")

    return await asyncio.gather(first(), second())


# ---------------------------------------------------------------- the first of them


async def _first(*coros: Any) -> list[Any]:
    tasks = [_task(one) for one in coros]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task in pending:
            task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return [task.result() for task in tasks if task in done]


@handler(["a.0", "win-a.0"], ["b.0", "win-b.0"], ["ab", "draw.0"])
async def the_winner_decides(step: Traced) -> Any:
    won = await _first(step.run("a", turns=2), step.run("b", turns=2), step.run("c", never=True))
    if len(won) == 2:
        return ["ab", await step.run("draw")]
    return [won[0], await step.run(f"win-{won[0][0]}")]


@handler(["nap", "after.0"])
async def a_wait_loses_to_a_sleep(step: Traced) -> Any:
    won = await _first(step.wait("event", "b", 100), step.sleep("nap", 2))
    return [*won, await step.run("after")]


@handler(["a.0", ["undone.0"]])
async def the_loser_cleans_up(step: Traced) -> Any:
    undone: list[str] = []

    async def slow() -> None:
        try:
            await step.sleep("long", 1000)
        finally:
            undone.append(await step.run("undone"))

    won = await _first(step.run("a"), slow())
    return [won[0], undone]


@handler([["a", "c"], "d.0"])
async def cancelled_between_delivery_and_pick_up(step: Traced) -> Any:
    """All three come in one round; the first one cancels the second, which has not looked yet."""
    found: list[str] = []
    tasks: list[asyncio.Task[Any]] = []

    async def one(name: str) -> None:
        found.append(await step.send(name))
        if name == "a":
            tasks[1].cancel()

    tasks += [_task(one(name)) for name in "abc"]
    await asyncio.wait(tasks)
    return [found, await step.run("d")]


@handler(["late", "otherwise.0"], ["in time", "b.0"], timed=True)
async def a_real_limit_passes_between_delivery_and_pick_up(step: Traced) -> Any:
    """In the first pass the callback sees to it; a replay knows it from the journal only."""
    loop = asyncio.get_running_loop()
    try:
        async with step.within() as limit:
            await asyncio.gather(
                step.run("a", turns=20, last=lambda: limit.reschedule(loop.time())),
                step.run("c", turns=1),
            )
            return ["in time", await step.run("b")]
    except TimeoutError:
        return ["late", await step.run("otherwise")]


@handler(["a.0", "b.0", "c.0"])
async def as_they_come(step: Traced) -> Any:
    tasks = [_task(step.run(name, turns=turns)) for name, turns in (("a", 9), ("b", 0), ("c", 4))]
    found = [await one for one in asyncio.as_completed(tasks)]
    await step.run("-".join(found))
    return sorted(found)


@handler("done.0")
async def the_first_two_that_come(step: Traced) -> Any:
    tasks = [_task(step.sleep(name, seconds)) for name, seconds in (("a", 3), ("b", 1), ("c", 2))]
    found = []
    for one in asyncio.as_completed(tasks):
        found.append(await one)
        if len(found) == 2:
            break
    for task in tasks:
        task.cancel()
    assert found == ["b", "c"], found
    return await step.run("done")


@handler("step b: ValueError b.0")
async def the_first_exception(step: Traced) -> Any:
    tasks = [_task(step.run("a", turns=50)), _task(step.run("b", fails=-1)), _task(step.sleep("c", 9))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks)
    errors = [task.exception() for task in tasks if task in done]
    return said(next(error for error in errors if error is not None))


# ---------------------------------------------------------------- time


@handler(["late", "otherwise.0"])
async def out_of_time(step: Traced) -> Any:
    try:
        async with step.timeout("limit", 2):
            await asyncio.gather(step.run("a"), step.sleep("nap", 10))
    except TimeoutError:
        return ["late", await step.run("otherwise")]


@handler(["a.0", "b.0"])
async def in_time(step: Traced) -> Any:
    async with step.timeout("limit", 60):
        found = [await step.run("a", fails=2)]
    return [*found, await step.run("b")]


@handler(["inner", "outer", "end.0"])
async def limits_within_limits(step: Traced) -> Any:
    said_: list[str] = []
    try:
        async with step.timeout("outer", 3):
            try:
                async with step.timeout("inner", 1):
                    await step.wait("never", "b", 100)
            except TimeoutError:
                said_.append("inner")
            await step.sleep("long", 100)
    except TimeoutError:
        said_.append("outer")
    return [*said_, await step.run("end")]


@handler(["late", "otherwise.0"], timed=True)
async def out_of_real_time(step: Traced) -> Any:
    """Nothing in the program but the journal tells a replay that the limit was passed."""
    try:
        async with asyncio.timeout(0.05):
            await step.run("a")
            await step.run("b", never=True)
    except TimeoutError:
        return ["late", await step.run("otherwise")]


@handler(["late", "a.0", "c.0"])
async def out_of_real_time_twice(step: Traced) -> Any:
    try:
        async with step.within():
            await asyncio.gather(step.run("b", never=True), step.run("never", never=True), step.run("x"))
    except TimeoutError:
        found = await asyncio.gather(step.run("a"), step.run("c", turns=3))
    return ["late", *found]


@handler(["a.0", "b.0"])
async def shielded(step: Traced) -> Any:
    inner = _task(step.run("a", turns=9))
    try:
        async with step.timeout("limit", 0.001):
            await asyncio.shield(inner)
            await step.sleep("rest", 9)
    except TimeoutError:
        pass
    return [await inner, await step.run("b")]


@handler(["a.0", "b.0"])
async def waited_for(step: Traced) -> Any:
    async def both() -> Any:  # a bare `gather` here would be left to nobody by the wait_for of Python 3.11
        return await asyncio.gather(step.run("a"), step.run("b", turns=3, fails=1))

    return await asyncio.wait_for(both(), 3600)


# ---------------------------------------------------------------- beside the handler, and with others


@handler("a.0")
async def left_behind(step: Traced) -> Any:
    """The handler ends, and its tasks with it."""
    forever = _task(step.sleep("forever", 10_000))
    failing = _task(step.run("slow", turns=100))
    found = await step.run("a")
    assert not forever.done() or failing.done()
    return found


@handler(["a", "b.0"])
async def heartbeat(step: Traced) -> Any:
    async def beat() -> None:
        while True:
            await step.sleep("interval", 1)
            await step.run("beat")

    beating = _task(beat())
    found = [await step.sleep("a", 3), await step.run("b")]
    beating.cancel()
    return found


@handler(["child of a.0", "step b: ValueError b.0"])
async def invokes_two(step: Traced) -> Any:
    found = await asyncio.gather(step.invoke("a"), step.invoke("b", fails=True), return_exceptions=True)
    return [said(one) if isinstance(one, BaseException) else one for one in found]


@handler(["told.0", True], ["told.0", False], ["nobody", True], ["nobody", False])
async def talks_to_itself(step: Traced) -> Any:
    heard, _, told, _ = await asyncio.gather(
        step.wait("heard"), step.await_signal("listens"), step.signal("tells"), step.send("told")
    )
    return [heard, told]
