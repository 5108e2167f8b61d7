"""The units of deploy/systemd under systemd itself as PID 1, in their sandbox, with a local AWS beside them.

Invariants:
- What was promised to a sender is compared with what arrived.
- Limits of memory and tasks are only read: a container that does not own its cgroups cannot enforce them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machines import PYTHON, Machine, a_machine
from tests.e2e.processes import until
from tests.e2e.test_systemd import MAX_EXPOSURE

UNIT = "forwarder.service"
CONFIG = """\
targets:
  orders: {kind: eventbridge, region: eu-west-1, endpoint_url: "http://127.0.0.1:2790", queue: disk}
"""
SANDBOX = """\
[Service]
ExecStart=/opt/forwarder/bin/forwarder sandbox --listen 127.0.0.1:2790
"""
KEYS = "[default]\naws_access_key_id = any\naws_secret_access_key = any\n"
DROP_IN = "systemd/system/forwarder.service.d/test.conf"
DATA = "/var/lib/forwarder/data"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not PYTHON.exists(), reason=f"needs root, and {PYTHON} to run in the machine"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with a_machine(tmp_path_factory.mktemp("machine")) as made:
        etc = made.root / "etc"
        (etc / "forwarder").mkdir()
        (etc / "forwarder/forwarder.yaml").write_text(CONFIG)
        (etc / "credstore").mkdir(exist_ok=True)
        (etc / "credstore/forwarder.aws").write_text(KEYS)
        (etc / "credstore/forwarder.aws").chmod(0o600)
        (etc / "systemd/system/sandbox.service").write_text(SANDBOX)
        made.run("systemctl", "daemon-reload")
        made.run("systemctl", "start", "sandbox")
        yield made


@pytest.fixture
def started(machine: Machine) -> Iterator[Machine]:
    """With the daemon and its socket, and a sandbox in which nothing has arrived."""
    machine.run("systemctl", "start", "forwarder.socket", UNIT)
    machine.run("curl", "-sf", "-X", "POST", "http://127.0.0.1:2790/_sandbox/reset")
    yield machine
    machine.run("systemctl", "stop", "forwarder.socket", UNIT)
    machine.run("systemctl", "reset-failed")


def main_pid(machine: Machine) -> str:
    return machine.show(UNIT, "MainPID")


def send(machine: Machine, first: int, count: int) -> None:
    """Post events, one a request; each must be accepted."""
    for n in range(first, first + count):
        event = json.dumps({"Source": "my.app", "DetailType": "Hello", "Detail": {"n": n}})
        url = "http://127.0.0.1:2780/v1/targets/orders/events"
        machine.run("curl", "-sSf", "--max-time", "60", url, "-d", event)


def arrived(machine: Machine) -> list[int]:
    lines = machine.run("curl", "-sf", "http://127.0.0.1:2790/_sandbox/events?api=eventbridge").splitlines()
    return sorted(json.loads(json.loads(line)["entry"]["Detail"])["n"] for line in lines)


def all_arrive(machine: Machine, count: int) -> None:
    until(lambda: len(arrived(machine)) >= count, f"{count} events")
    assert arrived(machine) == list(range(count))


def test_it_starts_in_its_sandbox_delivers_and_stops_in_order(machine: Machine, started: Machine) -> None:
    send(machine, 0, 20)
    all_arrive(machine, 20)
    until(
        lambda: machine.show(UNIT, "StatusText") == "ready; events waiting: 0", "the status of a while later"
    )
    machine.run("systemctl", "stop", "forwarder.socket", UNIT)
    assert machine.show(UNIT, "Result") == "success"
    assert "stopped, nothing lost" in machine.run("journalctl", "--no-pager", "-o", "cat", "-u", UNIT)


def test_a_restart_refuses_nobody_and_loses_nothing(machine: Machine, started: Machine) -> None:
    before = main_pid(machine)
    machine.run("systemctl", "restart", "--no-block", UNIT)
    send(machine, 0, 40)
    until(lambda: main_pid(machine) not in (before, "0"), "another process")
    all_arrive(machine, 40)


def test_it_starts_again_after_an_abort_and_leaves_no_core_dump(machine: Machine, started: Machine) -> None:
    before = main_pid(machine)
    send(machine, 0, 5)
    all_arrive(machine, 5)
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=ABRT", UNIT)
    until(
        lambda: machine.show(UNIT, "NRestarts") != "0" and main_pid(machine) not in (before, "0"), "a restart"
    )
    send(machine, 5, 5)
    all_arrive(machine, 10)
    said = machine.run("journalctl", "--no-pager", "-o", "cat")
    assert "code=killed, status=6/ABRT" in said
    assert "code=dumped" not in said
    assert "Fatal Python error: Aborted" in said


def test_the_process_has_the_limits_of_the_unit(machine: Machine, started: Machine) -> None:
    limits = machine.run("cat", f"/proc/{main_pid(machine)}/limits")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    assert re.search(r"^Max open files +16384 +16384 ", limits, re.MULTILINE)
    assert machine.show(UNIT, "TasksMax") == "128"
    assert machine.show(UNIT, "MemoryMax") == str(512 << 20)
    threads = machine.run("sh", "-c", f"ls /proc/{main_pid(machine)}/task | wc -l")
    assert int(threads) < 64


def test_its_files_are_its_own_and_it_can_read_the_boot(machine: Machine, started: Machine) -> None:
    """A storage remembers the boot that it was written in."""
    send(machine, 0, 1)
    pid = main_pid(machine)
    user = machine.run("stat", "-c", "%u", f"/proc/{pid}").strip()
    assert user != "0"
    assert machine.run("stat", "-L", "-c", "%a %u", DATA).split() == ["700", user]
    files = machine.run("stat", "-L", "-c", "%n %a", f"{DATA}/forwarder.db", f"{DATA}/control.sock")
    assert files.split()[1::2] == ["600", "600"]
    inside = ["nsenter", "-t", pid, "-m", "-S", user, "--"]
    assert len(machine.run(*inside, "cat", "/proc/sys/kernel/random/boot_id").strip()) == 36
    for path in ("/root", "/etc/credstore/forwarder.aws"):
        assert machine.run(*inside, "ls", "-A", path, check=False) in ("", f"{path}\n")
    assert not machine.run(*inside, "sh", "-c", "echo x > /etc/written && echo done", check=False)


def test_an_operator_reaches_it_through_its_control_socket(machine: Machine, started: Machine) -> None:
    assert '"orders"' in machine.run("forwarder", "status", "--json")
    run = ["env", "STATE_DIRECTORY=/var/lib/forwarder", "forwarder"]
    machine.run(*run, "pause", "orders")
    machine.run(*run, "resume", "orders")


def test_systemd_finds_little_exposed_in_what_runs(machine: Machine, started: Machine) -> None:
    said = machine.run("systemd-analyze", "security", "--no-pager", UNIT)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure
    assert float(exposure[1]) <= MAX_EXPOSURE


def test_a_configuration_that_is_bad_is_left_alone(machine: Machine, started: Machine) -> None:
    path = Path(machine.root / "etc/forwarder/forwarder.yaml")
    path.write_text(CONFIG.replace("disk", "disc"))
    try:
        machine.run("systemctl", "restart", UNIT, check=False)
        assert "forwarder.yaml" in machine.journal()
        path.write_text(CONFIG)
        until(lambda: machine.show(UNIT, "ActiveState") == "active", "the mended one to start")
    finally:
        path.write_text(CONFIG)


# --- forwarder doctor --service


@pytest.fixture
def drop_in(machine: Machine) -> Iterator[Callable[[str], None]]:
    """Writes settings into a drop-in of the unit, and takes them back at the end."""
    path = machine.root / "etc" / DROP_IN

    def write(text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[Service]\n{text}\n")
        machine.run("systemctl", "daemon-reload")

    yield write
    path.unlink()
    machine.run("systemctl", "daemon-reload")


def doctor(machine: Machine) -> dict[str, dict[str, Any]]:
    """Its findings by what they are about, the last of each."""
    said = machine.run("forwarder", "doctor", "--service", "forwarder", "--json", check=False)
    return {each["about"]: each for each in json.loads(said)}


def complaint(machine: Machine, *, user: str = "root") -> str:
    """What it says, and its exit code."""
    command = "PATH=/opt/forwarder/bin:$PATH forwarder doctor --service forwarder"
    return machine.run("su", "-s", "/bin/sh", user, "-c", f"{command} 2>&1; echo exit code $?")


def test_the_doctor_of_the_unit_runs_as_the_unit_does(machine: Machine) -> None:
    """Before its first start, when its user and its directory are not there, and beside the service."""
    stopped = doctor(machine)
    assert {finding["level"] for finding in stopped.values()} == {"ok"}, stopped
    assert "shared credentials file" in stopped["orders: credentials"]["sentence"]
    machine.run("systemctl", "start", UNIT)
    try:
        before = main_pid(machine)
        assert {finding["level"] for finding in doctor(machine).values()} == {"ok"}
        assert main_pid(machine) == before
        send(machine, 0, 1)
    finally:
        machine.run("systemctl", "stop", UNIT)
    left = "systemctl list-units --all --no-legend 'forwarder-doctor*'; ls -d /run/credentials/*doctor*"
    assert machine.run("sh", "-c", f"{left} /tmp/*doctor* 2>/dev/null", check=False) == ""


def test_the_doctor_has_the_environment_credentials_user_and_sandbox_of_drop_ins(
    machine: Machine, drop_in: Callable[[str], None]
) -> None:
    etc = machine.root / "etc"
    (etc / "forwarder/more.env").write_text(
        "AWS_ACCESS_KEY_ID=any\nAWS_SECRET_ACCESS_KEY='any'\nLEVEL=warning\n"
    )
    (etc / "forwarder/more.env").chmod(0o600)
    (etc / "secret-token").write_text("shop " + "0" * 64)
    (etc / "secret-token").chmod(0o600)
    config = (
        "log: {level: '${LEVEL}'}\ningest: {auth: {tokens: '${CREDENTIALS_DIRECTORY}/tokens'}}\n" + CONFIG
    )
    (etc / "forwarder/other.yaml").write_text(config)
    drop_in(
        "EnvironmentFile=/etc/forwarder/more.env\nLoadCredential=tokens:/etc/secret-token\nSetCredential=one:two\n"
        'DynamicUser=no\nUser=daemon\nEnvironment=NAME=other "SPACES=a  b"\n'
        "ExecStart=\nExecStart=/opt/forwarder/bin/forwarder run -c /etc/forwarder/${NAME}.yaml"
    )
    found = doctor(machine)
    assert {finding["level"] for finding in found.values()} <= {"ok", "warn"}, found
    assert "environment" in found["orders: credentials"]["sentence"]
    assert "ingest.auth.tokens" in str(found)
    drop_in("Environment=AWS_SHARED_CREDENTIALS_FILE=/home/keys")  # ProtectHome= hides it
    (machine.root / "home/keys").write_text(KEYS)
    assert doctor(machine)["orders: credentials"]["level"] == "FAIL"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("LoadCredential=tokens:/etc/gone", "LoadCredential=tokens: /etc/gone does not exist"),
        ("EnvironmentFile=/etc/gone", "environment of the unit cannot be read: /etc/gone: No such file"),
        ("DynamicUser=no\nUser=gone", "process with the settings of forwarder.service: User= does not exist"),
        (
            "BindReadOnlyPaths=/etc/gone",
            "process with the settings of forwarder.service: the sandbox of systemd cannot be set up",
        ),
    ],
)
def test_what_keeps_the_unit_from_starting_is_said_by_the_doctor(
    machine: Machine, drop_in: Callable[[str], None], settings: str, sentence: str
) -> None:
    drop_in(settings)
    said = complaint(machine)
    assert sentence in said
    assert said.endswith("exit code 1\n")


def test_another_user_s_doctor_says_what_needs_sudo(machine: Machine, drop_in: Callable[[str], None]) -> None:
    said = complaint(machine, user="nobody")
    assert "not as forwarder: use sudo to check files and rights" in said
    assert "/etc/credstore/forwarder.aws cannot be read: Permission denied; use sudo" in said
    drop_in("LoadCredential=\nEnvironment=AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any")
    said = complaint(machine, user="nobody")
    assert "orders: credentials: found in the environment" in said
    assert re.search("FAIL +storage.path: .* cannot be written by user 65534", said)
