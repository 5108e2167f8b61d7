"""Who receives in these tests: one daemon that asks nobody who sends, one that asks everybody, and proxies.

Invariants:
- A daemon has the settings of every day: no bound is wider than its default.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.browsers import CREDENTIALS
from tests.e2e.conftest import TARGETS
from tests.e2e.environments import debian_program
from tests.e2e.processes import PATIENCE, Daemon, Sandbox, a_daemon, free_port, until
from tests.welcome.judge import refused_by

KEY_ID, SECRET = "WELCOME1", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "welcome-3f0c1d52b8c94a1e9a7c"
ACCESS_KEYS = (
    f"[welcome]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    f"[pages]\naws_access_key_id = {CREDENTIALS['accessKeyId']}\n"
    f"aws_secret_access_key = {CREDENTIALS['secretAccessKey']}\n"
    f"aws_session_token = {CREDENTIALS['sessionToken']}\n"
)
TOKENS = f"welcome {hashlib.sha256(TOKEN.encode()).hexdigest()}\n"
SIGNED = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
BEARER = {"Authorization": f"Bearer {TOKEN}"}
CORS = "cors: {origins: ['*']}"

PATHS = ("direct", "nginx", "nginx unbuffered", "haproxy", "haproxy buffered")
TRACED = {
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "congo=t61rcWkgMzE",
    "X-Amzn-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
}
"""Headers that a proxy or a mesh adds to what a client signed."""


@dataclass
class Place:
    """A daemon and the ways to it: ``direct`` and through the proxies. ``known``: earlier refusals."""

    daemon: Daemon
    ways: Mapping[str, str]
    known: dict[str, float] = field(default_factory=dict)

    def refused(self) -> dict[str, float]:
        """What was refused since this was asked before."""
        now = refused_by(self.daemon)
        new = {name: count for name, count in now.items() if count > self.known.get(name, 0)}
        self.known = now
        return new


def secret_files(folder: Path) -> tuple[Path, Path]:
    """The files of tokens and of access keys."""
    tokens, keys = folder / "tokens", folder / "access-keys"
    tokens.write_text(TOKENS)
    keys.write_text(ACCESS_KEYS)
    for file in (tokens, keys):
        file.chmod(0o600)
    return tokens, keys


@contextlib.contextmanager
def open_daemon(folder: Path, sandbox: Sandbox) -> Iterator[Daemon]:
    """A daemon that asks nobody who sends."""
    with a_daemon(folder, TARGETS.format(url=sandbox.url), more=f", {CORS}") as daemon:
        yield daemon


@contextlib.contextmanager
def guarded_daemon(folder: Path, sandbox: Sandbox) -> Iterator[Daemon]:
    """A daemon that asks for a token or a signature."""
    tokens, keys = secret_files(folder)
    auth = f", {CORS}, auth: {{tokens: '{tokens}', access_keys: '{keys}'}}"
    with a_daemon(folder, TARGETS.format(url=sandbox.url), more=auth) as daemon:
        yield daemon


@contextlib.contextmanager
def in_front(folder: Path, daemons: Mapping[str, Daemon]) -> Iterator[dict[str, Place]]:
    """nginx and HAProxy in front of each daemon, as their manuals and everyday use configure them."""
    ports = {(name, path): free_port() for name in daemons for path in PATHS[1:]}
    backends = {name: daemon.url.removeprefix("http://") for name, daemon in daemons.items()}
    nginx, haproxy = folder / "nginx.conf", folder / "haproxy.cfg"
    nginx.write_text(_nginx(folder, backends, ports))
    haproxy.write_text(_haproxy(backends, ports))
    nginx_program = debian_program("nginx", "nginx-light")
    haproxy_program = debian_program("haproxy", "haproxy")
    commands: tuple[list[str | Path], ...] = (
        [nginx_program, "-e", folder / "nginx.log", "-c", nginx, "-g", "daemon off;"],
        [haproxy_program, "-db", "-f", haproxy],
    )
    with contextlib.ExitStack() as running:
        for command in commands:
            running.enter_context(_process(command, folder / f"{Path(command[0]).name}.out"))
        until(lambda: all(map(_is_open, ports.values())), "the proxies to listen")
        yield {
            name: Place(
                daemon,
                {
                    "direct": daemon.url,
                    # A name of /etc/hosts, which is the Host that is signed.
                    **{path: f"http://localhost:{ports[name, path]}" for path in PATHS[1:]},
                },
            )
            for name, daemon in daemons.items()
        }


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def _process(command: list[str | Path], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _nginx(folder: Path, backends: Mapping[str, str], ports: Mapping[tuple[str, str], int]) -> str:
    traced = "".join(f'proxy_set_header {name} "{value}"; ' for name, value in TRACED.items())
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    upstreams = "".join(
        f"upstream {name} {{ server {address}; keepalive 32; }}\n" for name, address in backends.items()
    )
    servers = "".join(
        f"""server {{
          listen 127.0.0.1:{port};
          client_max_body_size 16m;
          proxy_request_buffering {"off" if path == "nginx unbuffered" else "on"};
          proxy_buffering {"off" if path == "nginx unbuffered" else "on"};
          location / {{
            proxy_pass http://{name};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            {traced}
          }}
        }}
        """
        for (name, path), port in ports.items()
        if path.startswith("nginx")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    return (
        f"{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.log;\n"
        f"events {{ worker_connections 2048; }}\nhttp {{\naccess_log off;\n{temporary}"
        "gzip on; gzip_proxied any; gzip_types application/json application/x-amz-json-1.1;\n"
        f"{upstreams}{servers}}}\n"
    )


def _haproxy(backends: Mapping[str, str], ports: Mapping[tuple[str, str], int]) -> str:
    traced = "".join(f'  http-request set-header {name} "{value}"\n' for name, value in TRACED.items())
    parts = "".join(
        f"listen {name}-{port}\n  bind 127.0.0.1:{port}\n{traced}"
        f"{'  option http-buffer-request' if path == 'haproxy buffered' else ''}\n"
        f"  server daemon {backends[name]}\n"
        for (name, path), port in ports.items()
        if path.startswith("haproxy")
    )
    return (
        "global\n  maxconn 2000\ndefaults\n  mode http\n  option forwardfor\n  option http-keep-alive\n"
        "  http-reuse always\n  compression algo gzip\n"
        "  compression type application/json application/x-amz-json-1.1\n"
        f"  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n{parts}"
    )
