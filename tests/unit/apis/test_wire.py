from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.apis import wire
from forwarder.apis.codes import CALL_CODES, PUT_EVENTS
from forwarder.model import CallStatus
from tests.aws_cases import (
    Error,
    common_errors,
    put_events,
    put_project_events,
    put_rum_events,
)

ROOT = Path(__file__).parents[3]
few = settings(max_examples=50, deadline=None)

ERRORS = (
    *common_errors.ERRORS,
    *common_errors.SHAPES,
    *put_events.ERRORS,
    *put_rum_events.ERRORS,
    *put_project_events.ERRORS,
)
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: error["name"])


@each_error
def test_an_error_answer_gives_its_code_and_message(error: Error) -> None:
    said = wire.error_code(error["body"], error["headers"], error["status"])
    assert said == (error["code"], error["message"])


@each_error
def test_a_call_refused_becomes_what_is_to_be_done(error: Error) -> None:
    assert wire.call_status(error["code"], error["status"]) == error["means"]


def test_every_code_of_the_sdks_throttle_list_is_a_throttle_whatever_the_status() -> None:
    standard = pytest.importorskip("botocore.retries.standard")
    for code in standard.ThrottledRetryableChecker._THROTTLED_ERROR_CODES:
        assert wire.call_status(code, 400) is CallStatus.THROTTLED, code


@pytest.mark.parametrize("status", [0, 200, 400, 408, 409, 500, 502, 503, 504, 599])
def test_a_status_that_tells_nothing_means_retry(status: int) -> None:
    assert wire.call_status("NeverHeardOf", status) is CallStatus.UNAVAILABLE


def test_only_the_word_about_the_call_itself_refuses_it() -> None:
    refusing = {code for code, status in CALL_CODES.items() if status is CallStatus.REFUSED}
    assert refusing == {
        "ValidationException",
        "ValidationError",
        "SerializationException",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "PayloadTooLargeException",
    }


def test_an_error_body_is_read_back_by_code_and_message() -> None:
    body = wire.error_body("ValidationException", 'a "quoted" word, \u00e9')
    assert json.loads(body) == {"__type": "ValidationException", "message": 'a "quoted" word, \u00e9'}


@given(st.binary(max_size=40), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
@few
def test_no_answer_breaks_the_reader_of_errors(body: bytes, headers: dict[str, str]) -> None:
    code, _ = wire.error_code(body, headers, 500)
    assert code


@pytest.mark.parametrize("body", [b'{"__type":1}', b'{"__type":":"}', b'{"__type":[]}', b"\xff", b"[" * 5000])
def test_an_odd_answer_has_a_code_all_the_same(body: bytes) -> None:
    code, _ = wire.error_code(body, {}, 500)
    assert code in ("1", "500")


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "MalformedDetail",
        "RedactionFailure",
        "ConflictException",
        "timeout",
        "connection",
        "wrong_shape",
        "413",
        "503",
        "other",
    ],
)
def test_a_known_code_is_a_label_as_it_is(code: str) -> None:
    assert PUT_EVENTS.known(code) == code


@pytest.mark.parametrize("code", ["", "Surprise", "throttlingexception", "999", "ThrottlingException "])
def test_any_other_code_is_other(code: str) -> None:
    assert PUT_EVENTS.known(code) == "other"


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": "3"}, 3.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "86400"}, 300.0),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"X-Amz-Retry-After": "1500", "Retry-After": "9"}, 1.5),
        ({"x-amz-retry-after": "9999999"}, 300.0),
        ({"x-amz-retry-after": "soon", "Retry-After": "9"}, 9.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        (
            {"Date": "Sat, 21 Nov 2026 08:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 08:00:30 GMT"},
            30.0,
        ),
        (
            {"Date": "Sat, 21 Nov 2026 08:00:00 GMT", "Retry-After": "Sat, 21 Nov 2026 07:00:00 GMT"},
            0.0,
        ),
        (
            {"Date": "Sat, 21 Nov 2026 08:00:00 GMT", "Retry-After": "Sun, 22 Nov 2026 08:00:00 GMT"},
            300.0,
        ),
        ({"Retry-After": "Sat, 21 Nov 2026 08:00:30 GMT"}, None),
        ({"Date": "today", "Retry-After": "Sat, 21 Nov 2026 08:00:30 GMT"}, None),
    ],
)
def test_an_answer_asks_for_a_delay(headers: dict[str, str], delay: float | None) -> None:
    assert wire.retry_delay(headers) == delay


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (1767323045, 1767323045.0),
        (1767323045.678, 1767323045.678),
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.500Z", 1767323045.5),
        ("2026-01-02T05:04:05+02:00", 1767323045.0),
        ("2026-01-02T03:04:05", 1767323045.0),
        ("2026-01-02", 1767312000.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
        (253402300799, 253402300799.0),
    ],
)
def test_a_time_is_seconds_of_the_epoch_or_iso_8601(value: int | float | str, seconds: float) -> None:
    assert wire.parse_time(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        253402300800,
        1767323045678,
        10**400,
        float("nan"),
        float("inf"),
        float("-inf"),
        True,
        "",
        "now",
        "1767323045",
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+23:59",
        "2026-13-01",
    ],
)
def test_anything_else_is_no_time(value: int | float | str) -> None:
    with pytest.raises(ValueError, match=r"neither|between"):
        wire.parse_time(value)


def test_a_time_that_is_a_number_stays_the_number_it_was() -> None:
    assert [type(wire.time_number(value)) for value in (1, 1.5, "2026-01-02T03:04:05Z")] == [int, float, int]


@pytest.mark.parametrize(
    ("authorization", "region"),
    [
        (
            "AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/events/aws4_request, SignedHeaders=host, "
            "Signature=17aa",
            "eu-west-1",
        ),
        (
            "AWS4-HMAC-SHA256 SignedHeaders=host,Credential=A/20261121/us-gov-west-1/rum/aws4_request",
            "us-gov-west-1",
        ),
        ("AWS4-ECDSA-P256-SHA256 Credential=AKID/20261121/events/aws4_request", None),
        ("Bearer eu-west-1", None),
        ("", None),
    ],
)
def test_a_signature_names_the_region_it_was_made_for(authorization: str, region: str | None) -> None:
    assert wire.region_of_scope(authorization) == region


@pytest.mark.parametrize(
    ("arn", "region"),
    [
        ("arn:aws:events:eu-west-1:123456789012:event-bus/orders", "eu-west-1"),
        (put_project_events.ARN, "us-east-1"),
        ("arn:aws:s3:::bucket", None),
        ("orders", None),
        ("arn:aws:events", None),
        ("a:b:c:d:e:f", None),
    ],
)
def test_an_arn_names_its_region(arn: str, region: str | None) -> None:
    assert wire.region_of_arn(arn) == region


# --- JSON objects in strings: the judge is the json module, made strict


def is_object(text: str) -> bool:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


NEARLY_JSON = st.text(alphabet='{}[]",:\\u08dDeEtrfalsn1.+- \t\n\x01\u00e9\U0001f600', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.booleans())
@few
def test_every_object_is_one(value: dict[str, Any], ascii_only: bool) -> None:
    assert wire.is_json_object(json.dumps(value, ensure_ascii=ascii_only))


@given(st.dictionaries(st.text(), VALUES, max_size=2).map(json.dumps), st.data())
@settings(max_examples=200, deadline=None)
def test_a_text_is_an_object_exactly_when_it_is_json_and_one(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 3)))
    broken = text[:start] + data.draw(NEARLY_JSON) + text[end:]
    assert wire.is_json_object(broken) == is_object(broken)


@pytest.mark.parametrize(
    "text",
    ['{"a":"\\ud83d"}', '{"\\uDE00":"\\ud83d\\ud83d"}', '{"a":"\\\\\\ud83d"}', '{"a":"\\\\ud83d\\ud83d"}'],
)
def test_half_a_surrogate_pair_is_json(text: str) -> None:
    assert is_object(text)
    assert wire.is_json_object(text)


@pytest.mark.parametrize("text", ['{"a":"\\ud83d"', '{"a":"\\\\\\\\ud83"x}', '["\\ud83d"]'])
def test_half_a_surrogate_pair_excuses_nothing_else(text: str) -> None:
    assert not wire.is_json_object(text)


@pytest.mark.parametrize("text", ["{}", " {} ", '{"a":1e999}', '{"a":' + "9" * 400 + "}", '{"a":1,"a":2}'])
def test_what_json_allows_is_allowed(text: str) -> None:
    assert wire.is_json_object(text)


@pytest.mark.parametrize("text", ["", " ", "\ufeff{}", "{}\x00", "{}{}", "\x0b{}", '{"a":01}', '{"a":"\t"}'])
def test_what_json_forbids_is_forbidden(text: str) -> None:
    assert not wire.is_json_object(text)


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.fixture
def much_stack() -> Iterator[None]:
    """Room on the interpreter's stack, so that our own limit is the one that counts."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.usefixtures("much_stack")
@pytest.mark.parametrize(("depth", "good"), [(999, True), (1000, True), (1001, False)])
def test_a_thousand_levels_are_the_limit(depth: int, good: bool) -> None:
    assert wire.is_json_object(nested(depth)) == good
    assert wire.is_json_object(nested(depth).replace("1", '"\\ud83d"')) == good
    assert wire.object_text(RAW.decode(nested(depth))) == (nested(depth) if good else None)
    assert wire.is_json_object('{"b":[[],[]],"a":' + nested(depth - 1) + "}") == good


@pytest.mark.parametrize(("depth", "good"), [(999, True), (1000, True), (1001, False)])
def test_a_thousand_levels_of_text_need_no_more_stack_than_there_is(depth: int, good: bool) -> None:
    before = sys.getrecursionlimit()
    assert wire.is_json_object(nested(depth)) == good
    assert wire.is_json_object(nested(depth).replace("1", '"\\ud83d"')) == good
    assert not wire.is_json_object(nested(depth)[:-1])
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize("depth", [1001, 5000, 200_000])
def test_more_than_a_thousand_levels_are_too_deep(depth: int) -> None:
    assert not wire.is_json_object(nested(depth))
    assert not wire.is_json_object('{"a":' + "[" * depth + "]" * depth + "}")


def test_many_brackets_that_are_not_deep_are_no_matter() -> None:
    assert wire.is_json_object(nested(500))
    assert wire.is_json_object('{"a":[' + ",".join(["{}"] * 5000) + "]}")
    assert wire.is_json_object('{"a":"' + "{[" * 5000 + '\\"[["}')


# --- JSON objects as objects or as strings

RAW = msgspec.json.Decoder(msgspec.Raw)


@given(st.dictionaries(st.text(), VALUES, max_size=3))
@few
def test_an_object_and_its_text_are_the_same(value: dict[str, Any]) -> None:
    text = json.dumps(value)
    assert wire.object_text(RAW.decode(text)) == text
    assert wire.object_text(RAW.decode(json.dumps(text))) == text


@pytest.mark.parametrize("body", ["null", "1", "[]", '""', '"[]"', '"null"', '"{"', "true", '"{}x"'])
def test_what_is_neither_an_object_nor_the_text_of_one_is_none(body: str) -> None:
    assert wire.object_text(RAW.decode(body)) is None


def test_an_object_that_is_not_utf_8_is_none() -> None:
    assert wire.object_text(msgspec.Raw(b'{"a":"\xff"}')) is None


def test_equal_keys_are_one_object_and_the_memory_of_them_is_bounded() -> None:
    first = wire.interned(b"key" * 10)
    assert wire.interned(bytes(bytearray(first))) is first
    for i in range(25_000):
        wire.interned(b"%d" % i)
    assert len(wire._keys) <= 10_000
    for i in range(100):
        assert wire.interned(b"%d" % i * 100_000) == b"%d" % i * 100_000
    assert sum(map(len, wire._keys)) < 10_000 * 1024, "whatever senders make of them"


ODD = r"""
from forwarder.apis.wire import is_json_object, region_of_scope
quotes = '\\"' * 400_000
for text in ('{"a":' * 1100 + '"' + quotes, '{"a":' * 1100 + '"' + quotes + "\\", '"' * 800_000):
    assert not is_json_object(text)
    assert not is_json_object("[" * 2000 + text)
assert region_of_scope("Credential=" * 100_000) is None
assert region_of_scope("Credential=a/20261121/" * 50_000) is None
"""


def test_no_text_however_odd_takes_more_time_than_its_length() -> None:
    """It took hours: a string without an end, deeper than the parser goes, was searched from every quote."""
    subprocess.run([sys.executable, "-c", ODD], check=True, timeout=60, cwd=ROOT)
