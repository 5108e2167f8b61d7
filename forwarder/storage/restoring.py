"""Writes an open file, which is no longer at its path, to a path anew: all that it holds, committed or not.

Invariants:
- A file that is at the path already is never replaced.
- The new file appears under its name only when it is complete and on the disk.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from forwarder.files import sync
from forwarder.storage.connection import PAGE_BYTES, Connection, connect
from forwarder.storage.directory import create
from forwarder.storage.errors import StorageError


def write_anew(connection: Connection, path: Path) -> None:
    """Write all that the connection reads to ``path``. Raises OSError or sqlite3.Error."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    os.close(create(new, os.O_RDWR | os.O_EXCL))
    with closing(connect(new, "mode=rw")) as target:
        target.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        target.execute("PRAGMA journal_mode = OFF")  # when this fails there was no file
        connection.backup(target)
    sync(new)
    try:
        os.link(new, path)
        new.unlink()
    except FileExistsError:
        new.unlink()
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise
        new.replace(path)
    sync(path.parent)


def save_aside(connection: Connection, path: Path, wall: float) -> Path | None:
    """Write it beside ``path``, where another file is; the name, None when it could not be written."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    aside = path.with_name(f"{path.name}.saved-{moment}")
    with suppress(Exception):  # whatever keeps it from being saved, the storage ends and says so
        write_anew(connection, aside)
        return aside
    return None


def replaced(missing: Sequence[Path]) -> StorageError:
    names = ", ".join(sorted(path.name for path in missing))
    message = f"deleted, moved or replaced while in use: {names} in {missing[0].parent}"
    return StorageError("replaced", message, "open")


def abandon(connection: Connection) -> None:
    """See that the connection is never closed, not even at the end of the process.

    SQLite compares inodes only, without devices, before it deletes a log at close. On another device the file
    at the path may have the same inode, and would lose its log.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
