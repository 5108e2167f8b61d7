"""The plan of faults: whom each hits, how often, and which one wins."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from forwarder.apis.api import Api
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.sandbox.faults import FAULT_KINDS, Fault, FaultPlan

WEB = ("web",)


def plan(*faults: dict[str, Any], chances: tuple[float, ...] = (0.0,)) -> FaultPlan:
    draws = itertools.cycle(chances)
    made = FaultPlan(lambda: next(draws))
    made.order(msgspec.convert(list(faults), list[Fault]), now=0.0)
    return made


def struck(
    made: FaultPlan, api: type[Api] = PutEvents, operation: str = "PutEvents", now: float = 0.0
) -> str:
    hit = made.for_call(api, operation, WEB, 3, now)
    return hit.fault.fault if hit.fault else ""


def test_without_faults_nothing_is_hit() -> None:
    assert struck(FaultPlan()) == ""
    assert FaultPlan().for_entries(PutEvents, ["a", "b"], 0.0) == [None, None]


def test_a_fault_with_times_hits_exactly_that_often() -> None:
    made = plan({"fault": "throttle", "times": 2})
    assert [struck(made) for _ in range(4)] == ["throttle", "throttle", "", ""]


def test_a_fault_without_an_end_stays_until_it_is_deleted() -> None:
    made = plan({"fault": "error"})
    assert {struck(made, now=float(i)) for i in range(100)} == {"error"}
    made.clear()
    assert struck(made) == ""


def test_a_fault_with_seconds_ends_by_itself() -> None:
    made = plan({"fault": "error", "seconds": 5}, {"fault": "entry", "seconds": 5})
    assert struck(made, now=4.9) == "error"
    assert made.for_entries(PutEvents, WEB, 4.9) != [None]
    assert made.for_entries(PutEvents, WEB, 5.0) == [None]
    assert struck(made, now=5.0) == ""
    assert made.view(5.0) == []


def test_rate_is_the_share_that_is_hit() -> None:
    made = plan({"fault": "error", "rate": 0.5}, chances=(0.1, 0.49, 0.5, 0.9))
    assert [struck(made) for _ in range(4)] == ["error", "error", "", ""]


def test_the_first_fault_that_hits_wins_and_the_others_keep_their_times() -> None:
    made = plan({"fault": "throttle", "times": 1}, {"fault": "error", "times": 1})
    assert [struck(made) for _ in range(3)] == ["throttle", "error", ""]


def test_slow_adds_to_the_next_fault() -> None:
    made = plan({"fault": "slow", "delay": 2}, {"fault": "slow", "delay": 3}, {"fault": "throttle"})
    hit = made.for_call(PutRumEvents, "PutRumEvents", WEB, 1, 0.0)
    assert (hit.delay, hit.fault and hit.fault.fault) == (5.0, "throttle")


def test_a_fault_for_one_api_leaves_the_others_alone() -> None:
    made = plan({"fault": "error", "api": "rum"})
    assert struck(made) == ""
    assert struck(made, PutRumEvents, "PutRumEvents") == "error"


def test_a_fault_with_a_name_hits_only_calls_for_it() -> None:
    made = plan({"fault": "not_found", "name": "web"}, {"fault": "hang", "name": "other"})
    assert struck(made) == "not_found"
    made = plan({"fault": "hang", "name": "other"})
    assert struck(made) == ""


def test_describe_event_bus_is_hit_only_when_named() -> None:
    assert struck(plan({"fault": "error"}), operation="DescribeEventBus") == ""
    made = plan({"fault": "access_denied", "operation": "DescribeEventBus"})
    assert struck(made) == ""
    assert struck(made, operation="DescribeEventBus") == "access_denied"


def test_entry_faults_hit_single_entries() -> None:
    made = plan({"fault": "entry", "name": "b", "times": 2})
    hits = made.for_entries(PutEvents, ["a", "b", "b", "b"], 0.0)
    assert [hit is not None for hit in hits] == [False, True, True, False]
    assert struck(made) == ""


def test_a_plan_counts_what_each_fault_did() -> None:
    made = plan({"fault": "error"}, {"fault": "entry", "rate": 0.5}, chances=(0.0, 0.9))
    struck(made)
    made.for_entries(PutEvents, ["a", "b"], 0.0)
    assert [(o.calls, o.events) for o in made.view(0.0)] == [(1, 3), (1, 1)]


@pytest.mark.parametrize("kind", ["entry", "missing_results"])
def test_rum_has_no_results_to_fail(kind: str) -> None:
    with pytest.raises(ValueError, match="needs one result per event"):
        plan({"fault": kind, "api": "rum"})
    made = plan({"fault": kind})
    assert made.for_entries(PutRumEvents, WEB, 0.0) == [None]
    assert struck(made, PutRumEvents, "PutRumEvents") == ""


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "earthquake"},
        {"fault": "error", "rate": 1.5},
        {"fault": "error", "times": 0},
        {"fault": "error", "seconds": 0},
        {"fault": "error", "status": 99},
        {"fault": "error", "tmies": 3},
        {"fault": "entry", "operation": "DescribeEventBus"},
        {"fault": "error", "operation": "PutRule"},
        {"fault": "error", "api": "sqs"},
        {},
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        plan(fault)


def test_every_kind_can_be_ordered() -> None:
    for kind in FAULT_KINDS:
        assert plan({"fault": kind}).view(0.0)[0].fault.fault == kind
