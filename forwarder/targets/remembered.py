"""Stores verified bus names on disk: after a restart their events are sent at once, even in an outage.

Invariants:
- The names are in a separate table, which is created when missing. Earlier versions ignore it.
- A name is trusted for one place (region and endpoint), and for ``TRUSTED_SECONDS``. It is verified again in
  the background in any case.
- A moment in the future is that of a clock that was set back since; such a name is trusted.
- Nothing waits for a write. A failed write loses only the names that it would have stored.
- At most ``MAX_KNOWN`` names of a target are read and kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from forwarder.logs import limited
from forwarder.model import Clock
from forwarder.storage import Connection, Storage, StorageError
from forwarder.targets.buses import BusNames
from forwarder.targets.names import MAX_KNOWN

TRUSTED_SECONDS = 7 * 86_400.0
FRESH_SECONDS = 3_600.0
"""The moment of a name that is asked about every minute is written no more often than this."""

WRITE_SECONDS = 1.0

_TABLE = """CREATE TABLE IF NOT EXISTS verified_names (
    target TEXT NOT NULL, name TEXT NOT NULL, place TEXT NOT NULL, verified_at REAL NOT NULL,
    PRIMARY KEY (target, name)) WITHOUT ROWID"""
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'verified_names'"
_READ = """SELECT name FROM verified_names WHERE target = ? AND place = ? AND verified_at >= ?
    ORDER BY verified_at LIMIT ?"""
_WRITE = "INSERT OR REPLACE INTO verified_names VALUES (?, ?, ?, ?)"
_FORGET = "DELETE FROM verified_names WHERE target = ? AND name = ?"
_FORGET_OTHERS = "DELETE FROM verified_names WHERE target = ? AND (place <> ? OR verified_at < ?)"


class RememberedNames:
    """The names of one target. ``load`` once the storage is open, then ``run``."""

    def __init__(self, target: str, place: str, names: BusNames, storage: Storage, clock: Clock) -> None:
        self._target = target
        self._place = place
        self._names = names
        self._storage = storage
        self._clock = clock
        self._written: dict[str, float] = {}
        self._log = structlog.get_logger("target").bind(target=target)

    async def load(self) -> None:
        """Tell the target which names it may trust."""
        wall, target, place = self._clock.wall(), self._target, self._place
        since = wall - TRUSTED_SECONDS

        def read(connection: Connection) -> list[str]:
            if connection.execute(_IS_THERE).fetchone() is None:
                return []
            connection.execute(_FORGET_OTHERS, (target, place, since))
            found = connection.execute(_READ, (target, place, since, MAX_KNOWN))
            return [name for (name,) in found]

        try:
            self._names.remember(await self._storage.run(read))
        except StorageError as problem:  # they are asked about as if they were new
            self._log.warning("verified bus names cannot be read", error=str(problem))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.save()

    async def save(self) -> None:
        """Write what is new."""
        now, target, place = self._clock.wall(), self._target, self._place
        kept: list[tuple[str, str, str, float]] = []
        gone: list[tuple[str, str]] = []
        for name, exists in self._names.unsaved().items():
            if not exists:
                self._written.pop(name, None)
                gone.append((target, name))
            elif abs(now - self._written.get(name, float("-inf"))) >= FRESH_SECONDS:
                self._written[name] = now
                kept.append((target, name, place, now))
        if not kept and not gone:
            return

        def write(connection: Connection) -> None:
            connection.execute(_TABLE)  # a file that took the place of a damaged one has none
            connection.executemany(_WRITE, kept)
            connection.executemany(_FORGET, gone)

        try:
            await self._storage.run(write)
        except StorageError as problem:
            self._forget_writes([name for _, name, _, _ in kept])
            limited(self._log, f"{target} verified names").warning(
                "verified bus names cannot be written", error=str(problem)
            )

    def _forget_writes(self, names: Sequence[str]) -> None:
        for name in names:
            self._written.pop(name, None)
