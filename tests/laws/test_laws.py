"""The laws of replay, over hand-written and generated handlers (see `laws`).

`pytest -m campaign tests/laws` tries ten thousand; LAWS_FIRST and LAWS_HANDLERS say from which seed on, and
how many.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.laws import corpus
from tests.laws.generator import generate
from tests.laws.trials import Report, Trial

BATCH = 50
BATCHES = 2


def check(report: Report, seed: int, text: str) -> None:
    if report.violations:
        listed = "\n".join(str(one) for one in report.violations[:5])
        pytest.fail(f"seed {seed}\n{text}\nin the life: {report.history}\n{listed}", pytrace=False)


@pytest.mark.parametrize("handler", corpus.HANDLERS, ids=lambda one: one.name)
async def test_a_handler_of_the_corpus(handler, loop_factory, request):
    if handler.name == "anyio_group" and "eager" in request.node.name:
        pytest.skip("anyio's groups break under eager tasks by themselves")
    seed = 1
    report = await Trial(handler.make, seed, may=handler.may, timed=handler.timed).run()
    check(report, seed, handler.name)


@pytest.mark.parametrize("batch", range(BATCHES))
async def test_generated_handlers(batch, loop_factory, request):
    first = 1000 * len(request.node.name.partition("[")[2]) + batch * BATCH
    for seed in range(first, first + BATCH):
        program = generate(seed)
        report = await Trial.of(program, seed).run()
        check(report, seed, program.show())


@pytest.mark.campaign
@pytest.mark.timeout(3600)
async def test_a_campaign_of_generated_handlers(loop_factory, request, capsys):
    first = int(os.environ.get("LAWS_FIRST", "100000"))
    total, broken, began = Report(), [], time.perf_counter()
    for seed in range(first, first + int(os.environ.get("LAWS_HANDLERS", "10000"))):
        program = generate(seed)
        report = await Trial.of(program, seed).run()
        total.add(report)
        if report.violations:
            broken.append((seed, program, report))
    with capsys.disabled():
        print(f"\n{request.node.name}: {total}, {time.perf_counter() - began:.0f} s")  # noqa: T201
    if broken:
        check(
            broken[0][2],
            broken[0][0],
            f"{len(broken)} handlers: {[one[0] for one in broken]}\n{broken[0][1].show()}",
        )
