"""What large blocks used is given back to the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from forwarder.daemon import memory

SCRIPT = """
import sys
from forwarder.daemon.memory import give_back_large_blocks
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
def test_what_large_blocks_held_goes_back_to_the_system() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT, "told"], capture_output=True, text=True, check=True)
    assert int(found.stdout) <= 8


def test_another_c_library_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", no_name)
    assert not memory.give_back_large_blocks()
