"""``queue purge`` on a running daemon: waiting events become dead letters, or are deleted, step by step.

Invariants:
- An event leaves its queue as it becomes a dead letter: on disk in one transaction, in memory once the letter
  is kept. An event whose dead letter cannot be kept stays in the queue.
- Events in flight are not removed. Each step is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from forwarder.dead_letters import ROW_OVERHEAD_BYTES, DeadLetters
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Event
from forwarder.queues.queue import Chosen, Queue, Settlement

STEP_EVENTS, STEP_BYTES = 1_000, 1 << 20
"""Events that become dead letters in one step, at most."""

REASON, CODE = "purged", "operator"
MESSAGE = "purged from the queue by an operator"


class Purged(msgspec.Struct, frozen=True):
    """One step: the events that left, and how to go on: ``after`` of the next step, if there is ``more``."""

    purged: int = 0
    after: int = 0
    more: bool = False


class Wanting(msgspec.Struct, frozen=True):
    """One step of counting: the events that would leave, the bytes they would need as dead letters, and those
    that there is room for."""

    events: int
    bytes: int
    room: int
    after: int = 0
    more: bool = False


class Purging:
    """Of one target's queue."""

    def __init__(
        self,
        target: str,
        queue: Queue,
        letters: DeadLetters,
        metrics: TargetMetrics,
        clock: Clock,
    ) -> None:
        self._target = target
        self._queue = queue
        self._letters = letters
        self._metrics = metrics
        self._clock = clock

    async def count(self, chosen: Chosen) -> Wanting:
        """One step of counting what a purge would remove; what is in flight may be among it."""
        room, each = self._letters.room, ROW_OVERHEAD_BYTES + len(MESSAGE)
        page = await self._queue.purge_rows(chosen, None, dry=True)
        return Wanting(page.wanted, page.cost + page.wanted * each, room, page.after, not page.ended)

    async def step(self, chosen: Chosen) -> Purged:
        """Remove some of what is chosen: first what is in memory, then what is not."""
        is_wanted = chosen.picks(self._clock.monotonic())
        taken = self._queue.take_wanted(is_wanted, STEP_EVENTS)
        if taken:
            await self._end(taken, chosen.delete)
            return Purged(len(taken), chosen.after, more=True)
        bury = None if chosen.delete else self._letters.burial(self._target, REASON, CODE, MESSAGE)
        page = await self._queue.purge_rows(chosen, bury, gone=partial(self._count, delete=chosen.delete))
        purged = sum(gone.events for gone in page.gone)
        if purged and not chosen.delete:
            await self._letters.expire()  # which counts what is there now
        if not page.ended:
            return Purged(purged, page.after, more=True)
        # What was being read when this began is in memory by now.
        if taken := self._queue.take_wanted(is_wanted, STEP_EVENTS):
            await self._end(taken, chosen.delete)
        # Without progress this ends: a batch that stays whole may hold a wanted event for long.
        more = bool(taken) or (purged > 0 and any(map(is_wanted, self._queue.waiting())))
        return Purged(purged + len(taken), page.after, more)

    async def _end(self, taken: Sequence[Event], delete: bool) -> None:
        """These events were removed from the queue, so nothing else will settle them."""
        done = 0
        try:
            for some in [taken] if delete else _chunks(taken):
                if not delete:
                    await self._bury(some)
                self._queue.settle(Settlement(gone=some))
                self._count(len(some), delete=delete)
                done += len(some)
        finally:
            if left := taken[done:]:
                self._queue.settle(Settlement(retry=left))

    async def _bury(self, events: Sequence[Event]) -> None:
        """Keep these as dead letters. A write that has begun completes even if the caller is cancelled."""
        burial = self._letters.burial(self._target, REASON, CODE, MESSAGE)
        burying = asyncio.ensure_future(self._letters.bury(burial, events, self._queue.removal_for(events)))
        while not burying.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([burying])
        await burying

    def _count(self, events: int, *, delete: bool) -> None:
        if delete:
            self._metrics.settled(dropped={REASON: events} if events else {})
        else:
            self._metrics.settled(dead={REASON: events} if events else {})


def _chunks(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """The events in pieces that make one quick write each."""
    start = size = 0
    for index, event in enumerate(events):
        if index > start and size + len(event.body) > STEP_BYTES:
            yield events[start:index]
            start, size = index, 0
        size += len(event.body)
    yield events[start:]
