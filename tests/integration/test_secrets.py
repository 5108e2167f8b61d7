"""Secrets are planted wherever a daemon meets one, AWS repeats them in its errors, and none is told again.

Invariants:
- All that the daemon and its commands say is looked through: listeners, logs at debug level, dumps, errors.
- What is looked for must have been there: the stand-in for AWS got each secret, or the daemon refused it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import aiohttp
import pytest

from forwarder.ingest.auth import tokens
from tests.support.fake_aws import Call, FakeAws, fails, fake_aws, says
from tests.support.harness import until
from tests.support.processes import ROOT, Process, running

ACCESS_KEY, SECRET_KEY = "AKIAPLANTEDACCESSKEY", "planted-secret-access-key-0123456789abcdef"
SESSION_TOKEN = "planted-session-token-" + "0123456789abcdef" * 8
EXTERNAL_ID = "planted-external-id"
BEARER, IDEMPOTENCY_KEY, INVOCATION = "planted-bearer-token", "planted-idempotency-key", "planted-invocation"
PASSWORD = "planted-password"
TOKEN, TOKEN_LINE = tokens.make("shop")
SENDER_SECRET = "planted-secret-of-a-sender"
SECRETS = (
    ACCESS_KEY,
    SECRET_KEY,
    SESSION_TOKEN,
    EXTERNAL_ID,
    BEARER,
    IDEMPOTENCY_KEY,
    INVOCATION,
    PASSWORD,
    TOKEN,
    SENDER_SECRET,
)
EVENT = {"Source": "my.app", "DetailType": "Hello", "Detail": {"n": 1}}
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": IDEMPOTENCY_KEY}
KEYS = f"[sdk]\naws_access_key_id = SENDER1\naws_secret_access_key = {SENDER_SECRET}\n"
AWS_HEADERS = {
    "X-Amz-Target": "AWSEvents.PutEvents",
    "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20261121/eu-west-1/events/aws4_request",
    "X-Amz-Security-Token": SESSION_TOKEN,
    "amz-sdk-invocation-id": INVOCATION,
}


def repeats_all(call: Call) -> Any:
    """As AWS answers a bad signature: with all that should have been signed; and a URL with a password."""
    first = ("x-amz-security-token", "authorization")  # before what may be cut
    names = sorted(call.headers, key=lambda name: name not in first)
    signed = "\n".join(f"{name}:{call.headers[name]}" for name in names)
    words = f"The Canonical String should have been '{signed}', see http://me:{PASSWORD}@aws/"
    if call.operation:
        return fails(403, "InvalidSignatureException", words)(call)
    code = "<Code>SignatureDoesNotMatch</Code>"
    ours = unquote(call.body.decode())[-80:]
    told = escape(f"{ours} {words}")
    answer = f"<ErrorResponse><Error>{code}<Message>{told}</Message></Error></ErrorResponse>"
    return says(403, answer.encode(), Content_Type="text/xml")(call)


def senders(folder: Path) -> dict[str, str]:
    files = {"tokens": f"{TOKEN_LINE}\n", "access_keys": KEYS}
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return {name: str(folder / name) for name in files}


def write_config(path: Path, aws: str, **more: object) -> None:
    target = {"kind": "eventbridge", "region": "eu-west-1", "endpoint_url": aws, "hold": {"probe": "100ms"}}
    role = {"arn": "arn:aws:iam::123456789012:role/events", "external_id": EXTERNAL_ID}
    targets = {
        "orders": {**target, "queue": "disk", "default": True, **more},
        "shared": {**target, "buses": ["shared"], "role": role},
    }
    path.write_text(
        json.dumps(
            {
                "ingest": {"listen": "127.0.0.1:0", "auth": senders(path.parent)},
                "admin": {"listen": "127.0.0.1:0"},
                "storage": {"path": str(path.parent / "state")},
                "shutdown": {"input_grace": 0, "drain_timeout": "1s"},
                "log": {"level": "debug", "format": "json"},
                "targets": targets,
            }
        )
    )


async def command(*words: str) -> str:
    """All that a command says, on stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forwarder", *words),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return f"$ {words[0]}\n{said.decode()}"


async def commands(*all_words: Sequence[str]) -> list[str]:
    return await asyncio.gather(*(command(*words) for words in all_words))


async def sent(http: aiohttp.ClientSession, ingest: str) -> list[str]:
    """Good and bad requests, each with secrets in its headers; what the senders were told."""
    orders, said = f"{ingest}/v1/targets/orders/events", []
    requests: list[tuple[str, object, Mapping[str, str]]] = [
        (orders, EVENT, HEADERS),
        (f"{ingest}/v1/targets/shared/events", EVENT, HEADERS),
        (orders, {**EVENT, "Source": "another"}, HEADERS),
        (orders, "not an event", {"Authorization": HEADERS["Authorization"]}),
        (orders, EVENT, {**HEADERS, "Authorization": f"Bearer {BEARER}"}),
        (f"{ingest}/v1/nowhere", EVENT, HEADERS),
        (ingest, {"Entries": [{**EVENT, "Detail": "{}"}]}, AWS_HEADERS),
        (ingest, {"Entries": []}, AWS_HEADERS),
    ]
    for url, body, headers in requests:
        async with http.post(url, json=body, headers=headers) as answer:
            said.append(f"{answer.headers} {await answer.text()}")
    return said


async def both_are_held(http: aiohttp.ClientSession, admin: str, aws: FakeAws) -> None:
    async def held() -> bool:
        async with http.get(f"{admin}/status") as answer:
            targets = (await answer.json())["targets"].values()
        # Of a bus that was never seen to exist only the question was asked: its events are set aside.
        return all(target["state"] == "held" or "Signature" in str(target["set_aside"]) for target in targets)

    await until(held, "neither target delivers")
    calls = [f"{call.headers} {call.body.decode()}" for call in aws.calls]
    for secret in (ACCESS_KEY, SESSION_TOKEN, EXTERNAL_ID):
        assert any(secret in call for call in calls), secret


async def everything(daemon: Process, config: Path, aws: FakeAws) -> list[str]:
    """What the daemon and its commands say, until it is stopped."""
    line = await daemon.says("ready")
    admin = f"http://{line['admin']}"
    async with aiohttp.ClientSession() as http:
        said = await sent(http, f"http://{line['ingest']}")
        await both_are_held(http, admin, aws)
        for path in ("/", "/page.js", "/status", "/history", "/config", "/metrics", "/nowhere"):
            async with http.get(admin + path, headers=HEADERS) as answer:
                said.append(f"{path}: {answer.headers} {await answer.text()}")
    state, where = str(config.parent / "state"), ("-c", str(config))
    said += await commands(
        ["status", "--url", admin],
        ["doctor", *where],
        ["queue", "dump", state],
        ["dead-letters", "export", *where],
        ["pause", "orders", *where],
    )
    daemon.ask()
    await daemon.ended()
    return said


async def test_no_secret_is_told_again(
    tmp_path: Path, aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "forwarder.yaml"
    async with fake_aws(repeats_all) as aws:
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_ENDPOINT_URL_STS": aws.url,
        }.items():
            monkeypatch.setenv(name, value)
        write_config(config, aws.url)
        async with running([sys.executable, "-m", "forwarder", "run", "-c", str(config)]) as daemon:
            said = await everything(daemon, config, aws)
        said.append(json.dumps(daemon.lines))
    write_config(config, aws.url.replace("http://", f"http://me:{PASSWORD}@"))
    said += await commands(*([word, "-c", str(config)] for word in ("check", "run", "doctor")))
    assert all("without a user" in each for each in said[-3:]), said[-3:]
    write_config(config, aws.url)
    for name, mistake in {"tokens": f"shop {TOKEN}", "access_keys": f"[sdk]\n{SENDER_SECRET}\n"}.items():
        (tmp_path / name).write_text(mistake)
        said.append(await command("run", "-c", str(config)))
        assert f"ingest.auth.{name}" in said[-1]
        senders(tmp_path)
    assert "InvalidSignatureException" in "".join(said)
    for secret in SECRETS:
        assert [each for each in said if secret in each] == [], secret
