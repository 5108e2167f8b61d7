"""The tail of a disk queue: the events that are on the disk only, and how they come into memory.

Invariants:
- The tail begins behind the place ``read_to``; what is in memory lies before it. Parked rows are not in it.
- One read after the other, in the order of the places. What a read brings is entered in one step.
- The counts may be wrong when rows are damaged; they are set right as the rows are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from forwarder.queues import rows
from forwarder.queues.ages import RowAges
from forwarder.queues.rows import Found, Head
from forwarder.queues.settling import AGAIN_SECONDS
from forwarder.storage import Storage

READS = 8
"""Memory is filled in so many reads: other jobs of the storage do not wait long for one."""


class Around(NamedTuple):
    """What the tail needs of its queue. ``may_read``: there is room in memory for so many bytes; ``enter``: a
    row was read; ``lost``: it is damaged; ``correct``: there are more or fewer events than were counted;
    ``entered``: a read ended."""

    may_read: Callable[[int], bool]
    enter: Callable[[Found], None]
    lost: Callable[[Head, int], None]
    correct: Callable[[int], None]
    entered: Callable[[], None]


class Tail:
    """``exists`` while there may be a row behind ``read_to``. ``oldest``: nothing in it is older than this
    row."""

    def __init__(self, storage: Storage, ages: RowAges, front_bytes: int, around: Around) -> None:
        self._storage = storage
        self._ages = ages
        self._step_bytes = front_bytes // READS
        self._around = around
        self._end = 0
        self._closed = False
        self.events = self.bytes = 0
        self.exists = self.is_reading = False
        self.read_to = 0
        self.oldest: Head | None = None

    def open(self, number: int, events: int, size: int, oldest: Head | None) -> None:
        self.read_to, self._end = rows.bounds_of(number)
        self.events, self.bytes = max(0, events), max(0, size) if events > 0 else 0
        self.exists = oldest is not None or self.events > 0  # events without rows are damage
        self.oldest = oldest

    def close(self, events: int, size: int) -> None:
        """From now on all that is left of the queue is on the disk only."""
        self._closed = True
        self.events, self.bytes = events, size

    def add(self, head: Head) -> None:
        """This row was written behind all others."""
        if not self.exists:
            self.exists, self.oldest = True, head
        self.events += head.events
        self.bytes += head.bytes

    def shrink(self, events: int, size: int) -> None:
        """So much of it is gone."""
        self.events = max(0, self.events - events)
        self.bytes = max(0, self.bytes - size) if self.events else 0

    @property
    def oldest_at(self) -> float | None:
        """About when its oldest event was received."""
        if not self.events or self.oldest is None:
            return None
        return self._ages.now().received_at(self.oldest)

    @property
    def is_by_wall(self) -> bool:
        """Whether rows may be in it that only the wall clock can age."""
        return self.exists and self.oldest is not None and self._ages.now().are_by_wall(self.oldest)

    def read_on(self) -> None:
        """Fill memory, with one read after the other, while there is room for one."""
        wanted = self.exists and not self.is_reading and not self._closed
        if not wanted or not self._around.may_read(self._step_bytes):
            return
        self.is_reading = True
        after, end, size, ages = self.read_to, self._end, self._step_bytes, self._ages.now()
        reading = self._storage.submit(
            lambda connection: rows.read(connection, after, end, size, ages), within=0.0
        )
        reading.add_done_callback(self._learn)

    def _learn(self, reading: asyncio.Future[tuple[list[Found], bool]]) -> None:
        self.is_reading = False
        if self._closed or reading.cancelled():
            return
        if reading.exception() is not None:  # the storage says why
            asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.read_on)
            return
        found, were_last = reading.result()
        for each in found:
            self._receive(each)
        if were_last:
            self._finish()
        self._around.entered()

    def _receive(self, found: Found) -> None:
        counted, size = found.counted
        self.read_to = found.head.place
        self._around.correct(max(0, counted - self.events))  # more than the totals said
        self.shrink(counted, size)
        if found.events is None:
            self._around.lost(found.head, counted)
            return
        self._around.correct(len(found.events) - counted)
        if found.events:
            self.oldest = found.head
        self._around.enter(found)

    def _finish(self) -> None:
        """Everything was read, so there is no tail; damage may have made its numbers say something else."""
        self._around.correct(-self.events)
        self.exists = False
        self.events = self.bytes = 0
