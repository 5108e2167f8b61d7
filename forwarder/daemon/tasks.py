"""The tasks of the daemon, which run until it stops.

Invariants:
- A task that ends unexpectedly, in whatever way, is logged and reported, once; one that is cancelled here, or
  ends while the daemon stops, is not.
- Cancelling waits for the tasks, but not for ever: one may wait for a disk that does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from forwarder.storage import StorageError


class Tasks:
    """``ended`` is called when one ended unexpectedly. ``is_stopping``: whether tasks may end by themselves.
    ``stored``: the events that are on the disk, by target, for the log line when that fails."""

    def __init__(
        self,
        ended: Callable[[], None],
        is_stopping: Callable[[], bool],
        stored: Callable[[], Mapping[str, int]],
    ) -> None:
        self._ended = ended
        self._is_stopping = is_stopping
        self._stored = stored
        self._running: set[asyncio.Task[None]] = set()
        self._cancelling = False
        self._log = structlog.get_logger("daemon")

    def start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(job, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def cancel(self, seconds: float) -> None:
        """Cancel all of them, and wait at most so long for their ends."""
        self._cancelling = True
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task.cancelled() and self._cancelling:
            return
        problem = None if task.cancelled() else task.exception()
        if problem is not None or task.cancelled() or not self._is_stopping():
            if isinstance(problem, StorageError):  # the disk's fault: its message is enough
                self._log.error("storage failed; stopping", reason=str(problem), events=self._stored())
            else:
                self._log.error("task ended unexpectedly; stopping", task=task.get_name(), exc_info=problem)
            self._ended()
