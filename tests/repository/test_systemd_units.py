"""The units in ``deploy/systemd`` agree with the daemon: its times, exit codes, addresses and paths."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from forwarder.config import IngestConfig, ShutdownConfig, load
from forwarder.daemon.process import FINISH_REQUESTS_SECONDS
from forwarder.daemon.watchdog import PING_SECONDS, PINGS_WITHIN_WATCHDOG
from forwarder.exit_codes import EXIT_CONFIG, EXIT_INTERNAL, EXIT_LOST, EXIT_NOT_NOW
from forwarder.targets import option_types

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
SERVICES = ("forwarder.service", "forwarder@.service")


def values(unit: str, name: str) -> list[str]:
    """What the unit sets, in order."""
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def value(unit: str, name: str) -> str:
    (only,) = values(unit, name)
    return only


def seconds(unit: str, name: str) -> float:
    said = value(unit, name)
    assert said.endswith("s")
    return float(said[:-1])


@pytest.mark.parametrize("unit", SERVICES)
def test_stopping_takes_less_time_than_systemd_allows(unit: str) -> None:
    given = ShutdownConfig()
    takes = given.input_grace + FINISH_REQUESTS_SECONDS + given.drain_timeout
    assert seconds(unit, "TimeoutStopSec") > takes + PING_SECONDS


@pytest.mark.parametrize("unit", SERVICES)
def test_the_watchdog_outlives_some_beats(unit: str) -> None:
    assert value(unit, "Type") == "notify"
    assert seconds(unit, "WatchdogSec") >= PINGS_WITHIN_WATCHDOG * PING_SECONDS


@pytest.mark.parametrize("unit", SERVICES)
def test_only_what_starting_again_cannot_mend_is_left_alone(unit: str) -> None:
    assert value(unit, "Restart") == "on-failure"
    assert value(unit, "RestartPreventExitStatus").split() == [str(EXIT_CONFIG)]
    assert not values(unit, "SuccessExitStatus")
    explained = " ".join(re.findall(r"^# .*", (UNITS / unit).read_text(), re.MULTILINE))
    assert all(f"{code}," in explained for code in (EXIT_INTERNAL, EXIT_NOT_NOW, EXIT_LOST))


@pytest.mark.parametrize("unit", SERVICES)
def test_waiting_to_start_again_never_meets_the_limit_of_starts(unit: str) -> None:
    """And whoever starts without waiting does."""
    in_an_interval = seconds_of(value(unit, "StartLimitIntervalSec")) / seconds(unit, "RestartSec")
    assert in_an_interval < int(value(unit, "StartLimitBurst"))


def seconds_of(said: str) -> float:
    assert said.isdecimal()
    return float(said)


@pytest.mark.parametrize("unit", SERVICES)
def test_what_is_checked_is_what_is_run(unit: str) -> None:
    before, run = (shlex.split(value(unit, name)) for name in ("ExecStartPre", "ExecStart"))
    assert (before[1], run[1]) == ("check", "run")
    assert before[0] == run[0]
    assert before[2:] == run[2:]


@pytest.mark.parametrize("unit", SERVICES)
def test_aws_credentials_are_looked_for_where_systemd_puts_them(unit: str) -> None:
    name = value(unit, "LoadCredential")
    assert ":" not in name, "a path that is not there would stop the start"
    assert f"AWS_SHARED_CREDENTIALS_FILE=%d/{name}" in values(unit, "Environment")


def test_the_services_differ_in_the_instance_alone() -> None:
    one, template = (
        {line for line in (UNITS / unit).read_text().splitlines() if "=" in line and line[0] != "#"}
        for unit in SERVICES
    )
    names = ("Description", "ExecStartPre", "ExecStart", "StateDirectory", "RuntimeDirectory", "Environment")
    assert {line.split("=")[0] for line in one ^ template} == set(names)
    assert template - one >= {"Environment=INSTANCE=%i", "StateDirectory=forwarder-%i"}


def test_an_instance_has_the_storage_that_its_configuration_names() -> None:
    config = load(ROOT / "config" / "instance.yaml", option_types(), {"INSTANCE": "7"})
    directory = value("forwarder@.service", "StateDirectory").replace("%i", "7")
    assert config.storage.path == f"/var/lib/{directory}"
    assert value("forwarder@.socket", "ListenStream") == config.ingest.listen.text
    assert value("forwarder@.socket", "ReusePort") == "yes"
    assert config.ingest.reuse_port


@pytest.mark.parametrize("unit", ["forwarder.socket", "forwarder@.socket"])
def test_a_socket_unit_listens_where_the_daemon_would(unit: str) -> None:
    assert value(unit, "ListenStream") == IngestConfig().listen.text
    assert value(unit, "FileDescriptorName") == "ingest"


def test_a_unix_socket_replaces_the_port_and_is_not_where_a_stop_removes_it() -> None:
    assert values("unix-socket.conf", "ListenStream")[0] == ""
    (path,) = values("unix-socket.conf", "ListenStream")[1:]
    assert Path(path).parent == Path("/run")
