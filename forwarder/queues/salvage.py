"""What is taken over from a damaged file: the rows of every target, what of them is settled, whose they are,
which of them are parked, and which were written since the machine's boot.

Invariants:
- A row keeps its place, so order and the marks beside it hold, and a queue that runs goes on as it was.
- Of a row whose head can be read but not its payload the head is kept: the queue that reads it finds it
  damaged, counts its events, and sets it aside. What has no head left is unknown, and not counted.
- A parked row stays parked. Otherwise a running queue, which knows it as parked, would read it twice.
- No target is given the rows of another: a number whose name is lost gets a name that no target can have.
"""

from __future__ import annotations

from collections import Counter

from forwarder.queues import rows
from forwarder.storage import Connection
from forwarder.storage.salvage import Row, insert, read_one, readable

_NAMES = "SELECT number, name, kind FROM queue_targets WHERE number > ? ORDER BY number"
_HEADS = """SELECT place, events, bytes, received, since, complete, crc
    FROM queue_rows WHERE place > ? ORDER BY place"""
_PAYLOAD = "SELECT payload FROM queue_rows WHERE place = ?"
_MARKS = "SELECT place, bitmap, events, bytes, crc FROM queue_settled WHERE place > ? ORDER BY place"
_SAVED = f"SELECT {rows.COUNT} {rows.FROM} WHERE length(q.payload) > 0"
_TOTALS = "SELECT number, events, bytes FROM queue_totals WHERE number > ? ORDER BY number"
_PARKED = "SELECT place, name, row, crc FROM queue_aside WHERE place > ? ORDER BY place"
_BOOTS = "SELECT number, after, boot FROM queue_boots WHERE number > ? ORDER BY number"


def rescue(damaged: Connection, new: Connection) -> dict[str, int]:
    """Take over what can be read; how much that is."""
    rows.make_tables(new)
    counts = Counter({"events": 0, "rows without their events": 0, "unreadable parts of the queues": 0})
    for name in readable(damaged, _NAMES):
        if name is not None:
            insert(new, "INSERT OR IGNORE INTO queue_targets VALUES (?, ?, ?)", name)
    for head in readable(damaged, _HEADS):
        if problem := _take_over(damaged, new, head):
            counts[problem] += 1
    for mark in readable(damaged, _MARKS):
        if mark is not None:
            insert(new, "INSERT OR IGNORE INTO queue_settled VALUES (?, ?, ?, ?, ?)", mark)
    for totals in readable(damaged, _TOTALS):
        if totals is not None:
            insert(new, "INSERT OR IGNORE INTO queue_totals VALUES (?, ?, ?)", totals)
    for parked in readable(damaged, _PARKED):
        if parked is not None:  # its checksums are looked at when it is read
            insert(new, "INSERT OR IGNORE INTO queue_aside VALUES (?, ?, ?, ?)", parked)
    for number, *boot in filter(None, readable(damaged, _BOOTS)):
        first, end = rows.bounds_of(number)
        if isinstance(boot[0], int) and first <= boot[0] <= end:
            insert(new, "INSERT OR IGNORE INTO queue_boots VALUES (?, ?, ?)", (number, *boot))
    _name_the_nameless(new)
    (counts["events"], _) = new.execute(_SAVED).fetchone()
    return counts


def _take_over(damaged: Connection, new: Connection, head: Row | None) -> str | None:
    """Write the row to the new file; what is lost of it, if anything is."""
    if head is not None:
        (payload,) = read_one(damaged, _PAYLOAD, head[0]) or (b"",)
        if insert(new, "INSERT OR IGNORE INTO queue_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*head, payload)):
            return None if payload else "rows without their events"
    return "unreadable parts of the queues"


def _name_the_nameless(new: Connection) -> None:
    found = f"SELECT DISTINCT place >> {rows.SEQUENCE_BITS} FROM queue_rows"
    for (number,) in new.execute(found).fetchall():
        named = (number, f"? {number}", "")
        insert(new, "INSERT OR IGNORE INTO queue_targets VALUES (?, ?, ?)", named)
