"""Do the same to a store and to the model, and compare: every answer, and then everything that can be read.

This module may not know how histories are made.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from attrs import frozen
from msgspec import Struct
from msgspec.structs import fields, replace

from durable.records import Admission, Admitted, Claim, Claimed, Commit, Committed, End, EventQuery, RunQuery
from durable.testing.exam.harness import Checked
from durable.testing.exam.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable.store import Store
    from durable.testing.exam.harness import Harness

__all__ = ["CURRENT", "Call", "DifferenceError", "Examiner", "is_tuple"]

CURRENT = -1
"""As `Admission.registry`: the version that the registry has when the call is made."""

_ALL = 100_000


@frozen
class Call:
    """One call of a door, as data, so that a history can be printed, and played again."""

    door: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.door}({', '.join(map(_shown, self.args))})"


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    """Whether it is a tuple, of anything."""
    return isinstance(value, tuple)


def _shown(value: Any) -> str:
    """A record as an expression without its defaults, so that a history can be read."""
    if is_tuple(value):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, Enum):
        return str(value) if type(value).__str__ is Enum.__str__ else repr(value.value)
    kind = cast("Any", type(value))
    if not isinstance(value, Struct):
        return repr(value)
    told = [
        f"{field.name}={_shown(getattr(value, field.name))}"
        for field in fields(kind)
        if getattr(value, field.name) != field.default
    ]
    return f"{kind.__name__}({', '.join(told)})"


class DifferenceError(AssertionError):
    """A store did something else than the model. `calls` is the history that led to it.

    Args:
        message: What differs.
        calls: All calls, the last of which went wrong.
    """

    def __init__(self, message: str, calls: Sequence[Call]) -> None:
        super().__init__(message)
        self.message = message
        self.calls = tuple(calls)

    def __str__(self) -> str:
        lines = "\n".join(f"  {number:3} {call}" for number, call in enumerate(self.calls))
        return f"{self.message}\nafter\n{lines}"


class Examiner:
    """A store and a model side by side. What was called is kept in `calls`.

    Args:
        harness: How the store is made.
        store: A store without any data, open.
        every: After how many calls the contents are compared, besides the answers.
    """

    def __init__(self, harness: Harness, store: Store, *, every: int = 1) -> None:
        self.harness = harness
        self.store = store
        self.model = Model()
        self.calls: list[Call] = []
        self._every = every

    async def play(self, call: Call) -> Any:
        """Make a call, compare, and return the answer.

        Raises:
            DifferenceError: The store's answer, or what it holds now, is not the model's.
        """
        self.calls.append(call)
        try:
            answer = await self._both(call)
            if len(self.calls) % self._every == 0:
                await self._compare_contents()
            if isinstance(self.store, Checked):
                await self.store.check()
        except DifferenceError:
            raise
        except Exception as error:
            raise DifferenceError(
                f"{call.door} raised {type(error).__name__}: {error}", self.calls
            ) from error
        return answer

    async def _both(self, call: Call) -> Any:
        match call.door:
            case "kill":
                await self.harness.kill(self.store, call.args[0])
                return self.model.sever(call.args[0])
            case "restart":
                living = [e.id for e in self.model.world.engines.values() if not (e.left or e.severed)]
                self.store = await self.harness.restart(self.store, living)
                for engine in living:
                    self.model.sever(engine)
                return None
            case "dead":
                found = set(await self.store.dead(*call.args))
                return self._same("dead", set(self.model.dead()), found)
            case _:
                pass
        args = tuple(self._with_registry(arg) for arg in call.args)
        answer = await getattr(self.store, call.door)(*args)
        if call.door == "admit":
            now, admissions, request = args
            taken = [d.history.run.id for d in answer.deliveries if isinstance(d, Claim)]
            expected = self.model.admit(now, admissions, request, taken=taken)
            return self._compare(call.door, expected, answer, *args)
        return self._compare(call.door, getattr(self.model, call.door)(*args), answer, *args)

    def _with_registry(self, arg: Any) -> Any:
        """The argument, with `CURRENT` replaced."""
        if isinstance(arg, Admission):
            return replace(arg, registry=self.model.world.version) if arg.registry == CURRENT else arg
        if isinstance(arg, Commit):
            return replace(arg, admit=self._with_registry(arg.admit), then=self._with_registry(arg.then))
        if isinstance(arg, End):
            return replace(arg, admit=self._with_registry(arg.admit))
        if is_tuple(arg):
            return tuple(self._with_registry(item) for item in arg)
        return arg

    # ------------------------------------------------------------ answers

    def _compare(self, door: str, expected: Any, answer: Any, *args: Any) -> Any:
        match expected, answer:
            case Admitted(), Admitted():
                self._same("admit, answers", expected.answers, answer.answers)
                self._same("admit, deliveries", expected.deliveries, answer.deliveries)
                self._compare_woke(expected.woke, answer.woke)
                self._compare_claimed_at_once(answer, *args)
            case Claimed(), Claimed():
                self._same("claim, deliveries", expected.deliveries, answer.deliveries)
                self._same("claim, candidates", expected.candidates, answer.candidates)
                self._same("claim, more", expected.more, answer.more)
                self._compare_woke(expected.woke, answer.woke)
                self._compare_next_due(args[0], expected.next_due, answer)
            case Committed(), Committed():
                self._same("commit, answers", expected.answers, answer.answers)
                self._same("commit, deliveries", expected.deliveries, answer.deliveries)
                self._compare_woke(expected.woke, answer.woke)
            case (first, frozenset()), (found, frozenset()):
                self._same(door, first, found)
                self._compare_woke(expected[1], answer[1])
            case _:
                self._same(door, expected, answer)
        return answer

    def _compare_woke(self, must: frozenset[str], woke: frozenset[str]) -> None:
        may = self.model.bounds.may_wake
        if not must <= woke <= may:
            self._differ(f"woke: {set(must)} <= {set(woke)} <= {set(may)} does not hold")

    def _compare_claimed_at_once(self, answer: Admitted, *args: Any) -> None:
        request = args[2]
        if request is None:
            return
        taken = {d.history.run.id for d in answer.deliveries if isinstance(d, Claim)}
        missing = self.model.bounds.must_claim - taken
        if missing and len(taken) < request.limit:
            self._differ(f"admit did not claim {missing} at once, whom nobody stands before")
        if len(taken) > request.limit:
            self._differ(f"admit claimed {len(taken)} runs, {request.limit} were asked for")

    def _compare_next_due(self, now: int, expected: int | None, answer: Claimed) -> None:
        found = answer.next_due
        if not self.model.bounds.throttled or found is None:
            self._same("claim, next_due", expected, found)
        elif found != expected and not now < found <= (expected or found):
            self._differ(f"claim, next_due: {found} is not in ({now}, {expected}]")

    # ------------------------------------------------------------ contents

    async def _compare_contents(self) -> None:
        store, model = self.store, self.model
        runs, events = RunQuery(limit=_ALL), EventQuery(limit=_ALL)
        self._same("registry", model.registry(), await store.registry())
        self._same("events", model.events(events), await store.events(events))
        self._same("runs", model.runs(runs), await store.runs(runs))

    async def finish(self) -> None:
        """Compare what is too much to compare each time: every run with its memos."""
        await self._compare_contents()
        for run in list(self.model.world.runs):
            expected, found = self.model.history(run), await self.store.history(run)
            self._same(f"history({run!r})", expected, found)

    def _same(self, what: str, expected: object, found: object) -> object:
        if expected != found:
            first = _first_difference(expected, found)
            self._differ(f"{what}: {first}")
        return found

    def _differ(self, message: str) -> None:
        raise DifferenceError(message, self.calls)


def _first_difference(expected: Any, found: Any) -> str:
    """Where two tuples differ first, so that one need not read a thousand equal things."""
    if is_tuple(expected) and is_tuple(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            if one != other:
                return f"item {number}:\n  expected {_shown(one)}\n  found    {_shown(other)}"
    return f"\n  expected {_shown(expected)}\n  found    {_shown(found)}"
