"""A purge of the rows of a disk queue that are on the disk only, step by step.

Invariants:
- While a step runs, no row is read into memory or parked: what is in memory is left to others.
- What left is counted when its transaction is committed, whoever still waits, and also after the queue was
  closed: the ledger is written later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from forwarder.model import Event
from forwarder.queues import rows
from forwarder.queues.ages import RowAges
from forwarder.queues.front import Front
from forwarder.queues.parking import Parking
from forwarder.queues.purging import purge_page
from forwarder.queues.queue import Bury, Chosen, NameOf, Page
from forwarder.queues.tail import Tail
from forwarder.storage import Connection, Storage, Work

Told = Callable[[int], None]


class RowPurge:
    """``last`` returns the last place that is given; ``freed`` is called when rows may be read again."""

    def __init__(
        self,
        storage: Storage,
        front: Front,
        parking: Parking,
        tail: Tail,
        ages: RowAges,
        name_of: NameOf | None,
        last: Callable[[], int],
        freed: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._front = front
        self._parking = parking
        self._tail = tail
        self._ages = ages
        self._name_of = name_of or _no_name
        self._last = last
        self._freed = freed
        self._running = 0
        self.first = 0

    @property
    def is_running(self) -> bool:
        """Rows are being removed; whoever asked may be gone."""
        return self._running > 0

    async def step(self, chosen: Chosen, bury: Bury | None, *, dry: bool, gone: Told) -> Page:
        """See ``DiskQueue.purge_rows``."""
        if dry:
            return await self._storage.submit(self._work(chosen, None, dry), within=0.0)
        self._count(1)
        try:
            if self._tail.is_reading or self._parking.is_busy:
                await self._storage.run(lambda connection: None)  # behind what is under way
            purging = self._storage.submit(self._work(chosen, bury, dry), within=0.0)
            purging.add_done_callback(partial(self._purged, gone))
        except BaseException:
            self._count(-1)
            raise
        return await asyncio.shield(purging)

    def _count(self, more: int) -> None:
        self._running += more
        self._parking.paused = self.is_running

    def _work(self, chosen: Chosen, bury: Bury | None, dry: bool) -> Work[Page]:
        first, end = max(chosen.after, self.first), self._last()
        parked = {each.place: each.name for each in self._front.aside.parked()}
        behind = (
            self._tail.read_to if self._tail.exists else end
        )  # what is in memory is left to ``take_wanted``
        ages, name_of = self._ages.now(), self._name_of

        def work(connection: Connection) -> Page:
            every = rows.parked_places(connection, first, end)

            def name(place: int, event: Event) -> str | None:
                known = parked.get(place)
                if known is None and not dry and (place in every or place <= behind):
                    return None
                return name_of(event.body, event.key) if known is None else known

            return purge_page(connection, first, end, ages, chosen, name, bury, dry=dry)

        return work

    def _purged(self, told: Told, purging: asyncio.Future[Page]) -> None:
        self._count(-1)
        if not purging.cancelled() and purging.exception() is None:
            parked = {each.place: each for each in self._front.aside.parked()}  # of a closed queue none is
            for place, events, size in purging.result().gone:
                if place in parked:
                    self._parking.thinned(parked[place], events, size)
                else:
                    self._tail.shrink(events, size)
            told(sum(gone.events for gone in purging.result().gone))
        self._freed()


def _no_name(body: bytes, key: bytes) -> str:
    return ""
