"""Room kept for the moment when the disk is full: deleting rows needs some, and then there would be none.

Invariants:
- The ballast is real blocks beside the storage's file. It is given up when the disk is full, not when the
  storage's own quota is; and made again only when as much is free besides.
- Without ballast nothing new is accepted: what was given up is for writes that make room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forwarder.storage.directory import create

BALLAST_NAME = "forwarder.ballast"
BALLAST_BYTES = 8 << 20
"""As much as SQLite's log may have to bring into the file before it can be cut."""

LOW_BYTES = 1 << 20
"""A disk with less than this is full; a refusal of the quota leaves more."""


def free_bytes(directory: Path) -> int:
    """What the disk of this directory has left for us."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Ballast:
    """The ballast of one directory; ``free`` asks what its disk has left."""

    def __init__(
        self, directory: Path, size: int = BALLAST_BYTES, free: Callable[[Path], int] = free_bytes
    ) -> None:
        self._path = directory / BALLAST_NAME
        self._size = size
        self.free = free

    def size(self) -> int:
        """Bytes of it on the disk."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def make(self) -> bool:
        """Make it if there is room for twice as much; False when there is not."""
        if self.size() == self._size:
            return True
        if self.free(self._path.parent) < 2 * self._size:
            return False
        try:
            self._write()
        except OSError as error:
            self.release()
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)  # some file systems cannot do this
        return True

    def release(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        file = create(self._path, os.O_RDWR | os.O_TRUNC)
        try:
            os.posix_fallocate(file, 0, self._size)
            os.fsync(file)
        finally:
            os.close(file)
