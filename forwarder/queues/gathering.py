"""Puts of one turn of the event loop, written as one: a row and a job cost as much for one event as for many.

Invariants:
- What was added is written in the turn after it, in the order in which it came; nothing waits for more.
- The puts of one turn have one fate, and each of them is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from forwarder.model import Event, QueueUnavailable
from forwarder.storage import StorageError
from forwarder.waiters import ignore_outcome

Writing = asyncio.Future[None]
Write = Callable[[Sequence[Event], int], Writing]
"""Writes these events, of so many ``memory_bytes``."""


class Gathering:
    """``add`` puts; ``flush`` does not need to be called."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._events: list[Event] = []
        self._size = 0
        self._told: Writing | None = None

    def add(self, events: Sequence[Event], size: int) -> Writing:
        """Have these written with what else comes in this turn; resolved as the write is."""
        if self._told is None:
            loop = asyncio.get_running_loop()
            self._told = loop.create_future()
            loop.call_soon(self.flush)
        self._events += events
        self._size += size
        return self._told

    def flush(self) -> None:
        """Have all that was added written now."""
        if self._told is None:
            return
        tell(self._told, self._write(self._events, self._size))
        self._events, self._size, self._told = [], 0, None


def tell(told: Writing, writing: Writing) -> Writing:
    """``told``, which gets the outcome of the write as those who put events are told it."""
    writing.add_done_callback(partial(_tell, told))
    return told


def _tell(told: Writing, writing: Writing) -> None:
    if told.done() or writing.cancelled():
        told.cancel()
    elif (problem := writing.exception()) is None:
        told.set_result(None)
    else:
        told.set_exception(_unavailable(problem) if isinstance(problem, StorageError) else problem)
        ignore_outcome(told)  # whoever waits for it raises it; nobody has to wait


def _unavailable(problem: StorageError) -> QueueUnavailable:
    unavailable = QueueUnavailable(f"events cannot be stored now: {problem.brief}")
    unavailable.__cause__ = problem
    return unavailable
