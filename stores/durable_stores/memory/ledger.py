"""What happens to runs: things fire, turns are queued, runs are let go, cancelled and ended.

Duty: the transitions that all doors share, over the indexes of this package. It may not know any door.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from durable.gates import rank
from durable.records import Cancellation, Cause, Effect, Fired, RunStatus

from .agenda import Agenda
from .buffers import Buffers
from .engines import Engine, Engines
from .events import Events
from .lanes import Lanes
from .latches import Latches, Rates
from .pools import Job
from .registry import Functions
from .runs import Alarm, Run, Runs
from .waits import Candidates, Waits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable.records import End, Parent, Timer, Wait

    from .waits import Waiter

__all__ = ["Call", "Ledger", "reason_json"]


@define(eq=False)
class Call:
    """One call of a door: when, by whom, and the pools that have new work by it.

    `fresh` collects the turns of this call that may still be claimed before they queue (`Store.admit`).
    """

    now: int
    engine: Engine | None = None
    woke: set[str] = field(factory=set[str])
    fresh: list[Job] | None = None


class Ledger:
    """The whole store, and what may happen to its runs."""

    __slots__ = (
        "_jobs",
        "agenda",
        "buffers",
        "candidates",
        "engines",
        "events",
        "functions",
        "lanes",
        "latches",
        "rates",
        "runs",
        "waits",
    )

    def __init__(self) -> None:
        self._jobs = 0
        self.agenda = Agenda()  # timers, time-outs and flushes; what is queued waits in `lanes`
        self.buffers = Buffers(self.agenda)
        self.candidates = Candidates()
        self.engines = Engines()
        self.events = Events()
        self.functions = Functions()
        self.lanes = Lanes()
        self.latches = Latches()
        self.rates = Rates()
        self.runs = Runs()
        self.waits = Waits()

    def number(self) -> int:
        """The number of the next job: whatever may fall due or stand in a lane has one."""
        self._jobs += 1
        return self._jobs

    # ------------------------------------------------------------ things fire

    def fire(self, call: Call, run: Run, fired: Fired) -> None:
        """Something that `run` waited for is over: news for its owner, or else a turn."""
        if run.over:
            return
        if run.fired is None:
            run.fired = {fired.ref: fired}
        elif fired.ref in run.fired:
            return
        else:
            run.fired[fired.ref] = fired
        if fired.event is not None:
            self.events.hold(fired.event)
        if run.owner is not None:
            self.tell(call, run)
        elif run.turn is None and not run.backs_off:
            self.queue(call, run, fired.at)

    def tell(self, call: Call, run: Run) -> None:
        """The owner of `run` is to hear of something: the delivery gets its number."""
        owner = run.owner
        if owner is None:
            return
        run.news_no = owner.number(run)
        if owner is not call.engine:
            owner.bell.set()

    def met(self, call: Call, waiter: Waiter, fired: Fired) -> None:
        """What `waiter` waited for has come."""
        self.close(waiter)
        self.finish(call, waiter.run, waiter.wait, fired)

    def finish(self, call: Call, run: Run, wait: Wait, fired: Fired) -> None:
        """Do to `run` what `wait` is for."""
        if wait.effect is Effect.CANCEL:
            self.cancel(call, run, wait.ref)
        else:
            self.fire(call, run, fired)

    def close(self, waiter: Waiter) -> None:
        """A wait is over, whatever it waited for: its time-out and its candidates go with it."""
        self.waits.remove(waiter)
        if waiter.due and not waiter.closed:
            self.agenda.drop(waiter)
        if waiter.pending:
            for pending in waiter.pending.values():
                pending.open = False
                self.events.release(pending.event)
                if pending.decider is not None:
                    pending.decider.deciding.pop(pending, None)

    def drop_fired(self, run: Run, ref: str) -> None:
        """What has fired under this name is over."""
        fired = run.fired.pop(ref, None) if run.fired is not None else None
        if fired is not None:
            if fired.event is not None:
                self.events.release(fired.event)
            if not run.fired:
                run.fired = None

    def set_timer(self, run: Run, timer: Timer) -> None:
        """Set a timer, in place of one of the same name."""
        if run.timers is not None:
            self.drop_timer(run, timer.ref)
        alarm = Alarm(self.number(), timer.due, run, timer)
        timers = run.timers or {}
        timers[timer.ref] = alarm
        run.timers = timers
        self.agenda.add(alarm)

    def drop_timer(self, run: Run, ref: str) -> None:
        """A timer is over, if there is one of that name."""
        alarm = run.timers.pop(ref, None) if run.timers is not None else None
        if alarm is not None:
            self.agenda.drop(alarm)
            if not run.timers:
                run.timers = None

    # ------------------------------------------------------------ turns and places are queued

    def queue(self, call: Call, run: Run, due: int) -> None:
        """`run` wants to execute."""
        no = self.number()
        job = run.turn = Job(no, due, rank(due, run.priority, no), run, run.function)
        if call.fresh is not None and due <= call.now:
            call.fresh.append(job)
        else:
            self.lanes.add(job, call.now, call.woke)

    def unqueue(self, call: Call, run: Run) -> None:
        """The turn of `run`, if it has one, is over."""
        if run.turn is not None:
            self.lanes.drop(run.turn, call.now, call.woke)
            run.turn = None

    def ask(self, call: Call, run: Run, ref: str) -> None:
        """`run` wants one more place, which only its owner can be granted."""
        if run.owner is None:
            return
        if run.asks is None:
            run.asks = {}
        elif ref in run.asks:
            return
        no = self.number()
        due = call.now
        job = run.asks[ref] = Job(no, due, rank(due, run.priority, no), run, run.owner.id, ref)
        self.lanes.add(job, due, call.woke)

    def unask(self, call: Call, run: Run, ref: str) -> None:
        """`run` does not ask for a place under this name any more."""
        job = run.asks.pop(ref, None) if run.asks is not None else None
        if job is not None:
            self.lanes.drop(job, call.now, call.woke)
            if not run.asks:
                run.asks = None

    # ------------------------------------------------------------ parents

    def never_ran(self, call: Call, parents: Iterable[Parent], reason: str) -> None:
        """There will be no run: those who invoked it are told."""
        value = reason_json(reason)
        for waiter in self._invokers(parents):
            self.met(call, waiter, _of_child(call, waiter.wait, RunStatus.SKIPPED, value))

    def child_over(self, call: Call, wait: Wait, child: Run) -> Fired:
        """What `wait` receives of `child`, which is over."""
        status = child.status
        value: bytes | None = None
        if status is RunStatus.SKIPPED:
            value = reason_json(child.reason or "")
        elif child.end is not None:
            value = {RunStatus.COMPLETED: child.end.output, RunStatus.FAILED: child.end.error}.get(status)
        return _of_child(call, wait, status, value)

    def _tell_parents(self, call: Call, child: Run) -> None:
        waiters = self.waits.child(child.id)
        if child.parents:
            waiters = sorted({*waiters, *self._invokers(child.parents)}, key=_place)
        elif len(waiters) > 1:
            waiters.sort(key=_place)
        for waiter in waiters:
            if waiter.open:
                self.met(call, waiter, self.child_over(call, waiter.wait, child))

    def _invokers(self, parents: Iterable[Parent]) -> list[Waiter]:
        found: list[Waiter] = []
        for parent in sorted(set(parents), key=lambda parent: (parent.run, parent.ref)):
            run = self.runs.by_id.get(parent.run)
            waiter = run.waits.get(parent.ref) if run is not None and run.waits is not None else None
            if waiter is not None and waiter.wait.child is not None:
                found.append(waiter)
        return found

    # ------------------------------------------------------------ the ways out

    def let_go(self, call: Call, run: Run, affinity: str | None = None) -> None:
        """`run` is nobody's: its places are free, and what it asked for or was granted of them is gone."""
        owner = run.owner
        if owner is not None:
            owner.owned.pop(run, None)
            run.owner = None
        run.affinity = affinity
        run.claim_no = run.news_no = 0
        if run.asks is not None:
            for ref in tuple(run.asks):
                self.unask(call, run, ref)
        if run.fired is not None:
            run.fired = {ref: it for ref, it in run.fired.items() if it.cause is not Cause.PLACE} or None
        self.give_back(call, run, run.extra, own=True)
        if run.cancelled and run.end is None:
            self._queue_announcement(call, run)

    def give_back(self, call: Call, run: Run, places: int, *, own: bool = False) -> None:
        """Places are free: up to `places` additional ones, and with `own` the run's own."""
        extra = min(places, run.extra)
        placed = int(own and run.placed)
        run.extra -= extra
        if placed:
            run.placed = False
        if placed or extra:
            self.lanes.give_back(run, placed, extra, call.now, call.woke)

    def cancel(self, call: Call, run: Run, reason: str) -> Cancellation:
        """`run` is cancelled at once; it has ended when that was announced."""
        if run.over:
            return Cancellation.ENDED
        self._clear(call, run)
        run.cancelled = True
        run.reason = reason
        self._tell_parents(call, run)
        if run.owner is not None:
            self.tell(call, run)
        else:
            self._queue_announcement(call, run)
        return Cancellation.DONE

    def end(self, call: Call, run: Run, end: End) -> None:
        """`run` is over."""
        self._clear(call, run)
        run.end = end
        self.runs.end(run, call.now)
        self.let_go(call, run)
        self.latches.free_single(run)
        if not run.cancelled:
            self._tell_parents(call, run)

    def _queue_announcement(self, call: Call, run: Run) -> None:
        self.latches.free_single(run)
        self.queue(call, run, call.now)

    def _clear(self, call: Call, run: Run) -> None:
        self.unqueue(call, run)
        if run.asks is not None:
            for ref in tuple(run.asks):
                self.unask(call, run, ref)
        if run.timers is not None:
            for alarm in run.timers.values():
                self.agenda.drop(alarm)
            run.timers = None
        if run.waits is not None:
            for waiter in tuple(run.waits.values()):
                self.close(waiter)
        if run.fired is not None:
            for ref in tuple(run.fired):
                self.drop_fired(run, ref)


def reason_json(reason: str) -> bytes:
    """Why a child never ran, as the value of what its parent receives."""
    return f'"{reason}"'.encode()


def _of_child(call: Call, wait: Wait, status: RunStatus, value: bytes | None) -> Fired:
    return Fired(wait.ref, Cause.CHILD, call.now, status=status, value=value, started=wait.started)


def _place(waiter: Waiter) -> tuple[str, str]:
    return waiter.place
