"""The storage's directory: creates and checks it, closes it to other users, and moves earlier files into it.

``storage.path`` may be a volume that others share or own; the daemon's files are in ``data`` below it.

Invariants:
- The directory is open to its owner alone (0700); or to its group as well (2770), where the daemon runs in
  group 0 or below a setgid directory, as in containers whose user changes (``access.py``). It is never open
  to others.
- No file in it is a symbolic link, so no other user can make the daemon write elsewhere.
- Files of an earlier version are moved completely or not at all, even if the process is killed. An earlier
  version then finds a file of a later format in the old place, which it refuses and leaves unchanged.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from forwarder.files import sync
from forwarder.storage import access
from forwarder.storage.access import GROUP_MODE
from forwarder.storage.errors import StorageError

OTHERS = 0o007
MOVED = 0x66776D76
"""``application_id`` of the marker file in the old place of the storage file."""

_SUFFIXES = ("-wal", "-shm")


def make_own(directory: Path) -> None:
    """Make the directory, or check the one that is there. Raises OSError, StorageError."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    group = access.shared_group(directory.parent)
    access.make(directory, group)
    about = directory.lstat()
    if not stat.S_ISDIR(about.st_mode):
        raise StorageError("unsafe", f"{directory} is not a directory: remove it, or set storage.path")
    if about.st_uid == os.geteuid():
        access.give_to(directory, group)
    elif about.st_mode & OTHERS:
        message = f"{directory} belongs to user {about.st_uid} and is open to others"
        mode = stat.S_IMODE(about.st_mode)
        raise StorageError("unsafe", f"{message} (mode {mode:04o}): run as root: chmod o= {directory}")
    refuse_denied(directory)
    for path in directory.iterdir():
        if path.is_symlink():
            raise StorageError("unsafe", f"{path} is a symbolic link: remove it")


def create(path: Path, flags: int) -> int:
    """Open a file of the directory, and give a new one its mode; the descriptor."""
    file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if path.parent.stat().st_mode & stat.S_IWGRP and os.fstat(file).st_uid == os.geteuid():
        os.fchmod(file, GROUP_MODE)
    return file


def refuse_denied(directory: Path, *names: str) -> None:
    """Raise StorageError for what belongs to another user: SQLite says only that it cannot be opened."""
    if denied := access.refusal(directory, map(directory.joinpath, names)):
        raise StorageError("path", ": ".join(denied), "open")


def is_moved(header: bytes) -> bool:
    """Whether this is the header of a marker file, which says where the storage is now."""
    return int.from_bytes(header[68:72], "big") == MOVED


def take_over(old: Path, new: Path, later_format: int) -> None:
    """Move the storage's file ``old`` with its log to ``new``, unless that is there. Raises OSError.

    Only for the owner of both directories. The file has a name at every moment: ``new`` appears when all that
    belongs to it is there, and only then a marker of ``later_format`` takes the place of ``old``.
    """
    if not old.exists() or is_marker(old):
        return
    if not new.exists():
        Path(f"{new}-shm").unlink(missing_ok=True)
        _link(Path(f"{old}-wal"), Path(f"{new}-wal"))
        coming = new.with_name(f"{new.name}.coming")
        _link(old, coming)
        if new.parent.stat().st_mode & stat.S_IWGRP:  # or the next user of the group could not open it
            coming.chmod(GROUP_MODE)
            with suppress(FileNotFoundError):
                Path(f"{new}-wal").chmod(GROUP_MODE)
        coming.replace(new)
        sync(new.parent)
    elif not old.samefile(new):
        return  # not the one that was taken over: nobody knows what it is
    try:
        leave_marker(old, new, later_format)
    except (OSError, sqlite3.Error) as error:
        if not _is_full(error) or not old.samefile(new):
            raise
        # Draining makes room, so a start must not need any. A later one leaves the marker.
        old.unlink()
        remove_log(old)


def _is_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL


def _link(source: Path, name: Path) -> None:
    """Give a file, if it is there, a second name; a copy where the file system knows no links."""
    name.unlink(missing_ok=True)
    if not source.exists():
        return
    try:
        os.link(source, name)
    except OSError:
        shutil.copy2(source, name)
        sync(name)


def leave_marker(old: Path, new: Path, later_format: int) -> None:
    """Put a small file of ``later_format`` at ``old``, which says that the storage is at ``new``.

    The log goes last: without it ``old`` would be a file that an earlier version opens, with events missing.
    """
    marker = old.with_name(f"{old.name}.moved")
    marker.unlink(missing_ok=True)
    with closing(sqlite3.connect(marker)) as connection:
        connection.execute(f"PRAGMA user_version = {later_format}")
        connection.execute(f"PRAGMA application_id = {MOVED}")
        connection.execute("CREATE TABLE moved (path TEXT)")
        connection.execute("INSERT INTO moved VALUES (?)", (str(new),))
        connection.commit()
    marker.chmod(0o644)  # another user of the group may start next
    marker.replace(old)
    sync(old.parent)
    remove_log(old)


def remove_log(old: Path) -> None:
    for suffix in _SUFFIXES:
        Path(f"{old}{suffix}").unlink(missing_ok=True)


def is_marker(path: Path) -> bool:
    """Whether this file says that the storage is elsewhere."""
    try:
        with path.open("rb") as file:
            return is_moved(file.read(100))
    except FileNotFoundError:
        return False
