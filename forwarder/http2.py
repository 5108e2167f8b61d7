"""The answer to a client that speaks HTTP/2 without asking first ("prior knowledge").

It sees status 505 and a sentence in its own protocol. An answer in HTTP/1 would be a protocol error to it,
which explains nothing (RFC 9113, section 3.4).

Invariants:
- ``Http2Refusal`` is pure: bytes in, bytes out. Of frames it reads the head alone, and it keeps at most
  MOST bytes.
- The answer comes when the client has opened its first stream; before that, an answer would be an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST = 64 << 10
MESSAGE = b"HTTP/2 is not supported; use HTTP/1.1 (with curl: --http1.1).\n"

LINGER = 1.0
"""Seconds to go on reading after the answer, so that a reset does not take it back."""

_RECOGNISED = 16
_HEAD = 9
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_FIRST_KIND = len(PREFACE) + 3
_MOST_IN_FRAME = 16 << 10
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


def may_be_preface(data: bytes) -> bool:
    """Whether these first bytes of a connection are too few to tell."""
    return len(data) < _RECOGNISED and PREFACE.startswith(data)


def is_preface(data: bytes) -> bool:
    """Whether a connection that begins with this speaks HTTP/2: after the preface only settings may come."""
    return data.startswith(PREFACE[:_RECOGNISED]) and data[_FIRST_KIND : _FIRST_KIND + 1] in (
        b"",
        bytes([_SETTINGS]),
    )


class Http2Refusal:
    """``feed`` it what arrives, and write what it gives back; close the connection when it is ``done``."""

    def __init__(self) -> None:
        self.done = False
        self._arrived = bytearray()
        self._seen = 0
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        self._arrived += data
        if self.done or len(self._arrived) < len(PREFACE):
            return b""
        begin = b"" if self._begun else _frame(_SETTINGS, 0, 0, b"")
        if not self._begun:
            self._begun, self._seen = True, len(PREFACE)
        return begin + self._frames()

    def _frames(self) -> bytes:
        """The answer to all whole frames that were not seen yet."""
        answer, arrived = b"", self._arrived
        while not self.done and len(arrived) >= self._seen + _HEAD:
            head = arrived[self._seen : self._seen + _HEAD]
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
            size = int.from_bytes(head[:3])
            if size > _MOST_IN_FRAME:
                self.done = True
                return answer
            if kind == _HEADERS:
                self.done = True
                return answer + _refusal(stream)
            if len(arrived) < self._seen + _HEAD + size:
                break
            if kind == _SETTINGS and not flags & _ACK:
                answer += _frame(_SETTINGS, _ACK, 0, b"")
            self._seen += _HEAD + size
        self.done = self.done or len(arrived) > MOST
        return answer


def _refusal(stream: int) -> bytes:
    fields = (
        _field(8, b"505")  # :status, by its index in the static table (RFC 7541, appendix A)
        + _field(31, b"text/plain")  # content-type
        + _field(28, b"%d" % len(MESSAGE))  # content-length
    )
    return (
        _frame(_HEADERS, _END_HEADERS, stream, fields)
        + _frame(_DATA, _END_STREAM, stream, MESSAGE)
        + _frame(_GOAWAY, 0, 0, stream.to_bytes(4) + bytes(4))  # the last stream that was looked at; no error
    )


def _field(index: int, value: bytes) -> bytes:
    """A literal field, not to be remembered (RFC 7541, section 6.2.2); its name is the ``index``."""
    name = bytes([index]) if index < 15 else bytes([15, index - 15])
    return name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


class RefusesHttp2(asyncio.Protocol):
    """Looks at the first bytes of a connection, and leaves it to ``http1`` unless they are HTTP/2's.

    ``refused`` is called for each that was refused.
    """

    def __init__(self, http1: asyncio.Protocol, refused: Callable[[], None]) -> None:
        self._http1 = http1
        self._refused = refused
        self._refusal: Http2Refusal | None = None
        self._beginning = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self._http1.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._http1.connection_lost(exc)

    def eof_received(self) -> bool | None:
        return self._http1.eof_received()

    def data_received(self, data: bytes) -> None:
        if self._refusal is None:
            data = self._beginning + data
            self._beginning = data if may_be_preface(data) else b""
            if self._beginning:
                return
        if self._refusal is None and not is_preface(data):
            self._transport.set_protocol(self._http1)
            self._http1.data_received(data)
            return
        self._refusal = self._refusal or Http2Refusal()
        if self._refusal.done:
            return
        self._transport.write(self._refusal.feed(data))
        if self._refusal.done:
            self._refused()
            asyncio.get_running_loop().call_later(LINGER, self._transport.close)
