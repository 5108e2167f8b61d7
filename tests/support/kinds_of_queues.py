"""Every kind of queue, made for a test: what the suites that hold for all of them need to know of each.

Invariants:
- What a queue has ``left`` is found as an operator would find it: by what it returns, or by a next process.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

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
from tests.support.queues import name_in
from tests.support.third_queue import registered

LIMITS = Limits(max_events=10, max_bytes=1000, max_event_bytes=1000, max_wait=0.02)


@dataclass(frozen=True)
class Wanted:
    """What a test asks of the queue that it gets."""

    limits: Limits = LIMITS
    max_events: int = 100
    max_bytes: int = 10**9
    clock: Clock = field(default_factory=LoopClock)
    names: Names | None = None


WITHOUT_BOUNDS = partial(Wanted, max_events=10**9, max_bytes=10**12)


class Kind(ABC):
    """Makes queues of one kind."""

    async def __call__(self, limits: Limits = LIMITS, **wanted: Any) -> Queue:
        """``wanted``: as in ``Wanted``."""
        return await self.make(Wanted(limits, **wanted))

    @abstractmethod
    async def make(self, wanted: Wanted) -> Queue:
        """A new queue, open."""

    @abstractmethod
    async def left(self, queue: Queue) -> list[str]:
        """Close the queue: the ids of the events it had, lost or kept."""

    @abstractmethod
    async def close(self) -> None:
        """Leave nothing behind."""


class Memory(Kind):
    async def make(self, wanted: Wanted) -> Queue:
        return MemoryQueue(
            wanted.limits,
            max_events=wanted.max_events,
            max_bytes=wanted.max_bytes,
            clock=wanted.clock,
            metrics=TargetMetrics("t"),
            names=wanted.names,
        )

    async def left(self, queue: Queue) -> list[str]:
        return [event.id for event in await queue.aclose()]

    async def close(self) -> None: ...


class Kept(Kind):
    """Queues that a next process opens again, by the name of their target."""

    def __init__(self) -> None:
        self._numbers = count()
        self._names: dict[int, str] = {}

    async def make(self, wanted: Wanted) -> Queue:
        return await self.open(f"t{next(self._numbers)}", wanted)

    async def open(self, name: str, wanted: Wanted) -> Queue:
        """The queue of this target, with what an earlier one kept."""
        queue = await self.build(name, wanted)
        await queue.open()
        self._names[id(queue)] = name
        return queue

    @abstractmethod
    async def build(self, name: str, wanted: Wanted) -> Queue:
        """The queue of this target, not open yet."""

    async def end(self) -> None:
        """What the end of a process does between two queues."""

    async def left(self, queue: Queue) -> list[str]:
        assert await queue.aclose() == []
        await self.end()
        return await take_everything(await self.open(self._names[id(queue)], WITHOUT_BOUNDS()))


class Disk(Kept):
    """All of its queues in one file. ``front_bytes``: small, so that most events are on the disk only."""

    def __init__(self, directory: Path, front_bytes: int = 16 << 20) -> None:
        super().__init__()
        self._directory = directory
        self._front_bytes = front_bytes
        self._storage: Storage | None = None

    async def build(self, name: str, wanted: Wanted) -> Queue:
        if self._storage is None:
            self._storage = Storage(self._directory, linger=0.0, ballast=Ballast(self._directory, 0))
            await self._storage.open()
        queue = DiskQueue(
            name,
            wanted.limits,
            self._storage,
            max_events=wanted.max_events,
            max_bytes=wanted.max_bytes,
            clock=wanted.clock,
            metrics=TargetMetrics(name),
            front_bytes=self._front_bytes,
            names=wanted.names,
            name_of=name_in,
        )
        return queue

    async def end(self) -> None:
        await self.close()

    async def close(self) -> None:
        if self._storage is not None:
            await self._storage.close()
            self._storage = None


class Journal(Kept):
    """The queue of docs/adding-a-queue.md, in one directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._registered = registered()
        self._registered.__enter__()
        self._opened: list[Any] = []

    async def build(self, name: str, wanted: Wanted) -> Queue:
        parts = QueueParts(
            target=name,
            target_kind="eventbridge",
            limits=wanted.limits,
            max_events=wanted.max_events,
            max_bytes=wanted.max_bytes,
            clock=wanted.clock,
            watch=ClockWatch(wanted.clock),
            metrics=TargetMetrics(name),
            storage=Storage(self._directory),
            codec=STORED_JSON,
            names=wanted.names,
            name_of=name_in,
            boot="",
        )
        kind = QUEUES["journal"]
        options: Any = kind.options
        queue = kind.build(options(directory=str(self._directory)), parts)
        self._opened.append(queue)
        return queue

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
