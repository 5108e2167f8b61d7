"""The storage's file on the disk: made whole, checked before use, locked while in use, read from outside.

Invariants:
- The file appears under its name only when it is complete, with its format in the header.
- A file of another format is refused and left as it is, to the byte.
- A damaged file is renamed, with what SQLite keeps beside it; nothing is deleted.
- One process per directory, by a lock that dies with its owner. Readers need no lock and stop no writer.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

FILE_NAME = "forwarder.db"
LOCK_NAME = "forwarder.lock"

FORMAT = 1
"""What this version writes into ``user_version``: one number for all tables of the file."""

PAGE_BYTES = 8192
LOG_BYTES = 8 << 20
"""What SQLite's write-ahead log shrinks back to after a long reader made it grow."""

RESERVE_BYTES = 16 << 20
"""The end of the quota, or its last eighth if that is less: for writes that make room, not for events."""

Connection = sqlite3.Connection


class StorageError(Exception):
    """The file could not do what was asked of it.

    ``reason``: full, io, damaged, format, locked, missing, closed or other.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_SENTENCES = {
    sqlite3.SQLITE_FULL: ("full", "the disk, or the storage's share of it, is full"),
    sqlite3.SQLITE_IOERR: ("io", "the disk failed to read or write"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "the storage file is damaged; a restart sets it aside"),
    sqlite3.SQLITE_NOTADB: ("damaged", "the storage file is damaged; a restart sets it aside"),
    sqlite3.SQLITE_READONLY: ("io", "the storage file may not be written"),
    sqlite3.SQLITE_CANTOPEN: ("io", "the storage file cannot be opened"),
    sqlite3.SQLITE_BUSY: ("locked", "another program holds the storage file"),
}


def translate(error: sqlite3.Error) -> StorageError:
    """SQLite's error as one of ours: what it means for the one who operates the file."""
    reason, sentence = _SENTENCES.get(_primary_code(error), ("other", "the storage failed"))
    return StorageError(reason, f"{sentence} ({error})")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _cannot_use(path: Path, error: OSError) -> StorageError:
    return StorageError("io", f"{error.filename or path} cannot be used: {error.strerror or error}")


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the directory's only owner; makes the directory when there is none."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _cannot_use(directory, error) from error
    try:
        _lock(lock, directory)
        with suppress(OSError):  # a full disk has no place for the number; the lock is what counts
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
        message = f"another forwarder (process {owner}) uses {directory}: give each its own storage path"
        raise StorageError("locked", message) from error


def open_for_writing(path: Path, wall: float, max_bytes: int | None) -> tuple[Connection, str | None]:
    """The file's connection, made or mended first, and a sentence when a damaged file was set aside.

    Only for who holds the lock. ``wall`` dates the damaged file, ``max_bytes`` bounds the sound one.
    """
    try:
        _refuse_other_formats(path)
        sentence = None
        if damage := _damage(path):
            sentence = f"{damage}; it is kept as {_set_aside(path, wall)}"
        if not _size(path):
            _create(path)
        return _tuned(_connection(path, "mode=rw"), max_bytes), sentence
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise _cannot_use(path, error) from error


def _tuned(connection: Connection, max_bytes: int | None) -> Connection:
    connection.execute("PRAGMA synchronous = FULL")  # NORMAL loses acknowledged commits in a power cut
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    connection.execute("PRAGMA cell_size_check = ON")
    if max_bytes is not None:
        connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_BYTES)}")
    return connection


def spare_bytes(connection: Connection) -> int:
    """What the quota still has room for, but for the reserve."""
    (most,) = connection.execute("PRAGMA max_page_count").fetchone()
    (used,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int((most - used + free) * PAGE_BYTES - min(RESERVE_BYTES, most * PAGE_BYTES // 8))


@contextmanager
def open_read_only(directory: Path) -> Iterator[Connection]:
    """A connection that only reads, beside a running daemon or without one; every error is a StorageError."""
    path = directory / FILE_NAME
    try:
        if not _size(path):
            raise StorageError("missing", f"there is no {FILE_NAME} in {directory}")
        _refuse_other_formats(path)
        reading = closing(_reader(path))
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise _cannot_use(path, error) from error
    with reading as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise translate(error) from error


def _reader(path: Path) -> Connection:
    connection = _connection(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if _size(_log_of(path)):
            raise
        # Without a log the file is complete, but SQLite would make an empty one, where we may not write.
        return _connection(path, "mode=ro&immutable=1")
    return connection


def _connection(path: Path, options: str) -> Connection:
    # Transactions are begun and ended by hand: no isolation level.
    return sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, isolation_level=None)


def _create(path: Path) -> None:
    """Make an empty file under another name and move it into place: nobody ever sees half of one."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, _log_of(new), Path(f"{new}-shm")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_connection(new, "mode=rw")) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _refuse_other_formats(path: Path) -> None:
    """Read the format from the header, without SQLite, which would write beside the file."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return  # nothing to respect: new, or damaged
    found = int.from_bytes(header[60:64], "big")
    if found != FORMAT:
        message = f"{path} has format {found}, this version knows {FORMAT}: it was left as it is"
        raise StorageError("format", message)


def _damage(path: Path) -> str | None:
    """What is wrong with the file, None when it is whole or not there yet."""
    if not _size(path):
        # SQLite would replay an orphaned log into the new file.
        return "the file is gone, its log is not" if _size(_log_of(path)) else None
    try:
        with closing(_connection(path, "mode=rw")) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if _primary_code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())


def _set_aside(path: Path, wall: float) -> Path:
    """Rename the file and what belongs to it alike, so that they can still be opened together."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    aside = path.with_name(f"{path.name}.damaged-{moment}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


def _log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
