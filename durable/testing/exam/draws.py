"""Random events, plans, waits and registrations, out of a small world in which they meet often.

This module may not know the model, nor a store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from attrs import define
from msgspec.structs import replace

from durable.records import (
    Admission,
    Batch,
    Cursor,
    Debounce,
    Effect,
    Latch,
    Memo,
    MemoState,
    NewEvent,
    Parent,
    Plan,
    Rate,
    Registration,
    Rule,
    Signal,
    Singleton,
    Slot,
    StepKind,
    Throttle,
    Timer,
    Wait,
)
from durable.testing.exam.examiner import CURRENT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

__all__ = ["EVENTS", "FUNCTIONS", "KEYS", "SIGNALS", "Draws"]

FUNCTIONS = ("app/f", "app/g", "app/h", "app/i")
EVENTS = ("order/made", "order/paid", "user|new:é %")
ODD = "b|:,'\"%\\\x1f\x00é"  # users' texts may hold what stores like to separate by
KEYS = ("data.id=1", "data.id=2", f"data.at={ODD}")
SIGNALS = ("yes", f"no{ODD}")

_T = TypeVar("_T")


@define
class Draws:
    """A source of random things; `now` is the time for which they are made.

    What follows is drawn once a history. `gated` and `perilous` are percents: how often plans ask for gates,
    and how often things are there that cancel runs. In a calm history runs come to their ends, in a wild one
    hardly. With few `functions` and `keys` they crowd before the same gates.
    """

    rng: Random
    now: int = 1_700_000_000_000
    made: int = 0
    refs: int = 0
    gated: int = 100
    perilous: int = 100
    functions: tuple[str, ...] = FUNCTIONS
    keys: tuple[str, ...] = ("a", ODD)

    def __attrs_post_init__(self) -> None:
        self.gated = self.one((10, 50, 100))
        self.perilous = self.one((5, 30, 100))
        self.functions = self.one((FUNCTIONS, FUNCTIONS[:2]))
        self.keys = self.one((("a", ODD), ("a",)))

    def chance(self, percent: int) -> bool:
        """True that often."""
        return self.rng.randrange(100) < percent

    def one(self, things: Sequence[_T]) -> _T:
        """One of them."""
        return things[self.rng.randrange(len(things))]

    def some(self, things: Sequence[_T], most: int) -> list[_T]:
        """Up to `most` of them, in any order."""
        left, found = list(things), list[_T]()
        for _ in range(min(self.rng.randrange(most + 1), len(left))):
            found.append(left.pop(self.rng.randrange(len(left))))
        return found

    def new_run(self) -> str:
        """An id that sorts anywhere, not by age: nothing may depend on that."""
        self.made += 1
        return f"{self.rng.randrange(4096):03x}-{self.made}"

    def new_ref(self) -> str:
        """A name within a run; seldom one that was used before."""
        if self.refs and self.chance(5):
            return f"r{self.rng.randrange(self.refs)}"
        self.refs += 1
        return f"r{self.refs}"

    def soon(self) -> int:
        """A time not far from now, seldom in the past; often the same one."""
        return self.now + self.one((-50, 0, 0, 10, 100, 100, 500, 2_000))

    def began(self) -> int:
        """When a step began that waits from now on."""
        return self.now - self.one((0, 7, 700))

    # ------------------------------------------------------------ registrations

    def registration(self, function: str) -> Registration:
        """A function with the rules that its plans name, and limits that change."""
        rules = (
            ("own", Rule(1 + self.rng.randrange(3))),
            ("shared", Rule(1 + self.rng.randrange(2))),
            ("pace", Rule(1 + self.rng.randrange(2), self.one((100, 300)), self.rng.randrange(3))),
        )
        paths = ((self.one(EVENTS), "data.id"),) if self.chance(50) else ()
        about = self.one((b"{}", b'{"v":2}'))
        kept = tuple(rule for rule in rules if not self.chance(10))
        return Registration(function, self.one(("1", "2")), about, kept, paths)

    # ------------------------------------------------------------ admissions

    def event(self) -> NewEvent:
        """An event, of which some come twice."""
        once = self.chance(30)
        event_id = self.one(("e1", "e2", "e3")) if once else f"e-{self.rng.randrange(1000)}"
        return NewEvent(
            id=event_id,
            name=self.one(EVENTS),
            ts=self.now + self.one((-100, 0, 0, 100)),
            data=self.one((b"{}", b'{"id":1}', b'{"at":7}', '{"ä":"\x7f\\u0000"}'.encode())),
            user=self.one((None, None, b'{"u":1}')),
            v=self.one((None, None, "2")),
            once=once,
        )

    def admission(self, plans: int = 3, *, seqs: Sequence[int] = ()) -> Admission:
        """An event with plans; sometimes a signal, or stored events again (`seqs`)."""
        registry = 0 if self.chance(3) else CURRENT
        if self.chance(10):
            return Admission(signal=Signal(self.one(SIGNALS), self.one((b"1", b"null"))))
        cursor = Cursor(self.one(("tick", "tock")), self.rng.randrange(8)) if self.chance(5) else None
        many = tuple(self.plan() for _ in range(self.rng.randrange(plans + 1)))
        if seqs and self.chance(8):
            again = tuple(sorted(self.some(seqs, 3)))
            return Admission(again=again or (seqs[0],), plans=many, registry=registry, cursor=cursor)
        keys = tuple(self.some(KEYS, 3))
        return Admission(event=self.event(), plans=many, registry=registry, keys=keys, cursor=cursor)

    def plan(self, *, run: str | None = None, parent: Parent | None = None) -> Plan:
        """A plan that asks for any gates."""
        function = self.one(self.functions)
        key = self.one(self.keys)
        plan = Plan(
            function=function,
            run=run or self.new_run(),
            due=self.soon(),
            priority=self.one((0, 0, 0, 0, 1, -1, 600)),
            parent=parent,
            memos=(self.memo(0),) if self.chance(5) else (),
            origin="origin" if self.chance(3) else None,
        )
        if self.chance(self.gated):
            plan = self._gated(plan, f"{function}:{key}")
        if self.chance(self.perilous):
            plan = replace(
                plan,
                waits=tuple(self.wait(Effect.CANCEL) for _ in range(self.rng.randrange(3))),
                start_timeout=self.now + self.one((0, 200, 1_000)) if self.chance(20) else None,
                finish_timeout=self.one((0, 200, 1_000)) if self.chance(20) else None,
            )
        return plan

    def _gated(self, plan: Plan, key: str) -> Plan:
        """The same plan, asking for any gates."""
        buffered = self.rng.randrange(100)
        batch = Batch(key, self.one((2, 3)), self.one((0, 200, 200)))
        debounce = Debounce(f"{key}:d", self.one((0, 100, 300)), self.one((None, 400)))
        latches = tuple(Latch(k, self.one((300, 5_000))) for k in self.some(("k1", "k2", ODD), 2))
        return replace(
            plan,
            once=latches if self.chance(15) else (),
            rate=Rate(key, 1 + self.rng.randrange(3), self.one((200, 1_000))) if self.chance(15) else None,
            batch=batch if buffered < 8 else None,
            debounce=debounce if 8 <= buffered < 18 else None,
            singleton=Singleton(self.one(("s1", ODD)), self.chance(50)) if self.chance(20) else None,
            throttle=Throttle(self.one((key, "all")), "pace") if self.chance(20) else None,
            slots=self._slots(plan.function),
        )

    def _slots(self, function: str) -> tuple[Slot, ...]:
        """Places of its own, or shared ones, or both."""
        own = Slot(f"{function}:{self.one(self.keys)}", "own")
        shared = Slot(self.one(("x", ODD)), self.one(("shared", "shared", "unknown")))
        return self.one(((), (), (own,), (own,), (shared,), (own, shared), (shared, own)))

    # ------------------------------------------------------------ what runs do

    def memo(self, position: int) -> Memo:
        """An entry of a journal."""
        return Memo(
            position=position,
            step=self.one(("load", "save")),
            index=position,
            kind=self.one(tuple(StepKind)),
            round=self.rng.randrange(5),
            state=self.one(tuple(MemoState)),
            value=self.one((None, b"1", b'"x"')),
            digest=self.one((None, b"\x00\xff")),
            attempts=1 + self.rng.randrange(3),
            started=self.now - 10,
            ended=self.now,
        )

    def timer(self) -> Timer:
        """A sleep, a retry, a deadline, or the back-off of a handler."""
        return Timer(
            ref="" if self.chance(6) else self.new_ref(),
            due=self.soon(),
            effect=Effect.CANCEL if self.chance(self.perilous // 12) else Effect.RESUME,
            attempt=self.rng.randrange(3),
            error=self.one((None, b'{"name":"E"}')),
            kind=self.one((None, *tuple(StepKind))),
            started=self.began(),
        )

    def wait(self, effect: Effect = Effect.RESUME, *, seqs: Sequence[int] = ()) -> Wait:
        """A wait for an event, or (if it resumes) for a signal."""
        until = self.soon() if self.chance(60) else None
        if effect is Effect.RESUME and self.chance(25):
            return Wait(
                self.new_ref(),
                signal=self.one(SIGNALS),
                replace=self.chance(50),
                until=until,
                kind=StepKind.SIGNAL,
                started=self.began(),
            )
        key = self.one(("", "", *KEYS))
        return Wait(
            ref=self.new_ref(),
            event=self.one(EVENTS),
            path=key.partition("=")[0] or None,
            index=key,
            condition=self.one((None, b"event.ok", b"async.ok")),
            since_seq=self.one(seqs) if seqs and self.chance(15) else None,
            since_ms=self.now - self.one((0, 100, 1_000))
            if effect is Effect.RESUME and self.chance(8)
            else None,
            until=until,
            effect=effect,
            kind=StepKind.WAIT,
            started=self.began(),
        )
