"""CloudWatch RUM PutRumEvents, as AWS takes and answers it."""

from __future__ import annotations

from typing import Any

from tests.aws_cases import Answer, Case, Error, Expect, compact

_API = "CloudWatch RUM API reference, PutRumEvents"
_EVENT = "CloudWatch RUM API reference, RumEvent"
_USER = "CloudWatch RUM API reference, UserDetails"
_CLIENT = "aws-rum-web 3.2.1, requests seen from headless Chromium"
_CUSTOM = 'CloudWatch user guide, "Send custom events"'

MONITOR = "00000000-0000-4000-8000-0000000000aa"
PATH = f"/appmonitors/{MONITOR}/"
HEADERS = {"Content-Type": "application/json"}

EVENT: dict[str, Any] = {
    "id": "5f2a3b1c-0000-4000-8000-000000000001",
    "timestamp": 1767323045,
    "type": "com.amazon.rum.page_view_event",
    "details": '{"version":"1.0.0","pageId":"/home"}',
}
"""An event that is taken."""

CALL: dict[str, Any] = {
    "BatchId": "11111111-2222-4333-8444-555555555555",
    "AppMonitorDetails": {"id": MONITOR, "version": "1.2.3"},
    "UserDetails": {
        "userId": "00000000-0000-0000-0000-000000000000",
        "sessionId": "99999999-8888-4777-8666-555555555555",
    },
    "RumEvents": [EVENT],
}
"""A call that is taken."""

_TAKEN: Expect = {"status": 200, "results": []}
_INVALID: Expect = {"status": 400, "code": "ValidationException", "message": ""}
_SERIALIZATION: Expect = {"status": 400, "code": "SerializationException", "message": ""}


def _case(name: str, page: str, body: Any, expect: Expect, path: str = PATH, **headers: str) -> Case:
    return {
        "name": name,
        "page": page,
        "request": {
            "method": "POST",
            "path": path,
            "headers": {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}},
            "body": body if isinstance(body, bytes) else compact(body),
        },
        "expect": expect,
    }


def _without(member: str) -> dict[str, Any]:
    return {name: value for name, value in CALL.items() if name != member}


def _event(**members: Any) -> dict[str, Any]:
    """The call with one good event, and one of which members are other, or (None) left out."""
    event = {name: value for name, value in {**EVENT, **members}.items() if value is not None}
    return {**CALL, "RumEvents": [EVENT, event]}


CALLS: tuple[Case, ...] = (
    _case("one event", _API, CALL, _TAKEN),
    _case("without the slash at the end, as the web client sends", _CLIENT, CALL, _TAKEN, PATH[:-1]),
    _case("a beacon is text/plain", _CLIENT, CALL, _TAKEN, Content_Type="text/plain;charset=UTF-8"),
    _case("a hundred events, the web client's batch", _CLIENT, {**CALL, "RumEvents": [EVENT] * 100}, _TAKEN),
    _case("no events", _API, {**CALL, "RumEvents": []}, _TAKEN),
    _case("metadata", _EVENT, _event(metadata='{"browserName":"Chrome"}'), _TAKEN),
    _case("a fractional timestamp", _EVENT, _event(timestamp=1767323045.678), _TAKEN),
    _case("session metadata", _CLIENT, {**CALL, "SessionMetadata": '{"osName":"Linux"}'}, _TAKEN),
    _case("an alias", _API, {**CALL, "Alias": "my-monitor"}, _TAKEN),
    _case("an alias of 255 characters", _API, {**CALL, "Alias": "a" * 255}, _TAKEN),
    _case("details of nothing", _API, {**CALL, "AppMonitorDetails": {}, "UserDetails": {}}, _TAKEN),
    _case("ids in capitals", _API, {**CALL, "BatchId": "ABCDEF00-2222-4333-8444-555555555555"}, _TAKEN),
    _case("a custom event of any name", _CUSTOM, _event(type="my_custom-event.1"), _TAKEN),
    _case("a type of 256 characters", _CUSTOM, _event(type="t" * 256), _TAKEN),
    _case("a member that nobody knows", _API, {**CALL, "Surprise": 1}, _TAKEN),
    _case("without BatchId", _API, _without("BatchId"), _INVALID),
    _case("without AppMonitorDetails", _API, _without("AppMonitorDetails"), _INVALID),
    _case("without UserDetails", _API, _without("UserDetails"), _INVALID),
    _case("BatchId is no UUID", _API, {**CALL, "BatchId": "batch-1"}, _INVALID),
    _case("BatchId is empty", _API, {**CALL, "BatchId": ""}, _INVALID),
    _case("userId is no UUID", _USER, {**CALL, "UserDetails": {"userId": "me"}}, _INVALID),
    _case("sessionId is no UUID", _USER, {**CALL, "UserDetails": {"sessionId": "s"}}, _INVALID),
    _case("an empty alias", _API, {**CALL, "Alias": ""}, _INVALID),
    _case("an alias of 256 characters", _API, {**CALL, "Alias": "a" * 256}, _INVALID),
    _case("an event without id", _EVENT, _event(id=None), _INVALID),
    _case("an event's id is no UUID", _EVENT, _event(id="1"), _INVALID),
    _case("an event without timestamp", _EVENT, _event(timestamp=None), _INVALID),
    _case("an event without type", _EVENT, _event(type=None), _INVALID),
    _case("an event without details", _EVENT, _event(details=None), _INVALID),
    _case("a type of 257 characters", _CUSTOM, _event(type="t" * 257), _INVALID),
    _case("details are no object", _CUSTOM, _event(details="[]"), _INVALID),
    _case("details are not JSON", _CUSTOM, _event(details="{"), _INVALID),
    _case("metadata are not JSON", _EVENT, _event(metadata="{"), _INVALID),
    _case("not JSON", _API, b'{"BatchId":', _SERIALIZATION),
    _case("details are an object, not its text", _EVENT, _event(details={}), _SERIALIZATION),
)
"""Calls, taken or refused: always as a whole."""

ANSWERS: tuple[Answer, ...] = (
    {
        "name": "an empty object",
        "page": _API + ", Response Elements",
        "count": 3,
        "body": b"{}",
        "means": ["delivered", "delivered", "delivered"],
    },
)
"""200 answers. AWS's own has an empty body, of which SDKs make an empty object."""


def _error(code: str, status: int, means: str, **headers: str) -> Error:
    return {
        "name": code,
        "page": _API + ", Errors",
        "status": status,
        "headers": {
            "Content-Type": "application/json",
            "x-amzn-ErrorType": code,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        },
        "body": b'{"message":"what AWS says"}',
        "code": code,
        "message": "what AWS says",
        "means": means,
    }


ERRORS: tuple[Error, ...] = (
    _error("AccessDeniedException", 403, "held"),
    _error("InternalServerException", 500, "unavailable", Retry_After="2"),
    _error("ResourceNotFoundException", 404, "held"),
    _error("ThrottlingException", 429, "throttled", Retry_After="3"),
    _error("ValidationException", 400, "refused"),
)
"""Every error of the operation."""
