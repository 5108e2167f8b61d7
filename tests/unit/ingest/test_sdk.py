"""AWS's own client, unmodified, against the ingest server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from forwarder.apis.put_events import PutEvents
from forwarder.queues.queue import Settlement
from tests.support.ingest import MONITOR, Ingest, Routes, serving

ENTRY = {"Source": "shop", "DetailType": "größe", "Detail": '{"n": "é"}', "Time": 1767323045.6789}


def client(ingest: Ingest, service: str, region: str = "eu-west-1", attempts: int = 1) -> Any:
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=f"http://{ingest.server.address}",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": attempts, "mode": "standard"}),
    )


async def using(make: Callable[[], Any], call: Callable[[Any], Any]) -> Any:
    def work() -> Any:
        made = make()
        try:
            return call(made)
        finally:
            made.close()

    return await asyncio.to_thread(work)


async def test_put_events_gives_ids_that_are_in_the_queue() -> None:
    async with serving() as ingest:
        answer = await using(
            lambda: client(ingest, "events"),
            lambda sdk: sdk.put_events(Entries=[ENTRY, {**ENTRY, "Source": ""}]),
        )
        assert answer["FailedEntryCount"] == 1
        assert answer["Entries"][1]["ErrorCode"] == "InvalidArgument"
        assert answer["ResponseMetadata"]["RequestId"]
        [batch] = ingest.batches()
        assert [event.id for event in batch.events] == [answer["Entries"][0]["EventId"]]
        body = json.loads(batch.events[0].body)
        assert (body["DetailType"], body["Detail"]) == (ENTRY["DetailType"], ENTRY["Detail"])


async def test_put_rum_events_is_taken() -> None:
    event = {"id": MONITOR, "timestamp": 1767323045, "type": "page_view", "details": "{}", "metadata": "{}"}
    call = {
        "Id": MONITOR,
        "BatchId": MONITOR,
        "AppMonitorDetails": {},
        "UserDetails": {},
        "RumEvents": [event],
    }
    async with serving() as ingest:
        answer = await using(lambda: client(ingest, "rum"), lambda sdk: sdk.put_rum_events(**call))
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert ingest.count("web") == 1


@pytest.mark.parametrize(
    ("entries", "code"),
    [([ENTRY] * 11, "ValidationException"), ([ENTRY] * 4, "RequestEntityTooLargeException")],
)
async def test_errors_have_a_code_that_the_client_knows(entries: list[Any], code: str) -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=3)) as ingest:
        with pytest.raises(botocore.exceptions.ClientError) as problem:
            await using(lambda: client(ingest, "events"), lambda sdk: sdk.put_events(Entries=entries))
        assert problem.value.response["Error"]["Code"] == code


async def test_a_throttled_client_comes_back_by_itself() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        await ingest.put_events({key: ENTRY[key] for key in ("Source", "DetailType", "Detail")})
        sending = asyncio.create_task(
            using(lambda: client(ingest, "events", attempts=5), lambda sdk: sdk.put_events(Entries=[ENTRY]))
        )
        async with asyncio.timeout(20):
            while not ingest.refused():
                await asyncio.sleep(0.01)
            [batch] = ingest.batches()
            ingest.queues["orders"].settle(Settlement(gone=batch.events))
            answer = await sending
        assert answer["FailedEntryCount"] == 0
        assert answer["ResponseMetadata"]["RetryAttempts"] >= 1


async def test_a_foreign_region_is_told_so() -> None:
    async with serving() as ingest:
        with pytest.raises(botocore.exceptions.ClientError, match="us-east-1"):
            await using(
                lambda: client(ingest, "events", region="us-east-1"),
                lambda sdk: sdk.put_events(Entries=[ENTRY]),
            )
