"""Who sends, behind a real nginx and a real HAProxy: what they change is refused, and senders stay apart.

Invariants:
- The proxies are configured as their manuals say; only what a test changes on the way is added.
- The judge is the queue of the listener behind them: how many events it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from forwarder.config import AuthConfig
from forwarder.ingest import server
from forwarder.ingest.idempotency import IdempotencyCache
from tests.e2e.environments import debian_program
from tests.e2e.processes import PATIENCE, free_port
from tests.support.ingest import ENTRY, EVENT, NATIVE, PUT_EVENTS, Answer, Ingest, Peer, request, serving
from tests.support.signing import KEY_ID, SECRET, by_header

PROXIES = ("nginx", "haproxy")
A, B = "127.0.0.2", "127.0.0.3"
CLOUDEVENTS = "/v1/cloudevents/orders"
CE = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "/a",
    "ce-type": "t",
    "Content-Type": "application/json",
}
Altered = Mapping[str, str]


def _nginx(folder: Path, port: int, backend: str, altered: Altered) -> Sequence[str | Path]:
    set_ = "".join(f'proxy_set_header {name} "{value}";\n' for name, value in altered.items())
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    user = "user root;\n" if os.geteuid() == 0 else ""
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}server {{\n"
        f"listen 127.0.0.1:{port};\nlocation / {{\n"
        f"proxy_pass http://{backend};\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n"
        f"proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n{set_}}}\n}}\n}}\n"
    )
    program = debian_program("nginx", "nginx-light")
    return [program, "-e", folder / "nginx.log", "-c", folder / "nginx.conf", "-g", "daemon off;"]


def _haproxy(folder: Path, port: int, backend: str, altered: Altered) -> Sequence[str | Path]:
    set_ = "".join(f'  http-request set-header {name} "{value}"\n' for name, value in altered.items())
    (folder / "haproxy.cfg").write_text(
        "defaults\n  mode http\n  option forwardfor\n  timeout connect 5s\n  timeout client 60s\n"
        f"  timeout server 60s\nlisten all\n  bind 127.0.0.1:{port}\n{set_}  server daemon {backend}\n"
    )
    return [debian_program("haproxy", "haproxy"), "-db", "-f", folder / "haproxy.cfg"]


@contextlib.asynccontextmanager
async def behind(
    proxy: str, ingest: Ingest, folder: Path, altered: Altered | None = None
) -> AsyncIterator[str]:
    """The proxy's address. ``altered``: headers that it sets."""
    port = free_port()
    make = _nginx if proxy == "nginx" else _haproxy
    command = make(folder, port, ingest.server.address, altered or {})
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    address = f"127.0.0.1:{port}"
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _listens(address):
                assert process.poll() is None, (folder / "out").read_text()
                await asyncio.sleep(0.05)
        yield address
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, PATIENCE)


async def _listens(address: str) -> bool:
    with contextlib.suppress(OSError):
        peer = await Peer.connect(address)
        await peer.close()
        return True
    return False


async def post(address: str, path: str, body: object, headers: Mapping[str, str], source: str = A) -> Answer:
    peer = await Peer.connect(address, source)
    try:
        await peer.send(request(path, body, {"Host": address, **headers}))
        return await peer.answer()
    finally:
        await peer.close()


def keys(tmp_path: Path) -> AuthConfig:
    file = tmp_path / "keys"
    file.write_text(f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    file.chmod(0o600)
    return AuthConfig(access_keys=str(file))


def signed(address: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    return dict(by_header(f"http://{address}{path}", body, headers).headers)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize(
    ("altered", "accepted"),
    [
        ({}, True),
        (
            {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Prefer": "wait=5"},
            True,
        ),
        ({"ce-type": "other"}, False),
        ({"ce-source": "/other"}, False),
        ({"ce-added": "x"}, False),
        ({"ce-eventbusname": "other"}, False),
        ({"Idempotency-Key": "k"}, False),
    ],
)
async def test_a_cloudevent_that_was_changed_on_the_way_is_refused(
    proxy: str, altered: Altered, accepted: bool, tmp_path: Path
) -> None:
    async with (
        serving(auth=keys(tmp_path), trusted_proxies=["127.0.0.1"]) as ingest,
        behind(proxy, ingest, tmp_path, altered) as address,
    ):
        body = b'{"n":1}'
        answer = await post(address, CLOUDEVENTS, body, signed(address, CLOUDEVENTS, body, CE))
        assert (answer.status == 202) == accepted, answer
        assert answer.status in (202, 401)
        assert ingest.count() == accepted


@pytest.mark.parametrize("proxy", PROXIES)
async def test_an_event_with_the_id_of_another_is_delivered_as_well(proxy: str, tmp_path: Path) -> None:
    async with (
        serving(trusted_proxies=["127.0.0.1"]) as ingest,
        behind(proxy, ingest, tmp_path) as address,
    ):
        for source, bus in ((A, "one"), (A, "two"), (B, "one"), (A, "one")):  # the last is a repeat
            answer = await post(address, CLOUDEVENTS, b"{}", {**CE, "ce-eventbusname": bus}, source)
            assert answer.status == 202
        assert ingest.count() == 3


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_key_that_another_client_claimed_costs_nobody_an_event(proxy: str, tmp_path: Path) -> None:
    async with (
        serving(trusted_proxies=["127.0.0.1"]) as ingest,
        behind(proxy, ingest, tmp_path) as address,
    ):
        key = {"Idempotency-Key": "k"}
        for source, number in ((A, 1), (B, 2), (A, 1), (B, 2)):
            answer = await post(address, NATIVE, {**EVENT, "Detail": {"n": number}}, key, source)
            assert answer.status == 202
        assert ingest.count() == 2


@pytest.mark.parametrize("proxy", PROXIES)
async def test_a_retry_is_known_after_another_client_flooded_keys(
    proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IdempotencyCache", partial(IdempotencyCache, max_answers=200))
    async with (
        serving(trusted_proxies=["127.0.0.1"]) as ingest,
        behind(proxy, ingest, tmp_path) as address,
    ):
        assert (await post(address, NATIVE, EVENT, {"Idempotency-Key": "mine"})).status == 202
        flood = await Peer.connect(address, B)
        for start in range(0, 500, 100):  # more than are remembered in all
            for number in range(start, start + 100):
                await flood.send(request(NATIVE, EVENT, {"Host": address, "Idempotency-Key": f"k{number}"}))
            for _ in range(100):
                assert (await flood.answer()).status == 202
        await flood.close()
        held = ingest.count()
        assert (await post(address, NATIVE, EVENT, {"Idempotency-Key": "mine"})).status == 202
        assert ingest.count() == held


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize(
    ("path", "body", "headers", "content_type"),
    [
        ("/", {"Entries": [ENTRY]}, {"X-Amz-Target": PUT_EVENTS["X-Amz-Target"]}, PUT_EVENTS["Content-Type"]),
        (NATIVE, EVENT, {}, "application/json"),
        (NATIVE, EVENT, {}, "text/plain;charset=UTF-8"),
        (NATIVE, EVENT, {}, "application/x-ndjson"),
        (
            CLOUDEVENTS,
            {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"},
            {},
            "application/cloudevents+json",
        ),
        (CLOUDEVENTS, {"n": 1}, {n: v for n, v in CE.items() if n != "Content-Type"}, "application/json"),
    ],
    ids=["put_events", "native", "native as text", "lines", "structured", "binary"],
)
async def test_a_content_type_that_is_not_signed_costs_no_event(
    proxy: str, path: str, body: object, headers: Mapping[str, str], content_type: str, tmp_path: Path
) -> None:
    """As JavaScript v2, aws4fetch, PHP and curl sign."""
    async with (
        serving(auth=keys(tmp_path), trusted_proxies=["127.0.0.1"]) as ingest,
        behind(proxy, ingest, tmp_path) as address,
    ):
        data = json.dumps(body).encode()
        proof = signed(address, path, data, headers)
        assert "content-type" not in proof["Authorization"].lower()
        answer = await post(address, path, data, {**proof, "Content-Type": content_type})
        assert answer.status in (200, 202), answer
        assert ingest.count() == 1
