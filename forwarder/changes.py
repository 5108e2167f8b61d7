"""Logs changes of a state: each of them while they are few; of a state that flips, what it is in the end.

Invariants:
- The last line always says the state that is: a change that is not logged at once is logged later, unless
  another has followed it, and then that one is.
- A state that flips without end writes BURST lines, then one line in EVERY_SECONDS, with the number of
  changes.
- One thread uses it. Where that has no event loop, it calls ``flush`` now and then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from forwarder.logs import Log

BURST = 8
EVERY_SECONDS = 10.0
"""So many changes are logged at once; then one line in so many seconds."""

SLACK = 1e-6

Level = Literal["info", "warning", "error"]


class _Line(NamedTuple):
    level: Level
    event: str
    fields: dict[str, Any]


class Changes:
    """The log of one state. ``now``: monotonic seconds."""

    def __init__(self, log: Log, now: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now = now
        self._lines = float(BURST)  # that may still be written at once
        self._counted_at = now()
        self._waiting: _Line | None = None
        self._changes = 0  # since the last line

    def say(self, level: Level, event: str, **fields: Any) -> None:
        """The state changed."""
        self._changes += 1
        self._waiting = _Line(level, event, fields)
        if not self.flush() and self._changes == 1:
            self._call_later()

    def flush(self, *, last: bool = False) -> bool:
        """Log what waits, if it may be logged by now or is the ``last`` line; whether nothing waits now."""
        if self._waiting is None:
            return True
        now = self._now()
        self._lines = min(BURST, self._lines + (now - self._counted_at) / EVERY_SECONDS)
        self._counted_at = now
        if self._lines < 1 - SLACK and not last:
            return False
        self._lines -= 1
        level, event, fields = self._waiting
        more = {"changes": self._changes} if self._changes > 1 else {}
        self._waiting, self._changes = None, 0
        getattr(self._log, level)(event, **fields, **more)
        return True

    def _call_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a thread without one, which flushes
        loop.call_later((1 - self._lines) * EVERY_SECONDS, self._again)

    def _again(self) -> None:
        if not self.flush():
            self._call_later()
