"""What happens in a run, written down: decisions, callbacks, and what its store has committed.

The ledger of callbacks is written by the callbacks themselves, outside of the engine's bookkeeping. Laws that
can be checked the moment something happens are checked here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from durable.observers import Observer
from durable.records import End, MemoState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from durable import Context
    from durable.records import Commit, Memo

Key = tuple[str, int]
RESULTS = (MemoState.VALUE, MemoState.ERROR)
PICKED_UP = ("got", "error")


@dataclass(frozen=True)
class Violation:
    """A law was broken."""

    law: str
    text: str

    def __str__(self) -> str:
        return f"{self.law}: {self.text}"


class Execution:
    """One execution of a part of a program: how it ended, and those of its parts."""

    __slots__ = ("node", "outcome", "parts", "role")

    def __init__(self, node: Any, role: str = "") -> None:
        self.node = node
        self.role = role
        self.parts: list[Execution] = []
        self.outcome: tuple[str, Any] | None = None

    def of(self, role: str) -> list[Execution]:
        """Its parts in that role."""
        return [part for part in self.parts if part.role == role]


class Pass:
    """One call of the handler: the decisions that it takes, in order."""

    def __init__(self, book: RunBook, ctx: Context) -> None:
        self.book = book
        self.ctx = ctx
        self.attempt = len(book.journals)
        self.trace: list[tuple[Any, ...]] = []
        self.counts: Counter[str] = Counter()
        self.given = frozenset(book.rounds)
        """Steps whose results were committed when it began."""
        self.given_up = frozenset(key for key, states in book.known.items() if states - set(RESULTS))
        """Steps whose withdrawals were."""
        self.rounds = dict(book.rounds)
        self.recorded: set[Key] = set()
        self.cancelled: list[Key] = []
        self.activity = 0
        self.root = Execution(None)
        self.outcome: tuple[str, Any] | None = None
        self.rested = False

    def key(self, step: str) -> Key:
        """The identity of a step that is being met, counted as the engine counts."""
        index = self.counts[step]
        self.counts[step] += 1
        return step, index

    def note(self, *decision: Any) -> None:
        """A decision of the handler; what it does while it is unwound is none."""
        self.activity += 1
        self.book.book.progress += 1
        if not self.ctx.evicting:
            self.trace.append(decision)
            if decision[0] == "cancelled":
                self.cancelled.append(decision[1])

    def index_of_round(self, number: int) -> int:
        """Where in the trace the first result of round `number` or a later one was picked up."""
        for index, decision in enumerate(self.trace):
            if decision[0] in PICKED_UP and self.rounds.get(decision[1], 0) >= number:
                return index
        return len(self.trace)

    def agreed(self, kept: Iterable[Key], given_up: Iterable[Key]) -> int:
        """How much of the trace has to come again when only these results are `kept`: whole rounds.

        With real-time limits also only as far as cancellations are known: nothing else brings them again.
        """
        kept = set(kept)
        lost = [number for key, number in self.rounds.items() if key not in kept]
        length = self.index_of_round(min(lost)) if lost else len(self.trace)
        if self.book.book.timed:
            known = set(given_up)
            for index, decision in enumerate(self.trace[:length]):
                if decision[0] == "cancelled" and decision[1] not in known:
                    return index
        return length


@dataclass
class RunBook:
    """All that is known of one run."""

    book: Book
    run: str
    journal: list[Memo] = field(default_factory=list)
    """What is committed, in order."""
    known: dict[Key, set[MemoState]] = field(default_factory=dict)
    rounds: dict[Key, int] = field(default_factory=dict)
    """The rounds of the results that are committed."""
    passes: list[Pass] = field(default_factory=list)
    starts: Counter[tuple[Key, int]] = field(default_factory=Counter)
    ends: Counter[Key] = field(default_factory=Counter)
    journals: list[list[Memo]] = field(default_factory=list)
    """The journals with which attempts of the handler ended."""
    armed: set[Key | None] = field(default_factory=set)
    """Steps that have got a timer or a wait which was not dropped."""
    end: End | None = None
    loaded: set[Key] = field(default_factory=set)
    """Steps that it knew before its first life."""

    def load(self, memos: Iterable[Memo]) -> None:
        """The run begins with these memos."""
        for memo in memos:
            self._add(memo)
            self.loaded.add((memo.step, memo.index))

    def _add(self, memo: Memo) -> None:
        self.journal.append(memo)
        key = (memo.step, memo.index)
        self.known.setdefault(key, set()).add(memo.state)
        if memo.state in RESULTS:
            self.rounds[key] = memo.round

    def violate(self, law: str, text: str) -> None:
        """A law was broken in this run."""
        self.book.violations.append(Violation(law, f"run {self.run[-4:]}, pass {len(self.passes)}: {text}"))

    # ------------------------------------------------------------ callbacks

    def began(self, at: Pass, key: Key, attempt: int, met: int) -> None:
        """A callback begins; `met`: the length of the trace when the handler met its step."""
        self.book.progress += 1
        at.activity += 1
        self.starts[key, attempt] += 1
        states = self.known.get(key, set())
        if states & set(RESULTS):
            self.violate("L2", f"the callback of {key} runs although its result is committed")
        elif states:
            self.violate("L3", f"the callback of {key} runs although its withdrawal is committed")
        for what, about, *_ in at.trace[:met]:
            if what in PICKED_UP and not self.known.get(about, set()) & set(RESULTS):
                self.violate("L2", f"the callback of {key} runs before the result of {about} is committed")
            if what == "cancelled" and not self.known.get(about):
                self.violate("L3", f"the callback of {key} runs before {about} is committed as withdrawn")

    def ended(self, at: Pass, key: Key) -> None:
        """A callback has had its effect."""
        self.book.progress += 1
        at.activity += 1
        self.ends[key] += 1

    # ------------------------------------------------------------ commits

    def committed(self, commit: Commit) -> None:
        """The store has accepted a commit."""
        self.armed -= {_key(ref) for ref in commit.drop}
        for ref in (*(one.ref for one in commit.timers), *(one.ref for one in commit.waits)):
            key = _key(ref)
            if key is None:
                continue
            if self.known.get(key):
                self.violate("L3", f"{key} gets a timer or a wait, although it is settled: {self.known[key]}")
            if key in self.armed:
                self.violate("L2", f"{key} gets a timer or a wait again, although it has one")
            self.armed.add(key)
        if commit.attempt:
            self.journals.append(list(self.journal))
        if commit.forget:
            self.journal = [memo for memo in self.journal if memo.state in RESULTS]
            self.known = {(memo.step, memo.index): {memo.state} for memo in self.journal}
        for memo in commit.memos:
            states = self.known.get((memo.step, memo.index), set())
            if memo.state in RESULTS and states:
                self.violate("L2", f"{memo.step, memo.index} is recorded again: {states}, now {memo.state}")
            if self.journal and self.journal[-1].position >= memo.position:
                self.violate("journal", f"positions {self.journal[-1].position}, {memo.position}")
            if self.journal and self.journal[-1].round > memo.round:
                self.violate("journal", f"rounds {self.journal[-1].round}, {memo.round}")
            self._add(memo)
        if isinstance(commit.then, End):
            self._over(commit.then)

    def _over(self, end: End) -> None:
        self.end = end
        if not self.passes:
            return
        last = self.passes[-1]
        late = [one for one in last.recorded if not self.known.get(one, set()) & set(RESULTS)]
        late += [one for one in last.cancelled if not self.known.get(one)]
        if late:
            self.violate("L2", f"the run ends before what became of {late} is committed")
        if end.unmet and not last.attempt:
            self.violate("L1", f"the run ends without meeting {end.unmet}")


def _key(ref: str) -> Key | None:
    step, separator, index = ref.rpartition("#")
    return (step, int(index)) if separator else None


class Book(Observer):
    """All runs of one history of lives. Also the observer that hears of results before they are written."""

    def __init__(self, random: Random, *, timed: bool = False) -> None:
        self.random = random
        self.timed = timed
        """Whether the handlers have limits in real time, so that not only results decide."""
        self.runs: dict[str, RunBook] = {}
        self.violations: list[Violation] = []
        self.progress = 0

    def jitter(self) -> int:
        """So many turns longer does a callback take this time."""
        return self.random.choice((0, 0, 1, 2))

    def of(self, run: str) -> RunBook:
        """The book of a run."""
        found = self.runs.get(run)
        if found is None:
            found = self.runs[run] = RunBook(self, run)
        return found

    def called(self, ctx: Context) -> Pass:
        """A handler is called."""
        book = self.of(ctx.run_id)
        made = Pass(book, ctx)
        book.passes.append(made)
        self.progress += 1
        return made

    def step_ended(self, run_id: str, memo: Memo) -> None:
        book = self.runs.get(run_id)
        if book is not None and book.passes:
            last, key = book.passes[-1], (memo.step, memo.index)
            last.rounds[key] = memo.round
            last.recorded.add(key)

    def run_parked(self, run_id: str, function: str) -> None:
        book = self.runs.get(run_id)
        if book is not None and book.passes:
            book.passes[-1].rested = True

    def run_resumed(self, run_id: str, function: str) -> None:
        book = self.runs.get(run_id)
        if book is not None and book.passes:
            book.passes[-1].rested = False
