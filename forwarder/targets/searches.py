"""A search for credentials in a thread of its own, so that nothing in it can block the event loop.

Files may lie on a disk that hangs, or be pipes; the SDK reads them where it stands.

Invariants:
- The thread is a daemon thread, and so are those that it starts: one that hangs in a file, in a look-up of a
  name or beside a program that cannot be killed delays no stop.
- The result is handed over in the event loop that started the search, once, and before the thread cleans up.
- A search ends itself after LONGEST_SECONDS, except where it hangs in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

from forwarder.targets.source_table import cure_of
from forwarder.targets.sources import CREDENTIALS, Keys, Progress, SourceTrouble
from forwarder.threads import DaemonThreads

LONGEST_SECONDS = 35.0
"""Somewhat longer than a credential program may take."""

Find = Callable[[Progress], Awaitable[Keys]]


class Search:
    """One search. ``result`` is done in the loop in which this was made."""

    def __init__(self, find: Find) -> None:
        self.progress = Progress()
        self.has_failed = False
        """Counted as a search that found nothing, or not in time."""
        self._find = find
        self._ours = asyncio.get_running_loop()
        self.result: asyncio.Future[Keys] = self._ours.create_future()
        self.began_at = self._ours.time()
        self._gone = asyncio.Event()
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._theirs: asyncio.AbstractEventLoop | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="credentials", daemon=True)
        self._thread.start()

    @property
    def hangs(self) -> bool:
        """Whether it ought to have ended by itself."""
        return not self.result.done() and self._ours.time() - self.began_at > LONGEST_SECONDS + 1

    def cancel(self) -> None:
        """End it, with the program that it may have started."""
        with self._lock:
            self._cancelled = True
            if self._theirs is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
                    self._theirs.call_soon_threadsafe(self._task.cancel)

    async def ended(self, seconds: float) -> None:
        """Wait until the thread is gone, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._gone.wait()

    def _run(self) -> None:
        runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)
        with contextlib.suppress(asyncio.CancelledError), runner:
            runner.run(self._bounded())
        with contextlib.suppress(RuntimeError):  # the daemon's loop is closed
            self._ours.call_soon_threadsafe(self._gone.set)

    async def _bounded(self) -> None:
        with self._lock:
            self._task, self._theirs = asyncio.current_task(), asyncio.get_running_loop()
            self._theirs.set_default_executor(DaemonThreads())
            if self._cancelled:
                return
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                keys = await self._find(self.progress)
        except TimeoutError:
            self._hand_over(self._slow())
        except Exception as error:
            self._hand_over(error)
        else:
            self._hand_over(keys)

    def _slow(self) -> SourceTrouble:
        source = self.progress.source
        cause = f"there was no answer within {LONGEST_SECONDS:g} seconds"
        return SourceTrouble(CREDENTIALS, source, cause, cure_of(source))

    def _hand_over(self, found: Keys | Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the daemon's loop is closed
            self._ours.call_soon_threadsafe(self._settle, found)

    def _settle(self, found: Keys | Exception) -> None:
        if self.result.done():
            return
        if isinstance(found, Exception):
            self.result.set_exception(found)
            self.result.exception()  # seen: nobody may be waiting for it
        else:
            self.result.set_result(found)
