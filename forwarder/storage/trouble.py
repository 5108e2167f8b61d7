"""Why commits fail now, and the log of that.

Invariants:
- Only the storage's thread changes it; any thread may read it.
- Every change between "cannot write" (for one cause) and "works" is logged, and the last line is the
  present state (``changes``).
- What was full works again only once there is more than a little room. Otherwise every other commit would be
  a change of state.
"""

from __future__ import annotations

from collections.abc import Callable

from forwarder.changes import Changes
from forwarder.cures import storage_cure
from forwarder.logs import Log
from forwarder.storage.errors import StorageError


class Trouble:
    """``now``: the latest problem, None while commits succeed. ``flush`` it now and then, and at the end.

    ``has_room``: whether there is more than a little room.
    """

    def __init__(self, log: Log, has_room: Callable[[], bool]) -> None:
        self.now: StorageError | None = None
        self._changes = Changes(log)
        self._has_room = has_room

    def note(self, problem: StorageError | None) -> None:
        """The outcome of a commit, or of a look at the disk."""
        before = self.now
        if problem is not None:
            self.now = problem
            if before is None or before.cause != problem.cause:
                page = storage_cure(problem.cause).page
                self._changes.say(
                    "warning", "storage cannot write", reason=problem.cause, error=str(problem), runbook=page
                )
        elif before is not None and (before.reason != "full" or self._has_room()):
            self.now = None
            self._changes.say("info", "storage works again", was=before.cause)

    def flush(self, *, last: bool = False) -> None:
        """Log what waits, if it may be logged by now, or if nothing comes after it."""
        self._changes.flush(last=last)
