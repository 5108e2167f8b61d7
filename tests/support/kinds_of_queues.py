"""Every kind of queue, made for a test: what the suites that hold for all of them need to know of each.

Invariants:
- What a queue has ``left`` is found as an operator would find it: by what it returns, or by a next process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from forwarder.clock import ClockWatch
from forwarder.metrics import TargetMetrics
from forwarder.model import STORED_JSON, Clock, Limits, Names
from forwarder.queues.building import QueueParts
from forwarder.queues.disk import DiskQueue
from forwarder.queues.kinds import QUEUES
from forwarder.queues.memory import MemoryQueue
from forwarder.queues.queue import Queue, Settlement
from forwarder.storage import Storage
from forwarder.storage.ballast import Ballast
from tests.support.clocks import LoopClock
from tests.support.third_queue import registered

LIMITS = Limits(max_events=10, max_bytes=1000, max_event_bytes=1000, max_wait=0.02)


def name_in(body: bytes, key: bytes) -> str:
    """The name in a test's body: what is before its first colon."""
    return body.partition(b":")[0].decode() if b":" in body else ""


class Kind(Protocol):
    """Makes queues of one kind."""

    async def __call__(
        self,
        limits: Limits = LIMITS,
        *,
        max_events: int = 100,
        max_bytes: int = 10**9,
        clock: Clock | None = None,
        names: Names | None = None,
    ) -> Queue: ...

    async def left(self, queue: Queue) -> list[str]:
        """Close the queue: the ids of the events it had, lost or kept."""

    async def close(self) -> None:
        """Leave nothing behind."""


class Memory:
    async def __call__(
        self,
        limits: Limits = LIMITS,
        *,
        max_events: int = 100,
        max_bytes: int = 10**9,
        clock: Clock | None = None,
        names: Names | None = None,
    ) -> Queue:
        return MemoryQueue(
            limits,
            max_events=max_events,
            max_bytes=max_bytes,
            clock=clock or LoopClock(),
            metrics=TargetMetrics("t"),
            names=names,
        )

    async def left(self, queue: Queue) -> list[str]:
        return [event.id for event in await queue.aclose()]

    async def close(self) -> None: ...


class Disk:
    """All of its queues in one file. ``front_bytes``: small, so that most events are on the disk only."""

    def __init__(self, directory: Path, front_bytes: int = 16 << 20) -> None:
        self._directory = directory
        self._front_bytes = front_bytes
        self._storage: Storage | None = None
        self._names: dict[int, str] = {}

    async def __call__(
        self,
        limits: Limits = LIMITS,
        *,
        max_events: int = 100,
        max_bytes: int = 10**9,
        clock: Clock | None = None,
        names: Names | None = None,
    ) -> Queue:
        name = f"t{len(self._names)}"
        queue = await self._open(name, limits, max_events, max_bytes, clock or LoopClock(), names)
        self._names[id(queue)] = name
        return queue

    async def _open(
        self,
        name: str,
        limits: Limits,
        max_events: int,
        max_bytes: int,
        clock: Clock,
        names: Names | None = None,
    ) -> DiskQueue:
        if self._storage is None:
            self._storage = Storage(self._directory, linger=0.0, ballast=Ballast(self._directory, 0))
            await self._storage.open()
        queue = DiskQueue(
            name,
            limits,
            self._storage,
            max_events=max_events,
            max_bytes=max_bytes,
            clock=clock,
            metrics=TargetMetrics(name),
            front_bytes=self._front_bytes,
            names=names,
            name_of=name_in,
        )
        await queue.open()
        return queue

    async def left(self, queue: Queue) -> list[str]:
        assert await queue.aclose() == []
        await self.close()
        again = await self._open(self._names[id(queue)], LIMITS, 10**9, 10**12, LoopClock())
        return await take_everything(again)

    async def close(self) -> None:
        if self._storage is not None:
            await self._storage.close()
            self._storage = None


class Journal:
    """The queue of docs/adding-a-queue.md, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._registered = registered()
        self._registered.__enter__()
        self._opened: list[Any] = []
        self._names: dict[int, str] = {}

    async def __call__(
        self,
        limits: Limits = LIMITS,
        *,
        max_events: int = 100,
        max_bytes: int = 10**9,
        clock: Clock | None = None,
        names: Names | None = None,
    ) -> Queue:
        target = f"t{len(self._names)}"
        queue = await self._open(target, limits, max_events, max_bytes, clock or LoopClock(), names)
        self._names[id(queue)] = target
        return queue

    async def _open(
        self, target: str, limits: Limits, events: int, size: int, clock: Clock, names: Names | None = None
    ) -> Queue:
        parts = QueueParts(
            target=target,
            target_kind="eventbridge",
            limits=limits,
            max_events=events,
            max_bytes=size,
            clock=clock,
            watch=ClockWatch(clock),
            metrics=TargetMetrics(target),
            storage=Storage(self._directory),
            codec=STORED_JSON,
            names=names,
            name_of=name_in,
            boot="",
        )
        kind = QUEUES["journal"]
        options: Any = kind.options
        queue = kind.build(options(directory=str(self._directory)), parts)
        await queue.open()
        self._opened.append(queue)
        return queue

    async def left(self, queue: Queue) -> list[str]:
        assert await queue.aclose() == []
        again = await self._open(self._names[id(queue)], LIMITS, 10**9, 10**12, LoopClock())
        return await take_everything(again)

    async def close(self) -> None:
        for queue in self._opened:
            queue._file.close()  # as the end of a process does
        self._registered.__exit__(None, None, None)


async def take_everything(queue: Queue) -> list[str]:
    """Take and settle until nothing is left: the ids, as they came."""
    queue.drain()
    ids: list[str] = []
    async with asyncio.timeout(30):
        while len(queue):
            assert await queue.ripe()
            while (batch := queue.take()) is not None:
                ids += [event.id for event in batch.events]
                queue.settle(Settlement(gone=batch.events))
    return ids


KINDS: dict[str, Callable[[Path], Kind]] = {
    "memory": lambda directory: Memory(),
    "disk": Disk,
    "journal": Journal,
    "disk with a small front": lambda directory: Disk(directory, front_bytes=4000),
}


@asynccontextmanager
async def kind_of_queue(name: str, directory: Path) -> AsyncIterator[Kind]:
    kind = KINDS[name](directory)
    try:
        yield kind
    finally:
        await kind.close()
