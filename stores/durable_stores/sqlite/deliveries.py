"""What an engine is told of its runs, in an answer: claims and news, by their numbers.

Of each run that got a number since the engine's last answer its state at the end of the call: the claim, if
that was not answered yet, or else news. May not know which door answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable.records import Claim, History, News
from durable_stores.sqlite import reads
from durable_stores.sqlite.firing import fired_by
from durable_stores.sqlite.numbering import numbered

if TYPE_CHECKING:
    from durable.records import Delivery
    from durable_stores.sqlite.run import Run
from durable_stores.sqlite.work import Work

__all__ = ["deliver", "told_before"]

_NUMBERED = """
SELECT id FROM runs WHERE owner = :p1 AND claim > :p2 UNION SELECT id FROM runs WHERE owner = :p1 AND news > :p2
"""


def told_before(work: Work, engine: str) -> tuple[int, int] | None:
    """Of an engine that lives: its last number, and the last that an answer held."""
    row: tuple[int, int] | None = work.sql.execute(
        "SELECT deliveries, told FROM engines WHERE id = ? AND state = 'alive'", (engine,)
    ).fetchone()
    return row


def deliver(
    work: Work, engine: str, told: tuple[int, int], above: int, warm: set[str]
) -> tuple[Delivery, ...]:
    """Everything with numbers greater than `above`; `told` is what `told_before` said when the call began."""
    concerned = work.told
    if told[0] > told[1] or work.told:
        work.answered(engine)
    if told[0] > above:
        work.flush()
        ids = [row[0] for row in work.sql.execute(_NUMBERED, numbered(engine, above))]
        work.load(ids)
        concerned = {run_id: run for run_id in ids if (run := work.run(run_id)) is not None}
    found: list[Delivery] = []
    for run in concerned.values():
        if run.owner != engine:
            continue
        if run.claim > above:
            is_warm = run.id in warm
            found.append(Claim(run.claim, _history(work, run, memos=not is_warm), is_warm))
        elif run.news > above:
            work.store_events()
            found.append(News(run.news, run.id, run.gen, fired_by(work.sql, run.id), run.cancelled))
    return tuple(sorted(found, key=lambda delivery: delivery.no))


def _history(work: Work, run: Run, *, memos: bool) -> History:
    seed = work.seeds.get(run.id)
    if seed is None:
        work.flush()
        return reads.history_of(work.sql, run.record(), memos=memos, tied=bool(run.tied))
    timers = reads.timers_of(work.sql, run.id) if run.finish_in is not None else ()
    return History(
        run=run.record(),
        events=seed.events,
        memos=tuple(sorted(seed.memos, key=lambda memo: memo.position)),
        timers=timers,
        waits=tuple(sorted(seed.waits, key=lambda wait: wait.ref)),
    )
