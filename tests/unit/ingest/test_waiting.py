"""What a request says of waiting, and what it holds meanwhile."""

from __future__ import annotations

import asyncio
import json

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.budget import PARSED_EVENT_BYTES
from forwarder.ingest.dialects.native import answer_bytes
from forwarder.ingest.waiting import preferred_wait
from tests.support.ingest import ENTRY, EVENT, NATIVE, PUT_EVENTS, Routes, request, serving, until


@pytest.mark.parametrize(
    ("preference", "seconds"),
    [
        ("wait=1", 1),
        ("wait=10", 10),
        ("wait=11", 10),
        ("wait=99999999999999999999999999", 10),
        ("wait=007", 7),
        ("wait=0", 0),
        ("wait=000", 0),
        ('respond-async, WAIT = "3"; x=y, wait=9', 3),
        ("handling=lenient;wait=5", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait", 0),
        ("await=5", 0),
        ("", 0),
    ],
)
def test_the_preference_is_read_as_its_rfc_says_and_cut_to_ten_seconds(preference: str, seconds: int) -> None:
    assert preferred_wait({"Prefer": preference}) == seconds


def test_without_the_header_there_is_no_preference() -> None:
    assert preferred_wait({}) == 0


async def test_while_it_waits_a_request_holds_no_bytes_for_its_body() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        large = {**EVENT, "Detail": {"x": "x" * 200_000}}
        await peer.send(request(NATIVE, large, {"Prefer": "wait=10"}))
        await until(lambda: bool(ingest.receipts.waits))
        await until(lambda: 0 < ingest.budget.used < 10_000)
        ingest.receipts.close()
        assert (await peer.answer()).headers["x-forwarder-ack"] == "queued"
        await peer.close()


async def test_a_wait_that_memory_is_too_small_for_is_refused_before_anything_is_taken() -> None:
    body = json.dumps([EVENT] * 100).encode()
    async with serving(budget=len(body) + 100 * PARSED_EVENT_BYTES + answer_bytes(100) + 1000) as ingest:
        answer = await ingest.post(NATIVE, body, {"Prefer": "wait=1"})
        assert answer.status == 413
        assert ingest.count() == 0
        assert (await ingest.post(NATIVE, body)).status == 202


async def test_only_the_events_of_targets_that_are_so_configured_are_waited_for() -> None:
    routes = Routes().add("orders", PutEvents(), default=True)
    async with serving(routes.add("more", PutEvents(), names=("more",), ack_timeout=10.0)) as ingest:
        peer = await ingest.peer()
        entries = [ENTRY, {**ENTRY, "EventBusName": "more"}]
        await peer.send(request("/", {"Entries": entries}, PUT_EVENTS))
        await until(lambda: len(ingest.receipts.waits) == 1)
        [batch] = ingest.batches("more")
        assert set(ingest.receipts.waits) == {batch.events[0].id}
        ingest.receipts.close()
        answer = await peer.answer()
        assert (answer.status, answer.headers["x-forwarder-ack"]) == (200, "queued")
        assert "preference-applied" not in answer.headers
        await peer.close()


async def test_a_call_of_which_nothing_was_taken_does_not_wait() -> None:
    async with serving() as ingest:
        async with asyncio.timeout(5):
            answer = await ingest.put_events({**ENTRY, "Source": ""}, headers={"Prefer": "wait=10"})
        assert (answer.status, answer.json["FailedEntryCount"]) == (200, 1)
        assert "x-forwarder-ack" not in answer.headers
