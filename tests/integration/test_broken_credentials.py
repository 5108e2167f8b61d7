"""What a person on call sees of broken credentials: the reason, the source, the cure, and nothing else."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder.client.status import render_status
from tests.support import credential_sources as sources
from tests.support.credential_sources import serving
from tests.support.events import TARGETS, event, events, markers
from tests.support.fake_aws import forget_credentials
from tests.support.harness import World, daemon_in, daemon_of, until
from tests.support.processes import daemon_beside

SLEEPER = str(172_800 + os.getpid())
"""Seconds that no other program sleeps."""

PRINTS = """echo '{"Version": 1, "AccessKeyId": "AKIDPRINTED", "SecretAccessKey": "secret"}'\n"""


def program(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile with a program that is not there yet."""
    forget_credentials(monkeypatch)
    script = folder / "program.sh"
    (folder / "config").write_text(f"[default]\ncredential_process = sh {shlex.quote(str(script))}\n")
    return script


def running(word: str) -> list[str]:
    """The processes with this word in their command."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if word.encode() in path.read_bytes() else []
        except OSError:
            continue
    return found


async def nobody_runs() -> bool:
    return not running(SLEEPER)


@pytest.mark.parametrize("kind", ["eventbridge", "rum"])
async def test_a_token_file_that_is_missing_is_all_that_status_and_log_say_until_it_is_there(
    place: World, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(sources.sts, tmp_path / "token") as source:
        sources.use_web_identity(source, monkeypatch)
        source.token_file.unlink()
        with capture_logs() as lines:
            async with daemon_in(place):
                await place.send(kind, events(kind, names := markers(10)))
                said = await place.held(kind)
                assert said.startswith(
                    "credentials: a role, by a web identity token (IRSA): FileNotFoundError"
                )
                assert "Check the token file" in said
                source.token_file.write_text("token")
                await place.all_arrive(kind, names)
                await place.settled(kind)  # the answer is there too
                status = await place.status(kind)
                assert status["state"] == "open"
                assert status["credentials_source"] == "a role, by a web identity token (IRSA)"
                metrics = await place.metrics()
        ours = [line for line in lines if line.get("target") == TARGETS[kind]]
        told = [line for line in ours if line["event"].startswith(("target", "credentials"))]
        # A process limits how often it logs the first two.
        allowed = {
            "target configured",
            "target held",
            "target recovered",
            "credentials found",
        }
        assert {line["event"] for line in told} <= allowed
        assert all(line["reason"] == "credentials" for line in told if line["event"] == "target held")
        (found,) = [line for line in told if line["event"] == "credentials found"]
        assert found["source"] == status["credentials_source"]
        assert f'credentials_refresh_total{{outcome="ok",target="{TARGETS[kind]}"}} 1' in metrics
        for other in ("throttled", "unavailable", "other"):
            assert f'target="{TARGETS[kind]}",reason="{other}"' not in metrics


async def test_a_bus_that_cannot_be_asked_about_for_want_of_credentials_holds_with_the_reason(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path, monkeypatch)
    await place.make_bus("shop")
    async with daemon_in(place, orders={"buses": ["shop"]}):
        said = await place.held("eventbridge")
        assert said.startswith("credentials: the profile's credential_process: ")
        assert "Run the command by hand" in said
        name = markers(1)[0]
        await place.send("eventbridge", [event("eventbridge", name, EventBusName="shop")])
        script.write_text(PRINTS)
        assert await place.all_arrive("eventbridge", [name]) == {name: 1}
        assert (await place.status("eventbridge"))["state"] == "open"


async def test_a_denied_role_says_nothing_of_a_bus(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AccessDenied for AssumeRole is no answer about a bus, which would then be sent to unverified."""
    async with serving(sources.sts, tmp_path / "token") as source:
        sources.use_role(source, monkeypatch)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOTHER")  # which the stand-in for STS denies
        async with daemon_in(place, orders={"role": {"arn": sources.ROLE}}):
            await place.send(
                "eventbridge", [event("eventbridge", name := markers(1)[0], EventBusName="gone")]
            )
            assert (await place.held("eventbridge")).startswith("credentials: a role, assumed")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDBASE")

            async def missing() -> bool:
                return "does not exist" in (await place.status("eventbridge"))["message"]

            await until(missing, "the bus is found to be missing")
            assert (await place.summary("eventbridge"))["dropped"] == 0
            await place.make_bus("gone")
            await place.all_arrive("eventbridge", [name])


async def test_keys_of_the_environment_that_aws_refuses_ask_for_a_restart(place: World) -> None:
    async with daemon_in(place):
        await place.accept_keys("AKIDOTHER")
        await place.send("rum", events("rum", names := markers(1)))
        said = await place.held("rum", "restart the forwarder")
        assert "keys from the environment (AWS_ACCESS_KEY_ID)" in said
        await place.accept_keys()
        await place.all_arrive("rum", names)


async def test_forwarder_status_says_where_credentials_came_from(place: World) -> None:
    async with daemon_in(place):
        await place.send("rum", events("rum", names := markers(1)))
        await place.all_arrive("rum", names)
        await place.settled("rum")
        async with place.http.get(f"{place.admin}/status") as answer:
            text = render_status(await answer.json())
    assert "web: credentials from the environment (AWS_ACCESS_KEY_ID)" in text


async def test_a_program_that_hangs_outlives_neither_its_time_nor_a_stop(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path, monkeypatch)
    script.write_text(f"sleep {SLEEPER} &\nsleep {SLEEPER}\n")
    async with daemon_of(place, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send("rum", events("rum", markers(1)))

        async def runs() -> bool:
            return len(running(SLEEPER)) >= 2

        await until(runs, "the program runs")
        await daemon.stop()
    await until(nobody_runs, "nothing of the program is left")


async def test_a_program_that_hangs_does_not_outlive_a_daemon_that_is_killed(
    place: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = program(tmp_path, monkeypatch)
    script.write_text(f"sleep {SLEEPER} &\nsleep {SLEEPER}\n")
    async with daemon_beside(place) as process:
        await place.send("rum", events("rum", markers(1)))

        async def runs() -> bool:
            return len(running(SLEEPER)) >= 2

        await until(runs, "the program runs")
        process.ask(signal.SIGKILL)
        await until(nobody_runs, "nothing of the program is left")
