"""Replay, step by step, where a daemon is hard to bring: letters that vanish, batches, disks that refuse."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.control.operations import STEP_LETTERS, LettersOf, Operations, Replayed, TargetHandle
from forwarder.dead_letters import DeadLetters, LettersGone, Wanted
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.metrics import TargetMetrics
from forwarder.model import Dead, Event, Limits, QueueFull, SystemClock
from forwarder.queues.disk import DiskQueue
from forwarder.queues.memory import MemoryQueue
from forwarder.queues.queue import Queue, Settlement
from forwarder.storage import Storage, StorageError
from tests.support.queues import MANY, take_all

LIMITS = Limits(max_events=10, max_bytes=100_000, max_event_bytes=500, max_wait=0.0)
BATCH = b'{"Id":"a","BatchId":"00000000-0000-4000-8000-0000000000aa"}'
SESSION = b'{"Id":"a"}'


class Room:
    """A storage with dead letters, and a target whose queue is in memory or on disk."""

    def __init__(self, directory: Path, storage: Storage, queue: Queue, rum: bool) -> None:
        self.directory = directory
        self.storage = storage
        self.queue = queue
        self.letters = DeadLetters(storage, max_bytes=MANY, max_age=float(MANY))
        gate = Gate("orders", GateOptions(), SystemClock())
        api = PutRumEvents() if rum else PutEvents()
        target = TargetHandle("orders", queue, gate, LIMITS, api.batch_of, api.name_of)
        self.controls = Operations([target], self.letters, SystemClock())

    async def die(self, *sizes: int, key: bytes = b"") -> list[str]:
        start = sum(count for count, _ in self.letters.view().values())
        events = [
            Event(f"id-{start + i:04}", b"x" * size, size, key, 0.0, attempts=9)
            for i, size in enumerate(sizes)
        ]
        await self.letters.keep("orders", [Dead(event, "expired", "max_age", "old") for event in events])
        return [event.id for event in events]

    def ids(self) -> list[str]:
        with closing(sqlite3.connect(self.directory / "forwarder.db")) as connection:
            return [id_ for (id_,) in connection.execute("SELECT id FROM dead_letters ORDER BY position")]

    async def replay(self, limit: int | None = None, after: int | None = None) -> Replayed:
        return await self.controls.replay("orders", Wanted(limit=limit, after=after))

    async def waiting(self) -> list[str]:
        self.queue.drain()
        taken: list[Event] = []
        while len(self.queue):
            batch = self.queue.take()
            assert batch is not None
            taken += batch.events
            self.queue.settle(Settlement(gone=batch.events))
        assert all(event.attempts == 0 and event.received_at > 0 for event in taken)
        return sorted(event.id for event in taken)


@asynccontextmanager
async def room_in(
    directory: Path, kind: str, *, rum: bool = False, max_events: int = MANY, max_bytes: int | None = None
) -> AsyncIterator[Room]:
    storage = Storage(directory, linger=0.0, max_bytes=max_bytes)
    await storage.open()
    clock, metrics = SystemClock(), TargetMetrics("orders")
    queue: Queue
    if kind == "memory":
        queue = MemoryQueue(LIMITS, max_events=max_events, max_bytes=MANY, clock=clock, metrics=metrics)
    else:
        queue = DiskQueue(
            "orders", LIMITS, storage, max_events=max_events, max_bytes=MANY, clock=clock, metrics=metrics
        )
    await queue.open()
    room = Room(directory, storage, queue, rum)
    await room.letters.open()
    try:
        yield room
    finally:
        await queue.aclose()
        await storage.close()


KINDS = pytest.mark.parametrize("kind", ["memory", "disk"])


@KINDS
async def test_a_step_takes_the_oldest_letters_and_says_where_the_next_begins(
    tmp_path: Path, kind: str
) -> None:
    async with room_in(tmp_path, kind) as room:
        ids = await room.die(*[10] * 12)
        step = await room.replay(limit=5)
        assert (step.replayed, step.failed, step.more) == (5, 0, True)
        assert room.ids() == ids[5:]
        assert room.letters.view()["orders"][0] == 7
        assert (await room.replay(after=step.after)).replayed == 7
        assert not (await room.replay()).more
        assert await room.waiting() == ids


@KINDS
async def test_a_step_is_bounded_whatever_was_asked_for(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind) as room:
        await room.die(*[10] * (STEP_LETTERS + 5))
        assert (await room.replay(limit=10**9)).replayed == STEP_LETTERS


@KINDS
async def test_a_letter_that_no_call_could_carry_stays_one_and_costs_no_other(
    tmp_path: Path, kind: str
) -> None:
    async with room_in(tmp_path, kind) as room:
        ids = await room.die(10, 501, 10)
        step = await room.replay()
        assert (step.replayed, step.failed) == (2, 1)
        assert step.problem == f"{ids[1]} has 501 bytes by AWS's formula; target orders accepts at most 500"
        assert room.ids() == [ids[1]]


@KINDS
async def test_of_a_step_only_what_fits_is_taken_and_a_full_queue_takes_none(
    tmp_path: Path, kind: str
) -> None:
    async with room_in(tmp_path, kind, max_events=3) as room:
        ids = await room.die(*[10] * 5)
        step = await room.replay()
        assert (step.replayed, step.more) == (3, True)
        with pytest.raises(QueueFull):
            await room.replay(after=step.after)
        assert await room.waiting() == ids[:3]
        assert (await room.replay(after=step.after)).replayed == 2
        assert room.ids() == []


@KINDS
async def test_a_batch_that_a_client_named_goes_back_whole_whatever_the_limit(
    tmp_path: Path, kind: str
) -> None:
    async with room_in(tmp_path, kind, rum=True, max_events=12) as room:
        await room.die(*[10] * 4, key=SESSION)
        batch = await room.die(*[10] * 9, key=BATCH)
        step = await room.replay(limit=2)
        assert step.replayed == 2, "a session's events need no company"
        step = await room.replay(limit=4, after=step.after)
        assert step.replayed == 2, "the batch has no room, so none of it goes"
        assert room.ids() == batch
        await room.waiting()
        assert (await room.replay(limit=1, after=step.after)).replayed == 9


@KINDS
async def test_a_batch_that_can_never_fit_is_said(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind, rum=True, max_events=5) as room:
        await room.die(*[10] * 6, key=BATCH)
        step = await room.replay()
        assert (step.replayed, step.failed) == (0, 6)
        assert "can never fit" in step.problem


async def test_a_letter_that_vanished_takes_the_whole_put_with_it(tmp_path: Path) -> None:
    async with room_in(tmp_path, "disk") as room:
        ids = await room.die(10, 10)
        events = [Event(id_, b"x", 1, b"", 1.0) for id_ in (*ids, "gone")]
        with pytest.raises(LettersGone):
            await room.queue.take_back(events, LettersOf(room.letters, [*ids, "gone"], set()))
        assert len(room.queue) == 0
        assert room.ids() == ids
        await room.queue.take_back(events[:2], LettersOf(room.letters, ids, set()))
        assert [event.id for event in await take_all(room.queue)] == ids


async def test_a_letter_in_memory_that_could_not_be_removed_is_not_replayed_twice(tmp_path: Path) -> None:
    async with room_in(tmp_path, "memory") as room:
        ids = await room.die(10, 10)
        with closing(sqlite3.connect(tmp_path / "forwarder.db", isolation_level=None)) as other:
            other.execute(
                "CREATE TRIGGER broken BEFORE DELETE ON dead_letters BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
            with pytest.raises(StorageError):
                await room.replay()
            other.execute("DROP TRIGGER broken")
        step = await room.replay()
        assert (step.replayed, step.failed) == (0, 2)
        assert "was replayed already" in step.problem
        assert await room.waiting() == room.ids() == ids


@pytest.mark.parametrize("body", [b"{", b'{"EventBusName": "ord'])
async def test_a_damaged_letter_is_not_replayed_and_costs_no_other(tmp_path: Path, body: bytes) -> None:
    async with room_in(tmp_path, "disk") as room:
        ids = await room.die(10, 10, 10)
        with closing(sqlite3.connect(tmp_path / "forwarder.db", isolation_level=None)) as other:
            other.execute("UPDATE dead_letters SET body = ? WHERE id = ?", (body, ids[1]))
        step = await room.controls.replay("orders", Wanted())
        assert (step.replayed, step.failed) == (2, 1)
        assert step.problem == f"the dead letter {ids[1]} is damaged: its checksum does not match"
        assert room.ids() == [ids[1]]


async def test_a_letter_in_memory_that_vanished_leaves_no_other_behind(tmp_path: Path) -> None:
    async with room_in(tmp_path, "memory") as room:
        ids = await room.die(10, 10)
        await room.letters.remove([ids[0], "gone"])
        assert room.ids() == [ids[1]]
        assert room.letters.view()["orders"][0] == 1


async def test_a_purge_deletes_what_is_wanted_step_by_step(tmp_path: Path) -> None:
    async with room_in(tmp_path, "memory") as room:
        ids = await room.die(*[10] * 5)
        assert await room.controls.purge(Wanted(limit=2)) == 2
        assert room.ids() == ids[2:]
        assert await room.controls.purge(Wanted(reason="rejected")) == 0
        assert await room.controls.purge(Wanted(target="orders")) == 3
        assert room.letters.view() == {}
