"""Bodies that do not begin as JSON: a byte order mark is removed, anything else is refused by name."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from typing import Any

import pytest

from tests.support.ingest import ENTRY, EVENT, MONITOR, NATIVE, PUT_EVENTS, one_of_each, serving

CLOUDEVENTS = "/v1/cloudevents/orders"
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 1}}
HEADS = {f"ce-{name}": str(CLOUD_EVENT[name]) for name in ("specversion", "id", "source", "type")}
SESSION = {
    "BatchId": "00000000-0000-4000-8000-000000000001",
    "AppMonitorDetails": {},
    "UserDetails": {},
    "RumEvents": [
        {"id": "00000000-0000-4000-8000-000000000002", "timestamp": 1767323045, "type": "t", "details": "{}"}
    ],
}
LAB = {"events": [{"timestamp": 1767323045, "type": "aws.evidently.custom", "data": "{}"}]}
SENT: dict[str, tuple[str, Any, dict[str, str]]] = {
    "native": (NATIVE, EVENT, {}),
    "array": (NATIVE, [EVENT], {}),
    "lines": (NATIVE, EVENT, {"Content-Type": "application/x-ndjson"}),
    "put_events": ("/", {"Entries": [ENTRY]}, PUT_EVENTS),
    "rum": (f"/appmonitors/{MONITOR}", SESSION, {}),
    "evidently": ("/events/projects/shop", LAB, {}),
    "structured": (CLOUDEVENTS, CLOUD_EVENT, {"Content-Type": "application/cloudevents+json"}),
    "batch": (CLOUDEVENTS, [CLOUD_EVENT], {"Content-Type": "application/cloudevents-batch+json"}),
    "binary": (CLOUDEVENTS, {"n": 1}, {**HEADS, "Content-Type": "application/json"}),
}
each_dialect = pytest.mark.parametrize("dialect", SENT)


@each_dialect
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_byte_order_mark_is_taken_off(dialect: str, packed: bool) -> None:
    path, value, headers = SENT[dialect]
    body = json.dumps(value).encode("utf-8-sig")
    if packed:
        body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(path, body, headers)
        assert answer.status in (200, 202), answer.body


@each_dialect
@pytest.mark.parametrize(
    ("pack", "words"),
    [
        (
            gzip.compress,
            "gzip, not JSON: it begins with the bytes 1f 8b. Send the header Content-Encoding: gzip",
        ),
        (zlib.compress, "Send the header Content-Encoding: deflate"),
        (lambda body: zlib.compress(body, 1), "Send the header Content-Encoding: deflate"),
        (lambda body: b"\x28\xb5\x2f\xfd" + body, "zstd, not JSON"),
        (bz2.compress, "bzip2, not JSON"),
        (lzma.compress, "xz, not JSON"),
        (lambda body: b"\x04\x22\x4d\x18" + body, "LZ4, not JSON"),
        (lambda body: b"PK\x03\x04" + body, "ZIP, not JSON"),
        (lambda body: body.decode().encode("utf-16"), "in UTF-16. Send JSON in UTF-8"),
        (lambda body: body.decode().encode("utf-16-be"), "in UTF-16"),
        (lambda body: body.decode().encode("utf-32"), "in UTF-32"),
        (lambda body: body.decode().encode("utf-32-le"), "in UTF-32"),
    ],
)
async def test_a_packed_body_and_another_encoding_are_refused_by_name(
    dialect: str, pack: Any, words: str
) -> None:
    path, value, headers = SENT[dialect]
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(path, pack(json.dumps(value).encode()), headers)
        assert answer.status == 400
        assert words in answer.body.decode()


async def test_a_body_that_is_packed_twice_is_told_so() -> None:
    body = gzip.compress(zlib.compress(json.dumps(EVENT).encode()))
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body, {"Content-Encoding": "gzip"})
        assert "not JSON, after gzip (Content-Encoding) was unpacked" in answer.json["error"]["message"]


@pytest.mark.parametrize("media", ["application/gzip", "application/octet-stream", ""])
async def test_data_of_an_event_in_binary_mode_may_begin_with_anything(media: str) -> None:
    headers = {**HEADS, **({"Content-Type": media} if media else {})}
    async with serving() as ingest:
        assert (await ingest.post(CLOUDEVENTS, gzip.compress(b"data"), headers)).status == 202
        assert "data_base64" in ingest.bodies()[0]["Detail"]
