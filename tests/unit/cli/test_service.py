"""``forwarder doctor --service``: what systemd says of a unit, and the environment that follows from it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from forwarder.cli import main, service
from forwarder.cli.common import CommandError

USER = pwd.getpwuid(os.geteuid()).pw_name


def systemd(show: str, cat: str = "") -> service.Ask:
    return lambda verb, name: show if verb == "show" else cat


def shown(directory: Path, **more: str) -> str:
    values = {
        "LoadState": "loaded",
        "ExecStart": "{ path=/opt/bin/forwarder ; argv[]=/opt/bin/forwarder run -c /etc/forwarder/f.yaml ; "
        "ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }",
        "Environment": 'AWS_REGION=eu-west-1 "WITH_SPACE=a b" AWS_PROFILE=unit',
        "EnvironmentFiles": f"{directory}/env (ignore_errors=no)",
        "User": USER,
        "StateDirectory": "forwarder:alias other",
        "RuntimeDirectory": "forwarder",
        **more,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "env").write_text(
        '# a comment\n; another\n\nAWS_PROFILE=file\nQUOTED="two words"\nBROKEN=it\'s\nLONG=one\\\ntwo\n'
    )
    return tmp_path


def test_the_unit_says_its_file_its_user_and_its_environment(directory: Path) -> None:
    unit = service.read_unit("forwarder", systemd(shown(directory)))
    assert (unit.name, unit.user, unit.config) == ("forwarder.service", USER, "/etc/forwarder/f.yaml")
    assert unit.environment == {
        "AWS_REGION": "eu-west-1",
        "WITH_SPACE": "a b",
        "AWS_PROFILE": "file",  # a file goes before Environment=
        "QUOTED": "two words",
        "BROKEN": "it's",
        "LONG": "onetwo",
        "STATE_DIRECTORY": "/var/lib/forwarder:/var/lib/other",
        "RUNTIME_DIRECTORY": "/run/forwarder",
    }


@pytest.mark.parametrize(
    ("command", "config"),
    [
        ("run -c f.yaml", "f.yaml"),
        ("run --config f.yaml", "f.yaml"),
        ("run --config=f.yaml", "f.yaml"),
        ("run", ""),
    ],
)
def test_the_file_is_found_in_every_form_of_the_option(directory: Path, command: str, config: str) -> None:
    said = shown(directory, ExecStart=f"{{ path=/f ; argv[]=/f {command} ; ignore_errors=no }}")
    assert service.read_unit("forwarder", systemd(said)).config == config


def test_an_environment_file_may_be_missing_only_where_the_unit_says_so(directory: Path) -> None:
    gone = f"{directory}/gone"
    optional = shown(directory, EnvironmentFiles=f"{gone} (ignore_errors=yes)")
    assert "AWS_PROFILE" in service.read_unit("forwarder", systemd(optional)).environment
    with pytest.raises(CommandError, match=f"{gone}: No such file"):
        service.read_unit(
            "forwarder", systemd(shown(directory, EnvironmentFiles=f"{gone} (ignore_errors=no)"))
        )


def test_credentials_are_those_after_the_last_empty_line_with_their_specifiers(directory: Path) -> None:
    cat = (
        "LoadCredential=old:/old\nLoadCredential=\nLoadCredential=tokens:/etc/%i/tokens\nLoadCredential=key\n"
    )
    unit = service.read_unit("forwarder@eu.service", systemd(shown(directory), cat))
    assert unit.credentials == {"tokens": "/etc/eu/tokens", "key": "key"}


def test_a_unit_that_systemd_does_not_know_exits_2(directory: Path) -> None:
    with pytest.raises(CommandError, match=r"no systemd unit gone\.service found") as caught:
        service.read_unit("gone", systemd("LoadState=not-found\n"))
    assert caught.value.code == 2


def test_a_user_that_is_not_there_is_said(directory: Path) -> None:
    with pytest.raises(CommandError, match='user "no-such-user" does not exist'):
        service._of_user("no-such-user")


def test_a_host_without_systemd_exits_1_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("subprocess.run", gone)
    assert main(["doctor", "--service", "forwarder"]) == 1
    assert capsys.readouterr().err == (
        "cannot query systemd about forwarder.service: systemctl: No such file or directory\n"
    )


def test_the_doctor_runs_with_the_environment_and_the_credentials_of_the_unit_alone(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "secret").write_text("s3cret")
    monkeypatch.setattr(
        service, "_systemctl", systemd(shown(directory), f"LoadCredential=tokens:{directory}/secret\n")
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the person who asks")
    ran: dict[str, Any] = {}

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        given = Path(how["env"]["CREDENTIALS_DIRECTORY"])
        ran.update(command=command, how=how, secret=(given / "tokens").read_text(), given=given)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr("subprocess.run", run)
    assert main(["doctor", "--service", "forwarder", "--json"]) == 1
    assert ran["command"] == [
        sys.executable, "-m", "forwarder", "doctor", "-c", "/etc/forwarder/f.yaml", "--json"
    ]  # fmt: skip
    environment = ran["how"]["env"]
    assert environment["AWS_PROFILE"] == "file"
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert ran["secret"] == "s3cret"
    assert not ran["given"].exists()


def test_the_doctor_of_a_unit_judges_the_file_that_the_unit_names(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = directory / "f.yaml"
    config.write_text("log: {level: '${LEVEL}'}\ntargets: {orders: {kind: eventbridge}}\n")
    (directory / "env").write_text("LEVEL=lowd\n")
    command = f"{{ path=/f ; argv[]=/f run -c {config} ; ignore_errors=no }}"
    monkeypatch.setattr(service, "_systemctl", systemd(shown(directory, ExecStart=command)))
    assert main(["doctor", "--service", "forwarder.service", "--json"]) == 1
    (finding,) = json.loads(capfd.readouterr().out)
    assert finding["sentence"].startswith(f"{config}:1: log.level: must be")
    assert 'got "lowd"' in finding["sentence"]


NOBODY = 65_534


def test_a_user_without_rights_copies_the_credentials_that_it_may_read() -> None:
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / "tokens", Path(place) / "copy"
        source.write_text("secret")
        switched = os.geteuid() == 0
        for path in (place, source) if switched else ():
            os.chown(path, NOBODY, -1)
        if switched:
            os.seteuid(NOBODY)
        try:
            service._copy(target, str(source))
        finally:
            if switched:
                os.seteuid(0)
        assert (target.read_text(), target.stat().st_mode & 0o777) == ("secret", 0o400)
