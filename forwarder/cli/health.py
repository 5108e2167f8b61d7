"""``forwarder health``: exit 0 while a running daemon is well, for probes that can only run a command.

Invariants:
- It needs the standard library alone, and with ``-c`` what reads the file: it runs every few seconds.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING

from forwarder.cli import place
from forwarder.cli.common import EXIT_NOT_FOUND, EXIT_OK, Arguments, CommandError

if TYPE_CHECKING:
    import socket

SECONDS = 3.0
"""For the whole question, from the connection to the status."""

MAX_LINE_BYTES = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")

HERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""How to reach a listener on all addresses."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("health", help="exit 0 while a running daemon is alive, else 1; for probes")
    place.add(parser, "admin")
    parser.add_argument("--ready", action="store_true", help="ready for events, and not only alive")
    parser.set_defaults(command=_health)


def _health(arguments: Arguments) -> int:
    try:
        url = place.url(arguments, "admin")
        problem = ask(url, "/health/ready" if arguments.ready else "/health/live")
    except CommandError as error:
        problem = "; ".join(error.lines)
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"not well: {problem}", file=sys.stderr)
    return EXIT_NOT_FOUND if problem else EXIT_OK


def ask(url: str, path: str) -> str:
    """What is wrong, "" when the answer is 200. ``url``: ``http://host:port``, ``host:port``, ``unix:/path``.

    Raises ValueError for what is no address.
    """
    ends = time.monotonic() + SECONDS
    try:
        with _connect(url, ends) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            line = b""
            while b"\n" not in line and len(line) < MAX_LINE_BYTES:
                connection.settimeout(_left(ends))
                data = connection.recv(MAX_LINE_BYTES)
                if not data:
                    return f"no answer from {url}: the connection was closed"
                line += data
    except TimeoutError:
        return f"no answer from {url} within {SECONDS:g}s"
    except OSError as error:
        return f"no answer from {url}: {error.strerror or error}"
    status = _STATUS.match(line)
    if status is None:
        return f"no answer from {url} that is HTTP"
    return "" if status[1] == b"200" else f"{url} answered {path} with {int(status[1])}"


def _connect(url: str, ends: float) -> socket.socket:
    import socket
    from urllib.parse import urlsplit

    if not url.startswith("unix:"):
        place = urlsplit(url if "://" in url else f"http://{url}")
        host = place.hostname or ""
        return socket.create_connection((HERE.get(host, host), place.port or 80), timeout=_left(ends))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_left(ends))
    try:
        connection.connect(url.removeprefix("unix:"))
    except OSError:
        connection.close()
        raise
    return connection


def _left(ends: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none."""
    if (left := ends - time.monotonic()) <= 0:
        raise TimeoutError
    return left
