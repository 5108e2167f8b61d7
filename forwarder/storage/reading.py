"""The storage's file read from outside, beside a running daemon or without one, also when it is damaged.

Invariants:
- Readers need no lock, stop no writer, and put nothing beside a file that was set aside.
- A log of which SQLite would read only the beginning, in silence, is damage.
- What can be read of a damaged file is read from a copy, made as the daemon would make its new file.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from forwarder.storage.connection import Connection, connect, connect_unshared, has_index
from forwarder.storage.errors import StorageError, translate
from forwarder.storage.file import (
    FILE_NAME,
    cannot_use,
    log_of,
    refuse_marker,
    refuse_other_formats,
    save,
    size_of,
)
from forwarder.storage.salvage import Rescue
from forwarder.storage.wal import Damage, damage_at

LOOKS = 3
"""At a log that looks damaged, for a reader beside a daemon that may write it."""


@contextmanager
def open_read_only(where: Path) -> Iterator[Connection]:
    """A connection that only reads, beside a running daemon or without one; every error is a StorageError:
    "damaged" also for a log of which SQLite would read only the beginning.

    ``where``: the directory, or a file that was set aside.
    """
    path = _file_in(where)
    try:
        if not size_of(path):
            raise StorageError("missing", f"there is no {FILE_NAME} in {where}")
        refuse_other_formats(path)
        refuse_marker(path)
        if log := _log_damage(path):
            raise StorageError("damaged", str(log), "read")
        reading = closing(_reader(path))
    except sqlite3.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise cannot_use(path, error) from error
    with reading as connection:
        try:
            yield connection
        except sqlite3.Error as error:
            raise translate(error) from error


@contextmanager
def salvaged(where: Path, rescues: Sequence[Rescue]) -> Iterator[tuple[Path, str]]:
    """A directory, for a while, with what can be read of a damaged file, and a sentence of what that is."""
    path = _file_in(where)
    with tempfile.TemporaryDirectory(prefix="forwarder-") as directory:
        sound = Path(directory) / FILE_NAME
        try:
            refuse_other_formats(path)
            new, saved = save(path, sound, rescues, _log_damage(path))
            new.replace(sound)
        except sqlite3.Error as error:
            raise translate(error) from error
        except OSError as error:
            raise cannot_use(path, error) from error
        yield Path(directory), saved


def _log_damage(path: Path) -> Damage | None:
    """What is wrong with the log of a file that is only read. A daemon may write it meanwhile, so what is not
    found again was never there."""
    is_aside = path.name != FILE_NAME
    damage: Damage | None = None
    for _ in range(1 if is_aside else LOOKS):
        damage = damage_at(path, crashed=not is_aside)
        if damage is None:
            break
    return damage


def _file_in(where: Path) -> Path:
    return where if os.path.isfile(where) else where / FILE_NAME


def _reader(path: Path) -> Connection:
    if path.name != FILE_NAME and not size_of(log_of(path)):
        return connect(
            path, "mode=ro&immutable=1"
        )  # it was set aside: nobody writes it, nothing is put beside
    connection = connect(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if size_of(log_of(path)):
            if has_index(path):
                raise
            return connect_unshared(path)  # a copy, or on a file system that is read-only
        # Without a log the file is complete, but SQLite would make an empty one, where we may not write.
        return connect(path, "mode=ro&immutable=1")
    return connection
