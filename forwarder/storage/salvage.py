"""What can still be read of a damaged file: row after row, over the parts that cannot be read.

Invariants:
- Reading goes on behind every part that fails, and ends: places only grow.
- Rows are not validated here: SQLite has no checksums, so the caller checks each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

from forwarder.storage.connection import Connection

LAST_PLACE = (1 << 63) - 1

Rescue = Callable[[Connection, Connection], dict[str, int]]
"""Takes what it can from the damaged file (first) into the new one (second); what that was, by name."""

Row = tuple[Any, ...]


def readable(damaged: Connection, query: str) -> Iterator[Row | None]:
    """The rows of ``query``, None for each part that cannot be read.

    Its first column is the rowid; its only parameter is the rowid behind which to begin, in order.
    """
    after: int | None = -1
    while after is not None:
        reached = after
        try:
            for row in damaged.execute(query, (after,)):
                reached = max(reached, row[0])
                yield row
            return
        except (sqlite3.DatabaseError, OverflowError):
            yield None
            after = _readable_again(damaged, query, reached)


def readable_by_key(damaged: Connection, query: str) -> Iterator[Row | None]:
    """The rows of ``query`` over a table without rowids, None if some of them cannot be read.

    ``query`` has a place for the direction in each member of its order. Rows are read from the one end up to
    the damage, and from the other end back to it; those of both ends may be the same.
    """
    for direction in ("ASC", "DESC"):
        try:
            yield from damaged.execute(query.format(direction=direction))
            return
        except (sqlite3.DatabaseError, OverflowError):
            yield None


def read_one(damaged: Connection, query: str, place: int) -> Row | None:
    """One row, None when it is not there or cannot be read."""
    try:
        row: Row | None = damaged.execute(query, (place,)).fetchone()
    except (sqlite3.DatabaseError, OverflowError):
        return None
    return row


def insert(new: Connection, statement: str, row: Row) -> bool:
    """Whether the row was new and fits its table: a damaged one may say anything."""
    try:
        return new.execute(statement, row).rowcount > 0
    except (sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError):
        return False


def _readable_again(damaged: Connection, query: str, after: int) -> int | None:
    """Behind which place reading works again; steps that double find a place, halving the first such."""
    fails, step = after, 1
    while not _reads(damaged, query, after + step):
        fails, step = after + step, step * 2
        if after + step > LAST_PLACE:
            return None
    works = after + step
    while works - fails > 1:
        middle = (works + fails) // 2
        if _reads(damaged, query, middle):
            works = middle
        else:
            fails = middle
    return works


def _reads(damaged: Connection, query: str, after: int) -> bool:
    try:
        damaged.execute(query, (after,)).fetchone()
    except sqlite3.DatabaseError:
        return False
    return True
