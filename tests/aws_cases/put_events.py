"""EventBridge PutEvents, as AWS takes and answers it."""

from __future__ import annotations

from typing import Any

from tests.aws_cases import Answer, Case, Error, Expect, compact

_API = "EventBridge API reference, PutEvents"
_ENTRY = "EventBridge API reference, PutEventsRequestEntry"
_RESULT = "EventBridge API reference, PutEventsResultEntry"
_SIZE = 'EventBridge user guide, "Calculating PutEvents event entry size"'
_RECORDED = "answers recorded on AWS 2025-01-08 (LocalStack's AWS-validated snapshots of PutEvents)"

LIMIT = 1_048_575
"""The most that one call may count: "must be less than 1 MB" (the size page; 1 MB = 1,048,576 bytes)."""

HEADERS = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}

GOOD: dict[str, Any] = {"Source": "com.example.shop", "DetailType": "order", "Detail": '{"n":1}'}
"""An entry that is taken; it counts 16 + 5 + 7 = 28 bytes."""

SIZES: tuple[tuple[str, dict[str, Any], int], ...] = (
    # _SIZE: Time counts 14 bytes; Source, DetailType, Detail and each of Resources their UTF-8 bytes.
    ("source, type and detail", GOOD, 28),
    ("a time counts 14", {**GOOD, "Time": 1767323045}, 42),
    ("a fractional time counts 14", {**GOOD, "Time": 1767323045.678}, 42),
    ("the epoch is a time as well", {**GOOD, "Time": 0}, 42),
    ("resources count their bytes", {**GOOD, "Resources": ["arn:aws:s3:::bucket", "r2"]}, 49),
    ("no resources count nothing", {**GOOD, "Resources": []}, 28),
    ("bus and trace header are free", {**GOOD, "EventBusName": "orders", "TraceHeader": "Root=1-a-b"}, 28),
    ("two bytes a letter in UTF-8", {**GOOD, "DetailType": "\u00e9\u00e9\u00e9"}, 29),
    ("three bytes a sign", {**GOOD, "Source": "\u65e5\u672c"}, 18),
    ("four bytes an emoji", {**GOOD, "Detail": '{"\U0001f600":1}'}, 31),
    ("escapes inside Detail count as they stand", {**GOOD, "Detail": '{"a":"\\u00e9"}'}, 35),
)
"""Name, entry, the bytes it counts."""


def entry_of(size: int, **members: Any) -> dict[str, Any]:
    """An entry of so many bytes: 16 of Source, 5 of DetailType, and a Detail of the rest."""
    return {**GOOD, "Detail": '{"k":"' + "x" * (size - 16 - 5 - 8) + '"}', **members}


def _case(name: str, page: str, entries: Any, expect: Expect) -> Case:
    body = entries if isinstance(entries, bytes) else compact({"Entries": entries})
    return {
        "name": name,
        "page": page,
        "request": {"method": "POST", "path": "/", "headers": HEADERS, "body": body},
        "expect": expect,
    }


def _results(*results: tuple[str, str] | None) -> Expect:
    return {"status": 200, "results": list(results)}


def _refused(code: str, message: str = "") -> Expect:
    return {"status": 400, "code": code, "message": message}


def _without(member: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != member}


def _required(member: str) -> tuple[str, str]:
    return ("InvalidArgument", f"Parameter {member} is not valid. Reason: {member} is a required argument.")


_MALFORMED = ("MalformedDetail", "Detail is malformed.")
_OVER = _refused("ValidationException", "Total size of the entries in the request is over the limit.")

ENTRIES: tuple[Case, ...] = (
    _case("one good entry", _API, [GOOD], _results(None)),
    _case("ten good entries", _API, [GOOD] * 10, _results(*[None] * 10)),
    _case(
        "every member",
        _ENTRY,
        [
            {
                **GOOD,
                "Time": 1767323045.678,
                "Resources": ["arn:aws:s3:::bucket"],
                "EventBusName": "default",
                "TraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            }
        ],
        _results(None),
    ),
    _case(
        "escapes beyond ASCII, as botocore writes them",
        _API,
        b'{"Entries":[{"Source":"a","DetailType":"\\u00e9","Detail":"{\\"a\\":\\"\\ud83d\\ude00\\"}"}]}',
        _results(None),
    ),
    _case("a member that nobody knows", _API, [{**GOOD, "Surprise": 1}], _results(None)),
    _case(
        "a null member is an absent one", _API, [{**GOOD, "Time": None, "Resources": None}], _results(None)
    ),
    _case("128 characters of DetailType", _ENTRY, [{**GOOD, "DetailType": "t" * 128}], _results(None)),
    _case("Source is missing", _RECORDED, [_without("Source")], _results(_required("Source"))),
    _case("Source is empty", _RECORDED, [{**GOOD, "Source": ""}], _results(_required("Source"))),
    _case("DetailType is missing", _RECORDED, [_without("DetailType")], _results(_required("DetailType"))),
    _case("DetailType is empty", _RECORDED, [{**GOOD, "DetailType": ""}], _results(_required("DetailType"))),
    _case("Detail is missing", _RECORDED, [_without("Detail")], _results(_required("Detail"))),
    _case("Detail is empty", _RECORDED, [{**GOOD, "Detail": ""}], _results(_required("Detail"))),
    _case("everything is missing: Source is said", _RECORDED, [{}], _results(_required("Source"))),
    _case(
        "two are missing: DetailType is said", _RECORDED, [{"Source": "a"}], _results(_required("DetailType"))
    ),
    *(
        _case(f"Detail is {detail!r}", _RECORDED, [{**GOOD, "Detail": detail}], _results(_MALFORMED))
        for detail in ("NotJSON", "[]", "{{}", '"str"', '{"a":1}}', "{'a':1}", "null", '{"a":NaN}')
    ),
    _case(
        "a source of AWS's own",
        _RESULT,
        [{**GOOD, "Source": "aws.ec2"}],
        _results(("NotAuthorizedForSourceException", "")),
    ),
    _case("a source that only begins like AWS's", _RESULT, [{**GOOD, "Source": "awsome"}], _results(None)),
    _case(
        "bad entries cost no good ones, and the order is kept",
        _RECORDED,
        [GOOD, {**GOOD, "Detail": "[]"}, GOOD, _without("Source"), GOOD],
        _results(None, _MALFORMED, None, _required("Source"), None),
    ),
)
"""Calls answered with 200, entry by entry."""

WHOLE_CALLS: tuple[Case, ...] = (
    _case(
        "no entries",
        _API,
        [],
        _refused("ValidationException", "Member must have length greater than or equal to 1"),
    ),
    _case(
        "eleven entries",
        _RECORDED,
        [GOOD] * 11,
        _refused("ValidationException", "Member must have length less than or equal to 10"),
    ),
    _case("eleven entries, all bad", _RECORDED, [{}] * 11, _refused("ValidationException")),
    _case("not JSON", _API, b'{"Entries":', _refused("SerializationException")),
    _case("Entries is no list", _API, b'{"Entries":1}', _refused("SerializationException")),
    _case("Detail is an object", _API, b'{"Entries":[{"Detail":{}}]}', _refused("SerializationException")),
)
"""Calls refused as a whole; a message is part of what AWS says."""

SIZE_LIMIT: tuple[Case, ...] = (
    _case("one entry, one byte less than the limit", _SIZE, [entry_of(LIMIT - 1)], _results(None)),
    _case("one entry, exactly the limit", _SIZE, [entry_of(LIMIT)], _results(None)),
    _case("one entry, one byte more than the limit", _SIZE, [entry_of(LIMIT + 1)], _OVER),
    _case(
        "ten entries, exactly the limit",
        _SIZE,
        [entry_of(100_000)] * 9 + [entry_of(LIMIT - 900_000)],
        _results(*[None] * 10),
    ),
    _case(
        "ten entries, one byte more than the limit",
        _SIZE,
        [entry_of(100_000)] * 9 + [entry_of(LIMIT - 900_000 + 1)],
        _OVER,
    ),
    _case("a time tips the scale", _SIZE, [entry_of(LIMIT - 13, Time=1767323045)], _OVER),
    _case("a time just fits", _SIZE, [entry_of(LIMIT - 14, Time=1767323045)], _results(None)),
    _case(
        "two bytes a letter, as many letters as half the limit",
        _SIZE,
        [{**GOOD, "Detail": '{"k":"' + "\u00e9" * 524_273 + '"}'}],  # 16 + 5 + 8 + 1,048,546
        _results(None),
    ),
    _case(
        "one letter more",
        _SIZE,
        [{**GOOD, "Detail": '{"k":"' + "\u00e9" * 524_274 + '"}'}],
        _OVER,
    ),
)
"""Calls at the limit of bytes, and one byte to each side of it."""

SILENTLY_DROPPED: tuple[Case, ...] = (
    _case(
        "a bus that does not exist",
        "test_put_events_nonexistent_event_bus, validated on AWS (LocalStack)",
        [{**GOOD, "EventBusName": "no-such-bus"}],
        _results(None),
    ),
    _case(
        "129 characters of DetailType",
        "segmentio/action-destinations#2828 on GitHub",
        [{**GOOD, "DetailType": "t" * 129}],
        _results(None),
    ),
)
"""Calls that AWS answers with success, and drops the events of."""

MEMBER_LIMITS: tuple[tuple[str, int], ...] = (
    ("DetailType", 128),
    ("EventBusName", 1600),
    ("TraceHeader", 500),
    ("Resources", 2048),  # of each resource
)
"""Members and their most characters (_ENTRY)."""

BUSES: tuple[tuple[str, bool], ...] = (
    ("default", True),
    ("my.bus-1_A", True),
    ("arn:aws:events:eu-west-1:123456789012:event-bus/orders", True),
    ("arn:aws-us-gov:events:us-gov-west-1:123456789012:event-bus/orders", True),
    ("arn:aws-cn:events:cn-north-1:123456789012:event-bus/orders", True),
    ("", False),
    ("my bus", False),
    ("bus\n", False),
    ("b\u00fcs", False),
    ("aws.partner/example.com/1", False),
    ("arn:aws:events:eu-west-1:12345678901:event-bus/orders", False),
    ("arn:aws:events:eu-west-1:123456789012:rule/orders", False),
    ("arn:aws:sqs:eu-west-1:123456789012:event-bus/orders", False),
)
"""Values of EventBusName, and whether they match its pattern (_ENTRY)."""

ENTRY_CODES: tuple[tuple[str, str], ...] = (
    ("InternalFailure", "retry"),
    ("ThrottlingException", "retry"),
    ("AccessDeniedException", "rejected"),
    ("InvalidAccountIdException", "rejected"),
    ("InvalidArgument", "rejected"),
    ("MalformedDetail", "rejected"),
    ("NotAuthorizedForDetailTypeException", "rejected"),
    ("NotAuthorizedForSourceException", "rejected"),
    ("RedactionFailure", "rejected"),
    ("BrandNewFailure", "retry"),  # in no list: nothing is known of it
)
"""Codes of entries (_RESULT, ErrorCode: retryable and non-retryable errors), and what they mean."""


def _answer(name: str, count: int, body: bytes, means: list[str] | None) -> Answer:
    return {"name": name, "page": _RESULT, "count": count, "body": body, "means": means}


_ID = b'{"EventId":"11710aed-b79e-4468-a20b-bb3c0c3b4860"}'
_FAILED = b'{"ErrorCode":"InternalFailure","ErrorMessage":"oops"}'
_BAD = b'{"ErrorCode":"MalformedDetail","ErrorMessage":"Detail is malformed."}'

ANSWERS: tuple[Answer, ...] = (
    {
        "name": "the sample response",
        "page": "CloudWatch Events API reference, PutEvents, Sample Response",
        "count": 2,
        "body": b"""{
    "FailedEntryCount": 0,
    "Entries": [
        {"EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860"},
        {"EventId": "d804d26a-88db-4b66-9eaf-9a11c708ae82"}
    ]
}""",
        "means": ["delivered", "delivered"],
    },
    _answer(
        "some failed, in the order of the request",
        4,
        b'{"FailedEntryCount":2,"Entries":[%b,%b,%b,%b]}' % (_ID, _FAILED, _ID, _BAD),
        ["delivered", "retry", "delivered", "rejected"],
    ),
    _answer(
        "all failed", 2, b'{"FailedEntryCount":2,"Entries":[%b,%b]}' % (_FAILED, _BAD), ["retry", "rejected"]
    ),
    _answer("without the count", 1, b'{"Entries":[%b]}' % _ID, ["delivered"]),
    _answer("the count is null", 1, b'{"FailedEntryCount":null,"Entries":[%b]}' % _ID, ["delivered"]),
    _answer("the count says too little", 1, b'{"FailedEntryCount":0,"Entries":[%b]}' % _FAILED, ["retry"]),
    _answer(
        "an entry without id and code",
        2,
        b'{"FailedEntryCount":1,"Entries":[{},%b]}' % _ID,
        ["retry", "delivered"],
    ),
    _answer(
        "an id and a code: it failed",
        1,
        b'{"FailedEntryCount":1,"Entries":[{"EventId":"x","ErrorCode":"InternalFailure"}]}',
        ["retry"],
    ),
    _answer(
        "more failures counted than shown", 2, b'{"FailedEntryCount":1,"Entries":[%b,%b]}' % (_ID, _ID), None
    ),
    _answer("one result too few", 2, b'{"FailedEntryCount":0,"Entries":[%b]}' % _ID, None),
    _answer("one result too many", 1, b'{"FailedEntryCount":0,"Entries":[%b,%b]}' % (_ID, _ID), None),
    _answer("no results", 1, b'{"FailedEntryCount":0,"Entries":[]}', None),
    _answer("an empty object", 1, b"{}", None),
    _answer("null instead of results", 1, b'{"FailedEntryCount":0,"Entries":null}', None),
    _answer("an object instead of results", 1, b'{"FailedEntryCount":0,"Entries":{}}', None),
    _answer("a result that is no object", 1, b'{"FailedEntryCount":0,"Entries":[null]}', None),
    _answer("an answer of another API", 1, b'{"failedEventCount":0,"eventResults":[{"eventId":"x"}]}', None),
)
"""200 answers."""

ERRORS: tuple[Error, ...] = (
    {
        "name": "the one error of the operation",
        "page": _API + ", Errors",
        "status": 500,
        "headers": {"Content-Type": "application/x-amz-json-1.1"},
        "body": b'{"__type":"InternalException","message":"unexpected causes"}',
        "code": "InternalException",
        "message": "unexpected causes",
        "means": "unavailable",
    },
    {
        "name": "over the limit",
        "page": _RECORDED,
        "status": 400,
        "headers": {"Content-Type": "application/x-amz-json-1.1"},
        "body": (
            b'{"__type":"ValidationException",'
            b'"message":"Total size of the entries in the request is over the limit."}'
        ),
        "code": "ValidationException",
        "message": "Total size of the entries in the request is over the limit.",
        "means": "refused",
    },
)
"""Errors of the call beside the common ones."""
