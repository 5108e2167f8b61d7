"""What keeps the storage from writing now, and the log of that.

Invariants:
- Every change between "cannot write" (for one cause) and "works" is logged, and the last line says what is
  (``changes``).
- A full storage works again only when there is more than a little room.
"""

from __future__ import annotations

from forwarder.changes import Changes
from forwarder.cures import storage_cure
from forwarder.logs import Log
from forwarder.storage.errors import StorageError


class Trouble:
    """``now``: the problem, None while all is well. ``flush`` it now and then, and at the end."""

    def __init__(self, log: Log) -> None:
        self._changes = Changes(log)
        self.now: StorageError | None = None

    def note(self, problem: StorageError) -> None:
        before, self.now = self.now, problem
        if before is None or before.cause != problem.cause:
            page = storage_cure(problem.cause).page
            self._changes.say(
                "warning", "storage cannot write", reason=problem.cause, error=str(problem), runbook=page
            )

    def ended(self, *, has_room: bool) -> None:
        """Something was written: this ends a trouble, of a full storage only if it ``has_room`` again."""
        before = self.now
        if before is not None and (before.reason != "full" or has_room):
            self.now = None
            self._changes.say("info", "storage works again", was=before.cause)

    def flush(self, *, last: bool = False) -> None:
        """Log what waits, if it may be logged by now, or if nothing comes after it."""
        self._changes.flush(last=last)
