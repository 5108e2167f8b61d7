"""Set-aside events of a disk queue on the disk: how they get there, come back, and survive other versions."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from forwarder.metrics import TargetMetrics
from forwarder.model import Event, QueueUnavailable, memory_bytes
from forwarder.queues.disk import DiskQueue
from forwarder.queues.queue import Settlement
from forwarder.queues.salvage import rescue
from forwarder.storage import Connection, Storage, StorageError
from forwarder.storage.ballast import Ballast
from tests.support.bus_names import FakeNames
from tests.support.puts import put_in
from tests.support.queues import ids, named, queue_in, stored, take_all

FRONT = 40_000


async def until_quiet(queue: DiskQueue) -> None:
    for _ in range(30):
        await asyncio.sleep(0.005)


async def taken(queue: DiskQueue, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            assert await queue.ripe()
            if (batch := queue.take()) is not None:
                found += ids(batch.events)
                queue.settle(Settlement(gone=batch.events))
    return found


async def all_come_back(queue: DiskQueue, count: int) -> None:
    """Take so many, and have all of them tried again."""
    flying: list[Event] = []
    async with asyncio.timeout(20):
        while len(flying) < count:
            assert await queue.ripe()
            if (batch := queue.take()) is not None:
                flying += batch.events
    for start in range(count - 10, -1, -10):
        queue.settle(Settlement(retry=flying[start : start + 10]))


def sql(directory: Path, statement: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
        return found


async def test_what_comes_back_is_parked_when_it_is_much_and_keeps_its_order(tmp_path: Path) -> None:
    names = FakeNames()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names, front_bytes=FRONT)
        await queue.open()
        some = named(50, "gone")
        await put_in(queue, some)
        names.closed.add("gone")
        await all_come_back(queue, 50)
        await until_quiet(queue)
        view = queue.view()
        assert (len(queue), queue.sendable, view.waiting_events) == (50, 0, 50)
        assert queue.memory <= FRONT / 4
        assert queue.aside_view()["gone"].events == 50
        names.closed.clear()
        queue.release("gone")
        assert await taken(queue, 50) == ids(some)
        await queue.aclose()


async def test_parked_rows_are_parked_again_after_a_restart(tmp_path: Path) -> None:
    names = FakeNames("gone", "also")
    some, others = named(300, "gone"), named(20, "also")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names, front_bytes=FRONT)
        await queue.open()
        await put_in(queue, some)
        await put_in(queue, others)
        await queue.aclose()
    metrics = TargetMetrics("orders")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names, front_bytes=FRONT, metrics=metrics)
        await queue.open()
        assert {name: view.events for name, view in queue.aside_view().items()} == {"gone": 300, "also": 20}
        assert (metrics.recovered, len(queue), queue.sendable) == (320, 320, 0)
        assert {("gone", ""), ("also", "")} <= set(names.asked)
        names.closed.discard("gone")
        queue.release("gone")
        assert await taken(queue, 300) == ids(some)
        assert len(queue) == 20
        await queue.aclose()


async def test_names_are_no_bytes_of_events_after_a_restart(tmp_path: Path) -> None:
    for each in range(3):  # starts: an error would grow with each
        async with stored(tmp_path) as storage:
            names = FakeNames("one", "two", "three")
            queue = queue_in(storage, names=names)
            await queue.open()
            assert queue.view().waiting_bytes == each * memory_bytes(named(3, "three"))
            await put_in(queue, named(3, "three"))
            await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames())
        await queue.open()
        assert len(await take_all(queue)) == 9
        assert queue.view().waiting_bytes == 0
        await queue.aclose()


async def test_names_that_are_open_at_start_are_released_then(tmp_path: Path) -> None:
    names = FakeNames("gone")
    some = named(300, "gone")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names)
        await queue.open()
        await put_in(queue, some)
        await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames())
        await queue.open()
        assert await taken(queue, 300) == ids(some)
        await queue.aclose()


async def test_rows_of_closed_names_that_an_earlier_version_wrote_hold_up_nothing(tmp_path: Path) -> None:
    """More than the front holds, before events of another name."""
    some, others = named(2000, "gone"), named(10, "here")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)  # which knows no names
        await queue.open()
        for start in range(0, 2000, 50):
            await put_in(queue, some[start : start + 50])
        await put_in(queue, others)
        await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames("gone"), front_bytes=FRONT)
        await queue.open()
        assert await taken(queue, 10) == ids(others)
        async with asyncio.timeout(20):
            while queue.aside_view()["gone"].events < 2000:
                await asyncio.sleep(0.005)
        assert (len(queue), queue.sendable) == (2000, 0)
        queue.release("gone")
        await queue.aclose()


async def test_a_version_that_knows_no_names_finds_each_event_once(tmp_path: Path) -> None:
    """Also when the process is killed right after events were parked."""
    own, copy = tmp_path / "own", tmp_path / "copy"

    def copy_files(connection: Connection) -> None:  # in the storage's thread, right behind the move
        shutil.copytree(own, copy)

    names = FakeNames()
    some = named(60, "gone")
    async with stored(own) as storage:
        queue = queue_in(storage, names=names, front_bytes=FRONT)
        await queue.open()
        await put_in(queue, some)
        names.closed.add("gone")
        await all_come_back(queue, 60)
        await storage.run(lambda connection: None)  # commits the move
        await storage.run(copy_files)
        await queue.aclose()
    assert sql(copy, "SELECT count(*) > 0 FROM queue_aside") == [(1,)]
    sql(copy, "DROP TABLE queue_aside")  # an earlier version would not look at it
    async with stored(copy) as storage:
        queue = queue_in(storage)
        await queue.open()
        assert sorted(ids(await take_all(queue))) == sorted(ids(some))
        await queue.aclose()


async def test_an_entry_for_another_row_is_dropped(tmp_path: Path) -> None:
    """An earlier version may have run in between, and have given the row's place to another."""
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames("gone"))
        await queue.open()
        await put_in(queue, named(5, "gone"))
        await queue.aclose()
    ((place, name, row, crc),) = sql(tmp_path, "SELECT * FROM queue_aside")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
        await take_all(queue)
        await queue.aclose()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
        await put_in(queue, named(5, "here"))
        await queue.aclose()
    assert sql(tmp_path, "SELECT place FROM queue_rows") == [(place,)]
    sql(tmp_path, f"INSERT INTO queue_aside VALUES ({place}, '{name}', {row}, {crc})")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames("gone"))
        await queue.open()
        assert not queue.aside_view()
        assert len(await take_all(queue)) == 5
        await queue.aclose()
    assert sql(tmp_path, "SELECT * FROM queue_aside") == []


async def test_a_damaged_parked_row_is_dropped_counted_and_costs_no_other(tmp_path: Path) -> None:
    names, metrics = FakeNames("gone"), TargetMetrics("orders")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names, metrics=metrics)
        await queue.open()
        some = named(10, "gone")
        await put_in(queue, some[:5])
        await put_in(queue, some[5:])

        def damage(connection: Connection) -> None:
            connection.execute(
                "UPDATE queue_rows SET payload = x'00' WHERE place = (SELECT min(place) FROM queue_rows)"
            )

        await storage.run(damage)
        names.closed.clear()
        queue.release("gone")
        assert await taken(queue, 5) == ids(some[5:])
        assert (metrics.dropped["damaged"], len(queue)) == (5, 0)
        assert metrics.accepted == 10
        await queue.aclose()


async def test_on_a_full_disk_they_stay_in_memory_and_are_parked_when_there_is_room(tmp_path: Path) -> None:
    names = FakeNames()
    async with stored(tmp_path, max_bytes=1 << 20) as storage:
        queue = queue_in(storage, names=names, front_bytes=FRONT)
        await queue.open()
        some = named(50, "gone")
        await put_in(queue, some)
        flying: list[Event] = []
        while len(flying) < 50:
            batch = queue.take()
            assert batch is not None
            flying += batch.events
        filling = 0
        with suppress(QueueUnavailable):
            while True:
                await put_in(queue, named(1, "here", size=6000))
                filling += 1
        names.closed.add("gone")
        queue.settle(Settlement(retry=flying))
        tries: list[object] = []
        submit = storage.submit

        def counting(work: Any, *, within: float | None = None) -> Any:
            tries.append(work)
            return submit(work, within=within)

        storage.submit = counting  # type: ignore[method-assign]
        await until_quiet(queue)
        assert len(tries) < 20  # it does not spin
        view = queue.aside_view()["gone"]
        assert (view.events, queue.sendable) == (50, filling)
        assert await taken(queue, filling)
        async with asyncio.timeout(20):
            while queue.memory > FRONT / 4:
                await asyncio.sleep(0.02)
        names.closed.clear()
        queue.release("gone")
        assert await taken(queue, 50) == ids(some)
        await queue.aclose()


async def test_the_share_counts_parked_rows_and_who_sent_them(tmp_path: Path) -> None:
    names = FakeNames("gone")
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=names, max_events=1000)
        await queue.open()
        await put_in(queue, named(60, "gone", peer="a"))
        await put_in(queue, named(40, "gone", peer="b"))
        assert queue.share_refusal("gone", "a", 1, 10) is not None
        assert queue.share_refusal("gone", "c", 1, 10) is None
        await queue.aclose()
    async with stored(tmp_path) as storage:  # what a restart finds stays, beyond the share too
        queue = queue_in(storage, names=names, max_events=500)
        await queue.open()
        assert len(queue) == 100
        assert queue.share_refusal("gone", "", 1, 10) is not None
        await queue.aclose()


async def test_parked_rows_of_a_file_that_is_replaced_while_in_use_are_read_once(tmp_path: Path) -> None:
    names = FakeNames("gone")
    some, others = named(300, "gone"), named(40, "here")
    storage = Storage(tmp_path, linger=0.0, ballast=Ballast(tmp_path, 0), rescues=(rescue,))
    await storage.open()
    metrics = TargetMetrics("orders")
    queue = queue_in(storage, names=names, front_bytes=FRONT, metrics=metrics)
    await queue.open()
    await put_in(queue, some)
    await put_in(queue, others)
    with pytest.raises(StorageError, match="malformed"):
        await storage.submit(damaged)
    names.closed.clear()
    queue.release("gone")
    assert sorted(await taken(queue, 340)) == sorted(ids([*some, *others]))
    await until_quiet(queue)
    assert (len(queue), metrics.recovered, sum(metrics.dropped.values())) == (0, 0, 0)
    await queue.aclose()
    await storage.close()
    assert sql(tmp_path, "SELECT count(*) FROM queue_rows") == [(0,)]


async def test_rows_of_a_damaged_file_stay_of_this_boot(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, boot="this")
        await queue.open()
        await put_in(queue, named(5, ""))
        await queue.aclose()
    with (tmp_path / "forwarder.db").open("r+b") as file:
        file.write(bytes(100))
    storage = Storage(tmp_path, linger=0.0, ballast=Ballast(tmp_path, 0), rescues=(rescue,))
    await storage.open()
    queue = queue_in(storage, boot="this")
    await queue.open()
    assert len(queue) == 5
    assert queue.knows_ages
    await queue.aclose()
    await storage.close()


def damaged(connection: Connection) -> None:
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    raise error
