"""What the counters count, by plain calls."""

from __future__ import annotations

import pytest

from forwarder.metrics import Histogram, HttpMetrics, TargetMetrics
from forwarder.metrics.families import DEATH_REASONS, DROP_REASONS, REFUSAL_REASONS
from forwarder.metrics.numbers import MAX_CODES


def make_target(wall: float = 1_700_000_000.0) -> TargetMetrics:
    return TargetMetrics("orders", lambda: wall)


def test_an_observation_on_a_bound_belongs_to_that_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    histogram.observe(1.5, 2)
    histogram.observe(9.0)
    assert histogram.cumulative() == [("1.0", 1), ("2.0", 3), ("+Inf", 4)]
    assert histogram.sum == pytest.approx(13.0)


def test_what_put_took_is_received_in_events_and_bytes() -> None:
    target = make_target()
    target.add_accepted(3, 900)
    target.add_accepted(1, 100)
    assert (target.accepted, target.accepted_bytes) == (4, 1000)


def test_a_settled_batch_moves_each_counter_by_its_part() -> None:
    target = make_target()
    target.settled(delivered=7, retried={"entry": 2}, dead={"rejected": 1}, dropped={"shutdown": 3})
    assert target.delivered == 7
    assert target.retried["entry"] == 2
    assert target.dead_lettered == dict.fromkeys(DEATH_REASONS, 0) | {"rejected": 1}
    assert target.dropped == dict.fromkeys(DROP_REASONS, 0) | {"shutdown": 3}


def test_only_a_delivery_is_a_success() -> None:
    target = make_target(wall=5.0)
    target.settled(retried={"throttled": 9})
    assert target.last_success == 0.0
    target.settled(delivered=1)
    assert target.last_success == 5.0


def test_reasons_stand_at_zero_before_anything_happened() -> None:
    assert make_target().refused == dict.fromkeys(REFUSAL_REASONS, 0)


def test_a_reason_of_no_closed_set_counts_as_other() -> None:
    target = make_target()
    target.add_refused("whatever", 2)
    target.add_refused("something", 1)
    assert target.refused["other"] == 3
    assert set(target.refused) == {*REFUSAL_REASONS, "other"}


def test_error_codes_do_not_grow_without_bound() -> None:
    target = make_target()
    for i in range(MAX_CODES + 50):
        target.failed(f"Code{i}", 1)
    target.failed("Code0", 5)
    target.failed("", 1)
    assert len(target.failures) == MAX_CODES + 1
    assert target.failures["Code0"] == 6
    assert target.failures["other"] == 51


def test_a_call_is_counted_under_its_outcome_and_its_flush() -> None:
    target = make_target()
    target.call("partial", 0.2, 10, 4_000, "count")
    target.call("ok", 0.1, 3, 500, "time")
    assert (target.calls["partial"], target.calls["ok"], target.sends.count) == (1, 1, 2)
    assert (target.flushes["count"], target.flushes["time"]) == (1, 1)
    assert target.batch_events.sum == 13
    assert target.batch_bytes.sum == 4_500


def test_requests_are_counted_by_route_and_code() -> None:
    http = HttpMetrics()
    http.request("native", 202, 0.01)
    http.request("native", 429, 0.01)
    http.request("native", 202, 0.01)
    assert http.requests == {("native", 202): 2, ("native", 429): 1}
    assert sum(http.durations["native"].counts) == 3


def test_routes_do_not_grow_without_bound() -> None:
    http = HttpMetrics()
    for i in range(MAX_CODES + 10):
        http.request(f"/{i}", 404, 0.0)
    assert len(http.durations) == MAX_CODES + 1
    assert http.requests["other", 404] == 10
