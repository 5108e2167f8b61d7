"""What slow events, bits that flip and writes that fail cost a disk queue: never a sound event."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from forwarder import logs
from forwarder.metrics import TargetMetrics
from forwarder.model import Event, SystemClock, memory_bytes
from forwarder.queues import rows, settling
from forwarder.queues.cutting import ROW_BYTES, ROW_EVENTS, cut
from forwarder.queues.disk import DiskQueue
from forwarder.queues.queue import Settlement
from forwarder.storage import Connection
from tests.support.puts import put_in
from tests.support.queues import LIMITS, events, ids, opened, queue_in, stored, stranded, take, take_all


@pytest.fixture(autouse=True)
def _no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last_lines", {})


def change(directory: Path, sql: str) -> None:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        connection.execute(sql)
        connection.commit()


def count(directory: Path, table: str) -> int:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


async def test_an_event_that_waits_for_long_does_not_keep_its_row_on_the_disk(tmp_path: Path) -> None:
    waiting: list[Event] = []
    async with stored(tmp_path, max_bytes=4 << 20) as storage:
        queue = queue_in(storage)
        await queue.open()
        for _ in range(20):  # of half a megabyte each
            await put_in(queue, events(500, size=1000))
            taken = await take(queue, 500)
            queue.settle(Settlement(gone=taken[:200]))
            queue.flush()
            await storage.run(lambda connection: None)
            await asyncio.sleep(0.06)
            queue.settle(Settlement(gone=taken[200:-1]))
            waiting += taken[-1:]
            await asyncio.sleep(0.06)
        await queue.aclose()
    async with opened(tmp_path) as (queue, metrics):
        assert metrics.recovered == 20
        assert [(event.id, event.body) for event in await take_all(queue)] == [
            (event.id, event.body) for event in waiting
        ]
    assert count(tmp_path, "queue_rows") == 0


async def test_an_event_that_waits_for_long_does_not_keep_the_ids_of_its_row_in_memory(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (queue, _):
        tracemalloc.start()
        for _ in range(8):
            await put_in(queue, events(4096))
            taken = await take(queue, 4096)
            queue.settle(Settlement(gone=taken[:-1]))
            await asyncio.sleep(0.06)
        del taken
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 700_000  # a row with the ids of all its events holds some 300,000 each


async def test_a_mark_that_says_other_events_than_it_did_says_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        queue.settle(Settlement(gone=taken[:5]))
    change(tmp_path, "UPDATE queue_settled SET bitmap = x'e003'")
    async with opened(tmp_path) as (queue, metrics):
        assert ids(await take_all(queue)) == ids(taken)
        assert (metrics.recovered, metrics.dropped["damaged"]) == (10, 0)


HEADS = ("events = -40", "events = 9223372036854775807", "events = 30", "bytes = 'x'", "received = 'abc'")


@pytest.mark.parametrize("totals", [True, False])
@pytest.mark.parametrize("head", HEADS)
async def test_a_damaged_head_costs_its_row_and_no_other(tmp_path: Path, head: str, totals: bool) -> None:
    async with opened(tmp_path) as (queue, _):
        put = [events(10, size=1000) for _ in range(4)]
        for some in put:
            await put_in(queue, some)
    if not totals:
        change(tmp_path, "DELETE FROM queue_totals")
    change(tmp_path, f"UPDATE queue_rows SET {head} WHERE place = (SELECT min(place) FROM queue_rows)")
    async with opened(tmp_path, front_bytes=20_000) as (queue, metrics):
        await put_in(queue, events(2))
        found = ids(await take_all(queue))
        async with asyncio.timeout(10):
            while len(found) < 32:  # what a damaged count hides is found when all is read
                await asyncio.sleep(0.01)
                found += ids(await take_all(queue))
        assert found[:30] == ids([event for some in put[1:] for event in some])
        came = metrics.accepted + metrics.recovered
        assert came == 32 + metrics.dropped["damaged"]
    assert count(tmp_path, "queue_rows") == 0


async def test_only_the_last_damaged_rows_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        for _ in range(rows.DAMAGED_ROWS + 9):
            await put_in(queue, events(1))
    change(tmp_path, "UPDATE queue_rows SET crc = 0")
    async with opened(tmp_path) as (queue, metrics):
        async with asyncio.timeout(10):
            while len(queue):
                await asyncio.sleep(0.01)
    assert metrics.dropped["damaged"] == rows.DAMAGED_ROWS + 9
    assert count(tmp_path, "queue_damaged") == rows.DAMAGED_ROWS


async def test_events_of_one_id_are_each_delivered(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, metrics):
        one = events(3)
        twins = [Event(event.id, b"other", 5, b"k", event.received_at) for event in one]
        await put_in(queue, [*one, twins[0]])
        await put_in(queue, twins[1:])
        taken = await take(queue, 6)
        queue.settle(Settlement(gone=taken[:2]))
        queue.settle(Settlement(gone=taken[2:3]))
        await asyncio.sleep(0.1)
        assert metrics.accepted == 3 + len(queue)
    async with opened(tmp_path) as (queue, _):
        assert [event.body for event in await take_all(queue)] == [b"other"] * 3


def other_kind(queue: DiskQueue, kind: str) -> DiskQueue:
    return DiskQueue(
        queue.stored_as[0],
        LIMITS,
        queue._storage,
        max_events=1000,
        max_bytes=1 << 20,
        clock=SystemClock(),
        metrics=TargetMetrics("orders"),
        kind=kind,
    )


async def test_a_target_of_another_kind_is_not_handed_the_events_of_its_name(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = other_kind(queue_in(storage), "eventbridge")
        await queue.open()
        await put_in(queue, events(5))
        await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = other_kind(queue_in(storage), "rum")
        await queue.open()
        assert len(queue) == 0
        assert await stranded(storage, [queue]) == {"orders (eventbridge)": 5}
        await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = other_kind(queue_in(storage), "eventbridge")
        await queue.open()
        assert len(await take_all(queue)) == 5
        await queue.aclose()


async def test_while_settles_cannot_be_written_only_so_much_more_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "UNWRITTEN_ROWS", 10)
    real, broken = rows.delete, True

    def delete(connection: Connection, places: list[int]) -> None:
        if broken:
            raise sqlite3.OperationalError("no")
        real(connection, places)

    monkeypatch.setattr(rows, "delete", delete)
    async with opened(tmp_path, front_bytes=8000) as (queue, _):
        for _ in range(100):
            await put_in(queue, events(1, size=1000))
        queue.drain()
        ends = asyncio.get_running_loop().time() + 0.5
        settled = 0
        while asyncio.get_running_loop().time() < ends:
            while (batch := queue.take()) is not None:
                queue.settle(Settlement(gone=batch.events))
                settled += len(batch.events)
            await asyncio.sleep(0.005)
        assert 10 <= settled < 40
        broken = False
        assert settled + len(await take_all(queue)) == 100
    assert count(tmp_path, "queue_rows") == 0


@pytest.mark.parametrize("complete", [False, True])
def test_a_put_is_cut_into_rows_of_which_each_knows_its_size(complete: bool) -> None:
    put = [*events(ROW_EVENTS + 5), *events(4, size=600_000), *events(3, key=b"")]
    pieces = list(cut(put, memory_bytes(put), complete))
    assert [event for some, _ in pieces for event in some] == put
    assert all(size == memory_bytes(some) for some, size in pieces)
    assert complete == (len(pieces) == 1)
    assert complete or all(len(some) <= ROW_EVENTS and size <= ROW_BYTES for some, size in pieces)
