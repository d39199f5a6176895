"""What the ledger proves: a comparison of what the steps did with what the store says. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen

from durable.demo.ledger import BEGIN, EFFECT, ERROR, READY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable.demo.ledger import Entry

__all__ = ["Evidence", "Key", "Snapshot", "Tally", "in_flight", "weigh"]

Key: TypeAlias = tuple[str, str]
"""A step of a run: the run's id, and the step's."""


@frozen
class Snapshot:
    """What the store says at one moment: each run's function and status, and the steps it remembers.

    `committed` are steps that have a result, `failed` those among them whose result is an error.
    """

    functions: Mapping[str, str]
    statuses: Mapping[str, str]
    committed: frozenset[Key]
    failed: frozenset[Key] = frozenset()
    last_end: float = 0.0

    def count(self, *statuses: str) -> int:
        """How many runs have one of these statuses."""
        return sum(status in statuses for status in self.statuses.values())


@frozen
class Tally:
    """One line of the table: the runs of a function and their steps.

    `again` counts steps in flight at the kill that ran once more, as they must; `repeated` those that ran
    again although they were committed, or had more effects than the kill explains; `missing` those that the
    store remembers and that never had an effect.
    """

    function: str
    runs: int = 0
    completed: int = 0
    steps: int = 0
    retries: int = 0
    again: int = 0
    repeated: int = 0
    missing: int = 0

    @property
    def lost(self) -> int:
        """Runs that did not complete, and steps that are remembered but were never done."""
        return self.runs - self.completed + self.missing


@frozen
class Evidence:
    """The verdict. Times are seconds; ``None``: it did not happen."""

    tallies: Sequence[Tally]
    before: int
    in_flight: int
    after: int
    until_ready: float | None = None
    until_resumed: float | None = None
    until_done: float | None = None
    lines: int = 0

    @property
    def total(self) -> Tally:
        """All functions together."""
        names = ("runs", "completed", "steps", "retries", "again", "repeated", "missing")
        return Tally("all", *(sum(getattr(one, name) for one in self.tallies) for name in names))

    @property
    def holds(self) -> bool:
        """Whether nothing was lost and nothing repeated."""
        return self.total.lost == 0 and self.total.repeated == 0 and self.total.runs > 0


def in_flight(entries: Sequence[Entry], over: frozenset[str]) -> frozenset[Key]:
    """Steps that have begun, and of which no later line says one of the things in `over`."""
    begun: set[Key] = set()
    for one in entries:
        if one.what == BEGIN:
            begun.add((one.run, one.step))
        elif one.what in over:
            begun.discard((one.run, one.step))
    return frozenset(begun)


def weigh(
    entries: Sequence[Entry], at_kill: Snapshot, at_end: Snapshot, *, killed: int, restarted: float
) -> Evidence:
    """Hold the ledger against the store.

    Args:
        entries: The ledger.
        at_kill: The store between the two workers: what had been committed.
        at_end: The store at the end.
        killed: The process that was killed.
        restarted: When the next one was started.
    """
    first = [one for one in entries if one.pid == killed]
    rest = [one for one in entries if one.pid != killed and one.at >= restarted]
    # A step whose effect is noted but whose result was not committed yet is in flight, too.
    flying = in_flight(first, frozenset({ERROR})) - at_kill.committed
    done = Counter((one.run, one.step) for one in entries if one.what == EFFECT)
    begun_again = Counter((one.run, one.step) for one in rest if one.what == BEGIN)
    repeated = {
        key: _repeated(key, done[key], begun_again[key], at_kill.committed, flying)
        for key in done.keys() | begun_again.keys()
    }
    tallies: list[Tally] = []
    for function in sorted(set(at_end.functions.values())):
        runs = {run for run, name in at_end.functions.items() if name == function}
        tallies.append(
            Tally(
                function,
                runs=len(runs),
                completed=sum(at_end.statuses[run] == "completed" for run in runs),
                steps=sum(key[0] in runs for key in at_end.committed),
                retries=sum(one.what == ERROR and one.run in runs for one in entries),
                again=sum(key[0] in runs and begun_again[key] > 0 for key in flying),
                repeated=sum(times for key, times in repeated.items() if key[0] in runs),
                missing=sum(key[0] in runs and not done[key] for key in at_end.committed - at_end.failed),
            )
        )
    ours = at_end.functions.keys()
    known = {one.run for one in first}
    resumed = [one.at for one in rest if one.what == BEGIN and one.run in known & ours]
    ready = [one.at for one in rest if one.what == READY]
    return Evidence(
        tallies,
        before=len(at_kill.committed),
        in_flight=len(flying),
        after=len(at_end.committed - at_kill.committed - flying),
        until_ready=ready[0] - restarted if ready else None,
        until_resumed=min(resumed) - restarted if resumed else None,
        until_done=at_end.last_end - restarted if at_end.last_end > restarted else None,
        lines=len(entries),
    )


def _repeated(
    key: Key, done: int, begun_again: int, committed: frozenset[Key], flying: frozenset[Key]
) -> int:
    """How often more than the kill explains a step ran: a committed one must not even begin again."""
    if key in committed:
        return max(done - 1, begun_again)
    return max(0, done - (2 if key in flying else 1))
