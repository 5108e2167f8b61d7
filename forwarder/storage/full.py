"""A full disk: the ballast gives way, new events are refused, and freed pages go back until there is room.

Invariants:
- Only the storage's thread uses this.
- New events are accepted again only when there is room for the ballast.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress

from forwarder.storage.ballast import Ballast
from forwarder.storage.connection import Connection, cut_log
from forwarder.storage.errors import StorageError
from forwarder.storage.trouble import Trouble

RELIEF_PAGES = 512
RELIEF_SECONDS = 1.0
"""On a full disk: free pages given back at a time, few enough for the log, and how often."""


class FullDisk:
    """``connection`` returns the one that is open."""

    def __init__(self, ballast: Ballast, trouble: Trouble, connection: Callable[[], Connection]) -> None:
        self._ballast = ballast
        self._trouble = trouble
        self._connection = connection
        self._relieved_at = 0.0

    def look(self) -> None:
        """Have the ballast at its path; refuse new events when there is no room for it."""
        if not (self._connection().disk_is_full or self._ballast.make()):
            self._refuse_what_is_new()

    def give_way(self) -> bool:
        """Give up the ballast if it is the disk that is full, not our share of it; whether that was now."""
        if self._connection().disk_is_full or not self._ballast.disk_is_full:
            return False
        self._ballast.release()
        self._refuse_what_is_new()
        with suppress(sqlite3.Error):
            cut_log(self._connection())
        return True

    def relieve(self) -> None:
        """Give free pages back to the disk, little by little; with the ballast back, all is as before."""
        now = time.monotonic()
        if not self._connection().disk_is_full or now < self._relieved_at + RELIEF_SECONDS:
            return
        self._relieved_at = now
        with suppress(sqlite3.Error):
            self._connection().executescript(f"PRAGMA incremental_vacuum({RELIEF_PAGES})")
            cut_log(self._connection())
        if self._ballast.make():
            self._connection().disk_is_full = False
            self._trouble.note(None)

    def _refuse_what_is_new(self) -> None:
        self._connection().disk_is_full = True
        self._trouble.note(StorageError("full", "the disk is full"))
