"""The journal of a run: step identity, memo lookup, drift, and the order of delivery.

Pure bookkeeping over `Memo`s. It decides what a step that is met *is* (remembered, withdrawn, fresh) and
which remembered results come next; when they are delivered, and to whom, is the session's business. It may
not know tasks, futures, stores or clocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.errors import NondeterminismError
from durable.records import Memo, MemoState, StepKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Entry", "Journal", "Key"]

Key = tuple[str, int]
"""A step's identity: the id as its author wrote it, and how often it had been met before."""


class Entry:
    """What the journal knows of one step.

    `memo` is its result (``None``: it was withdrawn without one). A `withdrawn` entry is never delivered; the
    await of a `late` one was cancelled between delivery and pick-up, and must be so again.
    """

    __slots__ = ("delivered", "late", "memo", "met", "withdrawn")

    def __init__(self, memo: Memo | None) -> None:
        self.memo = memo
        self.withdrawn = False
        self.late = False
        self.delivered = False
        self.met = False


class Journal:
    """The recorded past of one run, and what the present pass adds to it."""

    __slots__ = ("_counts", "_entries", "_first_open", "_kinds", "_order", "position", "round", "steps")

    def __init__(self, memos: Iterable[Memo] = ()) -> None:
        self._entries: dict[Key, Entry] = {}
        self._kinds: dict[Key, StepKind] = {}
        self._order: list[tuple[Key, Entry]] = []
        self._first_open = 0
        self._counts: dict[str, int] = {}
        self.position = 0
        self.round = 1
        self.steps = 0
        for memo in memos:
            self._load(memo)

    def _load(self, memo: Memo) -> None:
        key = (memo.step, memo.index)
        entry = self._entries.get(key)
        if memo.state in (MemoState.VALUE, MemoState.ERROR):
            entry = self._entries[key] = Entry(memo)
            self._order.append((key, entry))
            self.steps += 1
        else:
            if entry is None:
                entry = self._entries[key] = Entry(None)
            if memo.state is MemoState.WITHDRAWN:
                entry.withdrawn = True
            else:
                entry.late = True
        self._kinds[key] = memo.kind
        self.position = memo.position + 1
        self.round = max(self.round, memo.round + 1)

    @property
    def exhausted(self) -> bool:
        """Whether every result that was recorded before this pass has been delivered."""
        order = self._order
        while self._first_open < len(order):
            entry = order[self._first_open][1]
            if not (entry.delivered or entry.withdrawn):
                return False
            self._first_open += 1
        return True

    def begun(self, ref: str, kind: StepKind | None) -> None:
        """A step that is not remembered yet has a timer or a wait, named `ref`: of its kind it stays."""
        step, _, index = ref.rpartition("#")
        if kind is not None and index:
            self._kinds.setdefault((step, int(index)), kind)

    # ------------------------------------------------------------ meeting a step

    def identify(self, step: str) -> Key:
        """Count this use of `step`, in call order."""
        index = self._counts.get(step, 0)
        self._counts[step] = index + 1
        return step, index

    def meet(self, key: Key, kind: StepKind) -> Entry | None:
        """What is known of a step that the handler has met, or ``None`` if it is fresh.

        Raises:
            NondeterminismError: Another kind of step is recorded under this id.
        """
        recorded = self._kinds.get(key)
        if recorded is None:
            return None
        if recorded is not kind:
            raise NondeterminismError(
                f"step {key[0]!r} (repetition {key[1]}) was recorded as {recorded.value!r}, and now the code "
                f"calls {kind.value!r} under that id: give the new step an id of its own, or roll the code back"
            )
        entry = self._entries.get(key)
        if entry is not None:
            entry.met = True
        return entry

    # ------------------------------------------------------------ delivering

    def next_round(self, awaited: Callable[[Key], bool]) -> list[tuple[Key, Entry]]:
        """The recorded results to deliver next: those awaited, of the first round that has an awaited one.

        A result that is recorded earlier and not awaited is passed over: the code may have
        changed, or awaits something else first.
        """
        if self.exhausted:
            return []
        found: list[tuple[Key, Entry]] = []
        number = 0
        for key, entry in self._order[self._first_open :]:
            if entry.delivered or entry.withdrawn or not awaited(key):
                continue
            memo = entry.memo
            assert memo is not None
            if found and memo.round != number:
                break
            number = memo.round
            found.append((key, entry))
        return found

    # ------------------------------------------------------------ recording

    def record(
        self,
        key: Key,
        kind: StepKind,
        state: MemoState,
        *,
        value: bytes | None = None,
        digest: bytes | None = None,
        attempts: int = 1,
        started: int = 0,
        ended: int = 0,
    ) -> Memo:
        """Append an entry. Its round is fixed now: all that is recorded before the next delivery shares it."""
        memo = Memo(
            self.position, key[0], key[1], kind, self.round, state, value, digest, attempts, started, ended
        )
        self.position += 1
        if state is MemoState.VALUE or state is MemoState.ERROR:
            self.steps += 1
        return memo

    def delivered(self) -> None:
        """A round was delivered: what is recorded from now on belongs to the next."""
        self.round += 1

    def unmet(self) -> tuple[str, ...]:
        """Steps whose results are recorded, and which the code did not meet in this pass."""
        return tuple(
            step if index == 0 else f"{step} ({index})"
            for (step, index), entry in self._entries.items()
            if not entry.met and not entry.withdrawn
        )
