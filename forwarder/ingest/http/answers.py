"""Answers over HTTP: from prebuilt heads, with what a refused sender needs to try again."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast
from uuid import uuid4

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from forwarder.ingest.errors import NO_HEADERS, BadRequest, Dialect
from forwarder.model import Chance

RETRY_AFTER_BASE = 1.0
RETRY_AFTER_SPREAD = 2.0
"""A sender that was turned down is asked to wait 1 to 3 seconds, so that not all come back at once."""

SERVER = "event-forwarder"
REQUEST_ID = "x-amzn-RequestId"
_RETRY_STATUSES = frozenset({429, 503})

_Headers = CIMultiDict[str]
_prebuilt: dict[str, _Headers] = {}


PIECE = 64 * 1024
"""Over TLS a large answer is written in pieces of this size, each when the one before is gone: what the layer
below has buffered cannot be seen there."""


def respond(dialect: Dialect, status: int, body: bytes, more: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """An answer with the dialect's headers; they are shared, since aiohttp copies them."""
    content_type = dialect.content_type if body else ""
    headers = _prebuilt.get(content_type)
    if headers is None:
        headers = CIMultiDict({"Content-Type": content_type, "Server": SERVER})
        if not body:
            del headers["Content-Type"]
        _prebuilt[content_type] = headers
    response = _Answer(body=body, status=status, headers=headers)
    if dialect.aws:
        response.headers[REQUEST_ID] = str(uuid4())
    if more:
        response.headers.update(more)
    return response


class PrebuiltResponse(web.StreamResponse):
    """An answer in bytes, head and all, on a connection that goes on: cheaper by a third of a request."""

    keep_alive = True

    def __init__(self, status: int, answer: bytes) -> None:
        super().__init__(status=status)
        self._answer = answer
        self._request: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._request = request
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        request, answer = self._request, self._answer
        assert request is not None
        if len(answer) > PIECE and _is_secured(request):
            await _write_in_pieces(request, answer)
            await request.writer.write_eof()
        else:
            await request.writer.write_eof(answer)
        # aiohttp keeps the last answer of a connection for as long as that is idle
        self._request, self._answer = None, b""


class _Answer(web.Response):
    """An answer that is let go of when it is written. Where its way is TLS a large one goes in pieces."""

    _in_pieces_to: web.BaseRequest | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        writer, body = await super().prepare(request), self.body
        if (
            isinstance(body, bytes)
            and len(body) > PIECE
            and request.method != "HEAD"
            and _is_secured(request)
        ):
            self._in_pieces_to = request
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        if self._in_pieces_to is not None:
            await _write_in_pieces(self._in_pieces_to, cast(bytes, self.body))
            self._in_pieces_to = self.body = None
        await super().write_eof(data)
        self.body = None


def _is_secured(request: web.BaseRequest) -> bool:
    transport = request.transport
    return transport is not None and transport.get_extra_info("sslcontext") is not None


async def _write_in_pieces(request: web.BaseRequest, answer: bytes) -> None:
    whole, connection = memoryview(answer), cast(Any, request.protocol)
    for start in range(0, len(answer), PIECE):
        await request.writer.write(whole[start : start + PIECE])
        await request.writer.drain()
        connection.pieces += 1


def is_plain(request: web.BaseRequest) -> bool:
    """Whether an answer to this request needs no header of its own."""
    return request.keep_alive and request.version == HttpVersion11


def ready(dialect: Dialect, status: int, body: bytes) -> PrebuiltResponse:
    """What ``respond`` answers, for a request that ``is_plain`` on a connection that goes on."""
    head = _head(dialect.content_type, status, int(time.time()))
    own = b"x-amzn-RequestId: %b\r\n" % str(uuid4()).encode() if dialect.aws else b""
    return PrebuiltResponse(status, b"%b%bContent-Length: %d\r\n\r\n%b" % (head, own, len(body), body))


@lru_cache(maxsize=16)
def _head(content_type: str, status: int, second: int) -> bytes:
    reason, date = HTTPStatus(status).phrase, formatdate(second, usegmt=True)
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nServer: {SERVER}\r\nDate: {date}\r\n"
    ).encode()


def refuse(dialect: Dialect, problem: BadRequest, chance: Chance = random.random) -> web.Response:
    """The answer to a request of which nothing was taken."""
    response = respond(dialect, problem.status, dialect.error(problem))
    response.headers.update(refusal_headers(problem, chance))
    if dialect.aws:
        response.headers["x-amzn-ErrorType"] = problem.code
    if problem.close:
        response.headers["Connection"] = "close"
        response.force_close()
    return response


def refusal_headers(problem: BadRequest, chance: Chance) -> Mapping[str, str]:
    """The problem's own headers, plus Retry-After for statuses that a retry can cure."""
    if problem.status in _RETRY_STATUSES:
        return {**problem.headers, **_retry_headers(chance)}
    return problem.headers


def _retry_headers(chance: Chance) -> dict[str, str]:
    """When to come back, in seconds for everyone and in milliseconds for AWS's clients."""
    delay = RETRY_AFTER_BASE + RETRY_AFTER_SPREAD * chance()
    return {"Retry-After": str(math.ceil(delay)), "x-amz-retry-after": str(math.ceil(delay * 1000))}
