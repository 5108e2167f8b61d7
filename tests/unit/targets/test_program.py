"""The guard of credential programs, run as the daemon runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.targets import programs

GUARD = Path(programs.__file__).with_name("program.py")
SLEEPER = f"86399.{os.getpid()}"  # other tests run beside this one


@pytest.fixture
def lifeline() -> Iterator[int]:
    theirs, ours = os.pipe()
    yield theirs
    os.close(theirs)
    os.close(ours)


def run(lifeline: int, script: str, seconds: float = 0.5) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", "-S", str(GUARD), str(lifeline), str(seconds), "sh", "-c", script]
    return subprocess.run(command, pass_fds=(lifeline,), capture_output=True, timeout=30)


def sleepers() -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if line.startswith("sleep") and SLEEPER in line]


@pytest.mark.parametrize("ends", [True, False])
def test_a_child_in_a_session_of_its_own_is_killed_with_the_program(lifeline: int, ends: bool) -> None:
    last = "true" if ends else f"sleep {SLEEPER}"
    run(lifeline, f"setsid sleep {SLEEPER} & setsid sh -c 'sleep {SLEEPER} & wait' & sleep 0.2; {last}")
    assert sleepers() == []


def test_what_it_says_in_latin_1_reaches_the_sdk_as_utf_8(lifeline: int) -> None:
    done = run(lifeline, r"printf 'acc\350s' >&2; exit 1", 10.0)
    assert (done.returncode, done.stderr.decode()) == (1, "acc\ufffds")
