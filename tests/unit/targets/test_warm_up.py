"""What is made before the first call."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest

from forwarder.model import CallStatus
from forwarder.targets import session
from forwarder.targets import warm_up as making
from forwarder.targets.client import AwsClient
from forwarder.targets.eventbridge import EventBridgeOptions
from forwarder.targets.evidently import EvidentlyOptions
from forwarder.targets.rum import RumOptions
from forwarder.targets.session import NoRedirectSession
from forwarder.targets.warm_up import warm_up
from tests.support.fake_aws import aws_environment, fake_aws, says

__all__ = ["aws_environment"]

TARGETS = [
    EventBridgeOptions(region="eu-west-1"),
    RumOptions(region="eu-west-1", app_monitors=["00000000-0000-4000-8000-0000000000aa"]),
    EvidentlyOptions(region="eu-west-1", endpoint_url="http://127.0.0.1:9", projects=["shop"]),
]


@pytest.fixture
def cold(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has just begun, on a machine that may be busy."""
    monkeypatch.setattr(making, "MOST_SECONDS", 60.0)
    session._loader.cache_clear()
    session._contexts.clear()
    yield
    session._loader.cache_clear()
    session._contexts.clear()


@pytest.fixture
def black_hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The instance's metadata: accepts, and never answers. A resolver that must not be asked."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        hole.setblocking(False)
        host, port = hole.getsockname()
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{host}:{port}/")
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)

        def asked(*args: Any, **more: Any) -> Any:
            raise AssertionError("a name was looked up")

        monkeypatch.setattr(socket, "getaddrinfo", asked)
        yield hole


async def test_after_it_the_first_call_reads_no_model_and_no_certificate(
    cold: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = EventBridgeOptions(region="eu-west-1")
    await warm_up([options])
    read: list[str] = []
    whole = botocore.loaders.JSONFileLoader.load_file

    def load(self: Any, path: str) -> Any:
        read.append(path)
        return whole(self, path)

    def no_context(self: Any) -> ssl.SSLContext:
        raise AssertionError("the certificates are read again")

    monkeypatch.setattr(botocore.loaders.JSONFileLoader, "load_file", load)
    monkeypatch.setattr(NoRedirectSession, "_build_verify_context", no_context)
    async with fake_aws(says(200, b"{}")) as fake:
        own = EventBridgeOptions(region="eu-west-1", endpoint_url=fake.url)
        client = AwsClient("events", own, 1)
        results = await client.call("PutEvents", {}, 0, lambda answer, count: [], b'{"Entries":[]}')
        await client.close()
    assert results.status is CallStatus.OK
    assert read == []


async def test_it_asks_for_no_credentials_and_no_name(cold: None, black_hole: socket.socket) -> None:
    await warm_up(TARGETS)
    with pytest.raises(BlockingIOError):
        black_hole.accept()


async def test_what_goes_wrong_stops_no_start(
    cold: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    await warm_up(TARGETS)
    monkeypatch.delenv("AWS_CA_BUNDLE")
    monkeypatch.setenv("AWS_PROFILE", "no such profile")
    await warm_up(TARGETS)


async def test_certificates_that_changed_are_read_again(cold: None, tmp_path: Path) -> None:
    import certifi

    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    first = await asyncio.to_thread(NoRedirectSession(verify=str(bundle)).tls_context)
    assert NoRedirectSession(verify=str(bundle)).tls_context() is first
    bundle.write_bytes(bundle.read_bytes() + b"\n")
    assert NoRedirectSession(verify=str(bundle)).tls_context() is not first


@pytest.mark.parametrize("host", ["my_gateway:8080", "-gateway", "a..b"])
async def test_a_host_that_the_sdk_does_not_like_stops_no_start(cold: None, host: str) -> None:
    """Compose names containers with underscores. The SDK raises a plain ValueError for them."""
    await warm_up([EventBridgeOptions(region="eu-west-1", endpoint_url=f"http://{host}")])
