"""The AWS CLI at our ingest: what it prints and the codes it exits with are those it has for AWS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.processes import Daemon, Sandbox, surroundings

GOOD = {"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"n": 1}'}
SERVICE_ERROR = 255
"""The CLI's exit code when the service answered an error (version 1; version 2 says 254)."""


def put_events(aws: Path, daemon: Daemon, entries: list[Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [aws, "events", "put-events", "--output", "json", "--entries", json.dumps(entries)],
        env=surroundings(AWS_ENDPOINT_URL_EVENTBRIDGE=daemon.url),
        capture_output=True,
        text=True,
    )


def test_put_events_prints_an_id_and_exits_with_0(aws: Path, sandbox: Sandbox, daemon: Daemon) -> None:
    entry = {
        **GOOD,
        "Time": "2026-01-02T03:04:05Z",
        "Resources": ["arn:aws:s3:::bücher"],
        "EventBusName": "default",
    }
    said = put_events(aws, daemon, [entry])
    assert (said.returncode, said.stderr) == (0, "")
    answer = json.loads(said.stdout)
    assert answer["FailedEntryCount"] == 0
    assert [len(result["EventId"]) for result in answer["Entries"]] == [36]
    daemon.deliver("orders")
    assert [event["entry"] for event in sandbox.arrived("eventbridge")] == [{**entry, "Time": 1767323045}]


def test_a_failed_entry_is_printed_and_the_exit_code_is_0(aws: Path, daemon: Daemon) -> None:
    said = put_events(aws, daemon, [{**GOOD, "Detail": "[]"}, {**GOOD, "DetailType": ""}])
    assert (said.returncode, said.stderr) == (0, "")
    missing = "Parameter DetailType is not valid. Reason: DetailType is a required argument."
    assert json.loads(said.stdout) == {
        "FailedEntryCount": 2,
        "Entries": [
            {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."},
            {"ErrorCode": "InvalidArgument", "ErrorMessage": missing},
        ],
    }


def test_a_call_refused_whole_is_an_error_with_the_code_in_it(aws: Path, daemon: Daemon) -> None:
    said = put_events(aws, daemon, [GOOD] * 11)
    assert (said.returncode, said.stdout) == (SERVICE_ERROR, "")
    head, _, message = said.stderr.strip().partition(": ")
    assert head == "An error occurred (ValidationException) when calling the PutEvents operation"
    assert message.startswith("1 validation error detected: Value '[")
    assert message.endswith("Member must have length less than or equal to 10")
