"""boto3 at targets with ``ack: delivered``: a program gets AWS's ids and AWS's refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Daemon, Sandbox, Sdk, a_daemon
from tests.e2e.test_boto3 import BATCH, GOOD, rum_event

TARGETS = """\
  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}", ack: delivered}}
  web: {{kind: rum, region: eu-west-1, endpoint_url: "{url}", ack: delivered}}
"""


@pytest.fixture
def telling(sandbox: Sandbox, tmp_path: Path) -> Iterator[Daemon]:
    with a_daemon(tmp_path, TARGETS.format(url=sandbox.url)) as daemon:
        yield daemon


def test_put_events_gives_a_program_awss_ids_and_refusals(
    sandbox: Sandbox, telling: Daemon, boto3_put_events: Sdk
) -> None:
    poison = {**GOOD, "Detail": '{"sandbox": "reject"}'}
    said = boto3_put_events(telling.url, {"Entries": [GOOD, poison, {**GOOD, "Source": "else"}]})
    assert (said.status, said.retries, said.headers["x-forwarder-ack"]) == (200, 0, "delivered")
    assert said.answer is not None
    entries = said.answer["Entries"]
    assert said.answer["FailedEntryCount"] == 1
    arrived = [event["event_id"] for event in sandbox.arrived("eventbridge")]
    assert [entries[0]["EventId"], entries[2]["EventId"]] == arrived
    assert entries[1]["ErrorCode"] == "InvalidArgument"


def test_put_rum_events_that_aws_refuses_are_sent_once(
    sandbox: Sandbox, telling: Daemon, boto3_put_rum_events: Sdk
) -> None:
    said = boto3_put_rum_events(telling.url, {**BATCH, "RumEvents": [rum_event(1)]})
    assert (said.status, said.headers["x-forwarder-ack"]) == (200, "delivered")
    poison = rum_event(2, details='{"sandbox": "refuse"}')
    said = boto3_put_rum_events(telling.url, {**BATCH, "RumEvents": [rum_event(3), poison]})
    assert (said.status, said.retries) == (400, 0)
    assert said.error is not None
    assert said.error["Code"] == "ValidationException"
    assert len(sandbox.arrived("rum")) == 2
