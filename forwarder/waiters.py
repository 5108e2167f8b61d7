"""A queue of waiters: first come, first served, with one timer for all of them.

Invariants:
- Each wake-up resumes one waiter. A waiter that proceeds, gives up or is cancelled must wake the next one.
- It does not know why a waiter must wait. It asks how long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

FOREVER = float("inf")
SHORTEST_WAIT = 0.001
"""Seconds; the loop's timers are no finer."""


class WaitQueue:
    """``must_wait``: seconds until the first may proceed; FOREVER for "when ``wake_next`` is called"."""

    def __init__(self, must_wait: Callable[[], float]) -> None:
        self._must_wait = must_wait
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def wait_turn(self) -> None:
        """Return when the caller may proceed. It must proceed before it awaits anything else."""
        if not self._waiting and self._must_wait() <= 0:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self.wake_next()
        while True:
            await self._wait_for(waiter)
            if self._must_wait() <= 0:
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.appendleft(waiter)  # another was quicker, or it is closed again
            self.wake_next()

    def wake_next(self) -> None:
        """Wake the first waiter if it may proceed, else set the timer for when it may."""
        if not self._waiting:
            return
        seconds = self._must_wait()
        if seconds <= 0:
            resolve(self._waiting.popleft())
        elif seconds != FOREVER:
            self._arm(seconds)

    async def _wait_for(self, waiter: asyncio.Future[None]) -> None:
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:  # woken already: the wake-up belongs to the next
                self.wake_next()
            raise

    def _arm(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = loop.call_later(max(seconds, SHORTEST_WAIT), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake_next()


class Pauses:
    """Waits that may be ended early, all at once."""

    def __init__(self) -> None:
        self._ended = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    def end(self) -> None:
        """End the waits of now; later ones are not ended."""
        ended, self._ended = self._ended, asyncio.Event()
        ended.set()


def resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def ignore_outcome(done: asyncio.Future[None]) -> None:
    """A callback for a future that nobody has to wait for: its failure is reported elsewhere."""
    if not done.cancelled():
        done.exception()
