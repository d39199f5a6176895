"""The gates of the model: what queued jobs ask for, and what a plan must pass.

The arithmetic is that of `durable.gates`; here are the keys and the states, found by counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from durable import gates
from durable.records import Rule

if TYPE_CHECKING:
    from durable.records import Plan, Rate
    from durable.testing.exam.model_state import Job, Run, World

__all__ = [
    "Ask",
    "asks",
    "drop_is_recorded",
    "latch_holder",
    "opening",
    "pass_throttle",
    "passes",
    "rate_is_open",
    "ready",
    "take_latches",
    "take_rate",
    "throttle_was_shut",
    "waits_for_time_alone",
]

_DROPS_RECORDED = 100


@frozen
class Ask:
    """One gate that a job asks for; without a `rule` it is open."""

    kind: str
    key: str
    rule: Rule | None

    @property
    def gate(self) -> tuple[str, str]:
        """The gate itself, which others may ask for by other rules."""
        return self.kind, self.key


def asks(world: World, job: Job) -> list[Ask]:
    """The gates of a queued job: throttle before the first claim, slots, and the singleton's place."""
    run = world.runs[job.run]
    plan = run.plan
    if run.cancelled:
        return []
    found = [Ask("slot", slot.gate, world.rule(plan.function, slot.rule)) for slot in plan.slots]
    if job.ref is not None:
        return found
    if plan.singleton is not None:
        found.append(Ask("singleton", plan.singleton.key, Rule(limit=1)))
    if plan.throttle is not None and run.started is None:
        rule = world.rule(plan.function, plan.throttle.rule)
        found.insert(0, Ask("throttle", plan.throttle.gate, rule))
    return found


def passes(world: World, ask: Ask) -> bool:
    """Whether a gate is open for one who asks."""
    if ask.rule is None:
        return True
    if ask.kind == "throttle":
        return _throttle(world, ask, ask.rule, world.now)[0]
    return gates.slot_is_free(_held(world, ask), ask.rule.limit)


def ready(world: World, job: Job) -> bool:
    """Whether a job could be taken now."""
    return job.ripe and all(passes(world, ask) for ask in asks(world, job))


def opening(world: World, job: Job) -> int | None:
    """When the throttle of a job opens by itself, if it is shut."""
    for ask in asks(world, job):
        if ask.kind == "throttle" and ask.rule is not None:
            passed, at = _throttle(world, ask, ask.rule, world.now)
            return None if passed else at
    return None


def throttle_was_shut(world: World, job: Job, at: int) -> bool:
    """Whether a job asks for a throttle that, by its present state, was shut at a time (ms)."""
    return any(
        ask.kind == "throttle" and ask.rule is not None and not _throttle(world, ask, ask.rule, at)[0]
        for ask in asks(world, job)
    )


def waits_for_time_alone(world: World, job: Job) -> bool:
    """Whether all its gates but the throttle are open."""
    return all(passes(world, ask) for ask in asks(world, job) if ask.kind != "throttle")


def pass_throttle(world: World, job: Job) -> None:
    """A job is taken: its passage through the throttle is used up."""
    for ask in asks(world, job):
        if ask.kind == "throttle" and ask.rule is not None:
            world.throttles[ask.key] = _throttle(world, ask, ask.rule, world.now)[1]


def _throttle(world: World, ask: Ask, rule: Rule, at: int) -> tuple[bool, int]:
    return gates.throttle(world.throttles.get(ask.key), at, rule.limit, rule.period, rule.burst)


def _held(world: World, ask: Ask) -> int:
    return sum(_holds(run, ask) for run in world.runs.values() if run.owner is not None)


def _holds(run: Run, ask: Ask) -> int:
    if ask.kind == "singleton":
        return int(run.placed and run.plan.singleton is not None and run.plan.singleton.key == ask.key)
    return (run.placed + run.extra) * sum(slot.gate == ask.key for slot in run.plan.slots)


# ---------------------------------------------------------------- what a plan must pass


def latch_holder(world: World, plan: Plan) -> str | None:
    """The run that holds the first of the plan's latches that is held."""
    for latch in plan.once:
        until, holder = world.latches.get(latch.key, (None, ""))
        if not gates.latch_is_free(until, world.now):
            return holder
    return None


def take_latches(world: World, plan: Plan, holder: str) -> None:
    """The plan was accepted: `holder` holds its latches."""
    for latch in plan.once:
        world.latches[latch.key] = (world.now + latch.hold, holder)


def rate_is_open(world: World, rate: Rate | None) -> bool:
    """Whether one more acceptance fits into the rolling period."""
    return rate is None or _rolling(world, ("pass", rate.key), rate.limit, rate.period)


def take_rate(world: World, rate: Rate | None) -> None:
    """The plan was accepted."""
    if rate is not None:
        _note(world, ("pass", rate.key))


def drop_is_recorded(world: World, rate: Rate) -> bool:
    """A plan is dropped: whether that leaves a run, as the first drops of a period do."""
    key = ("drop", rate.key)
    recorded = _rolling(world, key, _DROPS_RECORDED, rate.period)
    if recorded:
        _note(world, key)
    return recorded


def _rolling(world: World, key: tuple[str, str], limit: int, period: int) -> bool:
    times = world.rates.get(key, [])
    oldest = times[-limit] if len(times) >= limit else None
    return gates.rate_passes(oldest, times[-1] if times else None, world.now, period)


def _note(world: World, key: tuple[str, str]) -> None:
    times = world.rates.setdefault(key, [])
    times.append(max(world.now, times[-1]) if times else world.now)
