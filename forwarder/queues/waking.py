"""The workers of one queue that wait for a batch to be due.

Invariants:
- One timer per queue. One worker is woken per due batch; the queue wakes the next one when it takes.
- A worker that is cancelled after it was woken wakes another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from forwarder.model import Clock
from forwarder.waiters import resolve


class Waking:
    """``next_due_at`` returns when the next batch is due, by the monotonic clock; None when nothing waits."""

    def __init__(self, clock: Clock, next_due_at: Callable[[float], float | None]) -> None:
        self._clock = clock
        self._next_due_at = next_due_at
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False

    async def due(self) -> bool:
        """Wait until a batch is due; False once this is closed."""
        while not self._closed:
            now = self._clock.monotonic()
            due_at = self._next_due_at(now)
            if due_at is not None and due_at <= now:
                return True
            await self._wait(due_at, now)
        return False

    def wake(self, now: float) -> None:
        """Wake one worker if a batch is due, else set the timer for when the next one is."""
        if not self._waiters:
            return  # whoever comes to wait looks first
        due_at = self._next_due_at(now)
        if due_at is not None and due_at <= now:
            resolve(self._waiters.popleft())
        else:
            self._arm(due_at, now)

    def close(self) -> None:
        """End every wait."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            resolve(self._waiters.popleft())

    async def _wait(self, due_at: float | None, now: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._arm(due_at, now)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:  # it was woken already: another worker must be
                self.wake(self._clock.monotonic())
            raise

    def _arm(self, due_at: float | None, now: float) -> None:
        if due_at is None or (self._timer is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        self._timer = asyncio.get_running_loop().call_later(max(due_at - now, 0.001), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake(self._clock.monotonic())
