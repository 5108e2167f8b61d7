"""How a disk queue lies in the storage's file: one row per put, and what is done to the rows.

Everything here but ``encode`` runs in the storage's thread, inside a transaction; nothing knows a queue.

Invariants:
- A row's place is its target's number and its sequence, so the rows of a target lie together and in order.
- A row has a checksum over all that it says; what does not match is reported, never handed out.
- A row's settled events are a bitmap beside it; where there is none, nothing of the row is settled.
- Totals are there only after a clean close, and are taken when the queue is opened: old ones cannot be used.
- Rows of targets that nobody opens stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from forwarder.model import Event
from forwarder.storage import Connection, StorageError, spare_bytes

SEQUENCE_BITS = 40

_TABLES = (
    "CREATE TABLE IF NOT EXISTS queue_targets (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # The payload comes last: counting rows then never reads the pages it overflows to.
    """CREATE TABLE IF NOT EXISTS queue_rows (
        place INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL, received REAL NOT NULL,
        since REAL NOT NULL, complete INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_settled (
        place INTEGER PRIMARY KEY, bitmap BLOB NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_totals (
        number INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL)""",
    # The rows behind this place were written since this boot of the machine, whose monotonic clock they know.
    """CREATE TABLE IF NOT EXISTS queue_boots (
        number INTEGER PRIMARY KEY, after INTEGER NOT NULL, boot TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_damaged (
        place INTEGER NOT NULL, events, bytes, received, since, complete, crc, payload, bitmap)""",
)
_COUNT = """SELECT coalesce(sum(q.events - coalesce(s.events, 0)), 0),
    coalesce(sum(q.bytes - coalesce(s.bytes, 0)), 0)
    FROM queue_rows q LEFT JOIN queue_settled s USING (place) WHERE q.place BETWEEN ? AND ?"""
# The casts do nothing but to damaged rows, which could hold values of any type.
_HEAD = """place, CAST(events AS INTEGER), CAST(bytes AS INTEGER), CAST(received AS REAL),
    CAST(since AS REAL), CAST(complete AS INTEGER)"""
_READ = """SELECT q.place, CAST(q.events AS INTEGER), CAST(q.bytes AS INTEGER), CAST(q.received AS REAL),
    CAST(q.since AS REAL), CAST(q.complete AS INTEGER), CAST(q.crc AS INTEGER), CAST(q.payload AS BLOB),
    CAST(s.bitmap AS BLOB), coalesce(s.events, 0), coalesce(s.bytes, 0)
    FROM queue_rows q LEFT JOIN queue_settled s USING (place)
    WHERE q.place > ? AND q.place <= ? ORDER BY q.place"""
_SET_ASIDE = """INSERT INTO queue_damaged
    SELECT q.place, q.events, q.bytes, q.received, q.since, q.complete, q.crc, q.payload, s.bitmap
    FROM queue_rows q LEFT JOIN queue_settled s USING (place) WHERE q.place = ?"""


class Head(NamedTuple):
    """What a row says of its events. ``received`` is the oldest's moment by the wall clock, ``since`` by the
    monotonic clock of the boot it was written in; ``bytes`` are ``memory_bytes``."""

    place: int
    events: int
    bytes: int
    received: float
    since: float
    complete: int


class Part(NamedTuple):
    """The events of one row to be written."""

    head: Head
    events: Sequence[Event]


class Mark(NamedTuple):
    """What of a row is settled so far."""

    place: int
    bitmap: bytes
    events: int
    bytes: int


class Found(NamedTuple):
    """One row that was read. ``ids`` are of all its events, ``events`` those not settled; None: damaged."""

    head: Head
    ids: list[str]
    events: list[Event] | None
    settled: Mark

    @property
    def left(self) -> tuple[int, int]:
        """Events and bytes that were not settled, as they were counted."""
        return self.head.events - self.settled.events, self.head.bytes - self.settled.bytes


class Opened(NamedTuple):
    """A target's rows as they were found: how much is not settled, the last place, the oldest.

    Those after ``own_after`` were written since the machine's last boot.
    """

    number: int
    events: int
    bytes: int
    last: int
    own_after: int
    oldest: Head | None


class Ages(NamedTuple):
    """How moments become monotonic seconds of this boot, in which was written what is after ``own_after``."""

    own_after: int
    wall: float
    now: float

    def received_at(self, head: Head) -> float:
        if head.place > self.own_after:
            return min(head.since, self.now)
        return self.now - max(0.0, self.wall - head.received)  # a wall clock that was set back: no age


_Item = tuple[str, bytes, int, bytes]
_item_of = attrgetter("id", "body", "size", "key")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Item])


def bounds_of(number: int) -> tuple[int, int]:
    """The places of a target lie between these."""
    return number << SEQUENCE_BITS, ((number + 1) << SEQUENCE_BITS) - 1


def open_target(connection: Connection, name: str, boot: str) -> Opened:
    """Make the tables and the target's number if need be; find what is there, and take the totals.

    ``boot``: of the machine, "" when it is not known.
    """
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO queue_targets (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
    (number,) = connection.execute("SELECT number FROM queue_targets WHERE name = ?", (name,)).fetchone()
    first, end = bounds_of(number)
    among = "FROM queue_rows WHERE place BETWEEN ? AND ? ORDER BY place"
    oldest = connection.execute(f"SELECT {_HEAD} {among} LIMIT 1", (first, end)).fetchone()
    last = connection.execute(f"SELECT place {among} DESC LIMIT 1", (first, end)).fetchone()
    totals = connection.execute("SELECT events, bytes FROM queue_totals WHERE number = ?", (number,))
    events, size = totals.fetchone() or connection.execute(_COUNT, (first, end)).fetchone()
    connection.execute("DELETE FROM queue_totals WHERE number = ?", (number,))
    last_place = last[0] if last else first
    own_after = _own_after(connection, number, last_place, boot)
    return Opened(number, events, size, last_place, own_after, Head(*oldest) if oldest else None)


def _own_after(connection: Connection, number: int, last: int, boot: str) -> int:
    """The place behind which every row is of this boot; from now on the rows behind ``last`` are."""
    known = connection.execute("SELECT after, boot FROM queue_boots WHERE number = ?", (number,)).fetchone()
    same = boot and known and known[1] == boot
    own_after = min(known[0], last) if same else last  # places that are free again are given again
    connection.execute("INSERT OR REPLACE INTO queue_boots VALUES (?, ?, ?)", (number, own_after, boot))
    return own_after


def insert(connection: Connection, parts: Sequence[Part]) -> None:
    if sum(part.head.bytes for part in parts) > spare_bytes(connection):
        raise StorageError("full", "the storage's share of the disk is full")
    for head, events in parts:
        payload = _encoder.encode(list(map(_item_of, events)))
        row = (*head, _checksum(head, payload), payload)
        connection.execute("INSERT INTO queue_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def read(connection: Connection, after: int, end: int, size: int, ages: Ages) -> tuple[list[Found], bool]:
    """The rows behind ``after``: as many as have ``size`` bytes, but one at least. Were these the last?"""
    found: list[Found] = []
    with_room = size
    rows = connection.execute(_READ, (after, end))
    for *head, crc, payload, bitmap, settled_events, settled_bytes in rows:
        row = Head(*head)
        with_room -= row.bytes
        if found and with_room < 0:
            return found, False
        settled = Mark(row.place, bitmap or b"", settled_events, settled_bytes)
        found.append(_decode(row, crc, payload, settled, ages.received_at(row)))
    return found, True


def delete(connection: Connection, places: Collection[int]) -> None:
    every = [(place,) for place in places]
    connection.executemany("DELETE FROM queue_rows WHERE place = ?", every)
    connection.executemany("DELETE FROM queue_settled WHERE place = ?", every)


def mark(connection: Connection, marks: Collection[Mark]) -> None:
    connection.executemany("INSERT OR REPLACE INTO queue_settled VALUES (?, ?, ?, ?)", marks)


def set_aside(connection: Connection, places: Collection[int]) -> None:
    """Move damaged rows to where nobody reads them by mistake."""
    connection.executemany(_SET_ASIDE, [(place,) for place in places])
    delete(connection, places)


def write_totals(connection: Connection, number: int, events: int, size: int) -> None:
    connection.execute("INSERT OR REPLACE INTO queue_totals VALUES (?, ?, ?)", (number, events, size))


def stranded(connection: Connection, opened: Collection[str]) -> dict[str, int]:
    """Events that wait for targets which are not among the opened ones; counted row by row."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'queue_targets'").fetchone():
        return {}  # no queue was ever on this disk
    names = connection.execute("SELECT number, name FROM queue_targets").fetchall()
    counts = {
        name: connection.execute(_COUNT, bounds_of(number)).fetchone()[0]
        for number, name in names
        if name not in opened
    }
    return {name: count for name, count in counts.items() if count}


def _decode(head: Head, crc: int, payload: bytes, settled: Mark, received_at: float) -> Found:
    try:
        items = _decoder.decode(payload) if crc == _checksum(head, payload) else []
    except msgspec.DecodeError:
        items = []
    if len(items) != head.events or not items:
        return Found(head, [], None, settled)
    keys: dict[bytes, bytes] = {}  # events of one envelope share its bytes, as they did when they came
    gone = int.from_bytes(settled.bitmap, "little")
    events = [
        Event(id, body, size, keys.setdefault(key, key), received_at)
        for index, (id, body, size, key) in enumerate(items)
        if not gone >> index & 1
    ]
    return Found(head, [item[0] for item in items], events, settled)


def _checksum(head: Head, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(repr(tuple(head)).encode()))
