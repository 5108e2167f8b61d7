"""A small HTTP server that answers as it is told, and the surroundings of a test that talks to it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

Answer = Callable[["Call"], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass(frozen=True)
class Call:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    peer: object
    """The caller's address and port: the same on the same connection."""
    request: web.BaseRequest

    @property
    def operation(self) -> str:
        return self.headers.get("x-amz-target", "").rpartition(".")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeAws:
    """``answers`` are used up one a call, the last for ever."""

    answers: list[Answer]
    url: str = ""
    calls: list[Call] = field(default_factory=list)

    def of(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        call = Call(request.raw_path, headers, await request.read(), peer, request)
        self.calls.append(call)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        response = answer(call)
        return response if isinstance(response, web.StreamResponse) else await response


@asynccontextmanager
async def fake_aws(*answers: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeAws]:
    fake = FakeAws(list(answers))
    server = web.Server(fake.handle)
    runner = web.ServerRunner(server, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    fake.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


def says(status: int, body: object, **headers: str) -> Answer:
    """``body``: bytes as they are, anything else as JSON. Header names are written with underscores."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("Content-Type", "application/json")
    return lambda call: web.Response(status=status, body=payload, headers=named)


def fails(status: int, code: str, message: str = "some words", **headers: str) -> Answer:
    """An error as AWS says it: the code in the body and in a header."""
    return says(status, {"__type": code, "message": message}, x_amzn_ErrorType=code, **headers)


async def hangs(call: Call) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody hung up")


def resets(call: Call) -> web.StreamResponse:
    """Hang up on a request that was read."""
    transport = call.request.transport
    assert transport is not None
    transport.abort()
    return web.Response()


AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)


def set_credentials(monkeypatch: pytest.MonkeyPatch, key: str = "AKIDEXAMPLE") -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def forget_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing of this machine's AWS configuration, but one pair of keys."""
    for name in AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    set_credentials(monkeypatch)
