"""What every kind of target does, by either call path, against a server of the test's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.config import Duration
from forwarder.model import Batch, CallStatus, Draft, Event, Flush, Kind, Results
from forwarder.targets import TARGETS, AwsTarget, option_types
from forwarder.targets.options import Timeouts
from tests.support.fake_aws import (
    Answer,
    FakeAws,
    aws_environment,
    fails,
    fake_aws,
    forget_credentials,
    hangs,
    resets,
    says,
    set_credentials,
)

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

MONITOR = "00000000-0000-4000-8000-0000000000aa"
ENVELOPE = {
    "Id": MONITOR,
    "BatchId": "00000000-0000-4000-8000-0000000000bb",
    "AppMonitorDetails": {"id": MONITOR, "version": "1.0.0"},
    "UserDetails": {"sessionId": "00000000-0000-4000-8000-0000000000cc"},
    "SessionMetadata": '{"version":"1.0.0"}',
}


@dataclass(frozen=True)
class Case:
    """How one kind's events look on the wire, and how its API answers. Written by hand from AWS's pages."""

    key: bytes
    path: str
    entry: Callable[[int], dict[str, Any]]
    sent: Callable[[Any], Any]
    success: Callable[[int], dict[str, Any]]
    mixed: Callable[[int], dict[str, Any]] | None
    """An answer in which the entry at each third place failed for good, and each one after it for now."""


CASES = {
    "eventbridge": Case(
        key=b"",
        path="/",
        entry=lambda i: {
            "Source": "shop",
            "DetailType": "order placed",
            "Detail": json.dumps({"n": i, "name": "Zoë"}),
            "Time": 1767323045.25,
        },
        sent=lambda body: body["Entries"],
        success=lambda n: {"FailedEntryCount": 0, "Entries": [{"EventId": f"id-{i}"} for i in range(n)]},
        mixed=lambda n: {
            "FailedEntryCount": sum(i % 3 < 2 for i in range(n)),
            "Entries": [
                (
                    {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."},
                    {"ErrorCode": "InternalFailure", "ErrorMessage": "again"},
                    {"EventId": f"id-{i}"},
                )[i % 3]
                for i in range(n)
            ],
        },
    ),
    "rum": Case(
        key=json.dumps(ENVELOPE, sort_keys=True).encode(),
        path=f"/appmonitors/{MONITOR}/",
        entry=lambda i: {
            "id": f"00000000-0000-4000-8000-{i:012d}",
            "timestamp": 1767323045.25,
            "type": "com.amazon.rum.page_view_event",
            "details": json.dumps({"n": i, "name": "Zoë"}),
            "metadata": "{}",
        },
        sent=lambda body: body["RumEvents"],
        success=lambda n: {},
        mixed=None,
    ),
    "evidently": Case(
        key=b"arn:aws:evidently:eu-west-1:123456789012:project/shop",
        path="/events/projects/arn%3Aaws%3Aevidently%3Aeu-west-1%3A123456789012%3Aproject%2Fshop",
        entry=lambda i: {
            "timestamp": 1767323045.25,
            "type": "aws.evidently.custom",
            "data": json.dumps({"n": i, "name": "Zoë"}),
        },
        sent=lambda body: body["events"],
        success=lambda n: {"failedEventCount": 0, "eventResults": [{"eventId": f"id-{i}"} for i in range(n)]},
        mixed=lambda n: {
            "failedEventCount": sum(i % 3 < 2 for i in range(n)),
            "eventResults": [
                (
                    {"errorCode": "ValidationException", "errorMessage": "bad"},
                    {"errorCode": "InternalServerException", "errorMessage": "again"},
                    {"eventId": f"id-{i}"},
                )[i % 3]
                for i in range(n)
            ],
        },
    ),
}
KINDS = tuple(TARGETS)


TRANSPORT = {"transport": "fast"}
"""Of the targets that ``build`` makes. With ``fast`` they are held where the fast path is not taken."""


@pytest.fixture(params=["fast", "plain"], autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(TRANSPORT, "transport", request.param)
    return str(request.param)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[kind for kind in KINDS if CASES[kind].mixed])
def kind_with_results(request: pytest.FixtureRequest) -> str:
    """RUM answers success with nothing; the others with one result per event."""
    return str(request.param)


@pytest.fixture
def case(kind: str) -> Case:
    return CASES[kind]


def batch(case: Case, count: int = 3) -> Batch:
    bodies = [json.dumps(case.entry(i)).encode() for i in range(count)]
    events = [Event(f"event-{i}", body, len(body), case.key, 0.0) for i, body in enumerate(bodies)]
    return Batch(case.key, events, sum(map(len, bodies)), Flush.COUNT)


def build(kind: str, url: str | None, **options: Any) -> AwsTarget:
    options = {"region": "eu-west-1", "endpoint_url": url, **TRANSPORT, **options}
    return TARGETS[kind].build("under-test", option_types()[kind](**options))


@asynccontextmanager
async def target_and_fake(
    kind: str, *answers: Answer, **options: Any
) -> AsyncIterator[tuple[AwsTarget, FakeAws]]:
    async with fake_aws(*answers) as fake:
        target = build(kind, fake.url, **options)
        try:
            yield target, fake
        finally:
            await target.close()


async def answered(kind: str, answer: Answer, count: int = 3, **options: Any) -> tuple[Results, FakeAws]:
    async with target_and_fake(kind, answer, **options) as (target, fake):
        return await target.send(batch(CASES[kind], count)), fake


def only_retries(results: Results, count: int = 3) -> bool:
    return [outcome.kind for outcome in results.outcomes] == [Kind.RETRY] * count


def test_every_kind_is_under_test() -> None:
    assert set(CASES) == set(TARGETS)


async def test_success_delivers_every_event_in_one_call(kind: str, case: Case) -> None:
    results, fake = await answered(kind, says(200, case.success(3)))
    assert results.status is CallStatus.OK
    assert [outcome.kind for outcome in results.outcomes] == [Kind.DELIVERED] * 3
    assert [call.path for call in fake.calls] == [case.path]


async def test_entries_arrive_as_they_were_taken(kind: str, case: Case) -> None:
    _, fake = await answered(kind, says(200, case.success(3)))
    assert case.sent(fake.calls[0].json) == [case.entry(i) for i in range(3)]


NATIVE: dict[str, dict[str, Any]] = {
    "eventbridge": {"Source": "shop", "DetailType": "placed", "Detail": {"n": 1, "name": "Zoë"}},
    "rum": {"type": "com.example.click", "details": {"n": 1, "name": "Zoë"}, "AppMonitorId": MONITOR},
    "evidently": {"type": "aws.evidently.custom", "data": {"n": 1, "name": "Zoë"}, "project": "shop"},
}


async def test_what_its_api_admits_is_what_arrives(kind: str, case: Case) -> None:
    async with target_and_fake(kind, says(200, case.success(1))) as (target, fake):
        api: Any = target.api
        draft = api.admit_native(
            msgspec.json.decode(json.dumps(NATIVE[kind]), type=api.native_type), 1767323045.25
        )
        assert isinstance(draft, Draft), draft
        event = Event("event", draft.body, draft.size, draft.key, 0.0)
        results = await target.send(Batch(draft.key, [event], draft.size, Flush.TIME))
    assert results.status is CallStatus.OK
    (arrived,) = case.sent(fake.calls[0].json)
    assert arrived == json.loads(draft.body)


async def test_requests_are_signed_for_the_region_and_named(kind: str, case: Case) -> None:
    _, fake = await answered(kind, says(200, case.success(3)))
    headers = fake.calls[0].headers
    assert "/eu-west-1/" in headers["authorization"]
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert headers["user-agent"].startswith("event-forwarder/")
    assert " " not in headers["user-agent"]


async def test_aws_ids_are_kept(kind: str, case: Case) -> None:
    results, _ = await answered(kind, says(200, case.success(3)))
    wanted = ["id-0", "id-1", "id-2"] if case.mixed else ["", "", ""]
    assert [outcome.aws_id for outcome in results.outcomes] == wanted


@pytest.mark.parametrize("count", [1, 5])
async def test_each_entry_of_an_answered_call_has_its_own_outcome(kind: str, case: Case, count: int) -> None:
    if case.mixed is None:
        results, _ = await answered(kind, says(200, case.success(count)), count)
        assert {outcome.kind for outcome in results.outcomes} == {Kind.DELIVERED}
        return
    results, _ = await answered(kind, says(200, case.mixed(count)), count)
    kinds = [Kind.REJECTED, Kind.RETRY, Kind.DELIVERED, Kind.REJECTED, Kind.RETRY]
    assert results.status is CallStatus.OK
    assert [outcome.kind for outcome in results.outcomes] == kinds[:count]
    assert results.outcomes[0].message


@pytest.mark.parametrize("status", [400, 429])
async def test_a_throttled_call_slows_down_by_what_aws_asked(kind: str, status: int) -> None:
    results, fake = await answered(kind, fails(status, "ThrottlingException", x_amz_retry_after="1500"))
    assert results.status is CallStatus.THROTTLED
    assert results.delay == 1.5
    assert only_retries(results)
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b'{"message":"oh"}'), (502, b"<html>bad gateway</html>"), (503, b""), (504, b"[1]")],
)
async def test_a_server_error_is_retried_whatever_its_body(kind: str, status: int, body: bytes) -> None:
    results, fake = await answered(kind, says(status, body))
    assert results.status is CallStatus.UNAVAILABLE
    assert only_retries(results)
    assert len(fake.calls) == 1


async def test_an_answer_that_does_not_come_is_a_timeout(kind: str) -> None:
    timeouts = Timeouts(read=Duration(0.1))
    results, fake = await answered(kind, hangs, timeouts=timeouts)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "timeout")
    assert only_retries(results)
    assert len(fake.calls) == 1


async def test_an_answer_in_drips_is_a_timeout(kind: str) -> None:
    async def drips(call: Any) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(call.request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    timeouts = Timeouts(connect=Duration(0.1), read=Duration(0.1))
    results, _ = await answered(kind, drips, timeouts=timeouts)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "timeout")


async def test_a_reset_is_retried(kind: str) -> None:
    results, fake = await answered(kind, resets)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "connection")
    assert only_retries(results)
    assert len(fake.calls) == 1


async def test_a_body_cut_short_is_retried(kind: str) -> None:
    async def cut(call: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(call.request)
        await response.write(b'{"Entries":')
        call.request.transport.abort()
        return response

    results, _ = await answered(kind, cut)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "connection")


async def test_nobody_listening_is_retried(kind: str, unused_tcp_port: int) -> None:
    target = build(kind, f"http://127.0.0.1:{unused_tcp_port}")
    results = await target.send(batch(CASES[kind]))
    await target.close()
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "connection")
    assert only_retries(results)


async def test_a_name_that_does_not_resolve_is_retried(kind: str) -> None:
    target = build(kind, "http://nowhere.invalid")
    results = await target.send(batch(CASES[kind]))
    await target.close()
    assert results.status is CallStatus.UNAVAILABLE
    assert results.code in ("connection", "timeout")


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b'[{"EventId":"x"}]', b"null", b'"ok"', b'{"E', b"\xff"]
)
async def test_a_success_that_is_no_object_is_retried(kind: str, body: bytes) -> None:
    results, _ = await answered(kind, says(200, body))
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "wrong_shape")
    assert only_retries(results)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"Entries":null,"eventResults":null}',
        b'{"Entries":[],"eventResults":[]}',
        b'{"Entries":{},"eventResults":{}}',
        b'{"Entries":"abc","eventResults":"abc"}',
        b'{"Entries":[1,2,3],"eventResults":[1,2,3]}',
        b'{"Entries":[null,null,null],"eventResults":[null,null,null]}',
        b'{"Entries":[{},{},{}],"eventResults":[{},{},{}]}',
    ],
)
async def test_a_success_without_results_is_never_a_delivery(kind_with_results: str, body: bytes) -> None:
    results, _ = await answered(kind_with_results, says(200, body))
    assert only_retries(results)


@pytest.mark.parametrize("count", [2, 4])
async def test_a_wrong_number_of_results_is_retried(kind_with_results: str, count: int) -> None:
    results, _ = await answered(kind_with_results, says(200, CASES[kind_with_results].success(count)))
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "wrong_shape")
    assert only_retries(results)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(kind: str, case: Case, status: int) -> None:
    async with fake_aws(says(200, case.success(3))) as elsewhere:
        results, _ = await answered(kind, says(status, b"", Location=elsewhere.url + case.path))
        assert elsewhere.calls == []
    assert results.status is CallStatus.HELD
    assert elsewhere.url in results.message
    assert only_retries(results)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "ExpiredTokenException"),
        (400, "ExpiredTokenException"),
        (403, "UnrecognizedClientException"),
        (403, "InvalidSignatureException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (403, "something nobody knows"),
    ],
)
async def test_trouble_only_a_person_can_end_holds_the_target(kind: str, status: int, code: str) -> None:
    results, _ = await answered(kind, fails(status, code, "AWS's own sentence"))
    assert results.status is CallStatus.HELD
    assert "AWS's own sentence" in results.message
    assert only_retries(results)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "ValidationException"), (413, "RequestEntityTooLargeException")]
)
async def test_a_call_aws_will_never_take_is_refused(kind: str, status: int, code: str) -> None:
    results, fake = await answered(kind, fails(status, code))
    assert results.status is CallStatus.REFUSED
    assert only_retries(results)
    assert len(fake.calls) == 1


async def test_a_413_without_a_word_is_refused(kind: str) -> None:
    results, _ = await answered(kind, says(413, b"", Connection="close"))
    assert results.status is CallStatus.REFUSED


async def test_without_credentials_the_target_is_held_and_calls_nobody(
    kind: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_credentials(monkeypatch)
    results, fake = await answered(kind, says(200, case.success(3)))
    assert results.status is CallStatus.HELD
    assert only_retries(results)
    assert fake.calls == []


async def test_credentials_that_appear_late_are_found(
    kind: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_credentials(monkeypatch)
    async with target_and_fake(kind, says(200, case.success(3))) as (target, _):
        assert (await target.send(batch(case))).status is CallStatus.HELD
        set_credentials(monkeypatch)
        assert (await target.send(batch(case))).status is CallStatus.OK


async def test_expired_credentials_are_looked_up_again(
    kind: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = fails(403, "ExpiredTokenException")
    async with target_and_fake(kind, expired, says(200, case.success(3))) as (target, fake):
        assert (await target.send(batch(case))).status is CallStatus.HELD
        set_credentials(monkeypatch, "AKIDFRESH")
        assert (await target.send(batch(case))).status is CallStatus.OK
        assert "Credential=AKIDFRESH/" in fake.calls[-1].headers["authorization"]


async def test_a_profile_that_does_not_exist_holds_the_target(kind: str, case: Case) -> None:
    results, fake = await answered(kind, says(200, case.success(3)), profile="nobody")
    assert results.status is CallStatus.HELD
    assert "nobody" in results.message
    assert fake.calls == []


async def test_the_environment_redirects_nothing(
    kind: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fake_aws(says(200, case.success(3))) as elsewhere:
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL_RUM"):
            monkeypatch.setenv(name, elsewhere.url)
        results, fake = await answered(kind, says(200, case.success(3)))
        assert elsewhere.calls == []
    assert results.status is CallStatus.OK
    assert len(fake.calls) == 1


async def test_connections_are_kept(kind: str, case: Case) -> None:
    async with target_and_fake(kind, says(200, case.success(3))) as (target, fake):
        for _ in range(3):
            await target.send(batch(case))
    assert len(fake.calls) == 3
    assert len({call.peer for call in fake.calls}) == 1


async def test_cancelling_a_send_ends_it(kind: str, case: Case) -> None:
    arrived = asyncio.Event()

    async def hang(call: Any) -> web.StreamResponse:
        arrived.set()
        return await hangs(call)

    async with target_and_fake(kind, hang) as (target, _):
        sending = asyncio.create_task(target.send(batch(case)))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


async def test_a_client_given_up_lets_the_others_finish(kind: str, case: Case) -> None:
    """One call meets expired credentials while another is still on its way through the same client."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(call: Any) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        return web.json_response(case.success(3))

    async with target_and_fake(kind, slow, fails(403, "ExpiredTokenException")) as (target, _):
        first = asyncio.create_task(target.send(batch(case)))
        await arrived.wait()
        assert (await target.send(batch(case))).status is CallStatus.HELD
        go_on.set()
        assert (await first).status is CallStatus.OK


async def test_a_target_that_was_never_used_closes(kind: str) -> None:
    target = build(kind, "http://127.0.0.1:9")
    await target.close()


async def test_building_and_limits(kind: str) -> None:
    target = build(kind, "http://127.0.0.1:9")
    await target.close()
    assert target.kind == kind == target.api.kind
    assert target.region == "eu-west-1"
    assert target.limits.max_events <= {"eventbridge": 10, "rum": 100, "evidently": 50}[kind]
    assert target.limits.max_event_bytes <= target.limits.max_bytes or target.limits.whole
    assert target.limits.whole is (kind == "rum")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["Entries", "eventResults", "EventId", "eventId", "ErrorCode", "errorCode", "message"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("each", KINDS)
async def test_no_answer_of_any_kind_makes_send_raise_or_miscount(each: str) -> None:
    """And only a success that says so for an event delivers it."""
    case = CASES[each]
    bodies: list[tuple[int, Any]] = []

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from([200, 201, 204, 207, 300, 400, 404, 418, 429, 500]), json_values)
    def draw(status: int, value: Any) -> None:
        bodies.append((status, value))

    draw()
    answers = [says(status, b"" if status == 204 else value) for status, value in bodies]
    async with target_and_fake(each, *answers, says(200, {})) as (target, fake):
        for status, value in bodies:
            before = len(fake.calls)
            results = await target.send(batch(case))
            assert len(results.outcomes) == 3
            assert len(fake.calls) >= before
            if status >= 300:
                assert only_retries(results)
            for outcome in results.outcomes:
                if outcome.kind is Kind.DELIVERED and case.mixed is not None:
                    assert outcome.aws_id
                    assert outcome.aws_id in json.dumps(value, ensure_ascii=False)


def test_options_of_a_kind_carry_its_name() -> None:
    for kind, options in option_types().items():
        made = options(endpoint_url="http://127.0.0.1:9")
        assert made.kind == kind
        assert msgspec.convert({"kind": kind, "endpoint_url": "http://x"}, options).kind == kind
