"""Selects the waiting events that an operator purges, and removes them from rows on the disk, page by page.

Invariants:
- An event leaves its row in the transaction that writes its dead letter. If it is deleted instead, nothing
  else is written.
- A client's own batch leaves whole or stays.
- Events in flight are not removed: the caller says which rows are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forwarder.model import Event, memory_bytes
from forwarder.queues import rows
from forwarder.queues.ages import Ages
from forwarder.queues.queue import Bury, Chosen, Gone, Page
from forwarder.queues.rows import Found, Mark
from forwarder.storage import Connection

PAGE_BYTES = 2 << 20
"""What one step reads, about; its rows are decoded in the storage's thread."""


def purge_page(
    connection: Connection,
    after: int,
    end: int,
    ages: Ages,
    chosen: Chosen,
    name_of: Callable[[int, Event], str | None],
    bury: Bury | None,
    *,
    dry: bool = False,
) -> Page:
    """Remove what is chosen of the rows behind ``after``. ``name_of``: an event's name, by its row's place;
    None when the row is to be left alone. ``bury`` keeps them; ``dry``: only count."""
    found, ended = rows.read(connection, after, end, PAGE_BYTES, ages, parked=True)
    is_wanted = chosen.picks(ages.now)
    gone: list[Gone] = []
    wanted = cost = 0
    for row in found:
        picked = _picked(row, is_wanted, name_of)
        if not picked:
            continue
        events = [event for _, event in picked]
        wanted += len(events)
        cost += sum(len(event.body) + len(event.key) for event in events)
        if not dry:
            if bury is not None:
                bury(connection, events)
            gone.append(_remove(connection, row, picked))
    return Page(gone, found[-1].head.place if found else end, ended, wanted, cost)


def _picked(
    row: Found, is_wanted: Callable[[Event], bool], name_of: Callable[[int, Event], str | None]
) -> list[tuple[int, Event]]:
    """The wanted events of a row, with their places in it."""
    picked = []
    for index, event in zip(row.indexes, row.events or (), strict=True):
        name = name_of(row.head.place, event)
        if name is None:
            return []
        event.name = name
        if is_wanted(event):
            picked.append((index, event))
    return [] if row.head.is_complete and len(picked) != len(row.events or ()) else picked


def _remove(connection: Connection, row: Found, picked: Sequence[tuple[int, Event]]) -> Gone:
    events = [event for _, event in picked]
    place, size = row.head.place, memory_bytes(events)
    if len(events) == len(row.events or ()):
        rows.delete(connection, [place])
        return Gone(place, row.counted[0], row.counted[1])
    bitmap = bytearray((row.head.events + 7) // 8)
    for index, _ in picked:
        bitmap[index >> 3] |= 1 << (index & 7)
    rows.mark(connection, [Mark(place, bytes(bitmap), len(events), size)])
    return Gone(place, len(events), size)
