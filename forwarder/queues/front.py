"""The part of a queue that is in memory: groups that form, events in a worker's hands, workers that wait.

Invariants:
- An event that was taken and not settled is still here, counted, and returned by ``close``.
- Every settled event was taken before, exactly once; anything else is an error, not a count that drifts.
- One timer per queue; one worker is woken per due batch, and passes the word on when it takes.
- It knows no bounds and moves no metrics: the queue around it does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from forwarder.model import Batch, Clock, Event, Limits, memory_bytes
from forwarder.queues.forming import Forming


class Front:
    """The events of one queue that can be taken now. ``len()`` counts those that wait and those in flight."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._forming = Forming(limits)
        self._taken: dict[int, Event] = {}  # by identity: two events may have one id
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False
        self.waiting_bytes = 0
        self.taken_bytes = 0

    def add(self, events: Sequence[Event], size: int, *, complete: bool = False) -> None:
        """Put events behind all that waits; ``size`` is their ``memory_bytes``."""
        now = self._clock.monotonic()
        if complete:
            self._forming.add_complete(events, now)
        else:
            self._forming.add(events, now)
        self.waiting_bytes += size
        self._wake(now)

    async def ripe(self) -> bool:
        while not self._closed:
            now = self._clock.monotonic()
            due_at = self._forming.next_due_at(now)
            if due_at is not None and due_at <= now:
                return True
            await self._wait_for_word(due_at, now)
        return False

    def take(self) -> Batch | None:
        now = self._clock.monotonic()
        batch = self._forming.take(now)
        if batch is not None:
            self._hold(batch.events)
            self._wake(now)
        return batch

    def settle(
        self,
        gone: Sequence[Event] = (),
        retry: Sequence[Event] = (),
        parts: Sequence[Sequence[Event]] = (),
        aside: Sequence[Sequence[Event]] = (),
        *,
        part: bool = False,
    ) -> None:
        now = self._clock.monotonic()
        self._release(gone)
        if retry or parts or aside:
            self._return(retry, parts, aside, part, now)
        self._wake(now)

    def take_expired(self, received_before: float) -> list[Event]:
        expired = self._forming.remove(lambda event: event.received_at < received_before)
        self._hold(expired)
        return expired

    def drain(self) -> None:
        now = self._clock.monotonic()
        self._forming.drain(now)
        self._wake(now)

    def flush(self) -> None:
        now = self._clock.monotonic()
        self._forming.flush(now)
        self._wake(now)

    def close(self) -> list[Event]:
        """End every wait and let go of everything; what was here."""
        self._closed = True
        left = [*self._taken.values(), *self._forming]
        self._forming = Forming(self._limits)
        self._taken = {}
        self.waiting_bytes = self.taken_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            _resolve(self._waiters.popleft())
        return left

    def __len__(self) -> int:
        return len(self._forming) + len(self._taken)

    @property
    def waiting_events(self) -> int:
        return len(self._forming)

    @property
    def taken_events(self) -> int:
        return len(self._taken)

    @property
    def memory(self) -> int:
        return self.waiting_bytes + self.taken_bytes

    @property
    def ready_share(self) -> float:
        """Which part of what waits is not delayed: 1 when nothing is."""
        waiting = len(self._forming)
        return 1.0 - self._forming.delayed_count / waiting if waiting else 1.0

    def oldest_at(self) -> float | None:
        """When the oldest event here was received. Walks the groups."""
        ages = [event.received_at for event in self._taken.values()]
        waiting = self._forming.oldest_at()
        if waiting is not None:
            ages.append(waiting)
        return min(ages, default=None)

    def _hold(self, events: Sequence[Event]) -> None:
        size = memory_bytes(events)
        self.waiting_bytes -= size
        self.taken_bytes += size
        for event in events:
            self._taken[id(event)] = event

    def _release(self, events: Sequence[Event]) -> int:
        """Let taken events go; the memory they hold."""
        for event in events:
            del self._taken[id(event)]
        size = memory_bytes(events)
        self.taken_bytes -= size
        return size

    def _return(
        self,
        retry: Sequence[Event],
        parts: Sequence[Sequence[Event]],
        aside: Sequence[Sequence[Event]],
        part: bool,
        now: float,
    ) -> None:
        for events in (retry, *parts, *aside):
            self.waiting_bytes += self._release(events)
        for events in aside:
            self._forming.step_aside(events, now, part=part)
        for events in reversed(parts):
            self._forming.put_back(events, part=True)
        if later := [event for event in retry if event.not_before]:
            self._forming.delay(later, now)
        if again := [event for event in retry if not event.not_before]:
            self._forming.put_back(again)

    async def _wait_for_word(self, due_at: float | None, now: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._arm(due_at, now)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            else:  # the word had come already: it belongs to another worker now
                self._wake(self._clock.monotonic())
            raise

    def _wake(self, now: float) -> None:
        """Wake one worker if a batch is due, else set the timer for when the next one is."""
        if not self._waiters:
            return  # whoever comes to wait looks first
        due_at = self._forming.next_due_at(now)
        if due_at is not None and due_at <= now:
            _resolve(self._waiters.popleft())
        else:
            self._arm(due_at, now)

    def _arm(self, due_at: float | None, now: float) -> None:
        if due_at is None or (self._timer is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        self._timer = asyncio.get_running_loop().call_later(max(due_at - now, 0.001), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._wake(self._clock.monotonic())


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
