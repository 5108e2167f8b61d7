"""The targets that have rows in the storage's file: their numbers, totals and boots, and how a queue begins.

Everything here runs in the storage's thread, inside a transaction.

Invariants:
- A target is known by its name and its kind: no kind is handed the events of another.
- An entry of a parked row whose row is gone, or is another one, is dropped.
- Totals are there only after a clean close, and are taken when the queue is opened: old ones cannot be used.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from forwarder.queues.rows import (
    COUNT,
    FROM,
    HEAD,
    LEFT,
    NOT_PARKED,
    Head,
    aside_checksum,
    bounds_of,
    make_tables,
)
from forwarder.storage import Connection

_COUNT = f"SELECT {COUNT} {FROM} WHERE q.place BETWEEN ? AND ?"
_PARKED = f"""SELECT a.place, CAST(a.name AS TEXT), CAST(a.row AS INTEGER), CAST(a.crc AS INTEGER),
    CAST(q.crc AS INTEGER), {LEFT}, {HEAD}
    FROM queue_aside a LEFT JOIN queue_rows q USING (place) LEFT JOIN queue_settled s USING (place)
    WHERE a.place BETWEEN ? AND ? ORDER BY a.place"""


class ParkedRow(NamedTuple):
    """A row that was found parked for a name, with how much of it is not settled."""

    name: str
    head: Head
    events: int
    bytes: int


class Opened(NamedTuple):
    """A target's rows as they were found: how much is not settled, the last place, the oldest, those that are
    parked (``oldest`` is none of them).

    Those after ``own_after`` were written since the machine's last boot.
    """

    number: int
    events: int
    bytes: int
    last: int
    own_after: int
    oldest: Head | None
    parked: list[ParkedRow]


def open_target(connection: Connection, name: str, kind: str, boot: str) -> Opened:
    """Make the tables and the target's number if need be; find what is there, and take the totals.

    ``boot``: of the machine, "" when it is not known.
    """
    make_tables(connection)
    new = "INSERT INTO queue_targets (name, kind) VALUES (?, ?) ON CONFLICT DO NOTHING"
    connection.execute(new, (name, kind))
    own = "SELECT number FROM queue_targets WHERE (name, kind) = (?, ?)"
    (number,) = connection.execute(own, (name, kind)).fetchone()
    first, end = bounds_of(number)
    parked = _parked(connection, first, end)
    among = "FROM queue_rows q WHERE place BETWEEN ? AND ?"
    unparked = f"{among} AND {NOT_PARKED} ORDER BY place LIMIT 1"
    oldest = connection.execute(f"SELECT {HEAD} {unparked}", (first, end)).fetchone()
    last = connection.execute(f"SELECT place {among} ORDER BY place DESC LIMIT 1", (first, end)).fetchone()
    events, size = _totals(connection, number)
    forget_totals(connection, number)
    last_place = last[0] if last else first
    own_after = _own_after(connection, number, last_place, boot)
    return Opened(number, events, size, last_place, own_after, Head(*oldest) if oldest else None, parked)


def _parked(connection: Connection, first: int, end: int) -> list[ParkedRow]:
    """The rows that are parked; entries that say nothing true are dropped."""
    parked: list[ParkedRow] = []
    stale: list[tuple[int]] = []
    for place, name, row, crc, row_crc, events, size, *head in connection.execute(_PARKED, (first, end)):
        if row == row_crc and crc == aside_checksum(place, name, row) and events:
            parked.append(ParkedRow(name, Head(*head), events, size))
        else:
            stale.append((place,))
    connection.executemany("DELETE FROM queue_aside WHERE place = ?", stale)
    return parked


def _own_after(connection: Connection, number: int, last: int, boot: str) -> int:
    """The place behind which every row is of this boot; from now on the rows behind ``last`` are."""
    known = connection.execute("SELECT after, boot FROM queue_boots WHERE number = ?", (number,)).fetchone()
    same = boot and known and known[1] == boot
    own_after = min(known[0], last) if same else last  # places that are free again are given again
    connection.execute("INSERT OR REPLACE INTO queue_boots VALUES (?, ?, ?)", (number, own_after, boot))
    return own_after


def own_after(connection: Connection, number: int, boot: str) -> int:
    """The place behind which every row is of this boot; behind all of them when none is."""
    known = connection.execute("SELECT after, boot FROM queue_boots WHERE number = ?", (number,)).fetchone()
    return int(known[0]) if boot and known and known[1] == boot else bounds_of(number)[1]


def write_totals(connection: Connection, number: int, events: int, size: int) -> None:
    connection.execute("INSERT OR REPLACE INTO queue_totals VALUES (?, ?, ?)", (number, events, size))


def forget_totals(connection: Connection, number: int) -> None:
    """The next start is to count: the rows are no longer what they were at the last close."""
    connection.execute("DELETE FROM queue_totals WHERE number = ?", (number,))


def stranded(connection: Connection, opened: Collection[tuple[str, str]]) -> dict[str, int]:
    """Events that wait for targets (name and kind) which are not among the opened ones."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'queue_targets'").fetchone():
        return {}  # no queue was ever on this disk
    counts: dict[str, int] = {}
    taken = {name for name, _ in opened}
    for number, name, kind in connection.execute("SELECT number, name, kind FROM queue_targets").fetchall():
        if (name, kind) not in opened:
            events, size = _totals(connection, number)
            write_totals(connection, number, events, size)  # true until somebody opens them
            label = f"{name} ({kind})" if name in taken or name in counts else name
            counts[label] = events
    return {label: count for label, count in counts.items() if count}


def _totals(connection: Connection, number: int) -> tuple[int, int]:
    """What is left of a target's rows: as it was written down, else counted row by row."""
    written = connection.execute("SELECT events, bytes FROM queue_totals WHERE number = ?", (number,))
    events, size = written.fetchone() or connection.execute(_COUNT, bounds_of(number)).fetchone()
    return int(events), int(size)
