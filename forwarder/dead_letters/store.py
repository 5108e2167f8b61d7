"""Dead letters as they are kept: in the storage, bounded by size and by age, until somebody takes them out.

Invariants:
- ``keep`` returns when the letters are on the disk; when it raises, none of them is.
- What the table holds is counted in the table's own transaction, so the numbers never differ from the rows,
  also when somebody deletes rows by hand.
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

import msgspec
import structlog

from forwarder.clock import ClockWatch
from forwarder.dead_letters.query import (
    COLUMNS,
    BatchOf,
    Letter,
    Page,
    Wanted,
    condition_of,
    counts_of,
    page_of,
)
from forwarder.logs import limited
from forwarder.model import Clock, Dead, Event, Removal, SystemClock
from forwarder.storage import Connection, Storage, StorageError, Work, this_boot
from forwarder.storage.salvage import Rescue, insert, read_one, readable

ROW_OVERHEAD_BYTES = 250
"""What a row costs in the file beside its texts: id, index, numbers, and its part of half-filled pages."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS dead_letters (
        position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL, reason TEXT NOT NULL,
        code TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL, received_at REAL NOT NULL,
        died_at REAL NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL, key BLOB NOT NULL,
        body BLOB NOT NULL, boot TEXT, since REAL)""",
    """CREATE TABLE IF NOT EXISTS dead_letter_totals (
        target TEXT PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS dead_letters_of_target ON dead_letters (target, position, bytes)",
    """CREATE TRIGGER IF NOT EXISTS dead_letter_kept AFTER INSERT ON dead_letters BEGIN
        INSERT INTO dead_letter_totals VALUES (NEW.target, 1, NEW.bytes)
        ON CONFLICT (target) DO UPDATE SET events = events + 1, bytes = bytes + NEW.bytes; END""",
    """CREATE TRIGGER IF NOT EXISTS dead_letter_gone AFTER DELETE ON dead_letters BEGIN
        UPDATE dead_letter_totals SET events = events - 1, bytes = bytes - OLD.bytes
        WHERE target = OLD.target; END""",
)


_MOMENT = ("boot TEXT", "since REAL")
"""Columns that tables of earlier versions lack: the boot in which the event died, and when by its clock."""

_PLACES = ", ".join("?" * len(Letter.__struct_fields__))
_INSERT = f"""INSERT INTO dead_letters ({COLUMNS}, bytes, boot, since) VALUES ({_PLACES}, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING"""
_DELETE = "DELETE FROM dead_letters WHERE id = ?"

_OLDEST_OF = "SELECT position, bytes FROM dead_letters WHERE target = ? ORDER BY position"
_HAS_MOMENT = "SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = 'since' AND cid > ?"
_BEHIND = "WHERE position > ? ORDER BY position"

Totals = dict[str, tuple[int, int]]

Burial = Callable[[Connection, Sequence[Event]], None]


class LettersGone(Exception):
    """Some of the letters to be removed are not there any more; none was removed."""


class LettersFull(Exception):
    """The dead letters have no room for more without dropping the oldest; none was kept."""


class _Change(NamedTuple):
    totals: Totals
    dropped: Counter[str]
    answer: int | None


class _Ages(NamedTuple):
    """Both clocks' moment; ``wall`` is None where nothing is to be aged by it."""

    boot: str
    now: float
    wall: float | None

    def age(self, died_at: float, boot: str | None, since: float | None) -> float:
        if self.boot and boot == self.boot and since is not None:
            return self.now - since
        return 0.0 if self.wall is None else self.wall - died_at


class DeadLetters:
    """The daemon's side: ``open`` once the storage is open, then ``keep``, and ``expire`` now and then.

    ``max_bytes`` counts texts and bodies with ``ROW_OVERHEAD_BYTES`` each; ``max_age`` is in seconds since
    the event was given up on. ``watch`` says whether the wall clock can be believed; ``boot`` is the
    machine's. ``on_dropped(target, count)`` is told, on the event loop, what the bounds cost.
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
    ) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock or SystemClock()
        self._on_dropped = on_dropped
        self._watch = watch or ClockWatch(self._clock)
        self._boot = this_boot() if boot is None else boot
        self._totals: Totals = {}
        self._log = structlog.get_logger("dead_letters")

    async def open(self) -> None:
        """Make the tables if need be, count what is there, and drop what the bounds no longer allow."""
        await self._storage.run(_make_tables)
        newest = await self._storage.run(_newest)
        self._watch.see(newest)
        await self._change(_make_tables)

    async def keep(self, target: str, dead: Sequence[Dead], removal: Removal | None = None) -> None:
        """Return when all are on the disk, and have left their queue there; StorageError when none is.

        Cancelled, the writing goes on: ``Storage.close`` waits for it, and keeping them again is harmless.
        """
        wall = self._clock.wall()
        now = self._clock.monotonic()
        moment = self._boot, now
        rows = [
            (*_row(_letter(target, each, each.event.received_at + wall - now, wall)), *moment)
            for each in dead
        ]

        def write(connection: Connection) -> None:
            if removal is not None:
                removal(connection)  # first, since it makes room
            connection.executemany(_INSERT, rows)

        try:
            await self._change(write)
        except StorageError as problem:
            if problem.reason != "full":
                raise
            await self._change(write, room=2 * sum(row[-3] for row in rows))

    def burial(self, target: str, reason: str, code: str, message: str) -> Burial:
        """What keeps events as dead letters in another's transaction, or raises LettersFull. ``expire`` is to
        follow, which counts them."""
        wall, now, max_bytes = self._clock.wall(), self._clock.monotonic(), self._max_bytes
        moment = self._boot, now

        def bury(connection: Connection, events: Sequence[Event]) -> None:
            letters = [
                _letter(target, Dead(event, reason, code, message), event.received_at + wall - now, wall)
                for event in events
            ]
            connection.executemany(_INSERT, [(*_row(letter), *moment) for letter in letters])
            if _kept(connection) > max_bytes:
                raise LettersFull(f"these events do not fit: dead letters may hold at most {max_bytes} bytes")

        return bury

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
            connection.executemany(_DELETE, [(id_,) for id_ in ids])

        await self._change(delete)

    async def purge(self, wanted: Wanted) -> int:
        """Delete the letters that are wanted; how many that were."""
        return await self._change(lambda connection: _delete(connection, wanted)) or 0

    def view(self) -> Mapping[str, tuple[int, int]]:
        """Events and bytes kept, by target."""
        return self._totals

    async def _change(self, change: Work[int | None], room: int = 0) -> int | None:
        """``room``: bytes of the oldest letters that give way to the change."""
        ages, max_age, max_bytes = self._ages(), self._max_age, self._max_bytes

        def work(connection: Connection) -> _Change:
            dropped = _drop_for_room(connection, room)
            answer = change(connection)
            dropped += _drop_old(connection, ages, max_age)
            dropped += _drop_for_room(connection, _kept(connection) - max_bytes)
            return _Change(_totals(connection), dropped, answer)

        changed = self._storage.submit(work)
        # Counted when it is done, whether or not the one who asked is still there.
        changed.add_done_callback(self._learn)
        return (await asyncio.shield(changed)).answer

    def _ages(self) -> _Ages | None:
        """How old letters are now; None while the clock is doubted."""
        self._watch.look()
        if self._watch.is_doubted:
            return None
        wall = self._clock.wall() if self._watch.is_proven else None
        return _Ages(self._boot, self._clock.monotonic(), wall)

    def _learn(self, changed: asyncio.Future[_Change]) -> None:
        if changed.cancelled() or changed.exception() is not None:
            return  # nothing was changed; who asked is told
        self._totals, dropped, _ = changed.result()
        for target, count in dropped.items():
            limited(self._log, f"dead letters dropped {target}").warning(
                "oldest dead letters dropped: over max_bytes or max_age, or the storage is full",
                target=target,
                dropped=count,
            )
            if self._on_dropped is not None:
                self._on_dropped(target, count)


def _letter(target: str, dead: Dead, received: float, died: float) -> Letter:
    event = dead.event
    message = dead.message.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in a file
    numbers = (event.attempts, received, died, event.size)
    return Letter(event.id, target, dead.reason, dead.code, message, *numbers, event.key, event.body)


def _row(letter: Letter) -> tuple[Any, ...]:
    cost = len(letter.body) + len(letter.key) + len(letter.message) + ROW_OVERHEAD_BYTES
    return (*msgspec.structs.astuple(letter), cost)


def _make_tables(connection: Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    there = _columns(connection)
    for column in _MOMENT:
        if column.split()[0] not in there:
            connection.execute(f"ALTER TABLE dead_letters ADD COLUMN {column}")


def _columns(connection: Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(dead_letters)")}


def _newest(connection: Connection) -> float:
    """When the newest letter's event died, by the wall clock."""
    found = connection.execute("SELECT died_at FROM dead_letters ORDER BY position DESC LIMIT 1").fetchone()
    return float(found[0]) if found else 0.0


def rescue(damaged: Connection, new: Connection) -> dict[str, int]:
    """Take over the letters that can be read; the totals come with them."""
    _make_tables(new)
    counts = Counter({"dead letters": 0, "unreadable parts of the dead letters": 0})
    moment = "boot, since" if read_one(damaged, _HAS_MOMENT, 0) else "NULL, NULL"
    for row in readable(damaged, f"SELECT position, {COLUMNS}, bytes, {moment} FROM dead_letters {_BEHIND}"):
        if row is None:
            counts["unreadable parts of the dead letters"] += 1
        elif insert(new, _INSERT, row[1:]):
            counts["dead letters"] += 1
    return counts


def _totals(connection: Connection) -> Totals:
    rows = connection.execute("SELECT target, events, bytes FROM dead_letter_totals WHERE events > 0")
    return {target: (events, size) for target, events, size in rows}


def _kept(connection: Connection) -> int:
    (kept,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM dead_letter_totals").fetchone()
    return int(kept)


def _drop_old(connection: Connection, ages: _Ages | None, max_age: float) -> Counter[str]:
    """Drop the letters from the oldest on up to the first that is young enough."""
    last, dropped = 0, Counter[str]()
    if ages is None:
        return dropped
    for position, target, *moment in connection.execute(
        "SELECT position, target, died_at, boot, since FROM dead_letters ORDER BY position"
    ):
        if ages.age(*moment) <= max_age:
            break
        last = position
        dropped[target] += 1
    if dropped:
        connection.execute("DELETE FROM dead_letters WHERE position <= ?", (last,))
    return dropped


def _drop_for_room(connection: Connection, excess: int) -> Counter[str]:
    """Drop so many bytes: the oldest letters of the targets that hold most."""
    dropped = Counter[str]()
    held = {target: size for target, (_, size) in _totals(connection).items()}
    for target, too_much in shares_over(held, excess).items():
        last = 0
        for position, size in connection.execute(_OLDEST_OF, (target,)):
            if too_much <= 0:
                break
            too_much -= size
            last = position
            dropped[target] += 1
        connection.execute("DELETE FROM dead_letters WHERE target = ? AND position <= ?", (target, last))
    return dropped


def shares_over(held: Mapping[str, int], excess: int) -> dict[str, int]:
    """How much each target must give up to free ``excess`` in all: the largest come down to one level."""
    if excess <= 0:
        return {}
    sizes = sorted(held.values(), reverse=True)
    for count, smaller in enumerate([*sizes[1:], 0], 1):
        of_largest = sum(sizes[:count])
        if of_largest - count * smaller >= excess:
            level = (of_largest - excess) // count
            return {target: size - level for target, size in held.items() if size > level}
    return dict(held)


def removal(ids: Sequence[str]) -> Work[None]:
    """What takes these letters out, or raises LettersGone when some are not there."""
    every = [(id_,) for id_ in ids]

    def work(connection: Connection) -> None:
        if connection.executemany(_DELETE, every).rowcount != len(every):
            raise LettersGone("some of the dead letters are not there any more")

    return work


def _delete(connection: Connection, wanted: Wanted) -> int:
    condition, values = condition_of(wanted)
    chosen = f"SELECT position FROM dead_letters {condition}"
    return connection.execute(f"DELETE FROM dead_letters WHERE position IN ({chosen})", values).rowcount


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
