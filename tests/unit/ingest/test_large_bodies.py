"""Bodies that are taken apart in slices: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from forwarder.apis.wire import is_json_object
from forwarder.ingest.budget import Budget, Lease
from forwarder.ingest.dialects import lines
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http.unpacking import MAX_MEMBERS, unpack
from forwarder.ingest.slices import Work
from tests.support.ingest import EVENT, MIB, MONITOR, NATIVE, PUT_EVENTS, serving

LINES = {"Content-Type": "application/x-ndjson"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
CLOUDEVENTS = "/v1/cloudevents/orders"
CLOUD_EVENT = {"specversion": "1.0", "source": "s", "type": "t"}
MANY = 65_537
LARGE = {**EVENT, "Detail": {"text": "x, [y] {z}" * 31}}
GZIP = {"Content-Encoding": "gzip"}
CALL = {
    "BatchId": "00000000-0000-4000-8000-000000000001",
    "AppMonitorDetails": {},
    "UserDetails": {},
}


async def test_20_000_honest_events_are_accepted_in_every_form() -> None:
    async with serving(budget=256 * MIB) as ingest:  # as by default
        answer = await ingest.post(NATIVE, [LARGE] * 20_000)
        assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (202, 20_000, 0)
        lines = (json.dumps(LARGE) + "\n").encode() * 20_000
        answer = await ingest.post(NATIVE, lines, LINES)
        assert (answer.status, answer.json["accepted"]) == (202, 20_000)
        events = [{**CLOUD_EVENT, "id": str(i), "data": LARGE["Detail"]} for i in range(10_000)]
        answer = await ingest.post(CLOUDEVENTS, events, BATCH)
        assert (answer.status, answer.json["accepted"]) == (202, 10_000)
        assert ingest.count() == 50_000


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (NATIVE, b"[" + b"{}," * (MANY - 1) + b"{}]", {}),
        (NATIVE, b"{}\n" * MANY, LINES),
        (CLOUDEVENTS, b"[" + b"{}," * (MANY - 1) + b"{}]", BATCH),
        (
            f"/appmonitors/{MONITOR}",
            b'{"RumEvents":[' + b"{}," * (MANY - 1) + b"{}]," + json.dumps(CALL).encode()[1:],
            {},
        ),
    ],
    ids=["array", "lines", "batch", "rum"],
)
async def test_more_events_than_a_request_may_have_are_refused_whole(
    path: str, body: bytes, headers: dict[str, str]
) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, gzip.compress(body), {**headers, **GZIP})
        assert answer.status == 413
        assert b"65536 events (ingest.max_events)" in answer.body
        assert len(answer.body) < 1000


async def test_calls_of_too_many_entries_are_refused_as_aws_does() -> None:
    async with serving() as ingest:
        body = b'{"Entries":[' + b"{}," * MANY + b"{}]}"
        answer = await ingest.post("/", body, PUT_EVENTS)
        assert (answer.status, answer.json["__type"]) == (400, "ValidationException")
        assert "less than or equal to 10" in answer.json["message"]
        answer = await ingest.post("/events/projects/shop", b'{"events":[' + b"{}," * MANY + b"{}]}")
        assert "less than or equal to 50" in answer.json["message"]


async def test_as_many_events_as_a_request_may_have_are_each_judged() -> None:
    body = b"[" + b"{}," * 65_535 + b"{}]"
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, gzip.compress(body), GZIP)
        assert (answer.status, answer.json["refused"]) == (400, 65_536)
        assert ingest.refused() == {"invalid": 65_536}
        assert len(answer.body) < 3 * MIB


@pytest.mark.parametrize("form", ["array", "lines", "batch"])
async def test_an_event_that_is_too_long_is_refused_unread(form: str) -> None:
    """What is inside is not even JSON, which nobody finds out."""
    good = json.dumps(LARGE).encode()
    long = b'{"Detail":[' + b"x " * (7 * MIB // 2) + b"]}"
    path, headers = NATIVE, {}
    if form == "lines":
        body, headers = b"\n".join([good, long, good]), LINES
    elif form == "batch":
        good = json.dumps({**CLOUD_EVENT, "id": "1"}).encode()
        path, body, headers = CLOUDEVENTS, b"[%b,%b,%b]" % (good, long, good), BATCH
    else:
        body = b"[%b,%b,%b]" % (good, long, good)
    async with serving() as ingest:
        answer = await ingest.post(path, body, headers)
        assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (202, 2, 1)
        assert "bytes of JSON" in answer.json["results"][1]["message"]
        assert ingest.refused() == {"too_large": 1}


async def test_events_that_are_long_by_escapes_alone_are_accepted() -> None:
    detail = {"text": "\x00" * 150_000}  # 900,000 bytes of Detail, nearly twice as many in its text
    async with serving() as ingest:
        event = {**EVENT, "Detail": json.dumps(detail)}
        assert (await ingest.post(NATIVE, [event, event])).json["accepted"] == 2
        answer = await ingest.put_events(event)
        assert answer.json["FailedEntryCount"] == 0


async def test_lines_are_found_in_a_large_body_whatever_is_between_them() -> None:
    pretty = json.dumps(LARGE, indent=1)
    body = "\n" * 50_000 + (pretty + "\n") * 200 + f"{json.dumps(LARGE)} {json.dumps(LARGE)}\n"
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body.encode(), LINES)
        assert (answer.status, answer.json["accepted"]) == (202, 202)


async def test_a_bad_line_of_many_is_named() -> None:
    good = json.dumps(LARGE)
    lines = [good] * 1000
    lines[600] = '{"Source":'
    lines[700] = ""
    lines[800] = '{"Source":1}'
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, "\n".join(lines).encode(), LINES)
        assert (answer.json["accepted"], answer.json["refused"]) == (997, 2)
        said = [row["message"] for row in answer.json["results"] if "code" in row]
        assert [each.split(":")[0] for each in said] == ["Line 601", "Line 801"]


@pytest.mark.parametrize("end", ["x", "]", ",", "\x00"])
async def test_a_large_array_that_is_no_json_at_its_end_is_refused_whole(end: str) -> None:
    body = json.dumps([LARGE] * 1000)
    async with serving() as ingest:
        for broken in (body + end, body[:-1] + end, body[:-1] + "," + end):
            if broken != body:
                answer = await ingest.post(NATIVE, broken.encode())
                assert (answer.status, ingest.count()) == (400, 0)
                assert "not valid JSON" in answer.json["error"]["message"]


async def test_a_cloudevent_has_at_most_256_attributes() -> None:
    attributes = {**CLOUD_EVENT, "id": "1", **{f"a{i}": i for i in range(252)}}
    data = {"list": [1] * 5000}
    async with serving() as ingest:
        assert (await ingest.post(CLOUDEVENTS, {**attributes, "data": data}, STRUCTURED)).status == 202
        answer = await ingest.post(CLOUDEVENTS, {**attributes, "one": 1, "data": data}, STRUCTURED)
        assert answer.status == 400
        assert "at most 256 attributes" in answer.json["error"]["message"]


async def test_an_entry_has_at_most_1_000_resources() -> None:
    def resources(count: int) -> dict[str, Any]:
        return {**EVENT, "Resources": ["arn:aws:s3:::a-bucket,b"] * count}

    async with serving() as ingest:
        answer = await ingest.post(NATIVE, [resources(1000), resources(1001)])
        assert (answer.json["accepted"], answer.json["refused"]) == (1, 1)
        assert "at most 1000 resources" in answer.json["results"][1]["message"]
        event = {**CLOUD_EVENT, "id": "1", "resources": ",".join(["arn"] * 1001)}
        assert (await ingest.post(CLOUDEVENTS, event, STRUCTURED)).status == 400


def test_a_text_is_judged_without_an_object_for_what_is_in_it() -> None:
    text = '{"a":[' + "[]," * 300_000 + "[]]}"
    tracemalloc.start()
    try:
        assert is_json_object(text)
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()


async def test_many_members_of_gzip_are_one_body() -> None:
    members = [gzip.compress(b"%d\n" % i) for i in range(2000)]
    with Lease(Budget(64 * MIB)) as lease:
        body = await Work().through(unpack("gzip", b"".join(members), lease, MIB))
        assert body == b"".join(b"%d\n" % i for i in range(2000))
        assert lease.held == len(body)


async def test_more_members_than_anybody_makes_are_refused() -> None:
    packed = gzip.compress(b"") * (MAX_MEMBERS + 1)
    with Lease(Budget(64 * MIB)) as lease, pytest.raises(BadRequest, match="members") as problem:
        await Work().through(unpack("gzip", packed, lease, MIB))
    assert problem.value.status == 413


def test_no_more_values_of_a_long_line_are_found_than_may_be_in_a_request() -> None:
    found = [part for part in lines.parts(b"1 " * 100_000, 1_000, 1 << 20) if part is not None]
    assert sum(map(len, found)) == 1_001
