"""The laws that are checked when a history of lives is over.

(L1) the decisions of a replay equal the recorded prefix; (L2) no callback whose memo or withdrawal is committed
runs again; (L3) no recorded loser is started again; (L4) a run ends in a result that its program could have
given, and what it caused happened exactly once; (L5) what can progress does; (L6) nothing is left behind, and
nothing is logged. L2 and L3 are checked as it happens, by `recorder`; L5 and L6 by `lives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from durable.records import MemoState, RunStatus, StepKind
from tests.laws import programs as p

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.laws.recorder import Execution, Pass, RunBook


def compare(book: RunBook, former: Pass, later: Pass, agreed: int) -> None:
    """L1: `later` begins with the first `agreed` decisions of `former`."""
    ended = (later.outcome is not None and not later.ctx.evicting) or (
        later.rested and not book.book.timed  # it may rest before a limit in real time has passed once more
    )
    length = agreed if ended else min(agreed, len(later.trace))
    if former.trace[:length] == later.trace[:length]:
        return
    for place in range(length):
        mine = later.trace[place] if place < len(later.trace) else "nothing"
        if mine != former.trace[place]:
            if book.book.timed and (
                former.trace[place] in later.trace[place:]
                or (not ended and former.trace[place][0] == "cancelled")
            ):
                return  # the limit in real time that cancels it passes at another moment
            book.violate(
                "L1",
                f"decision {place} of {agreed} was {former.trace[place]}, in the replay it is {mine}"
                f"\n    recorded: {former.trace[: place + 1]}\n    replayed: {later.trace[: place + 1]}",
            )
            return


def replays_agree(book: RunBook) -> None:
    """L1, for each pass and the one after it."""
    for former, later in zip(book.passes, book.passes[1:], strict=False):
        if former.attempt == later.attempt:
            compare(book, former, later, former.agreed(later.given, later.given_up))


def rounds_grow(book: RunBook) -> None:
    """What is picked up is picked up round by round; a limit in real time passes when it will."""
    if book.book.timed:
        return
    for one in book.passes:
        if one.attempt:  # what an earlier attempt has recorded need not fit this one
            continue
        numbers = [one.rounds.get(step[1], 0) for step in one.trace if step[0] in ("got", "error")]
        if numbers != sorted(numbers):
            book.violate("L1", f"rounds were picked up in the order {numbers}: {one.trace}")


def ends_well(book: RunBook, *, interruptions: int) -> None:
    """L4: the end fits the last pass, that pass its program, and the effects what is committed."""
    end, last = book.end, book.passes[-1] if book.passes else None
    if end is None or last is None or last.outcome is None:
        if not book.book.violations:
            book.violate("L5", "the run has not ended")
        return
    how, value = last.outcome
    if how == "ok":
        if end.status is not RunStatus.COMPLETED or orjson.loads(end.output or b"null") != value:
            book.violate("L4", f"the handler returned {value}, and the run ended with {end}")
    elif end.status is not RunStatus.FAILED:
        book.violate("L4", f"the handler raised {value}, and the run ended with {end}")
    for text in possible(last.root, cancellable=False):
        book.violate("L4", text)
    for memo in book.journal:
        key = (memo.step, memo.index)
        if key in book.loaded:
            continue
        if memo.kind is StepKind.RUN and memo.state is MemoState.VALUE and not book.ends[key]:
            book.violate("L4", f"{key} is recorded, and its callback never ended")
    for (key, attempt), times in book.starts.items():
        if times > 1 + interruptions + len(book.journals):
            book.violate("L4", f"attempt {attempt} of {key} began {times} times, with {interruptions} breaks")


# ---------------------------------------------------------------- what a program can result in


def possible(execution: Execution, *, cancellable: bool) -> Iterator[str]:
    """What is wrong with an execution: an outcome that does not follow from those of its parts."""
    node = execution.node
    if node is None:
        for part in execution.parts:
            yield from possible(part, cancellable=cancellable)
        return
    if execution.outcome is None:
        if not cancellable:
            yield f"{node} never ended"
        return
    if execution.outcome[0] == "cancelled" and not cancellable:
        yield f"{node} was cancelled by nobody"
    found: Iterator[str] = _CHECKS[type(node)](execution, node, cancellable)
    yield from found


def _leaf(execution: Execution, node: p.Step, cancellable: bool) -> Iterator[str]:
    how, value = execution.outcome or ("", None)
    if how == "cancelled":
        return
    fails = getattr(node, "fails", 0)
    failure = (isinstance(node, p.Run) and fails < 0) or (isinstance(node, p.Invoke) and fails)
    if failure:
        if how != "error" or not value.startswith(f"step {node.id}: ValueError {node.id}."):
            yield f"{node} resulted in {how}: {value}"
        return
    texts: dict[type[p.Node], str] = {
        p.Run: f"{node.id}.",
        p.Sleep: node.id,
        p.Send: node.id,
        p.Invoke: f"child of {node.id}.",
    }
    start = texts.get(type(node))
    if how != "ok" or (start is not None and not value.startswith(start)):
        yield f"{node} resulted in {how}: {value}"
    if isinstance(node, p.Run) and not value.endswith(node.tag):
        yield f"{node} resulted in {value}, which is another's result"


def _raise(execution: Execution, node: p.Raise, cancellable: bool) -> Iterator[str]:
    if execution.outcome not in (("error", f"Boom {node.label}"), ("ok", "calm")):
        yield f"{node} resulted in {execution.outcome}"


def _in_order(execution: Execution, node: p.Seq | p.Loop, cancellable: bool) -> Iterator[str]:
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable)
    last = execution.parts[-1].outcome if execution.parts else None
    values = [part.outcome[1] for part in execution.parts if part.outcome]
    length = len(node.items) if isinstance(node, p.Seq) else node.times
    if last is not None and last[0] == "ok":
        if execution.outcome != ("ok", values) or len(values) != length:
            yield f"{node} resulted in {execution.outcome}, its parts in {values}"
    elif last != execution.outcome:
        yield f"{node} resulted in {execution.outcome}, its last part in {last}"


def _errors(parts: list[Execution]) -> list[str]:
    return [part.outcome[1] for part in parts if part.outcome and part.outcome[0] == "error"]


def _shown(part: Execution | None) -> Any:
    if part is None or part.outcome is None:
        return "! nothing"
    how, value = part.outcome
    return value if how == "ok" else f"! {value}" if how == "error" else "! cancelled"


def _gather(execution: Execution, node: p.Gather, cancellable: bool) -> Iterator[str]:
    how, value = execution.outcome or ("", None)
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable or how == "error")
    if how == "ok" and value != [_shown(part) for part in execution.parts]:
        yield f"{node} resulted in {value}, its parts in {[part.outcome for part in execution.parts]}"
    if how == "error" and value not in _errors(execution.parts):
        yield f"{node} resulted in {value}, its parts in {[part.outcome for part in execution.parts]}"


def _group(execution: Execution, node: p.Group, cancellable: bool) -> Iterator[str]:
    how, value = execution.outcome or ("", None)
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable or how == "error")
    if how == "ok" and value != [_shown(part) for part in execution.parts]:
        yield f"{node} resulted in {value}, its parts in {[part.outcome for part in execution.parts]}"
    if how == "error" and value != f"group({', '.join(sorted(_errors(execution.parts)))})":
        yield f"{node} resulted in {value}, its parts in {[part.outcome for part in execution.parts]}"


def _race(execution: Execution, node: p.Race, cancellable: bool) -> Iterator[str]:
    how, value = execution.outcome or ("", None)
    winners = value if how == "ok" else {}
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable or part.role not in winners)
    if how == "error" or (how == "ok" and not winners):
        yield f"{node} resulted in {how}: {value}"
    for number, result in winners.items():
        part = next(iter(execution.of(number)), None)
        if _shown(part) != result:
            yield f"{node}: winner {number} gave {result}, and it resulted in {part and part.outcome}"


def _lead(execution: Execution, node: p.Lead, cancellable: bool) -> Iterator[str]:
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable or part.role != "leader")
    for part in execution.of("leader"):
        if execution.outcome not in (part.outcome, ("cancelled", None)):
            yield f"{node} resulted in {execution.outcome}, its leader in {part.outcome}"


def _completed(execution: Execution, node: p.Completed, cancellable: bool) -> Iterator[str]:
    how, value = execution.outcome or ("", None)
    some = node.take > 0 or how != "ok"
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable or some)
    if how == "error":
        yield f"{node} resulted in {value}"
    if how == "ok":
        left = [_shown(part) for part in execution.parts]
        for one in value:
            if one not in left:
                yield f"{node} gave {one}, which none of its parts resulted in"
            else:
                left.remove(one)
        if len(value) != (node.take or len(node.items)):
            yield f"{node} gave {len(value)} results"


def _limit(execution: Execution, node: p.Timeout | p.Within, cancellable: bool) -> Iterator[str]:
    otherwise = execution.of("otherwise")
    for part in execution.of("body"):
        yield from possible(part, cancellable=True)  # out of time, it may still end with an error of its own
        if not otherwise and execution.outcome != part.outcome:
            yield f"{node} resulted in {execution.outcome}, its body in {part.outcome}"
        if otherwise and part.outcome != ("cancelled", None):
            yield f"{node} was out of time, and its body resulted in {part.outcome}"
    for part in otherwise:
        yield from possible(part, cancellable=cancellable)
        how, value = part.outcome or ("", None)
        if execution.outcome != ((how, ["in time?", value]) if how == "ok" else part.outcome):
            yield f"{node} resulted in {execution.outcome}, what came after the time-out in {part.outcome}"


def _same(execution: Execution, node: p.Shield | p.WaitFor, cancellable: bool) -> Iterator[str]:
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable)
        if execution.outcome not in (part.outcome, ("cancelled", None)):
            yield f"{node} resulted in {execution.outcome}, its body in {part.outcome}"


def _background(execution: Execution, node: p.Background, cancellable: bool) -> Iterator[str]:
    main, beside = execution.of("main")[0], execution.of("beside")
    how, value = execution.outcome or ("", None)
    main_how, main_value = main.outcome or ("", None)
    yield from possible(main, cancellable=cancellable)
    for part in beside:
        yield from possible(part, cancellable=cancellable or not node.join or main_how != "ok")
    if main_how != "ok":
        expected: list[Any] = [main.outcome]
    elif not node.join:
        expected = [("ok", [main_value])]
    else:
        expected = [part.outcome for part in beside if part.outcome and part.outcome[0] != "ok"]
        expected += [("ok", [main_value, part.outcome[1]]) for part in beside if part.outcome]
    if (how, value) not in expected and how != "cancelled":
        yield f"{node} resulted in {execution.outcome}, its parts in {expected}"


def _try(execution: Execution, node: p.Try, cancellable: bool) -> Iterator[str]:
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable)
    body = execution.of("body")[0].outcome or ("", None)
    expected: Any = body
    for part in execution.of("otherwise"):
        how, value = part.outcome or ("", None)
        expected = ("ok", ["caught", body[1], value]) if how == "ok" else part.outcome
        if body[0] != "error":
            yield f"{node}: its body resulted in {body}, and an error was caught"
    for part in execution.of("final"):
        if part.outcome is not None and part.outcome[0] != "ok":
            expected = part.outcome
    if node.final is not None and not execution.of("final"):
        yield f"{node}: its finally was left out"
    if execution.outcome != expected:
        yield f"{node} resulted in {execution.outcome}, instead of {expected}"


def _switch(execution: Execution, node: p.Switch, cancellable: bool) -> Iterator[str]:
    for part in execution.parts:
        yield from possible(part, cancellable=cancellable)
    last = execution.parts[-1].outcome or ("", None)
    values = [part.outcome[1] for part in execution.parts if part.outcome]
    if execution.outcome != (("ok", values) if last[0] == "ok" else last):
        yield f"{node} resulted in {execution.outcome}, its parts in {values}"


_CHECKS: dict[type[p.Node], Any] = {
    **dict.fromkeys((p.Run, p.Sleep, p.Send, p.Wait, p.Signal, p.Await, p.Invoke), _leaf),
    **dict.fromkeys((p.Seq, p.Loop), _in_order),
    **dict.fromkeys((p.Timeout, p.Within), _limit),
    **dict.fromkeys((p.Shield, p.WaitFor), _same),
    p.Raise: _raise,
    p.Gather: _gather,
    p.Group: _group,
    p.Race: _race,
    p.Lead: _lead,
    p.Completed: _completed,
    p.Background: _background,
    p.Try: _try,
    p.Switch: _switch,
}
