"""What large blocks used is given back to the system, and the process is tuned before it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from forwarder.daemon import tuning

SCRIPT = """
import sys
from forwarder.daemon.tuning import give_back_large_blocks
def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if sys.argv[1] == "told":
    assert give_back_large_blocks()
before = held()
for size in range(2 << 20, 24 << 20, 1 << 20):  # each larger than the one before
    bytes(bytearray(b"a") * size)
kept = [bytearray(b"a") * (3 << 20) for _ in range(20)]
last = bytearray(b"a") * 10  # a small block behind them
del kept[:-1]
print((held() - before) >> 20)
"""

STARTED = """
import gc, resource, sys
from forwarder.daemon import serving
async def serve(*_):
    assert sys.getswitchinterval() <= 0.001, "a thread of a disk queue waits 5 ms for each statement"
    assert gc.get_threshold()[2] >= 1_000, "a large request causes searches among all objects"
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0, "a core dump holds keys"
    return 0
serving._serve = serve
sys.exit(serving._run(sys.argv[1]))
"""


def test_a_daemon_is_tuned_before_it_serves(tmp_path: Path) -> None:
    config = tmp_path / "forwarder.yaml"
    config.write_text("targets: {orders: {kind: eventbridge, region: eu-west-1}}")
    subprocess.run([sys.executable, "-c", STARTED, str(config)], check=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_large_blocks_held_goes_back_to_the_system() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT, "told"], capture_output=True, text=True, check=True)
    assert int(found.stdout) <= 8


def test_another_c_library_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", no_name)
    assert not tuning.give_back_large_blocks()
