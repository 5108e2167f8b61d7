"""``forwarder health``: what a probe is told, and that it costs little to ask."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from forwarder.cli import main

LIBRARIES = ("aiohttp", "asyncio", "msgspec", "yaml", "botocore", "structlog")


class Admin(BaseHTTPRequestHandler):
    """Alive, and not ready."""

    def do_GET(self) -> None:
        self.send_response({"/health/live": 200, "/health/ready": 503}.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...

    def address_string(self) -> str:
        return "a unix socket has none"


@contextmanager
def serving(server: HTTPServer | UnixStreamServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Admin)
    with serving(server):
        yield server.server_port


def test_it_exits_0_while_the_daemon_lives_and_1_while_it_is_not_ready(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in (f"127.0.0.1:{port}", f"http://127.0.0.1:{port}", f":{port}", f"*:{port}"):
        assert main(["health", "--url", url]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["health", "--url", f"127.0.0.1:{port}", "--ready"]) == 1
    assert "answered /health/ready with 503" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_it_asks_where_the_configuration_says_and_needs_no_more_of_it(
    port: int, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", str(port))
    path = tmp_path / "forwarder.yaml"
    path.write_text(
        f"admin: {{listen: '{host}:${{PORT}}'}}\ntargets: {{orders: {{kind: of-another-version}}}}\n"
    )
    assert main(["health", "-c", str(path)]) == 0


def test_a_unix_socket_will_do_too(tmp_path: Path) -> None:
    with serving(UnixStreamServer(str(tmp_path / "admin.sock"), Admin)):
        assert main(["health", "--url", f"unix:{tmp_path}/admin.sock"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "127.0.0.1:1"],
        ["--url", "unix:/no/such/socket"],
        ["--url", "127.0.0.1:no-port"],
        ["-c", "/no/such/file.yaml"],
    ],
)
def test_nobody_there_is_not_well_and_said_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("not healthy: ")


def test_a_bad_admin_section_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "forwarder.yaml"
    path.write_text("admin: {listen: nowhere}\ntargets: {}\n")
    assert main(["health", "-c", str(path)]) == 1
    assert "admin.listen: must be host:port, [IPv6]:port" in capsys.readouterr().err


def test_it_needs_the_standard_library_alone(port: int) -> None:
    code = (
        "import sys; from forwarder.cli import main\n"
        f"code = main(['health', '--url', '127.0.0.1:{port}'])\n"
        f"print(code, sorted(set({LIBRARIES!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"
