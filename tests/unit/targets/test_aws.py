"""The client: what becomes of the SDK's exceptions, where calls go, whose credentials they carry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from botocore import exceptions as errors

from forwarder.model import CallStatus, Kind, Outcome, Results
from forwarder.targets.client import AwsClient
from forwarder.targets.eventbridge import EventBridgeOptions
from forwarder.targets.evidently import EvidentlyOptions
from forwarder.targets.options import Role, TargetOptions
from forwarder.targets.rum import RumOptions
from forwarder.targets.sources import _trouble
from forwarder.targets.translation import before_call, translate
from tests.support.fake_aws import (
    Answer,
    Call,
    aws_environment,
    fails,
    fake_aws,
    forget_credentials,
    says,
)

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

URL = "https://events.eu-west-1.amazonaws.com/"
ROLE = Role(arn="arn:aws:iam::123456789012:role/events", external_id="shared-secret", session_name="me")
OK = says(200, {"FailedEntryCount": 0, "Entries": [{"EventId": "x"}]})

UNAVAILABLE = [
    (errors.EndpointConnectionError(endpoint_url=URL, error=OSError()), "connection"),
    (errors.ConnectionClosedError(endpoint_url=URL, error=OSError(), request=None), "connection"),
    (errors.ProxyConnectionError(proxy_url="http://proxy", error=OSError()), "connection"),
    (errors.HTTPClientError(error=OSError("garbage status line")), "connection"),
    (errors.MetadataRetrievalError(error_msg="no answer"), "connection"),
    (errors.ReadTimeoutError(endpoint_url=URL, error=OSError()), "timeout"),
    (errors.ConnectTimeoutError(endpoint_url=URL, error=OSError()), "timeout"),
    (TimeoutError(), "timeout"),
    (AttributeError("'list' object has no attribute 'get'"), "other"),
    (RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."), "other"),
    (KeyError("Expiration"), "other"),
]
HELD = [
    (errors.SSLError(endpoint_url=URL, error=OSError("certificate has expired")), "tls"),
    (errors.NoCredentialsError(), "credentials"),
    (errors.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), "credentials"),
    (errors.CredentialRetrievalError(provider="process", error_msg="exit 1"), "credentials"),
    (errors.TokenRetrievalError(provider="sso", error_msg="expired"), "credentials"),
    (errors.UnauthorizedSSOTokenError(), "credentials"),
    (errors.SSOTokenLoadError(error_msg="none"), "credentials"),
    (errors.ProfileNotFound(profile="gone"), "configuration"),
    (errors.NoRegionError(), "configuration"),
    (errors.ConfigParseError(path="/config", error=ValueError()), "configuration"),
    (errors.MissingDependencyException(msg="pip install botocore[crt]"), "configuration"),
    (errors.ParamValidationError(report="Invalid length for parameter RoleArn"), "configuration"),
    (errors.InvalidConfigError(error_msg="The source_profile is missing"), "configuration"),
    (errors.UnknownServiceError(service_name="x", known_service_names="y"), "configuration"),
]


def named(pair: Any) -> str | None:
    return type(pair).__name__ if isinstance(pair, Exception) else None


@pytest.mark.parametrize(("error", "code"), UNAVAILABLE, ids=named)
def test_an_exception_that_tells_nothing_is_retried(error: Exception, code: str) -> None:
    results = translate(error, 2)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, code)
    assert [outcome.kind for outcome in results.outcomes] == [Kind.RETRY] * 2
    assert type(error).__name__ in results.message


@pytest.mark.parametrize(("error", "code"), HELD, ids=named)
def test_an_exception_only_a_person_can_end_holds(error: Exception, code: str) -> None:
    results = translate(error, 2)
    assert (results.status, results.code) == (CallStatus.HELD, code)
    assert [outcome.kind for outcome in results.outcomes] == [Kind.RETRY] * 2


def answer(status: int, code: str, operation: str = "PutEvents", **headers: str) -> errors.ClientError:
    return errors.ClientError(
        {
            "Error": {"Code": code, "Message": "words"},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
        },
        operation,
    )


@pytest.mark.parametrize("code", ["ValidationException", "ValidationError", "SerializationException"])
def test_a_refusal_on_the_way_to_credentials_is_never_blamed_on_the_events(code: str) -> None:
    assert translate(answer(400, code), 1).status is CallStatus.REFUSED
    results = before_call(_trouble(answer(400, code, "AssumeRole"), "env", str), 1)
    assert (results.status, results.code, results.called) == (CallStatus.HELD, "credentials", False)
    assert "AssumeRole" in results.message


def test_an_unknown_code_is_told_in_the_message_only() -> None:
    results = translate(answer(500, "BrandNewException"), 1)
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "other")
    assert results.message == "BrandNewException: words"


def test_a_code_that_is_only_in_the_header_is_read() -> None:
    error = answer(400, "400", **{"x-amzn-errortype": "ThrottlingException:http://internal.amazon.com/"})
    assert translate(error, 1).status is CallStatus.THROTTLED


@pytest.mark.parametrize("name", ["retry-after", "Retry-After"])
def test_the_delay_is_read_however_the_header_is_written(name: str) -> None:
    assert translate(answer(429, "ThrottlingException", **{name: "7"}), 1).delay == 7.0


def test_a_very_long_message_is_cut() -> None:
    assert len(translate(RuntimeError("x" * 100_000), 1).message) <= 500


async def put(options: TargetOptions, client: AwsClient | None = None) -> Results:
    """Send one entry, as the target does."""
    mine = client or AwsClient("events", options, 1)
    body = b'{"Entries":[{"Source":"s","DetailType":"t","Detail":"{}"}]}'
    try:
        return await mine.call("PutEvents", {}, 1, lambda got, n: [Outcome(Kind.DELIVERED)], body)
    finally:
        if client is None:
            await mine.close()


@asynccontextmanager
async def hosts_asked_for(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[str]]:
    """A proxy that notes what it should connect to, and then hangs up."""
    hosts: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hosts.append((await reader.readline()).decode().split()[1])
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        yield hosts


HOSTS: list[tuple[str, str, TargetOptions, str]] = [
    ("events", "PutEvents", EventBridgeOptions(region="eu-west-1"), "events.eu-west-1.amazonaws.com"),
    ("events", "PutEvents", EventBridgeOptions(region="cn-north-1"), "events.cn-north-1.amazonaws.com.cn"),
    (
        "events",
        "PutEvents",
        EventBridgeOptions(region="us-east-1", use_fips=True),
        "events-fips.us-east-1.amazonaws.com",
    ),
    (
        "events",
        "PutEvents",
        EventBridgeOptions(region="eu-west-1", use_dualstack=True),
        "events.eu-west-1.api.aws",
    ),
    ("rum", "PutRumEvents", RumOptions(region="eu-west-1"), "dataplane.rum.eu-west-1.amazonaws.com"),
    (
        "rum",
        "PutRumEvents",
        RumOptions(region="us-east-1", use_fips=True),
        "dataplane.rum-fips.us-east-1.amazonaws.com",
    ),
]


@pytest.mark.parametrize(("service", "operation", "options", "host"), HOSTS)
async def test_calls_go_to_the_host_of_the_options_whatever_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    service: str,
    operation: str,
    options: TargetOptions,
    host: str,
) -> None:
    monkeypatch.setenv("AWS_DISABLE_HOST_PREFIX_INJECTION", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    params: dict[str, dict[str, Any]] = {
        "PutEvents": {"Entries": []},
        "PutRumEvents": {"Id": "monitor", "RumEvents": []},
    }
    async with hosts_asked_for(monkeypatch) as hosts:
        client = AwsClient(service, options, 1)
        results = await client.call(operation, params[operation], 1, lambda got, n: [])
        await client.close()
    assert hosts == [f"{host}:443"]
    assert results.status is CallStatus.UNAVAILABLE


@pytest.mark.parametrize(
    ("use_fips", "host"), [(None, "events-fips.us-east-1"), (False, "events.us-east-1")], ids=str
)
async def test_fips_of_the_environment_counts_unless_the_options_say_no(
    monkeypatch: pytest.MonkeyPatch, use_fips: bool | None, host: str
) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    async with hosts_asked_for(monkeypatch) as hosts:
        await put(EventBridgeOptions(region="us-east-1", use_fips=use_fips))
    assert hosts == [f"{host}.amazonaws.com:443"]


async def test_fips_of_the_environment_does_not_spoil_an_endpoint_of_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    async with fake_aws(OK) as fake:
        assert (await put(EventBridgeOptions(endpoint_url=fake.url))).status is CallStatus.OK


async def test_evidently_needs_its_own_endpoint_even_past_the_options() -> None:
    assert EvidentlyOptions(endpoint_url="http://127.0.0.1:9").endpoint_url
    client = AwsClient("evidently", EventBridgeOptions(region="eu-west-1"), 1)
    results = await client.call("PutProjectEvents", {"project": "p", "events": []}, 1, lambda got, n: [])
    await client.close()
    assert results.status is CallStatus.HELD


@pytest.mark.parametrize(
    ("region", "environment", "expected"),
    [
        ("eu-west-1", {"AWS_DEFAULT_REGION": "us-west-2"}, "eu-west-1"),
        (None, {"AWS_DEFAULT_REGION": "us-west-2", "AWS_REGION": "us-east-2"}, "us-west-2"),
        (None, {"AWS_REGION": "us-east-2"}, "us-east-2"),
        (None, {}, ""),
    ],
)
def test_the_region_is_the_options_or_the_environments(
    monkeypatch: pytest.MonkeyPatch, region: str | None, environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert AwsClient("events", EventBridgeOptions(region=region), 1).region == expected


def test_the_region_of_a_profile_counts(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile team]\nregion = ap-south-1\n")
    assert AwsClient("events", EventBridgeOptions(profile="team"), 1).region == "ap-south-1"


async def test_without_any_region_the_target_is_held() -> None:
    results = await put(EventBridgeOptions())
    assert results.status is CallStatus.HELD
    assert "region" in results.message


async def test_a_region_and_credentials_that_appear_late_are_found(tmp_path: Path) -> None:
    options = EventBridgeOptions(profile="team", verify_buses=False)
    client = AwsClient("events", options, 1)
    assert (await put(options, client)).status is CallStatus.HELD
    (tmp_path / "config").write_text("[profile team]\nregion = eu-west-1\n")
    assert "credentials" in (await put(options, client)).message
    await client.close()


def test_a_broken_aws_configuration_does_not_stop_the_start(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("this is no configuration")
    assert AwsClient("events", EventBridgeOptions(), 1).region == ""


async def test_an_endpoint_of_ones_own_needs_no_region() -> None:
    async with fake_aws(OK) as fake:
        assert (await put(EventBridgeOptions(endpoint_url=fake.url))).status is CallStatus.OK
    assert "/us-east-1/events/" in fake.calls[0].headers["authorization"]


async def test_keys_of_a_profile_go_before_those_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id = AKIDTEAM\naws_secret_access_key = s\n")
    async with fake_aws(OK) as fake:
        await put(EventBridgeOptions(region="eu-west-1", endpoint_url=fake.url, profile="team"))
    assert "Credential=AKIDTEAM/" in fake.calls[0].headers["authorization"]


def role_answer(key: str, seconds: float = 3600) -> Answer:
    """What STS answers to AssumeRole."""
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
      <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/events/me</Arn>
      <AssumedRoleId>AROA:me</AssumedRoleId></AssumedRoleUser>
      <Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
      <SessionToken>token-of-{key}</SessionToken><Expiration>{expires}</Expiration></Credentials>
    </AssumeRoleResult></AssumeRoleResponse>"""
    return says(200, body.encode(), Content_Type="text/xml")


def role_refusal(status: int, code: str) -> Answer:
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>no, you</Message></Error></ErrorResponse>"
    return says(status, body.encode(), Content_Type="text/xml")


async def test_a_role_is_assumed_once_and_signs_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIAROLE")) as sts, fake_aws(OK) as trap:
        monkeypatch.setenv("AWS_ENDPOINT_URL", trap.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE)
        client = AwsClient("events", options, 1)
        results = [await put(options, client) for _ in range(3)]
        await client.close()
        assert [each.status for each in results] == [CallStatus.OK] * 3
        assert trap.calls == []
    asked = parse_qs(sts.calls[0].body.decode())
    assert asked["RoleArn"] == [ROLE.arn]
    assert asked["ExternalId"] == ["shared-secret"]
    assert asked["RoleSessionName"] == ["me"]
    assert len(sts.calls) == 1
    assert "Credential=AKIDEXAMPLE/" in sts.calls[0].headers["authorization"]
    assert "/eu-west-1/sts/" in sts.calls[0].headers["authorization"]
    for call in aws.calls:
        assert "Credential=ASIAROLE/" in call.headers["authorization"]
        assert call.headers["x-amz-security-token"] == "token-of-ASIAROLE"


async def test_a_role_is_assumed_again_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.targets.credentials.AGAIN_SECONDS", 0.0)
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIAOLD", 300), role_answer("ASIANEW")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE)
        client = AwsClient("events", options, 1)
        await put(options, client)
        await put(options, client)
        while client.credentials.view().refreshed < 2:
            await asyncio.sleep(0.01)
        await put(options, client)
        await client.close()
    assert "Credential=ASIANEW/" in aws.calls[-1].headers["authorization"]
    assert len(sts.calls) == 2


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ValidationError")])
async def test_a_role_that_may_not_be_assumed_holds_until_it_may(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    async with fake_aws(OK) as aws, fake_aws(role_refusal(status, code), role_answer("ASIAROLE")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE)
        client = AwsClient("events", options, 1)
        held = await put(options, client)
        assert (held.status, aws.calls) == (CallStatus.HELD, [])
        assert "no, you" in held.message
        assert (await put(options, client)).status is CallStatus.OK
        await client.close()
    assert len(sts.calls) == 2


def repeats_all(call: Call) -> web.StreamResponse | Awaitable[web.StreamResponse]:
    """As AWS explains a bad signature."""
    signed = "\n".join(f"{name}:{value}" for name, value in call.headers.items() if name.startswith("x-amz"))
    return fails(403, "InvalidSignatureException", f"The Canonical String should have been '{signed}'")(call)


@pytest.mark.parametrize("transport", ["auto", "plain"])
async def test_what_aws_repeats_of_our_keys_is_not_told(
    monkeypatch: pytest.MonkeyPatch, transport: Literal["auto", "plain"]
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token")
    async with fake_aws(repeats_all) as aws:
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, transport=transport)
        client = AwsClient("events", options, 1)
        results = await put(options, client)
        await client.close()
        assert aws.calls[-1].headers["x-amz-security-token"] == "a-session-token"
    assert "x-amz-security-token:***" in results.message
    assert "a-session-token" not in str(results)


async def test_what_sts_repeats_of_the_keys_behind_a_role_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABEHINDTHEROLE123")

    def sts_repeats_all(call: Call) -> web.StreamResponse | Awaitable[web.StreamResponse]:
        said = f"{call.headers['authorization']} {call.body.decode()}"
        error = f"<Error><Code>AccessDenied</Code><Message>{escape(said)}</Message></Error>"
        return says(403, f"<ErrorResponse>{error}</ErrorResponse>".encode(), Content_Type="text/xml")(call)

    async with fake_aws(OK) as aws, fake_aws(sts_repeats_all) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE)
        client = AwsClient("events", options, 1)
        held = await put(options, client)
        await client.close()
    assert held.status is CallStatus.HELD
    assert "Credential=***/" in held.message
    assert "shared-secret" not in held.message


async def test_a_role_without_credentials_to_assume_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIAROLE")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        results = await put(EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE))
        assert (results.status, results.code) == (CallStatus.HELD, "credentials")
        assert sts.calls == aws.calls == []


async def test_a_throttled_sts_is_tried_as_by_every_sdk_and_then_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with fake_aws(OK) as aws, fake_aws(role_refusal(400, "Throttling")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        results = await put(EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE))
    assert (results.status, results.code) == (CallStatus.HELD, "credentials")
    assert "AssumeRole: Throttling: no, you" in results.message
    assert len(sts.calls) == 3


async def test_a_redirect_of_sts_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIAROLE")) as elsewhere:
        async with fake_aws(says(307, b"", Location=elsewhere.url)) as sts:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            results = await put(EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE))
        assert elsewhere.calls == aws.calls == []
    assert (results.status, results.code) == (CallStatus.HELD, "credentials")


async def test_the_role_of_a_profile_is_not_sought_at_the_general_endpoint_url(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"[profile team]\nrole_arn = {ROLE.arn}\ncredential_source = Environment\nregion = eu-west-1\n"
    )
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIATEAM")) as sts, fake_aws(OK) as trap:
        monkeypatch.setenv("AWS_ENDPOINT_URL", trap.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        results = await put(EventBridgeOptions(endpoint_url=aws.url, profile="team"))
        assert trap.calls == []
    assert results.status is CallStatus.OK
    assert "Credential=ASIATEAM/" in aws.calls[0].headers["authorization"]


async def test_sts_itself_is_asked_when_only_the_general_endpoint_url_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    async with hosts_asked_for(monkeypatch) as hosts:
        await put(EventBridgeOptions(region="eu-west-1", role=ROLE))
    assert set(hosts) == {"sts.eu-west-1.amazonaws.com:443"}


async def test_calls_that_start_together_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_aws(OK) as aws, fake_aws(role_answer("ASIAROLE")) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, role=ROLE)
        client = AwsClient("events", options, 8)
        results = await asyncio.gather(*(put(options, client) for _ in range(8)))
        await client.close()
    assert {each.status for each in results} == {CallStatus.OK}
    assert len(sts.calls) == 1


async def test_something_missing_keeps_the_client_and_a_denial_renews_it() -> None:
    missing, denied = fails(400, "ResourceNotFoundException"), fails(403, "AccessDeniedException")
    async with fake_aws(missing, denied, OK) as aws:
        options = EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url)
        client = AwsClient("events", options, 1)
        for _ in range(3):
            await put(options, client)
        await client.close()
    first, second, third = (call.peer for call in aws.calls)
    assert first == second != third


async def test_what_the_reader_stumbles_over_is_retried() -> None:
    def stumbles(got: Any, count: int) -> list[Outcome]:
        raise KeyError("Entries")

    async with fake_aws(OK) as aws:
        client = AwsClient("events", EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url), 1)
        results = await client.call("PutEvents", {"Entries": []}, 1, stumbles)
        await client.close()
    assert (results.status, results.code) == (CallStatus.UNAVAILABLE, "other")


def test_the_models_in_the_package_are_json() -> None:
    models = Path(__file__).parents[3] / "forwarder" / "targets" / "models"
    names = {
        str(path.relative_to(models)) for path in models.rglob("*.json") if json.loads(path.read_bytes())
    }
    assert names == {
        "evidently/2021-02-01/service-2.json",
        "evidently/2021-02-01/endpoint-rule-set-1.json",
        "rum/2018-05-10/service-2.sdk-extras.json",
    }
