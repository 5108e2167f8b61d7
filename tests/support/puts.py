"""A put into a queue, waited for: as ingest does it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from forwarder.model import Event
from forwarder.queues.queue import Queue


async def put_in(queue: Queue, events: Sequence[Event], *, complete: bool = False) -> None:
    """Return when the events are accepted; raises QueueFull or QueueUnavailable."""
    accepting = queue.put_nowait(events, complete=complete)
    if accepting is not None:
        await asyncio.shield(accepting)
