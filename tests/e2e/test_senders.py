"""Signatures of AWS's clients for JavaScript: those of its SDK, and of the RUM web client's own code in Node.

Invariants:
- What was signed is what a client sent, byte by byte: it is caught on a socket, and sent again to the daemon.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import TARGETS
from tests.e2e.environments import node_packages
from tests.e2e.processes import Daemon, Sandbox, a_daemon, ask, surroundings

SIGNERS = ("eventbridge", "rum", "web fetch", "web gzip", "web beacon")
KEY_ID, SECRET, SESSION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3/JpZ2luX2Vj+A=="
KEYS = (
    f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\naws_session_token = {SESSION}\n"
)


@pytest.fixture(scope="session")
def sign() -> Path:
    return node_packages(Path(__file__).parent / "signers") / "sign.mjs"


@pytest.fixture(scope="module")
def guarded(a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that asks for a signature."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "access-keys"
    keys.write_text(KEYS)
    targets = TARGETS.format(url=a_running_sandbox.url)
    with a_daemon(folder, targets, more=f", auth: {{access_keys: '{keys}'}}") as running:
        yield running


def run(sign: Path, signer: str, url: str, secret: str = SECRET) -> str:
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": SESSION}
    command = ["node", str(sign), signer, url]
    said = subprocess.run(command, env=surroundings(**keys), check=True, capture_output=True, text=True)
    return said.stdout.strip()


def caught(sign: Path, signer: str) -> bytes:
    """The request that a client sends, whole."""
    parts: list[bytes] = []

    def listen(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            while not is_whole(b"".join(parts)):
                parts.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listening = threading.Thread(target=listen, args=(listener,))
        listening.start()
        run(sign, signer, f"http://127.0.0.1:{listener.getsockname()[1]}")
        listening.join()
    return b"".join(parts)


def is_whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def status_of(url: str, request: bytes) -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return int(answer.split(b" ", 2)[1])


def signed_places(request: bytes) -> Iterator[int]:
    """The places of all that is signed: method, path, query, the signed headers, the body, the signature."""
    head, _, _ = request.partition(b"\r\n\r\n")
    found = re.search(rb"SignedHeaders=([^,&\s]+)", head)
    assert found is not None
    names = {*found[1].replace(b"%3B", b";").split(b";"), b"authorization"}
    first, *lines = head.split(b"\r\n")
    yield from range(first.rindex(b" "))
    start = len(first) + 2
    for line in lines:
        if line.partition(b":")[0].lower() in names:
            yield from range(start, start + len(line))
        start += len(line) + 2
    yield from range(len(head) + 4, len(request))


@pytest.mark.parametrize("signer", SIGNERS)
def test_what_a_client_signed_is_let_in_and_arrives(
    sign: Path, sandbox: Sandbox, guarded: Daemon, signer: str
) -> None:
    assert run(sign, signer, guarded.url) == "ok"
    target, api = ("orders", "eventbridge") if signer == "eventbridge" else ("web", "rum")
    guarded.deliver(target)
    arrived = sandbox.arrived(api)
    assert len(arrived) == (30 if signer == "web gzip" else 1)


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_flipped_bit_anywhere_that_was_signed_is_refused(
    sign: Path, sandbox: Sandbox, guarded: Daemon, signer: str
) -> None:
    request = caught(sign, signer)
    assert (b"content-encoding: gzip" in request.lower()) == (signer == "web gzip")
    assert (b"X-Amz-Signature=" in request) == (signer == "web beacon")
    places = list(signed_places(request))
    assert len(places) > 400
    for place in places:
        flipped = bytearray(request)
        flipped[place] ^= 1 << place % 5  # not the sixth bit, which is the case of a header's name
        assert 400 <= status_of(guarded.url, bytes(flipped)) < 500, bytes(flipped)
    assert sandbox.counts("eventbridge")["calls"] == sandbox.counts("rum")["calls"] == 0
    assert status_of(guarded.url, request) == 200  # in the end: it was right all the time
    guarded.deliver("orders" if signer == "eventbridge" else "web")


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_client_with_a_wrong_secret_is_told_so(sign: Path, guarded: Daemon, signer: str) -> None:
    before = refusals(guarded)
    expected = "Refused 403" if signer.startswith("web") else "InvalidSignatureException 403"
    assert run(sign, signer, guarded.url, secret="another") == expected
    assert refusals(guarded) == before + 1  # and does not try again


def refusals(daemon: Daemon) -> int:
    said = ask(f"{daemon.admin}/metrics").decode()
    found = re.findall(r"^forwarder_http_unauthenticated_requests_total\{[^}]*\} (\S+)$", said, re.MULTILINE)
    return sum(int(float(each)) for each in found)
