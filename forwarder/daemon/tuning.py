"""Settings of the C library and of the interpreter, made once at start for the whole process.

Invariants:
- Of C libraries only glibc is configured, and an error there never stops a start.
- Nothing here changes what the daemon does, only what it costs.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

LARGE_BYTES = 1 << 20
"""A block from this size on is mapped by itself, and unmapped when it is freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

OLD_EVERY = 1_000
"""So many searches for cycles among younger objects come before one among all objects. Python's own figure is
10. With that, a body of 65,536 events causes such searches, which take half of the CPU time of its longest
step."""

SWITCH_SECONDS = 0.000_5
"""How long a thread that waits for the interpreter lets another one keep it. Python's own figure is ten times
as much. A commit to the disk queue releases the interpreter for each of its statements, and beside an event
loop that is never idle it waited that long for each: 0.7 s for one event."""


def share_interpreter_often() -> None:
    """Let the thread of the disk queue have its turn soon, however busy the event loop is."""
    sys.setswitchinterval(SWITCH_SECONDS)


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
