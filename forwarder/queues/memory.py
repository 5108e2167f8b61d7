"""The memory queue: what waits is gone when the process is; a 2xx means "in this process's memory".

Invariants:
- ``put`` takes all of its events or none, in one step without an await.
- An event that was taken and not settled is still in the queue, inside the bound, and returned by ``close``.
- Every settled event was taken before, exactly once; anything else is an error, not a count that drifts.
- One timer per queue; one worker is woken per due batch, and passes the word on when it takes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, Clock, Event, Limits, QueueFull, QueueView, memory_bytes
from forwarder.queues.forming import Forming


class MemoryQueue:
    """A queue of at most ``max_events`` events and ``max_bytes`` bytes of memory."""

    def __init__(
        self, limits: Limits, *, max_events: int, max_bytes: int, clock: Clock, metrics: TargetMetrics
    ) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._forming = Forming(limits)
        self._waiting_bytes = 0
        self._taken: dict[str, Event] = {}
        self._taken_bytes = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._closed = False

    async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
        if not events:
            return
        size = memory_bytes(events)
        self._refuse_what_does_not_fit(len(events), size)
        now = self._clock.monotonic()
        if complete:
            self._forming.add_complete(events, now)
        else:
            self._forming.add(events, now)
        self._waiting_bytes += size
        self._metrics.took(len(events), sum(event.size for event in events))
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
        for events in (retry, *parts, *aside):
            self._waiting_bytes += self._release(events)
        for events in aside:
            self._forming.step_aside(events, now, part=part)
        for events in reversed(parts):
            self._forming.put_back(events, part=True)
        if later := [event for event in retry if event.not_before]:
            self._forming.delay(later, now)
        if again := [event for event in retry if not event.not_before]:
            self._forming.put_back(again)
        self._wake(now)

    def take_expired(self, received_before: float) -> list[Event]:
        expired = self._forming.remove(lambda event: event.received_at < received_before)
        self._hold(expired)
        return expired

    def drain(self) -> None:
        now = self._clock.monotonic()
        self._forming.drain(now)
        self._wake(now)

    def close(self) -> list[Event]:
        self._closed = True
        left = [*self._taken.values(), *self._forming]
        self._forming = Forming(self._limits)
        self._taken = {}
        self._waiting_bytes = self._taken_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
        while self._waiters:
            _resolve(self._waiters.popleft())
        return left

    def __len__(self) -> int:
        return len(self._forming) + len(self._taken)

    @property
    def memory(self) -> int:
        return self._waiting_bytes + self._taken_bytes

    def view(self) -> QueueView:
        ages = [event.received_at for event in self._taken.values()]
        waiting = self._forming.oldest_at()
        if waiting is not None:
            ages.append(waiting)
        return QueueView(
            waiting_events=len(self._forming),
            waiting_bytes=self._waiting_bytes,
            in_flight_events=len(self._taken),
            in_flight_bytes=self._taken_bytes,
            capacity_events=self._max_events,
            capacity_bytes=self._max_bytes,
            oldest_at=min(ages, default=None),
        )

    def _refuse_what_does_not_fit(self, count: int, size: int) -> None:
        if count > self._max_events or size > self._max_bytes:
            raise QueueFull(
                f"{count} events of {size} bytes can never fit: the queue holds {self._max_events} events"
                f" and {self._max_bytes} bytes",
                never=True,
            )
        too_many = len(self) + count > self._max_events
        if self._closed or too_many or self.memory + size > self._max_bytes:
            raise QueueFull("the queue is full")

    def _hold(self, events: Sequence[Event]) -> None:
        size = memory_bytes(events)
        self._waiting_bytes -= size
        self._taken_bytes += size
        for event in events:
            self._taken[event.id] = event

    def _release(self, events: Sequence[Event]) -> int:
        """Let taken events go; the memory they hold."""
        for event in events:
            del self._taken[event.id]
        size = memory_bytes(events)
        self._taken_bytes -= size
        return size

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
