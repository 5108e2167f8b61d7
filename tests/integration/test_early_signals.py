"""Signals in the first moments of a process, while it still imports what it needs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

EARLY = """
import os, runpy, sys

number = int(sys.argv.pop())

class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == "forwarder.daemon":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Sends())
runpy.run_module("forwarder", run_name="__main__")
"""
"""The command, which gets a signal when it begins to import the daemon."""

CONFIG = """
ingest: {{listen: "unix:{place}/ingest.sock"}}
admin: {{listen: "unix:{place}/admin.sock"}}
storage: {{path: {place}/storage}}
log: {{format: json}}
targets: {{orders: {{kind: eventbridge, region: eu-west-1}}}}
"""

PID_1 = ["unshare", "--pid", "--fork", "--kill-child"]


def can_be_pid_1() -> bool:
    try:
        return subprocess.run([*PID_1, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param([], id="a process"),
        pytest.param(
            PID_1,
            id="PID 1",
            marks=pytest.mark.skipif(not can_be_pid_1(), reason="a PID namespace needs root"),
        ),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_imports_is_obeyed(
    inside: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    config = tmp_path / "forwarder.yaml"
    config.write_text(CONFIG.format(place=tmp_path))
    command = [*inside, sys.executable, "-c", EARLY, "run", "-c", str(config), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("stopped during start")) == (0, 1), done.stderr
    assert not (tmp_path / "storage").exists()


def test_a_reload_during_the_imports_ends_nothing_and_is_done_once_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "forwarder.yaml"
    config.write_text(CONFIG.format(place=tmp_path))
    command = [sys.executable, "-c", EARLY, "run", "-c", str(config), str(int(signal.SIGHUP))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if '"reload finished"' in line:
                process.terminate()
        assert process.wait() == 0, lines
    assert [line for line in lines if '"reload finished"' in line], lines
