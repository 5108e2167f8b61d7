"""Signatures: what botocore signed is let in, and nothing that differs from it by a bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from forwarder.ingest.auth.access_keys import AccessKey
from forwarder.ingest.auth.errors import AuthError
from forwarder.ingest.auth.signature import Request, believed, check_body, check_head, claim_of
from tests.support.signing import (
    BODY,
    HOST,
    JSON_1_1,
    KEY_ID,
    SECRET,
    SESSION_TOKEN,
    by_header,
    by_query,
)

KEYS = {KEY_ID: AccessKey("shop", SECRET)}
TEMPORARY = {KEY_ID: AccessKey("shop", SECRET, SESSION_TOKEN)}
SKEW = 300.0
ARN = "arn%3Aaws%3Aevidently%3Aeu-west-1%3A123456789012%3Aproject%2Fshop"
FORMS: dict[str, Callable[[], Request]] = {
    "header": by_header,
    "header with the body's hash": lambda: by_header(says_hash=True),
    "header with a session token": lambda: by_header(session_token=SESSION_TOKEN),
    "header and a query": lambda: by_header(f"http://{HOST}/base/path/?b=2&a=1%20x&a=0&c"),
    "query": by_query,
    "query without the body's hash": lambda: by_query(says_hash=False),
    "query with a session token": lambda: by_query(session_token=SESSION_TOKEN),
}


def reason(request: Request, body: bytes = BODY, service: str = "", after: float = 0.0) -> str:
    """Why it is not let in; "" when it is. ``after``: seconds by which our clock is ahead."""
    token = "ecurity-" in str(request.headers) + request.query
    try:
        claim = claim_of(request)
        if claim is None:
            return "missing"
        now = time.time() + after
        key = check_head(claim, request, TEMPORARY if token else KEYS, service, now, SKEW)
        check_body(claim, request, key, body)
    except AuthError as problem:
        return problem.reason
    return ""


@pytest.mark.parametrize("form", FORMS)
def test_what_botocore_signed_is_let_in(form: str) -> None:
    assert reason(FORMS[form]()) == ""


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/base/path/",
        f"/events/projects/{ARN}",
        "/appmonitors/00000000-0000-4000-8000-0000000000aa/",
        "/a//b/./c/../d",
        "/~user/a+b(c)",
    ],
)
def test_any_path_that_botocore_signs_is_let_in(path: str) -> None:
    assert reason(by_header(f"http://{HOST}{path}")) == ""


def test_a_header_with_many_spaces_is_let_in_as_aws_does() -> None:
    assert reason(by_header(headers={**JSON_1_1, "X-Note": "  a   b  "})) == ""


def flipped(data: bytes) -> Iterator[bytes]:
    """Every neighbour of these bytes: one bit different."""
    for place in range(len(data)):
        for bit in range(8):
            other = bytearray(data)
            other[place] ^= 1 << bit
            yield bytes(other)


def texts(text: str) -> Iterator[str]:
    for data in flipped(text.encode()):
        yield data.decode("utf-8", "surrogateescape")


def headers_with(request: Request, name: str, value: str) -> Request:
    headers = CIMultiDict(request.headers)
    headers[name] = value
    return request._replace(headers=CIMultiDictProxy(headers))


def named(request: Request, name: str, other: str) -> Request:
    headers = [(other if each == name else each, value) for each, value in request.headers.items()]
    return request._replace(headers=CIMultiDictProxy(CIMultiDict(headers)))


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_anywhere_in_the_head_is_refused(form: str) -> None:
    signed = FORMS[form]()
    tried = 0
    for method in texts(signed.method):
        assert reason(signed._replace(method=method)), method
    for path in texts(signed.path):
        assert reason(signed._replace(path=path)), path
    for query in texts(signed.query):
        assert reason(signed._replace(query=query)), query
    for name, value in signed.headers.items():
        for other in texts(value):
            assert reason(headers_with(signed, name, other)), (name, other)
            tried += 1
        for other in texts(name):
            if other.lower() != name.lower():  # names of headers are the same in any case
                assert reason(named(signed, name, other)), (name, other)
    assert tried > 200


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_anywhere_in_the_body_is_refused(form: str) -> None:
    signed = FORMS[form]()
    for body in (*flipped(BODY), b"", BODY[:-1], BODY + b" "):
        assert reason(signed, body) in ("payload", "signature")


def without(request: Request, name: str) -> Request:
    headers = CIMultiDict(request.headers)
    headers.popall(name)
    return request._replace(headers=CIMultiDictProxy(headers))


def edited(request: Request, old: str, new: str) -> Request:
    text = request.headers.get("Authorization", "")
    if text:
        assert old in text
        return headers_with(request, "Authorization", text.replace(old, new))
    assert old in request.query
    return request._replace(query=request.query.replace(old, new))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: without(by_header(), "Authorization"), "missing"),
        (lambda: without(by_header(), "X-Amz-Date"), "malformed"),
        (lambda: without(by_header(), "Host"), "signature"),
        (lambda: edited(by_header(), ", SignedHeaders", " SignedHeaders"), "malformed"),
        (lambda: edited(by_header(), "Signature=", "Signature=0"), "malformed"),
        (lambda: edited(by_header(), "/aws4_request", "/aws4_reques"), "malformed"),
        (lambda: edited(by_header(), KEY_ID, "AKIDOTHER"), "unknown"),
        (lambda: edited(by_header(), "eu-west-1", "eu-west-2"), "signature"),
        (lambda: edited(by_header(), "/events/", "/event/"), "scope"),
        (lambda: edited(by_header(), ";x-amz-target", ""), "signature"),
        (lambda: edited(by_header(), ";host", ""), "signature"),
        (lambda: by_header(secret="another"), "signature"),
        (lambda: by_header()._replace(query=by_query().query), "malformed"),
        (lambda: edited(by_query(), "X-Amz-Expires=60", "X-Amz-Expires=61"), "signature"),
        (lambda: edited(by_query(), "X-Amz-Expires=60", "X-Amz-Expires=-1"), "malformed"),
        (lambda: edited(by_query(), "X-Amz-Expires=60", "X-Amz-Expires=604801"), "malformed"),
        (lambda: edited(by_query(), "&X-Amz-Expires=60", ""), "malformed"),
        (lambda: edited(by_query(), "&X-Amz-Expires=60", "&X-Amz-Expires=60&X-Amz-Expires=60"), "malformed"),
        (lambda: edited(by_query(), "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "malformed"),
    ],
)  # fmt: skip
def test_each_way_to_be_wrong_has_its_reason(change: Callable[[], Request], expected: str) -> None:
    request = change()
    assert (
        reason(
            request,
            service="rum"
            if request.query.startswith("X-") and "Authorization" not in request.headers
            else "events",
        )
        == expected
    )


def test_a_header_of_aws_that_was_not_signed_is_refused() -> None:
    assert reason(headers_with(by_header(), "X-Amz-Other", "1")) == "signature"


def test_a_second_header_of_a_signed_name_is_refused() -> None:
    signed = by_header()
    headers = CIMultiDict(signed.headers)
    headers.add("X-Amz-Target", "AWSEvents.Other")
    assert reason(signed._replace(headers=CIMultiDictProxy(headers))) == "signature"


def test_headers_that_are_not_signed_may_be_anything() -> None:
    assert reason(headers_with(by_header(), "User-Agent", "\udcff")) == ""


@pytest.mark.parametrize("value", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_a_body_that_was_not_signed_is_refused(value: str) -> None:
    assert reason(by_header(headers={**JSON_1_1, "X-Amz-Content-SHA256": value})) == "payload"


def test_the_hash_of_another_body_is_refused() -> None:
    other = sha256(b"other").hexdigest()
    assert reason(by_header(headers={**JSON_1_1, "X-Amz-Content-SHA256": other})) == "payload"


@pytest.mark.parametrize(
    ("after", "expected"),
    [(SKEW - 3, ""), (SKEW + 3, "clock"), (-SKEW + 3, ""), (-SKEW - 3, "clock"), (86400.0, "clock")],
)
def test_the_clocks_may_differ_by_the_skew(after: float, expected: str) -> None:
    assert reason(by_header(), after=after) == expected


@pytest.mark.parametrize(("after", "expected"), [(57.0, ""), (63.0, "clock"), (-SKEW - 3, "clock")])
def test_a_presigned_url_ends_when_it_says(after: float, expected: str) -> None:
    assert reason(by_query(expires=60), after=after) == expected


def test_a_presigned_url_may_outlive_the_skew() -> None:
    assert reason(by_query(expires=3600), after=3590.0) == ""


@pytest.mark.parametrize("signed", [by_header, by_query])
def test_a_session_token_must_be_the_one_of_its_key(signed: Callable[..., Request]) -> None:
    for keys, token in ((KEYS, SESSION_TOKEN), (TEMPORARY, None), (TEMPORARY, "another")):
        request = signed(session_token=token)
        claim = claim_of(request)
        assert claim is not None
        with pytest.raises(AuthError) as caught:
            check_head(claim, request, keys, "", time.time(), SKEW)
        assert caught.value.reason == "unknown"


@pytest.mark.parametrize(
    "time", ["20261301T000000Z", "20260001T000000Z", "20260101T240000Z", "00000101T000000Z", "x"]
)
def test_a_time_that_is_none_is_refused(time: str) -> None:
    assert reason(headers_with(by_header(), "X-Amz-Date", time)) == "malformed"


def added(request: Request, **headers: str) -> Request:
    """The signed request with headers that somebody on the way added."""
    both = CIMultiDict(request.headers)
    for name, value in headers.items():
        both[name.replace("_", "-")] = value
    return request._replace(headers=CIMultiDictProxy(both))


@pytest.mark.parametrize(
    "header",
    [
        {"ce_type": "changed"},
        {"CE_Source": "/changed"},
        {"ce_anything": "1"},
        {"Idempotency_Key": "claimed"},
        {"Content_Encoding": "gzip"},
        {"X_Amz_Target": "AWSEvents.Other"},
    ],
)
def test_a_header_that_decides_must_be_signed(header: dict[str, str]) -> None:
    assert reason(added(by_header(), **header)) == "signature"


@pytest.mark.parametrize(
    "headers",
    [
        {"ce-type": "order", "ce-id": "1"},
        {"Idempotency-Key": "mine"},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity"},
    ],
)
def test_a_signed_header_that_decides_is_let_in(headers: dict[str, str]) -> None:
    signed = by_header(headers={**JSON_1_1, **headers})
    assert reason(signed) == ""
    for name in headers:
        assert reason(headers_with(signed, name, "changed")) == "signature"


@pytest.mark.parametrize("name", ["ce-subject", "CE-Unknown", "Idempotency-Key", "X-Amz-Note"])
def test_a_signed_header_that_was_cut_into_two_is_refused(name: str) -> None:
    """Both have the same canonical form, and not the same meaning."""
    signed = by_header(headers={**JSON_1_1, name: "a,b"})
    assert reason(signed) == ""
    headers = CIMultiDict(signed.headers)
    del headers[name]
    headers.extend([(name, "a"), (name.title(), "b")])
    assert reason(signed._replace(headers=CIMultiDictProxy(headers))) == "signature"


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\x85", "\x1f", "\x0b"])
def test_only_spaces_and_tabs_are_alike_in_a_signed_header(space: str) -> None:
    signed = by_header(headers={**JSON_1_1, "ce-subject": "a b"})
    assert reason(headers_with(signed, "ce-subject", "a \t b")) == ""
    assert reason(headers_with(signed, "ce-subject", f"a{space}b")) == "signature"


def test_identity_as_an_encoding_needs_no_signature() -> None:
    assert reason(added(by_header(), Content_Encoding="identity")) == ""


def test_what_is_added_on_the_way_is_neither_refused_nor_believed() -> None:
    names = ["Prefer", "traceparent", "tracestate", "baggage", "X-Amzn-Trace-Id"]
    request = added(by_header(), **dict.fromkeys(names, "wait=9"))
    assert reason(request) == ""
    claim = claim_of(request)
    assert claim is not None
    assert not {name.lower() for name in believed(claim, request.headers)} & set(map(str.lower, names))


@pytest.mark.parametrize("name", ["Prefer", "traceparent"])
def test_what_was_signed_of_it_is_believed(name: str) -> None:
    request = by_header(headers={**JSON_1_1, name: "given"})
    claim = claim_of(request)
    assert claim is not None
    if name.lower() in claim.signed_headers.split(";"):  # botocore never signs traceparent
        assert believed(claim, request.headers).get(name) == "given"
    else:
        assert name not in believed(claim, request.headers)


@pytest.mark.parametrize(
    ("content_type", "more", "stays"),
    [
        ("application/x-ndjson", {}, True),
        ("application/cloudevents+json; charset=utf-8", {}, True),
        ("application/cloudevents-batch+json", {}, True),
        ("application/cloudevents+json", {"ce-id": "1"}, False),
        ("application/json", {}, False),
        ("text/plain", {"ce-id": "1"}, False),
    ],
)
def test_an_unsigned_content_type_is_believed_where_the_body_has_one_reading(
    content_type: str, more: dict[str, str], stays: bool
) -> None:
    request = added(by_header(headers=more), Content_Type=content_type)
    claim = claim_of(request)
    assert claim is not None
    assert "content-type" not in claim.signed_headers
    assert reason(request) == ""
    assert ("Content-Type" in believed(claim, request.headers)) is stays
