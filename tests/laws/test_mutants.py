"""Proof that the laws can fail: on every mutant of the executor one of them goes red."""

from __future__ import annotations

import asyncio

import pytest

from tests.laws import corpus, lives
from tests.laws.generator import generate
from tests.laws.mutants import MUTANTS
from tests.laws.trials import Trial

WHERE = {
    "fresh_results_before_the_journal_is_drained": (("gather_six", 0),),
    "a_callback_begins_before_the_memos_are_durable": (("sequence", 0),),
    "withdrawals_are_not_recorded": (("the_winner_decides", 0),),
    "withdrawals_are_not_respected": (("a_wait_loses_to_a_sleep", 0),),
    "alone_beside_other_tasks": (("heartbeat", 0),),
    "alone_in_any_task": (("gather_six", 0),),
    "late_is_a_plain_withdrawal": (("cancelled_between_delivery_and_pick_up", 0),),
    "late_is_not_recorded": (("a_real_limit_passes_between_delivery_and_pick_up", 0),),
    "a_failed_attempts_withdrawals_are_kept": (("changes_its_mind", 0),),
    "each_memo_is_a_round_of_its_own": (("the_winner_decides", 0),),
    "all_memos_are_one_round": (("out_of_time", 0),),
    "rounds_are_delivered_backwards": (("gather_six", 0),),
    "one_turn_is_quiet": (("five_levels", 0),),
    "births_and_ends_of_tasks_are_no_activity": (1, 6, 9),
    "tasks_hash_by_address": (("group_aborts_its_siblings", 0),),
    "results_are_forgotten": (("sequence", 0),),
    "unwinding_is_recorded_as_withdrawal": (("loop_with_repeated_ids", 0),),
    "children_are_left_behind": (("five_levels", 0),),
    "a_withdrawn_callback_goes_on": (("the_winner_decides", 0),),
    "a_later_commit_overtakes_a_refused_one": (("tells_while_others_work", 11),),
    "a_refused_commit_loses_where_the_run_goes": (("tells_while_others_work", 7),),
    "a_step_that_waits_again_is_armed_again": (("gather_fails_and_siblings_go_on", 0),),
}
"""Handlers of the corpus with seeds, or seeds of generated ones, that show each mutant; others follow."""

OTHERS = range(40)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__)
async def test_the_laws_notice(mutant, monkeypatch):
    monkeypatch.setattr(lives, "QUARTERS_HUNG", 3)
    mutant(monkeypatch)
    tried = [*WHERE[mutant.__name__], *OTHERS]
    for one in tried:
        if isinstance(one, tuple):
            name, seed = one
            handler = next(handler for handler in corpus.HANDLERS if handler.name == name)
            trial = Trial(handler.make, seed, may=handler.may, timed=handler.timed)
        else:
            trial = Trial.of(generate(one), one)
        async with asyncio.timeout(60):
            report = await trial.run()
        if report.violations:
            return
    pytest.fail(f"no law notices {mutant.__name__} in {tried}")
