"""Stores verified bus names, and what was delivered to each since AWS last said that it exists.

After a restart the events of these names are sent at once, even in an outage; and if a bus was deleted
meanwhile, the deliveries before the restart are known to be unconfirmed.

Invariants:
- Both are in separate tables, which are created when missing. Earlier versions ignore them.
- A name is trusted for one place (region and endpoint), and for ``TRUSTED_SECONDS``. It is verified again in
  the background in any case.
- A moment in the future is that of a clock that was set back since; such a name is trusted.
- Nothing waits for a write. A failed write loses only the names that it would have stored.
- Counts are written once a second where they changed, and at the end. A row without a name says whether the
  last run stopped in order: if it did not, its counts are lower bounds, since its last second is missing.
- At most ``MAX_KNOWN`` names of a target are read and kept, and a bounded number of counts.
- Of a damaged file all is taken over that can be read. If some counts cannot be, the others are lower bounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from forwarder.logs import limited
from forwarder.model import Clock
from forwarder.storage import Connection, Storage, StorageError
from forwarder.storage.salvage import Row, insert, readable_by_key
from forwarder.targets.buses import BusNames
from forwarder.targets.names import MAX_KNOWN
from forwarder.targets.unconfirmed import MAX_WINDOWS, Kept

TRUSTED_SECONDS = 7 * 86_400.0
FRESH_SECONDS = 3_600.0
"""The moment of a name that is asked about every minute is written no more often than this."""

WRITE_SECONDS = 1.0
COUNTS_PER_WRITE = 1_000

_TABLES = (
    """CREATE TABLE IF NOT EXISTS verified_names (
    target TEXT NOT NULL, name TEXT NOT NULL, place TEXT NOT NULL, verified_at REAL NOT NULL,
    PRIMARY KEY (target, name)) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS unconfirmed_events (
    target TEXT NOT NULL, name TEXT NOT NULL, place TEXT NOT NULL, since REAL NOT NULL,
    events INTEGER NOT NULL, exact INTEGER NOT NULL,
    PRIMARY KEY (target, name)) WITHOUT ROWID""",
)
_READ = """SELECT name, verified_at FROM verified_names WHERE target = ? AND place = ?
    AND typeof(verified_at) = 'real' AND verified_at >= ? ORDER BY verified_at LIMIT ?"""
_WRITE = "INSERT OR REPLACE INTO verified_names VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM verified_names WHERE target = ? AND name = ?"
_FORGET_OTHERS = "DELETE FROM verified_names WHERE target = ? AND (place <> ? OR verified_at < ?)"

_READ_COUNTS = """SELECT name, since, events, exact FROM unconfirmed_events
    WHERE target = ? AND place = ? AND name <> '' AND typeof(since) = 'real'
    AND typeof(events) = 'integer' AND events >= 0 LIMIT ?"""
_WRITE_COUNT = "INSERT OR REPLACE INTO unconfirmed_events VALUES (?, ?, ?, ?, ?, ?)"
_FORGET_COUNT = "DELETE FROM unconfirmed_events WHERE target = ? AND name = ?"
_FORGET_COUNTS = "DELETE FROM unconfirmed_events WHERE target = ?"
_FORGET_OTHER_COUNTS = "DELETE FROM unconfirmed_events WHERE target = ? AND place <> ?"
_STOPPED_IN_ORDER = "SELECT exact FROM unconfirmed_events WHERE target = ? AND place = ? AND name = ''"
_NOT_IN_ORDER = "DELETE FROM unconfirmed_events WHERE name = ''"
_ORDER = "ORDER BY target {direction}, name {direction}"
_ALL_NAMES = f"SELECT target, name, place, verified_at FROM verified_names {_ORDER}"
_ALL_COUNTS = f"SELECT target, name, place, since, events, exact FROM unconfirmed_events {_ORDER}"
_TAKE_NAME = "INSERT OR IGNORE INTO verified_names VALUES (?, ?, ?, ?)"
_TAKE_COUNT = "INSERT OR IGNORE INTO unconfirmed_events VALUES (?, ?, ?, ?, ?, ?)"


class _Stored(NamedTuple):
    """What an earlier run left. ``names``: with the moments at which they were verified."""

    names: Mapping[str, float]
    counts: Sequence[Kept]
    complete: bool


class RememberedNames:
    """The names of one target. ``load`` once the storage is open, then ``run``; ``save`` at the end."""

    def __init__(self, target: str, place: str, names: BusNames, storage: Storage, clock: Clock) -> None:
        self._target = target
        self._place = place
        self._names = names
        self._storage = storage
        self._clock = clock
        self._written_at: dict[str, float] = {}
        self._loaded = False
        self._log = structlog.get_logger("target").bind(target=target)

    async def load(self) -> None:
        """Tell the target which names it may trust, and what was delivered to them without an answer."""
        try:
            stored = await self._storage.run(self._read)
        except StorageError as problem:  # they are asked about as if they were new
            self._names.deliveries.lose()
            self._log.warning("verified bus names cannot be read", error=str(problem))
            return
        self._loaded = True
        self._names.remember(stored.names)
        self._names.deliveries.restore(stored.counts, stored.names, complete=stored.complete)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self._save(COUNTS_PER_WRITE)

    async def save(self) -> None:
        """Write all that is new, at the end of the run."""
        await self._save(None)

    def _read(self, connection: Connection) -> _Stored:
        """In the storage's thread. From now on a kill leaves counts that are not complete."""
        wall, target, place = self._clock.wall(), self._target, self._place
        since = wall - TRUSTED_SECONDS
        _make_tables(connection)
        connection.execute(_FORGET_OTHERS, (target, place, since))
        connection.execute(_FORGET_OTHER_COUNTS, (target, place))
        names = connection.execute(_READ, (target, place, since, MAX_KNOWN))
        counts = connection.execute(_READ_COUNTS, (target, place, MAX_WINDOWS))
        end = connection.execute(_STOPPED_IN_ORDER, (target, place)).fetchone()
        stored = _Stored(
            dict(names),
            [Kept(name, at, events, bool(exact)) for name, at, events, exact in counts],
            end is not None and bool(end[0]),
        )
        connection.execute(_WRITE_COUNT, (target, "", place, wall, 0, 0))
        return stored

    async def _save(self, most: int | None) -> None:
        """Write what changed, with at most ``most`` counts. None: write every count, since some may have
        been lost with a damaged file, and record that the run ended in order."""
        target, place, anew = self._target, self._place, most is None or not self._loaded
        kept, gone = self._new_names()
        if most is None:
            self._names.deliveries.save_all()
        counts, dropped = self._names.deliveries.unsaved(most)
        rows = [(target, each.name, place, each.since, each.events, each.exact) for each in counts]
        if most is None:
            rows.append((target, "", place, self._clock.wall(), 0, True))
        if not kept and not gone and not rows and not dropped:
            return

        def write(connection: Connection) -> None:
            _make_tables(connection)  # a file that took the place of a damaged one has none
            if anew:
                connection.execute(_FORGET_COUNTS, (target,))
            connection.executemany(_WRITE, kept)
            connection.executemany(_FORGET, gone)
            connection.executemany(_FORGET_COUNT, [(target, name) for name in dropped])
            connection.executemany(_WRITE_COUNT, rows)

        try:
            await self._storage.run(write)
            self._loaded = True
        except (
            StorageError,
            asyncio.CancelledError,
        ) as problem:  # nobody knows of a write that was cancelled
            self._forget_writes([name for _, name, _, _ in kept])
            self._names.deliveries.not_saved([*(each.name for each in counts), *dropped])
            if isinstance(problem, asyncio.CancelledError):
                raise
            limited(self._log, f"{target} verified names").warning(
                "verified bus names cannot be written", error=str(problem)
            )

    def _new_names(self) -> tuple[list[tuple[str, str, str, float]], list[tuple[str, str]]]:
        """Rows to write, and rows to delete."""
        now, target, place = self._clock.wall(), self._target, self._place
        kept: list[tuple[str, str, str, float]] = []
        gone: list[tuple[str, str]] = []
        for name, exists in self._names.unsaved().items():
            if not exists:
                self._written_at.pop(name, None)
                gone.append((target, name))
            elif abs(now - self._written_at.get(name, float("-inf"))) >= FRESH_SECONDS:
                self._written_at[name] = now
                kept.append((target, name, place, now))
        return kept, gone

    def _forget_writes(self, names: Sequence[str]) -> None:
        for name in names:
            self._written_at.pop(name, None)


def rescue(damaged: Connection, new: Connection) -> dict[str, int]:
    """Take over what can be read of a damaged file; how much that is."""
    _make_tables(new)
    counts = Counter({"verified bus names": 0, "counts of deliveries": 0})
    for name in readable_by_key(damaged, _ALL_NAMES):
        if name is not None and _is_sound(name, (str, str, str, float)):
            counts["verified bus names"] += insert(new, _TAKE_NAME, name)
    complete = True
    for count in readable_by_key(damaged, _ALL_COUNTS):
        if count is None or not _is_sound(count, (str, str, str, float, int, int)):
            complete = False
        elif insert(new, _TAKE_COUNT, count):
            counts["counts of deliveries"] += count[1] != ""
    if not complete:
        new.execute(_NOT_IN_ORDER)
    return counts


def _is_sound(row: Row, types: Sequence[type]) -> bool:
    """These rows have no checksum, but a damaged one may say anything."""
    return all(isinstance(value, kind) for value, kind in zip(row, types, strict=True))


def _make_tables(connection: Connection) -> None:
    for table in _TABLES:
        connection.execute(table)
