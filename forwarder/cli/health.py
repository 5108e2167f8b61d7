"""``forwarder health``: exit 0 while a running daemon is well, for probes that can only run a command.

Invariants:
- It needs the standard library alone, and with ``-c`` what reads the file: it runs every few seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from forwarder.cli.common import EXIT_NOT_FOUND, EXIT_OK, Arguments
from forwarder.sockets import reachable

if TYPE_CHECKING:
    import socket

SECONDS = 4.0
"""For each step of the question."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser], admin: str) -> None:
    parser = commands.add_parser("health", help="exit 0 while a running daemon is alive, else 1; for probes")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help="the daemon's configuration")
    where.add_argument("--url", default=admin, help=f"the admin listener (default {admin})")
    parser.add_argument("--ready", action="store_true", help="ready for events, and not only alive")
    parser.set_defaults(command=_health)


def _health(arguments: Arguments) -> int:
    try:
        urls = [arguments.url] if arguments.config is None else _configured(arguments.config)
        problem = ask(urls, "/health/ready" if arguments.ready else "/health/live")
    except ValueError as error:
        problem = str(error)
    if problem:
        print(f"not well: {problem}", file=sys.stderr)
    return EXIT_NOT_FOUND if problem else EXIT_OK


def _configured(path: str) -> list[str]:
    """Raises ValueError."""
    from forwarder.config import ConfigError, admin_listen

    try:
        return [str(each) for each in admin_listen(path)]
    except ConfigError as error:
        raise ValueError(f"{path}: {error}") from None


def ask(urls: Sequence[str], path: str) -> str:
    """What the first listener says that answers: "" for 200, else what is wrong.

    ``urls``: ``http://host:port``, ``host:port``, ``:port`` or ``unix:/path``. Raises ValueError for what is
    no address.
    """
    from http.client import HTTPException

    problems = []
    for place in (each for url in urls for each in _places(url)):
        try:
            status = _status(place, path)
        except (OSError, HTTPException) as error:
            problems.append(f"no answer from {place}: {error or type(error).__name__}")
        else:
            return "" if status == 200 else f"{place} answered {path} with {status}"
    return "; ".join(problems)


def _places(url: str) -> list[str]:
    """Where a listener is reached from this host: of both address families, the one that it has."""
    from urllib.parse import urlsplit

    if url.startswith("unix:"):
        return [url]
    place = urlsplit(url if "://" in url else f"http://{url}")
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname or ""
    return reachable(f"{host}:{place.port or 80}")


def _status(place: str, path: str) -> int:
    from http.client import HTTPConnection

    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    on_unix = place.startswith("unix:")
    connection = HTTPConnection(
        "localhost" if on_unix else host, None if on_unix else int(port), timeout=SECONDS
    )
    try:
        if on_unix:
            connection.sock = _connect(place.removeprefix("unix:"))
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


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
