"""The fast call path. Its signatures are judged by botocore's signer, its results by the plain path's."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
import structlog
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.model import CallStatus, Kind, Outcome, Results
from forwarder.targets import fast_path
from forwarder.targets.client import AwsClient
from forwarder.targets.eventbridge import EventBridgeOptions
from forwarder.targets.fast_path import FastPath, Form, Signer
from forwarder.targets.session import rehearsal
from forwarder.targets.sources import Keys
from tests.support.certificates import self_signed
from tests.support.fake_aws import (
    Answer,
    Call,
    FakeAws,
    aws_environment,
    fails,
    fake_aws,
    says,
    set_credentials,
)

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

OK = says(200, {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})
MIDNIGHT = 1_798_761_600
BODY = b'{"Entries":[{"Source":"s","DetailType":"t","Detail":"{}"}]}'
SERVICES = [
    ("events", "PutEvents", {}),
    ("rum", "PutRumEvents", {"Id": "00000000-0000-4000-8000-0000000000aa"}),
    ("evidently", "PutProjectEvents", {"project": "shop"}),
]
ODD_NAMES = [
    "a b",
    "a/b",
    "ü",
    "a%2Fb",
    "~a-b_c.d",
    "(a)!*'",
    "a//b",
    "..",
    ".",
    "a?b=c",
    "a#b",
    "a&b+c",
    "a:b@c",
]


# --- the judge


@contextmanager
def at(second: int) -> Iterator[None]:
    now = datetime.datetime.fromtimestamp(second, datetime.UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        yield


def judged(
    url: str, headers: dict[str, str], body: bytes, second: int, keys: ReadOnlyCredentials, scope: list[str]
) -> str:
    """botocore's Authorization for this request."""
    request = AWSRequest("POST", url, headers, body)
    with at(second):
        SigV4Auth(keys, scope[1], scope[0]).add_auth(request)
    authorization: str = request.headers["Authorization"]
    return authorization


def judge(call: Call, url: str, keys: ReadOnlyCredentials) -> None:
    """Compare the signature of a request that arrived with botocore's of the same request."""
    said, moment = call.headers["authorization"], call.headers["x-amz-date"]
    scope = said.split("Credential=")[1].split(",")[0].split("/")[2:4]
    signed = said.split("SignedHeaders=")[1].split(",")[0].split(";")
    own = {"host", "x-amz-date", "x-amz-security-token"}
    headers = {name: call.headers[name] for name in signed if name not in own}
    at_ = datetime.datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    second = int(at_.timestamp())
    assert said == judged(url + call.path, headers, call.body, second, keys, scope)
    assert call.headers.get("x-amz-security-token") == keys.token


KEYS = ReadOnlyCredentials("AKIDEXAMPLE", "secret", None)

names = st.text("abcXYZ019-._~ %/:&=+ü", min_size=1, max_size=30)
tokens = st.none() | st.text("abcXYZ019+/=", min_size=1, max_size=50)


@settings(deadline=None, database=None)
@given(names, st.binary(max_size=200), tokens, st.integers(0, 4_000_000_000), st.booleans())
def test_a_signature_is_botocores(name: str, body: bytes, token: str | None, second: int, more: bool) -> None:
    url = f"https://dataplane.rum.eu-west-1.amazonaws.com/appmonitors/{quote(name, safe='-._~/')}"
    headers = {"Content-Type": "application/x  json ", **({"X-Amz-Target": "Events.Put"} if more else {})}
    keys = ReadOnlyCredentials("AKID", "sec/ret+", token)
    signed = {key.lower(): value for key, value in headers.items()}
    signed["host"] = "dataplane.rum.eu-west-1.amazonaws.com"
    signer = Signer(Form(url, "eu-west-1", "rum", headers, signed), keys)
    for moment in (second, second, second + 1, second + 86_400):
        ours = signer.headers(moment, body)["Authorization"]
        assert ours == judged(url, headers, body, moment, keys, ["eu-west-1", "rum"])


# --- calls


@asynccontextmanager
async def client(
    fake_url: str, service: str = "events", wall: Any = None, **options: Any
) -> AsyncIterator[AwsClient]:
    made = EventBridgeOptions(
        **{"region": "eu-west-1", "endpoint_url": fake_url, "transport": "fast", **options}
    )
    aws = AwsClient(service, made, 1, "under-test", *([wall] if wall else []))
    try:
        yield aws
    finally:
        await aws.close()


def delivered(answer: Any, count: int) -> list[Outcome]:
    return [Outcome(Kind.DELIVERED)] * count


async def put(aws: AwsClient, body: bytes = BODY) -> Results:
    return await aws.call("PutEvents", {}, 1, delivered, body)


@pytest.mark.parametrize("token", [None, "to/ken+=="])
@pytest.mark.parametrize(("service", "operation", "params"), SERVICES)
async def test_calls_of_every_service_are_signed_as_botocore_would(
    monkeypatch: pytest.MonkeyPatch, service: str, operation: str, params: dict[str, str], token: str | None
) -> None:
    if token is not None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with fake_aws(says(200, {})) as fake, client(fake.url, service) as aws:
        for body in (BODY, b'{"other":"\xc3\xbc"}'):
            results = await aws.call(operation, params, 1, delivered, body)
            assert results.status is CallStatus.OK
        assert [call.body for call in fake.calls] == [BODY, b'{"other":"\xc3\xbc"}']
        for call in fake.calls:
            judge(call, fake.url, KEYS._replace(token=token))


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_go_where_the_sdk_sends_them_and_are_signed_alike(name: str) -> None:
    async def paths(fake: FakeAws, transport: str) -> list[str]:
        async with client(fake.url, "evidently", transport=transport) as aws:
            for _ in range(2):
                await aws.call("PutProjectEvents", {"project": name}, 1, delivered, b'{"events":[]}')
            assert aws.transport == transport
        return [call.path for call in fake.calls]

    async with fake_aws(says(200, {})) as fast, fake_aws(says(200, {})) as plain:
        assert await paths(fast, "fast") == await paths(plain, "plain")
        for call in fast.calls:
            judge(call, fast.url, KEYS)


async def test_the_key_of_a_day_signs_no_other() -> None:
    now = [float(MIDNIGHT - 1)]
    async with fake_aws(OK) as fake, client(fake.url, wall=lambda: now[0]) as aws:
        for moment in (MIDNIGHT - 0.1, MIDNIGHT, MIDNIGHT + 0.9, MIDNIGHT - 1):
            now[0] = moment
            await put(aws)
        for call in fake.calls:
            judge(call, fake.url, KEYS)
    assert [call.headers["x-amz-date"][:8] for call in fake.calls] == [
        "20261231",
        "20270101",
        "20270101",
        "20261231",
    ]


async def test_refreshed_credentials_sign_the_next_call() -> None:
    async with fake_aws(OK) as fake, client(fake.url) as aws:
        await put(aws)
        for key, token in (("AKIDNEW", "token"), ("AKIDNEW", "other"), ("AKIDLAST", None)):
            aws.credentials._take(Keys(key, "secret", token, None, "env", None))
            await put(aws)
            judge(fake.calls[-1], fake.url, ReadOnlyCredentials(key, "secret", token))


async def test_no_header_says_that_two_calls_are_one() -> None:
    async with fake_aws(OK) as fake, client(fake.url) as aws:
        for _ in range(2):
            await put(aws)
    assert not [name for call in fake.calls for name in call.headers if name.startswith("amz-sdk-")]


async def test_headers_are_those_of_the_plain_path() -> None:
    async def headers(transport: str) -> dict[str, str]:
        async with fake_aws(OK) as fake, client(fake.url, transport=transport) as aws:
            await put(aws)
        of_one = ("authorization", "x-amz-date", "host")
        return {n: v for n, v in fake.calls[0].headers.items() if n not in of_one and "amz-sdk" not in n}

    assert await headers("fast") == await headers("plain")


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    endless = says(200, b" " * 3_000_000), says(503, b"x" * 3_000_000)
    async with fake_aws(*endless, OK) as fake, client(fake.url) as aws:
        first, second, third = [await put(aws) for _ in range(3)]
    assert (first.status, first.code) == (CallStatus.UNAVAILABLE, "wrong_shape")
    assert (second.status, second.code) == (CallStatus.UNAVAILABLE, "503")
    assert third.status is CallStatus.OK
    assert len({call.peer for call in fake.calls}) == 3


async def test_an_answer_in_pieces_is_put_together() -> None:
    async def pieces(call: Call) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        for piece in (b'{"Entr', b'ies":[]', b"}"):
            await response.write(piece)
        return response

    seen: list[Any] = []
    async with fake_aws(pieces) as fake, client(fake.url) as aws:
        await aws.call("PutEvents", {}, 1, lambda got, n: seen.append(got) or [], BODY)  # type: ignore[func-returns-value]
    assert seen == [{"Entries": []}]


# --- TLS


@pytest.mark.parametrize("transport", ["fast", "plain"])
async def test_certificates_are_verified_and_a_bundle_of_ones_own_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, transport: str
) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with fake_aws(OK, tls=context) as fake:
        async with client(fake.url, transport=transport) as aws:
            results = await put(aws)
            assert (results.status, results.code) == (CallStatus.HELD, "tls")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        async with client(fake.url, transport=transport) as aws:
            assert (await put(aws)).status is CallStatus.OK
    assert len(fake.calls) == 1


# --- the same words as the plain path


texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8)
bodies = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"null", b"[]", b"[1]", b"<html>", b'{"message":', b"\xff", b"[" * 2000]),
    st.dictionaries(
        st.sampled_from(["__type", "code", "Code", "message", "Message", "Entries"]),
        st.none()
        | st.integers()
        | texts
        | st.lists(texts, max_size=2)
        | st.sampled_from(["ns#ThrottlingException", "ValidationException:http://x", "AccessDenied"]),
        max_size=4,
    ).map(lambda value: json.dumps(value).encode()),
)
codes = st.none() | texts | st.sampled_from(["ThrottlingException", "ns#Unknown:x", "ExpiredToken"])
statuses = st.sampled_from([200, 201, 202, 300, 301, 307, 400, 403, 404, 408, 413, 429, 500, 502, 503, 599])


@pytest.mark.parametrize(("service", "operation", "params"), SERVICES)
async def test_any_answer_is_told_in_the_same_words_on_both_paths(
    service: str, operation: str, params: dict[str, str]
) -> None:
    drawn: list[Answer] = []

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(statuses, codes, bodies, st.sampled_from([None, "3", "soon"]))
    def draw(status: int, code: str | None, body: bytes, wait: str | None) -> None:
        headers = {"x_amzn_ErrorType": code, "Retry_After": wait}
        drawn.append(says(status, body, **{name: value for name, value in headers.items() if value}))

    draw()
    told: dict[str, list[Results]] = {}
    for transport in ("fast", "plain"):
        async with fake_aws(*drawn) as fake, client(fake.url, service, transport=transport) as aws:
            told[transport] = [await aws.call(operation, params, 1, delivered, BODY) for _ in drawn]
    assert told["fast"] == told["plain"]


# --- what is left to the SDK


async def test_the_plain_path_is_taken_and_said_once_where_a_signature_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_path, "normalize_url_path", lambda path: "/elsewhere")
    with structlog.testing.capture_logs() as logs:
        answers = OK, fails(403, "ExpiredToken"), OK
        async with fake_aws(*answers) as fake, client(fake.url, transport="auto") as aws:
            told = [(await put(aws)).status for _ in range(4)]
            assert aws.transport == "plain"
    assert told == [CallStatus.OK, CallStatus.HELD, CallStatus.OK, CallStatus.OK]
    assert len(fake.calls) == 4
    (line,) = [line for line in logs if line["event"] != "credentials found"]
    assert (line["event"], line["target"]) == ("calls use the plain path", "under-test")
    assert "signature" in line["reason"]


async def test_a_release_of_the_sdk_that_was_not_tested_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_path, "TESTED", "2.")
    async with fake_aws(OK) as fake:
        async with client(fake.url, transport="auto") as aws:
            assert (await put(aws)).status is CallStatus.OK
            assert aws.transport == "plain"
        async with client(fake.url, transport="fast") as aws:
            results = await put(aws)
    assert results.status is CallStatus.HELD
    assert "not tested with aiobotocore" in results.message


async def test_a_proxy_is_the_sdks_business(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with client("http://events.invalid", transport="auto") as aws:
            assert (await put(aws)).status is CallStatus.OK
            assert aws.transport == "plain"
        assert len(proxy.calls) == 1
        async with client("http://events.invalid", transport="fast") as aws:
            results = await put(aws)
    assert results.status is CallStatus.HELD
    assert "there is a proxy" in results.message
    assert len(proxy.calls) == 1


async def test_where_no_proxy_applies_none_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK) as fake:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with client(fake.url) as aws:
            assert (await put(aws)).status is CallStatus.OK
            assert aws.transport == "fast"


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ("AWS4-ECDSA-P256-SHA256 Credential=AKIDEXAMPLE/20261121/events/aws4_request", ""),
        ("Bearer token", "does not sign with SigV4"),
        ("", "does not sign with SigV4"),
    ],
    ids=["SigV4A", "bearer", "anonymous"],
)
async def test_what_is_signed_in_another_way_is_the_sdks(authorization: str, reason: str) -> None:
    """SigV4A is of one call, with an EndpointId; the others go on."""
    rehearsed: list[bool] = []

    async def by_sdk() -> None:
        look = rehearsal.get()
        assert look is not None
        rehearsed.append(True)
        headers = {"Authorization": authorization} if authorization else {}
        look(None, "POST", {"url": "https://x/", "headers": headers, "data": BODY, "proxy": None})

    fast = FastPath()
    for _ in range(2):
        assert await fast.post(("PutEvents", "endpoint.id"), KEYS, BODY, by_sdk) is None
    assert reason in fast.unfit
    assert bool(reason) == bool(fast.unfit)
    assert rehearsed == [True]


async def test_a_call_that_was_not_caught_is_the_last_that_is_made_twice() -> None:
    """Its request took a way that is not ours, so it was made: better twice once than twice for ever."""
    made: list[bool] = []

    async def by_sdk() -> None:
        made.append(True)

    fast = FastPath()
    for _ in range(3):
        assert await fast.post(("PutEvents",), KEYS, BODY, by_sdk) is None
    assert made == [True]
    assert "cannot be read" in fast.unfit


async def test_the_plain_path_can_be_asked_for() -> None:
    with structlog.testing.capture_logs() as logs:
        async with fake_aws(OK) as fake, client(fake.url, transport="plain") as aws:
            assert aws.transport == "plain"
            await put(aws)
    assert "amz-sdk-invocation-id" in fake.calls[0].headers
    assert [line["event"] for line in logs] == ["credentials found"]


async def test_a_client_that_held_the_target_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK, fails(403, "ExpiredToken"), OK) as fake, client(fake.url) as aws:
        await put(aws)
        assert (await put(aws)).status is CallStatus.HELD
        set_credentials(monkeypatch, "AKIDFRESH")
        assert (await put(aws)).status is CallStatus.OK
    judge(fake.calls[2], fake.url, KEYS._replace(access_key="AKIDFRESH"))
    first, second, third = (call.peer for call in fake.calls)
    assert first == second != third
