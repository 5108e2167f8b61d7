"""Refuses connections beyond ``max_connections`` with 503, and closes them.

Invariants:
- At most ``MAX_TURNED_AWAY`` are answered at one time. Any more are closed without an answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import cast
from uuid import uuid4

from forwarder.ingest.dialects import unknown
from forwarder.ingest.errors import UNAVAILABLE, BadRequest
from forwarder.ingest.http.answers import SERVER, refusal_headers
from forwarder.ingest.http.peers import peer_of_address, sender_of
from forwarder.model import Chance

LINGER = 1.0
"""Seconds for a client to read the refusal before the connection is closed."""

MAX_TURNED_AWAY = 128
"""Refused connections that are answered at one time; any more are closed without an answer."""

TOO_MANY = BadRequest(
    503, UNAVAILABLE, "Too many connections (ingest.max_connections); try again in a moment.", close=True
)


def raw_answer(problem: BadRequest, chance: Chance = random.random) -> bytes:
    """A whole HTTP answer, for connections that have no request to answer."""
    body = unknown.DIALECT.error(problem)
    headers = refusal_headers(problem, chance)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = HTTPStatus(problem.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Server: {SERVER}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"x-amzn-ErrorType: {problem.code}\r\nx-amzn-RequestId: {uuid4()}\r\n{more}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def become(transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
    """Let another protocol have a connection that was just made."""
    transport.set_protocol(protocol)
    protocol.connection_made(transport)


class Newcomer(asyncio.Protocol):
    """A connection that came when all places were taken; ``choose`` its protocol by its peer."""

    def __init__(self, choose: Callable[[str], asyncio.Protocol]) -> None:
        self._choose = choose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)
        try:
            protocol = self._choose(peer_of_address(sender_of(transport)))
        except OSError:
            wire.abort()
            return
        become(wire, protocol)

    def data_received(self, data: bytes) -> None:
        """Never called: a protocol that reads takes its place first."""


class TurnedAway(asyncio.Protocol):
    """A connection beyond the bound: answered 503 when it sends something, then closed."""

    __slots__ = ("_answer", "_is_answered", "_most", "_others", "_timer", "_transport")

    def __init__(self, others: set[TurnedAway], chance: Chance, most: int = MAX_TURNED_AWAY) -> None:
        self._answer = raw_answer(TOO_MANY, chance)
        self._others = others
        self._most = most
        self._is_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._others.add(self)
        if len(self._others) > self._most:
            self._transport.abort()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._transport.write(self._answer)
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def cut(self) -> None:
        self._transport.abort()

    def connection_lost(self, problem: Exception | None) -> None:
        self._others.discard(self)
        self._timer.cancel()
