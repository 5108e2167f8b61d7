"""The units of deploy/systemd under systemd itself as PID 1, in their sandbox, with a local AWS beside them.

Invariants:
- What was promised to a sender is compared with what arrived.
- Limits of memory and tasks are only read: a container that does not own its cgroups cannot enforce them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

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
