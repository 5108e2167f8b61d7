"""Dead letters as they are kept: in the storage, bounded by size and by age, until somebody takes them out.

Invariants:
- ``keep`` returns when the letters are on the disk; when it raises, none of them is.
- Over a bound the oldest dead letters of the target that holds most are dropped and counted: no target can
  push out those of another. The same happens when the file is full, since a dead letter without room would
  keep its event, and the event's target would stand still.
- Letters of this boot of the machine are aged by the monotonic clock, which nobody can set; those of an
  earlier boot by the wall clock, once it was steady for an hour. While it is doubted, no age drops a letter.
- Keeping an event again changes nothing: its id is there once.
- ``removal`` takes out all of its letters or none, so that what accepts them again can be one with it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from forwarder.clock import ClockWatch, this_boot
from forwarder.dead_letters import rows
from forwarder.dead_letters.query import BatchOf, Page, Wanted, counts_of, page_of
from forwarder.logs import limited
from forwarder.model import STORED_JSON, Clock, Dead, Event, Removal, SystemClock
from forwarder.storage import Connection, Storage, StorageError, Work
from forwarder.storage.salvage import Rescue

Burial = Callable[[Connection, Sequence[Event]], None]


class LettersGone(Exception):
    """Some of the letters to be removed are not there any more; none was removed."""


class LettersFull(Exception):
    """The dead letters have no room for more without dropping the oldest; none was kept."""


class _Change(NamedTuple):
    totals: rows.Totals
    dropped: Counter[str]
    answer: int | None


class DeadLetters:
    """The daemon's side: ``open`` once the storage is open, then ``keep``, and ``expire`` now and then.

    ``max_bytes`` counts texts and bodies with ``ROW_OVERHEAD_BYTES`` each; ``max_age`` is in seconds since
    the event was given up on. ``watch`` says whether the wall clock can be believed; ``boot`` is the
    machine's. ``on_dropped(target, count)`` is told, on the event loop, what the bounds cost. ``codec_of``:
    how the bodies of a target's events are encoded.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        max_bytes: int,
        max_age: float,
        clock: Clock | None = None,
        on_dropped: Callable[[str, int], None] | None = None,
        watch: ClockWatch | None = None,
        boot: str | None = None,
        codec_of: Callable[[str], int] = lambda target: STORED_JSON,
    ) -> None:
        self._codec_of = codec_of
        self._storage = storage
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock or SystemClock()
        self._on_dropped = on_dropped
        self._watch = watch or ClockWatch(self._clock)
        self._boot = this_boot() if boot is None else boot
        self._totals: rows.Totals = {}
        self._log = structlog.get_logger("dead_letters")

    async def open(self) -> None:
        """Make the tables if need be, count what is there, and drop what the bounds no longer allow."""
        await self._storage.run(rows.make_tables)
        newest = await self._storage.run(rows.newest)
        self._watch.see(newest)
        await self.expire()

    async def keep(self, target: str, dead: Sequence[Dead], removal: Removal | None = None) -> None:
        """Return when all are on the disk, and have left their queue there; StorageError when none is.

        Cancelled, the writing goes on: ``Storage.close`` waits for it, and keeping them again is harmless.
        """
        new = self._rows_now(target, self._codec_of(target))(dead)

        def write(connection: Connection) -> None:
            if removal is not None:
                removal(connection)  # first, since it makes room
            connection.executemany(rows.INSERT, new)

        try:
            await self._change(write)
        except StorageError as problem:
            if problem.reason != "full":
                raise
            await self._change(write, room=2 * sum(row[-3] for row in new))

    def burial(self, target: str, reason: str, code: str, message: str, codec: int | None = None) -> Burial:
        """What keeps events as dead letters in another's transaction, or raises LettersFull. ``expire`` is to
        follow, which counts them. ``codec``: where it is not that of the target's events."""
        rows_of = self._rows_now(target, self._codec_of(target) if codec is None else codec)
        max_bytes = self._max_bytes

        def bury(connection: Connection, events: Sequence[Event]) -> None:
            dead = [Dead(event, reason, code, message) for event in events]
            connection.executemany(rows.INSERT, rows_of(dead))
            if rows.kept(connection) > max_bytes:
                raise LettersFull(f"these events do not fit: dead letters may hold at most {max_bytes} bytes")

        return bury

    def _rows_now(self, target: str, codec: int) -> Callable[[Sequence[Dead]], list[tuple[Any, ...]]]:
        """What makes rows of events that die at this moment, in any thread."""
        wall, now, boot = self._clock.wall(), self._clock.monotonic(), self._boot

        def rows_of(dead: Sequence[Dead]) -> list[tuple[Any, ...]]:
            letters = (
                rows.letter_of(target, each, each.event.received_at + wall - now, wall, codec)
                for each in dead
            )
            return [rows.row_of(letter, boot, now) for letter in letters]

        return rows_of

    async def bury(self, burial: Burial, events: Sequence[Event], removal: Removal | None) -> None:
        """Keep these as ``burial`` says, in the transaction in which they leave their queue."""

        def write(connection: Connection) -> None:
            if removal is not None:
                removal(connection)
            burial(connection, events)

        await self._change(write)

    @property
    def room(self) -> int:
        """Bytes that can be kept without dropping the oldest."""
        return max(0, self._max_bytes - sum(size for _, size in self._totals.values()))

    async def expire(self) -> None:
        """Drop what is older than ``max_age``, and count again; ``open`` and ``keep`` do so too."""
        await self._change(lambda connection: None)

    async def page(self, wanted: Wanted, max_bytes: int, batch_of: BatchOf) -> Page:
        """The first letters that are wanted: of ``max_bytes``, but one at least, and no batch in parts."""
        return await self._storage.submit(lambda each: page_of(each, wanted, max_bytes, batch_of), within=0.0)

    async def count(self, wanted: Wanted) -> dict[str, int]:
        """How many letters are wanted, by target."""
        return await self._storage.submit(lambda connection: counts_of(connection, wanted), within=0.0)

    async def remove(self, ids: Sequence[str]) -> None:
        """Take these letters out, as far as they are there."""

        def delete(connection: Connection) -> None:
            connection.executemany(rows.DELETE, [(id_,) for id_ in ids])

        await self._change(delete)

    async def purge(self, wanted: Wanted) -> int:
        """Delete the letters that are wanted; how many that were."""
        return await self._change(lambda connection: rows.delete(connection, wanted)) or 0

    def view(self) -> Mapping[str, tuple[int, int]]:
        """Events and bytes kept, by target."""
        return self._totals

    async def _change(self, change: Work[int | None], room: int = 0) -> int | None:
        """``room``: bytes of the oldest letters that give way to the change."""
        ages, max_age, max_bytes = self._ages(), self._max_age, self._max_bytes

        def work(connection: Connection) -> _Change:
            dropped = rows.drop_for_room(connection, room)
            answer = change(connection)
            dropped += rows.drop_old(connection, ages, max_age)
            dropped += rows.drop_for_room(connection, rows.kept(connection) - max_bytes)
            return _Change(rows.totals(connection), dropped, answer)

        changed = self._storage.submit(work)
        # Counted when it is done, whether or not the one who asked is still there.
        changed.add_done_callback(self._learn)
        return (await asyncio.shield(changed)).answer

    def _ages(self) -> rows.Ages | None:
        """How old letters are now; None while the clock is doubted."""
        self._watch.look()
        if self._watch.is_doubted:
            return None
        wall = self._clock.wall() if self._watch.is_proven else None
        return rows.Ages(self._boot, self._clock.monotonic(), wall)

    def _learn(self, changed: asyncio.Future[_Change]) -> None:
        if changed.cancelled() or changed.exception() is not None:
            return  # nothing was changed; the caller gets the error
        self._totals, dropped, _ = changed.result()
        for target, count in dropped.items():
            limited(self._log, f"dead letters dropped {target}").warning(
                "oldest dead letters dropped: over max_bytes or max_age, or the storage is full",
                target=target,
                dropped=count,
            )
            if self._on_dropped is not None:
                self._on_dropped(target, count)


def removal(ids: Sequence[str]) -> Work[None]:
    """What takes these letters out, or raises LettersGone when some are not there."""
    every = [(id_,) for id_ in ids]

    def work(connection: Connection) -> None:
        if connection.executemany(rows.DELETE, every).rowcount != len(every):
            raise LettersGone("some of these dead letters no longer exist")

    return work


async def purge(directory: Path, wanted: Wanted, rescues: Sequence[Rescue] = ()) -> int:
    """Delete letters where no daemon runs; how many that were. StorageError when one does.

    ``rescues``: of everything in the file, which may turn out to be damaged.
    """
    storage = Storage(directory, rescues=rescues)
    await storage.open()
    try:
        letters = DeadLetters(storage, max_bytes=sys.maxsize, max_age=float("inf"))
        await letters.open()
        return await letters.purge(wanted)
    finally:
        await storage.close()
