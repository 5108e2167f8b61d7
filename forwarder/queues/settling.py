"""What the file does not know yet of the rows in memory: which are done, done in part, or damaged.

Invariants:
- Nobody waits for these writes. Rows that are done go with the next put's commit, all others 50 ms later by
  themselves: most are done by then, and a mark would have been in vain.
- A write that fails is tried again, with what changed since; writing the same twice changes nothing, and
  marks of one row add up in any order: each says only what is new.
- Rows are deleted in a job of their own: that makes room, and must not fail with a mark that needs some.
- What a row still needs in memory is little when little of it is left, and no event that is settled stays
  longer than until the next try to write it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from forwarder.model import Event, memory_bytes
from forwarder.queues import rows
from forwarder.queues.rows import Mark
from forwarder.storage import Connection, Storage, Work
from forwarder.waiters import ignore_outcome

SETTLE_SECONDS = 0.05
AGAIN_SECONDS = 1.0
DELETE_ROWS = 500
"""In one job: a full disk has room for the log of so many, not of all that waited to be deleted."""

UNWRITTEN_ROWS = 1000
"""While writing fails so many may be settled: a full disk should drain, but not without an end in memory."""

T = TypeVar("T")


class Row:
    """A row of which events are in memory: what of it is settled. ``damaged``: nothing of it can be read.

    ``count``: of its events on the disk; ``events`` are those in memory, ``indexes`` their places in the row.
    Events are known by their identity, since two may have one id. ``received``: when the oldest came, by the
    wall clock, if only that knows; else None.
    """

    __slots__ = ("_fresh", "_indexes", "_keys", "_unwritten", "count", "damaged", "left", "place", "received")

    def __init__(
        self,
        place: int,
        count: int,
        events: Sequence[Event] = (),
        indexes: Sequence[int] | None = None,
        received: float | None = None,
    ) -> None:
        self.place = place
        self.received = received
        self.count = count
        self.left = len(events)
        self.damaged = False
        self._keys = list(map(id, events))
        self._indexes: Sequence[int] = range(count) if indexes is None else indexes
        self._fresh: list[Event] = []  # settled since the last mark
        self._unwritten: Mark | None = None

    def settle(self, event: Event) -> None:
        self.left -= 1
        if self.left:
            self._fresh.append(event)
        else:
            self._fresh, self._keys, self._indexes, self._unwritten = [], [], (), None

    def mark(self) -> Mark:
        """What is to be written of a row that is done in part: all that is not known to be written."""
        # A mark whose write failed is kept and joined with the next. Marks add up, so that it does not matter
        # whether the failed one is on the disk after all.
        if self._fresh:
            mark, before = self.mark_of(self._fresh), self._unwritten
            self._unwritten = mark if before is None else _both(before, mark)
            self._forget()
        return self._unwritten or Mark(self.place, b"", 0, 0)

    def mark_of(self, events: Sequence[Event]) -> Mark:
        settled = set(map(id, events))
        bitmap = bytearray((self.count + 7) // 8)
        for key, index in zip(self._keys, self._indexes, strict=True):
            if key in settled:
                bitmap[index >> 3] |= 1 << (index & 7)
        return Mark(self.place, bytes(bitmap), len(events), memory_bytes(events))

    def wrote(self, mark: Mark) -> None:
        """``mark`` is on the disk; what was settled since is still to be written."""
        if self._unwritten is mark:  # else more was settled meanwhile, and the mark of now has both
            self._unwritten = None

    def _forget(self) -> None:
        gone = set(map(id, self._fresh))
        left = [pair for pair in zip(self._keys, self._indexes, strict=True) if pair[0] not in gone]
        self._keys, self._indexes = [key for key, _ in left], [index for _, index in left]
        self._fresh = []


def _both(first: Mark, second: Mark) -> Mark:
    """Two marks of a row as one; they have no event in common."""
    bits = int.from_bytes(first.bitmap, "little") | int.from_bytes(second.bitmap, "little")
    bitmap = bits.to_bytes(len(first.bitmap), "little")
    return Mark(first.place, bitmap, first.events + second.events, first.bytes + second.bytes)


class Settling:
    """The rows of one queue that are to be written. ``add`` them; ``flush_done`` does not need to be called.

    ``wrote`` is called when writing works again.
    """

    def __init__(self, storage: Storage, wrote: Callable[[], None]) -> None:
        self._storage = storage
        self._tell = wrote
        self._failing = self._failed = False
        self._changed: dict[int, Row] = {}
        self._writing: dict[int, Row] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_behind(self) -> bool:
        """Writing fails, and what comes again after a kill is as much as it may be."""
        return self._failing and len(self._changed) + len(self._writing) >= UNWRITTEN_ROWS

    def add(self, row: Row) -> None:
        self._changed[row.place] = row
        self._flush_in(SETTLE_SECONDS)

    def flush_done(self) -> None:
        """Delete the rows that are done, with the next commit."""
        # Only rows that are done: a put that waits for its commit should not wait for marks as well, most of
        # which the next settled event would make needless.
        if not self._writing:
            self._write([row for row in self._changed.values() if not row.left or row.damaged])

    def _flush(self) -> None:
        self._timer = None
        if not self._writing:
            self._write(list(self._changed.values()))

    def _write(self, changed: list[Row]) -> None:
        """One such write at a time: what changes meanwhile is written after it."""
        # Out of ``_changed`` first: what is settled while this is written adds its row there again, and is
        # written by the next round. Until the close no row is in two writes at once.
        for row in changed:
            del self._changed[row.place]
        for some, marks, work in _works(changed):
            self._writing.update((row.place, row) for row in some)
            self._storage.submit(work).add_done_callback(partial(self._wrote, some, marks))

    def close(self, last: Work[None]) -> None:
        """Write all that is not known to be written; ``last`` is done with the marks, or not at all."""
        self._stop_timer()
        every = {**self._writing, **self._changed}.values()
        self._changed = {}
        for _, _, work in _works([row for row in every if not row.left or row.damaged]):
            self._storage.submit(work).add_done_callback(ignore_outcome)  # the storage says why
        marks = [row.mark() for row in every if row.left and not row.damaged]

        def mark_and_end(connection: Connection) -> None:
            rows.mark(connection, marks)
            last(connection)

        # When this fails the next start hands out again what was settled last, and counts.
        self._storage.submit(mark_and_end).add_done_callback(ignore_outcome)  # the storage says why

    def _wrote(self, some: list[Row], marks: list[Mark], writing: asyncio.Future[None]) -> None:
        failed = writing.cancelled() or writing.exception() is not None  # the storage says why
        if not failed:
            for row, mark in zip(some, marks, strict=False):  # marks of all, or of none
                row.wrote(mark)
        for row in some:
            del self._writing[row.place]
            if failed:  # unless it changed again meanwhile: then it is there already
                self._changed.setdefault(row.place, row)
        if self._changed:
            self._flush_in(AGAIN_SECONDS if failed else SETTLE_SECONDS)
        # One write may be several jobs, and a full disk fails only those that need room. Writing works again
        # when all jobs of a round succeeded.
        self._failed |= failed
        if not self._writing:
            before, self._failing, self._failed = self._failing, self._failed, False
            if before and not self._failing:
                self._tell()

    def _flush_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def removal_for(events: Sequence[Event], row_of: Callable[[Event], Row]) -> Work[None]:
    """What makes these events settled in the file, in another's transaction; in memory nothing changes."""
    by_row: dict[Row, list[Event]] = {}
    for event in events:
        by_row.setdefault(row_of(event), []).append(event)
    ended = [row.place for row, some in by_row.items() if row.left == len(some)]
    begun = [row.mark_of(some) for row, some in by_row.items() if row.left != len(some)]

    def work(connection: Connection) -> None:
        rows.delete(connection, ended)
        rows.mark(connection, begun)

    return work


def _works(changed: Iterable[Row]) -> Iterator[tuple[list[Row], list[Mark], Work[None]]]:
    """The changes by kind, each with its marks, if it has any, and with what writes it."""
    every = list(changed)
    damaged = [row for row in every if row.damaged]
    ended = [row for row in every if not row.left and not row.damaged]
    begun = [row for row in every if row.left and not row.damaged]
    for start in range(0, len(ended), DELETE_ROWS):
        some = ended[start : start + DELETE_ROWS]
        yield some, [], _work(rows.delete, [row.place for row in some])
    if begun:
        marks = [row.mark() for row in begun]
        yield begun, marks, _work(rows.mark, marks)
    if damaged:
        yield damaged, [], _work(rows.set_aside, [row.place for row in damaged])


def _work(write: Callable[[Connection, list[T]], None], what: list[T]) -> Work[None]:
    return lambda connection: write(connection, what)
