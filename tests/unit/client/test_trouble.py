"""A daemon that cannot be reached: one sentence for each reason, with the place that was tried."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import RawTestServer

from forwarder.client import connecting, operate, status
from forwarder.client.trouble import sentence

KEY = Mock(spec=ConnectionKey)
FOREIGN = ("ssl:", "Errno", "Error", "aiohttp", "Traceback", "object at")


def of_socket(path: Path, number: int) -> str:
    problem = OSError(number, "what the system says")
    return sentence(f"unix:{path}", UnixClientConnectorError(str(path), KEY, problem))


def of_url(url: str, problem: OSError) -> str:
    return sentence(url, aiohttp.ClientConnectorError(KEY, problem))


@contextmanager
def silent(path: Path) -> Iterator[None]:
    """A socket that accepts and never answers, as that of a stopped daemon."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


def test_a_missing_socket_or_directory_is_named(tmp_path: Path) -> None:
    assert f"there is no {tmp_path}/a.sock. Start" in of_socket(tmp_path / "a.sock", errno.ENOENT)
    assert f"there is no {tmp_path}/x/y. Start" in of_socket(tmp_path / "x/y/a.sock", errno.ENOENT)


def test_the_wrong_user_is_told_both_users_and_the_command() -> None:
    said = of_socket(Path("/"), errno.EACCES)
    assert "may not use /, which belongs to user root" in said
    assert said.endswith("sudo -u root forwarder ...")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (of_socket(Path("/a"), errno.ECONNREFUSED), "the socket exists, but nothing listens on it"),
        (of_socket(Path("/a"), errno.EAGAIN), "the daemon at /a accepts no connections now"),
        (of_socket(Path("/a"), errno.EPERM), "which belongs to user root"),
        (sentence("unix:/a", TimeoutError()), "no complete answer within 3s. It may be stopped or hung"),
        (
            of_url("http://h:1", OSError(errno.ECONNREFUSED, "")),
            "no daemon at http://h:1: nothing listens there",
        ),
        (of_url("http://h:1", OSError(None, "[Errno 111] a, [Errno 111] b")), "nothing listens there"),
        (of_url("http://h:1", socket.gaierror(-2, "")), "the host name cannot be resolved"),
        (of_url("http://h:1", OSError(errno.EHOSTUNREACH, "No route")), "no daemon at http://h:1: No route"),
        (of_url("https://h:1", ssl.SSLError(1, "[SSL] wrong version")), "https://h:1 answers without TLS"),
        (
            sentence("http://h:1", aiohttp.ServerDisconnectedError()),
            "closed the connection without a complete",
        ),
        (sentence("http://h:1", aiohttp.ClientPayloadError()), "closed the connection without a complete"),
        (
            sentence("http://h:1", aiohttp.ClientResponseError(Mock(), (), message="Bad status line")),
            "http://h:1 does not answer with HTTP",
        ),
        (sentence("http://h:1", aiohttp.ClientError("<object at 0x7f>")), "no answer from http://h:1"),
    ],
)
def test_each_reason_has_a_sentence_without_words_of_a_library(said: str, words: str) -> None:
    assert words in said
    assert [word for word in FOREIGN if word in said] == []


def test_an_untrusted_certificate_is_told_with_its_cure() -> None:
    problem = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    problem.verify_message = "self-signed certificate"
    said = of_url("https://h:1", problem)
    assert "the certificate of https://h:1 is not trusted: self-signed certificate" in said
    assert "SSL_CERT_FILE" in said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(connecting, "LOOK_SECONDS", 0.1)


@pytest.mark.parametrize("command", ["status", "pause"])
async def test_a_daemon_that_does_not_answer_ends_a_question_and_an_order_with_69(
    command: str, tmp_path: Path, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.sock"
    with silent(path):
        code = await (
            status(f"unix:{path}", False) if command == "status" else operate(path, "pause", "orders")
        )
    assert code == 69
    assert f"the daemon at unix:{path} does not answer" in capsys.readouterr().err


async def test_an_answer_that_comes_byte_by_byte_ends_too(impatient: None) -> None:
    hung_up = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        hung_up.set()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        session, base = connecting.session_for(url)
        async with session:
            with pytest.raises(connecting.Unreachable, match="does not answer") as caught:
                await connecting.exchange(session, "GET", f"{base}/status", url)
        await hung_up.wait()
    assert caught.value.sent


async def test_a_slow_order_is_waited_for_while_the_daemon_answers_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connecting, "ANSWER_SECONDS", 1.5)
    monkeypatch.setattr(connecting, "LOOK_SECONDS", 0.3)
    asked = 0

    async def handle(request: web.BaseRequest) -> web.Response:
        nonlocal asked
        if request.path == "/":
            asked += 1
            return web.Response(status=404)
        while asked < 6:  # longer than one answer may take
            await asyncio.sleep(0.01)
        return web.json_response({})

    async with RawTestServer(handle) as server:
        url = str(server.make_url("/")).rstrip("/")
        session, base = connecting.session_for(url)
        async with session:
            reply = await connecting.exchange(session, "POST", f"{base}/slow", url, slow=True)
    assert (reply.status, asked) == (200, 6)
