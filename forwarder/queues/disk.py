"""The disk queue: ``put`` returns when the events are on the disk, and they are there until they are settled.

Invariants:
- What was put and not settled is handed out again after any end of the process; what was settled may be,
  if its process was killed in the 50 ms until that was written.
- In memory is a front of the unsettled events, bounded in bytes and without a gap; behind it is the tail, on
  disk only. Half of the bound is for events that wait for a delay: they hold up nothing before it is used up.
  Events come into the front in the order of their commits, and nothing overtakes the tail.
- ``take`` and ``settle`` never wait for the disk; what they change is written with the next commit, and
  tried again until it is.
- What a put brings is counted when it is committed, in the order of commits, whoever still waits for it.
- A put that fails took nothing. Every bound counts the puts that are on their way.
- A damaged row is counted as dropped and set aside; it costs no other row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import structlog

from forwarder.logs import limited
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    FRONT_BYTES,
    Batch,
    Clock,
    Event,
    Leaving,
    Limits,
    QueueFull,
    QueueUnavailable,
    QueueView,
    memory_bytes,
)
from forwarder.queues import rows
from forwarder.queues.bounds import Bounds
from forwarder.queues.cutting import cut
from forwarder.queues.front import Front
from forwarder.queues.gathering import Gathering
from forwarder.queues.rows import Ages, Found, Head, Part
from forwarder.queues.settling import AGAIN_SECONDS, Row, Settling, leaving
from forwarder.storage import Storage, StorageError, Work

ROW_OVERHEAD_BYTES = 400
"""What a row holds in memory beside its events: 380 by tracemalloc, of rows of one event."""

READS = 8
"""The front is filled in so many reads: other jobs of the storage do not wait long for one."""


class DiskQueue:
    """A queue of at most ``max_events`` events and ``max_bytes`` bytes; ``open`` it once the storage is."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        storage: Storage,
        *,
        max_events: int,
        max_bytes: int,
        clock: Clock,
        metrics: TargetMetrics,
        front_bytes: int = FRONT_BYTES,
        kind: str = "",
        boot: str = "",
    ) -> None:
        self._name = name
        self._kind = kind
        self._storage = storage
        self._bounds = Bounds(max_events, max_bytes)
        self._clock = clock
        self._metrics = metrics
        self._front = Front(limits, clock)
        self._front_bytes = front_bytes
        self._boot = boot
        self._has_tail = False
        self._tail_events = self._tail_bytes = 0  # about, when rows are damaged
        self._tail_since = 0.0  # nothing in the tail was received before
        self._pending_events = self._pending_bytes = 0
        self._rows: dict[int, Row] = {}  # of the events in the front, by their identity
        self._row_count = 0
        self._gathering = Gathering(self._write)
        self._settling = Settling(storage, self._read_ahead)
        self._number = self._next = self._read_to = self._own_after = 0
        self._reading = False
        self._closed = False
        self._log = structlog.get_logger("queue")

    async def open(self) -> None:
        """Find what an earlier process left; it is handed out first. StorageError when that cannot be."""
        boot, (name, kind) = self._boot, self.owner
        found = await self._storage.run(lambda connection: rows.open_target(connection, name, kind, boot))
        self._number, self._own_after, self._next = found.number, found.own_after, found.last + 1
        self._read_to = rows.bounds_of(found.number)[0]
        self._tail_events, self._tail_bytes = found.events, found.bytes
        self._has_tail = found.oldest is not None or found.events > 0  # events without rows are damage
        if found.oldest is not None:
            self._tail_since = self._ages().received_at(found.oldest)
        self._metrics.recovered += found.events
        self._read_ahead()

    @property
    def owner(self) -> tuple[str, str]:
        """The name and the kind of the target whose events these are."""
        return self._name, self._kind

    async def put(self, events: Sequence[Event], *, complete: bool = False) -> None:
        if events:
            await self._store(events, complete, None)

    async def take_back(self, events: Sequence[Event], removal: Work[Any]) -> None:
        """Put events that were dead letters. ``removal`` is done in the transaction that stores them: what it
        raises is raised, and no event is taken."""
        await self._store(events, False, removal)

    async def _store(self, events: Sequence[Event], complete: bool, removal: Work[Any] | None) -> None:
        if self._closed:
            raise QueueFull("the queue is closed")
        size = memory_bytes(events)
        held = len(self) + self._pending_events, self._held_bytes + self._pending_bytes
        self._bounds.check(len(events), size, *held)
        self._pending_events += len(events)
        self._pending_bytes += size
        if complete or removal is not None:
            self._gathering.flush()  # it was here before
            writing = self._write(events, size, complete, removal)
        else:
            writing = self._gathering.add(events, size)
        try:
            await asyncio.shield(writing)
        except StorageError as problem:
            raise QueueUnavailable(f"its events cannot be stored now: {problem}") from problem

    async def ripe(self) -> bool:
        return await self._front.ripe()

    def take(self) -> Batch | None:
        batch = self._front.take()
        self._read_ahead()
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
        self._front.settle(gone, retry, parts, aside, part=part)
        changed = None
        for event in gone:
            row = self._rows.pop(id(event))
            row.settle(event)
            self._row_count -= not row.left
            if row is not changed:  # neighbours are mostly of one row
                self._settling.add(row)
                changed = row
        self._read_ahead()

    def leaving(self, events: Sequence[Event]) -> Leaving:
        return leaving(events, lambda event: self._rows[id(event)])

    def take_expired(self, received_before: float) -> list[Event]:
        return self._front.take_expired(received_before)

    def drain(self) -> None:
        self._front.drain()

    def flush(self) -> None:
        self._front.flush()

    def close(self) -> list[Event]:
        """End the queue; nothing is lost. What is settled is written before the storage is closed."""
        if self._closed:
            return []
        self._closed = True
        self._gathering.flush()
        self._tail_events, self._tail_bytes = len(self), self._held_bytes  # all that is left is on the disk
        self._front.close()
        self._rows = {}
        if self._number:
            self._settling.close(self._totals())
        return []

    def __len__(self) -> int:
        return len(self._front) + self._tail_events

    def room(self) -> int:
        return self._bounds.room(len(self) + self._pending_events, self._held_bytes + self._pending_bytes)

    @property
    def memory(self) -> int:
        return self._front.memory + self._row_count * ROW_OVERHEAD_BYTES + self._pending_bytes

    def view(self) -> QueueView:
        front = self._front
        oldest_at = front.oldest_at()
        return QueueView(
            waiting_events=front.waiting_events + self._tail_events,
            waiting_bytes=front.waiting_bytes + self._tail_bytes,
            in_flight_events=front.taken_events,
            in_flight_bytes=front.taken_bytes,
            capacity_events=self._bounds.max_events,
            capacity_bytes=self._bounds.max_bytes,
            oldest_at=self._tail_since if oldest_at is None and self._tail_events else oldest_at,
        )

    def _totals(self) -> Work[None]:
        """Spare the next start the counting, if we know what will be there."""
        number, events, size = self._number, self._tail_events, self._tail_bytes
        if self._pending_events:
            return lambda connection: None
        return lambda connection: rows.write_totals(connection, number, events, size)

    @property
    def _held_bytes(self) -> int:
        return self._front.memory + self._tail_bytes

    # --- put

    def _write(
        self, events: Sequence[Event], size: int, complete: bool = False, removal: Work[Any] | None = None
    ) -> asyncio.Future[None]:
        self._settling.flush_done()  # first, since it makes room
        parts = [self._part(*piece, complete) for piece in cut(events, size, complete)]
        writing = self._storage.submit(rows.insertion(parts, removal))
        # Counted when it is done, whether or not those who asked are still there.
        writing.add_done_callback(partial(self._written, parts, size, removal is not None))
        return writing

    def _part(self, events: Sequence[Event], size: int, complete: bool) -> Part:
        """The row of one piece of a put."""
        since = min(map(_received_at_of, events))
        received = self._clock.wall() - (self._clock.monotonic() - since)
        place, self._next = self._next, self._next + 1
        return Part(Head(place, len(events), size, received, since, int(complete)), events)

    def _written(self, parts: list[Part], size: int, replayed: bool, writing: asyncio.Future[None]) -> None:
        count = sum(len(part.events) for part in parts)
        self._pending_events -= count
        self._pending_bytes -= size
        if writing.cancelled() or writing.exception() is not None:
            return  # nothing was taken; who asked is told
        for head, events in parts:
            self._add(head, events)
        if replayed:
            self._metrics.replayed += count
        else:
            self._metrics.took(count, sum(event.size for _, events in parts for event in events))
        self._read_ahead()

    def _add(self, head: Head, events: Sequence[Event]) -> None:
        """Into the front, unless others are before these, or it is full."""
        if self._has_room(head.bytes) and not self._has_tail and not self._closed:
            self._enter(Row(head.place, head.events, events), head, events)
            return
        if not self._has_tail:
            self._has_tail, self._tail_since = True, head.since
        self._tail_events += head.events
        self._tail_bytes += head.bytes

    def _has_room(self, size: int) -> bool:
        """Half of the front for what can leave; all of it, when the rest of it is delayed."""
        front, of_rows = self._front, self._row_count * ROW_OVERHEAD_BYTES
        ready = (front.waiting_bytes + of_rows) * front.ready_share
        fits = ready + size <= self._front_bytes / 2
        return (fits and front.memory + of_rows + size <= self._front_bytes) or not len(front)

    def _enter(self, row: Row, head: Head, events: Sequence[Event]) -> None:
        self._read_to = head.place
        self._row_count += 1
        self._rows.update(dict.fromkeys(map(id, events), row))
        size = head.bytes if len(events) == head.events else memory_bytes(events)
        self._front.add(events, size, complete=bool(head.complete))

    # --- read ahead

    def _read_ahead(self) -> None:
        """Fill the front from the tail, with one read after the other, while there is room for one."""
        size = self._front_bytes // READS
        wanted = self._has_tail and not self._settling.is_behind and self._has_room(size)
        if not wanted or self._reading or self._closed:
            return
        self._reading = True
        after, end = self._read_to, rows.bounds_of(self._number)[1]
        ages = self._ages()
        reading = self._storage.submit(
            lambda connection: rows.read(connection, after, end, size, ages), within=0.0
        )
        reading.add_done_callback(self._learn)

    def _ages(self) -> Ages:
        return Ages(self._own_after, self._clock.wall(), self._clock.monotonic())

    def _learn(self, reading: asyncio.Future[tuple[list[Found], bool]]) -> None:
        self._reading = False
        if self._closed or reading.cancelled():
            return
        if reading.exception() is not None:  # the storage says why
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._read_ahead)
            return
        found, were_last = reading.result()
        for each in found:
            self._receive(each)
        if were_last:
            self._end_the_tail()
        self._read_ahead()

    def _receive(self, found: Found) -> None:
        counted, size = found.counted
        self._move_on(found.head.place, counted, size)
        if found.events is None:
            self._drop(found.head, counted)
            return
        self._correct(len(found.events) - counted)
        row = Row(found.head.place, found.head.events, found.events, found.indexes)
        if found.events:
            self._tail_since = found.events[0].received_at
            self._enter(row, found.head, found.events)
        else:
            self._settling.add(row)

    def _move_on(self, place: int, events: int, size: int) -> None:
        """The tail begins behind this row, which was counted as so much."""
        self._read_to = place
        self._metrics.recovered += max(0, events - self._tail_events)  # more than the totals said
        self._tail_events = max(0, self._tail_events - events)
        self._tail_bytes = max(0, self._tail_bytes - size)

    def _drop(self, head: Head, events: int) -> None:
        self._metrics.settled(dropped={"damaged": events})
        row = Row(head.place, head.events)
        row.damaged = True
        self._settling.add(row)
        limited(self._log, f"damaged {self._name}").error(
            "a damaged row was set aside", target=self._name, place=head.place, events=events
        )

    def _correct(self, more: int) -> None:
        """There are more or fewer events than were counted: a mark, a row or the totals are damaged."""
        self._metrics.recovered += max(0, more)
        self._metrics.settled(dropped={"damaged": -more} if more < 0 else {})

    def _end_the_tail(self) -> None:
        """Everything was read, so there is no tail; damage may have made its numbers say something else."""
        self._correct(-self._tail_events)
        self._has_tail = False
        self._tail_events = self._tail_bytes = 0


_received_at_of = attrgetter("received_at")
