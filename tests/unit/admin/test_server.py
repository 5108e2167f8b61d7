"""The admin listener, asked over HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from forwarder.admin import server as server_module
from forwarder.admin.pacing import AnswerPace
from forwarder.admin.server import MAX_CONNECTIONS, AdminServer
from forwarder.config import Listens
from forwarder.metrics import Metrics


class Daemon:
    """What the listener asks of a daemon."""

    def __init__(self) -> None:
        self.is_ready = True
        self.broken = False

    def ready(self) -> bool:
        return self.is_ready

    def status(self) -> dict[str, Any]:
        if self.broken:
            raise RuntimeError("a bug")
        return {"only_in_memory": 3, "targets": {}}


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def base(daemon: Daemon) -> AsyncIterator[str]:
    metrics = Metrics()
    metrics.for_target("orders").add_accepted(2, 600)
    server = AdminServer(metrics, daemon.status, daemon.ready, lambda: {"admin": {"listen": "somewhere"}})
    await server.start(Listens.parse("127.0.0.1:0"))
    yield f"http://{server.address}"
    await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /?x=" + b"planted-secret" * 1000 + b" HTTP/1.1\r\n\r\n",
        b"GET /status HTTP/1.1\r\nBad Name: planted-secret\r\n\r\n",
        b"GET /status HTTP/1.1\r\nAuthorization: " + b"planted-secret" * 1000 + b"\r\n\r\n",
    ],
    ids=["long path", "bad header", "long header"],
)
async def test_what_is_no_request_is_answered_and_writes_no_line(
    base: str, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request_bytes)
    assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert caplog.records == []


async def test_metrics_are_a_prometheus_text(base: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{base}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    samples = {
        (sample.name, sample.labels.get("target")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["forwarder_events_accepted_total", "orders"] == 2


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=x", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        (
            "application/openmetrics-text;version=2.7",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
        (
            "application/openmetrics-text;version=x",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_metrics_have_the_format_that_the_scraper_asks_for(
    base: str, session: aiohttp.ClientSession, accept: str, content_type: str, encoding: str
) -> None:
    headers = {"Accept": accept, "Accept-Encoding": encoding}
    async with session.get(f"{base}/metrics", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == content_type
        assert response.headers.get("Content-Encoding", "identity") == encoding
        text = await response.text()
    is_openmetrics = content_type.startswith("application/openmetrics-text")
    parse = openmetrics_families if is_openmetrics else text_string_to_metric_families
    samples = {each.name: each.value for family in parse(text) for each in family.samples}
    assert samples["forwarder_events_accepted_total"] == 2


async def test_no_header_makes_metrics_be_rendered_again(session: aiohttp.ClientSession) -> None:
    metrics, made = Metrics(), 0

    class Counts:
        def collect(self) -> list[Metric]:
            nonlocal made
            made += 1
            return []

    metrics._registry.register(Counts())
    made = 0
    server = AdminServer(metrics, dict, lambda: True, max_age=1000.0)
    await server.start(Listens.parse("127.0.0.1:0"))
    for number in range(10):
        for kind in ("application/openmetrics-text", "text/plain"):
            headers = {"Accept": f"{kind};version=1.0.{number};escaping=e{number}", "Accept-Encoding": "gzip"}
            async with session.get(f"http://{server.address}/metrics", headers=headers) as response:
                assert response.status == 200
    await server.close()
    assert made == 2


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_a_load_balancer_may_check_health_by_other_methods(
    base: str, session: aiohttp.ClientSession, daemon: Daemon, method: str
) -> None:
    for ready, status in ((True, 200), (False, 503)):
        daemon.is_ready = ready
        async with session.request(method, f"{base}/health/ready") as response:
            assert response.status == status
        async with session.request(method, f"{base}/health/live") as response:
            assert response.status == 200


async def test_options_of_the_root_is_a_health_check_whatever_the_host(
    base: str, session: aiohttp.ClientSession, daemon: Daemon
) -> None:
    """HAProxy's check of a server, unless it is told a path."""
    for ready, status in ((True, 200), (False, 503)):
        daemon.is_ready = ready
        async with session.options(f"{base}/", headers={"Host": "forwarder.example"}) as response:
            assert response.status == status
    async with session.options(f"{base}/status") as response:
        assert response.status == 405


async def test_readiness_is_red_while_the_daemon_stops_and_liveness_is_not(
    base: str, session: aiohttp.ClientSession, daemon: Daemon
) -> None:
    async with session.get(f"{base}/health/ready") as response:
        assert (response.status, await response.json()) == (200, {"ready": True})
    daemon.is_ready = False
    async with session.get(f"{base}/health/ready") as response:
        assert (response.status, await response.json()) == (503, {"ready": False})
    async with session.get(f"{base}/health/live") as response:
        assert (response.status, await response.json()) == (200, {"live": True})


async def test_the_status_begins_with_what_a_kill_would_lose(
    base: str, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{base}/status") as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert (await response.text()).startswith('{"only_in_memory":3')


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/page", 404, "NotFound"),
        ("POST", "/", 405, "MethodNotAllowed"),
        ("GET", "/metrics/x", 404, "NotFound"),
        ("POST", "/metrics", 405, "MethodNotAllowed"),
        ("DELETE", "/status", 405, "MethodNotAllowed"),
    ],
)
async def test_errors_are_json(
    base: str, session: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with session.request(method, base + path) as response:
        body = await response.json()
        assert response.status == status
        assert body["error"]["code"] == code
        assert body["error"]["message"]
        assert ("Allow" in response.headers) == (status == 405)


async def test_a_bug_in_the_status_is_a_json_500_that_tells_nothing(
    base: str, session: aiohttp.ClientSession, daemon: Daemon
) -> None:
    daemon.broken = True
    async with session.get(f"{base}/status") as response:
        assert response.status == 500
        assert "a bug" not in await response.text()


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")]
)
async def test_the_page_may_run_its_own_script_and_ask_its_own_listener_only(
    base: str, session: aiohttp.ClientSession, path: str, kind: str
) -> None:
    async with session.get(base + path) as response:
        text = await response.text()
        assert (response.status, response.content_type) == (200, kind)
        policy = dict(
            part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";")
        )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|<script>|\son\w+=", text
    )


async def test_everything_the_page_loads_is_there(base: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{base}/") as response:
        page = await response.text()
    async with session.get(f"{base}/page.js") as response:
        script = await response.text()
    named = re.findall(r'(?:src|href)="([^":]+)"', page) + re.findall(r'from "\./([^"]+)"', script)
    assert {
        "page.js",
        "page.css",
        "order.js",
        "plots.js",
        "sentences.js",
        "status",
        "history",
        "config",
    } <= set(named)
    for name in named:
        async with session.get(f"{base}/{name}") as response:
            assert response.status == 200, name


async def test_the_configuration_in_force_is_told(base: str, session: aiohttp.ClientSession) -> None:
    async with session.get(f"{base}/config") as response:
        assert await response.json() == {"admin": {"listen": "somewhere"}}


async def test_the_history_has_the_targets_that_are_watched(
    base: str, session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{base}/history") as response:
        assert (await response.json())["seconds_ago"] == []


async def test_who_only_holds_connections_keeps_nobody_out(base: str, session: aiohttp.ClientSession) -> None:
    host, _, port = base.removeprefix("http://").rpartition(":")
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CONNECTIONS + 20)]
    for _ in range(3):
        async with session.get(f"{base}/health/live") as response:
            assert response.status == 200
    ended = [asyncio.ensure_future(reader.read()) for reader, _ in idle[:20]]
    await asyncio.wait_for(asyncio.gather(*ended), 10)
    assert not idle[-1][0].at_eof()
    for _, writer in idle:
        writer.close()
    await asyncio.gather(*[writer.wait_closed() for _, writer in idle], return_exceptions=True)


def test_connections_that_come_at_once_are_bounded_as_well(daemon: Daemon) -> None:
    async def burst() -> int:
        server = AdminServer(Metrics(), daemon.status, daemon.ready)
        await server.start(Listens.parse("127.0.0.1:0"))
        host, _, port = server.address.rpartition(":")
        clients = [socket.create_connection((host, int(port))) for _ in range(MAX_CONNECTIONS + 60)]
        await asyncio.sleep(0.3)
        assert server._runner is not None
        assert server._runner.server is not None
        there = len(server._runner.server.connections)
        await server.close()
        for client in clients:
            client.close()
        return there

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # it accepts many in one turn there
        assert runner.run(burst()) == MAX_CONNECTIONS


async def test_a_unix_socket_will_do_too(tmp_path: Path, daemon: Daemon) -> None:
    server = AdminServer(Metrics(), daemon.status, daemon.ready)
    await server.start(Listens.parse(f"unix:{tmp_path}/admin.sock"))
    connector = aiohttp.UnixConnector(path=f"{tmp_path}/admin.sock")
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://localhost/health/live") as response,
    ):
        assert response.status == 200
    assert server.address == f"unix:{tmp_path}/admin.sock"
    await server.close()


async def test_an_address_in_use_is_an_oserror(daemon: Daemon) -> None:
    first, second = (AdminServer(Metrics(), daemon.status, daemon.ready) for _ in range(2))
    await first.start(Listens.parse("127.0.0.1:0"))
    with pytest.raises(OSError, match="in use"):
        await second.start(Listens.parse(first.address))
    await second.close()
    await first.close()


async def test_a_rebound_name_reads_nothing_but_health(base: str, session: aiohttp.ClientSession) -> None:
    rebound = {"Host": "evil.test:2781"}
    for path in ("/", "/metrics", "/status", "/config", "/history", "/nowhere"):
        async with session.get(f"{base}{path}", headers=rebound) as response:
            assert response.status == 421, path
            assert "admin.hosts" in await response.text()
    for path in ("/health/live", "/health/ready"):
        async with session.get(f"{base}{path}", headers=rebound) as response:
            assert response.status == 200


async def test_configured_names_and_loopback_names_are_answered(
    daemon: Daemon, session: aiohttp.ClientSession
) -> None:
    server = AdminServer(Metrics(), daemon.status, daemon.ready, hosts=["forwarder"])
    await server.start(Listens.parse("127.0.0.1:0"))
    for host in ("forwarder:2781", "localhost:2781", "a.localhost", "127.0.0.1", "[::1]:1"):
        async with session.get(f"http://{server.address}/status", headers={"Host": host}) as response:
            assert response.status == 200
    await server.close()


async def test_what_takes_work_is_made_once_for_all_who_ask_within_a_second(
    session: aiohttp.ClientSession,
) -> None:
    made: list[int] = []

    def status() -> dict[str, int]:
        made.append(1)
        return {"made": len(made)}

    server = AdminServer(Metrics(), status, lambda: True)
    await server.start(Listens.parse("127.0.0.1:0"))
    for _ in range(20):
        async with session.get(f"http://{server.address}/status") as response:
            assert response.status == 200
    assert len(made) <= 2
    await server.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health/live\r\n\r\n", 505),
        (b"GET /metrics HTTP/0.9\r\n\r\n", 505),
        (b"GET /metrics HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        (
            b"GET /metrics HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
    ],
)
async def test_http_that_a_proxy_may_read_otherwise_is_refused_and_closed(
    base: str, head: bytes, status: int
) -> None:
    host, _, port = base.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head)
    answer = await reader.read()  # until it is closed
    writer.close()
    assert answer.startswith(b"HTTP/1.0 %d " % status)
    assert b'"code":"' in answer


async def test_who_asks_without_pause_waits_and_a_health_check_does_not(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(server_module, "page_pace", lambda: AnswerPace(rate=0.001, burst=5, longest=1.0))
    monkeypatch.setattr(server_module, "asyncio", SimpleNamespace(sleep=sleep, Protocol=asyncio.Protocol))
    server = AdminServer(Metrics(), dict, lambda: True)
    await server.start(Listens.parse("127.0.0.1:0"))
    for path in (*["/status"] * 8, "/health/live"):
        async with session.get(f"http://{server.address}{path}") as response:
            assert response.status == 200
    await server.close()
    assert waits == [pytest.approx(1.0, abs=0.01)] * 3
