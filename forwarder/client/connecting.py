"""What all that talks to a daemon shares: a session, the one error, exit codes, and lines on stderr."""

from __future__ import annotations

import os
import socket
import sys
from typing import TextIO

import aiohttp
from aiohttp.abc import ResolveResult

from forwarder.sockets import LOCALHOST, LOOPBACK

TIMEOUT = aiohttp.ClientTimeout(total=60.0, connect=5.0)

EXIT_OK, EXIT_REFUSED, EXIT_UNAVAILABLE = 0, 1, 69


class Unreachable(Exception):
    """The daemon gave no answer that could be understood."""


class _Resolver(aiohttp.ThreadedResolver):
    """Finds ``localhost`` without asking: a daemon may listen on one address family of it, or on both."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != LOCALHOST:
            return await super().resolve(host, port, family)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=own, proto=0, flags=0)
            for address, own in LOOPBACK
        ]


def session_for(url: str) -> tuple[aiohttp.ClientSession, str]:
    """A session and the base URL, for ``http://host:port``, ``host:port``, ``:port`` or ``unix:/path``."""
    if url.startswith("unix:"):
        unix = aiohttp.UnixConnector(path=url.removeprefix("unix:"))
        return aiohttp.ClientSession(connector=unix, timeout=TIMEOUT), "http://localhost"
    url = f"{LOCALHOST}{url.removeprefix('*')}" if url.startswith((":", "*:")) else url
    base = url if "://" in url else f"http://{url}"
    connector = aiohttp.TCPConnector(resolver=_Resolver())
    return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT), base.rstrip("/")


def can_rewrite(stream: TextIO) -> bool:
    """Whether a line of the stream can be written again in place: a terminal that is not ``dumb``."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """A line on stderr, in place of the progress on a terminal."""
    start = "\r\x1b[K" if can_rewrite(sys.stderr) else ""
    sys.stderr.write(f"{start}{text}\n")
