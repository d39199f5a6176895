"""The crash sweep: each handler of the corpus dies at each of its writes, goes on, and is looked at.

What must hold, whatever the moment of death:

- nothing runs twice in one life, nothing runs again that was recorded when the process died, and what was in
  flight runs once more for each death at most;
- a callback begins only when all that its handler had been told before is recorded; so is a run's end;
- what the handlers' own code does is repeated from the top, and never lost;
- runs, events and journals are in the end what they are without any crash; each journal has each step once;
- a run that has ended leaves nothing behind, and the engine logs no error.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from attrs import field, frozen, mutable

import durable
from durable.records import EventQuery, MemoState, RunQuery
from durable.testing import TestEngine
from durable.testing.faults import NEVER_LATE, Death, Moment, Witness, live_on
from tests.crash.ledger import Ledger, Recorded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from durable.records import History, StoredEvent
    from durable.store import Store

__all__ = ["CASES", "Case", "Report", "World", "case", "sweep", "sweep_case"]

Scenario = Any
Handler = Any

_ULID = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b")
_VARYING = frozenset({"stack", "ts", "fired_at"})
"""What may differ from life to life in data: stacks, and times after a late start."""


# ---------------------------------------------------------------- the corpus


class World:
    """One try: a ledger, and what the handlers and the scenario of a case share."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.events: dict[str, asyncio.Event] = {}
        self.functions: list[durable.Function[Any]] = []

    def function(self, id: str, **options: Any) -> Callable[[Handler], durable.Function[Any]]:
        """`durable.function` for handlers that take a `Recorded`; an `on_failure` handler, too."""
        if "on_failure" in options:
            options["on_failure"] = self.recorded(options["on_failure"])
        options.setdefault("backoff", durable.Backoff("1m", jitter=0))

        def decorate(handler: Handler) -> durable.Function[Any]:
            made = durable.function(id, **options)(self.recorded(handler))
            self.functions.append(made)
            return made

        return decorate

    def recorded(self, handler: Handler) -> Handler:
        """A handler that is given a context which writes everything down."""

        async def called(ctx: durable.Context) -> Any:
            book = Recorded(self.ledger, ctx)
            value = await handler(book)
            book.returned()
            return value

        return called

    def shared(self, name: str) -> asyncio.Event:
        """An `asyncio.Event` of this life, by which a callback and the scenario meet."""
        return self.events.setdefault(name, asyncio.Event())


class Build(Protocol):
    """Makes the functions of a case in a world, and returns its scenario."""

    def __call__(self, world: World) -> Callable[[TestEngine], Awaitable[Any]]: ...


@frozen
class Case:
    """One handler, or some that work together; `options` are the engine's."""

    name: str
    build: Build
    options: dict[str, Any]
    moments: tuple[Moment, ...] = tuple(Moment)


CASES: list[Case] = []


def case(name: str, *, in_order: bool = False, **options: Any) -> Callable[[Build], Build]:
    """Put a case into the corpus. `in_order`: its scenario sends things that must not overtake each other."""
    moments = (Moment.BEFORE, Moment.AFTER) if in_order else tuple(Moment)

    def add(build: Build) -> Build:
        CASES.append(Case(name, build, options, moments))
        return build

    return add


# ---------------------------------------------------------------- what is compared


def _plain(value: bytes | None) -> Any:
    return None if value is None else _without_chance(orjson.loads(value))


def _without_chance(value: Any) -> Any:
    """JSON without ids and times that differ each time."""
    if isinstance(value, dict):
        return {key: _without_chance(one) for key, one in value.items() if key not in _VARYING}
    if isinstance(value, list):
        return [_without_chance(one) for one in value]
    return _ULID.sub("<id>", value) if isinstance(value, str) else value


def _text(*parts: Any) -> str:
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS).decode()


@mutable
class Snapshot:
    """Everything that a store holds, raw and as it is compared."""

    histories: list[History] = field(factory=list)
    events: Sequence[StoredEvent] = ()

    @classmethod
    async def of(cls, store: Store) -> Snapshot:
        """Read all of it."""
        found = [await store.history(one.run.id) for one in await store.runs(RunQuery(limit=1000))]
        events = await store.events(EventQuery(limit=1000))
        return cls([one for one in found if one is not None], events)

    def runs(self) -> Counter[str]:
        """The runs: of which event, how they stand, what came of them, what they remember."""
        return Counter(
            _text(
                one.run.function,
                [(event.name, _plain(event.data)) for event in one.events],
                one.run.status,
                _plain(one.run.output),
                _plain(one.run.error),
                one.run.reason and _ULID.sub("<id>", one.run.reason),
                one.run.parent is not None,
                one.run.origin is not None,
                sorted(_text(*_memo(memo)) for memo in one.memos),
            )
            for one in self.histories
        )

    def stored_events(self) -> Counter[str]:
        """The events, by name and data, and by the id that their senders gave."""
        return Counter(_text(one.name, _without_chance(one.id), _plain(one.data)) for one in self.events)

    def recorded(self) -> set[tuple[str, tuple[str, int]]]:
        """The steps that have a memo."""
        return {(one.run.id, (memo.step, memo.index)) for one in self.histories for memo in one.memos}

    def attempted(self, run: str, step: tuple[str, int]) -> int:
        """How many attempts of a step are known to have failed, because the next one is timed."""
        for one in self.histories:
            if one.run.id == run:
                timers = [timer for timer in one.timers if timer.ref == f"{step[0]}#{step[1]}"]
                timers += [fired.timer for fired in one.fired if fired.timer is not None]
                return max((t.attempt for t in timers if t.ref == f"{step[0]}#{step[1]}"), default=0)
        return 0


def _memo(memo: Any) -> tuple[Any, ...]:
    return memo.step, memo.index, memo.kind, memo.state.name, _plain(memo.value), memo.attempts


# ---------------------------------------------------------------- one try


class Trial(Witness):
    """One try of one case: told of its lives by `live_on`, and the judge of what they left."""

    def __init__(self, case: Case, like: Trial | None = None) -> None:
        self.world = World()
        self.scenario = case.build(self.world)
        self.final = Snapshot()
        self.violations: list[str] = []
        self._like = like
        self._deaths = 0
        self._recorded: dict[tuple[str, tuple[str, int], int], int] = {}
        """What was recorded when a process died, and in which life that was."""

    # -------------------------------------------------- told by `live_on`

    def born(self, life: int) -> None:
        """See `Witness`."""
        self.world.ledger.life, self.world.ledger.dead = life, False
        self.world.events.clear()

    def died(self) -> None:
        """See `Witness`."""
        self.world.ledger.dead = True
        self._deaths += 1

    async def left_behind(self, store: Store) -> None:
        """See `Witness`: what has begun rests on what is recorded."""
        found = await Snapshot.of(store)
        self._check_order(found)
        recorded = found.recorded()
        ledger = self.world.ledger
        for one in ledger.effects:
            if (one.run, one.step) in recorded or one.attempt < found.attempted(one.run, one.step):
                self._recorded.setdefault(one.name, ledger.life)
        self._check_journals(found)

    async def ended(self, store: Store) -> None:
        """See `Witness`: everything is as it would be without a crash."""
        self.world.ledger.dead = True
        self.final = found = await Snapshot.of(store)
        self._check_order(found)
        self._check_journals(found)
        self._check_counts()
        self._check_rest(found)
        if self._like is not None:
            self._check_alike(self._like)

    # -------------------------------------------------- what must hold

    def violate(self, text: str) -> None:
        """Something does not hold."""
        self.violations.append(text)

    def _check_order(self, found: Snapshot) -> None:
        """Callbacks begin, and runs end, when what their handler had been told is recorded."""
        ledger = self.world.ledger
        recorded = found.recorded()
        for one in ledger.effects:
            missing = [step for step in one.told if (one.run, step) not in recorded]
            if one.life == ledger.life and missing:
                self.violate(f"the callback of {one.step} began before {missing} was recorded")
        for history in found.histories:
            passes = [one for one in ledger.passes if one.run == history.run.id]
            if history.run.status in ("completed", "failed") and passes:
                missing = [step for step in passes[-1].told if (history.run.id, step) not in recorded]
                if missing:
                    self.violate(f"{history.run.function} has ended, and {missing} is not recorded")

    def _check_journals(self, found: Snapshot) -> None:
        for one in found.histories:
            results = [m for m in one.memos if m.state in (MemoState.VALUE, MemoState.ERROR)]
            twice = [key for key, n in Counter((m.step, m.index) for m in results).items() if n > 1]
            places = [memo.position for memo in one.memos]
            rounds = [memo.round for memo in one.memos]
            if twice or len(set(places)) < len(places) or places != sorted(places):
                self.violate(f"the journal of {one.run.function} holds {twice} twice; positions {places}")
            if rounds != sorted(rounds):
                self.violate(f"the journal of {one.run.function} counts its rounds backwards: {rounds}")
            if one.run.status.ended and (one.timers or one.waits or one.fired):
                left = [*one.timers, *one.waits, *one.fired]
                self.violate(f"{one.run.function} has ended, and leaves {left}")

    def _check_counts(self) -> None:
        ledger = self.world.ledger
        lives = Counter((one.life, one.name) for one in ledger.effects)
        for (life, name), times in lives.items():
            if times > 1:
                self.violate(f"{name[1:]} was executed {times} times in life {life + 1}")
        for name, times in ledger.counts().items():
            if times > 1 + self._deaths:
                self.violate(f"{name[1:]} was executed {times} times, with {self._deaths} deaths")

    def _check_rest(self, found: Snapshot) -> None:
        for one in self.world.ledger.effects:
            if one.life > self._recorded.get(one.name, one.life):
                self.violate(f"{one.name[1:]} was recorded when the process died, and ran again")
        open_runs = [one.run.function for one in found.histories if not one.run.status.ended]
        if open_runs:
            self.violate(f"these runs have not ended: {open_runs}")

    def _check_alike(self, like: Trial) -> None:
        """As without a crash: effects, what handlers noted, runs, journals, events."""
        for what, mine, theirs in (
            ("effects", _effects(self), _effects(like)),
            ("notes", _notes(self), _notes(like)),
            ("runs", self.final.runs(), like.final.runs()),
            ("events", self.final.stored_events(), like.final.stored_events()),
        ):
            if mine != theirs:
                self.violate(
                    f"{what} differ from those without a crash:\n"
                    f"    too many: {dict(mine - theirs)}\n    missing: {dict(theirs - mine)}"
                )


def _effects(trial: Trial) -> Counter[str]:
    """What was executed at all, per function; each thing once."""
    function = {one.run: one.function for one in trial.world.ledger.passes}
    event = _events(trial)
    names = trial.world.ledger.counts()
    return Counter(_text(function[run], event.get(run), step, attempt) for run, step, attempt in names)


def _notes(trial: Trial) -> Counter[str]:
    """What the last call of each handler noted."""
    last = {one.run: one for one in trial.world.ledger.passes}
    event = _events(trial)
    return Counter(_text(one.function, event.get(run), one.notes) for run, one in last.items())


def _events(trial: Trial) -> dict[str, Any]:
    return {one.run.id: _plain(one.events[0].data) for one in trial.final.histories}


# ---------------------------------------------------------------- the sweep


class _Errors(logging.Handler):
    """What durable logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        why = record.exc_info[1] if record.exc_info else None
        self.said.append(record.getMessage() + (f" ({why!r})" if why else ""))


@mutable
class Report:
    """What a sweep has found."""

    handlers: int = 0
    points: int = 0
    violations: list[str] = field(factory=list)

    def add(self, other: Report) -> None:
        """Put another sweep's findings to these."""
        self.handlers += other.handlers
        self.points += other.points
        self.violations += other.violations

    def __str__(self) -> str:
        return f"{self.handlers} handlers, {self.points} crash points, {len(self.violations)} violations"


async def sweep_case(
    case: Case,
    store: Callable[[], Store | Callable[[], Store]],
    *,
    deaths: Sequence[Sequence[Death]] | None = None,
    most: int = 1000,
) -> Report:
    """Let one case die at each write, or as `deaths` say; `store` gives each try an empty store."""
    report = Report(1)
    errors = _Errors()
    log = logging.getLogger("durable")
    log.addHandler(errors)
    asyncio.get_running_loop().set_exception_handler(lambda _, about: errors.said.append(f"asyncio: {about}"))

    async def attempt(like: Trial | None, *dying: Death) -> list[str]:
        trial = Trial(case, like)
        died: list[str] = []
        try:
            died = await live_on(
                _settled(trial),
                functions=trial.world.functions,
                store=store(),
                deaths=dying,
                witness=trial,
                **case.options,
            )
        except Exception as error:
            trial.violate(f"{type(error).__name__}: {error}")
        trial.violations += [f"logged: {text}" for text in errors.said]
        errors.said.clear()
        how = " and ".join(f"{one} ({name})" for one, name in zip(dying, [*died, "?", "?"], strict=False))
        report.points += len(died)
        report.violations += [f"{case.name}, died {how or 'never'}: {text}" for text in trial.violations]
        if like is None:
            reference.append(trial)
        return died

    reference: list[Trial] = []
    try:
        await attempt(None)
        if report.violations:
            return report
        if deaths is not None:
            for one in deaths:
                await attempt(reference[0], *one)
            return report
        for at in range(1, most):
            died = [
                await attempt(reference[0], Death(at, moment)) for moment in (Moment.BEFORE, Moment.AFTER)
            ]
            if Moment.LATE in case.moments and died[0] and died[0][0] not in NEVER_LATE:
                await attempt(reference[0], Death(at, Moment.LATE))
            if not any(died) or len(report.violations) > 5:
                break
    finally:
        log.removeHandler(errors)
        asyncio.get_running_loop().set_exception_handler(None)
    return report


def _settled(trial: Trial) -> Callable[[TestEngine], Awaitable[None]]:
    """The scenario, and what it has set going."""

    async def scenario(engine: TestEngine) -> None:
        await trial.scenario(engine)
        await engine.until_idle()

    return scenario


async def sweep(
    cases: Sequence[Case], store: Callable[[], Store | Callable[[], Store]], **options: Any
) -> Report:
    """Sweep some cases."""
    report = Report()
    for one in cases:
        report.add(await sweep_case(one, store, **options))
    return report
