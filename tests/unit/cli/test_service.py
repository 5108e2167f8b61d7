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

from forwarder.cli import main, service, unit
from forwarder.cli.common import CommandError

USER = pwd.getpwuid(os.geteuid()).pw_name


def systemd(show: str, cat: str = "") -> unit.Ask:
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
        '# a comment\n; another\n\nAWS_PROFILE=file\nQUOTED="two words"\nSPACES=two  spaces\n'
        "BROKEN=it's\nLONG=one\\\ntwo\n"
    )
    return tmp_path


def test_the_unit_says_its_file_its_user_and_its_environment(directory: Path) -> None:
    found = unit.read_unit("forwarder", systemd(shown(directory)))
    assert (found.name, found.user, found.config) == ("forwarder.service", USER, "/etc/forwarder/f.yaml")
    assert found.everything() == {
        "AWS_REGION": "eu-west-1",
        "WITH_SPACE": "a b",
        "AWS_PROFILE": "file",  # a file goes before Environment=
        "QUOTED": "two words",
        "SPACES": "two  spaces",
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
        ("run -cf.yaml", "f.yaml"),
        ("run -c ${AWS_PROFILE}.yaml", "file.yaml"),
        ("run -c $AWS_REGION", "eu-west-1"),
        ("run", ""),
    ],
)
def test_the_file_is_found_in_every_form_of_the_option(directory: Path, command: str, config: str) -> None:
    said = shown(directory, ExecStart=f"{{ path=/f ; argv[]=/f {command} ; ignore_errors=no }}")
    assert unit.read_unit("forwarder", systemd(said)).config == config


def test_an_environment_file_may_be_missing_only_where_the_unit_says_so(directory: Path) -> None:
    gone = f"{directory}/gone"
    optional = shown(directory, EnvironmentFiles=f"{gone} (ignore_errors=yes)")
    assert unit.read_unit("forwarder", systemd(optional)).everything()["AWS_PROFILE"] == "unit"
    with pytest.raises(CommandError, match=f"{gone}: No such file"):
        unit.read_unit("forwarder", systemd(shown(directory, EnvironmentFiles=f"{gone} (ignore_errors=no)")))


def test_credentials_are_those_after_the_last_empty_line_with_their_specifiers(directory: Path) -> None:
    cat = (
        "# LoadCredential=comment:/comment\nLoadCredential=old:/old\nLoadCredential=\n"
        "LoadCredential=tokens:/etc/%i/tokens\nSetCredential=said:100%%\nLoadCredential=key\n"
    )
    found = unit.read_unit("forwarder@eu.service", systemd(shown(directory), cat))
    assert found.credentials == [
        ("LoadCredential", "tokens:/etc/eu/tokens"),
        ("SetCredential", "said:100%"),
        ("LoadCredential", "key"),
    ]
    assert dict(found.sources()) == {"tokens": Path("/etc/eu/tokens"), "key": None}


def test_a_credential_without_a_path_is_looked_for_where_systemd_does(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "STORES", ("/nowhere", str(directory)))
    found = unit.read_unit("forwarder", systemd(shown(directory), "LoadCredential=env\n"))
    assert dict(found.sources()) == {"env": directory / "env"}


def test_what_systemd_is_asked_to_run_is_like_the_unit(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in service.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    said = shown(
        directory,
        DynamicUser="yes",
        ProtectHome="yes",
        WorkingDirectory="!/srv",
        Environment='KEYS=/run/credentials/forwarder.service/aws "QUOTES=a \\"b\\" c"',
        EnvironmentFiles=f"{directory}/env (ignore_errors=yes)",
        ActiveState="active",
    )
    found = unit.read_unit("forwarder", systemd(said, "SetCredential=aws:x\n"))
    assert set(service.properties(found, "d.service")) == {
        "DynamicUser=yes",
        "ProtectHome=yes",
        "WorkingDirectory=-/srv",
        f"User={USER}",
        "StateDirectory=forwarder:alias other",
        "RuntimeDirectory=forwarder",
        "RuntimeDirectoryPreserve=yes",
        'Environment="KEYS=/run/credentials/d.service/aws"',
        'Environment="QUOTES=a \\"b\\" c"',
        f"EnvironmentFile=-{directory}/env",
        "SetCredential=aws:x",
    }


def test_a_missing_file_of_a_credential_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cat = f"LoadCredential=tokens:{directory}/gone\n"
    monkeypatch.setattr(service, "systemctl", systemd(shown(directory), cat))
    with pytest.raises(CommandError, match=f"LoadCredential=tokens: {directory}/gone does not exist"):
        service.doctor_as("forwarder", "", as_json=True)


def test_a_unit_that_systemd_does_not_know_exits_2(directory: Path) -> None:
    with pytest.raises(CommandError, match=r"no systemd unit gone\.service found") as caught:
        unit.read_unit("gone", systemd("LoadState=not-found\n"))
    assert caught.value.code == 2


def test_a_dynamic_user_need_not_be_there(directory: Path) -> None:
    about = service._of_user("no-such-user")
    assert (about["USER"], about["HOME"]) == ("no-such-user", "/")


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


def as_another_user(show: str, cat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "systemctl", systemd(show, cat))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)


def test_the_doctor_runs_with_the_environment_and_the_credentials_of_the_unit_alone(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "secret").write_text("s3cret")
    said = shown(directory, User="forwarder", Environment="KEYS=/run/credentials/forwarder.service/tokens")
    as_another_user(said, f"LoadCredential=tokens:{directory}/secret\nLoadCredential=none\n", monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the person who asks")
    monkeypatch.setenv("FORWARDER_CONFIG", "/of/the/person/who/asks.yaml")
    ran: dict[str, Any] = {}

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        given = Path(how["env"]["CREDENTIALS_DIRECTORY"])
        ran.update(command=command, how=how, secret=Path(how["env"]["KEYS"]).read_text(), given=given)
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
    assert "not as forwarder: use sudo to check files and rights" in capsys.readouterr().err


def test_the_doctor_of_a_unit_judges_the_file_that_the_unit_names(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = directory / "f.yaml"
    config.write_text("log: {level: '${LEVEL}'}\ntargets: {orders: {kind: eventbridge}}\n")
    (directory / "env").write_text("LEVEL=lowd\n")
    command = f"{{ path=/f ; argv[]=/f run -c {config} ; ignore_errors=no }}"
    as_another_user(shown(directory, ExecStart=command), "", monkeypatch)
    assert main(["doctor", "--service", "forwarder.service", "--json"]) == 1
    (finding,) = json.loads(capfd.readouterr().out)
    assert finding["sentence"].startswith(f"{config}:1: log.level: must be")
    assert 'got "lowd"' in finding["sentence"]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (
            "217",
            "systemd cannot start a process with the settings of "
            "forwarder.service: User= does not exist (journalctl",
        ),
        (
            "255",
            "systemd cannot start a process with the settings of "
            "forwarder.service: exit code 255 (journalctl",
        ),
        ("", "cannot run the doctor in systemd: Unknown assignment: Sandbox=yes"),
    ],
)
def test_a_unit_that_systemd_cannot_start_is_said_and_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, status: str, sentence: str
) -> None:
    monkeypatch.setattr(service, "systemctl", systemd(shown(directory)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        said = f"ExecMainStatus={status}\n" if command[1] == "show" else ""
        return subprocess.CompletedProcess(command, 1, said, "Unknown assignment: Sandbox=yes\n")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(CommandError) as caught:
        service.doctor_as("forwarder", "", as_json=False)
    assert caught.value.lines[0].startswith(sentence)
    assert [command[-2:] for command in ran[-2:]] == [
        ["stop", ran[-1][-1]],
        ["reset-failed", ran[-1][-1]],
    ]


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
            service._copy(target, source)
        finally:
            if switched:
                os.seteuid(0)
        assert (target.read_text(), target.stat().st_mode & 0o777) == ("secret", 0o400)
