"""Errors of the admin listener and of the control socket, as JSON.

Invariants:
- Every error is ``{"error": {"code": ..., "message": ...}}``, also of a path or a method that does not exist.
- The text of an exception that nobody expected is in the log and never in an answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import structlog
from aiohttp import web

from forwarder.logs import limited

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(NamedTuple):
    status: int
    code: str
    message: str


INTERNAL = Problem(500, "InternalError", "the request could not be handled; the log says why")


def code_of(error: web.HTTPException) -> str:
    """The reason of its status as one word."""
    return "".join(error.reason.split())


def errors_as_json(
    listener: str,
    explain: Callable[[web.Request, Exception], Problem | None],
    headers: Mapping[str, str],
) -> Any:
    """A middleware. ``explain``: what an exception means, None where it was not expected; ``headers``: of
    every answer; ``listener``: for the log."""
    log = structlog.get_logger(listener)

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:
            problem = explain(request, error)
            if problem is None:
                failures = limited(log, listener)
                failures.error(f"{listener} request failed", path=request.path, exc_info=True)
                problem = INTERNAL
            allow = error.headers.get("Allow") if isinstance(error, web.HTTPException) else None
            return _answer(problem, headers if allow is None else {**headers, "Allow": allow})

    return handle


def _answer(problem: Problem, headers: Mapping[str, str]) -> web.Response:
    body = msgspec.json.encode({"error": {"code": problem.code, "message": problem.message}})
    return web.Response(body=body, status=problem.status, headers=headers, content_type="application/json")
