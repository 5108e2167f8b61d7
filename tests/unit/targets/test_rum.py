"""What only RUM has: the envelope of a call."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forwarder.model import Batch, CallStatus, Event, Flush
from forwarder.targets.rum import RumOptions, build
from tests.support.fake_aws import aws_environment, fails, fake_aws, says

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

MONITOR = "00000000-0000-4000-8000-0000000000aa"
BATCH_ID = "00000000-0000-4000-8000-0000000000bb"
ENVELOPE: dict[str, Any] = {
    "Id": MONITOR,
    "AppMonitorDetails": {"name": "shop", "id": MONITOR, "version": "1.0.0"},
    "UserDetails": {"userId": "u", "sessionId": "s"},
    "Alias": "web",
    "SessionMetadata": '{"version":"1.0.0"}',
}


def batch(envelope: dict[str, Any], *ids: str) -> Batch:
    key = json.dumps(envelope, sort_keys=True).encode()
    body = json.dumps({"id": MONITOR, "timestamp": 1767323045, "type": "t", "details": "{}"}).encode()
    return Batch(key, [Event(each, body, len(body), key, 0.0) for each in ids], 1, Flush.COUNT)


async def bodies_sent(*batches: Batch) -> list[dict[str, Any]]:
    async with fake_aws(fails(500, "InternalServerException"), says(200, b"")) as aws:
        target = build("web", RumOptions(region="eu-west-1", endpoint_url=aws.url))
        for each in batches:
            await target.send(each)
        await target.close()
    return [call.json for call in aws.calls]


async def test_the_envelope_arrives_whole() -> None:
    (body,) = await bodies_sent(batch({**ENVELOPE, "BatchId": BATCH_ID}, "e"))
    events = body.pop("RumEvents")
    assert body == {key: value for key, value in ENVELOPE.items() if key != "Id"} | {"BatchId": BATCH_ID}
    assert len(events) == 1


async def test_a_batch_keeps_its_derived_id_on_every_try_and_shares_it_with_no_other() -> None:
    once, again, other = await bodies_sent(
        batch(ENVELOPE, "e1", "e2"), batch(ENVELOPE, "e1", "e2"), batch(ENVELOPE, "e1", "e3")
    )
    assert once["BatchId"] == again["BatchId"] != other["BatchId"]
    assert len(once["BatchId"]) == 36


async def test_success_says_nothing_at_all() -> None:
    async with fake_aws(says(200, b"")) as aws:
        target = build("web", RumOptions(region="eu-west-1", endpoint_url=aws.url))
        results = await target.send(batch(ENVELOPE, "e"))
        await target.close()
    assert results.status is CallStatus.OK
