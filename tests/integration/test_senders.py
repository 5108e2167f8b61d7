"""Who may send, asked of a daemon in its own process: tokens, keys and certificates, and their change.

Invariants:
- Secrets are planted wherever one can stand; none may come out anywhere.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from forwarder.config import AuthConfig
from forwarder.ingest.auth.tokens import make
from tests.support.authorities import Authority
from tests.support.events import event, markers
from tests.support.harness import Settings, World, until
from tests.support.processes import Process, daemon_beside, run_command, running
from tests.support.signing import JSON_1_1, by_header

TOKEN, LINE = make("shop")
NEXT, NEXT_LINE = make("shop")
SECRET, SESSION = "PLANTED/secret", "PLANTED/session"
KEYS = f"""[till]
aws_access_key_id = AKIDEXAMPLE
aws_secret_access_key = {SECRET}
aws_session_token = {SESSION}
"""


@pytest.fixture
def auth(tmp_path: Path) -> AuthConfig:
    tokens, keys = tmp_path / "tokens", tmp_path / "keys"
    tokens.write_text(LINE)
    keys.write_text(KEYS)
    return AuthConfig(tokens=str(tokens), access_keys=str(keys))


def asking(auth: AuthConfig, **more: Settings) -> Settings:
    return {"auth": {"tokens": auth.tokens, "access_keys": auth.access_keys}, **more}


async def status_of(place: World, token: str, path: str = "/v1/targets/orders/events") -> int:
    (name,) = markers(1)
    headers = {"Authorization": f"Bearer {token}"}
    async with place.http.post(
        f"{place.ingest}{path}", json=event("eventbridge", name), headers=headers
    ) as answer:
        return answer.status


def config_of(place: World) -> Path:
    return place.storage.with_suffix(".yaml")


# --- the address


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_an_address_that_others_reach_needs_to_ask_who_sends(place: World, address: str) -> None:
    async with running(run_command(place, ingest={"listen": address})) as daemon:
        assert await daemon.ended() == 78
    [line] = daemon.lines
    assert f":1: ingest.listen: {address} can be reached from other machines" in line["message"]


async def test_it_may_be_said_that_all_may_send(place: World) -> None:
    open_to_all: Settings = {"listen": "0.0.0.0:0", "auth": {"allow_unauthenticated": True}}
    async with daemon_beside(place, ingest=open_to_all) as daemon:
        daemon.ask()
        assert await daemon.ended() == 0


@pytest.mark.parametrize(("host", "code"), [("0.0.0.0", 78), ("127.0.0.1", 0)])
async def test_an_inherited_socket_is_judged_by_its_own_address(place: World, host: str, code: int) -> None:
    with socket.create_server((host, 0)) as listener:
        address = f"{host}:{listener.getsockname()[1]}"
        message = "cannot start" if code else "ready"
        async with daemon_beside(place, wait_for=message, given={"ingest": listener}) as daemon:
            if not code:
                daemon.ask()
            assert await daemon.ended() == code
    for line in daemon.said("cannot start"):
        assert line["reason"].startswith(f"ingest.listen: {address} can be reached from other machines")
        assert "inherited socket" in line["reason"]


async def test_an_inherited_socket_that_others_reach_is_taken_with_auth(
    place: World, auth: AuthConfig
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        async with daemon_beside(place, given={"ingest": listener}, ingest=asking(auth)) as daemon:
            place.ingest = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert [await status_of(place, each) for each in (TOKEN, NEXT)] == [202, 401]
            daemon.ask()
            assert await daemon.ended() == 0


@pytest.mark.parametrize(
    ("known", "code", "said"), [(True, 0, "1 accepted, 0 refused"), (False, 1, "bearer token")]
)
async def test_send_takes_its_token_from_the_environment(
    place: World, auth: AuthConfig, known: bool, code: int, said: str
) -> None:
    token = TOKEN if known else NEXT
    async with daemon_beside(place, ingest=asking(auth)) as daemon:
        sending = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "forwarder", "send", "orders", "--url", place.ingest),
            env={**os.environ, "FORWARDER_TOKEN": token},
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await sending.communicate(json.dumps(event("eventbridge", *markers(1))).encode())
        assert (sending.returncode, said in errors.decode()) == (code, True), errors
        assert token not in errors.decode()
        daemon.ask()
        assert await daemon.ended() == 0


# --- change


async def test_a_changed_file_is_in_force_by_itself(place: World, auth: AuthConfig) -> None:
    async with daemon_beside(place, ingest=asking(auth)) as daemon:
        assert [await status_of(place, each) for each in (TOKEN, NEXT)] == [202, 401]
        assert auth.tokens is not None
        Path(auth.tokens).write_text(NEXT_LINE)
        await daemon.says("secrets file reloaded", file="tokens")
        assert [await status_of(place, each) for each in (TOKEN, NEXT)] == [401, 202]
        Path(auth.tokens).write_text("PLANTED")
        await daemon.says("invalid secrets file ignored; keeping the last valid version")
        assert [await status_of(place, each) for each in (TOKEN, NEXT)] == [401, 202]
        daemon.ask()
        assert await daemon.ended() == 0
    assert "PLANTED" not in json.dumps(daemon.lines)


async def test_sighup_reads_all_again_at_once_and_says_so_in_one_line(
    place: World, auth: AuthConfig, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    secured = asking(auth, tls={"certificate": certificate, "key": key})
    async with daemon_beside(place, ingest=secured) as daemon:
        daemon.ask(signal.SIGHUP)
        line = await daemon.says("reload finished")
        told = {name: line.get(name) for name in ("tokens", "access_keys", "tls", "log_level", "restart")}
        assert told == {
            **dict.fromkeys(("tokens", "access_keys", "tls"), "good"),
            "log_level": "info",
            "restart": None,
        }
        Path(key).write_text("PLANTED")
        daemon.ask(signal.SIGHUP)
        await daemon.says("reload finished", tls="bad", tokens="good")
        async with aiohttp.ClientSession() as http:
            url = f"{place.ingest.replace('http', 'https')}/v1/targets/orders/events"
            headers = {"Authorization": f"Bearer {TOKEN}"}
            body = event("eventbridge", *markers(1))
            async with http.post(url, json=body, headers=headers, ssl=authority.trusted()) as answer:
                assert answer.status == 202
        daemon.ask()
        assert await daemon.ended() == 0


async def test_sighup_changes_the_log_level_and_nothing_else_of_the_configuration(
    place: World, auth: AuthConfig
) -> None:
    async with daemon_beside(place, ingest=asking(auth)) as daemon:
        config = json.loads(config_of(place).read_text())
        rewrite(place, config, level="debug", drain_timeout="31s")
        daemon.ask(signal.SIGHUP)
        await daemon.says(
            "reload finished", log_level="debug", restart=("needed for the other changed settings")
        )
        rewrite(place, config, level="debug", drain_timeout="30s")
        daemon.ask(signal.SIGHUP)
        await until_said(daemon, 2)
        assert "restart" not in daemon.said("reload finished")[-1]
        config_of(place).write_text("PLANTED: [")
        daemon.ask(signal.SIGHUP)
        await daemon.says("invalid configuration ignored; keeping the log level")
        rewrite(place, config, level="error", drain_timeout="31s")
        for times in (5, 6):  # once the files are read for the last time, the level before that is in force
            daemon.ask(signal.SIGHUP)
            await reads(place, times)
        daemon.ask()
        assert await daemon.ended() == 0
    assert daemon.said("ready")
    assert not daemon.said("stopping")


def rewrite(place: World, config: Settings, level: str, drain_timeout: str) -> None:
    config["log"]["level"], config["shutdown"]["drain_timeout"] = level, drain_timeout
    config_of(place).write_text(json.dumps(config))


async def until_said(daemon: Process, times: int) -> None:
    async def there() -> bool:
        return len(daemon.said("reload finished")) == times

    await until(there, f"the daemon read again {times} times")


async def reads(place: World, times: int) -> None:
    """Wait until the tokens were read this many times."""

    async def there() -> bool:
        return f'reads_total{{file="tokens",outcome="ok"}} {times}.0' in await place.metrics()

    await until(there, f"the tokens were read {times} times")


# --- what is kept secret


async def test_no_secret_comes_out_anywhere(place: World, auth: AuthConfig) -> None:
    async with daemon_beside(place, ingest=asking(auth)) as daemon:
        assert await status_of(place, TOKEN) == 202
        assert await status_of(place, "PLANTED-token") == 401
        made = by_header(f"{place.ingest}/", headers=JSON_1_1, secret=SECRET, session_token=SESSION)
        for headers in (dict(made.headers), {**made.headers, "X-Amz-Date": "PLANTED"}):
            async with place.http.post(f"{place.ingest}/", data=b"{}", headers=headers) as answer:
                assert answer.status == 403
        assert auth.access_keys is not None
        Path(auth.access_keys).write_text(f"{KEYS}PLANTED\n")
        daemon.ask(signal.SIGHUP)
        await daemon.says("reload finished", access_keys="bad")
        async with place.http.get(f"{place.admin}/status") as answer:
            shown = await answer.text() + await place.metrics()
        daemon.ask()
        assert await daemon.ended() == 0
    for text in (json.dumps(daemon.lines), shown):
        for secret in ("PLANTED", TOKEN, LINE.split()[1], made.headers["Authorization"]):
            assert secret not in text
    assert 'forwarder_http_unauthenticated_requests_total{reason="unknown"} 1.0' in shown
