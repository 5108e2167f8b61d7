"""Which file is at a path, and that it reaches the disk.

Invariants:
- A file is known by its device and inode. While somebody has it open, its inode is given to no other file.
- ``identity`` opens nothing: closing a file again would release the locks that SQLite has on it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

Identity = tuple[int, int]
"""Device and inode."""


LASTING = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EAFNOSUPPORT,
    }
)
"""Errors of a path or an address that stay until a person changes something: no restart mends them."""


def size(path: Path) -> int:
    """In bytes; 0 where nobody can say."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def identity(path: Path) -> Identity | None:
    """Of what is at this path now; None when nothing is. Raises OSError when that cannot be found out."""
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino


def nearest_existing(path: Path) -> Path:
    """The path, or of the directories above it the first that is there."""
    return next(each for each in (path, *path.parents) if os.path.lexists(each))


def is_other_than_directory(path: Path) -> bool:
    """Whether something else is there; False where this user may not look (systemd's /var/lib/private)."""
    try:
        return not path.is_dir()
    except PermissionError:
        return False


def sync(path: Path) -> None:
    """Write a file, or the names in a directory, to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
