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
- Rows of an earlier boot of the machine are aged by the wall clock as it was at the start. It may have been
  wrong then, so where such rows were found nothing expires for an hour.
- A damaged row is counted as dropped and set aside; it costs no other row.
- Events of names that are not open hold up nothing on the disk: a put writes them as rows that are parked,
  which the read-ahead passes over; those that are in memory are parked when they are too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import structlog

from forwarder.logs import limited
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    FRONT_BYTES,
    STORED_JSON,
    AsideView,
    Batch,
    Clock,
    Event,
    Limits,
    Names,
    QueueFull,
    QueueUnavailable,
    QueueView,
    Removal,
    memory_bytes,
)
from forwarder.queues import rows
from forwarder.queues.aside import Parked
from forwarder.queues.bounds import Bounds
from forwarder.queues.cutting import ROW_EVENTS, cut
from forwarder.queues.front import Front
from forwarder.queues.gathering import Gathering
from forwarder.queues.held import HeldRows
from forwarder.queues.parking import Around, Parking
from forwarder.queues.purging import Bury, Chosen, NameOf, Page, purge_page
from forwarder.queues.rows import Ages, Found, Head, ParkedRow, Part
from forwarder.queues.settling import AGAIN_SECONDS, Row, Settling, removal_for
from forwarder.queues.shares import Shares
from forwarder.storage import Connection, Storage, StorageError, Work

READS = 8
"""The front is filled in so many reads: other jobs of the storage do not wait long for one."""

ASIDE = 4
"""One part in so many of the front may be set aside; what is more is parked on the disk."""

KEPT_SECONDS = 3_600.0
"""So long after a start nothing expires where rows of an earlier boot were found."""

ENTER_EVENTS = 8192
"""Of one put so many events enter the front at once; the others are read from the disk in their turn."""


class Piece(NamedTuple):
    """Events of a put that lie in rows of their own; ``name``: they are set aside for."""

    events: Sequence[Event]
    size: int
    name: str = ""


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
        codec: int = STORED_JSON,
        boot: str = "",
        names: Names | None = None,
        name_of: NameOf | None = None,
    ) -> None:
        self._name = name
        self._kind = kind
        self._codec = codec
        self._storage = storage
        self._bounds = Bounds(max_events, max_bytes)
        self._clock = clock
        self._metrics = metrics
        self._names = names
        self._given_name_of = name_of
        self._name_of = name_of if names is not None else None
        self._shares = None if names is None else Shares(names, self._bounds, clock)
        moved = None if self._shares is None else self._shares.move
        self._front = Front(limits, clock, names, moved, lambda parked: self._parking.fetch(parked.name))
        self._front_bytes = front_bytes
        self._boot = boot
        self._has_tail = False
        self._tail_events = self._tail_bytes = 0  # about, when rows are damaged
        self._tail_since = 0.0  # nothing in the tail was received before
        self._pending_events = self._pending_bytes = 0
        self._gathering = Gathering(self._write)
        self._settling = Settling(storage, self._read_ahead)
        self._held = HeldRows(self._settling)
        around = Around(self._part, self._ages, self._has_room, self._read_ahead, self._drop, self._correct)
        self._parking = Parking(storage, self._front, self._held, front_bytes // ASIDE, around)
        self._number = self._next = self._read_to = self._own_after = 0
        self._reading = self._purging = False
        self._to_wall = 0.0
        self.expires_from = float("-inf")
        self._closed = False
        self._log = structlog.get_logger("queue")

    async def open(self) -> None:
        """Find what an earlier process left; it is handed out first. StorageError when that cannot be."""
        boot, (name, kind) = self._boot, self.owner
        found = await self._storage.run(lambda connection: rows.open_target(connection, name, kind, boot))
        self._number, self._own_after, self._next = found.number, found.own_after, found.last + 1
        self._read_to = rows.bounds_of(found.number)[0]
        now = self._clock.monotonic()
        self._to_wall = self._clock.wall() - now
        heads = [row.head for row in found.parked] + ([] if found.oldest is None else [found.oldest])
        if any(head.place <= found.own_after for head in heads):
            self.expires_from = now + KEPT_SECONDS
        parked = sum(row.events for row in found.parked), sum(row.bytes for row in found.parked)
        self._tail_events = max(0, found.events - parked[0])
        self._tail_bytes = max(0, found.bytes - parked[1])
        self._has_tail = found.oldest is not None or self._tail_events > 0  # events without rows are damage
        if found.oldest is not None:
            self._tail_since = self._ages().received_at(found.oldest)
        self._metrics.recovered += max(found.events, parked[0])
        self._find_parked(found.parked)
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
        at_once = complete or len(events) <= ROW_EVENTS
        pieces = self._pieces(events, complete) if at_once else await self._slices(events)
        if self._closed:
            raise QueueFull("the queue is closed")
        size = sum(piece.size for piece in pieces)
        held = len(self) + self._pending_events, self._held_bytes + self._pending_bytes
        self._bounds.check(len(events), size, *held)
        self._pending_events += len(events)
        self._pending_bytes += size
        if at_once and not complete and removal is None and not any(piece.name for piece in pieces):
            writing = self._gathering.add(events, size)
        else:
            self._gathering.flush()  # it was here before
            writing = self._write_pieces(pieces, complete, removal)
        try:
            await asyncio.shield(writing)
        except StorageError as problem:
            raise QueueUnavailable(f"its events cannot be stored now: {problem}") from problem

    async def _slices(self, events: Sequence[Event]) -> list[Piece]:
        """The pieces of a large put, made in many turns of the event loop."""
        pieces: list[Piece] = []
        for at in range(0, len(events), ROW_EVENTS):
            pieces += self._pieces(events[at : at + ROW_EVENTS], complete=False)
            await asyncio.sleep(0)
        return pieces

    def _pieces(self, events: Sequence[Event], complete: bool) -> list[Piece]:
        """The events by what is to be one row, or some: those of closed names by name and peer."""
        closed = self._front.closed_among(events) if self._names is not None else ()
        if not closed:
            return [Piece(events, memory_bytes(events))]
        groups: dict[tuple[str, str], list[Event]] = {}
        for event in events:
            name = event.name if event.name in closed else ""
            groups.setdefault((name, event.peer if name else ""), []).append(event)
        if complete and len(groups) > 1:  # equal keys and not one name: such a batch does not stay whole
            return [Piece(events, memory_bytes(events))]
        return [Piece(some, memory_bytes(some), name) for (name, _), some in groups.items()]

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
        self._held.settle(gone)
        self._parking.spill()
        self._read_ahead()

    def removal_for(self, events: Sequence[Event]) -> Removal:
        return removal_for(events, self._held.of)

    def take_expired(self, received_before: float) -> list[Event]:
        """What expired among the parked rows is read for the next time."""
        if self._clock.monotonic() < self.expires_from:
            return []
        expired = self._front.take_expired(received_before)
        self._parking.fetch_older_than(received_before)
        return expired

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
        self._purging = self._parking.paused = not dry
        try:
            if not dry and (self._reading or self._parking.is_busy):
                await self._storage.run(lambda connection: None)  # behind what is under way
            purging = self._storage.submit(self._purge(chosen, bury, dry), within=0.0)
            if not dry:
                purging.add_done_callback(partial(self._purged, gone))
        except BaseException:
            self._purging = self._parking.paused = False
            raise
        return await asyncio.shield(purging)

    def _purge(self, chosen: Chosen, bury: Bury | None, dry: bool) -> Work[Page]:
        first, end = max(chosen.after, rows.bounds_of(self._number)[0]), self._next - 1
        parked = {each.place: each.name for each in self._front.aside.parked()}
        behind = self._read_to if self._has_tail else end  # what is in memory is left to ``take_wanted``
        ages, name_of = self._ages(), self._given_name_of or _no_name

        def work(connection: Connection) -> Page:
            every = rows.parked_places(connection, first, end)

            def name(place: int, event: Event) -> str | None:
                known = parked.get(place)
                if known is None and not dry and (place in every or place <= behind):
                    return None
                return name_of(event.body, event.key) if known is None else known

            return purge_page(connection, first, end, ages, chosen, name, bury, dry=dry)

        return work

    def _purged(self, told: Callable[[int], None], purging: asyncio.Future[Page]) -> None:
        self._purging = self._parking.paused = False
        if self._closed:
            return
        if not purging.cancelled() and purging.exception() is None:
            parked = {each.place: each for each in self._front.aside.parked()}
            for place, events, size in purging.result().gone:
                if place in parked:
                    self._parking.thinned(parked[place], events, size)
                else:
                    self._tail_events = max(0, self._tail_events - events)
                    self._tail_bytes = max(0, self._tail_bytes - size)
            told(sum(gone.events for gone in purging.result().gone))
        self._read_ahead()

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
        return self._front.sendable + self._tail_events

    def close(self) -> list[Event]:
        """End the queue; nothing is lost. What is settled is written before the storage is closed."""
        if self._closed:
            return []
        self._closed = True
        self._gathering.flush()
        self._tail_events, self._tail_bytes = len(self), self._held_bytes  # all that is left is on the disk
        self._parking.close()
        self._front.close()
        self._held.clear()
        if self._number:
            self._settling.close(self._totals())
        return []

    def forget(self) -> int:
        """The disk no longer has the events of the closed queue: how many these were."""
        lost, self._tail_events, self._tail_bytes = len(self), 0, 0
        return lost

    def __len__(self) -> int:
        return len(self._front) + self._front.aside.parked_events + self._tail_events

    def room(self) -> int:
        return self._bounds.room(len(self) + self._pending_events, self._held_bytes + self._pending_bytes)

    @property
    def memory(self) -> int:
        return self._front.memory + self._held.bytes + self._pending_bytes

    def view(self) -> QueueView:
        front = self._front
        oldest = [
            at
            for at in (front.oldest_at(), self._tail_since if self._tail_events else None)
            if at is not None
        ]
        return QueueView(
            waiting_events=front.waiting_events + front.aside.parked_events + self._tail_events,
            waiting_bytes=front.waiting_bytes + front.aside.parked_bytes + self._tail_bytes,
            in_flight_events=front.taken_events,
            in_flight_bytes=front.taken_bytes,
            capacity_events=self._bounds.max_events,
            capacity_bytes=self._bounds.max_bytes,
            oldest_at=min(oldest, default=None),
        )

    def _totals(self) -> Work[None]:
        """Spare the next start the counting, if we know what will be there."""
        number, events, size = self._number, self._tail_events, self._tail_bytes
        if self._pending_events:
            return lambda connection: None
        return lambda connection: rows.write_totals(connection, number, events, size)

    @property
    def _held_bytes(self) -> int:
        return self._front.memory + self._front.aside.parked_bytes + self._tail_bytes

    # --- put

    def _write(self, events: Sequence[Event], size: int) -> asyncio.Future[None]:
        return self._write_pieces([Piece(events, size)], complete=False, removal=None)

    def _write_pieces(
        self, pieces: Sequence[Piece], complete: bool, removal: Work[Any] | None
    ) -> asyncio.Future[None]:
        self._settling.flush_done()  # first, since it makes room
        parts = [
            self._part(events, size, complete, piece.name)
            for piece in pieces
            for events, size in cut(piece.events, piece.size, complete)
        ]
        self._share(parts, 1)
        writing = self._storage.submit(rows.insertion(parts, removal))
        # Counted when it is done, whether or not those who asked are still there.
        size = sum(piece.size for piece in pieces)
        writing.add_done_callback(partial(self._written, parts, size, removal is not None))
        return writing

    def _share(self, parts: Sequence[Part], sign: int) -> None:
        """What is on its way counts in the shares."""
        for head, events, name in parts:
            if name and self._shares is not None:
                self._shares.move(name, events[0].peer, sign * head.events, sign * head.bytes)

    def _part(self, events: Sequence[Event], size: int, complete: bool, parked: str = "") -> Part:
        """One row."""
        since = min(map(_received_at_of, events))
        received = self._clock.wall() - (self._clock.monotonic() - since)
        place, self._next = self._next, self._next + 1
        head = Head(place, len(events), size, received, since, rows.flags(complete, self._codec))
        return Part(head, events, parked)

    def _written(self, parts: list[Part], size: int, replayed: bool, writing: asyncio.Future[None]) -> None:
        count = sum(len(part.events) for part in parts)
        self._pending_events -= count
        self._pending_bytes -= size
        self._share(parts, -1)
        if writing.cancelled() or writing.exception() is not None:
            return  # nothing was taken; who asked is told
        entering = 0
        for head, events, name in parts:
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
            self._tail_events += head.events
            self._tail_bytes += head.bytes
            return
        parked = Parked(name, head.place, head.events, head.bytes, head.since, events[0].peer)
        self._front.aside.found(parked)
        if self._names is not None and self._names.is_open(name, parked.peer):
            self._front.release(name)  # since a moment ago

    def _find_parked(self, found: Sequence[ParkedRow]) -> None:
        """An earlier process parked these rows."""
        ages = self._ages()
        for name, head, events, size in found:
            self._front.aside.found(Parked(name, head.place, events, size, ages.received_at(head)))
        for name in self._front.aside.names():
            if self._names is None or self._names.is_open(name, ""):
                self._front.release(name)

    def _add(self, head: Head, events: Sequence[Event], now: bool) -> None:
        """Into the front, unless others are before these, or it is full, or (not ``now``) it is too much."""
        if now and self._has_room(head.bytes) and not self._has_tail and not self._closed:
            self._enter(Row(head.place, head.events, events), head, events)
            return
        if not self._has_tail:
            self._has_tail, self._tail_since = True, head.since
        self._tail_events += head.events
        self._tail_bytes += head.bytes

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
        self._read_to = head.place
        self._held.enter(row, events)
        size = head.bytes if len(events) == head.events else memory_bytes(events)
        self._front.add(events, size, complete=head.is_complete)

    # --- read ahead

    def _read_ahead(self) -> None:
        """Fill the front from the tail, with one read after the other, while there is room for one."""
        self._parking.read_on()  # these came before
        size = self._front_bytes // READS
        wanted = self._has_tail and not self._settling.is_behind and self._has_room(size)
        if not wanted or self._reading or self._purging or self._closed:
            return
        self._reading = True
        after, end = self._read_to, rows.bounds_of(self._number)[1]
        ages = self._ages()
        reading = self._storage.submit(
            lambda connection: rows.read(connection, after, end, size, ages), within=0.0
        )
        reading.add_done_callback(self._learn)

    def _ages(self) -> Ages:
        now = self._clock.monotonic()
        return Ages(self._own_after, now + self._to_wall, now)

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
        self._parking.spill()
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
            self._give_names(found.events)
            self._tail_since = found.events[0].received_at
            self._enter(row, found.head, found.events)
        else:
            self._settling.add(row)

    def _give_names(self, events: Sequence[Event]) -> None:
        """Names are not on the disk."""
        if self._name_of is not None:
            for event in events:
                event.name = self._name_of(event.body, event.key)

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


def _no_name(body: bytes, key: bytes) -> str:
    return ""


_received_at_of = attrgetter("received_at")
