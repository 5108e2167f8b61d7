"""Peers that mean harm, against a daemon in a process of its own: it stays up, and serves its neighbours."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from tests.support.events import MONITOR, event, events, markers
from tests.support.harness import World, until
from tests.support.ingest import Answer, Peer, code, request
from tests.support.processes import Process, daemon_beside
from tests.support.watching import MIB, OVERHEAD, Neighbour, anonymous_bytes, at_work, highest

PATH = "/v1/targets/orders/events"
PUT_EVENTS = {"X-Amz-Target": "AWSEvents.PutEvents"}
BODY = 2 * MIB
QUEUE = 1 * MIB
BUDGET = 3 * QUEUE + 4 * BODY
BOUNDS: dict[str, Any] = {
    "ingest": {"memory_budget": BUDGET, "max_body": BODY, "read_timeout": "1s"},
    "queue_limits": {"max_bytes": QUEUE},
    "web": {"app_monitors": [MONITOR]},
}
IDLE_BYTES = 16 * 1024
"""What a connection that waits may hold, twice the figure of docs/scaling.md."""


@dataclass
class Scene:
    """A daemon, a neighbour that goes on, and what the process held before."""

    place: World
    daemon: Process
    neighbour: Neighbour
    before: int

    async def answer(self, data: bytes) -> Answer:
        """What the daemon says to these bytes, before it closes the connection."""
        peer = await Peer.connect(self.place.ingest.removeprefix("http://"))
        try:
            with suppress(ConnectionError):
                await peer.send(data)
            return await peer.answer()
        finally:
            await peer.close()

    async def counted(self, family: str, **labels: str) -> int:
        """A counter of the daemon's, summed over what is not given."""
        wanted = "".join(f'(?=[^}}]*{name}="{value}")' for name, value in labels.items())
        found = re.findall(
            rf"^forwarder_{family}(?:\{{{wanted}[^}}]*\}})? (\S+)$", await self.place.metrics(), re.M
        )
        return int(sum(map(float, found)))


@asynccontextmanager
async def scene(place: World, **changes: Any) -> AsyncIterator[Scene]:
    """At the end the neighbour was served throughout, the ledgers balance, and a stop loses nothing."""
    async with daemon_beside(place, **changes) as daemon:
        await place.send("rum", events("rum", markers(1)))
        await place.settled("rum")
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as http, AsyncExitStack() as stack:
            neighbour = Neighbour(replace(place, http=http))  # another peer
            await stack.enter_async_context(at_work(neighbour.send()))
            made = Scene(place, daemon, neighbour, anonymous_bytes(daemon))
            yield made
            so_far = len(neighbour.taken)

            async def served_on() -> bool:
                return len(neighbour.taken) > so_far

            await until(served_on, "the neighbour is served to the end")
        assert set(neighbour.taken) <= set(await place.all_arrive("rum", neighbour.taken))
        await place.ledger("rum")
        assert daemon.process.returncode is None
        daemon.ask()
        assert await daemon.ended() == 0


# --- requests that two readers could read in two ways


def post(headers: bytes, body: bytes, eol: bytes = b"\r\n", version: bytes = b"1.1") -> bytes:
    head = b"POST %b HTTP/%b" % (PATH.encode(), version)
    return eol.join((head, b"Host: a", headers, b"", body))


GOOD = json.dumps(event("eventbridge", "carrier")).encode()
SMUGGLED = request(PATH, event("eventbridge", "smuggled"))
LENGTH = b"Content-Length: %d" % len(GOOD)
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)


def chunk(size: bytes, eol: bytes = b"\r\n") -> bytes:
    return post(CHUNKED, size + eol + GOOD + eol + b"0" + eol + eol)


AMBIGUOUS: dict[str, bytes] = {
    "a length and chunks": post(b"Content-Length: %d\r\n%b" % (len(CHUNKS), CHUNKED), CHUNKS),
    "chunks and a length": post(CHUNKED + b"\r\nContent-Length: 4", b"0\r\n\r\n"),
    "two lengths": post(b"%b\r\nContent-Length: %d" % (LENGTH, len(GOOD + SMUGGLED)), GOOD),
    "one length twice": post(LENGTH + b"\r\n" + LENGTH, GOOD),
    "a list of lengths": post(LENGTH + b", %d" % len(GOOD), GOOD),
    "a length with a sign": post(b"Content-Length: +%d" % len(GOOD), GOOD),
    "a length below zero": post(b"Content-Length: -1", GOOD),
    "a length in hexadecimals": post(b"Content-Length: 0x%x" % len(GOOD), GOOD),
    "a length without an end": post(b"Content-Length: " + b"9" * 30, GOOD),
    "a blank before the colon": post(LENGTH.replace(b":", b" :"), GOOD),
    "a blank before the colon of chunks": post(CHUNKED.replace(b":", b" :"), CHUNKS),
    "an encoding that only looks like chunks": post(b"Transfer-Encoding: xchunked", CHUNKS),
    "an encoding after chunks": post(CHUNKED + b", identity", CHUNKS),
    "chunks twice": post(CHUNKED + b"\r\n" + CHUNKED, CHUNKS),
    "a vertical tab before chunks": post(CHUNKED.replace(b" ", b" \x0b"), CHUNKS),
    "chunks on a folded line": post(CHUNKED.replace(b" ", b"\r\n "), CHUNKS),
    "a folded header": post(b"X-A: b\r\n c\r\n" + LENGTH, GOOD),
    "bare line feeds": post(LENGTH, GOOD, eol=b"\n"),
    "a bare line feed in the head": post(b"X-A: b\n" + LENGTH, GOOD),
    "a bare carriage return in the head": post(b"X-A: b\r" + LENGTH, GOOD),
    "a zero byte in a header": post(b"X-A: b\0c\r\n" + LENGTH, GOOD),
    "a header without a colon": post(b"Surprise\r\n" + LENGTH, GOOD),
    "two hosts": post(b"Host: b\r\n" + LENGTH, GOOD),
    "a chunk size that is none": chunk(b"zz"),
    "a chunk size below zero": chunk(b"-1"),
    "a chunk size with 0x": chunk(b"0x%x" % len(GOOD)),
    "a chunk size without an end": chunk(b"f" * 18),
    "a blank after the chunk size": chunk(b"%x " % len(GOOD)),
    "a chunk longer than its size": chunk(b"%x" % (len(GOOD) - 3)),
    "chunks with bare line feeds": chunk(b"%x" % len(GOOD), eol=b"\n"),
    "a line feed in a chunk's extension": chunk(b"%x;a\nb" % len(GOOD)),
    "chunks in HTTP/1.0": post(CHUNKED, CHUNKS, version=b"1.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
"""Each is followed by a whole good request, which a reader of the other kind would take."""


async def test_no_request_is_smuggled_behind_one_that_can_be_read_in_two_ways(place: World) -> None:
    async with scene(place) as at:
        for what, data in AMBIGUOUS.items():
            answer = await at.answer(data + SMUGGLED)
            assert (answer.status, answer.json["__type"]) == (400, "MalformedHttpRequestException"), what
        await place.send("eventbridge", events("eventbridge", last := markers(1)))
        assert set(await place.all_arrive("eventbridge", last)) == set(last), "and nothing else"
        # of chunks that go wrong the request was known already
        refused = await at.counted("http_requests_total", code="400")
        assert refused >= len(AMBIGUOUS)


# --- senders that never come to an end


SLOW = 300


async def test_slow_senders_are_told_and_let_go_while_others_are_served(place: World) -> None:
    heads = (b"POST /", b"POST %b HTTP/1.1\r\nHost: a\r\nX-" % PATH.encode())
    bodies = (
        request(PATH, b"[", {"Content-Length": "5000"}),
        request(PATH, b"500\r\n[", {"Transfer-Encoding": "chunked"}),
    )
    async with scene(place, **BOUNDS) as at:
        peers = [await Peer.connect(place.ingest.removeprefix("http://")) for _ in range(SLOW)]
        for n, peer in enumerate(peers):
            await peer.send((*heads, *bodies)[n % 4])

        async def drip() -> None:
            while True:  # one byte at a time is as slow as none
                await asyncio.sleep(0.2)
                for peer in peers:
                    with suppress(ConnectionError):
                        peer.writer.write(b"a")

        async with at_work(drip()):
            for peer in peers:
                answer = await peer.answer()
                assert (answer.status, code(answer)) == (408, "RequestTimeoutException")
        for peer in peers:
            await peer.close()
        assert await at.counted("http_requests_total", code="408") == SLOW
        assert await at.counted("http_requests_total", code="408", route="other") == SLOW / 2


# --- requests that are small to send and large to take


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, 9)


BOMB = gzipped(gzipped(b"\0" * (64 * MIB)) + b"\0" * (64 * MIB))
GZIP = {"Content-Encoding": "gzip"}
MANY_PARTS = b"{}," * (BODY // 3 - 20)
DETAIL = json.dumps('{"a":' * 1100 + '"' + '\\"' * 100_000)
HEAVY: dict[str, tuple[str, bytes, Mapping[str, str], int]] = {
    "a gzip bomb": (PATH, BOMB, GZIP, 413),
    "a gzip bomb on the AWS wire": ("/", BOMB, {**PUT_EVENTS, **GZIP}, 413),
    "a gzip bomb of a page": (f"/appmonitors/{MONITOR}", BOMB, GZIP, 413),
    "very many members of gzip": (PATH, gzipped(b"") * 20_000, GZIP, 413),
    "brackets": (PATH, b"[" * BODY, {}, 413),
    "brackets on the AWS wire": ("/", b'{"Entries":' + b"[" * (BODY - 11), PUT_EVENTS, 400),
    "braces": ("/", b'{"a":' * (BODY // 5), PUT_EVENTS, 400),
    "an endless string below the deepest": (
        "/",
        b'{"Entries":[{"Source":"a","DetailType":"b","Detail":%b}]}' % DETAIL.encode(),
        PUT_EVENTS,
        200,
    ),
    "very many entries": ("/", b'{"Entries":[%b{}]}' % MANY_PARTS, PUT_EVENTS, 400),
    "very many events of a page": (f"/appmonitors/{MONITOR}", b'{"RumEvents":[%b{}]}' % MANY_PARTS, {}, 413),
    "very many native events": (PATH, b"[%b{}]" % MANY_PARTS, {}, 413),
    "very many that are no events": (PATH, b"[" + b"7," * (BODY // 2 - 9) + b"7]", {}, 413),
    "very many lines": (PATH, b"7\n" * (BODY // 2), {"Content-Type": "application/x-ndjson"}, 413),
    "very many resources": (
        "/",
        b'{"Entries":[{"Resources":[' + b'"",' * (BODY // 3 - 20) + b'""]}]}',
        PUT_EVENTS,
        200,  # the entry's own error
    ),
    "one large header": (PATH, b"{}", {"X-Large": "a" * 1_000_000}, 431),
    "very many headers": (PATH, b"{}", {f"X-{n}": "a" for n in range(5000)}, 400),
}


async def test_what_is_small_to_send_and_large_to_take_is_refused_within_the_budget(place: World) -> None:
    async with scene(place, **BOUNDS) as at:

        async def attack(what: str) -> None:
            path, body, headers, status = HEAVY[what]
            data = request(path, body, headers)
            while (answer := await at.answer(data)).status == 429:  # there are others like it
                await asyncio.sleep(0.02)
            assert answer.status == status, what

        watch = asyncio.create_task(highest(lambda: anonymous_bytes(at.daemon), 2.0))
        await asyncio.gather(*[attack(what) for what in HEAVY])
        most = await watch
        assert most < at.before + BUDGET + OVERHEAD, f"{(most - at.before) / MIB:.0f} MiB more"
        assert await at.counted("http_requests_total", code="413") >= 8
        assert await at.counted("http_requests_total", code="431") == 1
        assert await at.counted("http_requests_total", code="500") == 0


# --- very many connections


@pytest.fixture
def many() -> Iterator[int]:
    """Ten thousand connections, or as many as the system lets two processes have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connected(address: str, number: int) -> list[socket.socket]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return [socket.create_connection((host, int(port))) for _ in range(number)]


async def test_ten_thousand_idle_connections_cost_little_and_keep_nobody_out(place: World, many: int) -> None:
    bounds = {**BOUNDS, "ingest": {**BOUNDS["ingest"], "max_connections": many + 100}}
    async with scene(place, **bounds) as at:
        idle = await asyncio.to_thread(connected, place.ingest, many)
        try:
            for each in idle[::2]:
                each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

            async def answered() -> bool:
                return await at.counted("http_requests_total", code="405") == (many + 1) // 2

            await until(answered, "every second one had an answer")
            assert anonymous_bytes(at.daemon) < at.before + many * IDLE_BYTES + OVERHEAD
            name = markers(1)
            assert (await place.post("eventbridge", events("eventbridge", name))).status == 202
            assert await at.counted("http_connections_refused_total") == 0
        finally:
            for each in idle:
                each.close()


async def test_connections_beyond_the_bound_are_refused_and_counted_and_cost_nobody_inside_anything(
    place: World, many: int
) -> None:
    most, beyond = 1024, min(many, 3000)
    async with scene(place) as at:  # max_connections is 1024
        idle = await asyncio.to_thread(connected, place.ingest, beyond)
        try:

            async def all_refused() -> bool:
                refused = await at.counted("http_connections_refused_total")
                displaced = await at.counted("http_connections_displaced_total")  # silent for too long
                return refused + displaced >= beyond - most

            await until(all_refused, "the rest is refused")
            assert anonymous_bytes(at.daemon) < at.before + most * IDLE_BYTES + OVERHEAD
        finally:
            for each in idle:
                each.close()

        async def room() -> bool:
            with suppress(OSError, asyncio.IncompleteReadError):
                return (await at.answer(request(PATH, event("eventbridge", "after")))).status == 202
            return False

        await until(room, "there is room again")


async def test_a_connection_that_is_refused_is_told_so_when_it_speaks(place: World) -> None:
    async with scene(place, ingest={"max_connections": 4}) as at:
        with closing(connected(place.ingest, 1)[0]), closing(connected(place.ingest, 1)[0]):
            others = connected(place.ingest, 3)
            try:
                answer = await at.answer(request(PATH, event("eventbridge", "no")))
                assert (answer.status, answer.json["__type"]) == (503, "ServiceUnavailable")
                assert answer.headers["retry-after"]
                assert await at.counted("http_connections_refused_total") >= 1
                assert not [line for line in at.daemon.lines if line.get("level") == "error"]
            finally:
                for each in others:
                    each.close()
