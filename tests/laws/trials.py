"""A trial of one program: a calm life, replays of prefixes of its journal, and histories full of faults."""

from __future__ import annotations

import gc
import warnings
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from durable.ids import Ulids
from durable.records import Admission, NewEvent, Plan
from tests.laws import laws
from tests.laws.interpreter import handler_of
from tests.laws.lives import Life, World
from tests.laws.recorder import RESULTS, Book

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable.records import Memo
    from durable.runs import Run
    from durable.testing import TestEngine
    from tests.laws.programs import Program
    from tests.laws.recorder import RunBook, Violation

MOST_PREFIXES = 13
_MOST_LIVES = 12


@dataclass
class Report:
    """What a trial, or many of them, came to."""

    handlers: int = 0
    lives: int = 0
    replays: int = 0
    steps: int = 0
    violations: list[Violation] = field(default_factory=list)
    history: str = ""

    def __str__(self) -> str:
        return (
            f"{self.handlers:,} handlers, {self.steps:,} memos, {self.lives:,} lives of engines, "
            f"{self.replays:,} replays, {len(self.violations)} violations"
        )

    def add(self, other: Report) -> None:
        """Count another trial in."""
        self.handlers += other.handlers
        self.lives += other.lives
        self.replays += other.replays
        self.steps += other.steps
        self.violations += other.violations


class Trial:
    """Tries one handler.

    Args:
        make: Gives the handler as a durable function that writes into a book.
        seed: What all faults are drawn from.
        may: Whether the handler may have that outcome (L4), where its tree does not tell.
        histories: How many histories full of faults.
        timed: Whether the handler has limits in real time that no replay repeats by itself.
        burials: Whether engines are also taken for dead while they live.
    """

    def __init__(
        self,
        make: Callable[[Book], Any],
        seed: int,
        *,
        may: Callable[[tuple[str, Any]], bool] | None = None,
        histories: int = 3,
        timed: bool = False,
        burials: bool = True,
    ) -> None:
        self._make = make
        self._timed = timed
        self._faults = ("crash", "crash", "refuse", "stop") if burials else ("crash", "crash", "stop")
        self._may = may
        self._random = Random(seed)
        self._histories = histories
        self._writes = 0
        self.report = Report(handlers=1)

    @classmethod
    def of(cls, program: Program, seed: int) -> Trial:
        """The trial of a generated handler."""
        return cls(lambda book: handler_of(program, book), seed, timed=program.timed)

    async def run(self) -> Report:
        """All of it, until a law is broken."""
        gc.collect()
        gc.freeze()  # a trial collects after each of its histories, and what is older is none of its garbage
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "function .* is used by parallel branches at once")
            base = await self._calm()
            if base is not None and not self.report.violations:
                await self._prefixes(base)
            for _ in range(self._histories):
                if self.report.violations:
                    break
                await self._history()
        return self.report

    def _world(self) -> tuple[World, Any]:
        book = Book(Random(self._random.random()), timed=self._timed)
        function = self._make(book)
        return World(book, Random(self._random.random()), [function]), function

    async def _finish(self, world: World, *, interruptions: int) -> None:
        book = world.book
        for one in book.runs.values():
            laws.replays_agree(one)
            laws.rounds_grow(one)
            laws.ends_well(one, interruptions=interruptions)
            outcome = one.passes[-1].outcome if one.passes else None
            if self._may is not None and outcome is not None and not self._may(outcome):
                one.violate("L4", f"the handler can never result in {outcome}")
        await world.check_effects()
        world.check_garbage()
        self.report.replays += sum(max(0, len(one.passes) - 1) for one in book.runs.values())
        self.report.violations += book.violations

    # ------------------------------------------------------------ one life, and what it has recorded

    async def _calm(self) -> RunBook | None:
        world, function = self._world()
        life = Life(turns=self._random.choice((0, 2, 5, 9)))
        self.report.history = str(life)
        with world.noise:
            ended = await world.live(life, _starting(function))
            self.report.lives += 1
            self._writes = world.writes
            await self._finish(world, interruptions=0)
        if not ended or not world.book.runs:
            return None
        book = next(iter(world.book.runs.values()))
        self.report.steps += len(book.journal)
        if len(book.passes) != 1 + len(book.journals):
            book.violate("L1", f"{len(book.passes)} passes in a calm life")
        return book

    # ------------------------------------------------------------ prefixes of its journal

    async def _prefixes(self, base: RunBook) -> None:
        journal = base.journals[0] if base.journals else base.journal
        lengths = list(range(len(journal) + 1))
        if len(lengths) > MOST_PREFIXES:
            lengths = [*sorted(self._random.sample(lengths[:-1], MOST_PREFIXES - 1)), len(journal)]
        world, function = self._world()
        runs = await _planted(world, function, [journal[:length] for length in lengths])
        life = Life(turns=self._random.choice((0, 2, 5, 9)))
        self.report.history = f"prefixes {lengths} of {shown(journal)}; {life}"

        async def begin(engine: TestEngine) -> list[Run]:
            return [await engine.get_run(run) for run in runs]

        with world.noise:
            await world.live(life, begin)
            self.report.lives += 1
            self.report.replays += len(runs)
            await self._finish(world, interruptions=0)
        former = base.passes[0]
        for run, length in zip(runs, lengths, strict=True):
            book = world.book.of(run)
            if not book.passes:
                continue
            kept = [(memo.step, memo.index) for memo in journal[:length] if memo.state in RESULTS]
            before = len(world.book.violations)
            given_up = [(memo.step, memo.index) for memo in journal[:length] if memo.state not in RESULTS]
            laws.compare(book, former, book.passes[0], former.agreed(kept, given_up))
            if length == len(journal) and not base.journals:
                if book.starts:
                    book.violate("L2", f"a replay of the whole journal has called {list(book.starts)}")
                if book.passes[0].outcome != former.outcome:
                    book.violate("L1", f"outcome {former.outcome}, in the replay {book.passes[0].outcome}")
            if len(world.book.violations) > before:
                self.report.history = f"prefix {shown(journal[:length])} of {shown(journal[length:])}; {life}"
        self.report.violations = world.book.violations

    # ------------------------------------------------------------ faults

    async def _history(self) -> None:
        world, function = self._world()
        interruptions = 0
        told: list[str] = []
        with world.noise:
            for number in range(_MOST_LIVES):
                life = self._life(number)
                told.append(str(life))
                self.report.history = "\n  ".join(told)
                self.report.lives += 1
                ended = await world.live(life, _starting(function))
                interruptions += 1 if not ended or life.fault == "refuse" else 0
                if ended or world.book.violations:
                    break
            await self._finish(world, interruptions=interruptions)

    def _life(self, number: int) -> Life:
        random = self._random
        life = Life(turns=random.choice((0, 0, 2, 5, 9)))
        if number < 4 and random.random() < 0.75:
            life.fault = random.choice(self._faults)
            life.at = random.randint(1, max(4, self._writes))
            life.after = random.random() < 0.5
        if random.random() < 0.5:
            life.options["max_warm"] = 0
        if random.random() < 0.25:
            life.every_step = True
        if random.random() < 0.2:
            life.outdate = random.randint(1, max(4, self._writes // 2))
        return life


def shown(journal: list[Memo]) -> str:
    """A journal in one line: step, index, round, and what became of it."""
    return "[" + " ".join(f"{m.step}.{m.index}@{m.round}{_LETTERS[m.state.name]}" for m in journal) + "]"


_LETTERS = {"VALUE": "", "ERROR": "!", "WITHDRAWN": "-", "LATE": "~"}


def _starting(function: Any) -> Callable[[TestEngine], Any]:
    async def begin(engine: TestEngine) -> list[Run]:
        return [await engine.start(function, {}, id="the-one")]

    return begin


async def _planted(world: World, function: Any, journals: list[list[Memo]]) -> list[str]:
    """Runs that already know these memos."""
    ulids = Ulids(Random(0))
    now = world.clock.now_ms()
    await world.store.open()
    runs: list[str] = []
    admissions: list[Admission] = []
    for journal in journals:
        run = ulids.new(now)
        world.book.of(run).load(journal)
        plan = Plan(f"app/{function.id}", run, now, memos=tuple(journal))
        event = NewEvent(ulids.new(now), "durable/function.invoked", now, b"{}")
        admissions.append(Admission(event, (plan,), registry=10**9))
        runs.append(run)
    await world.store.admit(now, admissions, None)
    return runs
