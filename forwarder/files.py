"""Which file is at a path.

Invariants:
- A file is known by its device and inode. While somebody has it open, its inode is given to no other file.
- Nothing is opened: closing a file again would release the locks that SQLite has on it.
"""

from __future__ import annotations

from pathlib import Path

Identity = tuple[int, int]
"""Device and inode."""


def identity(path: Path) -> Identity | None:
    """Of what is at this path now; None when nothing is. Raises OSError when that cannot be found out."""
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino
