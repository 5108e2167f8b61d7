"""Puts on their way to the disk: which rows they become, and what of them counts before they are there.

Invariants:
- A put is one transaction, in the order of the puts. What was settled before goes first, since it makes room.
- What is on its way counts in the bounds and in the shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from forwarder.model import Clock, Event
from forwarder.queues import rows
from forwarder.queues.ages import NOT_KNOWN
from forwarder.queues.cutting import cut
from forwarder.queues.held import HeldRows
from forwarder.queues.pieces import Piece
from forwarder.queues.rows import Head, Part
from forwarder.queues.settling import Settling
from forwarder.queues.shares import Shares
from forwarder.storage import Storage, Work

Written = Callable[[list[Part], bool], None]
"""Told of the rows of each put that is committed, and whether its events were dead letters."""


class Writing:
    """``next``: the place of the next row. ``events`` and ``bytes``: of what is on its way.

    ``codec``: how the bodies are encoded.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        settling: Settling,
        held: HeldRows,
        shares: Shares | None,
        written: Written,
        codec: int,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._settling = settling
        self._held = held
        self._shares = shares
        self._told = written
        self._codec = codec
        self.next = 0
        self.events = self.bytes = 0

    def expect(self, events: int, size: int) -> None:
        """So much is to be written soon."""
        self.events += events
        self.bytes += size

    def write(
        self, pieces: Sequence[Piece], complete: bool, removal: Work[Any] | None
    ) -> asyncio.Future[None]:
        """Write what was expected. ``removal`` is done in the same transaction."""
        self._settling.flush_done()  # first, since it makes room
        parts = [
            self.part(events, size, complete, piece.name)
            for piece in pieces
            for events, size in cut(piece.events, piece.size, complete)
        ]
        self._share(parts, 1)
        writing = self._storage.submit(rows.insertion(parts, removal))
        # Counted when it is done, whether or not those who asked are still there.
        size = sum(piece.size for piece in pieces)
        writing.add_done_callback(partial(self._written, parts, size, removal is not None))
        return writing

    def part(self, events: Sequence[Event], size: int, complete: bool, parked: str = "") -> Part:
        """One row, at the next place."""
        since, received = self._moments(events)
        place, self.next = self.next, self.next + 1
        flags = rows.flags(complete, self._codec)
        return Part(Head(place, len(events), size, received, since, flags), events, parked)

    def _moments(self, events: Sequence[Event]) -> tuple[float, float]:
        """When the oldest was received, by the monotonic clock of this boot and by the wall clock."""
        to_wall = self._clock.wall() - self._clock.monotonic()
        known = list(map(self._held.received, events)) if self._held.by_wall else []
        if all(at is None for at in known):
            since = min(map(_received_at_of, events))
            return since, since + to_wall
        moments = zip(events, known, strict=True)
        return NOT_KNOWN, min(event.received_at + to_wall if at is None else at for event, at in moments)

    def _share(self, parts: Sequence[Part], sign: int) -> None:
        for head, events, name in parts:
            if name and self._shares is not None:
                self._shares.move(name, events[0].peer, sign * head.events, sign * head.bytes)

    def _written(self, parts: list[Part], size: int, replayed: bool, writing: asyncio.Future[None]) -> None:
        self.expect(-sum(len(part.events) for part in parts), -size)
        self._share(parts, -1)
        if (
            not writing.cancelled() and writing.exception() is None
        ):  # else nothing was taken; who asked is told
            self._told(parts, replayed)


_received_at_of = attrgetter("received_at")
