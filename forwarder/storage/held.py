"""The storage's file as its owner holds it: the lock of its directory, and the one connection.

Invariants:
- Only the thread that owns the file uses this.
- When its paths no longer lead to the open files, all that these hold can be written there anew. A file that
  somebody else put there is never touched.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from forwarder.files import identity, size
from forwarder.storage.connection import Connection, connect, cut_log
from forwarder.storage.errors import StorageError, is_damage
from forwarder.storage.file import (
    LOCK_NAME,
    cannot_use,
    locked,
    move_in,
    open_for_writing,
    refuse_later_format,
)
from forwarder.storage.filesystem import refuse_network
from forwarder.storage.identity import OpenFiles
from forwarder.storage.restoring import abandon, replaced, save_aside, write_anew
from forwarder.storage.salvage import Rescue


class HeldFile:
    """``lock`` the directory, ``open`` the file, ``close`` both."""

    def __init__(
        self,
        path: Path,
        max_bytes: int | None,
        rescues: Sequence[Rescue],
        earlier: Path | None,
        filesystem: Callable[[Path], str],
        wall: Callable[[], float],
    ) -> None:
        self.path = path
        self.connection: Connection
        self._max_bytes = max_bytes
        self._rescues = rescues
        self._earlier = earlier
        self._filesystem = filesystem
        self._wall = wall
        self._locks = ExitStack()
        self._files = OpenFiles([])
        self._is_open = False

    @property
    def _log(self) -> list[Path]:
        """What SQLite keeps beside the file."""
        return [Path(f"{self.path}{suffix}") for suffix in ("-wal", "-shm")]

    def lock(self) -> bool:
        """Be the directory's only owner, or raise StorageError; whether the owner before was of this boot."""
        directory = self.path.parent
        refuse_network(directory, self._filesystem(directory))
        if self._earlier is not None:
            refuse_later_format(self._earlier, directory)
        return self._locks.enter_context(locked(directory))

    def move_in(self) -> None:
        """Take over the file of an earlier version."""
        if self._earlier is not None:
            move_in(self._earlier, self.path)

    def open(self, *, check: bool = True, damage: str | None = None) -> str | None:
        """Open it; a sentence when a damaged file was replaced. See ``open_for_writing``."""
        self.connection, sentence = open_for_writing(
            self.path, self._wall(), self._max_bytes, self._rescues, check=check, damage=damage
        )
        self._is_open = True
        self.connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # this opens the log
        self._files = OpenFiles([self.path, *self._log, self.path.with_name(LOCK_NAME)])
        return sentence

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.connection.close()

    def unlock(self) -> None:
        self._locks.close()

    # When somebody else changes the files.

    def note_sizes(self) -> None:
        """Every write is done."""
        self._files.note_sizes()

    def emptied(self) -> StorageError | None:
        """Damage, if a file is shorter than it was after the last write, and can no longer be read whole.

        Another connection looks, because this one may have in memory what is gone from the file.
        """
        try:
            shorter = self._files.shorter()
        except OSError:  # nobody can look now, which the comparison of the paths says
            return None
        if not shorter or (problem := self._unreadable()) is None:
            return None
        names = ", ".join(path.name for path in shorter)
        return StorageError("damaged", f"emptied or truncated while in use: {names} ({problem})", "read")

    def _unreadable(self) -> str | None:
        """What another connection finds wrong with the file; None if nothing, or if it cannot look now."""
        if not size(self.path):  # SQLite would delete the log of an empty file
            return "the file is empty"
        try:
            with closing(connect(self.path, "mode=ro")) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            return str(error) if is_damage(error) else None
        # Sound if what was cut off is in the log, or if somebody brought the log into the file.
        return None if found == "ok" else " ".join(str(found).split())

    def missing(self) -> list[Path]:
        """The paths that no longer lead to the open files. Raises StorageError when nobody can say."""
        try:
            return self._files.missing()
        except OSError as error:
            raise cannot_use(self.path, error) from error

    def restore(self, missing: Sequence[Path]) -> StorageError:
        """Have at its path again all that the open file holds, and go on with that; what it was. Raises
        StorageError, and the file is given up, when that is impossible."""
        problem = replaced(missing)
        try:
            if self.path.with_name(LOCK_NAME) in missing:
                self.lock()
            if self.path in missing:
                self._write_anew()
            elif not cut_log(self.connection):
                raise problem
            self.close()
            self.open(check=False)
        except (OSError, sqlite3.Error, StorageError) as error:
            raise self._given_up(problem, error) from error
        return problem

    def _write_anew(self) -> None:
        if identity(self.path) is not None:
            raise FileExistsError
        for path in self._log:  # else SQLite would take it for the new file's
            if self._files.is_there(path):
                path.unlink(missing_ok=True)
            elif path.exists():
                raise FileExistsError
        write_anew(self.connection, self.path)

    def _take_away_own_log(self) -> None:
        """Else the next start would bring it into the other file that is at the path now."""
        for path in self._log:
            with suppress(OSError):
                if self._files.is_there(path):
                    path.replace(f"{path}.of-another-file")

    def _given_up(self, problem: StorageError, why: Exception) -> StorageError:
        aside = save_aside(self.connection, self.path, self._wall()) if self._is_open else None
        if self._is_open and not self._files.is_there(self.path):
            self._take_away_own_log()
        abandon(self.connection)
        self._is_open = False
        kept = f"what it held is kept in {aside}" if aside else "what it held could not be kept"
        reason = "another file is there" if isinstance(why, FileExistsError) else why
        return StorageError("replaced", f"{problem}; {reason}; {kept}", "open")
