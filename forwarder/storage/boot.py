"""Which boot of the machine this is: what was written in it is there, and its monotonic clock goes on.

Invariants:
- Where the system does not say, the answer is empty, and equal to no boot.
"""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> str:
    """The machine's boot; "" where the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
