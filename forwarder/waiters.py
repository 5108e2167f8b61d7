"""The line of calls that wait at a gate: first come, first served, with one timer for all of them.

Invariants:
- A word wakes one call; whoever passes, leaves, or is cancelled with the word in hand gives it to the next.
- It knows nothing of why a call must wait: it asks for how long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

FOREVER = float("inf")
SHORTEST_WAIT = 0.001
"""Seconds; the loop's timers are no finer."""


class Line:
    """``must_wait`` says in how many seconds the first may pass: 0 for now, FOREVER for "on a word"."""

    def __init__(self, must_wait: Callable[[], float]) -> None:
        self._must_wait = must_wait
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def stand(self) -> None:
        """Return when it is our turn and we may pass; the caller passes before it awaits anything."""
        if not self._waiting and self._must_wait() <= 0:
            return
        word = asyncio.get_running_loop().create_future()
        self._waiting.append(word)
        self.wake_next()
        while True:
            await self._wait_for(word)
            if self._must_wait() <= 0:
                return
            word = asyncio.get_running_loop().create_future()
            self._waiting.appendleft(word)  # another was quicker, or it is closed again
            self.wake_next()

    def wake_next(self) -> None:
        """Wake the first if it may pass, else set the timer for when it may."""
        if not self._waiting:
            return
        seconds = self._must_wait()
        if seconds <= 0:
            resolve(self._waiting.popleft())
        elif seconds != FOREVER:
            self._arm(seconds)

    async def _wait_for(self, word: asyncio.Future[None]) -> None:
        try:
            await word
        except asyncio.CancelledError:
            if word in self._waiting:
                self._waiting.remove(word)
            else:  # the word had come already: it belongs to the next
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


def resolve(word: asyncio.Future[None]) -> None:
    if not word.done():
        word.set_result(None)
