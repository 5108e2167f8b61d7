"""Request bodies: read, unpacked and bounded, over raw sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest

from forwarder.ingest.budget import PARSED_EVENT_BYTES
from forwarder.ingest.http import bodies
from forwarder.ingest.http.bodies import CHUNK_BYTES
from tests.support.ingest import (
    EVENT,
    MIB,
    NATIVE,
    PUT_EVENTS,
    code,
    request,
    serving,
    until,
)

GZIP = {"Content-Encoding": "gzip"}
CHUNKED = {"Transfer-Encoding": "chunked"}
AWS = {**PUT_EVENTS, "Content-Encoding": "gzip"}


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    body = json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        head = request(NATIVE, b"", {"Expect": "100-continue", "Content-Length": str(len(body))})
        await peer.send(head)
        assert (await peer.answer()).status == 100
        await peer.send(body)
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_a_client_that_asks_first_is_not_told_to_send_what_is_too_large() -> None:
    async with serving(max_body=1000) as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"", {"Expect": "100-continue", "Content-Length": "1001"}))
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        await peer.close()


async def test_a_chunked_body_is_read_to_its_end() -> None:
    body = json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, chunked(body[:5], body[5:])[:20], CHUNKED))
        await asyncio.sleep(0.01)
        await peer.send(chunked(body[:5], body[5:])[20:])
        assert (await peer.answer()).status == 202
        await peer.close()


@pytest.mark.parametrize(("path", "headers"), [(NATIVE, {}), ("/", PUT_EVENTS)])
async def test_a_body_over_the_bound_is_413_by_its_length_or_by_its_bytes(
    path: str, headers: dict[str, str]
) -> None:
    async with serving(max_body=1000) as ingest:
        answer = await ingest.post(path, b" " * 1001, headers)
        assert (answer.status, code(answer)) == (413, "RequestEntityTooLargeException")
        peer = await ingest.peer()
        await peer.send(request(path, chunked(b" " * 600, b" " * 600), {**headers, **CHUNKED}))
        assert (await peer.answer()).status == 413
        await peer.close()


async def test_a_connection_goes_on_after_a_refused_body_that_was_sent_whole() -> None:
    async with serving(max_body=1000) as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b" " * 300_000))
        assert (await peer.answer()).status == 413
        await peer.send(request(NATIVE, EVENT))
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_a_gzip_bomb_is_413_and_costs_no_more_memory_than_the_bound() -> None:
    bomb = gzip.compress(b"\0" * (200 * MIB), compresslevel=1)
    assert len(bomb) < MIB
    async with serving(max_body=MIB) as ingest:
        tracemalloc.start()
        answer = await ingest.post(NATIVE, bomb, GZIP)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (answer.status, code(answer)) == (413, "RequestEntityTooLargeException")
        assert peak < 6 * MIB


EVENTS = json.dumps([EVENT] * 200).encode()
PACKED = gzip.compress(EVENTS, mtime=0)
ZLIB = zlib.compress(EVENTS)
RAW = ZLIB[2:-4]


@pytest.mark.parametrize(
    "body",
    [
        PACKED[:-9],
        PACKED[:40],
        PACKED + b"more",
        PACKED + bytes(100) + b"x",
        b"plain",
        b"\x1f\x8b",
        PACKED[:-1] + b"x",
    ],
    ids=["in-data", "early", "followed", "padded-and-followed", "plain", "magic", "wrong-length"],
)
@pytest.mark.parametrize(("path", "headers"), [(NATIVE, GZIP), ("/", AWS)])
async def test_gzip_that_does_not_unpack_is_400(path: str, headers: dict[str, str], body: bytes) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, body, headers)
        assert (answer.status, code(answer)) == (400, "MalformedHttpRequestException")
        assert ingest.count() == 0


@pytest.mark.parametrize("at", [-8, -1, 15], ids=["checksum", "length", "data"])
async def test_gzip_that_was_damaged_on_its_way_is_not_said_to_be_something_else(at: int) -> None:
    damaged = bytearray(PACKED)
    damaged[at] ^= 0xFF
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, bytes(damaged), GZIP)
        assert answer.status == 400
        assert "The gzip body is damaged" in answer.body.decode()


async def test_several_gzip_members_are_one_body() -> None:
    body = json.dumps(EVENT).encode()
    async with serving() as ingest:
        packed = gzip.compress(body[:7]) + gzip.compress(body[7:])
        assert (await ingest.post(NATIVE, packed, GZIP)).status == 202


@pytest.mark.parametrize(
    "body",
    [PACKED[: len(PACKED) - n] for n in range(1, 9)] + [PACKED + bytes(n) for n in (1, 7, 300_000)],
    ids=[f"cut-{n}" for n in range(1, 9)] + ["one-zero", "seven-zeros", "a-buffer-of-zeros"],
)
async def test_a_gzip_trailer_that_is_cut_or_padded_as_old_net_does_costs_nothing(body: bytes) -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, body, GZIP)).status == 202
        assert ingest.count() == 200


@pytest.mark.parametrize(
    "body",
    [
        ZLIB,
        zlib.compress(EVENTS, 0),
        zlib.compress(EVENTS, 9),
        ZLIB[:-1],
        ZLIB[:-4],
        ZLIB + bytes(9),
        RAW,
        RAW + b"\0",
    ],
    ids=["zlib", "stored", "best", "cut-1", "cut-4", "padded", "raw", "raw-padded"],
)
@pytest.mark.parametrize("encoding", ["deflate", "Deflate", "identity, deflate", "deflate,"])
async def test_deflate_is_taken_with_and_without_its_frame(body: bytes, encoding: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, body, {"Content-Encoding": encoding})).status == 202
        assert ingest.count() == 200


@pytest.mark.parametrize(
    "body", [ZLIB[:-5], ZLIB[:2], RAW[:-1], ZLIB + b"x", RAW + b"x", ZLIB[:-1] + b"\0", EVENTS, b"x", PACKED]
)
async def test_deflate_that_does_not_unpack_is_400(body: bytes) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body, {"Content-Encoding": "deflate"})
        assert (answer.status, code(answer)) == (400, "MalformedHttpRequestException")
        assert "deflate" in answer.json["error"]["message"]
        assert ingest.count() == 0


@pytest.mark.parametrize("raw", [False, True])
async def test_a_deflate_bomb_is_413_and_costs_no_more_memory_than_the_bound(raw: bool) -> None:
    bomb = zlib.compress(b"\0" * (200 * MIB), 1)
    async with serving(max_body=MIB) as ingest:
        tracemalloc.start()
        answer = await ingest.post(NATIVE, bomb[2:] if raw else bomb, {"Content-Encoding": "deflate"})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (answer.status, code(answer)) == (413, "RequestEntityTooLargeException")
        assert peak < 6 * MIB
        assert ingest.budget.used == 0


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("gzip", PACKED),
        ("x-gzip", PACKED),
        ("GZIP", PACKED),
        ("gzip, identity", PACKED),
        ("identity,gzip", PACKED),
        (" , gzip , ", PACKED),
        ("", EVENTS),
        (",", EVENTS),
        ("identity", EVENTS),
        ("UTF-8", EVENTS),
        ("utf-8, gzip", PACKED),
        ("none", EVENTS),
        ("Identity, identity", EVENTS),
        ("gzip\r\nContent-Encoding: gzip", PACKED),
        ("gzip\r\nContent-Encoding: gzip", gzip.compress(PACKED)),
        ("gzip, gzip", gzip.compress(PACKED)),
        ("identity\r\nContent-Encoding: gzip", PACKED),
    ],
)
async def test_a_coding_is_taken_however_it_is_written(headers: str, body: bytes) -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, body, {"Content-Encoding": headers})).status == 202
        assert ingest.count() == 200


@pytest.mark.parametrize(
    "encoding",
    ["br", "zstd", "compress", "gzip, br", "deflate, gzip", "gzip, gzip, gzip", "aws-chunked", "gzip;q=1"],
)
async def test_another_encoding_is_415_and_names_it_and_ours(encoding: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, b"x", {"Content-Encoding": encoding})
        assert (answer.status, code(answer)) == (415, "UnsupportedMediaTypeException")
        assert answer.headers["accept-encoding"] == "gzip, deflate"
        message = answer.json["error"]["message"]
        assert repr(encoding) in message
        assert "gzip, deflate or identity" in message


@pytest.mark.parametrize(("path", "headers"), [(NATIVE, {}), ("/", PUT_EVENTS)])
async def test_a_slow_body_is_408_and_closed(path: str, headers: dict[str, str]) -> None:
    async with serving(read_timeout=0.05) as ingest:
        peer = await ingest.peer()
        await peer.send(request(path, b"{", {**headers, "Content-Length": "100"}))
        answer = await peer.answer()
        assert (answer.status, code(answer)) == (408, "RequestTimeoutException")
        assert answer.headers["connection"] == "close"
        await peer.close()


@pytest.mark.parametrize(("path", "headers"), [(NATIVE, {}), ("/", PUT_EVENTS)])
async def test_without_memory_for_the_body_it_is_429_for_now(path: str, headers: dict[str, str]) -> None:
    async with serving(budget=1000) as ingest:
        first = await ingest.peer()
        await first.send(request(path, b" " * 800, {**headers, "Content-Length": "900"}))
        await until(lambda: ingest.budget.used > 800)
        answer = await ingest.post(path, b" " * 200, headers)
        assert (answer.status, code(answer)) == (429, "ThrottlingException")
        assert (answer.headers["retry-after"], answer.headers["x-amz-retry-after"]) == ("2", "2000")
        await first.close()
        await until(lambda: ingest.budget.used == 0)


async def test_a_body_larger_than_all_the_memory_there_is_is_413() -> None:
    async with serving(budget=1000) as ingest:
        assert (await ingest.post(NATIVE, b" " * 1001)).status == 413


async def test_memory_of_the_events_in_a_body_is_reserved_beside_it() -> None:
    event = b'{"Source":"a","DetailType":"b","Detail":{}}'
    async with serving(budget=2 * PARSED_EVENT_BYTES) as ingest:
        assert (await ingest.post(NATIVE, event)).status == 202
        assert (await ingest.post(NATIVE, b"[%b,%b]" % (event, event))).status == 413
        assert ingest.budget.used == 0


async def test_memory_of_a_gzipped_body_is_reserved_unpacked() -> None:
    async with serving(budget=300_000) as ingest:
        answer = await ingest.post(NATIVE, gzip.compress(b" " * 600_000), GZIP)
        assert answer.status == 413


async def test_a_sender_that_leaves_in_the_middle_gives_the_memory_back() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"{", {"Content-Length": "1000"}))
        await until(lambda: ingest.budget.used == 1 + CHUNK_BYTES)
        await peer.close()
        await until(lambda: ingest.budget.used == 0)
        assert ingest.count() == 0


# --- lent for what has come


async def test_heads_that_promise_bodies_cost_nobody_anything() -> None:
    async with serving(budget=2 * MIB, max_body=MIB) as ingest:
        peers = [await ingest.peer() for _ in range(8)]
        for peer in peers:
            await peer.send(request(NATIVE, b"", {"Content-Length": str(MIB)}))
        await until(lambda: ingest.server.in_flight == 8)
        assert ingest.budget.used == 0
        assert (await ingest.post(NATIVE, EVENT)).status == 202
        for peer in peers:
            await peer.close()


async def test_a_body_below_the_least_rate_is_408_and_says_what_the_rate_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "RATE_GRACE", 0.05)
    monkeypatch.setattr(bodies, "MIN_RATE", 10_000.0)
    async with serving(read_timeout=4.0) as ingest:  # a sweep each second
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"{" * 50, {"Content-Length": "100"}))
        answer = await peer.answer()
        assert (answer.status, code(answer)) == (408, "RequestTimeoutException")
        assert "10000 bytes a second" in answer.body.decode()
        assert ingest.refused() == {"too_slow": 1}
        assert ingest.budget.used == 0
        await peer.close()


async def test_a_body_as_slow_as_is_allowed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "RATE_GRACE", 0.0)
    monkeypatch.setattr(bodies, "MIN_RATE", 1.0)
    body = json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, body[:20], {"Content-Length": str(len(body))}))
        await asyncio.sleep(1.2)
        await peer.send(body[20:])
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_a_body_on_its_way_gives_its_memory_to_a_peer_that_holds_less() -> None:
    async with serving(budget=1_000_000) as ingest:
        greedy = await ingest.peer("127.0.0.2")
        await greedy.send(request(NATIVE, b" " * 900_000, {"Content-Length": "950000"}))
        await until(lambda: ingest.budget.used > 900_000)
        other = await ingest.post(NATIVE, b" " * 300_000 + json.dumps(EVENT).encode(), source="127.0.0.3")
        assert other.status == 202
        answer = await greedy.answer()
        assert (answer.status, code(answer)) == (429, "ThrottlingException")
        assert "ingest.memory_budget" in answer.body.decode()
        assert ingest.refused() == {"memory": 1}
        await greedy.close()


async def test_one_peer_alone_has_the_whole_budget_for_its_bodies() -> None:
    event = json.dumps(EVENT).encode()
    async with serving(budget=1_000_000) as ingest:
        peers = [await ingest.peer() for _ in range(3)]
        for peer in peers:
            length = str(320_000 + len(event))
            await peer.send(request(NATIVE, b" " * 320_000, {"Content-Length": length}))
        await until(lambda: ingest.budget.used > 960_000)
        for peer in peers:
            await peer.send(event)
            assert (await peer.answer()).status == 202
            await peer.close()


async def test_a_body_in_very_small_pieces_is_counted_for_what_it_holds() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"", {"Transfer-Encoding": "chunked"}))
        for n in range(1, 20):
            await peer.send(b"1\r\n \r\n")
            await until(lambda n=n: ingest.budget.used == n * (1 + CHUNK_BYTES))  # type: ignore[misc]
        await peer.send(b"2\r\n{}\r\n0\r\n\r\n")
        assert (await peer.answer()).status == 400
        await peer.close()
