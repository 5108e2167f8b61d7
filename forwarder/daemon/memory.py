"""The process's memory: what requests may use, and how freed memory goes back to the system.

Invariants:
- Requests get what is left of ``ingest.memory_budget`` when every queue is full.
- Only glibc is configured. With other C libraries this does nothing. An error here never stops a start.
"""

from __future__ import annotations

import ctypes
import gc
import os

from forwarder.config import BODIES_AT_ONCE, Config, queue_memory
from forwarder.ingest.budget import Budget

SPARE_BYTES = 4 << 20
"""For events of peers that hold next to nothing while another holds all it can."""

LARGE_BYTES = 1 << 20
"""A block from this size on is mapped by itself, and unmapped when it is freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

OLD_EVERY = 1_000
"""So many searches for cycles among younger objects come before one among all objects. Python's own figure is
10. With that, a body of 65,536 events causes such searches, which take half of the CPU time of its longest
step."""


def collect_seldom() -> None:
    """Hardly ever search for cycles among all objects at once."""
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, OLD_EVERY)


def give_back_large_blocks() -> bool:
    """Fix glibc's thresholds, which otherwise grow with the largest block that was freed; whether it did."""
    try:
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_TRIM_THRESHOLD, 2 * LARGE_BYTES))
    except (AttributeError, OSError, ValueError):
        return False


def budget_for(config: Config) -> Budget:
    """What the memory budget leaves for requests when every queue is full.

    Where there is room, a little of it is kept spare.
    """
    whole = int(config.ingest.memory_budget) - sum(map(queue_memory, config.targets.values()))
    bodies = BODIES_AT_ONCE * config.ingest.max_body
    limit = max(bodies, whole - SPARE_BYTES)
    return Budget(limit, unproven_share=max(limit // 4, bodies), spare=SPARE_BYTES)
