"""What happens around requests: bounds on heads, time and connections, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.turned_away import MAX_TURNED_AWAY
from forwarder.model import Event, QueueUnavailable, SystemClock
from forwarder.queues.memory import MemoryQueue
from tests.unit.ingest.support import (
    ENTRY,
    EVENT,
    LIMITS,
    MIB,
    NATIVE,
    PUT_EVENTS,
    Routes,
    code,
    request,
    serving,
    until,
)


async def test_a_slow_head_is_408_and_closed() -> None:
    async with serving(read_timeout=0.05) as ingest:
        peer = await ingest.peer()
        await peer.send(b"POST / HT")
        answer = await peer.answer()
        assert (answer.status, code(answer)) == (408, "RequestTimeoutException")
        assert await peer.is_closed()
        await peer.close()


async def test_a_head_that_comes_slowly_but_in_time_is_served() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        whole = request(NATIVE, EVENT)
        for i in range(0, len(whole), 40):
            await peer.send(whole[i : i + 40])
            await asyncio.sleep(0)
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_an_idle_connection_is_kept_and_then_closed_without_a_word() -> None:
    async with serving(read_timeout=0.02, keep_alive=1.5) as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT))
        assert (await peer.answer()).status == 202
        await asyncio.sleep(0.1)  # longer than read_timeout: idle is not slow
        await peer.send(request(NATIVE, EVENT))
        assert (await peer.answer()).status == 202
        assert await peer.is_closed()
        await peer.close()


async def test_a_connection_that_never_says_a_word_is_closed_as_an_idle_one_is() -> None:
    async with serving(keep_alive=0.2) as ingest:
        silent = await ingest.peer()
        assert await silent.is_closed()
        await silent.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Large": "a" * 5000},
        {f"X-{n}": "a" * 500 for n in range(9)},
    ],
    ids=["one header", "all together"],
)
async def test_headers_over_the_bound_are_431(headers: dict[str, str]) -> None:
    async with serving(max_header_bytes=4096) as ingest:
        answer = await ingest.post(NATIVE, EVENT, headers)
        assert (answer.status, code(answer)) == (431, "RequestHeaderFieldsTooLargeException")
        assert answer.headers["connection"] == "close"
        assert ingest.count() == 0


async def test_headers_without_an_end_are_431_before_they_end() -> None:
    async with serving(max_header_bytes=4096) as ingest:
        peer = await ingest.peer()
        await peer.send(b"POST / HTTP/1.1\r\nHost: here\r\n")
        for n in range(5):
            await peer.send(b"X-%d: %b\r\n" % (n, b"a" * 1000))
        assert (await peer.answer()).status == 431
        assert await peer.is_closed()
        await peer.close()


async def test_a_pipelined_head_over_the_bound_is_431_too() -> None:
    async with serving(max_header_bytes=4096) as ingest:
        peer = await ingest.peer()
        many = {f"X-{n}": "a" * 500 for n in range(9)}
        await peer.send(request(NATIVE, EVENT) + request(NATIVE, EVENT, many))
        assert [(await peer.answer()).status for _ in range(2)] == [202, 431]
        await peer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GARBAGE\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/9.9\r\nHost: x\r\n\r\n",
    ],
    ids=["tls", "garbage", "no host", "version"],
)
async def test_what_is_not_http_is_400_in_json(data: bytes) -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(data + b"\r\n")
        answer = await peer.answer()
        assert (answer.status, code(answer)) == (400, "MalformedHttpRequestException")
        assert await peer.is_closed()
        await peer.close()


async def test_a_connection_too_many_is_told_503_and_closed() -> None:
    async with serving(max_connections=2) as ingest:
        peers = [await ingest.peer() for _ in range(2)]
        for peer in peers:
            await peer.send(request(NATIVE, EVENT))
            assert (await peer.answer()).status == 202
        extra = await ingest.peer()
        await extra.send(request(NATIVE, EVENT))
        answer = await extra.answer()
        assert (answer.status, code(answer)) == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"]
        assert answer.headers["x-amz-retry-after"]
        assert await extra.is_closed()
        await peers[0].close()
        await until(lambda: ingest.server.connections < 2)
        assert (await ingest.post(NATIVE, EVENT)).status == 202
        for peer in (*peers, extra):
            await peer.close()


async def test_a_sender_that_closes_its_side_still_hears_the_answer() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT))
        peer.writer.write_eof()
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert await peer.is_closed()
        await peer.close()


async def test_a_sender_that_closes_its_side_too_early_is_hung_up_on() -> None:
    async with serving() as ingest:
        for data in (b"", b"POST / HT", request(NATIVE, b"{", {"Content-Length": "9"})):
            peer = await ingest.peer()
            await peer.send(data)
            peer.writer.write_eof()
            assert await peer.is_closed()
            await peer.close()


async def test_an_error_of_ours_is_500_and_takes_nothing_with_it() -> None:
    class Broken(MemoryQueue):
        async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
            raise RuntimeError("the queue broke")

    routes = Routes().add("orders", PutEvents(), default=True)
    queue = Broken(
        LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=routes.metrics.for_target("orders")
    )
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    async with serving(routes) as ingest:
        for path, headers in ((NATIVE, {}), ("/", PUT_EVENTS)):
            answer = await ingest.post(path, EVENT if path == NATIVE else {"Entries": [ENTRY]}, headers)
            assert (answer.status, code(answer)) == (500, "InternalFailure")
            assert "the queue broke" not in answer.body.decode()


async def test_events_that_cannot_be_stored_are_refused_with_503_and_when_to_come_back() -> None:
    class Diskless(MemoryQueue):
        async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
            raise QueueUnavailable("its events cannot be stored now: the disk is full")

    routes = Routes().add("orders", PutEvents(), default=True)
    metrics = routes.metrics.for_target("orders")
    queue = Diskless(LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=metrics)
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    async with serving(routes) as ingest:
        for path, headers in ((NATIVE, {}), ("/", PUT_EVENTS)):
            answer = await ingest.post(path, EVENT if path == NATIVE else {"Entries": [ENTRY]}, headers)
            assert (answer.status, code(answer)) == (503, "ServiceUnavailable")
            assert "the disk is full" in answer.body.decode()
            assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert metrics.received == 0
    assert metrics.rejected["storage"] == 2


async def test_entries_beside_those_that_cannot_be_stored_are_taken() -> None:
    class Diskless(MemoryQueue):
        async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
            raise QueueUnavailable("its events cannot be stored now")

    routes = Routes().add("orders", PutEvents(), default=True).add("other", PutEvents(), names=("other",))
    metrics = routes.metrics.for_target("other")
    queue = Diskless(LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=metrics)
    routes.routes[1] = replace(routes.routes[1], queue=queue)
    async with serving(routes) as ingest:
        answer = await ingest.post("/", {"Entries": [ENTRY, {**ENTRY, "EventBusName": "other"}]}, PUT_EVENTS)
        assert answer.status == 200
        assert [each.get("ErrorCode") for each in answer.json["Entries"]] == [None, "InternalFailure"]


async def test_a_flood_of_connections_beyond_the_bound_is_cut_off_itself() -> None:
    async with serving(max_connections=1) as ingest:
        first = await ingest.peer()
        await first.send(request(NATIVE, EVENT))
        assert (await first.answer()).status == 202
        others = [await ingest.peer() for _ in range(MAX_TURNED_AWAY + 20)]
        assert all(await asyncio.gather(*(other.is_closed() for other in others)))
        await first.send(request(NATIVE, EVENT))
        assert (await first.answer()).status == 202
        for peer in (first, *others):
            await peer.close()


async def test_a_unix_socket_serves_its_group_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "ingest.sock"
    async with serving(listen=f"unix:{path}") as ingest:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        assert (await ingest.post(NATIVE, EVENT)).status == 202
        assert (await ingest.put_events(ENTRY)).status == 200
    assert not path.exists()


async def test_a_unix_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ingest.sock"
    left = await asyncio.start_unix_server(lambda reader, writer: None, path)
    left.close()
    await left.wait_closed()
    assert path.exists()
    async with serving(listen=f"unix:{path}") as ingest:
        assert (await ingest.post(NATIVE, EVENT)).status == 202


async def test_a_unix_socket_in_use_or_another_file_is_never_replaced(tmp_path: Path) -> None:
    used, file = tmp_path / "used", tmp_path / "file"
    file.write_text("mine")
    async with serving(listen=f"unix:{used}"):
        for path in (used, file):
            with pytest.raises(OSError, match=str(path)):
                async with serving(listen=f"unix:{path}"):
                    raise AssertionError("it must not start")
    assert file.read_text() == "mine"


async def test_while_draining_every_answer_closes_its_connection() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT))
        assert "connection" not in (await peer.answer()).headers
        ingest.server.begin_draining()
        await peer.send(request(NATIVE, EVENT))
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert await peer.is_closed()
        await peer.close()


async def test_a_request_that_has_begun_is_finished_after_the_listener_closed() -> None:
    body = json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, body[:5], {"Content-Length": str(len(body))}))
        await until(lambda: ingest.server.in_flight == 1)
        ingest.server.begin_draining()
        ingest.server.stop_accepting()
        with pytest.raises(OSError, match="Connect"):
            await ingest.peer()
        waiting = asyncio.create_task(ingest.server.finish_requests(10))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await peer.send(body[5:])
        assert (await peer.answer()).status == 202
        await waiting
        await peer.close()


async def test_an_idle_connection_is_hung_up_on_once_nothing_more_is_taken() -> None:
    """Who sends on it learns at once that nobody listens, also with a body larger than any head may be."""
    async with serving() as ingest:
        peers = [await ingest.peer() for _ in range(3)]
        for peer in peers[1:]:
            await peer.send(request(NATIVE, EVENT))
            assert (await peer.answer()).status == 202
        ingest.server.stop_accepting()
        await ingest.server.finish_requests(10)
        await peers[2].send(request(NATIVE, [EVENT] * 400))
        for peer in peers:
            assert await peer.is_closed()
            await peer.close()


async def test_requests_that_never_end_do_not_hold_up_a_stop() -> None:
    async with serving() as ingest:
        idle, stuck = await ingest.peer(), await ingest.peer()
        await stuck.send(request(NATIVE, b"{", {"Content-Length": "100"}))
        await until(lambda: ingest.server.in_flight == 1)
        await ingest.server.finish_requests(0.05)
        assert ingest.server.in_flight == 1
        await ingest.server.close()
        assert await idle.is_closed()
        assert await stuck.is_closed()
        await idle.close()
        await stuck.close()
