"""How a disk queue lies in the storage's file: one row per put, and what is done to the rows.

Everything here but ``bounds_of``, ``flags`` and ``insertion`` runs in the storage's thread, inside a
transaction.

Invariants:
- A row's place is its target's number and its sequence, so the rows of a target lie together and in order.
- A row has a checksum over all that it says; what does not match is reported, never handed out.
- A row's settled events are a bitmap beside it, with a checksum of its own; where there is none that is
  sound, nothing of the row is settled: once too often is better than never.
- When little is left of a large row, what is settled is taken out of it; every event keeps its index, so
  marks hold whenever they are written.
- Whatever a damaged row says, its numbers are within bounds, so they can be added up.
- Rows of events that are set aside for a name (parked) have an entry beside them that says so, and which row
  is meant by its checksum. An entry without its row is dropped, a row without its entry is like any other: a
  version that knows no entries may have run in between.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from forwarder.model import Event, memory_bytes
from forwarder.queues.ages import Ages
from forwarder.storage import Connection, Work, has_room, no_room

SEQUENCE_BITS = 40

_TABLES = (
    """CREATE TABLE IF NOT EXISTS queue_targets (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, UNIQUE (name, kind))""",
    # The payload comes last: counting rows then never reads the pages it overflows to.
    """CREATE TABLE IF NOT EXISTS queue_rows (
        place INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL, received REAL NOT NULL,
        since REAL NOT NULL, complete INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_settled (
        place INTEGER PRIMARY KEY, bitmap BLOB NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
        crc INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_totals (
        number INTEGER PRIMARY KEY, events INTEGER NOT NULL, bytes INTEGER NOT NULL)""",
    # The rows behind this place were written since this boot of the machine, whose monotonic clock they know.
    """CREATE TABLE IF NOT EXISTS queue_boots (
        number INTEGER PRIMARY KEY, after INTEGER NOT NULL, boot TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_aside (
        place INTEGER PRIMARY KEY, name TEXT NOT NULL, row INTEGER NOT NULL, crc INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS queue_damaged (
        place INTEGER NOT NULL, events, bytes, received, since, complete, crc, payload, bitmap)""",
)
DAMAGED_ROWS = 64
"""As many are kept aside, the last ones: they count in the storage's share of the disk."""
SHORT_BYTES = 8192
"""A payload of a page or less is left as it is, however little of it is still wanted."""


def _number(column: str, most: int) -> str:
    return f"max(0, min(coalesce(CAST({column} AS INTEGER), 0), {most}))"


# The casts and bounds do nothing but to damaged rows, which could hold values of any type and size.
_EVENTS, _BYTES = _number("q.events", 1 << 20), _number("q.bytes", 1 << 32)
_SETTLED = f"{_number('s.events', 1 << 20)}, {_number('s.bytes', 1 << 32)}"
_MARK_OF = f"CAST(s.bitmap AS BLOB), {_SETTLED}, CAST(s.crc AS INTEGER)"
COUNT = f"""coalesce(sum(max(0, {_EVENTS} - {_number("s.events", 1 << 20)})), 0),
    coalesce(sum(max(0, {_BYTES} - {_number("s.bytes", 1 << 32)})), 0)"""
FROM = "FROM queue_rows q LEFT JOIN queue_settled s USING (place)"
HEAD = f"""q.place, {_EVENTS}, {_BYTES}, coalesce(CAST(q.received AS REAL), 0.0),
    coalesce(CAST(q.since AS REAL), 0.0), coalesce(CAST(q.complete AS INTEGER), 0)"""
_ROW = f"{HEAD}, CAST(q.crc AS INTEGER), CAST(q.payload AS BLOB)"
_IN_ORDER = "WHERE q.place > ? AND q.place <= ?"
NOT_PARKED = "NOT EXISTS (SELECT 1 FROM queue_aside a WHERE a.place = q.place)"
_READ = f"SELECT {_ROW}, {_MARK_OF} {FROM} {_IN_ORDER} AND {NOT_PARKED} ORDER BY q.place"
_READ_ALL = f"SELECT {_ROW}, {_MARK_OF} {FROM} {_IN_ORDER} ORDER BY q.place"
_READ_ONE = f"SELECT {_ROW}, {_MARK_OF} {FROM} WHERE q.place = ?"
LEFT = f"""max(0, {_EVENTS} - {_number("s.events", 1 << 20)}),
    max(0, {_BYTES} - {_number("s.bytes", 1 << 32)})"""
_MARKED = f"SELECT {_BYTES}, length(q.payload), {_MARK_OF} {FROM} WHERE q.place = ?"
_MARK = "INSERT OR REPLACE INTO queue_settled VALUES (?, ?, ?, ?, ?)"
_SHORTEN = "UPDATE queue_rows SET crc = ?, payload = ? WHERE place = ?"
_SET_ASIDE = f"""INSERT INTO queue_damaged
    SELECT q.place, q.events, q.bytes, q.received, q.since, q.complete, q.crc, q.payload, s.bitmap
    {FROM} WHERE q.place = ?"""
_LET_GO = f"""DELETE FROM queue_damaged
    WHERE rowid <= (SELECT max(rowid) FROM queue_damaged) - {DAMAGED_ROWS}"""


class Head(NamedTuple):
    """What a row says of its events. ``received`` is the oldest's moment by the wall clock, ``since`` by the
    monotonic clock of the boot it was written in (see ``ages``); ``bytes`` are ``memory_bytes``. ``complete``
    is ``flags``: whether the events are one batch, and how their bodies are encoded."""

    place: int
    events: int
    bytes: int
    received: float
    since: float
    complete: int

    @property
    def is_complete(self) -> bool:
        return bool(self.complete & 1)

    @property
    def codec(self) -> int:
        """The encoding of the bodies (``Codec.stored``); rows of versions that knew only JSON have that."""
        return self.complete >> 1


def flags(complete: bool, codec: int) -> int:
    """Both in one number: for JSON the one that earlier versions wrote."""
    return int(complete) | codec << 1


class Part(NamedTuple):
    """The events of one row to be written. ``parked``: the name they are set aside for."""

    head: Head
    events: Sequence[Event]
    parked: str = ""


class Mark(NamedTuple):
    """What of a row is settled: of what is in the file all, of what is to be written what is new."""

    place: int
    bitmap: bytes
    events: int
    bytes: int


class Found(NamedTuple):
    """One row that was read: its events that are not settled, and where in the row they are; None: damaged.

    ``counted``: events and bytes that were not settled, as they were counted without a look at the payload.
    """

    head: Head
    counted: tuple[int, int]
    events: list[Event] | None
    indexes: list[int]


_Item = tuple[str, bytes, int, bytes]
"""What is kept of an event; in its place is None when it is settled and was taken out."""

_item_of = attrgetter("id", "body", "size", "key")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[_Item | None])


def bounds_of(number: int) -> tuple[int, int]:
    """The places of a target lie between these."""
    return number << SEQUENCE_BITS, ((number + 1) << SEQUENCE_BITS) - 1


def make_tables(connection: Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def insert(connection: Connection, parts: Sequence[Part]) -> None:
    if not has_room(connection, sum(part.head.bytes for part in parts)):
        raise no_room(connection)
    for head, events, parked in parts:
        payload = _encoder.encode(list(map(_item_of, events)))
        checksum = _checksum(head, payload)
        row = (*head, checksum, payload)
        connection.execute("INSERT INTO queue_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if parked:
            entry = (head.place, parked, checksum, aside_checksum(head.place, parked, checksum))
            connection.execute("INSERT OR REPLACE INTO queue_aside VALUES (?, ?, ?, ?)", entry)


def insertion(parts: Sequence[Part], removal: Work[Any] | None) -> Work[None]:
    """Writes the parts, in one transaction with what is removed for them."""

    def work(connection: Connection) -> None:
        insert(connection, parts)
        if removal is not None:
            removal(connection)

    return work


def read(
    connection: Connection, after: int, end: int, size: int, ages: Ages, *, parked: bool = False
) -> tuple[list[Found], bool]:
    """The rows behind ``after``: as many as have ``size`` bytes, but one at least. Were these the last?
    ``parked``: those that are parked too."""
    found: list[Found] = []
    with_room = size
    rows = connection.execute(_READ_ALL if parked else _READ, (after, end))
    for values in rows:
        with_room -= values[2]
        if found and with_room < 0:
            return found, False
        found.append(_found(values, ages))
    return found, True


def read_one(connection: Connection, place: int, ages: Ages) -> Found | None:
    """One row; None when it is not there."""
    values = connection.execute(_READ_ONE, (place,)).fetchone()
    return None if values is None else _found(values, ages)


def _found(values: Sequence[Any], ages: Ages) -> Found:
    *head, crc, payload, bitmap, settled_events, settled_bytes, settled_crc = values
    row = Head(*head)
    settled = Mark(row.place, bitmap or b"", settled_events, settled_bytes)
    counted = max(0, row.events - settled_events), max(0, row.bytes - settled_bytes)
    sound = _sound(settled, settled_crc)
    return _decode(row, crc, payload, counted, sound, ages.received_at(row))


def parked_places(connection: Connection, after: int, end: int) -> set[int]:
    """The places of rows that are parked, or were and are not settled."""
    found = "SELECT place FROM queue_aside WHERE place > ? AND place <= ?"
    return {place for (place,) in connection.execute(found, (after, end))}


def delete(connection: Connection, places: Collection[int]) -> None:
    every = [(place,) for place in places]
    connection.executemany("DELETE FROM queue_rows WHERE place = ?", every)
    connection.executemany("DELETE FROM queue_settled WHERE place = ?", every)
    connection.executemany("DELETE FROM queue_aside WHERE place = ?", every)


def mark(connection: Connection, marks: Collection[Mark]) -> None:
    """Add to what is settled of rows; a row that is gone needs no mark, and must not leave one behind."""
    for each in marks:
        found = connection.execute(_MARKED, (each.place,)).fetchone()
        if found is None:
            continue
        row_bytes, length, bitmap, events, size, crc = found
        old = _sound(Mark(each.place, bitmap or b"", events, size), crc)
        both = _added(connection, old, each)
        if both is None:
            continue
        connection.execute(_MARK, (*both, _mark_checksum(both)))
        if length > SHORT_BYTES and 4 * (row_bytes - both.bytes) < length:
            _shorten(connection, both)


def _added(connection: Connection, old: Mark, more: Mark) -> Mark | None:
    """Both marks of a row as one; None when there is nothing new. They may have events in common."""
    known, said = int.from_bytes(old.bitmap, "little"), int.from_bytes(more.bitmap, "little")
    new = said & ~known
    if not new:
        return None
    size = more.bytes if new == said else _bytes_of(connection, more.place, new)
    bitmap = (known | said).to_bytes(len(more.bitmap), "little")
    return Mark(more.place, bitmap, old.events + new.bit_count(), old.bytes + size)


def _shorten(connection: Connection, settled: Mark) -> None:
    """Take the settled events out of a row, so that one that waits for long does not keep all the others."""
    select = f"SELECT {_ROW} FROM queue_rows q WHERE place = ?"
    *head, crc, payload = connection.execute(select, (settled.place,)).fetchone()
    row, gone = Head(*head), int.from_bytes(settled.bitmap, "little")
    if crc != _checksum(row, payload):
        return  # who reads it finds it damaged
    items = [None if gone >> index & 1 else item for index, item in enumerate(_decoder.decode(payload))]
    short = _encoder.encode(items)
    connection.execute(_SHORTEN, (_checksum(row, short), short, row.place))


def set_aside(connection: Connection, places: Collection[int]) -> None:
    """Move damaged rows to where nobody reads them by mistake; the last of them are kept."""
    connection.executemany(_SET_ASIDE, [(place,) for place in places])
    connection.execute(_LET_GO)
    delete(connection, places)


def _bytes_of(connection: Connection, place: int, chosen: int) -> int:
    """What those events of a row hold in memory."""
    payload = connection.execute("SELECT payload FROM queue_rows WHERE place = ?", (place,)).fetchone()
    items = enumerate(_decoder.decode(payload[0]))
    return memory_bytes([Event(*item, 0.0) for index, item in items if item and chosen >> index & 1])


def _decode(
    head: Head, crc: int, payload: bytes, counted: tuple[int, int], settled: Mark, received_at: float
) -> Found:
    try:
        items = _decoder.decode(payload) if crc == _checksum(head, payload) else []
    except msgspec.DecodeError:
        items = []
    if len(items) != head.events or not items:
        return Found(head, counted, None, [])
    gone = int.from_bytes(settled.bitmap, "little")
    keys: dict[bytes, bytes] = {}  # events of one envelope share its bytes, as they did when they came
    events: list[Event] = []
    indexes: list[int] = []
    for index, item in enumerate(items):
        if item is not None and not gone >> index & 1:
            id, body, size, key = item
            events.append(Event(id, body, size, keys.setdefault(key, key), received_at))
            indexes.append(index)
    return Found(head, counted, events, indexes)


def _checksum(head: Head, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(repr(tuple(head)).encode()))


def _mark_checksum(mark: Mark) -> int:
    return zlib.crc32(mark.bitmap, zlib.crc32(repr((mark.place, mark.events, mark.bytes)).encode()))


def aside_checksum(place: int, name: object, row: object) -> int:
    return zlib.crc32(repr((place, name, row)).encode("utf-8", "backslashreplace"))


def _sound(mark: Mark, crc: int | None) -> Mark:
    """The mark as it was read, or one that says nothing."""
    return mark if crc == _mark_checksum(mark) else Mark(mark.place, b"", 0, 0)
