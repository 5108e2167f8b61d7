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

from forwarder.apis.api import Api
from forwarder.apis.codes import OVERLOADED
from forwarder.apis.wire import ERROR_HEADER
from forwarder.sandbox.faults import SHAPES, Fault, FaultKind

JSON_1_1 = "application/x-amz-json-1.1"
REST_JSON = "application/json"
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
    "redirect": (307, "TemporaryRedirect", "Temporarily moved."),
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
    api: type[Api], code: str, message: str, status: int = 400, headers: Mapping[str, str] | None = None
) -> Answer:
    """A call's error; a status of 400 becomes the one its API has for the code."""
    codec = api.codec
    if status == 400 and codec.rest:
        status = _REST_STATUS.get(code, status)
    body = codec.error(code, message)
    return Answer(status, body, codec.content_type, {**(headers or {}), ERROR_HEADER: code})


def internal_code(api: type[Api]) -> str:
    """What an API calls its own failure."""
    return "InternalServerException" if api.codec.rest else "InternalException"


def entry_failure(api: type[Api]) -> str:
    """The code of an entry that the service failed to take."""
    return "InternalFailure" if "InternalFailure" in api.codes.retry else internal_code(api)


def entry_throttle(api: type[Api]) -> str:
    """The code of a throttled entry: the API's own, where it has one."""
    return min(api.codes.overloaded - OVERLOADED, default="ThrottlingException")


def entry_rejection(api: type[Api]) -> str:
    """The code of an entry that is not as it must be."""
    known = ("InvalidArgument", "ValidationException", *sorted(api.codes.permanent))
    return next((code for code in known if code in api.codes.permanent), "ValidationException")


def words(api: type[Api], fault: Fault) -> tuple[int, str, str]:
    """The status, code and message of a fault: as ordered, else as the API says it."""
    status, code, message = _WORDS[fault.fault]
    if fault.fault == "error":
        code = internal_code(api)
    elif fault.fault == "entry":
        code = entry_failure(api)
    return fault.status or status, fault.code or code, fault.message or message


def of_fault(api: type[Api], fault: Fault) -> Answer | None:
    """What a call that this fault hits gets instead of an answer; None when it gets one, of a kind."""
    match fault.fault:
        case "hang":
            return Answer(0, b"", ending=Ending.HANG)
        case "reset":
            return Answer(0, b"", ending=Ending.RESET)
        case "wrong_shape":
            media = "text/html" if fault.shape == "html" else api.codec.content_type
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
