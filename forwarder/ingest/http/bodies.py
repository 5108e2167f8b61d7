"""Request bodies: read, and unpacked, within bounds.

Invariants:
- What has come is reserved, and nothing that is only promised: ``Content-Length`` is a check, no reservation.
- While a body is arriving its memory can be taken back for a peer that holds less; its sender gets 429.
- A body has ``deadline`` seconds, and may not fall below ``MIN_RATE`` meanwhile.
- ``max_body`` bounds the body before and after it is unpacked; a bomb costs at most one step beyond it.
- What ends early, comes too slowly or does not unpack is a BadRequest, never an empty or a short body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aiohttp import HttpVersion10, web
from multidict import MultiMapping

from forwarder.ingest.budget import Lease, taken_back
from forwarder.ingest.errors import MALFORMED, MEDIA_TYPE, TIMEOUT, BadRequest, too_large
from forwarder.ingest.http.unpacking import DEFLATE, GZIP, GZIP_MAGIC, unpack
from forwarder.ingest.slices import Work

MIN_RATE = 1024.0
RATE_GRACE = 10.0
"""Bytes a second that a body must bring on average, after so many seconds: five lost packets in a row, sent
again by TCP with its doubling pauses, take 6 s."""
CHUNK_BYTES = 64
"""What a piece of a body holds beside its bytes: a body in pieces of one byte is not small."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ACCEPT_ENCODING = {"Accept-Encoding": "gzip, deflate"}
TOO_SLOW = "too_slow"
ENCODING = "Content-Encoding"
_CODINGS = {"gzip": GZIP, "x-gzip": GZIP, "deflate": DEFLATE, "x-deflate": DEFLATE}
_PLAIN = frozenset({"", "identity", "none", "utf-8", "utf8"})
"""Not packed. ``utf-8`` is no coding, but clients that mean the charset send it here."""
_MAX_NAMED = 100


class Arrivals:
    """The bodies that are arriving now; ``sweep`` them about once a second."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: set[_Arrival] = set()

    def sweep(self, now: float) -> None:
        for arrival in list(self._all):
            arrival.cut_when_slow(now)

    def add(self, arrival: _Arrival) -> None:
        self._all.add(arrival)

    def discard(self, arrival: _Arrival) -> None:
        self._all.discard(arrival)


class _Arrival:
    """One body, while it is arriving."""

    __slots__ = ("_began", "_chunks", "_ended", "_lease", "_max_body", "_problem", "_size", "_timeout")

    def __init__(self, lease: Lease, max_body: int, deadline: float) -> None:
        self._lease = lease
        self._max_body = max_body
        self._began = asyncio.get_running_loop().time()
        self._timeout = asyncio.timeout_at(self._began + deadline)
        self._chunks: list[bytes] = []
        self._size = 0
        self._ended = False
        message = f"The body did not arrive within {deadline:g} seconds (ingest.read_timeout)."
        self._problem = BadRequest(408, TIMEOUT, message, close=True)

    async def read(self, request: web.BaseRequest) -> bytes:
        lease = self._lease
        lease.revocable(partial(self._end, taken_back()))
        before = lease.held
        try:
            async with self._timeout:
                while chunk := await request.content.readany():
                    if self._ended:
                        break
                    self._size += len(chunk)
                    _check_size(self._size, self._max_body)
                    lease.take(len(chunk) + CHUNK_BYTES)
                    self._chunks.append(chunk)
        except TimeoutError:
            raise self._problem from None
        except (OSError, RuntimeError, web.RequestPayloadError):
            raise BadRequest(400, MALFORMED, "The body ended early.", close=True) from None
        finally:
            lease.revocable(None)
        if self._ended:  # a piece came in the same turn of the loop
            raise self._problem
        lease.keep(before + self._size)
        return b"".join(self._chunks)

    def cut_when_slow(self, now: float) -> None:
        seconds = now - self._began
        if self._size < (seconds - RATE_GRACE) * MIN_RATE:
            message = (
                f"Only {self._size} bytes of the body arrived in {seconds:.0f} seconds. After the first "
                f"{RATE_GRACE:.0f} seconds, at least {MIN_RATE:.0f} bytes a second must arrive. Send the "
                "body once all of it is ready."
            )
            self._end(BadRequest(408, TIMEOUT, message, close=True, reason=TOO_SLOW))

    def _end(self, problem: BadRequest) -> None:
        """Free what came, and refuse the request as soon as its task runs."""
        if not self._ended:
            self._ended, self._problem = True, problem
            self._chunks.clear()
            if not self._timeout.expired():
                self._timeout.reschedule(0.0)


async def read_body(
    request: web.BaseRequest,
    lease: Lease,
    max_body: int,
    deadline: float,
    arrivals: Arrivals,
    codings: Sequence[str] = (),
    check: Callable[[bytes], None] | None = None,
) -> bytes:
    """The body, unpacked. ``deadline``: seconds the sender has for all of it; ``codings``: of its head.

    ``check`` is shown the body as it came, and may raise BadRequest.
    """
    body = await _read(request, lease, max_body, deadline, arrivals)
    if check is not None:
        check(body)
    if not codings:
        return body
    work = Work(lease.peer)
    await work.begin(len(body))
    for number, coding in enumerate(codings):
        if number and not body.startswith(GZIP_MAGIC):
            break  # named twice, and applied once
        body = await work.through(unpack(coding, body, lease, max_body))
    return body


def codings_of(headers: Mapping[str, str]) -> Sequence[str]:
    """How the body is packed, outermost first; BadRequest when that is not possible here.

    A proxy may name a coding once more in a header of its own. ``gzip`` twice is taken: no JSON begins as
    gzip does, so the body shows how often it is packed.
    """
    value = headers.get(ENCODING)
    if value is None:
        return ()
    values = headers.getall(ENCODING) if isinstance(headers, MultiMapping) else [value]
    named = [name for value in values for part in value.split(",") if (name := part.strip().lower())]
    packed = [name for name in named if name not in _PLAIN]
    codings = [_CODINGS.get(name, "") for name in packed]
    if "" not in codings and (len(codings) < 2 or codings == [GZIP, GZIP]):
        return codings
    sent = ", ".join(named)[:_MAX_NAMED]
    message = f"{ENCODING} {sent!r} is not accepted: send gzip, deflate or identity, and only one of them."
    raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT_ENCODING)


async def _read(
    request: web.BaseRequest, lease: Lease, max_body: int, deadline: float, arrivals: Arrivals
) -> bytes:
    length = request.content_length
    if length is not None and length > max_body:
        raise too_large(f"The body has {length} bytes; at most {max_body} are allowed (ingest.max_body).")
    content = request.content
    if not content.is_eof():
        _say_continue(request)
        arrival = _Arrival(lease, max_body, deadline)
        arrivals.add(arrival)
        try:
            return await arrival.read(request)
        finally:
            arrivals.discard(arrival)
    body = content.read_nowait()  # it all came together with the headers
    if length is None:
        _check_size(len(body), max_body)
    lease.take(len(body))
    return body


def _check_size(size: int, max_body: int) -> None:
    if size > max_body:
        raise too_large(f"The body is larger than {max_body} bytes (ingest.max_body).")


def _say_continue(request: web.BaseRequest) -> None:
    """Tell a client that asked first to send its body: aiohttp's low-level server leaves that to us."""
    asked = request.headers.get("Expect", "").lower() == "100-continue"
    if asked and request.version > HttpVersion10 and request.transport is not None:
        request.transport.write(CONTINUE)
