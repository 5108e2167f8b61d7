"""Requests that wait until it is known what became of their events.

Invariants:
- While nobody waits it costs one truth test per batch: ``if receipts.waits``.
- A waiter gets an event's fate after the event is settled; no wait holds up a queue or a worker.
- An id is kept from before its ``put`` until its fate is known or its wait has ended, and no longer.
- ``close`` ends every wait, and every later one at once: a stop does not wait for delivery confirmation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from forwarder.model import Batch, Dead, Kind, Results

MAX_WAIT_SECONDS = 10.0
"""The longest that an answer waits, and how long it does for ``ack: delivered``."""

DELIVERED = "delivered"


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """An event's fate: ``delivered``, or why it is a dead letter, with AWS's code and message."""

    fate: str
    code: str = ""
    message: str = ""
    aws_id: str = ""


class Wait:
    """One request's wait for the fates of its events.

    ``watch`` before the put, ``forget`` what was not taken, then ``fates``; ``close`` whatever happened.
    """

    __slots__ = ("_ended", "_known", "_receipts", "_unknown")

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._unknown: set[str] = set()
        self._known: dict[str, Receipt] = {}
        self._ended: asyncio.Future[None] | None = None

    @property
    def events(self) -> int:
        """How many events it is about, with a known fate or not."""
        return len(self._unknown) + len(self._known)

    def watch(self, ids: Sequence[str]) -> None:
        self._unknown.update(ids)
        self._receipts.waits.update(dict.fromkeys(ids, self))

    def forget(self, ids: Sequence[str]) -> None:
        self._unknown.difference_update(ids)
        for id in ids:
            self._receipts.waits.pop(id, None)

    async def fates(self, seconds: float) -> Mapping[str, Receipt]:
        """What is known when all is, or after so many seconds, or at ``end``: by event id."""
        if self._unknown and not self._receipts.closed:
            loop = asyncio.get_running_loop()
            self._ended = loop.create_future()
            timer = loop.call_later(seconds, self.end)
            try:
                await self._ended
            finally:
                timer.cancel()
        self.close()
        return self._known

    def end(self) -> None:
        """End the wait: its request goes on with the fates known so far."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def close(self) -> None:
        self.forget(list(self._unknown))

    def tell(self, id: str, receipt: Receipt) -> None:
        self._known[id] = receipt
        self._unknown.discard(id)
        if not self._unknown:
            self.end()


class Receipts:
    """All waits of the daemon. ``waits``: by event id, for each event that has no fate yet."""

    __slots__ = ("closed", "waits")

    def __init__(self) -> None:
        self.waits: dict[str, Wait] = {}
        self.closed = False

    def tell_delivered(self, batch: Batch, results: Results) -> None:
        """AWS accepted these of the batch; they are settled."""
        for event, outcome in zip(batch.events, results.outcomes, strict=True):
            if outcome.kind is Kind.DELIVERED and (wait := self.waits.pop(event.id, None)) is not None:
                wait.tell(event.id, Receipt(DELIVERED, aws_id=outcome.aws_id))

    def tell_dead(self, dead: Sequence[Dead]) -> None:
        """These were given up on; they are kept as dead letters."""
        for each in dead:
            if (wait := self.waits.pop(each.event.id, None)) is not None:
                wait.tell(each.event.id, Receipt(each.reason, each.code, each.message))

    def close(self) -> None:
        """End every wait: the daemon stops."""
        self.closed = True
        for wait in set(self.waits.values()):
            wait.end()
