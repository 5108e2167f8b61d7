"""A damaged file opened for reading, with what SQLite needs before it reads at all.

Invariants:
- The file is never written. Where a header is needed, a copy gets it, and the copy is removed.
- A file that is shorter than its header says is read as far as it goes.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from forwarder.storage.connection import PAGE_BYTES, Connection, connect, connect_unshared, has_index
from forwarder.storage.wal import Damage, mend

# SQLite file format, section 1.3: what is the same in every file of ours, and what reading does without.
_BEGINNING = b"SQLite format 3\0" + struct.pack(">H6B", PAGE_BYTES, 2, 2, 0, 64, 32, 32)
_HEADER = _BEGINNING + struct.pack(">19I", *[0] * 5, 4, 0, 1, 1, 0, 1, *[0] * 8)
"""Schema format 4, incremental vacuum, UTF-8; page counts of 0: as many as there are."""


@contextmanager
def open_damaged(path: Path, scratch: Path, log: Damage | None = None) -> Iterator[Connection]:
    """A connection that reads what it can. ``scratch`` names the copy, if one is needed.

    ``log``: what is wrong with the log, of which SQLite would read only the beginning.
    """
    names = [scratch, Path(f"{scratch}-wal"), Path(f"{scratch}-shm")]
    try:
        source = _with_header(path, scratch)
        if log is not None and log.last:
            source = _with_log(path, source, scratch, log)
        with closing(_connect(source)) as connection:
            # Else SQLite reads nothing of a file that is too short. Nothing is written to a schema here.
            connection.execute("PRAGMA writable_schema = ON")
            yield connection
    finally:
        for name in names:
            name.unlink(missing_ok=True)


def _connect(path: Path) -> Connection:
    try:
        if path.stat().st_size:
            log = Path(f"{path}-wal")
            complete = not log.exists() or not log.stat().st_size
            if not complete and not has_index(path) and not _may_write(path.parent):
                return connect_unshared(path)
            return connect(path, "mode=ro&immutable=1" if complete else "mode=ro")
    except FileNotFoundError:
        pass
    return connect(Path(), "mode=memory")


def _may_write(directory: Path) -> bool:
    return os.access(directory, os.W_OK, effective_ids=True)


def _with_log(path: Path, source: Path, scratch: Path, damage: Damage) -> Path:
    """The file under another name, with all of its log that can be read; as it was if there is no room."""
    try:
        if source != scratch:
            try:
                os.link(path, scratch)
            except OSError:
                shutil.copyfile(path, scratch)
        mended = Path(f"{scratch}-wal")
        mended.touch(mode=0o600)
        mend(Path(f"{path}-wal"), mended, damage)
    except OSError:
        return source
    return scratch


def _with_header(path: Path, scratch: Path) -> Path:
    """The file, or a copy with a header if its own is lost and there is room for a copy."""
    try:
        with path.open("rb") as file:
            if file.read(len(_BEGINNING)) == _BEGINNING or path.stat().st_size <= PAGE_BYTES:
                return path
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                copy = Path(f"{scratch}{suffix}")
                copy.touch(mode=0o600)
                shutil.copyfile(f"{path}{suffix}", copy)
        with scratch.open("r+b") as file:
            file.write(_HEADER)
    except OSError:
        return path
    return scratch
