"""AWS behind a proxy: the environment names it, over HTTP or HTTPS, and the daemon delivers through it.

Invariants:
- The proxy is the test's own. It notes what it was asked for, and AWS is reached over TLS behind it alone.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.authorities import Authority
from tests.support.events import KINDS, TARGETS, events, markers
from tests.support.harness import World
from tests.support.processes import run_command, running

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
NAME, PASSWORD = "egress", "s3cret"


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


async def join(one: Streams, other: Streams) -> None:
    await asyncio.gather(copy(one[0], other[1]), copy(other[0], one[1]))


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    context: ssl.SSLContext | None,
) -> AsyncIterator[int]:
    """A server for the block, and its port. No connection outlives it."""
    going = set[asyncio.Task[None]]()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        going.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for each in going:
        each.cancel()
    await asyncio.gather(*going, return_exceptions=True)


@asynccontextmanager
async def tls_in_front_of(url: str, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The port where the sandbox is reached over TLS."""
    there = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join((reader, writer), await asyncio.open_connection(there.hostname, there.port))

    async with serving(serve, context) as port:
        yield port


@asynccontextmanager
async def a_proxy(context: ssl.SSLContext | None, heads: list[str]) -> AsyncIterator[str]:
    """A proxy that knows CONNECT, and where it is. ``heads``: of the requests that it got."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head := (await reader.readuntil(b"\r\n\r\n")).decode())
        method, address, _ = head.split(None, 2)
        assert method == "CONNECT"
        host, _, port = address.rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join((reader, writer), there)

    async with serving(serve, context) as port:
        yield f"127.0.0.1:{port}"


def server_side(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server"))
    return context


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_events_are_delivered_through_a_proxy_with_a_password(
    place: World, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, heads = Authority(tmp_path), list[str]()
    context = server_side(authority)
    async with (
        tls_in_front_of(place.sandbox, context) as port,
        a_proxy(context if scheme == "https" else None, heads) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{NAME}:{PASSWORD}@{proxy}")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.file))
        to_aws = {"endpoint_url": f"https://127.0.0.1:{port}"}
        command = run_command(place, **dict.fromkeys(TARGETS.values(), to_aws))
        async with running(command) as daemon:
            place.ingest = f"http://{(await daemon.says('ready'))['ingest']}"
            sent = {kind: markers(3) for kind in KINDS}
            for kind, names in sent.items():
                await place.send(kind, events(kind, names))
                await place.all_arrive(kind, names)
            daemon.ask()
            assert await daemon.ended() == 0
    assert heads
    proof = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
    for head in heads:
        assert head.startswith(f"CONNECT 127.0.0.1:{port} "), head
        assert f"Proxy-Authorization: Basic {proof}" in head, head
    assert PASSWORD not in "".join(map(str, daemon.lines))
