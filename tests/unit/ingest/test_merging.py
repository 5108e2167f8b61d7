"""What a RUM target with ``merge`` makes of its clients' batches."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from forwarder.apis.put_rum_events import PutRumEvents, read_envelope
from tests.support.ingest import MONITOR, Routes, serving
from tests.unit.ingest.test_aws import MONITOR_PATH, is_aws_error, rum_call

OTHER = "00000000-0000-4000-8000-0000000000bb"
MOST = 10
"""Events a call, by the limits of these queues."""


def merging() -> Routes:
    return Routes().add("web", PutRumEvents((MONITOR, OTHER), merge=True), names=(MONITOR, OTHER))


def another(events: int = 1, **changes: Any) -> dict[str, Any]:
    """A client's batch with an id of its own."""
    return rum_call(events, **{"BatchId": str(uuid.uuid4()), **changes})


async def test_the_batches_of_a_session_leave_as_one() -> None:
    async with serving(merging()) as ingest:
        for _ in range(3):
            answer = await ingest.post(MONITOR_PATH, another(2, Alias="a", SessionMetadata='{"n":1}'))
            assert (answer.status, answer.json) == (200, {})
        [batch] = ingest.batches("web")
        assert len(batch.events) == 6
        expected = another(Alias="a", SessionMetadata='{"n":1}')
        del expected["BatchId"], expected["RumEvents"]
        assert read_envelope(batch.key) == {"Id": MONITOR, **expected}


@pytest.mark.parametrize(
    "changes",
    [
        {"AppMonitorDetails": {"id": MONITOR, "version": "2"}},
        {"UserDetails": {"userId": OTHER, "sessionId": MONITOR}},
        {"UserDetails": {"userId": MONITOR, "sessionId": OTHER}},
        {"Alias": "a"},
        {"SessionMetadata": '{"version":"2"}'},
    ],
)
async def test_batches_that_differ_in_anything_but_their_id_stay_apart(changes: dict[str, Any]) -> None:
    async with serving(merging()) as ingest:
        for more in ({}, changes, {}, changes):
            assert (await ingest.post(MONITOR_PATH, another(**more))).status == 200
        assert [len(batch.events) for batch in ingest.batches("web")] == [2, 2]


async def test_batches_of_two_app_monitors_stay_apart() -> None:
    async with serving(merging()) as ingest:
        for monitor in (MONITOR, OTHER):
            assert (await ingest.post(f"/appmonitors/{monitor}", another())).status == 200
        assert len(ingest.batches("web")) == 2


async def test_what_is_joined_keeps_to_the_limits_of_a_call() -> None:
    async with serving(merging()) as ingest:
        for _ in range(4):
            await ingest.post(MONITOR_PATH, another(6))
        assert [len(batch.events) for batch in ingest.batches("web")] == [MOST, MOST, 4]


async def test_a_client_that_tries_again_has_its_events_taken_once() -> None:
    async with serving(merging()) as ingest:
        call = another(2)
        assert [(await ingest.post(MONITOR_PATH, call)).status for _ in range(2)] == [200, 200]
        assert ingest.count("web") == 2


@pytest.mark.parametrize("batch_id", [None, "no-uuid"])
async def test_a_batch_id_is_required_though_it_is_not_sent_on(batch_id: str | None) -> None:
    async with serving(merging()) as ingest:
        answer = await ingest.post(MONITOR_PATH, another(BatchId=batch_id))
        assert is_aws_error(answer, 400, "ValidationException")
        assert ingest.count("web") == 0


async def test_native_events_join_the_batches_of_their_session() -> None:
    async with serving(merging()) as ingest:
        call = another()
        envelope = {"AppMonitorId": MONITOR, **{k: v for k, v in call.items() if k != "RumEvents"}}
        event = {"type": "page_view", "details": {"n": 1}, **envelope}
        assert (await ingest.post("/v1/targets/web/events", event)).status == 202
        assert (await ingest.post(MONITOR_PATH, another())).status == 200
        assert [len(batch.events) for batch in ingest.batches("web")] == [2]
