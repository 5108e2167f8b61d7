"""Events that become dead letters: written first, and only then out of the queue.

Invariants:
- A dead letter leaves the queue as it is written, on disk in one transaction. While it cannot be written, the
  target is held, and the event stays in the queue.
- Events older than ``max_age`` expire also while the gate is closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice

from forwarder.delivery.lane import Lane
from forwarder.model import Dead, Event
from forwarder.queues.queue import Settlement
from forwarder.states import Reason
from forwarder.storage import StorageError

LETTERS = "dead letters"
CHUNK_EVENTS, CHUNK_BYTES = 1_000, 1 << 20
"""Events that become dead letters in one step, at most."""

SWEEP_AGAIN_SECONDS = 0.1


async def bury(lane: Lane, dead: Sequence[Dead]) -> None:
    """Move taken events to the dead letters, as many at a time as there is room for; while not even one can
    be written, hold the target and try again."""
    left, most = deque(dead), CHUNK_EVENTS
    while left:
        some = _chunk(left, most)
        problem = await _keep(lane, some)
        if problem is None:
            for _ in some:
                left.popleft()
        elif problem.reason == "full" and len(some) > 1:
            most = len(some) // 2
        else:
            lane.gate.block(LETTERS, f"dead letters cannot be written: {problem}", Reason.STORAGE)
            await lane.gate.pause()


def _chunk(left: Iterable[Dead], most: int) -> list[Dead]:
    """The first of these, but not more than make one quick write."""
    chunk: list[Dead] = []
    size = 0
    for dead in islice(left, most):
        size += len(dead.event.body)
        if chunk and size > CHUNK_BYTES:
            break
        chunk.append(dead)
    return chunk


async def _keep(lane: Lane, dead: Sequence[Dead]) -> StorageError | None:
    """Write these and let them go; the problem when that is not possible now."""
    events = [each.event for each in dead]
    keeping = asyncio.ensure_future(lane.letters.keep(lane.name, dead, lane.queue.removal_for(events)))
    cancelled = False
    while not keeping.done():
        try:
            await asyncio.wait([keeping])
        except asyncio.CancelledError:
            cancelled = True  # what is being written will be written: wait for it, then go
    problem = keeping.exception()
    if problem is None:
        lane.queue.settle(Settlement(gone=events))
        lane.metrics.settled(dead=Counter(each.reason for each in dead))
        lane.gate.unblock(LETTERS)
    elif not isinstance(problem, StorageError):
        raise problem
    if cancelled:
        raise asyncio.CancelledError
    return problem


async def sweep(lane: Lane) -> None:
    """Give up events older than ``max_age``, also while the gate is closed."""
    interval = min(60.0, max(0.05, lane.policy.max_age / 10))
    found = 0
    while True:
        # What expired may have made way for more of its age, that waited on the disk.
        await asyncio.sleep(min(interval, SWEEP_AGAIN_SECONDS) if found else interval)
        found = await _bury_expired(lane)


async def _bury_expired(lane: Lane) -> int:
    """Give up the events that are too old now; how many. While ``sweep`` waits it keeps hold of none."""
    expired = lane.queue.take_expired(lane.clock.monotonic() - lane.policy.max_age)
    trouble = lane.gate.view().message
    for start in range(0, len(expired), CHUNK_EVENTS):
        dead = [_expired(event, lane, trouble) for event in expired[start : start + CHUNK_EVENTS]]
        await bury(lane, dead)
        lane.receipts.tell_dead(dead)
    return len(expired)


def _expired(event: Event, lane: Lane, trouble: str) -> Dead:
    """Too old; what the event waited for stands in the letter."""
    cause = lane.names.reason(event.name) if lane.names is not None and event.name else ""
    cause = cause or trouble
    message = f"older than max_age; last cause of delay: {cause}" if cause else "older than max_age"
    return Dead(event, "expired", "max_age", message)
