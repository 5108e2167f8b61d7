"""What waits for the storage's thread, and when it leaves.

Invariants:
- A group leaves when any of its jobs is due, with all that came by then, in the order in which it came.
"""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

J = TypeVar("J")


class Inbox(Generic[J]):
    """Jobs go in from any thread; one thread takes them out, in groups."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[J] = []
        self._due = threading.TIMEOUT_MAX
        self._stopped = False

    def add(self, job: J, due: float) -> bool:
        """Take the job, to leave at ``due`` (monotonic seconds) at the latest; False when stopped."""
        with self._changed:
            if self._stopped:
                return False
            self._waiting.append(job)
            if due < self._due:  # otherwise the thread wakes up early enough by itself
                self._due = due
                self._changed.notify()
            return True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def next_group(self, within: float = threading.TIMEOUT_MAX) -> list[J] | None:
        """Wait for the next group; empty when none is due ``within`` so many seconds, None when stopped and
        nothing is left."""
        ends = time.monotonic() + within
        with self._changed:
            while not self._stopped and (left := self._due - time.monotonic()) > 0:
                if (still := ends - time.monotonic()) <= 0:
                    return []
                self._changed.wait(min(left, still))
            if self._stopped and not self._waiting:
                return None
            group, self._waiting = self._waiting, []
            self._due = threading.TIMEOUT_MAX
            return group
