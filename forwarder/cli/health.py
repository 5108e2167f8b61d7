"""``forwarder health``: exit 0 while a running daemon is well, for probes that can only run a command.

Invariants:
- It needs the standard library alone, and with ``-c`` what reads the file: it runs every few seconds.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from forwarder.cli.common import EXIT_NOT_FOUND, EXIT_OK, Arguments

if TYPE_CHECKING:
    import socket

SECONDS = 4.0
"""For each step of the question."""

HERE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}
"""How to reach a listener on all addresses."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], admin: str) -> None:
    parser = commands.add_parser("health", help="exit 0 while a running daemon is alive, else 1; for probes")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the daemon's configuration")
    where.add_argument("--url", default=admin, help=f"the admin listener (default {admin})")
    parser.add_argument("--ready", action="store_true", help="ready for events, and not only alive")
    parser.set_defaults(command=_health)


def _health(arguments: Arguments) -> int:
    try:
        url = arguments.url if arguments.config is None else _configured(arguments.config)
        problem = ask(url, "/health/ready" if arguments.ready else "/health/live")
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"not well: {problem}", file=sys.stderr)
    return EXIT_NOT_FOUND if problem else EXIT_OK


def _configured(path: str) -> str:
    """Raises ValueError."""
    from forwarder.config import ConfigError, admin_listen

    try:
        return admin_listen(path)
    except ConfigError as error:
        raise ValueError(f"{path}: {error}") from None


def ask(url: str, path: str) -> str:
    """What is wrong, "" when the answer is 200. ``url``: ``http://host:port``, ``host:port``, ``unix:/path``.

    Raises ValueError for what is no address.
    """
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    listener: str | None = None
    place = urlsplit(url if "://" in url else f"http://{url}")
    if url.startswith("unix:"):
        listener = url.removeprefix("unix:")
        connection = HTTPConnection("localhost", timeout=SECONDS)
    else:
        host = place.hostname or ""
        connection = HTTPConnection(HERE.get(host, host), place.port, timeout=SECONDS)
    try:
        if listener is not None:
            connection.sock = _connect(listener)
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"no answer from {url}: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status == 200 else f"{url} answered {path} with {status}"


def _connect(path: str) -> socket.socket:
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(SECONDS)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
