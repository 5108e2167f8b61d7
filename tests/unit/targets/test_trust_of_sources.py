"""Whose certificates are trusted for each call: tried for real, against TLS servers of an unknown authority.

``TRUSTED_BY`` says for each kind of call whether a setting counts. docs/credentials.md has the same table.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from forwarder.model import CallStatus, Results
from forwarder.targets import source_table
from forwarder.targets.client import AwsClient
from forwarder.targets.eventbridge import EventBridgeOptions
from forwarder.targets.options import Role
from tests.support import credential_sources as sources
from tests.support.certificates import self_signed
from tests.support.credential_sources import Source
from tests.support.fake_aws import aws_environment, fake_aws, says
from tests.unit.targets.test_broken_sources import OK, Stage, put, sso

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

SETTINGS = ("none", "AWS_CA_BUNDLE", "ca_bundle", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
BY_BUNDLE = {"AWS_CA_BUNDLE", "ca_bundle", "REQUESTS_CA_BUNDLE"}
TRUSTED_BY: dict[str, set[str]] = {
    "calls with events": BY_BUNDLE,
    "STS, for a role": BY_BUNDLE,
    "STS, for a web identity": BY_BUNDLE,
    "SSO": BY_BUNDLE,
    "a container's endpoint": set(),
    "IMDS": set(),
}


def trust(setting: str, certificate: Path, stage: Stage) -> None:
    if setting == "ca_bundle":
        path = stage.folder / "config"
        before = path.read_text() if path.exists() else "[default]\n"
        stage.config(before.replace("[default]\n", f"[default]\nca_bundle = {certificate}\n"))
    elif setting != "none":
        stage.patch.setenv(setting, str(certificate))


def use(call: str, stage: Stage) -> None:
    """Set the source up as it works without TLS."""
    if call == "STS, for a role":
        sources.use_role(stage.source, stage.patch)
        stage.options["role"] = Role(arn=sources.ROLE)
    elif call == "STS, for a web identity":
        sources.use_web_identity(stage.source, stage.patch)
    elif call == "SSO":
        sso(stage)
    elif call == "a container's endpoint":
        stage.answer = sources.container
        sources.use_container(stage.source, stage.patch)
    elif call == "IMDS":
        stage.answer = sources.imds
        sources.use_imds(stage.source, stage.patch)


@asynccontextmanager
async def tls_source(stage: Stage, context: ssl.SSLContext) -> AsyncIterator[None]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.text()
        assert isinstance(request, web.Request)
        return stage.answer(stage.source, request, body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    stage.source.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("call", TRUSTED_BY)
async def test_a_setting_counts_for_a_call_as_the_table_says(
    call: str, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    token = tmp_path / "token"
    token.write_text("token-1")
    stage = Stage(tmp_path, monkeypatch, Source(token), {"region": "eu-west-1"})
    async with (
        tls_source(stage, context),
        fake_aws(OK, tls=context if call == "calls with events" else None) as aws,
    ):
        use(call, stage)
        trust(setting, certificate, stage)
        client = AwsClient("events", EventBridgeOptions(endpoint_url=aws.url, **stage.options), 1)
        results = await put(client)
        await client.close()
    if setting in TRUSTED_BY[call]:
        assert results.status is CallStatus.OK, results.message
        return
    assert results.status is CallStatus.HELD
    assert results.code == ("tls" if call == "calls with events" else "credentials")
    if call != "IMDS":  # whose trouble the SDK does not tell
        assert advice(call) in results.message


def advice(call: str) -> str:
    return source_table.BY_CERTIFI if not TRUSTED_BY[call] else source_table.BUNDLES


def test_the_documented_table_is_the_tested_one() -> None:
    text = (Path(__file__).parents[3] / "docs" / "credentials.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|$", text, re.MULTILINE)
    words = ("AWS_CA_BUNDLE", "ca_bundle", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    documented = {
        call: {word for word, counts in zip(words, answers, strict=True) if counts == "yes"}
        for call, *answers in rows
    }
    assert documented == TRUSTED_BY


# --- where STS is


@pytest.mark.parametrize(
    ("region", "environment", "profile", "host"),
    [
        ("eu-west-1", {}, "", "sts.eu-west-1.amazonaws.com"),
        ("eu-west-1", {"AWS_DEFAULT_REGION": "us-west-2"}, "", "sts.eu-west-1.amazonaws.com"),
        (None, {"AWS_REGION": "us-east-2"}, "", "sts.us-east-2.amazonaws.com"),
        (None, {"AWS_DEFAULT_REGION": "us-west-2"}, "", "sts.us-west-2.amazonaws.com"),
        (None, {}, "region = ap-southeast-2", "sts.ap-southeast-2.amazonaws.com"),
        ("cn-north-1", {}, "", "sts.cn-north-1.amazonaws.com.cn"),
        ("eu-west-1", {"AWS_STS_REGIONAL_ENDPOINTS": "legacy"}, "", "sts.amazonaws.com"),
        ("eu-west-1", {}, "sts_regional_endpoints = legacy", "sts.amazonaws.com"),
        ("us-east-1", {"AWS_USE_FIPS_ENDPOINT": "true"}, "", "sts-fips.us-east-1.amazonaws.com"),
    ],
)
@pytest.mark.parametrize("way", ["a role of the target", "a web identity"])
async def test_sts_is_asked_in_the_region_that_the_sdks_document(
    way: str,
    region: str | None,
    environment: dict[str, str],
    profile: str,
    host: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proxied: Callable[[], Any],
) -> None:
    monkeypatch.setattr("forwarder.targets.session.CREDENTIALS_TRIES", 1)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").write_text(f"[default]\n{profile}\n")
    options: dict[str, Any] = {"region": region}
    if way == "a web identity":
        stage = Stage(tmp_path, monkeypatch, Source(tmp_path / "token"))
        (tmp_path / "token").write_text("token")
        sources.use_web_identity(stage.source, monkeypatch)
        monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    else:
        options["role"] = Role(arn=sources.ROLE)
    async with proxied() as hosts:
        client = AwsClient("events", EventBridgeOptions(**options), 1)
        results: Results = await put(client)
        await client.close()
    assert set(hosts) == {f"{host}:443"}
    assert (results.status, results.code) == (CallStatus.HELD, "credentials")


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    from tests.unit.targets.test_aws import hosts_asked_for

    return lambda: hosts_asked_for(monkeypatch)


# --- a denial is about what was named


async def test_one_denied_app_monitor_costs_the_others_no_new_client_and_no_new_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = says(403, {"__type": "AccessDeniedException", "message": "not this one"})
    async with fake_aws(OK, denied, OK, denied, OK) as aws:
        client = AwsClient("events", EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url), 1)
        statuses = [(await put(client)).status for _ in range(5)]
        first = client.credentials.view().refreshed
        await client.close()
    assert statuses == [CallStatus.OK, CallStatus.HELD] * 2 + [CallStatus.OK]
    assert (len({call.peer for call in aws.calls}), first) == (1, 1)


async def test_a_denial_of_everything_finds_new_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = says(403, {"__type": "AccessDeniedException", "message": "nothing at all"})
    async with fake_aws(OK, denied, denied, OK) as aws:
        client = AwsClient("events", EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url), 1)
        for key in ("AKIDOLD", "AKIDNEW", "AKIDNEW", "AKIDNEW"):
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
            await put(client)
        await client.close()
    keys = [call.headers["authorization"].partition("Credential=")[2].partition("/")[0] for call in aws.calls]
    assert keys == ["AKIDOLD", "AKIDOLD", "AKIDOLD", "AKIDNEW"]
