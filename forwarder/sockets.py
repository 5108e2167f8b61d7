"""Unix sockets to listen at: made with their mode, and in place of what a killed process left behind.

Invariants:
- There is no moment in which a socket has a wider mode than its own.
- A file, or a socket that somebody listens at, is never removed.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

MAX_PATH_BYTES = 107
"""Linux, unix(7): ``sun_path`` has 108 bytes, the last of which is 0."""


def unix_socket(path: Path, mode: int) -> socket.socket:
    """A bound socket; raises OSError when the path cannot be had."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "is there already, and not a socket", str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "somebody listens there already", str(path))
