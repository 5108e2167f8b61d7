"""Open files: how many the process may have, and how many of them connections may use.

Invariants:
- The soft limit is raised once, at start, and never beyond ``MOST``. Some systems set the hard limit to a
  billion, and some programs loop over every possible descriptor.
- Admin, storage and calls to AWS keep ``RESERVED`` descriptors, whatever ingest is sent.
"""

from __future__ import annotations

import errno
import os
import resource

MOST = 1 << 20
RESERVED = 320
"""128 for admin connections, 128 for refused connections, 64 for storage, calls and logs."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one, as far as the system lets us; the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
        return wanted
    return limit()


def limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else soft


def most() -> int:
    """The limit that ``raise_limit`` reaches where the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)


def for_connections(wanted: int, files: int) -> int:
    """How many of so many wanted connections fit into a limit of ``files``."""
    return max(1, min(wanted, files - min(RESERVED, files // 2)))


def needed_for(wanted: int) -> int:
    """The limit with which so many connections leave enough for everything else."""
    return wanted + RESERVED


def for_admin(wanted: int, files: int) -> int:
    """How many of so many wanted admin connections fit into their share of what is reserved."""
    return max(4, min(wanted, min(RESERVED, files // 2) * 2 // 5))


def are_used_up() -> bool:
    """Whether the process has no free descriptor at this moment."""
    try:
        os.close(os.dup(2))
    except OSError as problem:
        return problem.errno in (errno.EMFILE, errno.ENFILE)
    return False
