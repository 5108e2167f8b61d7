"""What is full when the storage cannot write: found out when that happens, and said in the error.

Invariants:
- The file system, its inodes, a quota of the user or project, a read-only mount and ``storage.max_bytes`` are
  told apart, by asking the file system; a file is made for that beside the storage's file, and removed.
- If both the file system and ``storage.max_bytes`` may be full, the error names the one with less left.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from forwarder.storage.ballast import BALLAST_BYTES, LOW_BYTES, free_bytes
from forwarder.storage.directory import create
from forwarder.storage.errors import StorageError

PROBE_NAME = "forwarder.probe"
PROBE_BYTES = LOW_BYTES

UNBOUNDED = 1 << 62
"""Bytes by which a file may grow of which nothing is known."""


class Room:
    """The room of one directory. ``max_bytes``: the bound of the storage's file; ``free`` asks what its file
    system has left; ``probe`` tries to write there, and answers with the error number, 0 for none."""

    def __init__(
        self,
        directory: Path,
        max_bytes: int | None,
        free: Callable[[Path], int] = free_bytes,
        probe: Callable[[Path], int] | None = None,
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._free = free
        self._probe = probe or try_to_write

    def with_cause(self, problem: StorageError, left: int = UNBOUNDED) -> StorageError:
        """The problem with what is full or read-only in place of SQLite's words, where that is so.

        ``left``: bytes that the storage's file may still grow by.
        """
        if problem.cause not in ("full", "io"):
            return problem
        try:
            found = self._found(left, is_full=problem.reason == "full")
        except OSError:  # the directory is gone, or the disk is
            return problem
        if found is None or (problem.operation == "sync" and found[0] != "read_only"):
            return problem
        cause, sentence = found
        reason = "io" if cause == "read_only" else "full"
        return StorageError(reason, sentence, problem.operation, cause)

    def file_system_is_full(self) -> StorageError:
        """Why new events are refused while there is no room for the ballast."""
        problem = StorageError("full", f"the file system of {self._directory} is full", "write", "full")
        return self.with_cause(problem)

    def _found(self, left: int, *, is_full: bool) -> tuple[str, str] | None:
        number = self._probe(self._directory)
        if number == errno.EROFS:
            return "read_only", f"the file system of {self._directory} is read-only"
        if number == errno.EDQUOT:
            who = f"user {os.geteuid()}, of group {os.getegid()} or of the directory's project"
            return "user_quota", f"the disk quota of {who} is used up on the file system of {self._directory}"
        if number == errno.ENOSPC and _inodes(self._directory) == 0:
            return "inodes", f"the file system of {self._directory} has no free inode"
        free = self._free(self._directory)
        if number == errno.ENOSPC or free < LOW_BYTES or (is_full and free < left):
            return self._by_file_system()
        if is_full and self._max_bytes is not None:
            return "max_bytes", f"the storage is full: storage.max_bytes is reached ({self._max_bytes} bytes)"
        return None

    def _by_file_system(self) -> tuple[str, str]:
        free = self._free(self._directory)
        return "file_system", (
            f"the file system of {self._directory} is full: {free} bytes free, {2 * BALLAST_BYTES} are "
            "needed to accept events"
        )


def try_to_write(directory: Path) -> int:
    """Make a file of some size and remove it; the error number, 0 when it could be made."""
    path = directory / PROBE_NAME
    try:
        file = create(path, os.O_RDWR | os.O_TRUNC)
        try:
            os.posix_fallocate(file, 0, PROBE_BYTES)
        finally:
            os.close(file)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return 0


def _inodes(directory: Path) -> int:
    """Free inodes; -1 on a file system that does not count them."""
    about = os.statvfs(directory)
    return about.f_favail if about.f_files else -1
