"""What keeps commits from the disk now; a change of it is logged.

Invariants:
- Only the storage's thread changes it; any thread may read it.
- What was full works again only once there is more than a little room. Otherwise every other commit would be
  a change of state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forwarder.logs import limited
from forwarder.storage.errors import StorageError


class Trouble:
    """``now``: the latest problem, None while commits succeed. ``has_room``: whether there is more than a
    little room."""

    def __init__(self, log: Any, has_room: Callable[[], bool]) -> None:
        self.now: StorageError | None = None
        self._log = log
        self._has_room = has_room

    def note(self, problem: StorageError | None) -> None:
        """The outcome of a commit, or of a look at the disk."""
        before = self.now
        if problem is not None:
            self.now = problem
        elif before is not None and (before.reason != "full" or self._has_room()):
            self.now = None
        if self.now is not None and before is None:
            log = limited(self._log, "storage trouble")
            log.warning("storage cannot write", reason=self.now.reason, problem=str(self.now))
        elif self.now is None and before is not None:
            limited(self._log, "storage works").info("storage works again")
