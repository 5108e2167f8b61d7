"""What comes on a connection: bytes until they are a request.

aiohttp's low-level server answers malformed requests in plain text. It waits for a slow head as long as for
an idle connection, and bounds each header but not all of them together. Here each of these has a bound and an
answer in JSON.

Invariants:
- Requests that come while one is handled (pipelined) are in the budget, and reading pauses.
- A read that takes long to parse is parsed in pieces, each in a turn of its peer; reading pauses meanwhile.
- Nothing is parsed while aiohttp's buffers are full, so its parser never holds more than one piece unleased.
- A head that is not complete ``read_timeout`` after its first byte is answered with 408, one that is larger
  than ``max_header_bytes`` with 431; then the connection is closed.
- Where nothing says which dialect the peer speaks, the error has the members of all dialects. It is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Protocol, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

from forwarder.aiohttp_private import HttpConnection, forget_chunks, forget_exception, join_chunks
from forwarder.http2 import Http2Refusal, is_preface, may_be_preface
from forwarder.ingest.budget import Lease, taken_back
from forwarder.ingest.dialects import unknown
from forwarder.ingest.errors import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    MALFORMED,
    TIMEOUT,
    BadRequest,
)
from forwarder.ingest.http.answers import refuse
from forwarder.ingest.http.turned_away import LINGER, raw_answer
from forwarder.ingest.http.unparsed import PIECE, Unparsed

BODY_LINGER = 3.0
"""Seconds that the rest of a refused body is read and forgotten, so that its sender reads our answer."""

LARGE_READ = 16 * 1024
"""Bytes that come in one go from which on they are counted against what one turn of the loop may bring."""

MOST_CHUNKS = 32
"""Chunks of a body that are held one by one. More are joined: a chunk of one byte holds 50 to 100 bytes."""


def headers_too_large(limit: int) -> BadRequest:
    message = f"The request's headers are larger than {limit} bytes (ingest.max_header_bytes)."
    return BadRequest(431, HEADERS_TOO_LARGE, message, close=True)


TOO_SLOW = BadRequest(408, TIMEOUT, "The request's headers did not arrive in time (ingest.read_timeout).")


class Reader(Protocol):
    """What reading needs of the server, whose connections share its time and its memory."""

    def came(self, size: int, peer: str) -> None:
        """So many bytes came in one go."""

    def has_time(self, peer: str, size: int) -> bool:
        """Whether a piece of a read of ``size`` bytes may be parsed in this turn of the loop."""

    def parse_later(self, unparsed: Unparsed) -> None: ...

    def lease_ahead(self, peer: str, revoke: Callable[[], None]) -> Lease:
        """For what a peer sends ahead of its turn; ``revoke`` forgets it."""

    def malformed(self, status: int) -> None: ...


class Incoming(HttpConnection):
    """aiohttp's connection, with bounds on what comes and errors in JSON.

    Connections are made of it (``connections.py``), which know their peer, their place and their answers.
    """

    __slots__ = (
        "_ahead",
        "_beginning",
        "_cut",
        "_held_back",
        "_http2",
        "_payload",
        "_reader",
        "_unparsed",
        "ended",
        "entered",
        "handling",
        "head_bytes",
        "head_since",
        "head_too_large",
        "is_lost",
        "max_head",
        "peer",
        "spoke",
        "wire",
    )

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        max_head: int,
        keep_alive: float,
        reader: Reader,
    ) -> None:
        super().__init__(server, loop, max_head=max_head, keep_alive=keep_alive, linger=BODY_LINGER)
        self.max_head = max_head
        self.peer = ""
        self._reader = reader
        self.head_bytes = 0  # of a head that is not complete
        self.head_since = 0.0  # when the last head began
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._cut = False
        self.handling = False  # from the head of a request to the end of its handler
        self.ended = False  # the peer said its last, and may still listen
        self.entered = False  # the request that is being handled had its turn (see ``Turns``)
        self.head_too_large = False
        self.is_lost = False
        self.spoke = False  # the peer said anything
        self._beginning = b""
        self._http2: Http2Refusal | None = None
        self._held_back = False
        self._ahead: Lease | None = None
        self._unparsed: Unparsed | None = None
        self.wire: asyncio.Transport | None = None  # once it has a place, and for ever

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._end_ahead()
        if self._unparsed is not None:
            self._unparsed.forget()

    def data_received(self, data: bytes) -> None:
        if len(data) > LARGE_READ:
            self._reader.came(len(data), self.peer)
        if self._cut or self.is_closing:
            return  # read and forgotten, so that our last word is not lost to a reset
        if not self.spoke:
            data, self._beginning = self._beginning + data, b""
            if may_be_preface(data):
                self._wait_for_more(data)
                return
        if self._http2 is not None or (not self.spoke and is_preface(data)):
            self._refuse_http2(data)
            return
        self.spoke = True
        if self._unparsed is not None:
            if data:
                self._parse_later(data)  # it was read before reading paused
        elif not data:
            self._parse(data)  # aiohttp resumes its parser
        else:
            self._parse_in_pieces(data)

    def _parse(self, data: bytes) -> None:
        if self.handling or self.queued or not self._payload.is_eof():
            self._feed(data)
            begun = self.handling or self.in_progress
            if self.queued and (begun or len(self.queued) > 1):
                self._came_ahead(len(data))
            return
        if not self.head_bytes:
            self.head_since = self.loop.time()
        self.head_bytes += len(data)
        self._feed(data)
        if len(self.queued) > 1:
            self._came_ahead(len(data))
        if self.head_bytes > self.max_head:
            self.loop.call_soon(self._check_head)  # after the request was begun, if this completed one

    def _wait_for_more(self, data: bytes) -> None:
        """So few bytes begin HTTP/1 or HTTP/2; their sender has the time of a head from the first one on.

        They are counted again with the rest of the head.
        """
        if not self.head_bytes:
            self.head_since = self.loop.time()
        self._beginning, self.head_bytes = data, len(data)

    def _refuse_http2(self, data: bytes) -> None:
        """Answer in HTTP/2 that it is not supported; a peer that stops midway is cut off like a slow head."""
        if self._http2 is None:
            self._http2, self.spoke = Http2Refusal(), True
            if not self.head_bytes:
                self.head_since = self.loop.time()
            self.head_bytes += len(data)
        answer = self._http2.feed(data)
        if self.transport is not None:
            self.transport.write(answer)
        if self._http2.done:
            self._cut, self.head_bytes = True, 0
            self._reader.malformed(505)
            self.loop.call_later(LINGER, self.force_close)

    # --- what takes long to parse

    def _feed(self, data: bytes) -> None:
        """Parse this, then join what came in many small chunks."""
        payload, known = self.queued[-1][1] if self.queued else self._payload, len(self.queued)
        super().data_received(data)
        join_chunks(payload, MOST_CHUNKS)
        for _, payload in islice(self.queued, known, None):
            join_chunks(payload, MOST_CHUNKS)

    def _parse_in_pieces(self, data: bytes) -> None:
        """Parse all of it now, unless this turn of the loop has parsed for long."""
        for start in range(0, len(data), PIECE):
            if self.is_full or not self._reader.has_time(self.peer, len(data)):
                self._parse_later(data[start:])
                return
            self._parse(data[start : start + PIECE])  # no copy where this is all of it
            if self._cut or self.is_closing:
                return

    def _parse_later(self, data: bytes) -> None:
        if self._unparsed is None:
            lease = self._reader.lease_ahead(self.peer, self._drop_unparsed)
            self._unparsed = Unparsed(lease, self._parse_next)
            self.pause_socket()
        try:
            self._unparsed.keep(data)
        except BadRequest as problem:
            self._drop_unparsed(problem)
            return
        if not self.is_full:
            self._reader.parse_later(self._unparsed)

    def _parse_next(self) -> bool:
        """Parse a piece; whether more may be parsed."""
        unparsed = self._unparsed
        assert unparsed is not None
        try:
            if not self._cut and not self.is_closing:
                self._parse(unparsed.next_piece())
        except BaseException:
            if self.wire is not None:
                self.wire.abort()
            raise
        if self._unparsed is unparsed and (self._cut or self.is_closing or not unparsed):
            self._end_unparsed()
        return self._unparsed is unparsed and not self.is_full

    def _end_unparsed(self) -> None:
        """All of it is parsed, or nothing more will be."""
        if self._unparsed is not None:
            self._unparsed.forget()
            self._unparsed = None
        if not (self.is_full or self._held_back):
            self.resume_socket()
        if self.ended and not self.is_lost:
            self.loop.call_soon(self._check_end)  # after the request was begun, if this completed one

    def _drop_unparsed(self, problem: BadRequest | None = None) -> None:
        """There is no memory for it: refuse the request that it belongs to, and read no more."""
        payload = self.queued[-1][1] if self.queued else self._payload
        if not payload.is_eof():
            if self.queued or self.handling:  # else it is answered, and its rest is only read away
                problem = problem or taken_back()
                problem.close = True  # what follows is not read
                payload.set_exception(problem)
            self._cut = True
        elif self.queued or self.handling or self.in_progress:
            self._drop_ahead()
        else:  # not even the head is parsed
            self.turn_away(problem or taken_back())
        self._end_unparsed()

    def may_resume(self) -> bool:
        """What was read before is parsed first."""
        if self._unparsed is None:
            return True
        if not self.is_full:
            self._reader.parse_later(self._unparsed)
        return False

    # --- what comes ahead of its turn

    def _came_ahead(self, size: int) -> None:
        """Lease what was pipelined, and read no more until its turn comes."""
        if self._ahead is None:
            self._ahead = self._reader.lease_ahead(self.peer, self._drop_ahead)
        try:
            self._ahead.take(size)
        except BadRequest:
            self._drop_ahead()
            self._end_ahead()
            return
        if not self.queue_is_full:
            self.pause_for_queued()

    def _drop_ahead(self) -> None:
        """Forget what was pipelined, and close after the answer to the request whose turn it is."""
        first = 0 if self.handling or self.in_progress else 1
        while len(self.queued) > first:
            _, payload = self.queued.pop()
            forget_chunks(payload)
            self._reader.malformed(429)
        self.head_bytes = 0
        self.ended = True
        self.close()

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.end()
            self._ahead = None

    def hold_back(self) -> None:
        """Read nothing for some turns of the loop: too much came in one."""
        if not self.is_full:
            self._held_back = True
            self.pause_socket()

    def go_on(self) -> None:
        if self._held_back:
            self._held_back = False
            if not self.is_full:
                self.resume_socket()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Asked for after every body: nearly always there was no pause, and nothing to parse again."""
        if self.body_is_full:
            super().resume_reading(resume_parser)

    # --- a request, or what is none

    def begin(self, message: RawRequestMessage, payload: StreamReader) -> None:
        """A head is complete; it was small if all that came for it was, and came for it alone."""
        self.handling = True
        self.entered = False
        self._payload = payload
        if self._ahead is not None and not self.queued:
            self._end_ahead()  # from here on it is the request's
            if self.queue_is_full:
                self.resume_for_queued()
        if not 0 < self.head_bytes <= self.max_head:
            size = sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
            self.head_too_large = size > self.max_head
        self.head_bytes = 0

    def forget_body(self) -> None:
        """The request is answered: hold nothing more of its body."""
        if isinstance(self._payload.exception(), BadRequest):
            # The request was refused for it. Else aiohttp, which reads and forgets the rest of the body
            # so that the peer gets the answer, would meet it and reset the connection.
            forget_exception(self._payload)
        if self._payload.is_eof():
            forget_chunks(self._payload)  # of a body that was refused unread

    @property
    def busy(self) -> bool:
        """Between the first byte of a request and the end of its handler."""
        return self.handling or self.head_bytes > 0

    @property
    def is_at_rest(self) -> bool:
        """It waits for a request, and has nothing of one."""
        return not self.busy and not self.queued and self._unparsed is None and self.is_idle

    @property
    def is_coming(self) -> bool:
        """A head or a body began, and is not complete."""
        return self.head_bytes > 0 or not self._payload.is_eof()

    def eof_received(self) -> bool:  # type: ignore[override] # aiohttp narrowed what asyncio allows
        """The peer closed its side: what it sent whole is still answered (aiohttp would hang up on it).

        Not over TLS, where asyncio knows no half of a connection.
        """
        self.ended = True
        self.loop.call_soon(self._check_end)  # after the request was begun, if there is one
        return self.transport is None or self.transport.get_extra_info("sslcontext") is None

    def cut_when_slow(self, before: float) -> None:
        """Turn away a peer whose head began before that moment and is still not complete."""
        if not self.head_bytes or self.head_since >= before:
            return
        if not self.handling and not self.queued and not self._cut:
            self.turn_away(TOO_SLOW)

    def turn_away(self, problem: BadRequest) -> None:
        """Say this, then close, giving the peer a moment to read it."""
        self._cut = True
        self.head_bytes = 0
        self._reader.malformed(problem.status)
        if self.transport is not None:
            self.transport.write(raw_answer(problem))
            self.loop.call_later(LINGER, self.force_close)

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
        self._reader.malformed(problem.status)
        return refuse(unknown.DIALECT, problem)

    def _check_end(self) -> None:
        if self._unparsed is not None:
            return  # asked again when that is parsed
        if not self.handling or not self._payload.is_eof():
            self.force_close()

    def _check_head(self) -> None:
        if self.head_bytes > self.max_head and not self._cut:
            self.turn_away(headers_too_large(self.max_head))
