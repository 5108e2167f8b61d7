"""The connections to the file: how each is opened, and what it knows beside SQLite.

Invariants:
- Transactions are begun and ended by hand; what is committed is on the disk.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from forwarder.storage.errors import StorageError

PAGE_BYTES = 8192
LOG_BYTES = 8 << 20
"""What SQLite's write-ahead log shrinks back to after a long reader made it grow."""

RESERVE_BYTES = 16 << 20
"""The end of storage.max_bytes, or its last eighth if that is less: for writes that make room, not events."""

BUSY_SECONDS = 1.0
"""How long a group waits for a program that holds the file; then every job of it is told."""


class Connection(sqlite3.Connection):
    """``full``: why, until there is room on the disk again, only writes that make some are taken.

    ``room``: bytes that the transaction may still bring; None until it is asked for, and in the next one.
    """

    full: StorageError | None = None
    room: int | None = None


def connect(path: Path, options: str) -> Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?{options}",
        uri=True,
        isolation_level=None,
        factory=Connection,
        timeout=BUSY_SECONDS,
    )


def connect_unshared(path: Path) -> Connection:
    """Read a file with its log where nothing can be written beside it, and nobody else has it open.

    SQLite then keeps its index of the log in memory, which it does only for a connection that is alone.
    """
    connection = connect(path, "mode=ro&vfs=unix-none")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    return connection


def has_index(path: Path) -> bool:
    """Whether the index of the log is there, as it is while anybody has the file open."""
    return Path(f"{path}-shm").exists()


def tune(connection: Connection, max_bytes: int | None) -> Connection:
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute("PRAGMA cell_size_check = ON")
    # Some builds overwrite all that is deleted: as many writes again, and on a full disk no room for them.
    connection.execute("PRAGMA secure_delete = FAST")
    if max_bytes is not None:
        connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
    return connection


def spare_bytes(connection: Connection) -> int:
    """What there is room for besides the reserve: by storage.max_bytes; nothing while the disk is full."""
    if connection.full is not None:
        return 0
    most = number(connection, "max_page_count")
    spare = most - used_pages(connection)
    return spare * PAGE_BYTES - min(RESERVE_BYTES, most * PAGE_BYTES // 8)


def has_room(connection: Connection, size: int) -> bool:
    """Whether there is room for ``size`` bytes more, which are then spoken for; asked of SQLite once in a
    transaction."""
    if connection.room is None:
        connection.room = spare_bytes(connection)
    if size > connection.room:
        return False
    connection.room -= size
    return True


def bytes_left(connection: Connection) -> int:
    """By how much the file may still grow, the reserve included."""
    return (number(connection, "max_page_count") - used_pages(connection)) * PAGE_BYTES


def no_room(connection: Connection) -> StorageError:
    """Why ``has_room`` says no."""
    if connection.full is not None:
        return connection.full
    most = number(connection, "max_page_count") * PAGE_BYTES
    sentence = f"the storage is full: storage.max_bytes is reached ({most} bytes, including a reserve)"
    return StorageError("full", sentence, "write", "max_bytes")


def used_pages(connection: Connection) -> int:
    return number(connection, "page_count") - number(connection, "freelist_count")


def cut_log(connection: Connection) -> bool:
    """Bring all that is in the log into the file, synced, and empty the log; whether that is done."""
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def number(connection: Connection, pragma: str) -> int:
    (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(found)


def used_bytes(path: Path) -> int:
    """Of the file and its log, on the disk."""
    return sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())
