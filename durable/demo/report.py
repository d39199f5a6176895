"""What the demo says: the words and figures, from the title to the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.demo.ledger import EFFECT, ERROR

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from durable.demo.evidence import Evidence, Snapshot
    from durable.demo.ledger import Entry
    from durable.demo.screen import Screen

__all__ = ["progress", "show", "state_at_kill", "title"]


def title(screen: Screen, store: str, events: int) -> None:
    """What is about to happen."""
    screen.say()
    screen.say(
        f"  durable demo: {events} event{'s'[: events != 1]}, one worker process, one SIGKILL", "strong"
    )
    screen.say(
        "  7 functions with CEL filters, sequential and parallel steps, sleeps, retries and invokes", "faint"
    )
    screen.say(f"  on {store}", "faint")
    screen.say()


def progress(screen: Screen, states: Counter[str], entries: Sequence[Entry], flying: int) -> None:
    """How it goes."""
    done = sum(one.what == EFFECT for one in entries)
    failed = sum(one.what == ERROR for one in entries)
    ended, running, waiting, queued = (states[one] for one in ("ended", "running", "waiting", "queued"))
    bar = screen.bar(("█", ended), ("▓", running + waiting), ("░", queued))
    screen.show(
        [
            f"{'':11}{bar}",
            f"{'':11}runs   {ended} ended · {running} running · {waiting} waiting · {queued} queued",
            f"{'':11}steps  {done} done · {flying} in flight · {failed} retried",
        ],
        f"{bar}  {ended} of {states.total()} runs ended, {waiting} waiting; {done} steps done",
    )


def state_at_kill(screen: Screen, snapshot: Snapshot, flying: int) -> None:
    """What the dead worker has left."""
    ended = snapshot.count("completed")
    midway = snapshot.count("running", "waiting")
    queued = snapshot.count("queued")
    screen.say(f"{'':11}it leaves {ended} runs completed, {midway} midway, {queued} queued;")
    screen.say(f"{'':11}{len(snapshot.committed)} steps committed, {flying} in flight")


def show(screen: Screen, evidence: Evidence) -> None:
    """The tables, and the verdict."""
    total = evidence.total
    screen.note("every run has ended; the worker has left" if total.runs == total.completed else "the end")
    screen.say()
    header = ["function", "runs", "completed", "lost", "steps", "retried", "run again", "repeated"]
    rows = [
        [one.function, one.runs, one.completed, one.lost, one.steps, one.retries, one.again, one.repeated]
        for one in [*evidence.tallies, total]
    ]
    screen.table(header, [rows[:-1], rows[-1:]])
    screen.say()
    good = "✓" if total.repeated == 0 else "✗"
    whole = "✓" if total.lost == 0 else "✗"
    screen.table(
        [f"proof, from the ledger's {evidence.lines} lines", "", ""],
        [
            [
                [
                    "runs that completed, of those that the events started",
                    f"{total.completed} of {total.runs}",
                    whole,
                ],
                ["steps committed before the kill: none ran again", evidence.before, good],
                ["steps in flight at the kill: they may run again, and did", _of(total.again, evidence), ""],
                ["steps that ran once, after the restart", evidence.after, good],
            ],
            [
                ["from the restart until the new process executed", _seconds(evidence.until_ready), ""],
                ["from the restart until an interrupted run went on", _seconds(evidence.until_resumed), ""],
                ["from the restart until every run had completed", _seconds(evidence.until_done), ""],
            ],
        ],
    )
    screen.say()
    verdict = f"  {total.lost} lost, {total.repeated} repeated"
    style = "good" if evidence.holds else "bad"
    screen.say(f"{verdict} · {screen.seconds:.1f} s in all", style)
    screen.say()


def _of(again: int, evidence: Evidence) -> str:
    return f"{again} of {evidence.in_flight}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
