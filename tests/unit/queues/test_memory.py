"""What only the memory queue has: large puts in slices, and the room that is left beside them."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

from forwarder.metrics import TargetMetrics
from forwarder.model import Event, Limits, SystemClock
from forwarder.queues.memory import NAMED_SLICE_EVENTS, SLICE_EVENTS, MemoryQueue
from tests.support.bus_names import FakeNames
from tests.support.puts import put_in
from tests.support.queues import MANY, named

LIMITS = Limits(max_events=10, max_bytes=100_000, max_event_bytes=500, max_wait=0.0)


def queue_of(max_events: int = MANY) -> MemoryQueue:
    return MemoryQueue(
        LIMITS,
        max_events=max_events,
        max_bytes=MANY,
        clock=SystemClock(),
        metrics=TargetMetrics("orders"),
        names=FakeNames(),
    )


async def steps_of(events: list[Event]) -> list[int]:
    """How many events each turn of the loop adds."""
    queue = queue_of()
    putting = asyncio.create_task(put_in(queue, events))
    seen = [0]
    while not putting.done():
        await asyncio.sleep(0)
        seen.append(len(queue))
    return [after - before for before, after in pairwise(seen) if after > before]


async def test_events_for_many_names_are_added_in_smaller_slices() -> None:
    now = time.monotonic()
    of_many = [event for n in range(2000) for event in named(1, f"bus-{n}", received_at=now)]
    of_one = named(2 * SLICE_EVENTS, "bus", received_at=now)
    assert await steps_of(of_many) == [NAMED_SLICE_EVENTS] * 4
    assert await steps_of(of_one) == [SLICE_EVENTS] * 2


async def test_what_is_still_to_be_added_is_nobodys_room() -> None:
    queue = queue_of(2 * SLICE_EVENTS)
    putting = asyncio.create_task(put_in(queue, named(2 * SLICE_EVENTS, "bus", received_at=time.monotonic())))
    await asyncio.sleep(0)
    assert 0 < len(queue) < 2 * SLICE_EVENTS
    assert queue.room() == 0
    await putting
