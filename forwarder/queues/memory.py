"""The memory queue: what waits is gone when the process is; a 2xx means "in this process's memory".

Invariants:
- A put reserves the room for all of its events, or takes none. A large put is added in slices, one in a
  turn of the event loop; what is still to be added counts against the bounds, and is refused by ``aclose``.
- An event that was taken and not settled is still in the queue, inside the bound, and returned by ``aclose``.
  Not so one that is being written as a dead letter then: it stays in the queue until ``settle`` or
  ``forget``, so that it is never counted as both dropped and dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from forwarder.config import Bytes
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    AsideView,
    Batch,
    Clock,
    Event,
    Limits,
    Names,
    QueueFull,
    QueueView,
    memory_bytes,
)
from forwarder.queues.bounds import Bounds
from forwarder.queues.building import QueueOptions, QueueParts
from forwarder.queues.front import Front
from forwarder.queues.leaving import Leaving
from forwarder.queues.queue import Bury, Chosen, Letters, Page, Settlement
from forwarder.queues.shares import Shares
from forwarder.waiters import ignore_outcome

SLICE_EVENTS = 4096
"""Events that are added in one turn of the event loop, at most, unless they are one batch."""

FEW_NAMES = 100
NAMED_SLICE_EVENTS = 500
"""The same, where they are for more than a few names: each may be set aside by itself, which costs 20 us."""


class MemoryOptions(QueueOptions, frozen=True, kw_only=True, tag_field="kind", tag="memory"):
    """Events wait in memory."""

    durable: ClassVar[bool] = False
    survives: ClassVar[str] = "a clean stop if all events can be delivered; not a kill"
    default_bytes: ClassVar[Bytes] = Bytes(64 << 20)


def build(options: MemoryOptions, parts: QueueParts) -> MemoryQueue:
    return MemoryQueue(
        parts.limits,
        max_events=parts.max_events,
        max_bytes=parts.max_bytes,
        clock=parts.clock,
        metrics=parts.metrics,
        names=parts.names,
    )


class MemoryQueue:
    """A queue of at most ``max_events`` events and ``max_bytes`` bytes of memory."""

    durable = False
    stored_as = None
    knows_ages = True

    def __init__(
        self,
        limits: Limits,
        *,
        max_events: int,
        max_bytes: int,
        clock: Clock,
        metrics: TargetMetrics,
        names: Names | None = None,
    ) -> None:
        self._bounds = Bounds(max_events, max_bytes)
        self._metrics = metrics
        self._clock = clock
        self._shares = None if names is None else Shares(names, self._bounds, clock)
        self._front = Front(limits, clock, names, None if self._shares is None else self._shares.move)
        self._pending_events = self._pending_bytes = 0
        self._closed = False
        self._leaving = Leaving()

    async def open(self) -> None:
        """Nothing is left from an earlier process."""

    def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> asyncio.Future[None] | None:
        if not events:
            return None
        step = _step_for(events)
        if complete or len(events) <= step:
            self._add(events, complete)
            self._metrics.add_accepted(len(events), sum(event.size for event in events))
            return None
        added: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        added.add_done_callback(ignore_outcome)
        self._add_sliced(self._reserved(events, step), added)
        return added

    async def take_back(self, events: Sequence[Event], letters: Letters) -> None:
        # Nothing is awaited between these two: an event that dies again becomes a letter after the removal.
        self._add(events, complete=False)
        self._metrics.replayed += len(events)
        await letters.remove()

    def _add(self, events: Sequence[Event], complete: bool) -> None:
        size = memory_bytes(events)
        self._check(len(events), size)
        self._front.add(events, size, complete=complete)

    def _check(self, events: int, size: int) -> None:
        if self._closed:
            raise QueueFull("the queue is closed")
        held_bytes = self._front.memory + self._pending_bytes
        self._bounds.check(events, size, len(self) + self._pending_events, held_bytes)

    def _reserved(self, events: Sequence[Event], step: int) -> list[tuple[Sequence[Event], int]]:
        """The slices of a large put, each with its bytes, the last one first; there is room for all."""
        slices = [events[at : at + step] for at in range(0, len(events), step)]
        sized = [(some, memory_bytes(some)) for some in reversed(slices)]
        size = sum(size for _, size in sized)
        self._check(len(events), size)
        self._pending_events += len(events)
        self._pending_bytes += size
        return sized

    def _add_sliced(self, left: list[tuple[Sequence[Event], int]], added: asyncio.Future[None]) -> None:
        """Add one slice now, and the others in the turns after this one."""
        if self._closed:
            if not added.done():
                added.set_exception(QueueFull("the queue was closed before all of the events were added"))
            return
        events, size = left.pop()
        self._pending_events -= len(events)
        self._pending_bytes -= size
        self._front.add(events, size)
        self._metrics.add_accepted(len(events), sum(event.size for event in events))
        if left:
            asyncio.get_running_loop().call_soon(self._add_sliced, left, added)
        elif not added.done():
            added.set_result(None)

    async def ripe(self) -> bool:
        return await self._front.ripe()

    def take(self) -> Batch | None:
        return self._front.take()

    def settle(self, settlement: Settlement) -> None:
        self._leaving.end(settlement)
        if not self._closed:  # else a dead letter whose write took longer than the stop waits
            self._front.settle(settlement)

    def removal_for(self, events: Sequence[Event]) -> None:
        self._leaving.add(events)

    def take_expired(self, received_before: float) -> list[Event]:
        return self._front.take_expired(received_before)

    def age_again(self) -> None:
        """The monotonic clock gave every event its age."""

    def drain(self) -> None:
        self._front.drain()

    def flush(self) -> None:
        self._front.flush()

    def release(self, name: str) -> None:
        self._front.release(name)

    def set_aside(self, name: str) -> None:
        self._front.set_aside(name)

    def probe(self, name: str) -> bool:
        return self._front.probe(name)

    def share_refusal(self, name: str, peer: str, events: int, size: int) -> str | None:
        return None if self._shares is None else self._shares.refusal(name, peer, events, size)

    def aside_view(self) -> Mapping[str, AsideView]:
        return self._front.aside.view()

    @property
    def sendable(self) -> int:
        return self._front.sendable + self._pending_events

    def waiting(self) -> Iterator[Event]:
        return self._front.waiting()

    def take_wanted(self, is_wanted: Callable[[Event], bool], most: int) -> list[Event]:
        """Take the waiting events that are wanted, set aside or not: about ``most`` in one step."""
        return self._front.take_wanted(is_wanted, most)

    async def purge_rows(
        self,
        chosen: Chosen,
        bury: Bury | None,
        *,
        dry: bool = False,
        gone: Callable[[int], None] = lambda events: None,
    ) -> Page:
        """Everything is in memory, so that there is nothing but to count it."""
        is_wanted = chosen.picks(self._clock.monotonic())
        wanted = [event for event in self._front.waiting() if is_wanted(event)] if dry else []
        return Page([], 0, True, len(wanted), sum(len(event.body) + len(event.key) for event in wanted))

    async def aclose(self) -> list[Event]:
        self._closed = True
        return [event for event in self._front.close() if event not in self._leaving]

    def forget(self) -> int:
        return self._leaving.forget() if self._closed else 0

    @property
    def _late(self) -> int:
        """Events of the closed queue that are still on their way to the dead letters."""
        return len(self._leaving) if self._closed else 0

    def __len__(self) -> int:
        return len(self._front) + self._late

    def room(self) -> int:
        return self._bounds.room(len(self) + self._pending_events, self.memory)

    @property
    def memory(self) -> int:
        return self._front.memory + self._pending_bytes

    def view(self) -> QueueView:
        front = self._front
        return QueueView(
            waiting_events=front.waiting_events,
            waiting_bytes=front.waiting_bytes,
            in_flight_events=front.taken_events + self._late,
            in_flight_bytes=front.taken_bytes,
            capacity_events=self._bounds.max_events,
            capacity_bytes=self._bounds.max_bytes,
            oldest_at=front.oldest_at(),
        )


def _step_for(events: Sequence[Event]) -> int:
    if len(events) <= NAMED_SLICE_EVENTS or len({event.name for event in events}) <= FEW_NAMES:
        return SLICE_EVENTS
    return NAMED_SLICE_EVENTS
