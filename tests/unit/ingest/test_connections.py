"""What happens around requests: bounds on heads, time and connections, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web_protocol

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http import connections
from forwarder.ingest.http.seats import RETRY_SECONDS
from forwarder.ingest.http.turned_away import MAX_TURNED_AWAY, raw_answer
from forwarder.model import Event, QueueUnavailable, SystemClock
from forwarder.queues.memory import MemoryQueue
from tests.support.ingest import (
    ENTRY,
    EVENT,
    LIMITS,
    MIB,
    NATIVE,
    PUT_EVENTS,
    Ingest,
    Peer,
    Routes,
    code,
    request,
    serving,
    until,
)


@pytest.mark.parametrize("head", [b"POST / HT", b"P", b"PRI * HTTP/2.0\r"])
async def test_a_slow_head_is_408_and_closed(head: bytes) -> None:
    async with serving(read_timeout=0.05) as ingest:
        peer = await ingest.peer()
        await peer.send(head)
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


HALF = request(NATIVE, b"{", {"Content-Length": "100"})
"""A request that is in progress until the rest of its body comes."""


async def busy(ingest: Ingest, number: int, source: str | None = None) -> list[Peer]:
    peers = [await ingest.peer(source) for _ in range(number)]
    before = ingest.server.in_flight
    for peer in peers:
        await peer.send(HALF)
    await until(lambda: ingest.server.in_flight == before + number)
    return peers


async def test_when_nothing_can_be_closed_a_connection_too_many_is_told_503_and_closed() -> None:
    async with serving(max_connections=2) as ingest:
        peers = await busy(ingest, 2)
        extra = await ingest.peer()
        await extra.send(request(NATIVE, EVENT))
        answer = await extra.answer()
        assert (answer.status, code(answer)) == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"]
        assert answer.headers["x-amz-retry-after"]
        assert "ingest.max_connections" in answer.body.decode()
        assert await extra.is_closed()
        assert ingest.metrics.http.refused_connections == 1
        await peers[0].close()
        await until(lambda: ingest.server.connections < 2)
        assert (await ingest.post(NATIVE, EVENT)).status == 202
        for peer in (*peers, extra):
            await peer.close()


async def test_when_all_are_in_use_the_longest_idle_one_is_closed_for_a_new_one() -> None:
    async with serving(max_connections=3) as ingest:
        peers = [await ingest.peer() for _ in range(3)]
        for peer in (peers[1], peers[0], peers[2]):
            await peer.send(request(NATIVE, EVENT))
            assert (await peer.answer()).status == 202
            await asyncio.sleep(0.02)  # the loop's clock counts milliseconds
        new = await ingest.peer()
        await new.send(request(NATIVE, EVENT))
        assert (await new.answer()).status == 202
        assert await peers[1].is_closed()
        for peer in (peers[0], peers[2], new):
            await peer.send(request(NATIVE, EVENT))
            assert (await peer.answer()).status == 202
        assert ingest.server.connections == 3
        for peer in (*peers, new):
            await peer.close()


async def test_idle_connections_are_kept_while_there_is_room() -> None:
    async with serving(max_connections=3) as ingest:
        idle = await ingest.peer()
        await idle.send(request(NATIVE, EVENT))
        assert (await idle.answer()).status == 202
        for _ in range(20):
            assert (await ingest.post(NATIVE, EVENT)).status == 202
        await idle.send(request(NATIVE, EVENT))
        assert (await idle.answer()).status == 202
        await idle.close()


async def test_silent_connections_of_one_peer_keep_no_other_out() -> None:
    async with serving(max_connections=50) as ingest:
        silent = [await ingest.peer("127.0.0.2") for _ in range(50)]
        for _ in range(5):
            assert (await ingest.post(NATIVE, EVENT, source="127.0.0.3")).status == 202
        assert ingest.metrics.http.refused_connections == 0
        for peer in silent:
            await peer.close()


async def test_a_silent_connection_goes_for_one_of_its_own_peer_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(max_connections=3) as ingest:
        silent = [await ingest.peer() for _ in range(3)]
        await until(lambda: ingest.server.connections == 3)
        assert (await ingest.post(NATIVE, EVENT)).status == 503
        monkeypatch.setattr(connections, "SILENT_SECONDS", 0.0)
        await asyncio.sleep(2 * RETRY_SECONDS)
        assert (await ingest.post(NATIVE, EVENT)).status == 202
        for peer in silent:
            await peer.close()


@pytest.mark.parametrize("status", [408, 429, 431, 503])
def test_a_refusal_without_a_request_says_when_to_come_back_if_that_may_help(status: int) -> None:
    problem = BadRequest(status, "Code", "Why.", headers={"X-Own": "kept"})
    head = raw_answer(problem, chance=lambda: 0.25).decode().split("\r\n")
    assert "X-Own: kept" in head
    assert ("Retry-After: 2" in head) == ("x-amz-retry-after: 1500" in head) == (status in (429, 503))


@pytest.mark.parametrize("data", [b"POST / HT", HALF], ids=["slow heads", "slow bodies"])
async def test_what_one_peer_does_not_finish_keeps_no_other_out(data: bytes) -> None:
    async with serving(max_connections=20) as ingest:
        slow = [await ingest.peer("127.0.0.2") for _ in range(20)]
        for peer in slow:
            await peer.send(data)
        await until(lambda: sum(c.busy for c in ingest.server._server.connections) == 20)  # type: ignore[attr-defined]
        others = [await ingest.peer("127.0.0.3") for _ in range(5)]
        for peer in others:
            await peer.send(request(NATIVE, EVENT))
            assert (await peer.answer()).status == 202
        for peer in (*slow, *others):
            await peer.close()


async def test_one_peer_alone_has_all_connections(tmp_path: Path) -> None:
    for listen in ("127.0.0.1:0", f"unix:{tmp_path}/ingest.sock"):
        async with serving(listen=listen, max_connections=30) as ingest:
            peers = [await ingest.peer() for _ in range(30)]
            for _ in range(2):
                for peer in peers:
                    await peer.send(request(NATIVE, EVENT))
                    assert (await peer.answer()).status == 202
            assert ingest.metrics.http.displaced_connections == 0
            for peer in peers:
                await peer.close()


async def test_a_connection_that_fails_as_it_is_made_gives_its_place_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(max_connections=2) as ingest:
        with monkeypatch.context() as broken:
            broken.setattr(web_protocol, "tcp_keepalive", reset)
            for _ in range(5):
                peer = await ingest.peer()
                assert await peer.is_closed()
                await peer.close()
        await until(lambda: ingest.server.connections == 0)
        assert (await ingest.post(NATIVE, EVENT)).status == 202


def reset(transport: object) -> None:
    raise OSError("reset meanwhile")


# --- answers that nobody reads


MANY = b"[" + b",".join([json.dumps(EVENT).encode()] * 20_000) + b"]"


async def deaf(ingest: Ingest, data: bytes) -> socket.socket:
    """A connection that sends this and reads nothing; on a unix socket, where the system buffers little."""
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, ingest.server.address.removeprefix("unix:"))
    await asyncio.get_running_loop().sock_sendall(one, data)
    return one


async def test_an_answer_is_in_the_budget_until_it_is_written(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/s") as ingest:
        one = await deaf(ingest, request(NATIVE, MANY))
        await until(lambda: ingest.count() == 20_000 and ingest.server.in_flight == 0)
        await asyncio.sleep(0.1)
        assert ingest.budget.used > 500_000
        read = 0
        async with asyncio.timeout(10):
            while ingest.budget.used:
                read += len(await asyncio.get_running_loop().sock_recv(one, 100_000))
        assert read > 500_000
        one.close()


async def test_who_reads_nothing_of_its_answer_is_cut_off(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/s", read_timeout=0.3) as ingest:
        one = await deaf(ingest, request(NATIVE, MANY))
        await until(lambda: ingest.server.in_flight == 1)
        await until(lambda: ingest.server.connections == 0)
        await until(lambda: ingest.budget.used == 0)
        assert ingest.metrics.http.unread_answers == 1
        one.close()


async def test_who_reads_its_answer_slowly_has_all_of_it(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/s", read_timeout=1.0) as ingest:
        one = await deaf(ingest, request(NATIVE, MANY))
        whole = b""
        async with asyncio.timeout(60):
            while not whole.endswith(b"}"):
                await asyncio.sleep(0.1)
                whole += await asyncio.get_running_loop().sock_recv(one, 100_000)
        assert whole.startswith(b"HTTP/1.1 202")
        assert ingest.metrics.http.unread_answers == 0
        one.close()


async def test_a_pipelining_sender_that_reads_nothing_is_not_answered_on_and_on(tmp_path: Path) -> None:
    async with serving(listen=f"unix:{tmp_path}/s") as ingest:
        before = ingest.metrics.for_target("orders")
        one = await deaf(ingest, request(NATIVE, MANY) + request(NATIVE, EVENT) * 30)
        await until(lambda: before.accepted == 20_000)
        await asyncio.sleep(0.3)
        assert before.accepted == 20_000, "none of the others is begun before the first answer is written"
        one.close()
        await until(lambda: ingest.server.connections == 0)


async def test_requests_that_come_ahead_of_their_turn_are_in_the_budget_and_answered_in_turn() -> None:
    body = b" " * 200_000 + json.dumps(EVENT).encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT, {"Prefer": "wait=1"}) + request(NATIVE, body) * 2)
        await until(lambda: ingest.budget.used > 20_000)
        assert [(await peer.answer()).status for _ in range(3)] == [202] * 3
        await peer.close()


async def test_a_sender_that_closes_its_side_still_hears_the_answer() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT))
        peer.writer.write_eof()
        answer = await peer.answer()
        assert answer.status == 202
        # From Python 3.12 on aiohttp handles a request at once, before the end of the stream is seen.
        assert answer.headers.get("connection", "close") == "close"
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
        def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> None:
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
        def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> None:
            raise QueueUnavailable("events cannot be stored now: the disk is full")

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
    assert metrics.accepted == 0
    assert metrics.refused["storage"] == 2


async def test_entries_beside_those_that_cannot_be_stored_are_taken() -> None:
    class Diskless(MemoryQueue):
        def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> None:
            raise QueueUnavailable("events cannot be stored now")

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
        (first,) = await busy(ingest, 1)
        others = [await ingest.peer() for _ in range(MAX_TURNED_AWAY + 20)]
        assert all(await asyncio.gather(*(other.is_closed() for other in others)))
        await first.send(b" " * 99)
        assert (await first.answer()).status == 400
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
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert path.exists()
    async with serving(listen=f"unix:{path}") as ingest:
        assert (await ingest.post(NATIVE, EVENT)).status == 202


async def test_a_unix_socket_in_use_or_another_file_is_never_replaced(tmp_path: Path) -> None:
    used, file = tmp_path / "used", tmp_path / "file"
    file.write_text("mine")
    async with serving(listen=f"unix:{used}"):
        for path in (used, file):
            with pytest.raises(OSError, match=r"already listens there|exists and is not a socket"):
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


@pytest.mark.parametrize("keeps", ["", "Connection: keep-alive\r\n"])
async def test_http_1_0_with_a_transfer_encoding_is_refused_and_closed(keeps: str) -> None:
    hidden = request(NATIVE, EVENT)  # a proxy that knows no chunks would take this for the next request
    head = f"POST {NATIVE} HTTP/1.0\r\n{keeps}Transfer-Encoding: chunked\r\n\r\n".encode()
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(head + b"0\r\n\r\n" + (hidden if keeps else b""))
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert answer.json["error"]["code"] == "MalformedHttpRequestException"
        assert await peer.is_closed()
        assert ingest.count() == 0
        assert ingest.metrics.unbound.refused["invalid"] == 1
        await peer.close()


@pytest.mark.parametrize("version", ["", " HTTP/0.9", " HTTP/2.0"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_other_versions_of_http_are_refused_and_closed(method: str, version: str) -> None:
    path = "/v1/openapi.json" if method == "GET" else NATIVE
    host = "\r\nHost: localhost" if version == " HTTP/2.0" else ""
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(f"{method} {path}{version}{host}\r\n\r\n".encode())
        head = await peer.reader.readuntil(b"\r\n\r\n")
        body = await peer.reader.read()  # until it is closed
        await peer.close()
    assert head.startswith(b"HTTP/1.0 505 ")
    assert json.loads(body)["error"]["code"] == "HttpVersionNotSupportedException"
