"""Proof that the crash sweep can fail: for each of these mutants of the engine or the store it goes red."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
from msgspec.structs import replace

from durable._core.journal import Journal
from durable._executor import arming
from durable._executor.draft import Draft
from durable._executor.outbox import Outbox
from durable.errors import StoreError
from durable.records import Commit, End
from durable.store import Store
from durable_stores.memory import MemoryStore
from tests.crash import corpus, corpus_waiting  # noqa: F401 - they fill CASES
from tests.crash.sweeping import CASES, sweep

MUTANTS = []


def mutant(*cases, red):
    """A mutant: what it patches, the cases that are to find it, and what they are to say."""

    def add(patch):
        MUTANTS.append(pytest.param(patch, cases, red, id=patch.__name__.replace("_", " ")))
        return patch

    return add


def changing(monkeypatch, method, change):
    """Have a method's answer, or with a `Commit` from a draft that commit, changed."""
    owner, name = method
    before = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda self, *args: change(before(self, *args)))


# ---------------------------------------------------------------- the executor


@mutant("sequence", "gather", red="and .* is not recorded|before .* was recorded")
def a_memo_is_dropped(monkeypatch):
    changing(monkeypatch, (Draft, "commit"), lambda commit: replace(commit, memos=commit.memos[1:]))


@mutant("sequence", "as_completed", red="began before .* was recorded")
def the_next_callback_is_not_held_back(monkeypatch):
    async def at_once(self):
        pass

    monkeypatch.setattr(Outbox, "barrier", at_once)


@mutant("sequence", red="has ended, and .* is not recorded")
def the_end_is_written_without_the_last_memos(monkeypatch):
    def change(commit):
        return replace(commit, memos=()) if isinstance(commit.then, End) else commit

    changing(monkeypatch, (Draft, "commit"), change)


@mutant("sequence", "gather", red="was recorded when the process died, and ran again")
def a_replay_remembers_nothing(monkeypatch):
    monkeypatch.setattr(Journal, "_load", lambda self, memo: None)


@mutant("as_completed", red="notes differ")
def a_replay_delivers_in_another_order(monkeypatch):
    def last_first(self, awaited):
        return [(key, entry) for key, entry in reversed(self._order) if not entry.delivered and awaited(key)]

    monkeypatch.setattr(Journal, "next_round", last_first)


@mutant("sleeps", red="Stuck|hangs")
def a_timer_is_not_written(monkeypatch):
    changing(monkeypatch, (Draft, "commit"), lambda commit: replace(commit, timers=()))


@mutant("send_event that starts a function", red="AssertionError")
def an_event_is_sent_apart_from_its_memo(monkeypatch):
    def send(session, pending, op):
        letters, ids = session.host.intake.letters(op.events)

        async def admit():
            with contextlib.suppress(StoreError):  # of the dead
                await session.host.intake.admit(letters)

        keep = asyncio.ensure_future(admit())
        keep.add_done_callback(
            lambda _: session.remember_now(pending, arming.MemoState.VALUE, arming.orjson.dumps(ids))
        )

    monkeypatch.setattr(arming, "_send", send)


@mutant("invoke", red="runs differ")
def a_child_is_made_apart_from_the_wait_for_it(monkeypatch):
    before = arming._register

    def register(session, pending, wait):
        letters, session.draft.letters = session.draft.letters, []
        if not letters:
            before(session, pending, wait)
            return
        keep = asyncio.ensure_future(session.host.intake.admit(letters))
        keep.add_done_callback(lambda _: before(session, pending, wait))

    monkeypatch.setattr(arming, "_register", register)


@mutant("retry, then success", red="times in life")
def a_retry_gets_the_number_of_the_attempt_before(monkeypatch):
    before, wrong = arming.Timer, []

    def timer(ref, due, effect=arming.Effect.RESUME, attempt=0, *rest, **named):
        if attempt == 2 and not wrong:
            wrong.append(ref)
            attempt = 1
        return before(ref, due, effect, attempt, *rest, **named)

    monkeypatch.setattr(arming, "Timer", timer)


# ---------------------------------------------------------------- the store


@mutant("send_event that starts a function", "invoke", red="differ")
def a_commit_has_no_fence(monkeypatch):
    before = MemoryStore.commit

    async def commit(self, now_ms, engine, items):
        fitted = []
        for item in items:
            run = self._ledger.runs.by_id.get(item.run)
            owned = isinstance(item, Commit) and run is not None
            fitted.append(replace(item, gen=run.gen) if owned else item)
            if owned and run.owner is not None:
                engine = run.owner.id
        return await before(self, now_ms, engine, fitted)

    monkeypatch.setattr(MemoryStore, "commit", commit)


@mutant("sequence", red="Stuck|hangs|not ended")
def what_the_dead_owned_is_not_queued_again(monkeypatch):
    async def bury(self, now_ms, engine):
        return False, frozenset()

    monkeypatch.setattr(MemoryStore, "bury", bury)


@mutant("sequence", "events from outside", red="runs differ|AssertionError")
def ids_of_starts_and_keys_are_not_remembered(monkeypatch):
    before = MemoryStore.admit

    async def admit(self, now_ms, admissions, request=None):
        forgetful = [
            replace(one, plans=tuple(replace(plan, once=()) for plan in one.plans)) for one in admissions
        ]
        return await before(self, now_ms, forgetful, request)

    monkeypatch.setattr(MemoryStore, "admit", admit)


@mutant("events from outside", red="events differ")
def ids_of_events_are_not_remembered(monkeypatch):
    before = MemoryStore.admit

    async def admit(self, now_ms, admissions, request=None):
        forgetful = [
            one if one.event is None else replace(one, event=replace(one.event, once=False))
            for one in admissions
        ]
        return await before(self, now_ms, forgetful, request)

    monkeypatch.setattr(MemoryStore, "admit", admit)


@mutant("sequence", red="leaves|twice|differ|recorded")
def a_commit_is_applied_in_halves(monkeypatch):
    before = MemoryStore.commit

    async def commit(self, now_ms, engine, items):
        halves = [
            replace(item, memos=()) if isinstance(item, Commit) and isinstance(item.then, End) else item
            for item in items
        ]
        return await before(self, now_ms, engine, halves)

    monkeypatch.setattr(MemoryStore, "commit", commit)


# ---------------------------------------------------------------- the proof


@pytest.mark.parametrize(("patch", "cases", "red"), MUTANTS)
async def test_the_sweep_finds_a_mutant(patch, cases, red, monkeypatch):
    assert issubclass(MemoryStore, Store)
    chosen = [one for one in CASES if one.name in cases]
    assert len(chosen) == len(cases), "a case was renamed"
    patch(monkeypatch)
    report = await sweep(chosen, MemoryStore)
    assert report.violations
    assert any(re.search(red, text) for text in report.violations), "\n".join(report.violations)
