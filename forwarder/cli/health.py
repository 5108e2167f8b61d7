"""``forwarder health``: exit 0 while a running daemon is well, for probes that can only run a command.

Invariants:
- It needs the standard library alone, and with ``-c`` what reads the file: it runs every few seconds.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forwarder.cli import place
from forwarder.cli.common import Arguments, CommandError
from forwarder.exit_codes import EXIT_INCOMPLETE, EXIT_OK
from forwarder.sockets import reachable
from forwarder.urls import LIVE, READY

if TYPE_CHECKING:
    import socket

SECONDS = 3.0
"""For the whole question, from the first connection to the status."""

MAX_LINE_BYTES = 4096
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("health", help="exit 0 while a running daemon is alive, else 1; for probes")
    place.add(parser, "admin")
    parser.add_argument("--ready", action="store_true", help="ready for events, and not only alive")
    parser.set_defaults(command=_health)


def _health(arguments: Arguments) -> int:
    try:
        urls = place.urls(arguments, "admin")
        problem = ask(urls, READY if arguments.ready else LIVE)
    except CommandError as error:
        problem = "; ".join(error.lines)
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"not well: {problem}", file=sys.stderr)
    return EXIT_INCOMPLETE if problem else EXIT_OK


def ask(urls: Sequence[str], path: str) -> str:
    """What is wrong, as the first listener says that answers; "" for 200. Raises ValueError.

    ``urls``: ``http://host:port`` or ``unix:/path``.
    """
    ends, problems = time.monotonic() + SECONDS, []
    for each in (here for url in urls for here in _places(url)):
        status, problem = _answer(each, path, ends)
        if status is not None:
            return "" if status == 200 else f"{each} answered {path} with {status}"
        problems.append(f"no answer from {each}{problem}")
    return "; ".join(problems)


def _places(url: str) -> list[str]:
    """Where a listener is reached from this host: of both address families, the one that it has."""
    from urllib.parse import urlsplit

    if url.startswith("unix:"):
        return [url]
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return reachable(f"{host}:{parts.port or 80}")


def _answer(place: str, path: str, ends: float) -> tuple[int | None, str]:
    """The status of the answer, else what is wrong."""
    try:
        with _connect(place, ends) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            line = b""
            while b"\n" not in line and len(line) < MAX_LINE_BYTES:
                connection.settimeout(_left(ends))
                data = connection.recv(MAX_LINE_BYTES)
                if not data:
                    return None, ": the connection was closed"
                line += data
    except TimeoutError:
        return None, f" within {SECONDS:g}s"
    except OSError as error:
        return None, f": {error.strerror or error}"
    status = _STATUS.match(line)
    return (None, " that is HTTP") if status is None else (int(status[1]), "")


def _connect(place: str, ends: float) -> socket.socket:
    import socket

    if not place.startswith("unix:"):
        host, _, port = place.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=_left(ends))
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_left(ends))
    try:
        connection.connect(place.removeprefix("unix:"))
    except OSError:
        connection.close()
        raise
    return connection


def _left(ends: float) -> float:
    """Seconds until then. Raises TimeoutError when there are none."""
    if (left := ends - time.monotonic()) <= 0:
        raise TimeoutError
    return left
