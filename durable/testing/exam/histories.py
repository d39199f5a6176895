"""Random histories: what a few engines might do, drawn with an eye on the model, so that much of it matters.

This module may not know a store, nor what its answers are compared with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, define
from msgspec.structs import replace

from durable.records import (
    STAY,
    Admission,
    Commit,
    Cutoffs,
    End,
    EventQuery,
    Hit,
    Parent,
    Park,
    Request,
    RunQuery,
    RunStatus,
    Signal,
    StepKind,
    Verdict,
    Wait,
    Yield,
)
from durable.testing.exam.draws import EVENTS, FUNCTIONS, KEYS, SIGNALS, Draws
from durable.testing.exam.examiner import CURRENT, Call

if TYPE_CHECKING:
    from durable.records import Then
    from durable.testing.exam.model import Model
    from durable.testing.exam.model_state import Run

__all__ = ["Author"]

_WEIGHTS = {
    "admit": 22,
    "claim": 28,
    "commit": 40,
    "time": 10,
    "verdicts": 6,
    "read": 3,
    "sweep": 1,
}
_PERILS = {"cancel": 4, "engine": 7, "registry": 5, "sweep": 2}


@define
class Author:
    """Draws the next call from what the model holds. `seen` is what each engine has received."""

    draws: Draws
    model: Model
    seen: dict[str, int] = Factory(dict[str, int])
    pools: dict[str, frozenset[str]] = Factory(dict[str, frozenset[str]])
    joined: int = 0

    def beginning(self) -> list[Call]:
        """Two engines that host functions."""
        calls = [self._join(), self._join()]
        calls.append(Call("register", (self.draws.now, "n1", self._registrations())))
        return calls

    def next(self) -> Call:
        """Whatever comes into its mind."""
        often = [kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]
        seldom = [kind for kind, weight in _PERILS.items() for _ in range(weight)]
        while True:
            kind = self.draws.one(seldom if self.draws.chance(2 + self.draws.perilous // 8) else often)
            call: Call | None = getattr(self, f"_{kind}")()
            if call is not None:
                return call

    def heard(self, call: Call, answer: object) -> None:
        """Take note of the deliveries of an answer; some answers are lost."""
        engine = _engine_of(call)
        numbers = [delivery.no for delivery in getattr(answer, "deliveries", ())]
        if engine is not None and numbers and not self.draws.chance(10):
            self.seen[engine] = max(self.seen.get(engine, 0), *numbers)

    # ------------------------------------------------------------ who there is

    def _living(self) -> list[str]:
        return [e.id for e in self.model.world.engines.values() if e.lives and not e.severed]

    def _engine_id(self) -> str:
        """Mostly one that lives, sometimes one that was buried and does not know."""
        living, ids = self._living(), list(self.model.world.engines)
        return self.draws.one(living) if living and not self.draws.chance(5) else self.draws.one(ids)

    def _runs(self) -> list[Run]:
        return list(self.model.world.runs.values())

    def _seqs(self) -> list[int]:
        return list(self.model.world.events)

    def _join(self) -> Call:
        self.joined += 1
        engine = f"n{self.joined}"
        self.pools[engine] = frozenset(self.draws.some(FUNCTIONS, 4)) | {FUNCTIONS[self.joined % 3]}
        return Call("join", (self.draws.now, engine, self.draws.one((0, 1, 3_600_000))))

    def _registrations(self) -> tuple[object, ...]:
        return tuple(self.draws.registration(function) for function in FUNCTIONS)

    # ------------------------------------------------------------ calls around the doors

    def _time(self) -> None:
        """Let time pass, or jump to where something falls due, or back."""
        due = [
            due for run in self._runs() for due in (*(t.timer.due for t in run.timers.values()), run.plan.due)
        ]
        later = [time for time in due if time > self.draws.now]
        if later and self.draws.chance(40):
            self.draws.now = min(later)
        else:
            self.draws.now += self.draws.one((1, 1, 10, 10, 50, 100, 100, 300, 1_000, -30, 90_000_000))

    def _engine(self) -> Call:
        """Somebody comes, goes, dies, is found dead, or asks whether it lives."""
        draws, now, living = self.draws, self.draws.now, self._living()
        states = list(self.model.world.engines.values())
        if len(living) < 2 or (len(living) < 4 and draws.chance(10)):
            return self._join()
        anyone, dead = [state.id for state in states], [state.id for state in states if state.severed]
        return draws.one(
            (
                Call("leave", (now, draws.one(anyone))),
                Call("kill", (draws.one(living),)),
                Call("restart"),
                Call("bury", (now, draws.one(anyone))),
                Call("bury", (now, draws.one(anyone))),
                Call("bury", (now, draws.one(dead or anyone))),
                Call("bury", (now, draws.one(dead or anyone))),
                Call("extend", (draws.one(anyone),)),
                Call("dead", (3_600_000,)),
            )
        )

    def _registry(self) -> Call:
        now = self.draws.now
        if self.draws.chance(40):
            return Call("pause", (now, self.draws.one(FUNCTIONS), self.draws.chance(40)))
        return Call(
            "register", (now, self._engine_id(), self._registrations()[: 1 + self.draws.rng.randrange(4)])
        )

    def _cancel(self) -> Call:
        live = [run.id for run in self._runs() if not run.over] or ["nobody"]
        runs = tuple(self.draws.some([*live, "nobody"], 2)) or (self.draws.one(live),)
        return Call("cancel", (self.draws.now, runs, self.draws.one(("api", "user"))))

    def _sweep(self) -> Call:
        def cut() -> int:
            return self.draws.now - self.draws.one((0, 300, 3_000, 10**9))

        return Call("sweep", (self.draws.now, Cutoffs(cut(), cut(), cut())))

    def _read(self) -> Call:
        draws = self.draws
        since = draws.now - 500 if draws.chance(30) else None
        until = draws.now if draws.chance(30) else None
        limit = draws.one((1, 3, 50))
        kind = draws.rng.randrange(4)
        if kind == 0:
            runs = [run.id for run in self._runs()]
            return Call("history", (draws.one([*runs, "nobody"]),))
        if kind == 1:
            function = draws.one((None, *FUNCTIONS))
            statuses = frozenset(draws.some(tuple(RunStatus), 3))
            event = draws.one((None, None, "e1"))
            before = draws.one((None, "8"))
            return Call("runs", (RunQuery(function, statuses, event, since, until, before, limit),))
        if kind == 2:
            before_seq = draws.one((None, self.model.world.sequence))
            return Call("events", (EventQuery(draws.one((None, *EVENTS)), since, until, before_seq, limit),))
        return Call("waiting", (draws.one(EVENTS), tuple(draws.some(KEYS, 3)), draws.one(("", "8")), limit))

    # ------------------------------------------------------------ the doors

    def _admit(self) -> Call:
        draws = self.draws
        many = tuple(self._admission() for _ in range(1 + draws.rng.randrange(3)))
        return Call("admit", (draws.now, many, self._request() if draws.chance(50) else None))

    def _admission(self, plans: int = 3) -> Admission:
        """An admission that has evaluated some waits, those that were there when it looked."""
        draws = self.draws
        admission = draws.admission(plans, seqs=self._seqs())
        if admission.event is None:
            return admission
        as_of = max(0, self.model.world.sequence - draws.one((0, 0, 1, 2, 100)))
        found = [w for w in self.model.world.open_waits() if w.wait.event == admission.event.name]
        known = [w for w in found if w.wait.condition is not None and w.registered <= as_of]
        hits = tuple(Hit(w.run, w.wait.ref) for w in draws.some(known, 2))
        return replace(admission, as_of=as_of, hits=hits)

    def _request(self) -> Request:
        draws = self.draws
        engine = self._engine_id()
        seen = max(0, self.seen.get(engine, 0) - draws.one((0, 0, 0, 0, 0, 1, 3)))
        pools = frozenset(draws.some(FUNCTIONS, 3)) if draws.chance(15) else self.pools[engine]
        return Request(engine, seen, pools, draws.one((0, 1, 1, 2, 4, 8)))

    def _claim(self) -> Call:
        return Call("claim", (self.draws.now, self._request()))

    def _verdicts(self) -> Call | None:
        verdicts = self._some_verdicts(4)
        return Call("commit", (self.draws.now, self._engine_id(), verdicts)) if verdicts else None

    def _some_verdicts(self, most: int) -> tuple[Verdict, ...]:
        open_ones = [
            Verdict(w.run, w.wait.ref, seq, matches=self.draws.chance(40))
            for w in self.model.world.open_waits()
            for seq in w.candidates
        ]
        return tuple(self.draws.some(open_ones, most))

    def _commit(self) -> Call | None:
        """Commits of one engine, for runs that it owns; and for some that it does not."""
        draws, engine = self.draws, self._engine_id()
        live = [run for run in self._runs() if run.final is None]
        mine = [run for run in live if run.owner == engine or (run.affinity == engine and run.owner is None)]
        runs = draws.some(mine, 3)
        if draws.chance(10) and live:
            other = draws.one(live)
            runs += [other] if other not in runs else []
        commits = tuple(self._one_commit(run, engine) for run in runs)
        items = (*commits, *self._some_verdicts(2)) if draws.chance(30) else commits
        return Call("commit", (draws.now, engine, items)) if items else None

    def _one_commit(self, run: Run, engine: str) -> Commit:
        draws = self.draws
        gen = run.gen - 1 if draws.chance(4) else run.gen
        if run.cancelled and draws.chance(70):
            also = (self._admission(1),) if draws.chance(5) else ()
            return Commit(run.id, gen, admit=also, then=End(RunStatus.CANCELLED, admit=self._told()))
        position = max(run.memos, default=-1) + 1
        memos = tuple(draws.memo(position + n) for n in range(draws.rng.randrange(3)))
        timers = tuple(draws.timer() for _ in range(draws.one((0, 0, 1, 2))))
        waits = [draws.wait(seqs=self._seqs()) for _ in range(draws.one((0, 0, 1, 2)))]
        admit: list[Admission] = []
        if draws.chance(25):
            admit.append(self._admission(2))
        if draws.chance(20):
            admit.append(self._invocation(run, waits))
        if memos and draws.chance(20):
            name, data = draws.one(SIGNALS), draws.one((b"1", b"null"))
            admit.append(Admission(signal=Signal(name, data), memo=memos[0].position))
        return Commit(
            run=run.id,
            gen=gen,
            memos=memos,
            timers=timers,
            waits=tuple(waits),
            drop=self._dropped(run),
            forget=draws.chance(8),
            attempt=draws.one((None, None, 0, 1)),
            ask=tuple(draws.new_ref() for _ in range(draws.one((0, 0, 0, 1, 2)))),
            free=draws.one((0, 0, 0, 1, 2)),
            admit=tuple(admit),
            then=self._then(run, engine),
        )

    def _dropped(self, run: Run) -> tuple[str, ...]:
        """Mostly what has fired, at times what is still open."""
        draws = self.draws
        fired = list(run.fired) if draws.chance(60) else draws.some(list(run.fired), 2)
        others = [*run.timers, *run.waits, *run.asks]
        return (*fired, *(draws.some(others, 2) if draws.chance(25) else ()))

    def _invocation(self, run: Run, waits: list[Wait]) -> Admission:
        """A child, and a wait for it; sometimes the wait is for a run that is there already."""
        draws = self.draws
        ref, child = draws.new_ref(), draws.new_run()
        waited = draws.one([r.id for r in self._runs()]) if draws.chance(15) else child
        until = draws.soon() if draws.chance(40) else None
        waits.append(Wait(ref, child=waited, until=until, kind=StepKind.INVOKE, started=draws.began()))
        plan = draws.plan(run=child, parent=Parent(run.id, ref))
        return Admission(event=draws.event(), plans=(plan,), registry=CURRENT)

    def _seen(self, run: Run) -> tuple[str, ...]:
        """Nothing, all that has fired, or some of it, with things that may fire in this very commit."""
        draws = self.draws
        kind = draws.rng.randrange(100)
        if kind < 40:
            return ()
        if kind < 70:
            return tuple(run.fired)
        return tuple(draws.some([*run.fired, *run.waits, *run.timers], 4))

    def _then(self, run: Run, engine: str) -> Then:
        draws = self.draws
        kind = draws.rng.randrange(100)
        warm = engine if draws.chance(50) else None
        if kind < 38:
            return STAY
        if kind < 65:
            return Park(warm, self._seen(run))
        if kind < 73:
            return Yield(warm)
        if kind < 90:
            unmet = draws.one(((), ("old", "older")))
            return End(RunStatus.COMPLETED, output=b'"done"', unmet=unmet, admit=self._told())
        if kind < 98:
            return End(RunStatus.FAILED, error=b'{"name":"E"}', admit=self._told())
        return End(RunStatus.CANCELLED)

    def _told(self) -> tuple[Admission, ...]:
        """What tells of an end: events, which may start runs."""
        return (self._admission(2),) if self.draws.chance(40) else ()


def _engine_of(call: Call) -> str | None:
    if call.door == "commit":
        return str(call.args[1])
    request = call.args[-1] if call.args else None
    return request.engine if isinstance(request, Request) else None
