"""botocore 1.42.50, the last one that has Evidently, at our ingest: PutProjectEvents."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import PROJECT
from tests.e2e.processes import Daemon, Sandbox, Sdk

ARN = f"arn:aws:evidently:eu-west-1:123456789012:project/{PROJECT}"


def event(n: int, **more: Any) -> dict[str, Any]:
    data = json.dumps({"details": {"n": n}, "userDetails": {"userId": "ü"}})
    return {"timestamp": 1767323045 + n, "type": "aws.evidently.custom", "data": data, **more}


@pytest.mark.parametrize("project", [PROJECT, ARN])
def test_events_for_a_project_by_its_name_or_its_arn_arrive_under_that(
    project: str, sandbox: Sandbox, daemon: Daemon, old_botocore_put_project_events: Sdk
) -> None:
    events = [event(0), event(1, type="aws.evidently.evaluation")]
    said = old_botocore_put_project_events(daemon.url, {"project": project, "events": events})
    assert (said.status, said.error) == (200, None)
    assert said.answer is not None
    assert said.answer["failedEventCount"] == 0
    assert [len(result["eventId"]) for result in said.answer["eventResults"]] == [36, 36]
    daemon.deliver("flags")
    arrived = sandbox.arrived("evidently")
    assert [event["entry"] for event in arrived] == events
    assert [event["envelope"] for event in arrived] == [{"project": project}] * 2


def test_the_sandbox_says_the_same_to_it(sandbox: Sandbox, old_botocore_put_project_events: Sdk) -> None:
    events = [event(0), event(1, type="aws.evidently.other")]
    said = old_botocore_put_project_events(sandbox.url, {"project": ARN, "events": events})
    assert (said.status, said.error) == (200, None)
    assert said.answer is not None
    assert said.answer["failedEventCount"] == 1
    assert said.answer["eventResults"][1]["errorCode"] == "ValidationException"
    assert [event["entry"] for event in sandbox.arrived("evidently")] == events[:1]


def test_a_bad_event_fails_alone(
    sandbox: Sandbox, daemon: Daemon, old_botocore_put_project_events: Sdk
) -> None:
    events = [event(0), event(1, type="aws.evidently.other"), event(2, data="no JSON")]
    said = old_botocore_put_project_events(daemon.url, {"project": PROJECT, "events": events})
    assert (said.status, said.error) == (200, None)
    assert said.answer is not None
    assert said.answer["failedEventCount"] == 2
    first, second, third = said.answer["eventResults"]
    assert len(first["eventId"]) == 36
    assert [second["errorCode"], third["errorCode"]] == ["ValidationException"] * 2
    assert "type" in second["errorMessage"]
    assert "data" in third["errorMessage"]
    daemon.deliver("flags")
    assert [event["entry"] for event in sandbox.arrived("evidently")] == events[:1]


def test_more_than_fifty_events_are_refused_whole(
    daemon: Daemon, old_botocore_put_project_events: Sdk
) -> None:
    params = {"project": PROJECT, "events": [event(n) for n in range(51)]}
    said = old_botocore_put_project_events(daemon.url, params)
    assert (said.status, said.answer, said.retries) == (400, None, 0)
    assert said.error is not None
    assert said.error["Code"] == "ValidationException"
