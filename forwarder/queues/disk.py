"""The disk queue: a put is done when the events are on the disk, and they are there until they are settled.

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
- Rows of an earlier boot of the machine are aged by the wall clock, again whenever it is stepped. It may be
  wrong, so while there are such rows nothing expires before the clock was steady for an hour.
- A damaged row is counted as dropped and set aside; it costs no other row.
- Events of names that are not open hold up nothing on the disk: a put writes them as rows that are parked,
  which the read-ahead passes over; those that are in memory are parked when they are too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import structlog

from forwarder.clock import ClockWatch
from forwarder.config import Bytes
from forwarder.logs import limited
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    STORED_JSON,
    AsideView,
    Batch,
    Clock,
    Event,
    Limits,
    Names,
    QueueFull,
    QueueView,
    Removal,
    memory_bytes,
)
from forwarder.queues import parking, registry, rows, tail
from forwarder.queues.ages import RowAges
from forwarder.queues.bounds import Bounds
from forwarder.queues.building import QueueOptions, QueueParts
from forwarder.queues.clumps import Parked
from forwarder.queues.cutting import ROW_EVENTS
from forwarder.queues.front import Front
from forwarder.queues.gathering import Gathering, tell
from forwarder.queues.held import HeldRows
from forwarder.queues.leaving import Leaving
from forwarder.queues.parking import Parking, parked_as
from forwarder.queues.pieces import Piece, pieces_of
from forwarder.queues.queue import Bury, Chosen, Letters, NameOf, Page, Settlement
from forwarder.queues.registry import ParkedRow
from forwarder.queues.row_purge import RowPurge
from forwarder.queues.rows import Found, Head, Part
from forwarder.queues.settling import Row, Settling, removal_for
from forwarder.queues.shares import Shares
from forwarder.queues.tail import Tail
from forwarder.queues.writing import Writing
from forwarder.storage import Storage, Work
from forwarder.waiters import ignore_outcome

FRONT_BYTES = 16 << 20
"""What of a disk queue is in memory, at most; the rest is read when it is wanted."""

ASIDE = 4
"""One part in so many of the front may be set aside; what is more is parked on the disk."""

ENTER_EVENTS = 8192
"""Of one put so many events enter the front at once; the others are read from the disk in their turn."""


class DiskOptions(QueueOptions, frozen=True, kw_only=True, tag_field="kind", tag="disk"):
    """Events wait on disk, in the daemon's storage."""

    durable: ClassVar[bool] = True
    survives: ClassVar[str] = "a kill, a crash and a power cut"
    in_storage: ClassVar[bool] = True
    default_bytes: ClassVar[Bytes] = Bytes(1 << 30)

    def memory_bytes(self, max_bytes: int) -> int:
        return min(max_bytes, FRONT_BYTES)


def build(options: DiskOptions, parts: QueueParts) -> DiskQueue:
    return DiskQueue(
        parts.target,
        parts.limits,
        parts.storage,
        max_events=parts.max_events,
        max_bytes=parts.max_bytes,
        clock=parts.clock,
        metrics=parts.metrics,
        watch=parts.watch,
        front_bytes=options.memory_bytes(parts.max_bytes),
        kind=parts.target_kind,
        codec=parts.codec,
        boot=parts.boot,
        names=parts.names,
        name_of=parts.name_of,
    )


class DiskQueue:
    """A queue of at most ``max_events`` events and ``max_bytes`` bytes; ``open`` it once the storage is."""

    durable = True

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
        watch: ClockWatch | None = None,
        front_bytes: int = FRONT_BYTES,
        kind: str = "",
        codec: int = STORED_JSON,
        boot: str = "",
        names: Names | None = None,
        name_of: NameOf | None = None,
    ) -> None:
        self._name = name
        self._kind = kind
        self._storage = storage
        self._bounds = Bounds(max_events, max_bytes)
        self._clock = clock
        self._metrics = metrics
        self._names = names
        self._name_of = name_of if names is not None else None
        self._shares = None if names is None else Shares(names, self._bounds, clock)
        moved = None if self._shares is None else self._shares.move
        self._front = Front(limits, clock, names, moved, lambda parked: self._parking.fetch(parked.name))
        self._front_bytes = front_bytes
        self._boot = boot
        self._number = 0
        self._closed = False
        self._leaving = Leaving()
        self._ages = RowAges(clock, watch or ClockWatch(clock))
        self._settling = Settling(storage, self._read_ahead)
        self._held = HeldRows(self._settling)
        before = self._settling, self._held, self._shares
        self._writing = Writing(storage, clock, *before, self._written, codec)
        self._gathering = Gathering(self._write)
        around = tail.Around(self._may_read, self._receive, self._drop, self._correct, self._entered)
        self._tail = Tail(storage, self._ages, front_bytes, around)
        parts = self._writing.part, self._ages.now, self._has_room
        beside = parking.Around(*parts, self._read_ahead, self._drop, self._correct)
        self._parking = Parking(storage, self._front, self._held, front_bytes // ASIDE, beside)
        of_rows = self._front, self._parking, self._tail, self._ages, name_of
        self._purge = RowPurge(storage, *of_rows, lambda: self._writing.next - 1, self._read_ahead)
        self._log = structlog.get_logger("queue")

    async def open(self) -> None:
        """Find what an earlier process left; it is handed out first. StorageError when that cannot be."""
        boot, (name, kind) = self._boot, self.stored_as
        found = await self._storage.run(lambda connection: registry.open_target(connection, name, kind, boot))
        self._number, self._writing.next = found.number, found.last + 1
        self._purge.first = rows.bounds_of(found.number)[0]
        oldest = [] if found.oldest is None else [found.oldest]
        self._ages.open(found.own_after, [row.head for row in found.parked] + oldest)
        parked = sum(row.events for row in found.parked), sum(row.bytes for row in found.parked)
        self._tail.open(found.number, found.events - parked[0], found.bytes - parked[1], found.oldest)
        self._metrics.recovered += max(found.events, parked[0])
        self._find_parked(found.parked)
        self._read_ahead()

    @property
    def stored_as(self) -> tuple[str, str]:
        return self._name, self._kind

    def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> asyncio.Future[None] | None:
        if not events:
            return None
        if complete or len(events) <= ROW_EVENTS:
            return self._store(events, self._pieces(events, complete), complete)
        storing = asyncio.ensure_future(self._store_sliced(events))
        storing.add_done_callback(ignore_outcome)
        return storing

    async def take_back(self, events: Sequence[Event], letters: Letters) -> None:
        """The letters are removed in the transaction that stores the events."""
        await self._store_sliced(events, letters.removal())

    async def _store_sliced(self, events: Sequence[Event], removal: Work[Any] | None = None) -> None:
        """Store these, made into pieces in many turns of the event loop."""
        pieces: list[Piece] = []
        for at in range(0, len(events), ROW_EVENTS):
            pieces += self._pieces(events[at : at + ROW_EVENTS], complete=False)
            await asyncio.sleep(0)
        await asyncio.shield(self._store(events, pieces, False, removal))

    def _store(
        self,
        events: Sequence[Event],
        pieces: list[Piece],
        complete: bool,
        removal: Work[Any] | None = None,
    ) -> asyncio.Future[None]:
        if self._closed:
            raise QueueFull("the queue is closed")
        size = sum(piece.size for piece in pieces)
        held = len(self) + self._writing.events, self._held_bytes + self._writing.bytes
        self._bounds.check(len(events), size, *held)
        self._writing.expect(len(events), size)
        if len(pieces) == 1 and not pieces[0].name and not complete and removal is None:
            return self._gathering.add(events, size)
        self._gathering.flush()  # it was here before
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return tell(told, self._writing.write(pieces, complete, removal))

    def _pieces(self, events: Sequence[Event], complete: bool) -> list[Piece]:
        closed = self._front.closed_among(events) if self._names is not None else ()
        return pieces_of(events, closed, complete)

    def _write(self, events: Sequence[Event], size: int) -> asyncio.Future[None]:
        return self._writing.write([Piece(events, size)], complete=False, removal=None)

    async def ripe(self) -> bool:
        return await self._front.ripe()

    def take(self) -> Batch | None:
        batch = self._front.take()
        self._read_ahead()
        return batch

    def settle(self, settlement: Settlement) -> None:
        self._leaving.end(settlement)
        if self._closed:  # a dead letter whose write took longer than the stop waits
            self._tail.shrink(len(settlement.gone), memory_bytes(settlement.gone))
            return
        self._front.settle(settlement)
        self._held.settle(settlement.gone)
        self._parking.spill()
        self._read_ahead()

    def removal_for(self, events: Sequence[Event]) -> Removal:
        self._leaving.add(events)
        return removal_for(events, self._held.of)

    def take_expired(self, received_before: float) -> list[Event]:
        """What expired among the parked rows is read for the next time."""
        self.age_again()
        if not self.knows_ages:
            return []
        expired = self._front.take_expired(received_before)
        self._parking.fetch_older_than(received_before)
        return expired

    @property
    def knows_ages(self) -> bool:
        return self._ages.are_known

    def age_again(self) -> None:
        """Age what only the wall clock can age by what it says now, if it was stepped."""
        if not self._ages.are_doubted or self._closed:
            return
        parked = [each for each in self._front.aside.parked() if each.received is not None]
        self._ages.are_doubted = bool(parked or self._held.by_wall or self._tail.is_by_wall)
        if not self._ages.catch_up():
            return
        ages = self._ages.now()
        for each in parked:
            each.oldest_at = ages.by_wall(each.received or 0.0)
        received = self._held.received
        self._front.age_again(lambda event: None if (at := received(event)) is None else ages.by_wall(at))

    def waiting(self) -> Iterator[Event]:
        """The events in memory that wait, set aside or not."""
        return self._front.waiting()

    def take_wanted(self, is_wanted: Callable[[Event], bool], most: int) -> list[Event]:
        """Take the waiting events in memory that are wanted, set aside or not: about ``most`` in one step."""
        return self._front.take_wanted(is_wanted, most)

    def drain(self) -> None:
        self._front.drain()

    def flush(self) -> None:
        self._front.flush()

    async def purge_rows(
        self,
        chosen: Chosen,
        bury: Bury | None,
        *,
        dry: bool = False,
        gone: Callable[[int], None] = lambda events: None,
    ) -> Page:
        """One step over the rows that are on the disk only: remove what is chosen. ``dry``: only count, also
        what is in memory. ``gone`` is told how many events left, in the step in which the queue forgets them,
        whoever still waits."""
        if self._closed:  # the totals are written already
            raise QueueFull("the queue is closed")
        return await self._purge.step(chosen, bury, dry=dry, gone=gone)

    def release(self, name: str) -> None:
        self._front.release(name)

    def set_aside(self, name: str) -> None:
        self._front.set_aside(name)
        self._parking.spill()

    def probe(self, name: str) -> bool:
        return self._front.probe(name) or self._parking.probe(name)

    def share_refusal(self, name: str, peer: str, events: int, size: int) -> str | None:
        return None if self._shares is None else self._shares.refusal(name, peer, events, size)

    def aside_view(self) -> Mapping[str, AsideView]:
        return self._front.aside.view()

    @property
    def sendable(self) -> int:
        return self._front.sendable + self._tail.events

    async def aclose(self) -> list[Event]:
        """End the queue; nothing is lost. What is settled is written before the storage is closed."""
        if self._closed:
            return []
        self._closed = True
        self._gathering.flush()
        # From now on all that is left is on the disk, where names hold nothing.
        self._tail.close(len(self), self._held_bytes - self._front.aside.names_bytes)
        self._parking.close()
        self._front.close()
        self._held.clear()
        if self._number:
            self._settling.close(self._totals())
        return []

    def forget(self) -> int:
        """The disk no longer has the events of the closed queue: how many these were."""
        lost = len(self)
        self._tail.close(0, 0)
        return lost

    def __len__(self) -> int:
        return len(self._front) + self._front.aside.parked_events + self._tail.events

    def room(self) -> int:
        return self._bounds.room(len(self) + self._writing.events, self._held_bytes + self._writing.bytes)

    @property
    def memory(self) -> int:
        return self._front.memory + self._held.bytes + self._writing.bytes

    def view(self) -> QueueView:
        front = self._front
        oldest = [at for at in (front.oldest_at(), self._tail.oldest_at) if at is not None]
        return QueueView(
            waiting_events=front.waiting_events + front.aside.parked_events + self._tail.events,
            waiting_bytes=front.waiting_bytes + front.aside.parked_bytes + self._tail.bytes,
            in_flight_events=front.taken_events,
            in_flight_bytes=front.taken_bytes,
            capacity_events=self._bounds.max_events,
            capacity_bytes=self._bounds.max_bytes,
            oldest_at=min(oldest, default=None),
        )

    def _totals(self) -> Work[None]:
        """Spare the next start the counting, if we know what will be there."""
        number, events, size = self._number, self._tail.events, self._tail.bytes
        if self._writing.events or self._purge.is_running or self._leaving:
            return lambda connection: None
        return lambda connection: registry.write_totals(connection, number, events, size)

    @property
    def _held_bytes(self) -> int:
        return self._front.memory + self._front.aside.parked_bytes + self._tail.bytes

    # --- what was written, or read

    def _written(self, parts: list[Part], replayed: bool) -> None:
        count = entering = 0
        for head, events, name in parts:
            count += len(events)
            entering += head.events
            if name:
                self._park(head, events, name)
            else:
                self._add(head, events, entering <= ENTER_EVENTS or entering == head.events)
        if replayed:
            self._metrics.replayed += count
        else:
            self._metrics.add_accepted(count, sum(event.size for part in parts for event in part.events))
        self._read_ahead()

    def _park(self, head: Head, events: Sequence[Event], name: str) -> None:
        """These were written as a row that is parked."""
        if self._closed:
            self._tail.add(head)
            return
        parked = parked_as(name, head, events[0].peer, self._ages.now())
        self._front.aside.found(parked)
        if self._names is not None and self._names.is_open(name, parked.peer):
            self._front.release(name)  # since a moment ago

    def _find_parked(self, found: Sequence[ParkedRow]) -> None:
        """An earlier process parked these rows."""
        ages = self._ages.now()
        for name, head, events, size in found:
            at, received = ages.received_at(head), ages.wall_of(head)
            self._front.aside.found(Parked(name, head.place, events, size, at, received=received))
        for name in self._front.aside.names():
            if self._names is None or self._names.is_open(name, ""):
                self._front.release(name)

    def _add(self, head: Head, events: Sequence[Event], now: bool) -> None:
        """Into the front, unless others are before these, or it is full, or (not ``now``) it is too much."""
        if now and self._has_room(head.bytes) and not self._tail.exists and not self._closed:
            self._enter(Row(head.place, head.events, events), head, events)
        else:
            self._tail.add(head)

    def _has_room(self, size: int) -> bool:
        """Half of the front for what can leave; all of it, when the rest of it is delayed or set aside."""
        front, of_rows = self._front, self._held.bytes
        ready = (front.forming_bytes + of_rows) * front.ready_share
        fits = ready + size <= self._front_bytes / 2
        in_all = front.memory + of_rows + size
        return (fits and in_all <= self._front_bytes) or (
            not front.sendable and front.aside.bytes <= self._front_bytes // ASIDE
        )

    def _enter(self, row: Row, head: Head, events: Sequence[Event]) -> None:
        self._tail.read_to = head.place
        self._held.enter(row, events)
        size = head.bytes if len(events) == head.events else memory_bytes(events)
        self._front.add(events, size, complete=head.is_complete)

    def _read_ahead(self) -> None:
        """Fill the memory that is free."""
        self._parking.read_on()  # these came before
        self._tail.read_on()

    def _may_read(self, size: int) -> bool:
        is_busy = self._settling.is_behind or self._purge.is_running
        return not is_busy and self._has_room(size)

    def _entered(self) -> None:
        self._parking.spill()
        self._read_ahead()

    def _receive(self, found: Found) -> None:
        events, head, ages = found.events or [], found.head, self._ages.now()
        row = Row(head.place, head.events, events, found.indexes, ages.wall_of(head))
        ages.give(events, row.received)  # the clock may have been stepped since the read began
        if events:
            self._give_names(events)
            self._enter(row, head, events)
        else:
            self._settling.add(row)

    def _give_names(self, events: Sequence[Event]) -> None:
        """Names are not on the disk."""
        if self._name_of is not None:
            for event in events:
                event.name = self._name_of(event.body, event.key)

    def _drop(self, head: Head, events: int) -> None:
        self._metrics.settled(dropped={"damaged": events})
        row = Row(head.place, head.events)
        row.damaged = True
        self._settling.add(row)
        limited(self._log, f"damaged {self._name}").error(
            "damaged row set aside", target=self._name, place=head.place, events=events
        )

    def _correct(self, more: int) -> None:
        """There are more or fewer events than were counted: a mark, a row or the totals are damaged."""
        self._metrics.recovered += max(0, more)
        self._metrics.settled(dropped={"damaged": -more} if more < 0 else {})
