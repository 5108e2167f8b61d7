"""Connections: what happens before there is a request, and to those that never become one.

aiohttp's low-level server answers what it cannot parse in plain text, waits for a slow head as long as for
an idle connection, and bounds one header but not all of them; here each of these gets a bound and an
answer in JSON.

Invariants:
- At most ``max_connections`` are served; one more is told 503 and closed.
- A head that is not complete ``read_timeout`` after its first byte is told 408 and closed; one that is
  larger than ``max_header_bytes`` is told 431 and closed.
- Whoever cannot be told in a dialect, since nothing says which, is told in the shapes of all, and counted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import cast
from uuid import uuid4

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from forwarder.ingest.answers import SERVER, refuse
from forwarder.ingest.dialects import unknown
from forwarder.ingest.dialects.errors import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    MALFORMED,
    NO_HEADERS,
    TIMEOUT,
    UNAVAILABLE,
    BadRequest,
)
from forwarder.ingest.refusals import Manners

LINGER = 1.0
"""Seconds for a peer to read why it is turned away, before the connection is cut."""

BODY_LINGER = 3.0
"""Seconds that the rest of a refused body is read and forgotten, so that its sender reads our answer."""

MAX_TURNED_AWAY = 128
"""Connections beyond the bound that are told so at one time; any more are cut without a word."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


def raw_answer(problem: BadRequest, headers: Mapping[str, str] = NO_HEADERS) -> bytes:
    """A whole HTTP answer, for connections that have no request to answer."""
    body = unknown.DIALECT.error(problem)
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    status = HTTPStatus(problem.status)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Server: {SERVER}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"x-amzn-ErrorType: {problem.code}\r\nx-amzn-RequestId: {uuid4()}\r\n{more}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def headers_too_large(limit: int) -> BadRequest:
    message = f"The request's headers are larger than {limit} bytes."
    return BadRequest(431, HEADERS_TOO_LARGE, message, close=True)


def sender_of(transport: asyncio.BaseTransport) -> str:
    """The peer's address without its port; on a unix socket its user, where the system tells."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return str(peer[0])
    ask = getattr(socket, "SO_PEERCRED", None)
    if ask is None:
        return "unix"
    credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, ask, _CREDENTIALS.size)
    return f"unix user {_CREDENTIALS.unpack(credentials)[1]}"


TOO_SLOW = BadRequest(408, TIMEOUT, "The request's headers did not arrive in time.")


class Connection(web.RequestHandler):
    """aiohttp's connection, with bounds on the head of a request and errors in JSON."""

    __slots__ = (
        "_cut",
        "_head_bytes",
        "_head_since",
        "_on_lost",
        "_on_refused",
        "_payload",
        "_wait_end",
        "ended",
        "handling",
        "head_too_large",
        "is_lost",
        "manners",
        "max_head",
        "sender",
    )

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head: int,
        keep_alive: float,
        on_lost: Callable[[], None],
        on_refused: Callable[[int], None],
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            max_line_size=max_head,
            max_field_size=max_head,
            keepalive_timeout=keep_alive,
            auto_decompress=False,
            lingering_time=BODY_LINGER,
            access_log=None,  # type: ignore[arg-type]
        )
        self.max_head = max_head
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._head_bytes = 0
        self._head_since = 0.0
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._cut = False
        self.handling = False  # from the head of a request to the end of its handler
        self.ended = False  # the peer said its last, and may still listen
        self.head_too_large = False
        self.is_lost = False
        self.sender = ""
        self.manners = Manners()
        self._wait_end: Callable[[], None] | None = None

    @contextmanager
    def waits(self, end: Callable[[], None]) -> Iterator[None]:
        """Within this block a request waits for something; ``end`` is called when nobody is left to tell."""
        self._wait_end = end
        if self.is_lost:
            end()
        try:
            yield
        finally:
            self._wait_end = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sender = sender_of(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True
        if self._wait_end is not None:
            self._wait_end()
        self._on_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._cut or self._close:
            return  # read and forgotten, so that our last word is not lost to a reset
        if self.handling or not self._payload.is_eof():
            super().data_received(data)
            return
        if not self._head_bytes:
            self._head_since = self._loop.time()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self.max_head:
            self._loop.call_soon(self._check_head)  # after the request was begun, if this completed one

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Asked for after every body: nearly always there was no pause, and nothing to parse again."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp narrowed what asyncio allows
        """The peer closed its side: what it sent whole is still answered (aiohttp would hang up on it).

        Not over TLS, where asyncio knows no half of a connection.
        """
        self.ended = True
        self._loop.call_soon(self._check_end)  # after the request was begun, if there is one
        return self.transport is None or self.transport.get_extra_info("sslcontext") is None

    def begin(self, message: RawRequestMessage, payload: StreamReader) -> None:
        """A head is complete; it was small if all that came for it was, and came for it alone."""
        self.handling = True
        self._payload = payload
        if not 0 < self._head_bytes <= self.max_head:
            size = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
            self.head_too_large = size > self.max_head
        self._head_bytes = 0

    @property
    def busy(self) -> bool:
        """Between the first byte of a request and the end of its handler."""
        return self.handling or self._head_bytes > 0

    def hang_up(self) -> None:
        """Close now, or after the request that is being handled.

        aiohttp's ``close`` leaves an idle one open and deaf: who sends on it waits until the process ends.
        """
        if self._waiter is not None and not self._waiter.done():
            self.force_close()
        else:
            self.close()

    def cut_when_slow(self, before: float) -> None:
        """Turn away a peer whose head began before that moment and is still not complete."""
        if self._head_bytes and self._head_since < before and not self.handling and not self._cut:
            self.turn_away(TOO_SLOW)

    def turn_away(self, problem: BadRequest) -> None:
        """Say this, then close, giving the peer a moment to read it."""
        self._cut = True
        self._head_bytes = 0
        self._on_refused(problem.status)
        if self.transport is not None:
            self.transport.write(raw_answer(problem))
            self._loop.call_later(LINGER, self.force_close)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp says by itself: nearly always that the peer does not speak HTTP."""
        self.handling = False
        self._cut = True  # of a head that is too large there may be more to come
        if isinstance(exc, LineTooLong):
            problem = headers_too_large(self.max_head)
        elif status < 500:
            line = (message or "").partition("\n")[0].rstrip(": ")
            problem = BadRequest(status, MALFORMED, f"This is not a valid HTTP request: {line}.")
        else:
            problem = BadRequest(status, INTERNAL, "The request could not be handled.")
        problem.close = True
        self._on_refused(problem.status)
        return refuse(unknown.DIALECT, problem)

    def _check_end(self) -> None:
        if not self.handling or not self._payload.is_eof():
            self.force_close()

    def _check_head(self) -> None:
        if self._head_bytes > self.max_head and not self._cut:
            self.turn_away(headers_too_large(self.max_head))


class TurnedAway(asyncio.Protocol):
    """A connection beyond the bound: told so when it speaks, then closed."""

    __slots__ = ("_answer", "_others", "_timer", "_told", "_transport")

    def __init__(self, others: set[TurnedAway], retry: Mapping[str, str]) -> None:
        problem = BadRequest(503, UNAVAILABLE, "Too many connections; try again in a moment.")
        self._answer = raw_answer(problem, retry)
        self._others = others
        self._told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._others.add(self)
        if len(self._others) > MAX_TURNED_AWAY:
            self._transport.abort()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._told:
            self._told = True
            self._transport.write(self._answer)
            if self._transport.can_write_eof():
                self._transport.write_eof()

    def cut(self) -> None:
        self._transport.abort()

    def connection_lost(self, problem: Exception | None) -> None:
        self._others.discard(self)
        self._timer.cancel()
