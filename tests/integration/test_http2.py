"""Clients that speak HTTP/2 with prior knowledge, at both listeners."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from forwarder.addresses import Listens
from forwarder.admin.server import AdminServer
from forwarder.http2 import MESSAGE, PREFACE, Http2Refusal, is_preface
from forwarder.metrics import Metrics
from tests.support.ingest import serving

SETTINGS = bytes.fromhex("000000040000000000")
HEADERS = bytes.fromhex("000001010500000001 82")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@asynccontextmanager
async def admin() -> AsyncIterator[str]:
    server = AdminServer(Metrics(), dict, lambda: True)
    await server.start(Listens.parse("127.0.0.1:0"))
    try:
        yield f"http://{server.address}/metrics"
    finally:
        await server.close()


@asynccontextmanager
async def ingest() -> AsyncIterator[str]:
    async with serving() as made:
        yield f"http://{made.server.address}/v1/openapi.json"


@needs_curl
@pytest.mark.parametrize("listener", [admin, ingest])
async def test_curl_shows_why_it_is_refused(listener: object) -> None:
    async with listener() as url:  # type: ignore[operator]
        command = ["curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_code} %{http_version}", url]
        process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
        said, problem = await asyncio.wait_for(process.communicate(), 30)
    assert (said, problem) == (MESSAGE + b"505 2", b"")


async def first_answer(host: str, data: bytes, first: int) -> bytes:
    """What comes back when the first bytes arrive by themselves."""
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(data[:first])
    await asyncio.sleep(0.05)
    writer.write(data[first:])
    answer = await asyncio.wait_for(reader.read(1 << 16), 30)
    writer.close()
    return answer


@pytest.mark.parametrize("listener", [admin, ingest])
@pytest.mark.parametrize("first", [1, 3, 15])
async def test_a_preface_in_two_parts_is_known_and_so_is_http_1(listener: object, first: int) -> None:
    async with listener() as url:  # type: ignore[operator]
        host, _, path = url.removeprefix("http://").partition("/")
        assert SETTINGS in await first_answer(host, PREFACE + SETTINGS + HEADERS, first)
        get = f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        assert (await first_answer(host, get, first)).startswith(b"HTTP/1.1 200 ")
        put = b"P" + get[1:].replace(b"ET", b"UT", 1)
        assert (await first_answer(host, put, 1)).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_answer_comes_with_the_first_stream_however_the_bytes_arrive(size: int) -> None:
    refusal, said = Http2Refusal(), b""
    before = PREFACE + SETTINGS
    for at in range(0, len(before), size):
        said += refusal.feed(before[at : at + size])
    assert said == SETTINGS + bytes.fromhex("000000040100000000"), "settings, and theirs acknowledged"
    assert not refusal.done
    for at in range(0, len(HEADERS), size):
        said += refusal.feed(HEADERS[at : at + size])
    assert refusal.done
    assert MESSAGE in said


def test_a_frame_that_is_too_large_ends_it() -> None:
    refusal = Http2Refusal()
    refusal.feed(PREFACE + b"POST / HTTP/1.1\r\n")
    assert refusal.done


def test_what_follows_the_preface_and_is_no_settings_is_left_to_http_1() -> None:
    assert is_preface(PREFACE)
    assert is_preface(PREFACE + SETTINGS)
    assert not is_preface(PREFACE + b"POST / HTTP/1.1\r\n")
    assert not is_preface(b"POST / HTTP/1.1\r\n")


def test_a_client_that_opens_no_stream_is_given_up() -> None:
    refusal = Http2Refusal()
    refusal.feed(PREFACE)
    for _ in range(10):
        refusal.feed(bytes.fromhex("002000060000000000") + bytes(8192))
    assert refusal.done
