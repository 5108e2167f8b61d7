"""Stock botocore at a sandbox: what it sends and what it makes of the answers is not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

MODELS = Path(__file__).parents[2] / "forwarder" / "targets" / "models"
MONITOR = "00000000-0000-4000-8000-0000000000aa"
BATCH = "00000000-0000-4000-8000-0000000000bb"
SERVICES = {"eventbridge": "events", "rum": "rum", "evidently": "evidently"}


@cache
def _session() -> botocore.session.Session:
    session = botocore.session.Session()
    session.get_component("data_loader").search_paths.append(str(MODELS))
    return session


@contextmanager
def client(api: str, url: str, **more: Any) -> Iterator[Any]:
    """One client of one of the APIs, that tries once."""
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, read_timeout=10, **more)
    made = _session().create_client(
        SERVICES[api],
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
        config=config,
    )
    try:
        yield made
    finally:
        made.close()


def parameters(api: str, *data: str) -> dict[str, Any]:
    """A call with one event for each of these JSON texts."""
    if api == "eventbridge":
        return {"Entries": [{"Source": "app", "DetailType": "t", "Detail": text} for text in data]}
    if api == "evidently":
        events = [{"timestamp": 1, "type": "aws.evidently.custom", "data": text} for text in data]
        return {"project": "web", "events": events}
    ids = [f"00000000-0000-4000-8000-{i:012x}" for i in range(len(data))]
    events = [
        {"id": id_, "timestamp": 1, "type": "t", "details": text} for id_, text in zip(ids, data, strict=True)
    ]
    details = {"id": MONITOR, "version": "1"}
    return {
        "Id": MONITOR,
        "BatchId": BATCH,
        "AppMonitorDetails": details,
        "UserDetails": {},
        "RumEvents": events,
    }


async def put(api: str, url: str, *data: str) -> Any:
    """The parsed answer to a call with one event for each of these JSON texts, or the ClientError."""
    return await asyncio.to_thread(_put, api, url, parameters(api, *data))


def _put(api: str, url: str, call: dict[str, Any]) -> Any:
    with client(api, url) as aws:
        operation = {"eventbridge": "put_events", "rum": "put_rum_events", "evidently": "put_project_events"}
        try:
            return getattr(aws, operation[api])(**call)
        except ClientError as error:
            return error


def code(answer: Any) -> tuple[int, str]:
    """The HTTP status and AWS code of a ClientError."""
    assert isinstance(answer, ClientError), answer
    return answer.response["ResponseMetadata"]["HTTPStatusCode"], answer.response["Error"]["Code"]


def results(api: str, answer: Any) -> list[str]:
    """The error code of each event of an answered call, "" where there is none."""
    assert isinstance(answer, dict), answer
    if api == "eventbridge":
        assert answer["FailedEntryCount"] == sum("ErrorCode" in entry for entry in answer["Entries"])
        return [entry.get("ErrorCode", "") for entry in answer["Entries"]]
    assert answer["failedEventCount"] == sum("errorCode" in entry for entry in answer["eventResults"])
    return [entry.get("errorCode", "") for entry in answer["eventResults"]]
