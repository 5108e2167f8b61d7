"""A peer that is alone may use everything that there is: connections, the queue, the body, the time.

Invariants:
- Shares bind only while another peer would otherwise be refused; here there is no other.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.processes import Daemon, Sandbox, a_daemon, a_sandbox, ask, until
from tests.welcome.calls import name
from tests.welcome.conftest import Record
from tests.welcome.judge import Row, arrived, refused_by

TARGET = '  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{url}"{more}}}\n'
SEND = "/v1/targets/orders/events"
CONNECTIONS = 500
ORDINARY = 20_000
"""Events in one request."""

MAX_BODY = 8 << 20
SLOW_RATE = 64 << 10
"""Bytes a second of an uploader that is slow and honest."""

SLOW_SECONDS = 8.0
HELD = {"fault": "credentials"}


@pytest.fixture(scope="module")
def own_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with a_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(own_sandbox: Sandbox) -> Sandbox:
    own_sandbox.reset()
    own_sandbox.mend()
    return own_sandbox


@pytest.fixture(autouse=True)
def files() -> None:
    """As many open files as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def event(name: str, size: int = 0) -> dict[str, object]:
    return {"Source": "welcome", "DetailType": "a", "Detail": {"name": name, "more": "x" * size}}


def array(names: list[str], size: int = 0) -> bytes:
    return json.dumps([event(name, size) for name in names]).encode()


def names_of(count: int) -> list[str]:
    return [name() for _ in range(count)]


@pytest.fixture
def settle(sandbox: Sandbox, record: Record) -> Callable[..., None]:
    def settled(daemon: Daemon, what: str, path: str, sent: list[str]) -> None:
        daemon.deliver("orders")
        came, refused = arrived(sandbox, ["eventbridge"]), refused_by(daemon)
        record(Row(what, "none", path, len(sent), int(sum(refused.values()))))
        assert not refused
        assert came == sorted(sent), f"{len(came)} arrived of {len(sent)}"

    return settled


@pytest.mark.parametrize("by", ["address", "unix socket"])
def test_one_peer_alone_may_have_500_connections(
    by: str, sandbox: Sandbox, settle: Callable[..., None], tmp_path: Path
) -> None:
    names = names_of(2 * CONNECTIONS)

    async def send(url: str, connector: aiohttp.BaseConnector) -> None:
        """Each connection sends, all of them are open at the same time, and send again."""
        async with aiohttp.ClientSession(connector=connector) as session:

            async def post(name: str) -> None:
                async with session.post(url + SEND, json=event(name)) as answer:
                    assert answer.status == 202, await answer.text()

            for half in (names[:CONNECTIONS], names[CONNECTIONS:]):
                await asyncio.gather(*map(post, half))

    async def send_by_address(url: str) -> None:
        await send(url, aiohttp.TCPConnector(limit=CONNECTIONS))

    async def send_by_socket(socket: Path) -> None:
        await send("http://ingest", aiohttp.UnixConnector(str(socket), limit=CONNECTIONS))

    socket = tmp_path / "ingest.sock" if by == "unix socket" else None
    with a_daemon(tmp_path, TARGET.format(url=sandbox.url, more=""), socket=socket) as daemon:
        asyncio.run(send_by_socket(socket) if socket else send_by_address(daemon.url))
        settle(daemon, f"{CONNECTIONS} connections", by, names)


def test_one_peer_alone_may_fill_the_whole_queue_with_requests_of_20_000(
    sandbox: Sandbox, settle: Callable[..., None], tmp_path: Path
) -> None:
    capacity = 2 * ORDINARY
    more = f", queue_limits: {{max_events: {capacity}}}, hold: {{probe: 200ms, probe_cap: 200ms}}"
    sandbox.order(HELD)
    with a_daemon(tmp_path, TARGET.format(url=sandbox.url, more=more)) as daemon:
        names = names_of(capacity)
        for half in (names[:ORDINARY], names[ORDINARY:]):
            accepted = json.loads(ask(daemon.url + SEND, array(half), "POST"))
            assert accepted["accepted"] == ORDINARY, accepted
        status = daemon.status("orders")
        assert status["waiting"] + status["in_flight"] == capacity
        sandbox.mend()
        settle(daemon, "the whole queue", "direct", names)


@pytest.mark.parametrize("size", [1_000, 7_000, 250_000])
def test_arrays_close_to_the_largest_body_are_accepted(
    size: int, sandbox: Sandbox, settle: Callable[..., None], tmp_path: Path
) -> None:
    room = MAX_BODY - 1_000
    count = room // (len(array(names_of(1), size)))
    with a_daemon(tmp_path, TARGET.format(url=sandbox.url, more="")) as daemon:
        plain, packed = names_of(count), names_of(count)
        for names, encode in ((plain, bytes), (packed, gzip.compress)):
            body = array(names, size)
            assert MAX_BODY * 0.9 < len(body) <= MAX_BODY or size == 250_000
            status, said = post_bytes(daemon.url, encode(body), gzipped=encode is gzip.compress)
            assert status == 202, said
        settle(daemon, f"8 MiB of events of {size} bytes", "direct", plain + packed)


def post_bytes(url: str, body: bytes, *, gzipped: bool) -> tuple[int, str]:
    async def post() -> tuple[int, str]:
        headers = {"Content-Type": "application/json", **({"Content-Encoding": "gzip"} if gzipped else {})}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url + SEND, data=io.BytesIO(body), headers=headers) as answer,
        ):
            return answer.status, await answer.text()

    return asyncio.run(post())


def test_who_takes_its_time_is_waited_for(
    sandbox: Sandbox, settle: Callable[..., None], tmp_path: Path
) -> None:
    """At the same time: a slow upload, an idle connection, a pipeline, and a wait for delivery."""
    sent: list[str] = []
    more = f", keep_alive: {2 * SLOW_SECONDS:.0f}s"
    with a_daemon(tmp_path, TARGET.format(url=sandbox.url, more=", ack: delivered"), more=more) as daemon:

        async def all_of_them() -> None:
            host, _, port = daemon.url.removeprefix("http://").partition(":")
            async with asyncio.TaskGroup() as tasks:
                for what in (slow, idle, pipelined, waiting):
                    tasks.create_task(what(host, int(port), sent))

        asyncio.run(all_of_them())
        settle(daemon, "slow, idle, pipelined, ack: delivered", "direct", sent)


def head(length: int, more: str = "") -> bytes:
    return (
        f"POST {SEND} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The body of the next answer, which is 202."""
    said = await reader.readuntil(b"\r\n\r\n")
    assert said.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")), said
    length = next(
        int(line.split(b":")[1]) for line in said.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return await reader.readexactly(length)


async def slow(host: str, port: int, sent: list[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    names = names_of(50)
    body = array(names, int(SLOW_RATE * SLOW_SECONDS) // 50)
    writer.write(head(len(body)))
    began = time.monotonic()
    for start in range(0, len(body), SLOW_RATE // 4):
        writer.write(body[start : start + SLOW_RATE // 4])
        await writer.drain()
        await asyncio.sleep(max(0.0, began + (start / SLOW_RATE) + 0.25 - time.monotonic()))
    await answered(reader)
    sent += names
    writer.close()


async def idle(host: str, port: int, sent: list[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    for pause in (SLOW_SECONDS, 0.0):
        names = names_of(1)
        body = array(names)
        writer.write(head(len(body)) + body)
        await answered(reader)
        sent += names
        await asyncio.sleep(pause)
    writer.close()


async def pipelined(host: str, port: int, sent: list[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    names = names_of(20)
    bodies = [array([each]) for each in names]
    writer.write(b"".join(head(len(body)) + body for body in bodies))
    for _ in bodies:
        await answered(reader)
    sent += names
    writer.close()


async def waiting(host: str, port: int, sent: list[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    names = names_of(300)
    body = array(names)
    writer.write(head(len(body), "Prefer: wait=10\r\n") + body)
    await answered(reader)
    sent += names
    writer.close()


def test_a_full_queue_is_all_that_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    """So that 0 in the table means something: a refusal is counted where this suite looks for it."""
    sandbox.order(HELD)
    target = TARGET.format(url=sandbox.url, more=", queue_limits: {max_events: 1}")
    with a_daemon(tmp_path, target) as daemon:
        status, _ = post_bytes(daemon.url, array(names_of(1)), gzipped=False)
        assert status == 202
        until(lambda: daemon.status("orders")["waiting"], "the event to wait")
        status, _ = post_bytes(daemon.url, array(names_of(1)), gzipped=False)
        assert status == 429
        refused = refused_by(daemon)
        assert any("events_re" in each for each in refused), refused
        assert any('code="429"' in each for each in refused), refused
        daemon.kill()
