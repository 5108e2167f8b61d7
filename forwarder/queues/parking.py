"""Moves set-aside events of a disk queue to the disk, by name ("parked"), and back into memory.

Invariants:
- One transaction writes the events to separate rows and removes them from their old ones. They leave memory
  after its commit. However the process ends, each event is on the disk once.
- Events that cannot be moved stay in memory. The move is retried at growing intervals.
- Parked rows are read when they are requested and there is room, in the order of the requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from forwarder.model import Event
from forwarder.queues import rows
from forwarder.queues.ages import Ages
from forwarder.queues.aside import AsidePlace
from forwarder.queues.clumps import Clump, Parked
from forwarder.queues.cutting import ROW_BYTES, ROW_EVENTS
from forwarder.queues.front import Front
from forwarder.queues.held import HeldRows
from forwarder.queues.rows import Found, Head, Part
from forwarder.queues.settling import AGAIN_SECONDS, Row, removal_for
from forwarder.storage import Connection, Storage

STEP_ROWS, STEP_BYTES = 250, 2 << 20
"""What is moved or read in one job, about."""

MAX_AGAIN_SECONDS = 60.0

MakePart = Callable[[Sequence[Event], int, bool, str], Part]


class Around(NamedTuple):
    """What parking needs of its queue. ``lost``: a row is damaged; ``correct``: there are more or fewer
    events than were counted; ``has_room``: for so many bytes in memory; ``freed``: memory was."""

    make_part: MakePart
    ages: Callable[[], Ages]
    has_room: Callable[[int], bool]
    freed: Callable[[], None]
    lost: Callable[[Head, int], None]
    correct: Callable[[int], None]


class _Move(NamedTuple):
    clumps: list[Clump]
    part: Part


class Parking:
    """``most`` bytes of set-aside events stay in memory, about."""

    def __init__(self, storage: Storage, front: Front, held: HeldRows, most: int, around: Around) -> None:
        self._storage = storage
        self._front = front
        self._held = held
        self._most = most
        self._around = around
        self._moving = self._closed = False
        self._again = AGAIN_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._wanted: dict[int, Parked] = {}
        self._probes: set[str] = set()
        self._reading = self.paused = False

    @property
    def is_busy(self) -> bool:
        """Rows are being moved or read."""
        return self._moving or self._reading

    @property
    def _place(self) -> AsidePlace:
        return self._front.aside

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # --- to the disk

    def spill(self) -> None:
        """Park events if too many are in memory."""
        busy = self._moving or self.paused or self._closed
        if self._place.bytes > self._most and not busy and self._timer is None:
            self._move()

    def _move(self) -> None:
        moves = list(self._chosen())
        if not moves:
            return
        self._moving = True
        for move in moves:
            for clump in move.clumps:
                clump.moving = True
        events = [event for move in moves for event in move.part.events]
        parts = [move.part for move in moves]
        moving = self._storage.submit(rows.insertion(parts, removal_for(events, self._held.of)))
        moving.add_done_callback(partial(self._moved, moves))

    def _chosen(self) -> Iterator[_Move]:
        """Neighbours of one name each, as many as one job should move."""
        count = size = 0
        for name, run in self._place.movable():
            for clumps in _rows_of(run):
                events = [event for clump in clumps for event in clump.events]
                weight = sum(clump.size for clump in clumps)
                yield _Move(clumps, self._around.make_part(events, weight, clumps[0].sealed, name))
                count += 1
                size += weight
                if count >= STEP_ROWS or size >= STEP_BYTES:
                    return

    def _moved(self, moves: list[_Move], moving: asyncio.Future[None]) -> None:
        self._moving = False
        if self._closed:
            return
        ages = self._around.ages()
        failed = moving.cancelled() or moving.exception() is not None  # the storage says why
        for clumps, part in moves:
            for clump in clumps:
                clump.moving = False
            if not failed:
                head, events, name = part
                parked = parked_as(name, head, events[0].peer, ages)
                self._held.settle(self._place.park(clumps, parked))
            self._front.releasing.resume(part.parked)
        if failed:
            self._timer = asyncio.get_running_loop().call_later(self._again, self._try_again)
            self._again = min(MAX_AGAIN_SECONDS, 2 * self._again)
            return
        self._again = AGAIN_SECONDS
        if self._place.bytes > self._most // 2 and not self.paused:
            self._move()
        self._around.freed()

    def _try_again(self) -> None:
        self._timer = None
        self.spill()

    # --- and back

    def fetch(self, name: str) -> None:
        """Have the next parked events of this name read."""
        for parked in self._place.next_parked(name, STEP_ROWS):
            self._wanted[parked.place] = parked
        self.read_on()

    def probe(self, name: str) -> bool:
        """Have a batch of this name go when its events were read; False when none is parked."""
        if not isinstance(self._place.first(name), Parked):
            return False
        self._probes.add(name)
        self.fetch(name)
        return True

    def fetch_older_than(self, received_before: float) -> None:
        """Have parked rows read that have such an event, so that it can be taken as expired."""
        size = 0
        for parked in self._place.parked():
            if parked.oldest_at < received_before:
                self._wanted[parked.place] = parked
                size += parked.size
                if size > self._most // 2:
                    break
        self.read_on()

    def read_on(self) -> None:
        """Read what is wanted next, if there is room for it."""
        if not self._wanted or self._reading or self.paused or self._closed:
            return
        chosen: list[Parked] = []
        size = 0
        for parked in self._wanted.values():
            size += parked.size
            if len(chosen) == STEP_ROWS or (chosen and size > STEP_BYTES) or not self._around.has_room(size):
                break
            chosen.append(parked)
        if not chosen:
            return
        self._reading = True
        ages = self._around.ages()
        places = [parked.place for parked in chosen]

        def read(connection: Connection) -> list[Found | None]:
            return [rows.read_one(connection, place, ages) for place in places]

        self._storage.submit(read, within=0.0).add_done_callback(partial(self._learn, chosen))

    def thinned(self, parked: Parked, events: int, size: int) -> None:
        """So many events left this row on the disk."""
        left = max(0, parked.count - events)
        self._place.thinned(parked, left, max(0, parked.size - size))
        if not left:
            self._wanted.pop(parked.place, None)
            self._front.releasing.resume(parked.name)

    def _learn(self, chosen: list[Parked], reading: asyncio.Future[list[Found | None]]) -> None:
        self._reading = False
        if self._closed or reading.cancelled():
            return
        if reading.exception() is not None:  # the storage says why
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.read_on)
            return
        for parked, found in zip(chosen, reading.result(), strict=True):
            del self._wanted[parked.place]
            self._receive(parked, found)
        for parked in chosen:
            if parked.name in self._probes and self._front.probe(parked.name):
                self._probes.discard(parked.name)
            self._front.releasing.resume(parked.name)
        self._around.freed()

    def _receive(self, parked: Parked, found: Found | None) -> None:
        if found is None or found.events is None:
            self._place.thinned(parked, 0, 0)
            head = Head(parked.place, parked.count, parked.size, 0.0, 0.0, 0) if found is None else found.head
            self._around.lost(head, parked.count)
            return
        self._around.correct(len(found.events) - parked.count)
        for event in found.events:
            event.name, event.peer = parked.name, parked.peer
        row = Row(parked.place, found.head.events, found.events, found.indexes, parked.received)
        self._around.ages().give(found.events, row.received)
        self._held.enter(row, found.events)
        self._place.unpark(parked, found.events, found.head.is_complete)


def parked_as(name: str, head: Head, peer: str, ages: Ages) -> Parked:
    """This row, of which nothing is settled."""
    at, received = ages.received_at(head), ages.wall_of(head)
    return Parked(name, head.place, head.events, head.bytes, at, peer, received)


def _rows_of(run: Sequence[Clump]) -> Iterator[list[Clump]]:
    """Neighbours that fit into one row."""
    some: list[Clump] = []
    count = size = 0
    for clump in run:
        count += len(clump.events)
        size += clump.size
        if some and (count > ROW_EVENTS or size > ROW_BYTES):
            yield some
            some, count, size = [], len(clump.events), clump.size
        some.append(clump)
    if some:
        yield some
