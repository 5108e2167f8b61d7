"""Where credentials come from, as small servers of the test's own: STS, IMDS, a container's endpoint.

Invariants:
- Every key that is handed out is new, and remembered with how it was asked for.
- A source that is ``down`` answers 500; one that asks for proof of who asks refuses without it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest
from aiohttp import web

from tests.support.fake_aws import forget_credentials

ROLE = "arn:aws:iam::123456789012:role/events"
SECRET = "secret"
IMDS_TOKEN = "a-session-with-imds"
SOON, LATER = 300.0, 3600.0
"""Seconds: within the time before the end in which the SDK refreshes, and long before it."""

SOON_FOR_AN_INSTANCE, WINDOW_OF_AN_INSTANCE = 1600.0, 2000.0
"""The SDK takes keys of an instance that end within 25 minutes for good for longer, so the time before the
end in which keys are renewed is moved before that."""

_numbers = itertools.count(1)


def write_keys(path: Path, key: str) -> None:
    """A shared credentials file with this access key, in place of the one before, at once."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\n")
    fresh.replace(path)


@dataclass
class Source:
    """What the servers share: the keys handed out, for how long they last, and whether there are any."""

    token_file: Path
    lasts: float = LATER
    down: bool = False
    url: str = ""
    keys: list[str] = field(default_factory=list)
    ends: float = 0.0
    proofs: set[str] = field(default_factory=set)
    """What callers showed to get keys."""

    def hand_out(self) -> dict[str, str]:
        """New keys, as a container's endpoint and IMDS say them."""
        self.keys.append(f"ASIA{next(_numbers):016}")
        end = datetime.now(UTC) + timedelta(seconds=self.lasts)
        self.ends = end.timestamp()
        return {
            "Code": "Success",
            "AccessKeyId": self.keys[-1],
            "SecretAccessKey": SECRET,
            "Token": "session-token",
            "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


Handler = Callable[[Source, web.Request, str], web.Response]


class SetUp(Protocol):
    """Tells the environment where the source is."""

    def __call__(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None: ...


def _refused(status: int = 403) -> web.Response:
    return web.Response(status=status, text="no")


def sts(source: Source, request: web.Request, body: str) -> web.Response:
    """AssumeRole, signed, and AssumeRoleWithWebIdentity, with the token of the file."""
    asked = dict(pair.split("=", 1) for pair in body.split("&"))
    action = asked["Action"]
    if action == "AssumeRole":
        if "Credential=AKIDBASE/" not in request.headers.get("Authorization", ""):
            return _refused()
        source.proofs.add("AKIDBASE")
    elif asked.get("WebIdentityToken") != source.token_file.read_text():
        return _refused()
    else:
        source.proofs.add(asked["WebIdentityToken"])
    keys = source.hand_out()
    given = "".join(
        f"<{name}>{keys[word]}</{name}>"
        for name, word in (
            ("AccessKeyId", "AccessKeyId"),
            ("SecretAccessKey", "SecretAccessKey"),
            ("SessionToken", "Token"),
            ("Expiration", "Expiration"),
        )
    )
    answer = f"""<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>
      <AssumedRoleUser><Arn>{ROLE}/me</Arn><AssumedRoleId>AROA:me</AssumedRoleId></AssumedRoleUser>
      <Credentials>{given}</Credentials></{action}Result></{action}Response>"""
    return web.Response(text=answer, content_type="text/xml")


def imds(source: Source, request: web.Request, body: str) -> web.Response:
    """IMDSv2: no answer without a session's token."""
    if request.path == "/latest/api/token":
        if request.method != "PUT" or "x-aws-ec2-metadata-token-ttl-seconds" not in request.headers:
            return _refused()
        return web.Response(text=IMDS_TOKEN)
    if request.headers.get("x-aws-ec2-metadata-token") != IMDS_TOKEN:
        return _refused(401)
    source.proofs.add(IMDS_TOKEN)
    role = request.path.removeprefix("/latest/meta-data/iam/security-credentials/")
    return web.json_response(source.hand_out()) if role else web.Response(text="events")


def container(source: Source, request: web.Request, body: str) -> web.Response:
    """The endpoint of ECS and of EKS Pod Identity, with the token of the file."""
    token = request.headers.get("Authorization", "")
    if token != source.token_file.read_text():
        return _refused(401)
    source.proofs.add(token)
    return web.json_response(source.hand_out())


@asynccontextmanager
async def serving(
    handler: Handler, token_file: Path, hangs: Callable[[], bool] = lambda: False
) -> AsyncIterator[Source]:
    source = Source(token_file)
    token_file.write_text("token-1")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.text()
        assert isinstance(request, web.Request)
        if hangs():
            await asyncio.sleep(60)
        return _refused(500) if source.down else handler(source, request, body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield source
    finally:
        await runner.cleanup()


def use_role(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDBASE")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", source.url)


def use_web_identity(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", source.url)
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(source.token_file))


def use_imds(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", source.url)


def use_container(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_credentials(monkeypatch)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{source.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(source.token_file))
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0.01)
