"""How dead letters lie in the storage's file, and what is done to them there.

Everything here runs in the storage's thread, inside a transaction, but ``letter_of`` and ``row_of``.

Invariants:
- A letter has a checksum over all that it says. What does not match is marked as damaged when it is read; it
  is never sent again, and never deleted for that.
- What the table holds is counted in the table's own transaction (triggers), so the numbers never differ from
  the rows, also when somebody deletes rows by hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from forwarder.dead_letters.query import (
    COLUMNS,
    Letter,
    Wanted,
    checksum_of,
    columns_with,
    condition_of,
    values_of,
)
from forwarder.model import STORED_JSON, Dead
from forwarder.storage import Connection
from forwarder.storage.salvage import insert, read_one, readable

ROW_OVERHEAD_BYTES = 250
"""What a row costs in the file beside its texts: id, index, numbers, and its part of half-filled pages."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS dead_letters (
        position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target TEXT NOT NULL, reason TEXT NOT NULL,
        code TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL, received_at REAL NOT NULL,
        died_at REAL NOT NULL, size INTEGER NOT NULL, bytes INTEGER NOT NULL, key BLOB NOT NULL,
        body BLOB NOT NULL, boot TEXT, since REAL, codec INTEGER NOT NULL DEFAULT 0, crc INTEGER)""",
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


_LATER = ("boot TEXT", "since REAL", f"codec INTEGER NOT NULL DEFAULT {STORED_JSON}", "crc INTEGER")
"""Columns that tables of earlier versions lack: the boot in which the event died, when by its clock, how
the body is encoded, and the checksum."""

_PLACES = ", ".join("?" * len(COLUMNS.split(",")))
INSERT = f"""INSERT INTO dead_letters ({COLUMNS}, crc, bytes, boot, since) VALUES ({_PLACES}, ?, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING"""
DELETE = "DELETE FROM dead_letters WHERE id = ?"

_OLDEST_OF = "SELECT position, bytes FROM dead_letters WHERE target = ? ORDER BY position"
_HAS = "SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = '{}' AND cid > ?"
_BEHIND = "WHERE position > ? ORDER BY position"

Totals = dict[str, tuple[int, int]]


class Ages(NamedTuple):
    """Both clocks' moment; ``wall`` is None where nothing is to be aged by it."""

    boot: str
    now: float
    wall: float | None

    def age(self, died_at: float, boot: str | None, since: float | None) -> float:
        if self.boot and boot == self.boot and since is not None:
            return self.now - since
        return 0.0 if self.wall is None else self.wall - died_at


def letter_of(target: str, dead: Dead, received: float, died: float, codec: int) -> Letter:
    event = dead.event
    message = dead.message.encode("utf-8", "replace").decode()  # half a surrogate pair has no place in a file
    numbers = (event.attempts, received, died, event.size)
    return Letter(event.id, target, dead.reason, dead.code, message, *numbers, event.key, event.body, codec)


def row_of(letter: Letter, boot: str, now: float) -> tuple[Any, ...]:
    """For INSERT. ``now``: when the event died, by the monotonic clock of this ``boot``."""
    cost = len(letter.body) + len(letter.key) + len(letter.message) + ROW_OVERHEAD_BYTES
    return (*values_of(letter), checksum_of(letter), cost, boot, now)


def make_tables(connection: Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)
    there = _columns(connection)
    for column in _LATER:
        if column.split()[0] not in there:
            connection.execute(f"ALTER TABLE dead_letters ADD COLUMN {column}")


def _columns(connection: Connection) -> set[str]:
    return {name for _, name, *_ in connection.execute("PRAGMA table_info(dead_letters)")}


def newest(connection: Connection) -> float:
    """When the newest letter's event died, by the wall clock."""
    found = connection.execute("SELECT died_at FROM dead_letters ORDER BY position DESC LIMIT 1").fetchone()
    return float(found[0]) if found else 0.0


def rescue(damaged: Connection, new: Connection) -> dict[str, int]:
    """Take over the letters that can be read; the totals come with them."""
    make_tables(new)
    counts = Counter({"dead letters": 0, "unreadable parts of the dead letters": 0})
    has = {name: bool(read_one(damaged, _HAS.format(name), 0)) for name in ("codec", "crc", "since")}
    moment = "boot, since" if has["since"] else "NULL, NULL"
    columns = f"position, {columns_with(has['codec'], has['crc'])}, bytes, {moment}"
    for row in readable(damaged, f"SELECT {columns} FROM dead_letters {_BEHIND}"):
        if row is None:
            counts["unreadable parts of the dead letters"] += 1
        elif insert(new, INSERT, row[1:]):
            counts["dead letters"] += 1
    return counts


def totals(connection: Connection) -> Totals:
    rows = connection.execute("SELECT target, events, bytes FROM dead_letter_totals WHERE events > 0")
    return {target: (events, size) for target, events, size in rows}


def kept(connection: Connection) -> int:
    (size,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM dead_letter_totals").fetchone()
    return int(size)


def drop_old(connection: Connection, ages: Ages | None, max_age: float) -> Counter[str]:
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


def drop_for_room(connection: Connection, excess: int) -> Counter[str]:
    """Drop so many bytes: the oldest letters of the targets that hold most."""
    dropped = Counter[str]()
    held = {target: size for target, (_, size) in totals(connection).items()}
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


def delete(connection: Connection, wanted: Wanted) -> int:
    condition, values = condition_of(wanted)
    chosen = f"SELECT position FROM dead_letters {condition}"
    return connection.execute(f"DELETE FROM dead_letters WHERE position IN ({chosen})", values).rowcount
