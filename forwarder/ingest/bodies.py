"""Request bodies: read, and gunzipped, within bounds.

Invariants:
- Every byte is reserved before it is read or unpacked: by ``Content-Length``, else chunk by chunk.
- ``max_body`` bounds the body before and after gunzip; a bomb costs at most one step beyond it.
- What ends early, comes too slowly or does not unpack is a BadRequest, never an empty or a short body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from aiohttp import HttpVersion10, web

from forwarder.ingest.budget import Lease
from forwarder.ingest.dialects.errors import MALFORMED, MEDIA_TYPE, TIMEOUT, BadRequest, too_large
from forwarder.ingest.slices import Work
from forwarder.ingest.unpacking import gunzip

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ACCEPT_ENCODING = {"Accept-Encoding": "gzip"}
_GZIP = frozenset({"gzip", "x-gzip"})
_PLAIN = frozenset({"", "identity"})


async def read_body(
    request: web.BaseRequest,
    lease: Lease,
    max_body: int,
    deadline: float,
    packed: bool = False,
    check: Callable[[bytes], None] | None = None,
) -> bytes:
    """The body, unpacked if it is gzip. ``deadline``: seconds the sender has for all of it.

    ``check`` is shown the body as it came, and may raise BadRequest.
    """
    body = await _read(request, lease, max_body, deadline)
    if check is not None:
        check(body)
    return await Work().through(gunzip(body, lease, max_body)) if packed else body


def is_gzipped(headers: Mapping[str, str]) -> bool:
    """Whether the body is gzip; BadRequest when it is anything else but plain."""
    encoding = headers.get("Content-Encoding")
    if encoding is None:
        return False
    encoding = encoding.strip().lower()
    if encoding in _GZIP:
        return True
    if encoding in _PLAIN:
        return False
    message = f"Content-Encoding {encoding!r} is not known here; send gzip or none."
    raise BadRequest(415, MEDIA_TYPE, message, headers=ACCEPT_ENCODING)


async def _read(request: web.BaseRequest, lease: Lease, max_body: int, deadline: float) -> bytes:
    length = request.content_length
    if length is not None:
        if length > max_body:
            raise too_large(f"The body has {length} bytes; at most {max_body} are taken.")
        lease.take(length)
    content = request.content
    if not content.is_eof():
        _say_continue(request)
        return await _read_slowly(request, length, lease, max_body, deadline)
    body = content.read_nowait()  # it all came together with the headers
    if length is None:
        _check_size(len(body), max_body)
        lease.take(len(body))
    return body


async def _read_slowly(
    request: web.BaseRequest, length: int | None, lease: Lease, max_body: int, deadline: float
) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline):
            while chunk := await request.content.readany():
                size += len(chunk)
                _check_size(size, max_body)
                if length is None:
                    lease.take(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        message = f"The body did not arrive within {deadline:g} seconds."
        raise BadRequest(408, TIMEOUT, message, close=True) from None
    except (OSError, RuntimeError, web.RequestPayloadError):
        raise BadRequest(400, MALFORMED, "The body ended early.", close=True) from None
    return b"".join(chunks)


def _check_size(size: int, max_body: int) -> None:
    if size > max_body:
        raise too_large(f"The body is larger than {max_body} bytes.")


def _say_continue(request: web.BaseRequest) -> None:
    """Tell a client that asked first to send its body: aiohttp's low-level server leaves that to us."""
    asked = request.headers.get("Expect", "").lower() == "100-continue"
    if asked and request.version > HttpVersion10 and request.transport is not None:
        request.transport.write(CONTINUE)
