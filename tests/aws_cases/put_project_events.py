"""Evidently PutProjectEvents, as AWS took and answered it."""

from __future__ import annotations

from typing import Any

from tests.aws_cases import Answer, Case, Error, Expect, compact

_API = "CloudWatch Evidently API reference, PutProjectEvents"
_EVENT = "CloudWatch Evidently API reference, Event"
_RESULT = "CloudWatch Evidently API reference, PutProjectEventsResultEntry"
_BOTO = "requests seen from boto3 1.42.50, the last with this API"

PROJECT = "shop"
ARN = "arn:aws:evidently:us-east-1:123456789012:project/shop"
ARN_PATH = "/events/projects/arn%3Aaws%3Aevidently%3Aus-east-1%3A123456789012%3Aproject%2Fshop"
HEADERS = {"Content-Type": "application/json"}

CUSTOM: dict[str, Any] = {
    "timestamp": 1767323045,
    "type": "aws.evidently.custom",
    "data": '{"details":{"pageLoadTime":800.0},"userDetails":{"userId":"test-user"}}',
}
"""An event that is taken."""

EVALUATION: dict[str, Any] = {
    "timestamp": 1767323045.678,
    "type": "aws.evidently.evaluation",
    "data": '{"feature":"f","entityId":"e","variation":"v","type":"EXPERIMENT_RULE_MATCH","details":{}}',
}
"""The other type."""

PROJECTS: tuple[tuple[str, bool], ...] = (
    ("shop", True),
    ("My-shop_1.a", True),
    (ARN, True),
    ("a" * 2048, True),
    ("a" * 2049, False),
    ("my shop", False),
    ("shop\n", False),
    ("a/b", False),
    ("arn:aws:evidently:us-east-1:123456789012:feature/shop", False),
)
"""Values of project, and whether they match its pattern and length (_API)."""

_INVALID = ("ValidationException", "")


def _case(name: str, page: str, events: Any, expect: Expect, path: str = "/events/projects/shop") -> Case:
    return {
        "name": name,
        "page": page,
        "request": {
            "method": "POST",
            "path": path,
            "headers": HEADERS,
            "body": events if isinstance(events, bytes) else compact({"events": events}),
        },
        "expect": expect,
    }


def _results(*results: tuple[str, str] | None) -> Expect:
    return {"status": 200, "results": list(results)}


def _refused(code: str, message: str = "") -> Expect:
    return {"status": 400, "code": code, "message": message}


def _without(member: str) -> dict[str, Any]:
    return {name: value for name, value in CUSTOM.items() if name != member}


CALLS: tuple[Case, ...] = (
    _case("one event", _API, [CUSTOM], _results(None)),
    _case("both types", _EVENT, [CUSTOM, EVALUATION], _results(None, None)),
    _case("a project's ARN, percent-encoded whole", _BOTO, [CUSTOM], _results(None), ARN_PATH),
    _case("no events", _API, [], _results()),
    _case("49 events", _API, [CUSTOM] * 49, _results(*[None] * 49)),
    _case("50 events", _API, [CUSTOM] * 50, _results(*[None] * 50)),
    _case("without timestamp", _EVENT, [_without("timestamp")], _results(_INVALID)),
    _case("without type", _EVENT, [_without("type")], _results(_INVALID)),
    _case("without data", _EVENT, [_without("data")], _results(_INVALID)),
    _case("a type that is none", _EVENT, [{**CUSTOM, "type": "custom"}], _results(_INVALID)),
    _case("data are not JSON", _EVENT, [{**CUSTOM, "data": "{"}], _results(_INVALID)),
    _case("data are no object", _EVENT, [{**CUSTOM, "data": "1"}], _results(_INVALID)),
    _case(
        "a bad event costs no good one",
        _API,
        [CUSTOM, _without("data"), EVALUATION],
        _results(None, _INVALID, None),
    ),
)
"""Calls answered with 200, event by event."""

WHOLE_CALLS: tuple[Case, ...] = (
    _case(
        "51 events",
        _API,
        [CUSTOM] * 51,
        _refused("ValidationException", "Member must have length less than or equal to 50"),
    ),
    _case("not JSON", _API, b'{"events":', _refused("SerializationException")),
    _case("events is no list", _API, b'{"events":1}', _refused("SerializationException")),
)
"""Calls refused as a whole; a message is part of what AWS says."""

ENTRY_CODES: tuple[tuple[str, str], ...] = (
    ("AccessDeniedException", "retry"),
    ("ConflictException", "retry"),
    ("InternalServerException", "retry"),
    ("ResourceNotFoundException", "retry"),
    ("ServiceQuotaExceededException", "retry"),
    ("ThrottlingException", "retry"),
    ("ValidationException", "rejected"),
    ("BrandNewException", "retry"),  # in no list: nothing is known of it
)
"""Codes of events (_RESULT, errorCode), and what they mean: only one is about the event itself."""


def _answer(name: str, count: int, body: bytes, means: list[str] | None) -> Answer:
    return {"name": name, "page": _RESULT, "count": count, "body": body, "means": means}


_ID = b'{"eventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}'
_THROTTLED = b'{"errorCode":"ThrottlingException","errorMessage":"slow down"}'
_BAD = b'{"errorCode":"ValidationException","errorMessage":"no"}'

ANSWERS: tuple[Answer, ...] = (
    _answer("all taken", 2, b'{"failedEventCount":0,"eventResults":[%b,%b]}' % (_ID, _ID), ["delivered"] * 2),
    _answer("no events", 0, b'{"failedEventCount":0,"eventResults":[]}', []),
    _answer(
        "some failed, in the order of the request",
        3,
        b'{"failedEventCount":2,"eventResults":[%b,%b,%b]}' % (_THROTTLED, _ID, _BAD),
        ["retry", "delivered", "rejected"],
    ),
    _answer("a result without id and code", 1, b'{"failedEventCount":0,"eventResults":[{}]}', ["retry"]),
    _answer("one result too few", 2, b'{"failedEventCount":0,"eventResults":[%b]}' % _ID, None),
    _answer("one result too many", 1, b'{"eventResults":[%b,%b]}' % (_ID, _ID), None),
    _answer("an empty object", 1, b"{}", None),
    _answer("an answer of another API", 1, b'{"FailedEntryCount":0,"Entries":[{"EventId":"x"}]}', None),
)
"""200 answers."""


def _error(code: str, status: int, means: str) -> Error:
    return {
        "name": code,
        "page": _API + ", Errors",
        "status": status,
        "headers": {"Content-Type": "application/json", "x-amzn-ErrorType": code},
        "body": b'{"message":"what AWS says"}',
        "code": code,
        "message": "what AWS says",
        "means": means,
    }


ERRORS: tuple[Error, ...] = (
    _error("AccessDeniedException", 403, "held"),
    _error("ResourceNotFoundException", 404, "held"),
    _error("ThrottlingException", 429, "throttled"),
    _error("ValidationException", 400, "refused"),
    _error("InternalServerException", 500, "unavailable"),
    _error("ServiceUnavailableException", 503, "unavailable"),
    _error("ServiceQuotaExceededException", 402, "throttled"),
)
"""Every error of the operation, and those of the service."""
