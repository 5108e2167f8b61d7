"""The last quarter of an hour, by a clock that the test turns."""

from __future__ import annotations

from forwarder.metrics.history import KEPT_SECONDS, MAX_READINGS, SAMPLE_SECONDS, History, Reading


class Watched:
    """What a history looks at."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.accepted = 0
        self.waiting = 0
        self.looks = 0
        self.history = History(self.look, lambda: self.now)

    def look(self) -> dict[str, Reading]:
        self.looks += 1
        return {"orders": Reading(self.accepted, 0, 0, 0, 0, 0, self.waiting)}

    def later(self, seconds: float, accepted: int = 0) -> None:
        self.now += seconds
        self.accepted += accepted
        self.history.read_if_due()


def test_a_rate_is_over_the_time_that_really_passed() -> None:
    watched = Watched()
    watched.later(0.0)
    watched.later(SAMPLE_SECONDS, accepted=50)
    watched.later(2 * SAMPLE_SECONDS, accepted=50)  # the process stood still
    report = watched.history.report()
    assert report["targets"]["orders"]["accepted"] == [10.0, 5.0]
    assert report["seconds_ago"] == [2 * SAMPLE_SECONDS, 0.0]


def test_it_is_read_no_more_often_than_it_is_due() -> None:
    watched = Watched()
    for _ in range(100):
        watched.later(0.5)
    assert watched.looks == 10
    assert len(watched.history.report()["seconds_ago"]) == 9


def test_it_is_bounded_and_forgets_what_is_older_than_it_keeps() -> None:
    watched = Watched()
    for _ in range(3 * MAX_READINGS):
        watched.later(SAMPLE_SECONDS, accepted=5)
    report = watched.history.report()
    assert len(report["seconds_ago"]) == MAX_READINGS - 1
    assert max(report["seconds_ago"]) <= KEPT_SECONDS
    watched.now += KEPT_SECONDS + 1
    assert watched.history.report()["seconds_ago"] == []


def test_what_waits_is_told_as_it_was_at_the_end_of_each_step() -> None:
    watched = Watched()
    watched.later(0.0)
    watched.waiting = 7
    watched.later(SAMPLE_SECONDS)
    assert watched.history.report()["targets"]["orders"]["waiting"] == [7]


def test_nothing_is_told_until_there_are_two_readings() -> None:
    watched = Watched()
    assert watched.history.report()["targets"] == {}
    watched.later(0.0)
    assert watched.history.report()["targets"]["orders"]["accepted"] == []
