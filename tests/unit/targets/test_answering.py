"""Whether an endpoint answers questions, and when the next may be asked, moment by moment."""

from __future__ import annotations

import pytest

from forwarder.targets.answering import GIVE_UP_FAILURES, SLOW_ANSWER_SECONDS, Answering


def answering(cap: float = 30.0, chance: float = 1.0) -> Answering:
    return Answering(cap, lambda: chance)


def test_nothing_counts_as_answering_before_the_first_answer() -> None:
    new = answering()
    assert not new.is_working(0.0)
    new.ask(0.0)
    assert new.is_under_way
    assert not new.is_working(0.0)
    new.answered()
    assert not new.is_under_way
    assert new.is_working(0.0)


def test_an_answer_that_takes_long_counts_as_none() -> None:
    slow = answering()
    slow.answered()
    slow.ask(100.0)
    assert slow.is_working(100.0 + SLOW_ANSWER_SECONDS)
    assert not slow.is_working(100.1 + SLOW_ANSWER_SECONDS)


def test_each_failure_makes_the_pause_longer_up_to_the_cap_and_an_answer_ends_it() -> None:
    failing = answering(cap=2.0)
    pauses = []
    for _ in range(6):
        failing.failed("AWS is unavailable", 0.0, 0.0)
        pauses.append(failing.wait(0.0))
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert failing.trouble == "AWS is unavailable"
    failing.answered()
    assert (failing.wait(0.0), failing.trouble, failing.is_failing) == (0.0, "", False)


@pytest.mark.parametrize(("asked", "chance", "pause"), [(5.0, 0.0, 5.0), (5.0, 1.0, 5.5), (600.0, 0.0, 30.0)])
def test_the_pause_is_never_shorter_than_aws_asked_for_up_to_a_bound(
    asked: float, chance: float, pause: float
) -> None:
    throttled = answering(chance=chance)
    throttled.failed("throttled", asked, 0.0)
    assert throttled.wait(0.0) == pytest.approx(pause)


def test_a_stop_gives_up_after_some_failures_and_a_hurry_ends_the_pause() -> None:
    failing = answering()
    for number in range(1, GIVE_UP_FAILURES + 1):
        failing.failed("unreachable", 0.0, 0.0)
        assert failing.is_given_up == (number == GIVE_UP_FAILURES)
    assert failing.wait(0.0) > 0
    failing.hurry()
    assert failing.wait(0.0) == 0.0
    assert failing.is_failing
