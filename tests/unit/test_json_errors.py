"""Errors as JSON: what is expected is explained, what is not is in the log only."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from structlog.testing import capture_logs

from forwarder.json_errors import Problem, code_of, errors_as_json

HEADERS = {"X-Always": "there"}


def explain(request: web.Request, error: Exception) -> Problem | None:
    if isinstance(error, web.HTTPException):
        return Problem(error.status, code_of(error), request.path)
    return Problem(409, "Taken", str(error)) if isinstance(error, LookupError) else None


def answer_to(error: BaseException) -> web.Response:
    async def fail(request: web.Request) -> web.StreamResponse:
        raise error

    middleware: Any = errors_as_json("admin", explain, HEADERS)
    answer = asyncio.run(middleware(make_mocked_request("GET", "/page"), fail))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (web.HTTPNotFound(), 404, "NotFound", "/page"),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), 405, "MethodNotAllowed", "/page"),
        (KeyError("orders"), 409, "Taken", "'orders'"),
    ],
)
def test_an_expected_error_has_its_status_its_code_and_its_message(
    error: Exception, status: int, code: str, message: str
) -> None:
    answer = answer_to(error)
    assert (answer.status, answer.headers["X-Always"]) == (status, "there")
    assert msgspec.json.decode(bytes(answer.body or b"")) == {"error": {"code": code, "message": message}}  # type: ignore[arg-type]


def test_a_method_that_is_not_allowed_comes_with_those_that_are() -> None:
    assert answer_to(web.HTTPMethodNotAllowed("PUT", ["GET"])).headers["Allow"] == "GET"


def test_the_text_of_an_unexpected_error_is_in_the_log_and_not_in_the_answer() -> None:
    with capture_logs() as logs:
        answer = answer_to(ZeroDivisionError("a secret"))
    assert answer.status == 500
    assert b"secret" not in answer.body  # type: ignore[operator]
    assert [(line["event"], line["path"]) for line in logs] == [("admin request failed", "/page")]


def test_a_cancelled_request_is_no_error() -> None:
    with pytest.raises(asyncio.CancelledError):
        answer_to(asyncio.CancelledError())
