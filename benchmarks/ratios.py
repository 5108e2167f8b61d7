"""Is this dearer than that? Ratios of rounds, their bootstrap interval, and what follows from it.

- A ratio is this over that, of two measurements that were made one right after the other.
- The interval is the percentile bootstrap of the median: 10,000 resamples with a fixed seed, so that the same
  ratios always give the same interval.
- "At most the bound" holds when the median is, and the interval is narrower than 0.10. A wide interval proves
  nothing, unless all of it lies above the bound: that is dearer.
- At least ten rounds, at most 40. What is open then is not decided and does not pass.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

RESAMPLES = 10_000
SEED = 20261129
CONFIDENCE = 0.95
NARROW = 0.10
FEWEST_ROUNDS = 10
MOST_ROUNDS = 40


class Verdict(StrEnum):
    AT_MOST = "at most the bound"
    DEARER = "DEARER"
    NOT_DECIDED = "NOT DECIDED"
    FAILED = "NOT MEASURED"


class Ratio(NamedTuple):
    """The median, and the ends of its interval."""

    median: float
    low: float
    high: float


def ratio_of(this: Sequence[float], that: Sequence[float]) -> Ratio:
    """Of rounds in pairs."""
    return bootstrapped([_ratio(own, other) for own, other in zip(this, that, strict=True)])


def _ratio(this: float, that: float) -> float:
    if that:
        return this / that
    return math.inf if this else 1.0


def bootstrapped(ratios: Sequence[float]) -> Ratio:
    choose, count = random.Random(SEED).choices, len(ratios)
    lower, upper = (count - 1) // 2, count // 2  # the middle of a sorted sample: statistics.median is slower
    samples = (sorted(choose(ratios, k=count)) for _ in range(RESAMPLES))
    medians = sorted((sample[lower] + sample[upper]) / 2 for sample in samples)
    outside = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Ratio(statistics.median(ratios), medians[outside], medians[-1 - outside])


def verdict_of(ratio: Ratio, rounds: int, bound: float) -> Verdict:
    """What is known after so many rounds. NOT_DECIDED is final only after ``MOST_ROUNDS``."""
    if rounds < FEWEST_ROUNDS:
        return Verdict.NOT_DECIDED
    if ratio.low > bound:
        return Verdict.DEARER
    if ratio.high - ratio.low < NARROW:  # false where an end is infinite
        return Verdict.AT_MOST if ratio.median <= bound else Verdict.DEARER
    return Verdict.NOT_DECIDED
