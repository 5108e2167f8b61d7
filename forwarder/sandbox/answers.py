"""What the sandbox says: AWS's errors, in AWS's words where they are known, and the ends that are no answer.

Invariants:
- Every error is JSON with ``__type`` and ``message`` and names its code in ``x-amzn-ErrorType`` too.
- The HTTP status is the one its API uses: JSON 1.1 says 400 where REST says 403, 404 and 429.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import msgspec

from forwarder.apis.wire import ERROR_HEADER, error_body
from forwarder.sandbox.faults import SHAPES, Api, Fault, FaultKind

JSON_1_1 = "application/x-amz-json-1.1"
REST_JSON = "application/json"
MEDIA: dict[Api, str] = {"eventbridge": JSON_1_1, "rum": REST_JSON, "evidently": REST_JSON}
REDIRECTED = "/_sandbox/redirected"

_REST_STATUS = {
    "ThrottlingException": 429,
    "AccessDeniedException": 403,
    "ResourceNotFoundException": 404,
}
EXPIRED = "The security token included in the request is expired"
_DENIED = "User: arn:aws:iam::000000000000:user/sandbox is not authorized to perform this operation"
_WORDS: dict[FaultKind, tuple[int, str, str]] = {
    "throttle": (400, "ThrottlingException", "Rate exceeded"),
    "error": (500, "InternalServerException", "Internal server error"),
    "credentials": (403, "ExpiredTokenException", EXPIRED),
    "access_denied": (400, "AccessDeniedException", _DENIED),
    "not_found": (400, "ResourceNotFoundException", "The resource does not exist."),
    "redirect": (307, "TemporaryRedirect", "Moved for a while."),
    "entry": (200, "InternalServerException", "Internal failure."),
}


class Ending(enum.Enum):
    """How a call ends: answered, never answered, or with a TCP reset."""

    ANSWER = "answer"
    HANG = "hang"
    RESET = "reset"


class Answer(msgspec.Struct):
    """What goes back, ``delay`` seconds late."""

    status: int
    body: bytes
    media: str = REST_JSON
    headers: Mapping[str, str] = {}
    delay: float = 0.0
    ending: Ending = Ending.ANSWER


def error(
    api: Api, code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None
) -> Answer:
    """A call's error; a status of 400 becomes the one its API has for the code."""
    if status == 400 and api != "eventbridge":
        status = _REST_STATUS.get(code, status)
    return Answer(status, error_body(code, message), MEDIA[api], {**(headers or {}), ERROR_HEADER: code})


def internal_code(api: Api) -> str:
    """What an API calls its own failure."""
    return "InternalException" if api == "eventbridge" else "InternalServerException"


def words(api: Api, fault: Fault) -> tuple[int, str, str]:
    """The status, code and message of a fault: as ordered, else as the API says it."""
    status, code, message = _WORDS[fault.fault]
    if api == "eventbridge" and fault.fault in ("error", "entry"):
        code = "InternalFailure" if fault.fault == "entry" else "InternalException"
    return fault.status or status, fault.code or code, fault.message or message


def of_fault(api: Api, fault: Fault) -> Answer | None:
    """What a call that this fault hits gets instead of an answer; None when it gets one, of a kind."""
    match fault.fault:
        case "hang":
            return Answer(0, b"", ending=Ending.HANG)
        case "reset":
            return Answer(0, b"", ending=Ending.RESET)
        case "wrong_shape":
            media = "text/html" if fault.shape == "html" else MEDIA[api]
            return Answer(fault.status or 200, SHAPES[fault.shape], media)
        case "slow" | "reset_after" | "missing_results" | "entry":
            return None
    status, code, message = words(api, fault)
    return error(api, code, message, status, _headers(fault))


def _headers(fault: Fault) -> dict[str, str]:
    headers = {}
    if fault.fault == "redirect":
        headers["Location"] = fault.location or REDIRECTED
    if fault.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(fault.retry_after))
        headers["x-amz-retry-after"] = str(round(fault.retry_after * 1000))
    return headers
