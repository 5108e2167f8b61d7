"""A disk queue with its storage, and what puts into one until it is killed.

Run as a program, ``support.py DIRECTORY``, it puts batches for ever and says the ids of each when it is ours.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from forwarder.metrics import TargetMetrics
from forwarder.model import Clock, Event, Limits, Names, SystemClock, new_ids
from forwarder.queues import registry
from forwarder.queues.disk import DiskQueue
from forwarder.queues.queue import Queue, Settlement
from forwarder.storage import Storage
from forwarder.storage.ballast import Ballast
from tests.support.puts import put_in

LIMITS = Limits(max_events=10, max_bytes=100_000, max_event_bytes=100_000, max_wait=0.0)
MANY = 10**9


def events(count: int, size: int = 10, key: bytes = b"k", received_at: float = 1000.0) -> list[Event]:
    body = b"x" * size
    return [Event(id, body, size, key, received_at) for id in new_ids(count, time.time())]


def named(count: int, name: str, size: int = 10, peer: str = "p", received_at: float = 1000.0) -> list[Event]:
    """Events for this bus, whose bodies say so."""
    body = f"{name}:".encode() + b"x" * size
    return [
        Event(id, body, size, b"", received_at, name=name, peer=peer) for id in new_ids(count, time.time())
    ]


def name_in(body: bytes, key: bytes) -> str:
    return body.partition(b":")[0].decode() if b":" in body else ""


def ids(some: list[Event]) -> list[str]:
    return [event.id for event in some]


def queue_in(
    storage: Storage,
    name: str = "orders",
    *,
    max_events: int = MANY,
    front_bytes: int = 16 << 20,
    clock: Clock | None = None,
    metrics: TargetMetrics | None = None,
    boot: str = "",
    names: Names | None = None,
) -> DiskQueue:
    return DiskQueue(
        name,
        LIMITS,
        storage,
        max_events=max_events,
        max_bytes=MANY,
        clock=clock or SystemClock(),
        metrics=metrics or TargetMetrics(name),
        front_bytes=front_bytes,
        boot=boot,
        names=names,
        name_of=name_in,
    )


@asynccontextmanager
async def stored(directory: Path, max_bytes: int | None = None) -> AsyncIterator[Storage]:
    storage = Storage(directory, max_bytes=max_bytes, linger=0.0, ballast=Ballast(directory, 0))
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


async def stranded(storage: Storage, opened: list[DiskQueue]) -> dict[str, int]:
    return await storage.run(partial(registry.stranded, opened={queue.stored_as for queue in opened}))


@asynccontextmanager
async def opened(
    directory: Path, *, front_bytes: int = 16 << 20, clock: Clock | None = None, boot: str = ""
) -> AsyncIterator[tuple[DiskQueue, TargetMetrics]]:
    """A queue in its directory; at the end both are closed, in order."""
    metrics = TargetMetrics("orders")
    async with stored(directory) as storage:
        queue = queue_in(storage, front_bytes=front_bytes, clock=clock, metrics=metrics, boot=boot)
        await queue.open()
        yield queue, metrics
        await queue.aclose()


async def take(queue: DiskQueue, count: int) -> list[Event]:
    """Take until so many are taken; they stay in flight."""
    queue.drain()
    taken: list[Event] = []
    async with asyncio.timeout(30):
        while len(taken) < count:
            assert await queue.ripe()
            if (batch := queue.take()) is not None:
                taken += batch.events
    return taken


async def take_all(queue: Queue) -> list[Event]:
    """Take and settle until the queue is empty."""
    queue.drain()
    taken: list[Event] = []
    async with asyncio.timeout(60):
        while len(queue):  # asked again and again: what waits may turn out to be damage, which never ripens
            while (batch := queue.take()) is not None:
                queue.settle(Settlement(gone=batch.events))
                taken += batch.events
            await asyncio.sleep(0.001)
    return taken


async def _put_for_ever(directory: Path) -> None:
    async with opened(directory) as (queue, _):

        async def put() -> None:
            for count in itertools.cycle((1, 10, 100)):
                some = events(count)
                await put_in(queue, some)
                print(*ids(some), flush=True)

        await asyncio.gather(*(put() for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(_put_for_ever(Path(sys.argv[1])))
