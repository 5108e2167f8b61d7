"""The disk queues of a directory, read from outside: checked, counted, and written out to be moved.

Invariants:
- Nothing is changed and no lock is taken, so a running daemon is not disturbed; what it changes meanwhile may
  or may not be seen. Only ``purge`` changes rows, and its caller must hold the storage's lock.
- Only events that are not settled are listed, also those of targets that are no longer configured.
- A damaged row is reported; all others are still read.
- What is left of a damaged file is read from a copy with what can be saved, as the daemon would save it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from forwarder.apis.wire import Native
from forwarder.model import Event
from forwarder.queues import registry, rows
from forwarder.queues.ages import Ages
from forwarder.queues.purging import purge_page
from forwarder.queues.queue import Bury, Chosen, NameOf, Page
from forwarder.queues.rows import Found
from forwarder.queues.salvage import rescue
from forwarder.storage import Connection, Storage, StorageError, open_read_only, salvaged

PAGE_BYTES = 8 << 20
PROBLEMS = 20

_TABLE = "SELECT 1 FROM sqlite_master WHERE name = 'queue_targets'"
_TARGETS = "SELECT name, number, kind FROM queue_targets ORDER BY number"
_DEPTH = f"SELECT {rows.COUNT}, min(q.received) {rows.FROM} WHERE q.place BETWEEN ? AND ?"
_ASIDE = "SELECT count(*) FROM queue_damaged WHERE place BETWEEN ? AND ?"

_NO_AGES = Ages(0, 0.0, 0.0)  # moments are told by the wall clock here

AsNative = Callable[[str, int, bytes, bytes], Native | None]
"""From the stored kind and encoding, and an event's body and key, to the event as our own API takes it; None
when there is no such kind, or it has not this encoding."""


class Depth(NamedTuple):
    """What waits for one target. ``oldest``: seconds since 1970, of the oldest row that is there."""

    target: str
    events: int
    bytes: int
    oldest: float | None


class Lost(NamedTuple):
    """Events that cannot be written out, and why."""

    target: str
    events: int
    problem: str

    def __str__(self) -> str:
        return f"{self.target}: {self.events} events not written: {self.problem}"


def depths(directory: Path) -> list[Depth]:
    """What waits on the disk, for every target that ever had a queue there."""
    with open_read_only(directory) as connection:
        return [
            Depth(name, *connection.execute(_DEPTH, rows.bounds_of(number)).fetchone())
            for name, number, _ in _targets(connection)
        ]


def check(directory: Path) -> Iterator[str]:
    """A sentence for each thing that is wrong with the file or with a row in it."""
    with open_read_only(directory) as connection:
        for (problem,) in connection.execute(f"PRAGMA integrity_check({PROBLEMS})").fetchall():
            if problem != "ok":
                yield " ".join(str(problem).split())
        for name, number, _ in _targets(connection):
            for found in _rows_of(connection, number):
                if found.events is None:
                    yield f"{name}: row {found.head.place}: {found.counted[0]} events are damaged"
            (aside,) = connection.execute(_ASIDE, rows.bounds_of(number)).fetchone()
            if aside:
                yield f"{name}: {aside} damaged rows were set aside by the daemon"


class Damage(NamedTuple):
    """The file is damaged: what is wrong, and what could be read nevertheless."""

    problem: str

    def __str__(self) -> str:
        return self.problem


class UnknownTargetError(Exception):
    """No such target has a queue on this disk; the argument says which have."""


def dump(where: Path, as_native: AsNative, only: str | None = None) -> Iterator[bytes | Lost | Damage]:
    """The events that wait, as lines that ``forwarder send`` takes, target by target, in their order."""
    written = -1
    try:
        for name, kind, found in _every_row(where, only, written):
            yield from _lines(name, found, partial(as_native, kind, found.head.codec))
            written = found.head.place
    except StorageError as error:
        if error.reason != "damaged":
            raise
        with salvaged(where, (rescue,)) as (copy, saved):
            yield Damage(f"{error}; {saved}")
            for name, kind, found in _every_row(copy, only, written):
                yield from _lines(name, found, partial(as_native, kind, found.head.codec))


class Offline(NamedTuple):
    """What a purge without a daemon needs: how events are named by the kind of their target, how they are
    kept, by that kind (None: deleted), and the moment by both clocks in this boot of the machine."""

    name_of: Callable[[str], NameOf]
    bury: Callable[[str], Bury] | None
    wall: float
    now: float
    boot: str


async def purge(
    storage: Storage, target: str, chosen: Chosen, offline: Offline, *, dry: bool = False
) -> tuple[int, int]:
    """Remove what is chosen of a target's events, with the storage's lock in hand: how many that were, and
    the bytes of their bodies and keys. UnknownTargetError when it never had a queue here."""
    numbers = await storage.run(lambda connection: _numbers(connection, target))
    wanted = cost = 0
    for number, kind in numbers:
        first, end = rows.bounds_of(number)
        own_after = await storage.run(partial(registry.own_after, number=number, boot=offline.boot))
        ages = Ages(own_after, offline.wall, offline.now)
        after, ended = first, False
        while not ended:
            name_of = partial(_name_by, offline.name_of(kind))
            bury = None if offline.bury is None else offline.bury(kind)
            page = await storage.run(
                partial(_purge_page, number, after, end, ages, chosen, name_of, bury, dry)
            )
            after, ended = page.after, page.ended
            wanted += page.wanted
            cost += page.cost
    return wanted, cost


def _purge_page(
    number: int,
    after: int,
    end: int,
    ages: Ages,
    chosen: Chosen,
    name_of: Callable[[int, Event], str],
    bury: Bury | None,
    dry: bool,
    connection: Connection,
) -> Page:
    page = purge_page(connection, after, end, ages, chosen, name_of, bury, dry=dry)
    if page.gone:
        registry.forget_totals(connection, number)
    return page


def _name_by(name_of: NameOf, place: int, event: Event) -> str:
    return name_of(event.body, event.key)


def _numbers(connection: Connection, target: str) -> list[tuple[int, str]]:
    rows.make_tables(connection)
    found = connection.execute("SELECT number, name, kind FROM queue_targets ORDER BY number").fetchall()
    numbers = [(number, kind) for number, name, kind in found if name == target]
    if not numbers:
        raise UnknownTargetError(", ".join(dict.fromkeys(name for _, name, _ in found)) or "none")
    return numbers


def _every_row(where: Path, only: str | None, behind: int) -> Iterator[tuple[str, str, Found]]:
    """Each row with the name and the kind of its target."""
    with open_read_only(where) as connection:
        targets = _targets(connection)
        if only is not None and only not in (names := [name for name, _, _ in targets]):
            raise UnknownTargetError(", ".join(dict.fromkeys(names)) or "none")
        for name, number, kind in targets:
            if only in (None, name):
                for found in _rows_of(connection, number, behind):
                    yield name, kind, found


def _targets(connection: Connection) -> list[tuple[str, int, str]]:
    """Every target that ever had a queue on this disk, with its number and its kind."""
    return connection.execute(_TARGETS).fetchall() if connection.execute(_TABLE).fetchone() else []


def _rows_of(connection: Connection, number: int, behind: int = -1) -> Iterator[Found]:
    """One read after the other, so that a running daemon's log need not grow."""
    first, end = rows.bounds_of(number)
    after = max(first, behind)
    were_last = after >= end
    while not were_last:
        found, were_last = rows.read(connection, after, end, PAGE_BYTES, _NO_AGES, parked=True)
        yield from found
        after = found[-1].head.place if found else end


def _lines(
    target: str, found: Found, as_native: Callable[[bytes, bytes], Native | None]
) -> Iterator[bytes | Lost]:
    if found.events is None:
        yield Lost(target, found.counted[0], f"row {found.head.place} is damaged")
        return
    for event in found.events:
        native = as_native(event.body, event.key)
        if native is None:
            yield Lost(target, 1, f"{event.id} has an unknown kind")
            continue
        line = {"target": target, "id": event.id, "event": msgspec.Raw(native.event)}
        yield msgspec.json.encode({**line, "batch": native.batch} if native.batch else line) + b"\n"
