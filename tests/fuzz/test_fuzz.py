"""A little of ``make fuzz`` with every run of the tests: always the same bodies."""

from __future__ import annotations

import pytest

from tests.fuzz.dialects import DIALECTS, Dialect
from tests.fuzz.run import fuzz

INPUTS = 400


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.label)
async def test_nearly_good_bodies_meet_nothing_but_the_dialects_own_error(dialect: Dialect) -> None:
    judge = await fuzz(dialect, seed=1, inputs=INPUTS)
    assert judge.outcomes["taken"] > INPUTS / 20, "not all is broken beyond reading"
    assert sum(n for outcome, n in judge.outcomes.items() if outcome.startswith("4")) > INPUTS / 20
    assert len(judge.outcomes) > 2
