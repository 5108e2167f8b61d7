"""What the file does not know yet of the rows in memory: which are done, done in part, or damaged.

Invariants:
- Nobody waits for these writes. They go with the next put's commit, or 50 ms later by themselves.
- A write that fails is tried again, with what changed since; writing the same twice changes nothing, and
  marks of one row add up in any order: each says only what is new.
- Rows are deleted in a job of their own: that makes room, and must not fail with a mark that needs some.
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

SETTLE_SECONDS = 0.05
AGAIN_SECONDS = 1.0
DELETE_ROWS = 500
"""In one job: a full disk has room for the log of so many, not of all that waited to be deleted."""

T = TypeVar("T")


class Row:
    """A row of which events are in memory: what of it is settled. ``damaged``: nothing of it can be read."""

    __slots__ = ("_fresh", "_ids", "damaged", "left", "place")

    def __init__(self, place: int, ids: list[str], left: int) -> None:
        self.place = place
        self.left = left
        self.damaged = False
        self._ids = ids
        self._fresh: list[Event] = []  # settled, and not known to be written

    def settle(self, event: Event) -> None:
        self.left -= 1
        self._fresh.append(event)

    def mark(self) -> Mark:
        """What is to be written of a row that is done in part."""
        return self.mark_of(self._fresh)

    def mark_of(self, events: Sequence[Event]) -> Mark:
        where = {id: index for index, id in enumerate(self._ids)}
        bits = 0
        for event in events:
            bits |= 1 << where[event.id]
        bitmap = bits.to_bytes((len(self._ids) + 7) // 8, "little")
        return Mark(self.place, bitmap, len(events), memory_bytes(events))

    def wrote(self, mark: Mark) -> None:
        """``mark`` is on the disk; what was settled since is still to be written."""
        del self._fresh[: mark.events]


class Settling:
    """The rows of one queue that are to be written. ``add`` them; ``flush`` does not need to be called."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._changed: dict[int, Row] = {}
        self._writing: dict[int, Row] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, row: Row) -> None:
        self._changed[row.place] = row
        self._flush_in(SETTLE_SECONDS)

    def flush(self) -> None:
        """Write what changed, with the next commit; one such write at a time."""
        self._stop_timer()
        if self._writing or not self._changed:
            return
        changed, self._changed = self._changed, {}
        for some, marks, work in _works(changed.values()):
            self._writing.update((row.place, row) for row in some)
            self._storage.submit(work).add_done_callback(partial(self._wrote, some, marks))

    def close(self, work: Work[None]) -> None:
        """Write all that is not known to be written, and do ``work``, in one transaction: the last one."""
        self._stop_timer()
        works = [each for _, _, each in _works({**self._writing, **self._changed}.values())]
        self._changed = {}

        def all_of(connection: Connection) -> None:
            for each in (*works, work):
                each(connection)

        # When this fails the next start hands out again what was settled last, and counts.
        self._storage.submit(all_of).add_done_callback(_look)

    def _wrote(self, some: list[Row], marks: list[Mark], writing: asyncio.Future[None]) -> None:
        failed = writing.cancelled() or writing.exception() is not None  # the storage says why
        if not failed:
            for row, mark in zip(some, marks, strict=False):  # marks of all, or of none
                row.wrote(mark)
        for row in some:
            del self._writing[row.place]
            if failed:
                self._changed.setdefault(row.place, row)
        if self._changed:
            self._flush_in(AGAIN_SECONDS if failed else SETTLE_SECONDS)

    def _flush_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.flush)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def leaving(events: Sequence[Event], row_of: Callable[[Event], Row]) -> Work[None]:
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


def _look(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()  # the storage says why
