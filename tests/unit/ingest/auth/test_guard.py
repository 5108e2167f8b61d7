"""Who is let in, over real connections: answers in each dialect, and what is counted and logged."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pytest
import structlog
from botocore.config import Config

from forwarder.config import AuthConfig
from forwarder.ingest.auth.tokens import make
from forwarder.logs import _last_lines
from tests.support.ingest import (
    ENTRY,
    EVENT,
    MONITOR,
    NATIVE,
    PUT_EVENTS,
    Answer,
    Ingest,
    Peer,
    code,
    request,
    serving,
)
from tests.support.signing import BODY, KEY_ID, SECRET, by_header

TOKEN, LINE = make("shop")
OTHER, OTHER_LINE = make("till")
DOCUMENT = "/v1/openapi.json"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
KEYS = f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
PATHS = {
    "native": (NATIVE, {}),
    "put_events": ("/", PUT_EVENTS),
    "rum": (f"/appmonitors/{MONITOR}", {}),
    "evidently": ("/events/projects/shop", {}),
    "cloudevents": ("/v1/cloudevents/orders", {}),
    "nowhere": ("/nowhere", {}),
    "unknown target": ("/v1/targets/PLANTED/events", {}),
}


@pytest.fixture
def auth(tmp_path: Path) -> AuthConfig:
    tokens, keys = tmp_path / "tokens", tmp_path / "keys"
    tokens.write_text(f"{LINE}\n{OTHER_LINE}\n")
    keys.write_text(KEYS)
    tokens.chmod(0o600)
    keys.chmod(0o600)
    return AuthConfig(tokens=str(tokens), access_keys=str(keys))


def refusals(ingest: Ingest) -> dict[str, int]:
    return {reason: n for reason, n in ingest.metrics.senders.refused.items() if n}


def senders(ingest: Ingest) -> dict[str, float]:
    family = "forwarder_http_authenticated_requests_total"
    lines = [line for line in ingest.metrics.expose().decode().splitlines() if line.startswith(family)]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


# --- tokens


async def test_whoever_has_a_token_may_send_in_every_dialect(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        assert (await ingest.post(NATIVE, EVENT, BEARER)).status == 202
        assert (await ingest.put_events(ENTRY, headers=BEARER)).status == 200
        other = {"Authorization": f"bearer  {OTHER}"}
        assert (await ingest.post(NATIVE, EVENT, other)).status == 202
        assert senders(ingest) == {"shop": 2, "till": 1}
        assert refusals(ingest) == {}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("authorization", "reason", "expected"),
    [
        (None, "missing", "MissingAuthenticationTokenException"),
        ("Bearer fwd_another", "unknown", "UnrecognizedClientException"),
        ("Bearer", "unknown", "UnrecognizedClientException"),
        ("Basic c2hvcDpzaG9w", "malformed", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=x", "malformed", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256", "malformed", "IncompleteSignatureException"),
    ],
)
async def test_who_is_not_let_in_hears_it_in_the_shape_of_the_dialect(
    auth: AuthConfig, path: str, authorization: str | None, reason: str, expected: str
) -> None:
    url, headers = PATHS[path]
    given = {**headers, "Authorization": authorization} if authorization else headers
    async with serving(auth=auth) as ingest:
        answer = await ingest.post(url, EVENT, given)
        assert code(answer) == expected
        if path in ("native", "cloudevents", "unknown target"):
            assert answer.status == 401
            schemes = 'Bearer realm="event-forwarder", AWS4-HMAC-SHA256'
            assert answer.headers["www-authenticate"] == schemes
        else:
            assert answer.status == 403
            assert answer.headers["x-amzn-errortype"] == expected
            assert answer.headers["x-amzn-requestid"]
        assert "retry-after" not in answer.headers
        assert b"orders" not in answer.body  # nor any other of our names
        assert refusals(ingest) == {reason: 1}
        assert {k: n for k, n in ingest.metrics.unbound.refused.items() if n} == {"unauthenticated": 1}
        assert ingest.count() == 0


async def test_the_body_of_who_is_not_let_in_is_not_waited_for(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, b"", {"Content-Length": "1000"}))
        assert (await peer.answer()).status == 401
        await peer.close()


async def test_a_preflight_is_not_asked(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        assert (await ingest.post(NATIVE, b"", {}, "OPTIONS")).status not in (401, 403)
        assert refusals(ingest) == {}


async def test_senders_with_the_same_key_of_their_own_requests_are_told_apart(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        mine = {"Idempotency-Key": "1"}
        first = await ingest.post(NATIVE, EVENT, {**BEARER, **mine})
        again = await ingest.post(NATIVE, EVENT, {**BEARER, **mine})
        other = await ingest.post(NATIVE, EVENT, {"Authorization": f"Bearer {OTHER}", **mine})
        assert first.body == again.body != other.body
        assert ingest.count() == 2


async def test_without_auth_nobody_is_asked_and_a_signature_means_nothing() -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, EVENT, {"Authorization": "Bearer x"})).status == 202
        assert (await ingest.put_events(ENTRY)).status == 200
        assert senders(ingest) == {}


async def test_each_listener_takes_only_what_it_is_told_to(auth: AuthConfig) -> None:
    async with serving(auth=AuthConfig(access_keys=auth.access_keys)) as ingest:
        answer = await ingest.post(NATIVE, EVENT, BEARER)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "AWS4-HMAC-SHA256")
    async with serving(auth=AuthConfig(tokens=auth.tokens)) as ingest:
        answer = await post(ingest, **signed(ingest))
        assert (answer.status, code(answer)) == (403, "UnrecognizedClientException")


# --- signatures


def signed(ingest: Ingest, body: bytes = BODY, **more: Any) -> dict[str, Any]:
    made = by_header(f"http://{ingest.server.address}/", body, **more)
    return {"headers": dict(made.headers), "body": body}


async def post(ingest: Ingest, headers: dict[str, str], body: bytes) -> Answer:
    return await ingest.post("/", body, headers)


def sdk(
    ingest: Ingest, service: str, secret: str = SECRET, key_id: str = KEY_ID, token: str | None = None
) -> Any:
    return boto3.client(
        service,
        region_name="eu-west-1",
        endpoint_url=f"http://{ingest.server.address}",
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 3, "mode": "standard"}),
    )


async def using(client: Any, call: Callable[[Any], Any]) -> Any:
    try:
        return await asyncio.to_thread(call, client)
    finally:
        client.close()


def put_events(client: Any) -> Any:
    return client.put_events(Entries=[{**ENTRY, "DetailType": "größe"}])


def put_rum_events(client: Any) -> Any:
    event = {"id": MONITOR, "timestamp": 1767323045, "type": "page_view", "details": "{}", "metadata": "{}"}
    return client.put_rum_events(
        Id=MONITOR,
        BatchId=MONITOR,
        AppMonitorDetails={"id": MONITOR, "version": "1"},
        UserDetails={"userId": MONITOR, "sessionId": MONITOR},
        RumEvents=[event],
    )


@pytest.mark.parametrize(("service", "call"), [("events", put_events), ("rum", put_rum_events)])
async def test_boto3_is_let_in_by_its_own_signature(auth: AuthConfig, service: str, call: Any) -> None:
    async with serving(auth=auth) as ingest:
        await using(sdk(ingest, service), call)
        assert senders(ingest) == {"shop": 1}
        assert refusals(ingest) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"secret": "another"}, "InvalidSignatureException"),
        ({"key_id": "AKIDOTHER"}, "UnrecognizedClientException"),
        ({"token": "a session"}, "UnrecognizedClientException"),
    ],
)
@pytest.mark.parametrize(("service", "call"), [("events", put_events), ("rum", put_rum_events)])
async def test_boto3_with_a_wrong_key_hears_it_once(
    auth: AuthConfig, service: str, call: Any, given: dict[str, str], expected: str
) -> None:
    async with serving(auth=auth) as ingest:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            await using(sdk(ingest, service, **given), call)
        answer = caught.value.response
        assert answer["Error"]["Code"] == expected
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert sum(refusals(ingest).values()) == 1  # a second try would be told the same
        assert ingest.count() == 0


async def test_a_signature_is_of_the_packed_body(auth: AuthConfig) -> None:
    packed = gzip.compress(BODY)
    headers = {**PUT_EVENTS, "Content-Encoding": "gzip"}
    async with serving(auth=auth) as ingest:
        assert (await post(ingest, **signed(ingest, packed, headers=headers))).status == 200
        unpacked = {**headers, "X-Amz-Content-SHA256": sha256(BODY).hexdigest()}
        answer = await post(ingest, **signed(ingest, packed, headers=unpacked))
        assert (answer.status, code(answer)) == (403, "InvalidSignatureException")
        assert refusals(ingest) == {"payload": 1}


async def test_a_body_that_was_not_signed_is_never_unpacked(auth: AuthConfig) -> None:
    headers = {**PUT_EVENTS, "Content-Encoding": "gzip"}
    async with serving(auth=auth) as ingest:
        request = signed(ingest, b"what is not gzip", headers=headers)
        assert (await post(ingest, request["headers"], b"what is NOT gzip")).status == 403
        assert (await post(ingest, **request)).status == 400
        assert ingest.refused() == {}
        assert refusals(ingest) == {"signature": 1}


async def test_a_flipped_bit_anywhere_on_the_wire_is_refused(auth: AuthConfig) -> None:
    """All but the digits of the length, which the client does not sign, and the version of HTTP."""
    async with serving(auth=auth) as ingest:
        made = signed(ingest, says_hash=True)
        whole = request("/", made["body"], made["headers"])
        assert (await said(ingest, whole)).status == 200
        free = whole.index(b"Content-Length")
        for place in range(len(whole)):
            in_version = whole.index(b" HTTP/1.1") <= place < whole.index(b"\r\n")
            if not in_version and not free <= place < whole.index(b"\r\n\r\n"):
                flipped = bytearray(whole)
                flipped[place] ^= 1 << place % 5  # the sixth bit of a letter is its case
                answer = await said(ingest, bytes(flipped))
                assert answer.status in (400, 403, 404), bytes(flipped)
        assert senders(ingest) == {"shop": 1}
        assert ingest.count() == 1


async def said(ingest: Ingest, whole: bytes) -> Answer:
    peer = await Peer.connect(ingest.server.address)
    try:
        await peer.send(whole)
        peer.writer.write_eof()
        return await peer.answer()
    finally:
        await peer.close()


async def test_what_is_asked_without_a_body_is_asked_who_asks(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        url = f"http://{ingest.server.address}{DOCUMENT}"
        assert (await ingest.post(DOCUMENT, b"", {}, "GET")).status == 401
        assert (await ingest.post(DOCUMENT, b"", BEARER, "GET")).status == 200
        for says_hash in (False, True):
            for secret, status in ((SECRET, 200), ("another", 401)):
                made = by_header(url, b"", {}, secret=secret, says_hash=says_hash, method="GET")
                assert (await ingest.post(DOCUMENT, b"", dict(made.headers), "GET")).status == status


# --- what is kept secret


async def test_no_secret_is_in_an_answer_a_metric_or_the_log(
    auth: AuthConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _last_lines.clear()
    with structlog.testing.capture_logs() as lines:
        async with serving(auth=auth) as ingest:
            answers = []
            for authorization in (f"Bearer {TOKEN}", f"Bearer {TOKEN}PLANTED", "Basic PLANTED", "PLANTED"):
                for path, headers in PATHS.values():
                    answers.append(
                        await ingest.post(path, EVENT, {**headers, "Authorization": authorization})
                    )
            answers.append(await ingest.post("/?X-Amz-Signature=PLANTED&X-Amz-Credential=PLANTED", EVENT))
            wrong = signed(ingest, secret="PLANTED", session_token="PLANTED")
            answers.append(await post(ingest, **wrong))
            exposed = ingest.metrics.expose().decode()
    logged = json.dumps(lines, default=repr)
    assert {line["reason"] for line in lines} == {"unknown", "malformed"}
    said = "".join(f"{answer.headers}{answer.body!r}" for answer in answers if answer.status != 404)
    for secret in ("PLANTED", TOKEN, SECRET, LINE.split()[1]):
        assert secret not in logged
        assert secret not in exposed
        assert secret not in said


async def test_many_refusals_make_one_line(auth: AuthConfig) -> None:
    _last_lines.clear()
    with structlog.testing.capture_logs() as lines:
        async with serving(auth=auth) as ingest:
            for _ in range(20):
                await ingest.post(NATIVE, EVENT)
            assert refusals(ingest) == {"missing": 20}
    assert [line["reason"] for line in lines] == ["missing"]
    assert lines[0]["peer"] == "127.0.0.1"


async def test_a_second_authorization_is_a_bad_request(auth: AuthConfig) -> None:
    async with serving(auth=auth) as ingest:
        peer = await ingest.peer()
        body = json.dumps(EVENT).encode()
        head = request(NATIVE, body, BEARER)
        await peer.send(head.replace(b"Authorization:", b"Authorization: Bearer other\r\nAuthorization:", 1))
        answer = await peer.answer()
        assert (answer.status, ingest.count()) == (400, 0)
        assert b"one Authorization" in answer.body
        await peer.close()
