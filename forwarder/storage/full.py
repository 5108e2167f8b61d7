"""A full disk: the ballast gives way, new events are refused, and freed pages go back until there is room.

Invariants:
- Only the storage's thread uses this.
- New events are accepted again only when there is room for the ballast.
- The error says what is full: the file system, its inodes, a quota, or ``storage.max_bytes`` (``room``).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

from forwarder.storage.ballast import Ballast
from forwarder.storage.connection import Connection, bytes_left, cut_log
from forwarder.storage.errors import StorageError
from forwarder.storage.room import UNBOUNDED, Room
from forwarder.storage.trouble import Trouble

RELIEF_PAGES = 512
RELIEF_SECONDS = 1.0
"""On a full disk: free pages given back at a time, few enough for the log, and how often."""


class FullDisk:
    """``connection`` returns the one that is open."""

    def __init__(
        self, ballast: Ballast, room: Room, trouble: Trouble, connection: Callable[[], Connection]
    ) -> None:
        self._ballast = ballast
        self._room = room
        self._trouble = trouble
        self._connection = connection
        self._relieved_at = 0.0

    def with_cause(self, problem: StorageError) -> StorageError:
        """The problem with what is full."""
        try:
            left = bytes_left(self._connection())
        except sqlite3.Error:  # what the problem is about keeps the file from being read at all
            left = UNBOUNDED
        return self._room.with_cause(problem, left)

    def look(self) -> None:
        """Have the ballast at its path; refuse new events when there is no room for it."""
        if self._connection().full is None and not self._ballast.make():
            self._refuse_what_is_new(self._room.file_system_is_full())

    def give_way(self, problem: StorageError) -> bool:
        """Give up the ballast if it is the disk that is full, not the storage's own bound; whether that was
        now."""
        if self._connection().full is not None or problem.reason != "full" or problem.cause == "max_bytes":
            return False
        self._ballast.release()
        self._refuse_what_is_new(problem)
        with suppress(sqlite3.Error):
            cut_log(self._connection())
        return True

    def relieve(self) -> None:
        """Give free pages back to the disk, little by little; with the ballast back, all is as before."""
        now = time.monotonic()
        if self._connection().full is None or now < self._relieved_at + RELIEF_SECONDS:
            return
        self._relieved_at = now
        with suppress(sqlite3.Error):
            self._connection().executescript(f"PRAGMA incremental_vacuum({RELIEF_PAGES})")
            cut_log(self._connection())
        if self._ballast.make():
            self._connection().full = None
            self._trouble.note(None)

    def _refuse_what_is_new(self, problem: StorageError) -> None:
        self._connection().full = problem
        self._trouble.note(problem)
