"""Who parses when, by a clock that only parsing moves; and what aiohttp holds of a body in small chunks."""

from __future__ import annotations

import asyncio
import json
from typing import cast

import pytest

from forwarder.ingest.budget import Budget, Lease
from forwarder.ingest.http.connections import Connection
from forwarder.ingest.http.incoming import MOST_CHUNKS
from forwarder.ingest.http.unparsed import PIECE, SMALL_READ, Parsing, Unparsed
from forwarder.ingest.slices import SLICE_SECONDS
from tests.support.ingest import EVENT, NATIVE, Ingest, request, serving, until

STEP = SLICE_SECONDS / 4


class Loop:
    """Parsing, in which each piece takes STEP."""

    def __init__(self) -> None:
        self.now = 0.0
        self.parsed: list[str] = []
        self.budget = Budget(100 * PIECE)
        self.parsing = Parsing(lambda: self.now)

    def wait(self, peer: str, pieces: int) -> Unparsed:
        def parse() -> bool:
            unparsed.next_piece()
            self.now += STEP
            self.parsed.append(peer)
            return bool(unparsed)

        unparsed = Unparsed(Lease(self.budget, peer), parse)
        unparsed.keep(b"x" * pieces * PIECE)
        self.parsing.later(unparsed)
        return unparsed

    def parse_at_once(self, peer: str, size: int) -> bool:
        may = self.parsing.has_time(peer, size)
        self.now += STEP if may else 0
        return may


async def test_a_turn_of_the_loop_parses_for_one_slice_whatever_was_read() -> None:
    loop = Loop()
    assert [loop.parse_at_once("many", PIECE) for _ in range(6)] == [True] * 4 + [False] * 2
    await asyncio.sleep(0)
    assert loop.parse_at_once("many", PIECE), "the next turn has a slice as well"


async def test_of_small_reads_a_peer_has_one_more_in_each_turn() -> None:
    loop = Loop()
    assert [loop.parse_at_once("many", SMALL_READ) for _ in range(7)] == [True] * 5 + [False] * 2
    assert loop.parse_at_once("one", SMALL_READ), "others cannot delay it"
    assert not loop.parse_at_once("one", SMALL_READ)
    assert not loop.parse_at_once("another", SMALL_READ + 1)


async def test_what_waits_is_parsed_for_one_slice_of_a_turn_and_is_leased_until_then() -> None:
    loop = Loop()
    loop.wait("many", 6)
    assert loop.budget.used == 6 * PIECE
    await asyncio.sleep(0)
    assert len(loop.parsed) == 4
    assert loop.budget.used == 2 * PIECE
    await asyncio.sleep(0)
    assert len(loop.parsed) == 6
    assert loop.budget.used == 0


async def test_peers_whose_bytes_wait_take_turns() -> None:
    loop = Loop()
    for _ in range(20):
        loop.wait("many", 2)
    loop.wait("one", 3)
    await asyncio.sleep(0)
    assert loop.parsed == ["many", "one", "many", "one"]


async def test_what_is_forgotten_while_it_waits_is_not_parsed_and_holds_up_nobody() -> None:
    loop = Loop()
    gone = loop.wait("a", 3)
    loop.wait("a", 1)
    gone.forget()
    await asyncio.sleep(0)
    assert loop.parsed == ["a"]
    assert loop.budget.used == 0


async def test_what_waits_twice_is_parsed_once() -> None:
    loop = Loop()
    unparsed = loop.wait("a", 2)
    loop.parsing.later(unparsed)
    await asyncio.sleep(0)
    assert loop.parsed == ["a", "a"]


async def test_what_asks_for_itself_while_it_is_parsed_gets_no_second_slice() -> None:
    """As a connection does whose reading resumes in the middle of a piece, where one body ends."""
    loop = Loop()

    def parse() -> bool:
        unparsed.next_piece()
        loop.now += STEP
        loop.parsing.later(unparsed)
        return bool(unparsed)

    unparsed = Unparsed(Lease(loop.budget, "a"), parse)
    unparsed.keep(b"x" * 40 * PIECE)
    loop.parsing.later(unparsed)
    left = [len(unparsed) // PIECE]
    for _ in range(4):
        await asyncio.sleep(0)
        left.append(len(unparsed) // PIECE)
    assert left == [40, 36, 32, 28, 24]


# --- in a server


def chunked(data: bytes, size: int = 1) -> bytes:
    chunks = (data[n : n + size] for n in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def connection(ingest: Ingest) -> Connection:
    return cast(Connection, ingest.server._server.connections[0])


async def test_a_body_in_chunks_of_one_byte_is_accepted_whole() -> None:
    body = b" " * 20_000 + json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"", {"Transfer-Encoding": "chunked"}))
        await peer.send(chunked(body) + b"0\r\n\r\n")
        assert (await peer.answer()).status == 202
        assert ingest.count() == 1
        await peer.close()


async def test_small_chunks_that_are_not_read_yet_are_held_as_one() -> None:
    """The second request's body comes while the first one waits, so that nobody reads it."""
    async with serving() as ingest:
        peer = await ingest.peer()
        head = request(NATIVE, b"", {"Transfer-Encoding": "chunked"})
        await peer.send(request(NATIVE, EVENT, {"Prefer": "wait=1"}) + head + chunked(b" " * 1_000))
        await until(lambda: ingest.budget.used > 5_000)
        _, payload = connection(ingest).queued[-1]
        assert payload.total_bytes == 1_000
        assert len(payload._buffer) <= MOST_CHUNKS
        assert len(payload._http_chunk_splits or ()) <= MOST_CHUNKS
        assert (await peer.answer()).status == 202
        await peer.send(chunked(json.dumps(EVENT).encode()) + b"0\r\n\r\n")
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_a_thousand_pipelined_questions_are_all_answered_in_turn() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request("/nothing", b"", method="GET") * 1_000)
        assert [(await peer.answer()).status for _ in range(1_000)] == [404] * 1_000
        await peer.close()


async def test_a_read_that_can_neither_be_parsed_now_nor_kept_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(budget=1 << 20) as ingest:
        peer = await ingest.peer()
        monkeypatch.setattr(Parsing, "has_time", lambda parsing, peer, size: False)
        held = Lease(ingest.budget, "other")
        held.take(1 << 20)
        await peer.send(request(NATIVE, {**EVENT, "Detail": json.dumps({"a": "x" * 2 * SMALL_READ})}))
        answer = await peer.answer()
        assert answer.status == 429
        held.end()
        await peer.close()
