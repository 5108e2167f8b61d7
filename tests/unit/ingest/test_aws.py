"""The AWS wire over a real socket."""

from __future__ import annotations

import gzip
import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_rum_events import PutRumEvents
from tests.support.ingest import ENTRY, MONITOR, NATIVE, PUT_EVENTS, Answer, Routes, serving

PROJECT = "/events/projects/shop"
MONITOR_PATH = f"/appmonitors/{MONITOR}"
PROJECT_EVENT = {"timestamp": 1767323045, "type": "aws.evidently.custom", "data": '{"a":1}'}


def signed(region: str, service: str = "events") -> dict[str, str]:
    scope = f"Credential=AKID/20261121/{region}/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=00"}


def rum_call(events: int = 1, **changes: Any) -> dict[str, Any]:
    event = {"id": MONITOR, "timestamp": 1767323045, "type": "page_view", "details": '{"a":1}'}
    return {
        "BatchId": MONITOR,
        "AppMonitorDetails": {"id": MONITOR, "version": "1"},
        "UserDetails": {"userId": MONITOR, "sessionId": MONITOR},
        "RumEvents": [event] * events,
        **changes,
    }


def is_aws_error(answer: Answer, status: int, code: str) -> bool:
    assert answer.status == status, answer.body
    assert answer.json["__type"] == code
    assert answer.json["message"]
    assert answer.headers["x-amzn-errortype"] == code
    assert answer.headers["x-amzn-requestid"]
    return True


async def test_put_events_answers_200_with_an_id_per_entry_in_order() -> None:
    async with serving() as ingest:
        answer = await ingest.put_events(ENTRY, ENTRY)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        assert answer.headers["x-amzn-requestid"]
        assert parsedate_to_datetime(answer.headers["date"])
        assert answer.json["FailedEntryCount"] == 0
        [batch] = ingest.batches()
        assert [event.id for event in batch.events] == [each["EventId"] for each in answer.json["Entries"]]


async def test_a_bad_entry_fails_alone() -> None:
    async with serving() as ingest:
        answer = await ingest.put_events(ENTRY, {**ENTRY, "Source": ""}, {**ENTRY, "Detail": "[]"}, ENTRY)
        assert answer.status == 200
        assert answer.json["FailedEntryCount"] == 2
        codes = [entry.get("ErrorCode") for entry in answer.json["Entries"]]
        assert codes == [None, "InvalidArgument", "MalformedDetail", None]
        assert ingest.count() == 2
        assert ingest.refused() == {"invalid": 2}


@pytest.mark.parametrize("path", ["/", "/some/mount/"])
async def test_put_events_is_taken_at_any_path_that_ends_with_a_slash(path: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(path, {"Entries": [ENTRY]}, PUT_EVENTS)).status == 200


@pytest.mark.parametrize("entries", [[], [ENTRY] * 11])
async def test_none_or_more_than_ten_entries_are_refused_whole(entries: list[Any]) -> None:
    async with serving() as ingest:
        assert is_aws_error(await ingest.put_events(*entries), 400, "ValidationException")
        assert ingest.count() == 0


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"[]", b'{"Entries":[{"Source":7}]}', b'{"Entries":"x"}', b'{"Entries":' + b"[" * 5000],
)
async def test_a_call_that_cannot_be_read_is_refused_whole(body: bytes) -> None:
    async with serving() as ingest:
        assert is_aws_error(await ingest.post("/", body, PUT_EVENTS), 400, "SerializationException")


async def test_an_unknown_or_missing_operation_is_named() -> None:
    async with serving() as ingest:
        other = {"X-Amz-Target": "AWSEvents.PutPartnerEvents"}
        answer = await ingest.post("/", b"{}", other)
        assert is_aws_error(answer, 400, "UnknownOperationException")
        assert "PutPartnerEvents" in answer.json["message"]
        assert is_aws_error(await ingest.post("/", b"{}"), 400, "UnknownOperationException")


async def test_an_unbound_bus_fails_its_own_entry_only() -> None:
    async with serving(Routes().add("orders", PutEvents(), names=("orders",))) as ingest:
        answer = await ingest.put_events(
            {**ENTRY, "EventBusName": "orders"}, {**ENTRY, "EventBusName": "else"}
        )
        assert answer.status == 200
        assert [entry.get("ErrorCode") for entry in answer.json["Entries"]] == [None, "InvalidArgument"]
        assert "else" in answer.json["Entries"][1]["ErrorMessage"]
        assert ingest.metrics.unbound.refused["unknown_target"] == 1


async def test_partly_full_targets_throttle_their_own_entries_only() -> None:
    routes = (
        Routes().add("orders", PutEvents(), default=True).add("tiny", PutEvents(), names=("t",), max_events=1)
    )
    async with serving(routes) as ingest:
        tiny = {**ENTRY, "EventBusName": "t"}
        assert (await ingest.put_events(tiny)).json["FailedEntryCount"] == 0
        answer = await ingest.put_events(tiny, ENTRY, {**tiny, "Source": ""})
        assert answer.status == 200
        codes = [entry.get("ErrorCode") for entry in answer.json["Entries"]]
        assert codes == ["ThrottlingException", None, "InvalidArgument"]
        assert ingest.refused("tiny") == {"queue_full": 1, "invalid": 1}
        assert ingest.count("orders") == 1


async def test_a_call_of_which_nothing_fits_is_throttled_whole() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        await ingest.put_events(ENTRY)
        answer = await ingest.put_events(ENTRY)
        assert is_aws_error(answer, 429, "ThrottlingException")
        assert (answer.headers["retry-after"], answer.headers["x-amz-retry-after"]) == ("2", "2000")
        assert ingest.refused() == {"queue_full": 1}


async def test_a_call_that_could_never_fit_is_413() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        assert is_aws_error(await ingest.put_events(ENTRY, ENTRY), 413, "RequestEntityTooLargeException")
        assert ingest.refused() == {"too_large": 2}


async def test_a_region_chooses_the_target_and_a_foreign_one_is_refused_by_name() -> None:
    routes = Routes().add("here", PutEvents(), default=True, region="eu-west-1")
    routes.add("there", PutEvents(), default=True, region="us-east-1")
    async with serving(routes) as ingest:
        await ingest.put_events(ENTRY, headers=signed("us-east-1"))
        assert (ingest.count("here"), ingest.count("there")) == (0, 1)
        arn = "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
        await ingest.put_events({**ENTRY, "EventBusName": arn}, headers=signed("us-east-1"))
        assert (ingest.count("here"), ingest.count("there")) == (1, 1)
        answer = await ingest.put_events(ENTRY, headers=signed("ap-south-1"))
        assert is_aws_error(answer, 400, "ValidationException")
        assert "ap-south-1" in answer.json["message"]
        assert "eu-west-1" in answer.json["message"]


@pytest.mark.parametrize("path", [MONITOR_PATH, MONITOR_PATH + "/", "/mount" + MONITOR_PATH])
async def test_a_rum_batch_is_one_batch_in_the_queue(path: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, rum_call(3), {"Content-Type": "text/plain;charset=UTF-8"})
        assert (answer.status, answer.json) == (200, {})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-amzn-requestid"]
        [batch] = ingest.batches("web")
        assert (len(batch.events), batch.reason) == (3, "key")


async def test_a_bad_rum_event_costs_the_whole_batch() -> None:
    async with serving() as ingest:
        call = rum_call(2)
        call["RumEvents"][1] = {**call["RumEvents"][1], "details": "no json"}
        answer = await ingest.post(MONITOR_PATH, call)
        assert is_aws_error(answer, 400, "ValidationException")
        assert ingest.count("web") == 0
        assert ingest.refused("web") == {"invalid": 2}


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("size", [1_500, 200_000], ids=["small-body", "large-body"])
async def test_a_rum_event_that_is_too_large_costs_no_other_of_its_batch(merge: bool, size: int) -> None:
    most = size - 500
    api = PutRumEvents((MONITOR,), merge=merge, max_event_bytes=most)
    routes = Routes().add("web", api, names=(MONITOR,), max_event_bytes=most)
    call = rum_call(4)
    call["RumEvents"] = [dict(event) for event in call["RumEvents"]]
    call["RumEvents"][1]["details"] = json.dumps({"text": "x" * size})
    call["RumEvents"][3]["details"] = json.dumps(
        {"text": '"' * (size * 2 // 3)}
    )  # too large when it is escaped
    async with serving(routes) as ingest:
        answer = await ingest.post(MONITOR_PATH, call)
        assert is_aws_error(answer, 400, "ValidationException")
        assert "2 accepted, 2 refused, 0 dead-lettered. RumEvents[1].details" in answer.json["message"]
        assert ingest.refused("web") == {"too_large": 2}
        again = await ingest.post(MONITOR_PATH, call)
        assert (again.status, again.body) == (400, answer.body), "it is known again, and taken once"
        assert ingest.count("web") == 2


async def test_a_rum_batch_of_nothing_but_large_events_is_refused_whole_and_may_come_again() -> None:
    routes = Routes().add("web", PutRumEvents((MONITOR,), max_event_bytes=100), names=(MONITOR,))
    call = rum_call(2)
    call["RumEvents"] = [{**event, "details": json.dumps({"text": "x" * 200})} for event in call["RumEvents"]]
    async with serving(routes) as ingest:
        assert is_aws_error(await ingest.post(MONITOR_PATH, call), 400, "ValidationException")
        assert (ingest.count("web"), ingest.refused("web")) == (0, {"too_large": 2})


async def test_an_app_monitor_or_project_that_is_not_bound_is_404() -> None:
    async with serving() as ingest:
        other = "/appmonitors/00000000-0000-4000-8000-0000000000bb"
        assert is_aws_error(await ingest.post(other, rum_call()), 404, "ResourceNotFoundException")
        answer = await ingest.post("/events/projects/other", {"events": [PROJECT_EVENT]})
        assert is_aws_error(answer, 404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    "path",
    [
        PROJECT,
        PROJECT + "/",
        "/events/projects/arn%3Aaws%3Aevidently%3Aeu-west-1%3A123456789012%3Aproject%2Fshop",
        "/events/projects/arn:aws:evidently:eu-west-1:123456789012:project/shop",
    ],
)
async def test_a_project_is_named_plainly_or_by_its_arn(path: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, {"events": [PROJECT_EVENT, PROJECT_EVENT]})
        assert answer.status == 200
        assert answer.json["failedEventCount"] == 0
        assert len(answer.json["eventResults"]) == 2
        assert ingest.count("lab") == 2


async def test_a_bad_project_event_fails_alone() -> None:
    async with serving() as ingest:
        bad = {**PROJECT_EVENT, "data": "no json"}
        answer = await ingest.post(PROJECT, {"events": [bad, PROJECT_EVENT]})
        assert answer.json["failedEventCount"] == 1
        assert answer.json["eventResults"][0]["errorCode"] == "ValidationException"
        assert ingest.refused("lab") == {"invalid": 1}


async def test_a_gzipped_call_is_unpacked() -> None:
    async with serving() as ingest:
        body = gzip.compress(json.dumps(rum_call()).encode())
        assert (await ingest.post(MONITOR_PATH, body, {"Content-Encoding": "gzip"})).status == 200


@pytest.mark.parametrize("path", ["/", MONITOR_PATH, PROJECT])
async def test_get_is_405_in_the_shape_of_aws(path: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, method="GET", headers=PUT_EVENTS)
        assert is_aws_error(answer, 405, "MethodNotAllowedException")
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/", MONITOR_PATH, PROJECT])
async def test_an_encoding_or_type_that_is_not_ours_is_415_in_the_shape_of_aws(path: str) -> None:
    async with serving() as ingest:
        brotli = {**PUT_EVENTS, "Content-Encoding": "br"}
        assert is_aws_error(await ingest.post(path, b"x", brotli), 415, "UnsupportedMediaTypeException")
        cbor = {**PUT_EVENTS, "Content-Type": "application/cbor"}
        assert is_aws_error(await ingest.post(path, b"x", cbor), 415, "UnsupportedMediaTypeException")


async def test_a_path_that_is_nobodys_is_404_in_every_shape_at_once() -> None:
    async with serving() as ingest:
        answer = await ingest.post("/nowhere")
        assert is_aws_error(answer, 404, "UnknownOperationException")
        assert answer.json["error"]["code"] == "UnknownOperationException"


async def test_every_request_is_counted_by_route_and_status() -> None:
    async with serving() as ingest:
        await ingest.post(NATIVE, b"{")
        await ingest.put_events(ENTRY)
        await ingest.post("/nowhere")
        counted = ingest.metrics.http.requests
        assert counted == {("native", 400): 1, ("put_events", 200): 1, ("other", 404): 1}
