"""What clients of the AWS wire send and need back, point by point: the list that the ingest was made from.

Points that have files of their own: bodies and gzip (test_bodies), repeats (test_idempotency), connections
(test_connections), the texts of errors (test_aws_cases).
"""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from tests.support.ingest import (
    ENTRY,
    EVENT,
    MONITOR,
    NATIVE,
    PUT_EVENTS,
    Answer,
    Ingest,
    Routes,
    request,
    serving,
)

NIL = "00000000-0000-0000-0000-000000000000"
MONITOR_PATH = f"/appmonitors/{MONITOR}"
PROJECT_PATH = "/events/projects/shop"
RUM_EVENT = {"id": MONITOR, "timestamp": 1767323045, "type": "page_view", "details": '{"a":1}'}
RUM_CALL: dict[str, Any] = {
    "BatchId": MONITOR,
    "AppMonitorDetails": {"id": MONITOR, "version": "1"},
    "UserDetails": {"userId": NIL, "sessionId": MONITOR},
    "RumEvents": [RUM_EVENT],
}
PROJECT_EVENT = {"timestamp": 1767323045, "type": "aws.evidently.custom", "data": '{"a":1}'}
CALLS: dict[str, tuple[str, Any, str]] = {
    "put_events": ("/", {"Entries": [ENTRY]}, "orders"),
    "put_rum_events": (MONITOR_PATH, RUM_CALL, "web"),
    "put_project_events": (PROJECT_PATH, {"events": [PROJECT_EVENT]}, "lab"),
}
"""Of each operation: its path, a good call, and the target that gets its events."""

OPERATIONS = pytest.mark.parametrize("operation", CALLS)


def head(operation: str) -> dict[str, str]:
    return {"X-Amz-Target": "AWSEvents.PutEvents"} if operation == "put_events" else {}


async def call(ingest: Ingest, operation: str, mount: str = "", **headers: str) -> Answer:
    path, body, _ = CALLS[operation]
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await ingest.post(mount + path, body, {**head(operation), **given})


# --- 1, 2: paths, hosts, content types


@OPERATIONS
@pytest.mark.parametrize("mount", ["/mount", "/a/b/c", "/v2"])
async def test_every_operation_may_be_mounted_anywhere(operation: str, mount: str) -> None:
    async with serving() as ingest:
        assert (await call(ingest, operation, mount)).status == 200
        assert ingest.count(CALLS[operation][2]) == 1


@OPERATIONS
@pytest.mark.parametrize(
    "host", ["dataplane.rum.eu-west-1.amazonaws.com", "dataplane.127.0.0.1:2780", "events.example", "[::1]:1"]
)
async def test_the_host_that_a_client_thinks_it_talks_to_means_nothing(operation: str, host: str) -> None:
    async with serving() as ingest:
        assert (await call(ingest, operation, Host=host)).status == 200


@OPERATIONS
async def test_what_stands_behind_a_question_mark_is_no_part_of_the_path(operation: str) -> None:
    path, body, target = CALLS[operation]
    async with serving() as ingest:
        signed = f"{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature=00"
        assert (await ingest.post(signed, body, head(operation))).status == 200
        assert ingest.count(target) == 1


@OPERATIONS
@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-amz-json-1.1",
        "application/x-amz-json-1.0",
        "Application/X-Amz-Json-1.1; charset=UTF-8",
        "application/json",
        "application/json;charset=utf-8",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "",
    ],
)
async def test_every_content_type_that_clients_send_is_taken(operation: str, content_type: str) -> None:
    async with serving() as ingest:
        assert (await call(ingest, operation, Content_Type=content_type)).status == 200


@OPERATIONS
async def test_a_body_without_a_content_type_is_taken_and_one_in_identity_too(operation: str) -> None:
    async with serving() as ingest:
        assert (await call(ingest, operation)).status == 200
        assert (await call(ingest, operation, Content_Encoding="identity")).status == 200


# --- 3, 5: gzip, and the size of bodies


@OPERATIONS
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_a_gzipped_call_is_taken(operation: str, encoding: str) -> None:
    path, body, target = CALLS[operation]
    packed = gzip.compress(json.dumps(body).encode())
    async with serving() as ingest:
        answer = await ingest.post(path, packed, {**head(operation), "Content-Encoding": encoding})
        assert answer.status == 200
        assert ingest.count(target) == 1


async def test_a_megabyte_that_is_escaped_six_times_over_is_taken() -> None:
    """botocore writes what is not ASCII as \\u00e9, six bytes for the two that AWS counts."""
    letters = (1_048_575 - 50) // 2
    body = json.dumps(
        {"Entries": [{**ENTRY, "Detail": json.dumps({"k": "é" * letters}, ensure_ascii=False)}]}
    )
    assert len(body) > 3_000_000
    async with serving() as ingest:
        assert (await ingest.post("/", body.encode(), PUT_EVENTS)).json["FailedEntryCount"] == 0


# --- 4: times


TIMES = pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("1767323045", 1767323045),
        ("1767323045.678", 1767323045.678),
        ("1767323045.6789", 1767323045.6789),
        ("1.767323045E9", 1767323045),
        ('"2026-01-02T03:04:05Z"', 1767323045),
        ('"2026-01-02T03:04:05.678Z"', 1767323045.678),
        ('"2026-01-02T04:04:05+01:00"', 1767323045),
        ('"2026-01-02"', 1767312000),
        ("0", 0),
    ],
)


def with_time(operation: str, time: str) -> tuple[str, bytes, str]:
    path, body, target = CALLS[operation]
    member = "Time" if operation == "put_events" else "timestamp"
    (name, [event]) = next((k, v) for k, v in body.items() if isinstance(v, list))
    marked = json.dumps({**body, name: [{**event, member: "TIME"}]})
    return path, marked.replace('"TIME"', time).encode(), target


@OPERATIONS
@TIMES
async def test_a_time_is_a_number_or_iso_8601_and_leaves_as_a_number(
    operation: str, time: str, seconds: float
) -> None:
    path, body, target = with_time(operation, time)
    async with serving() as ingest:
        assert (await ingest.post(path, body, head(operation))).status == 200
        [event] = ingest.bodies(target)
        assert event.get("Time", event.get("timestamp")) == seconds


@OPERATIONS
@pytest.mark.parametrize(
    "time", ["NaN", "Infinity", "-Infinity", "1e999", '"NaN"', '"Infinity"', '"now"', "-1", "true", "[]"]
)
async def test_what_is_no_time_is_refused_and_never_taken(operation: str, time: str) -> None:
    path, body, target = with_time(operation, time)
    async with serving() as ingest:
        answer = await ingest.post(path, body, head(operation))
        said = answer.json
        rows = said.get("Entries") or said.get("eventResults")
        refused = said["__type"] if rows is None else rows[0].get("ErrorCode") or rows[0].get("errorCode")
        assert refused in ("SerializationException", "ValidationException", "InvalidArgument")
        assert ingest.count(target) == 0


# --- members that few clients send


async def test_an_endpoint_id_is_kept_with_the_events_of_its_call() -> None:
    async with serving() as ingest:
        answer = await ingest.post("/", {"EndpointId": "abcde.veo", "Entries": [ENTRY] * 2}, PUT_EVENTS)
        assert answer.json["FailedEntryCount"] == 0
        [batch] = ingest.batches()
        assert (batch.key, len(batch.events)) == (b"abcde.veo", 2)


@pytest.mark.parametrize("endpoint", ["", "veo", "a.b.c", "evil.example/", "a@b.c", "x" * 50 + ".y", "a.b\n"])
async def test_what_is_no_endpoint_id_refuses_the_call_as_aws_does(endpoint: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post("/", {"EndpointId": endpoint, "Entries": [ENTRY]}, PUT_EVENTS)
        assert (answer.status, answer.json["__type"]) == (400, "ValidationException")
        assert "at 'endpointId' failed to satisfy constraint" in answer.json["message"]
        assert ingest.count() == 0


async def test_alias_session_metadata_and_the_nil_user_are_kept_with_the_session() -> None:
    more = {"Alias": "shop", "SessionMetadata": '{"osName":"Linux","aws:client":"arw-module"}'}
    async with serving() as ingest:
        assert (await ingest.post(MONITOR_PATH, {**RUM_CALL, **more})).status == 200
        [batch] = ingest.batches("web")
        kept = {name: RUM_CALL[name] for name in ("BatchId", "AppMonitorDetails", "UserDetails")}
        assert json.loads(batch.key) == {"Id": MONITOR, **kept, **more}


# --- 6: the order of errors


async def test_the_first_thing_wrong_is_said_in_the_order_in_which_aws_looks() -> None:
    nothing: dict[str, str] = {}
    entries = [nothing, {"Source": "a"}, {"Source": "a", "DetailType": "b"}, {**ENTRY, "Detail": "["}]
    worse = [{"Detail": "["}, {"Source": "a", "Detail": "["}, {**ENTRY, "Detail": ""}]
    async with serving() as ingest:
        answer = await ingest.put_events(*entries, *worse)
        said = [(row["ErrorCode"], row["ErrorMessage"].split()[1]) for row in answer.json["Entries"]]
        required = [("InvalidArgument", name) for name in ("Source", "DetailType", "Detail")]
        assert said == [*required, ("MalformedDetail", "is"), *required]


async def test_the_number_of_entries_goes_before_their_size_and_both_before_the_entries() -> None:
    huge = {**ENTRY, "Source": "", "Detail": "x" * 1_048_576}
    async with serving() as ingest:
        many = await ingest.put_events(*[{**ENTRY, "Detail": "x" * 100_000}] * 11)
        assert "less than or equal to 10" in many.json["message"]
        one = await ingest.put_events(huge)
        assert one.json["message"] == "Total size of the entries in the request is over the limit."


# --- 7: headers of answers


@OPERATIONS
async def test_a_taken_call_is_answered_200_with_an_id_a_type_and_the_date(operation: str) -> None:
    async with serving() as ingest:
        answer = await call(ingest, operation)
        assert answer.status == 200
        assert UUID(answer.headers["x-amzn-requestid"])
        is_json_1_1 = operation == "put_events"
        assert answer.headers["content-type"] == "application/" + (
            "x-amz-json-1.1" if is_json_1_1 else "json"
        )
        assert is_now(answer)


def is_now(answer: Answer) -> bool:
    """SDKs set their clocks by the Date of an answer (the JavaScript one signs with it)."""
    return abs(datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])) < timedelta(minutes=1)


REFUSED: dict[str, tuple[str, str, bytes, dict[str, str], int]] = {
    "not JSON": ("POST", "/", b"{", PUT_EVENTS, 400),
    "unknown operation": ("POST", "/", b"{}", {"X-Amz-Target": "AWSEvents.PutPartnerEvents"}, 400),
    "another service": ("POST", "/x/", b"{}", {"X-Amz-Target": "AWSEventsV2.PutEvents"}, 400),
    "no operation": ("POST", "/", b"{}", {}, 400),
    "unknown monitor": ("POST", "/appmonitors/" + NIL, json.dumps(RUM_CALL).encode(), {}, 404),
    "unknown project": ("POST", "/events/projects/none", b'{"events":[]}', {}, 404),
    "unknown path": ("POST", "/nowhere", b"{}", {}, 404),
    "GET": ("GET", "/", b"", PUT_EVENTS, 405),
    "PUT of RUM": ("PUT", MONITOR_PATH, b"{}", {}, 405),
    "DELETE of a project": ("DELETE", PROJECT_PATH, b"{}", {}, 405),
    "too large": ("POST", "/", b" " * 100_001, PUT_EVENTS, 413),
    "RUM too large": ("POST", MONITOR_PATH, b" " * 100_001, {}, 413),
    "CBOR": ("POST", "/", b"x", {**PUT_EVENTS, "Content-Type": "application/cbor"}, 415),
    "brotli": ("POST", PROJECT_PATH, b"x", {"Content-Encoding": "br"}, 415),
    "gzip that is none": ("POST", MONITOR_PATH, b"x", {"Content-Encoding": "gzip"}, 400),
    "headers too large": ("POST", "/", b"{}", {**PUT_EVENTS, "X-Large": "x" * 20_000}, 431),
    "full": ("POST", "/", json.dumps({"Entries": [ENTRY]}).encode(), PUT_EVENTS, 429),
    "no HTTP": ("PO ST", "/", b"{}", {}, 400),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_every_refusal_is_json_that_all_sdks_can_read_with_the_date_and_an_id(why: str) -> None:
    method, path, body, headers, status = REFUSED[why]
    async with serving(one_place_of_each(), max_body=100_000) as ingest:
        assert (await ingest.put_events(ENTRY)).status == 200
        answer = await ingest.post(path, body, headers, method)
        assert answer.status == status
        assert answer.headers["content-type"].startswith("application/")
        assert answer.json["__type"] == answer.headers["x-amzn-errortype"]
        assert answer.json["message"]
        assert UUID(answer.headers["x-amzn-requestid"])
        assert is_now(answer)
        if status == 429:
            assert int(answer.headers["retry-after"]) >= 1
            assert int(answer.headers["x-amz-retry-after"]) >= 1000


def one_place_of_each() -> Routes:
    """Only ``orders``, which is full after one event, and a monitor and a project that are bound."""
    routes = Routes().add("orders", PutEvents(), default=True, max_events=1)
    routes.add("web", PutRumEvents(app_monitors=(MONITOR,)), names=(MONITOR,))
    return routes.add("lab", PutProjectEvents(projects=("shop",)), names=("shop",))


async def test_what_is_written_by_hand_has_the_date_as_well() -> None:
    async with serving(max_connections=1, read_timeout=0.05) as ingest:
        slow, extra = await ingest.peer(), await ingest.peer()
        await slow.send(b"POST / HT")
        await extra.send(request(NATIVE, EVENT))
        for peer, status in ((slow, 408), (extra, 503)):
            answer = await peer.answer()
            assert answer.status == status
            assert answer.json["__type"] == answer.headers["x-amzn-errortype"]
            assert is_now(answer)
            await peer.close()


# --- 12: asking first


@OPERATIONS
async def test_a_client_that_asks_first_is_told_to_go_on_and_then_answered(operation: str) -> None:
    path, body, _ = CALLS[operation]
    text = json.dumps(body).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        asking = {**head(operation), "Expect": "100-continue", "Content-Length": str(len(text))}
        await peer.send(request(path, b"", asking))
        assert (await peer.answer()).status == 100
        await peer.send(text)
        assert (await peer.answer()).status == 200
        await peer.close()
