"""boto3, as a program has it, at our ingest: PutEvents and PutRumEvents."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.e2e.conftest import MONITOR
from tests.e2e.processes import Daemon, Sandbox, Sdk, surroundings

PROGRAM = """\
import boto3
answer = boto3.client("events").put_events(
    Entries=[{"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"n": 1}', "EventBusName": "default"}]
)
print(answer["FailedEntryCount"], answer["ResponseMetadata"]["HTTPStatusCode"])
"""
GOOD = {"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"n":2}', "Time": 1767323045}
BATCH = {
    "Id": MONITOR,
    "BatchId": "11111111-2222-4333-8444-555555555555",
    "AppMonitorDetails": {"id": MONITOR, "version": "1.0.0"},
    "UserDetails": {
        "userId": "aaaaaaaa-2222-4333-8444-555555555555",
        "sessionId": "bbbbbbbb-2222-4333-8444-555555555555",
    },
}


def rum_event(n: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"00000000-0000-4000-8000-{n:012d}",
        "timestamp": 1767323045 + n,
        "type": "com.amazon.rum.page_view_event",
        "details": json.dumps({"n": n}),
        **more,
    }


def test_an_unchanged_program_needs_only_an_environment_variable(
    boto3: str | Path, sandbox: Sandbox, daemon: Daemon
) -> None:
    environment = surroundings(AWS_ENDPOINT_URL_EVENTBRIDGE=daemon.url)
    said = subprocess.run([boto3, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True)
    assert said.stdout == "0 200\n"
    daemon.deliver("orders")
    [event] = sandbox.arrived("eventbridge")
    time = event["entry"].pop("Time")
    assert time > 1_767_225_600  # it had none: it got the moment of its arrival
    assert event["entry"] == {
        "Source": "shop",
        "DetailType": "OrderPlaced",
        "Detail": '{"n": 1}',
        "EventBusName": "default",
    }


def test_put_events_fails_bad_entries_in_their_places_and_delivers_the_others(
    sandbox: Sandbox, daemon: Daemon, boto3_put_events: Sdk
) -> None:
    bad = [{**GOOD, "Detail": "no JSON"}, {"DetailType": "a", "Detail": "{}"}, {**GOOD, "Source": "aws.ec2"}]
    said = boto3_put_events(daemon.url, {"Entries": [GOOD, bad[0], GOOD, bad[1], bad[2]]})
    assert (said.status, said.error, said.retries) == (200, None, 0)
    assert said.answer is not None
    assert said.answer["FailedEntryCount"] == 3
    entries = said.answer["Entries"]
    assert [len(entry["EventId"]) for entry in (entries[0], entries[2])] == [36, 36]
    assert entries[1] == {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
    missing = "Parameter Source is not valid. Reason: Source is a required argument."
    assert entries[3] == {"ErrorCode": "InvalidArgument", "ErrorMessage": missing}
    assert entries[4]["ErrorCode"] == "NotAuthorizedForSourceException"
    daemon.deliver("orders")
    assert [event["entry"] for event in sandbox.arrived("eventbridge")] == [GOOD, GOOD]


def test_put_events_of_eleven_entries_or_too_many_bytes_is_refused_whole(
    daemon: Daemon, boto3_put_events: Sdk
) -> None:
    said = boto3_put_events(daemon.url, {"Entries": [GOOD] * 11})
    assert (said.status, said.answer, said.retries) == (400, None, 0)
    assert said.error is not None
    assert said.error["Code"] == "ValidationException"
    assert said.error["Message"].startswith("1 validation error detected: Value '[")
    assert said.error["Message"].endswith(
        "at 'entries' failed to satisfy constraint: Member must have length less than or equal to 10"
    )
    # 14 bytes of Time, 4 of Source, 11 of DetailType: the first of these is the largest call there is.
    for length, status in ((1_048_575 - 29, 200), (1_048_576 - 29, 400)):
        detail = json.dumps({"a": "x" * (length - 9)})
        assert len(detail) == length
        said = boto3_put_events(daemon.url, {"Entries": [{**GOOD, "Detail": detail}]})
        assert said.status == status
    over = "Total size of the entries in the request is over the limit."
    assert said.error == {"Code": "ValidationException", "Message": over}
    daemon.deliver("orders")


def test_a_rum_batch_arrives_as_the_batch_it_was(
    sandbox: Sandbox, daemon: Daemon, boto3_put_rum_events: Sdk
) -> None:
    events = [rum_event(n, metadata=json.dumps({"pageId": "/ä"})) for n in range(3)]
    batch = {**BATCH, "BatchId": str(uuid.uuid4()), "Alias": "a"}  # the very same body again is taken once
    said = boto3_put_rum_events(daemon.url, {**batch, "RumEvents": events})
    assert (said.status, said.answer, said.error) == (200, {}, None)
    daemon.deliver("web")
    arrived = sandbox.arrived("rum")
    assert [event["entry"] for event in arrived] == events
    assert len({event["call"] for event in arrived}) == 1
    assert all(event["envelope"] == batch for event in arrived)


def test_the_metadata_of_a_rum_session_arrive_though_our_sdk_is_older_than_they(
    sandbox: Sandbox, daemon: Daemon, new_boto3: Path
) -> None:
    put_rum_events = Sdk(new_boto3, "rum", "put_rum_events", {"inject_host_prefix": False})
    more = {"SessionMetadata": json.dumps({"browserName": "Chrome", "aws:client": "arw-module"})}
    said = put_rum_events(daemon.url, {**BATCH, **more, "RumEvents": [rum_event(1)]})
    assert (said.status, said.answer, said.error) == (200, {}, None)
    daemon.deliver("web")
    assert [event["envelope"] for event in sandbox.arrived("rum")] == [{**BATCH, **more}]


def test_one_bad_rum_event_refuses_its_batch(
    sandbox: Sandbox, daemon: Daemon, boto3_put_rum_events: Sdk
) -> None:
    events = [rum_event(0), rum_event(1, details="no JSON")]
    said = boto3_put_rum_events(daemon.url, {**BATCH, "RumEvents": events})
    assert (said.status, said.answer, said.retries) == (400, None, 0)
    assert said.error is not None
    assert said.error["Code"] == "ValidationException"
    assert "RumEvents[1]" in said.error["Message"]
    assert "details" in said.error["Message"]
    daemon.deliver("web")
    assert sandbox.arrived("rum") == []
