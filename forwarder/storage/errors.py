"""SQLite's errors as StorageError: what each means for an operator.

Invariants:
- The reasons and the operations are closed sets; the operations are label values of a metric.
"""

from __future__ import annotations

import sqlite3

from forwarder.metrics import DISK_OPERATIONS

BROKEN = frozenset({"io", "damaged"})
"""Reasons after which a connection is not used again; a full disk or a busy file leave it as it was."""

_SENTENCES = {
    sqlite3.SQLITE_FULL: ("full", "the file system or storage.max_bytes is full"),
    sqlite3.SQLITE_IOERR: ("io", "the disk failed to read or write"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "the storage file is damaged"),
    sqlite3.SQLITE_NOTADB: ("damaged", "the storage file is damaged"),
    sqlite3.SQLITE_READONLY: ("io", "the storage file is read-only for the daemon"),
    sqlite3.SQLITE_CANTOPEN: ("io", "the storage file cannot be opened"),
    sqlite3.SQLITE_BUSY: ("locked", "another program holds the storage file"),
}
_OPERATIONS = {"READ": "read", "CORRUPT": "read", "NOTADB": "read", "FSYNC": "sync", "OPEN": "open"}


_BRIEFLY = {
    "file_system": "the file system is full",
    "inodes": "the file system is full (no free inode)",
    "user_quota": "the disk quota is full",
    "max_bytes": "the storage is full (storage.max_bytes)",
    "read_only": "the file system is read-only",
}


_NAMED = {
    "full": "it is full",
    "io": "the disk fails",
    "damaged": "the file is damaged",
    "locked": "another program holds the file",
    "replaced": "the file was replaced",
    "other": "it fails",
}


class StorageError(Exception):
    """The file could not do what was asked of it.

    ``reason``: full, io, damaged, replaced, format, network, unsafe, path, locked, missing, closed or other.
    ``operation``: what the disk was doing, one of DISK_OPERATIONS. ``cause``: the reason, or what is full:
    file_system, inodes, user_quota or max_bytes; read_only for a disk that may not be written.
    """

    def __init__(self, reason: str, message: str, operation: str = "other", cause: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.cause = cause or reason
        self.operation = operation if operation in DISK_OPERATIONS else "other"

    @property
    def brief(self) -> str:
        """For senders: without the paths and numbers of this host."""
        return _BRIEFLY.get(self.cause, str(self))

    @property
    def label(self) -> str:
        """What is full or broken, in fixed words: no path, no number, no text of SQLite."""
        return _BRIEFLY.get(self.cause) or _NAMED.get(self.cause, _NAMED["other"])


def translate(error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    reason, sentence = _SENTENCES.get(code, ("other", "the storage failed"))
    return StorageError(reason, f"{sentence} ({error})", _operation(error, reason))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether it says that the files are damaged; not so where they could only not be opened or read now."""
    short = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ
    return short or translate(error).reason == "damaged"


def _operation(error: sqlite3.Error, reason: str) -> str:
    name = getattr(error, "sqlite_errorname", "")
    found = (operation for part, operation in _OPERATIONS.items() if part in name)
    return next(found, "write" if reason in ("full", "io") else "other")
