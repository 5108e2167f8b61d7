"""The memory queue: what waits is gone when the process is; a 2xx means "in this process's memory".

Invariants:
- ``put`` takes all of its events or none, in one step without an await.
- An event that was taken and not settled is still in the queue, inside the bound, and returned by ``close``.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, Clock, Event, Limits, QueueFull, QueueView, memory_bytes
from forwarder.queues.bounds import Bounds
from forwarder.queues.front import Front


class MemoryQueue:
    """A queue of at most ``max_events`` events and ``max_bytes`` bytes of memory."""

    def __init__(
        self, limits: Limits, *, max_events: int, max_bytes: int, clock: Clock, metrics: TargetMetrics
    ) -> None:
        self._bounds = Bounds(max_events, max_bytes)
        self._metrics = metrics
        self._front = Front(limits, clock)
        self._closed = False

    async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
        if not events:
            return
        self._add(events, complete)
        self._metrics.took(len(events), sum(event.size for event in events))

    def take_back(self, events: Sequence[Event]) -> None:
        """Put events that were dead letters; plain, so that nothing comes between this and their removal."""
        self._add(events, complete=False)
        self._metrics.replayed += len(events)

    def _add(self, events: Sequence[Event], complete: bool) -> None:
        if self._closed:
            raise QueueFull("the queue is closed")
        size = memory_bytes(events)
        self._bounds.check(len(events), size, len(self), self.memory)
        self._front.add(events, size, complete=complete)

    async def ripe(self) -> bool:
        return await self._front.ripe()

    def take(self) -> Batch | None:
        return self._front.take()

    def settle(
        self,
        gone: Sequence[Event] = (),
        retry: Sequence[Event] = (),
        parts: Sequence[Sequence[Event]] = (),
        aside: Sequence[Sequence[Event]] = (),
        *,
        part: bool = False,
    ) -> None:
        self._front.settle(gone, retry, parts, aside, part=part)

    def leaving(self, events: Sequence[Event]) -> None:
        return None

    def take_expired(self, received_before: float) -> list[Event]:
        return self._front.take_expired(received_before)

    def drain(self) -> None:
        self._front.drain()

    def flush(self) -> None:
        self._front.flush()

    def close(self) -> list[Event]:
        self._closed = True
        return self._front.close()

    def __len__(self) -> int:
        return len(self._front)

    def room(self) -> int:
        return self._bounds.room(len(self), self.memory)

    @property
    def memory(self) -> int:
        return self._front.memory

    def view(self) -> QueueView:
        front = self._front
        return QueueView(
            waiting_events=front.waiting_events,
            waiting_bytes=front.waiting_bytes,
            in_flight_events=front.taken_events,
            in_flight_bytes=front.taken_bytes,
            capacity_events=self._bounds.max_events,
            capacity_bytes=self._bounds.max_bytes,
            oldest_at=front.oldest_at(),
        )
