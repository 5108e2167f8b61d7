"""The statistics of ``make bench AGAINST=REV``, with ratios whose answer is known."""

from __future__ import annotations

import random

import pytest

from benchmarks.claims import DEARER, NOT_DECIDED, PASSED, Claim, exit_code, line
from benchmarks.ratios import (
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    Ratio,
    Verdict,
    bootstrapped,
    ratio_of,
    verdict_of,
)

NARROW_AT_ONE = Ratio(1.0, 0.98, 1.02)


def noisy(middle: float, spread: float, rounds: int, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [middle * chance.gauss(1, spread) for _ in range(rounds)]


def claim(this: list[float], that: list[float], bound: float = 1.05) -> Claim:
    """With these rounds, judged after the last."""
    made = Claim("arrays", "forwarder", "value", "CPU us/event", bound, this[:-1], that[:-1])
    made.add(this[-1], that[-1])
    return made


def test_a_ratio_is_taken_round_by_round_so_that_a_drift_of_the_machine_cancels() -> None:
    drifting = [10.0 * 1.1**number for number in range(10)]
    assert ratio_of([1.03 * each for each in drifting], drifting) == pytest.approx((1.03, 1.03, 1.03))


def test_equal_ratios_have_an_interval_without_width() -> None:
    assert bootstrapped([1.2] * 10) == (1.2, 1.2, 1.2)


def test_the_interval_of_a_known_sample_is_the_one_of_the_exact_distribution() -> None:
    """Of five values the median of a resample is the first with a probability of P(Bin(5, 1/5) >= 3) = 5.8 %:
    more than 2.5 %, so the ends of the interval are the first and the last."""
    assert bootstrapped([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 1.0, 5.0)


def test_of_many_values_the_ends_are_the_order_statistics_of_the_binomial_distribution() -> None:
    """Of 101 values the median of a resample has a standard deviation of about sqrt(101) / 2 ranks."""
    median, low, high = bootstrapped([float(each) for each in range(101)])
    assert median == 50
    assert low == pytest.approx(50 - 1.96 * 101**0.5 / 2, abs=2)
    assert high == pytest.approx(50 + 1.96 * 101**0.5 / 2, abs=2)


def test_the_same_ratios_always_have_the_same_interval() -> None:
    ratios = noisy(1.0, 0.1, 17)
    assert bootstrapped(ratios) == bootstrapped(ratios)


def test_the_interval_holds_the_true_ratio_in_about_19_of_20_comparisons() -> None:
    intervals = [bootstrapped(noisy(1.0, 0.05, 15, seed)) for seed in range(20)]
    held = sum(low <= 1.0 <= high for _, low, high in intervals)
    assert held >= 17


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (NARROW_AT_ONE, Verdict.AT_MOST),
        (Ratio(1.05, 1.01, 1.10), Verdict.AT_MOST),
        (Ratio(1.051, 1.01, 1.10), Verdict.DEARER),
        (Ratio(1.0, 0.95, 1.051), Verdict.NOT_DECIDED),
        (Ratio(1.0, 0.95, 1.049), Verdict.AT_MOST),
        (Ratio(0.7, 0.6, 0.8), Verdict.NOT_DECIDED),
        (Ratio(1.06, 1.0, 1.2), Verdict.NOT_DECIDED),
        (Ratio(1.4, 1.06, 1.9), Verdict.DEARER),
        (Ratio(float("inf"), 1.0, float("inf")), Verdict.NOT_DECIDED),
    ],
)
def test_a_claim_holds_when_the_median_is_at_most_the_bound_and_the_interval_narrow(
    ratio: Ratio, verdict: Verdict
) -> None:
    assert verdict_of(ratio, FEWEST_ROUNDS, 1.05) is verdict


def test_fewer_than_ten_rounds_decide_nothing() -> None:
    assert verdict_of(NARROW_AT_ONE, FEWEST_ROUNDS - 1, 1.05) is Verdict.NOT_DECIDED
    assert claim([1.0] * 9, [1.0] * 9).verdict is Verdict.NOT_DECIDED
    assert claim([1.0] * 10, [1.0] * 10).verdict is Verdict.AT_MOST


def test_more_rounds_decide_what_ten_leave_open() -> None:
    this, that = noisy(1.0, 0.08, MOST_ROUNDS, seed=3), noisy(1.0, 0.08, MOST_ROUNDS, seed=4)
    assert claim(this[:10], that[:10]).verdict is Verdict.NOT_DECIDED
    assert claim(this, that).verdict is Verdict.AT_MOST


def test_what_40_rounds_leave_open_is_not_decided_and_no_pass() -> None:
    wild = claim(noisy(1.0, 0.5, MOST_ROUNDS, seed=5), noisy(1.0, 0.5, MOST_ROUNDS, seed=6))
    assert wild.verdict is Verdict.NOT_DECIDED
    assert "NOT DECIDED" in line(wild)
    assert exit_code([wild]) == NOT_DECIDED


def test_a_tenth_more_is_found_dearer() -> None:
    found = claim(noisy(1.1, 0.02, 10, seed=7), noisy(1.0, 0.02, 10, seed=8))
    assert found.verdict is Verdict.DEARER
    assert "DEARER" in line(found)
    assert claim(found.this, found.that, bound=1.2).verdict is Verdict.AT_MOST


def test_a_figure_that_was_nothing_before_is_dearer_and_nothing_twice_is_the_same() -> None:
    assert claim([1.0] * 10, [0.0] * 10).verdict is Verdict.DEARER
    assert claim([0.0] * 10, [0.0] * 10).verdict is Verdict.AT_MOST


def test_only_claims_that_all_hold_exit_with_0() -> None:
    held, dearer = claim([1.0] * 10, [1.0] * 10), claim([2.0] * 10, [1.0] * 10)
    failed = Claim("starting", "nothing waiting", "value", "s", 1.05)
    failed.fail("AssertionError: sent 10, arrived 9")
    assert exit_code([held, held]) == PASSED
    assert exit_code([held, dearer, failed]) == DEARER
    assert exit_code([held, failed]) == NOT_DECIDED
    assert exit_code([]) == NOT_DECIDED
    assert "NOT MEASURED: AssertionError" in line(failed)
