"""Makes a program that breaks a law smaller, for as long as it still breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.laws.programs import sound
from tests.laws.trials import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.laws.programs import Program
    from tests.laws.trials import Report


async def shrink(
    program: Program, seed: int, same: Callable[[Report], bool], *, seeds: int = 12, most: int = 400
) -> tuple[Program, int, Report | None]:
    """The smallest program found that fails in the `same` way, the seed of its faults, and its report."""
    report: Report | None = None
    left = most
    smaller = True
    while smaller and left > 0:
        smaller = False
        for root in sorted(program.root.smaller(), key=lambda node: node.size()):
            for number in range(seeds):
                if not sound(root):
                    break
                left -= 1
                one = replace(program, root=root)
                found = await Trial.of(one, seed + number).run()
                if found.violations and same(found):
                    program, seed, report, smaller = one, seed + number, found, True
                    break
            if smaller or left <= 0:
                break
    return program, seed, report
