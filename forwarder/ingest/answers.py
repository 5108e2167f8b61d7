"""Answers over HTTP: from prebuilt headers, with what a refused sender needs to try again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from uuid import uuid4

from aiohttp import web
from multidict import CIMultiDict

from forwarder.ingest.dialects.errors import NO_HEADERS, BadRequest, Dialect
from forwarder.model import Chance

RETRY_AFTER_BASE = 1.0
RETRY_AFTER_SPREAD = 2.0
"""A sender that was turned down is asked to wait 1 to 3 seconds, so that not all come back at once."""

REQUEST_ID = "x-amzn-RequestId"
_RETRY_STATUSES = frozenset({429, 503})

_Headers = CIMultiDict[str]
_prebuilt: dict[str, _Headers] = {}


def respond(dialect: Dialect, status: int, body: bytes, more: Mapping[str, str] = NO_HEADERS) -> web.Response:
    """An answer with the dialect's headers; they are shared, since aiohttp copies them."""
    headers = _prebuilt.get(dialect.content_type)
    if headers is None:
        headers = CIMultiDict({"Content-Type": dialect.content_type, "Server": "event-forwarder"})
        _prebuilt[dialect.content_type] = headers
    response = web.Response(body=body, status=status, headers=headers)
    if dialect.aws:
        response.headers[REQUEST_ID] = str(uuid4())
    if more:
        response.headers.update(more)
    return response


def refuse(dialect: Dialect, problem: BadRequest, chance: Chance = random.random) -> web.Response:
    """The answer to a request of which nothing was taken."""
    response = respond(dialect, problem.status, dialect.error(problem))
    response.headers.update(problem.headers)
    if dialect.aws:
        response.headers["x-amzn-ErrorType"] = problem.code
    if problem.status in _RETRY_STATUSES:
        response.headers.update(retry_headers(chance))
    if problem.close:
        response.headers["Connection"] = "close"
        response.force_close()
    return response


def retry_headers(chance: Chance = random.random) -> dict[str, str]:
    """When to come back, in seconds for everyone and in milliseconds for AWS's clients."""
    delay = RETRY_AFTER_BASE + RETRY_AFTER_SPREAD * chance()
    return {"Retry-After": str(math.ceil(delay)), "x-amz-retry-after": str(math.ceil(delay * 1000))}
