"""The storage's file on the disk: made whole, checked before use, locked while in use.

Invariants:
- The file appears under its name only when it is complete, with its format in the header, and with what
  could be saved of the damaged one before it.
- A file of another format is refused and left as it is, to the byte.
- A damaged file is renamed, with what SQLite keeps beside it; nothing is deleted.
- A file without a log was closed in order and is opened as it is, and so is one whose owner was killed; after
  a crash of the machine its pages are read through first, for some seconds at most.
- One process per directory, by a lock that dies with its owner.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from forwarder.clock import this_boot
from forwarder.files import LASTING, is_other_than_directory, sync
from forwarder.storage.access import cure_of_parent
from forwarder.storage.ballast import BALLAST_NAME
from forwarder.storage.connection import PAGE_BYTES, Connection, connect, tune
from forwarder.storage.damaged import open_damaged
from forwarder.storage.directory import (
    create,
    is_marker,
    is_moved,
    leave_marker,
    make_own,
    refuse_denied,
    remove_log,
    take_over,
)
from forwarder.storage.errors import StorageError, translate
from forwarder.storage.salvage import Rescue
from forwarder.storage.wal import Damage, damage_at

FILE_NAME, LOCK_NAME = "forwarder.db", "forwarder.lock"
USED = (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", LOCK_NAME, BALLAST_NAME)
"""The files that a daemon must be able to write."""

CHECK_SECONDS, CHECK_STEPS = 3.0, 10_000
"""After a crash of the machine the file is looked through for so long at most: senders wait meanwhile."""

FORMAT = 1
"""What this version writes into ``user_version``: one number for all tables of the file."""


def cannot_use(path: Path, error: OSError) -> StorageError:
    return StorageError("io", f"{error.filename or path} cannot be used: {error.strerror or error}", "open")


def _unusable(directory: Path, error: OSError) -> StorageError:
    """Why the directory cannot be had at all; "path" where only a person can mend it."""
    problem = cannot_use(directory, error)
    if error.errno not in LASTING:
        return problem
    path = Path(error.filename or directory)
    there = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    if is_other_than_directory(there):
        message = f"{there} is not a directory: set storage.path to a directory"
    elif error.errno in (errno.EACCES, errno.EPERM):
        cure = cure_of_parent(directory.parent, there)
        message = f"{problem}; {cure}. Or set storage.path to another directory"
    else:
        message = f"{problem}. Let user {os.geteuid()} write there, or set storage.path to another directory"
    return StorageError("path", message, "open")


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Be the directory's only owner. Makes the directory when there is none, and refuses one that is unsafe.

    True when the owner before was of this boot of the machine: however it ended, what it wrote is there.
    """
    try:
        make_own(directory)
        refuse_denied(directory, *USED)
        lock = create(directory / LOCK_NAME, os.O_RDWR)
    except OSError as error:
        raise _unusable(directory, error) from error
    try:
        _lock(lock, directory)
        boot = this_boot()
        same_boot = bool(boot) and boot in _words(lock)
        with suppress(OSError):  # a full disk has no place for the number; the lock is what counts
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()} {boot}\n".encode(), 0)
        yield same_boot
    finally:
        os.close(lock)


def _lock(lock: int, directory: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = next(iter(_words(lock)), "unknown")
        message = f"another forwarder (process {owner}) uses {directory}: give each its own storage path"
        raise StorageError("locked", message) from error


def _words(lock: int) -> list[str]:
    return os.pread(lock, 100, 0).decode("ascii", "replace").split()


def open_for_writing(
    path: Path,
    wall: float,
    max_bytes: int | None,
    rescues: Sequence[Rescue] = (),
    *,
    check: bool = True,
    damage: str | None = None,
) -> tuple[Connection, str | None]:
    """The file's connection, made or mended first, and a sentence when a damaged file was set aside.

    Only for who holds the lock. ``wall`` dates the damaged file, ``max_bytes`` bounds the sound one,
    ``rescues`` save what can be read, ``damage`` is what is known to be wrong already, ``check`` asks for a
    look at every page when the file was not closed in order.
    """
    try:
        refuse_other_formats(path)
        refuse_marker(path)
        sentence = None
        log = damage_at(path, crashed=check)
        if damage := damage or (str(log) if log else _damage(path, check)):
            sentence = f"{damage}; {_replace(path, wall, rescues, log)}"
        elif not size_of(path):
            _make(path).replace(path)
            sync(path.parent)
        return tune(connect(path, "mode=rw"), max_bytes), sentence
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise cannot_use(path, error) from error


def move_in(earlier: Path, path: Path) -> None:
    """Take over the file of a version that kept it in the directory ``earlier``, if there is one; in any case
    leave a marker there, so that such a version refuses to start beside this storage.

    Only for the holder of the lock of ``path``'s directory. StorageError when an earlier version runs there.
    """
    old = earlier / FILE_NAME
    try:
        if is_marker(old):  # of an earlier start, which may have been that of another user of the group
            with suppress(OSError):
                remove_log(old)
            return
        if not size_of(old):
            # Somebody else's directory has no earlier version in it, and a full disk is no reason to stop.
            with suppress(OSError, sqlite3.Error):
                leave_marker(old, path, FORMAT + 1)
            return
        lock = os.open(earlier / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            _lock(lock, earlier)
            (earlier / BALLAST_NAME).unlink(missing_ok=True)  # so that a full disk has room for the marker
            take_over(old, path, FORMAT + 1)
        finally:
            os.close(lock)
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise cannot_use(old, error) from error


def holds_storage(directory: Path) -> bool:
    """Whether a storage's file, or one that was set aside, is in this directory itself."""
    return any(directory.glob(f"{FILE_NAME}*"))


def refuse_later_format(earlier: Path, directory: Path) -> None:
    """Raise StorageError when a later version's file is in ``earlier``; before anything is changed there."""
    old = earlier / FILE_NAME
    try:
        if not (directory / FILE_NAME).exists():
            refuse_other_formats(old)
    except OSError as error:
        raise cannot_use(old, error) from error


def _make(path: Path, fill: Callable[[Connection], None] | None = None) -> Path:
    """Make the file under another name, to be moved into place: nobody ever sees half of one."""
    new = path.with_name(f"{path.name}.new")
    for leftover in (new, log_of(new), Path(f"{new}-shm")):
        leftover.unlink(missing_ok=True)
    os.close(create(new, os.O_RDWR | os.O_EXCL))
    with closing(connect(new, "mode=rw")) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if fill is not None:
            connection.execute("PRAGMA journal_mode = OFF")  # when this fails there was no file
            connection.execute("BEGIN")
            fill(connection)
            connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    return new


def _replace(path: Path, wall: float, rescues: Sequence[Rescue], log: Damage | None) -> str:
    """Put a new file in the damaged one's place, with what can be saved of it: what was done."""
    new, saved = save(path, path, rescues, log)
    aside = _set_aside(path, wall)
    new.replace(path)
    sync(path.parent)
    return f"it is kept as {aside}, {saved}"


def save(damaged: Path, path: Path, rescues: Sequence[Rescue], log: Damage | None = None) -> tuple[Path, str]:
    """A new file, to be moved to ``path``, with what can be saved of the damaged one, and what that is."""
    counts: dict[str, int] = {}

    def fill(sound: Connection) -> None:
        with open_damaged(damaged, path.with_name(f"{path.name}.copy"), log) as reading:
            for rescue in rescues:
                counts.update(rescue(reading, sound))

    new = _make(path, fill)
    saved = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "nothing"
    return new, f"recovered: {saved}"


def refuse_other_formats(path: Path) -> None:
    """Read the format from the header, without SQLite, which would write beside the file."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return  # nothing to respect: new, or damaged
    found = int.from_bytes(header[60:64], "big")
    if found != FORMAT and not is_moved(header):
        message = (
            f"{path} has format {found}, this version reads format {FORMAT}: the file was left unchanged"
        )
        raise StorageError("format", message)


def refuse_marker(path: Path) -> None:
    """Raise StorageError for a file that only says where the storage is now."""
    if not is_marker(path):
        return
    with closing(connect(path, "mode=ro&immutable=1")) as connection:
        (there,) = connection.execute("SELECT path FROM moved").fetchone() or ("another directory",)
    message = f"{path} only records that the storage was moved to {there}"
    cure = (
        f": name {path.parent} as storage.path or with --path" if size_of(Path(there)) else ", which is gone"
    )
    raise StorageError("format", f"{message}{cure}")


def _damage(path: Path, check: bool) -> str | None:
    """What is wrong with the file, None when it is whole or not there yet."""
    if not size_of(path):
        # SQLite would replay an orphaned log into the new file.
        return "the file is missing, but its log exists" if size_of(log_of(path)) else None
    # Whoever closes in order leaves no log; then the pages are read when they are wanted.
    thorough = check and size_of(log_of(path))
    look = "PRAGMA quick_check(1)" if thorough else "SELECT 'ok' FROM sqlite_master"
    ends = time.monotonic() + CHECK_SECONDS
    try:
        with closing(connect(path, "mode=rw")) as connection:
            connection.set_progress_handler(lambda: time.monotonic() > ends, CHECK_STEPS)
            (found,) = connection.execute(look).fetchone() or ("ok",)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None  # the rest is looked at when it is read, row by row
        if translate(error).reason != "damaged":
            raise
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())


def _set_aside(path: Path, wall: float) -> Path:
    """Rename the file and what belongs to it alike, so that they can still be opened together."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    aside, others = path.with_name(f"{path.name}.damaged-{moment}"), 0
    while aside.exists():
        others += 1
        aside = path.with_name(f"{path.name}.damaged-{moment}-{others}")
    with suppress(OSError):  # where links are known the file has a name at every moment
        os.link(path, aside)
    for suffix in ("-wal", "-shm", "") if not aside.exists() else ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{aside}{suffix}")
    return aside


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
