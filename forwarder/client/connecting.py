"""What all that talks to a daemon shares: a session, one bounded exchange, one error, and lines on stderr.

Invariants:
- A daemon that does not answer is noticed within 3 s, wherever it stops: at the connection, in the middle of
  an answer, or with an answer that comes byte by byte.
- An answer may take longer only while the daemon answers something else meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, TextIO

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from forwarder.client.trouble import ANSWER_SECONDS, sentence
from forwarder.sockets import LOCALHOST, LOOPBACK, url_of

TIMEOUT = aiohttp.ClientTimeout(total=None)
"""None of aiohttp's: ``exchange`` bounds all of it."""

LONGEST_SECONDS = 120.0
LOOK_SECONDS = 1.0
"""How long a slow answer may take before the daemon is asked whether it is alive; each time anew."""


class Unreachable(Exception):
    """The daemon gave no answer that could be understood. ``sent``: the request may have arrived."""

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class Reply(NamedTuple):
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


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
    connector = aiohttp.TCPConnector(resolver=_Resolver())
    return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT), url_of(url).rstrip("/")


def can_rewrite(stream: TextIO) -> bool:
    """Whether a line of the stream can be written again in place: a terminal that is not ``dumb``."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


async def exchange(
    session: aiohttp.ClientSession, method: str, url: str, place: str, *, slow: bool = False, **request: Any
) -> Reply:
    """One request and its complete answer. ``place``: what a person calls the daemon. ``slow``: the daemon
    may have reasons to take its time.

    Raises Unreachable.
    """
    work = asyncio.ensure_future(_exchange(session, method, url, request))
    try:
        async with asyncio.timeout(LONGEST_SECONDS if slow else ANSWER_SECONDS):
            if slow:
                await _while_alive(work, session, url)
            return await work
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        sent = not isinstance(error, aiohttp.ClientConnectorError)
        raise Unreachable(sentence(place, error), sent=sent) from error
    finally:
        work.cancel()


async def _exchange(
    session: aiohttp.ClientSession, method: str, url: str, request: Mapping[str, Any]
) -> Reply:
    async with session.request(method, url, **request) as response:
        return Reply(response.status, response.headers, await response.read())


async def _while_alive(work: asyncio.Future[Reply], session: aiohttp.ClientSession, url: str) -> None:
    """Wait for the answer as long as the daemon answers another question. Raises TimeoutError."""
    while True:
        done, _ = await asyncio.wait({work}, timeout=LOOK_SECONDS)
        if done:
            return
        async with asyncio.timeout(ANSWER_SECONDS - LOOK_SECONDS):
            async with session.get(URL(url).origin()) as response:
                await response.read()


def say(text: str) -> None:
    """A line on stderr, in place of the progress on a terminal."""
    start = "\r\x1b[K" if can_rewrite(sys.stderr) else ""
    sys.stderr.write(f"{start}{text}\n")
