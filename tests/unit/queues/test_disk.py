"""The disk queue beyond what holds for every queue: what a next process finds, and what trouble costs."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from forwarder import logs
from forwarder.dead_letters import DeadLetters, list_
from forwarder.model import Dead, QueueFull, QueueUnavailable, SystemClock, memory_bytes
from forwarder.queues.cutting import ROW_EVENTS
from forwarder.queues.queue import Settlement
from forwarder.storage import Connection, Storage, StorageError
from tests.support import queues as support
from tests.support.clocks import HandClock
from tests.support.puts import put_in
from tests.support.queues import events, ids, opened, queue_in, stored, stranded, take, take_all


@pytest.fixture(autouse=True)
def _no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last_lines", {})


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Where a copy goes: what a process that was killed at that moment would leave."""
    return tmp_path / "copy"


def crash(directory: Path, to: Path) -> Path:
    to.mkdir()
    for file in directory.iterdir():
        shutil.copy2(file, to / file.name)
    return to


def rows_of(directory: Path, table: str = "queue_rows") -> int:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


async def until_settled(directory: Path, rows: int) -> None:
    async with asyncio.timeout(10):
        while rows_of(directory) != rows:
            await asyncio.sleep(0.01)


async def test_what_a_killed_process_said_was_its_own_is_there(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, support.__file__, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    promised: list[str] = []
    async with asyncio.timeout(60):
        for _ in range(60):
            promised += (await process.stdout.readline()).decode().split()
        process.send_signal(signal.SIGKILL)
        for line in (await process.stdout.read()).splitlines(keepends=True):
            promised += line.decode().split() if line.endswith(b"\n") else []
        await process.wait()
    async with opened(tmp_path) as (queue, metrics):
        assert metrics.recovered == len(queue) >= len(promised) > 1000
        found = ids(await take_all(queue))
    assert len(set(found)) == len(found)
    assert set(promised) <= set(found)


async def test_a_put_is_on_the_disk_when_it_returns(tmp_path: Path, elsewhere: Path) -> None:
    put = events(25)
    async with opened(tmp_path / "own") as (queue, _):
        await put_in(queue, put)
        crash(tmp_path / "own", elsewhere)
    async with opened(elsewhere) as (queue, metrics):
        assert metrics.recovered == 25
        assert metrics.accepted == 0
        found = await take_all(queue)
    assert [(e.id, e.body, e.size, e.key) for e in found] == [(e.id, e.body, e.size, e.key) for e in put]


@pytest.mark.parametrize("killed", [False, True])
async def test_of_a_put_that_is_settled_in_part_the_rest_is_handed_out_again(
    tmp_path: Path, elsewhere: Path, killed: bool
) -> None:
    put = events(30)
    async with opened(tmp_path / "own") as (queue, _):
        await put_in(queue, put)
        taken = await take(queue, 30)
        queue.settle(Settlement(gone=taken[3:17]))
        queue.settle(Settlement(gone=[taken[29]]))
        while killed and not rows_of(tmp_path / "own", "queue_settled"):
            await asyncio.sleep(0.01)
        if killed:
            crash(tmp_path / "own", elsewhere)
    async with opened(elsewhere if killed else tmp_path / "own") as (queue, metrics):
        assert metrics.recovered == len(queue) == 15
        again = await take(queue, 15)
        assert ids(again) == ids([*put[:3], *put[17:29]])
        queue.settle(Settlement(gone=again[:5]))
    async with opened(elsewhere if killed else tmp_path / "own") as (queue, _):
        assert ids(await take_all(queue)) == ids(again[5:])


async def test_what_is_settled_leaves_the_file_without_another_put(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        for _ in range(5):
            await put_in(queue, events(10))
        queue.settle(Settlement(gone=await take(queue, 50)))
        await until_settled(tmp_path, 0)
        assert rows_of(tmp_path, "queue_settled") == 0


async def test_a_clean_start_counts_nothing_and_one_after_a_crash_counts_the_same(
    tmp_path: Path, elsewhere: Path
) -> None:
    async with opened(tmp_path / "own") as (queue, _):
        for _ in range(3):
            await put_in(queue, events(20))
        queue.settle(Settlement(gone=(await take(queue, 60))[:25]))
    with closing(sqlite3.connect(tmp_path / "own" / "forwarder.db")) as connection:
        totals = connection.execute("SELECT events, bytes FROM queue_totals").fetchall()
    crash(tmp_path / "own", elsewhere)
    with closing(sqlite3.connect(elsewhere / "forwarder.db")) as connection:
        connection.execute("DELETE FROM queue_totals")
        connection.commit()
    async with opened(elsewhere) as (queue, metrics):
        view = queue.view()
        assert [(view.events, view.waiting_bytes)] == totals
        assert metrics.recovered == 35


async def test_totals_are_used_once(tmp_path: Path, elsewhere: Path) -> None:
    """They would be wrong after a crash of the process that they were for."""
    async with opened(tmp_path / "own") as (queue, _):
        await put_in(queue, events(10))
    async with opened(tmp_path / "own") as (queue, _):
        await put_in(queue, events(7))
        crash(tmp_path / "own", elsewhere)
    async with opened(elsewhere) as (queue, _):
        assert len(queue) == 17


async def test_events_beyond_the_front_wait_on_disk_and_leave_in_order(tmp_path: Path) -> None:
    put = [events(10, size=100) for _ in range(200)]
    async with opened(tmp_path, front_bytes=40_000) as (queue, _):
        for some in put:
            await put_in(queue, some)
            assert queue.memory <= 40_000
        assert len(queue) == queue.view().waiting_events == 2000
        assert queue.view().waiting_bytes > 10 * queue.memory
        found: list[str] = []
        queue.drain()
        while len(queue):
            assert await queue.ripe()
            batch = queue.take()
            assert batch is not None
            assert queue.memory <= 40_000
            queue.settle(Settlement(gone=batch.events))
            found += ids(batch.events)
    assert found == [id for some in put for id in ids(some)]


async def test_a_put_does_not_overtake_what_waits_on_the_disk_though_the_front_has_room(
    tmp_path: Path,
) -> None:
    put = [events(10, size=100) for _ in range(50)]
    async with opened(tmp_path, front_bytes=40_000) as (queue, _):
        for some in put[:-1]:
            await put_in(queue, some)
        first = await take(queue, 50)
        queue.settle(Settlement(gone=first))
        await put_in(queue, put[-1])
        found = ids([*first, *await take_all(queue)])
    assert found == [id for some in put for id in ids(some)]


async def test_a_put_larger_than_a_row_is_one_put_all_the_same(tmp_path: Path, elsewhere: Path) -> None:
    put = [*events(ROW_EVENTS + 5), *events(4, size=600_000)]
    async with opened(tmp_path / "own") as (queue, _):
        await put_in(queue, put)
        assert rows_of(tmp_path / "own") == 4  # no row reaches over two slices of a put
        crash(tmp_path / "own", elsewhere)
    async with opened(elsewhere) as (queue, _):
        assert sorted(ids(await take_all(queue))) == sorted(ids(put))


async def test_what_came_as_one_batch_is_one_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, events(25), complete=True)
    async with opened(tmp_path) as (queue, _):
        assert await queue.ripe()
        batch = queue.take()
        assert batch is not None
        assert len(batch.events) == 25


class Clock:
    def __init__(self, wall: float, monotonic: float) -> None:
        self.now = wall, monotonic

    def wall(self) -> float:
        return self.now[0]

    def monotonic(self) -> float:
        return self.now[1]


@pytest.mark.parametrize(("later", "age"), [(100.0, 105.0), (-7200.0, 0.0)])
async def test_events_keep_their_age_over_a_restart_and_it_is_never_negative(
    tmp_path: Path, later: float, age: float
) -> None:
    async with opened(tmp_path, clock=Clock(1_700_000_005.0, 1005.0)) as (queue, _):
        await put_in(queue, events(1, received_at=1000.0))
    async with opened(tmp_path, clock=Clock(1_700_000_005.0 + later, 50.0)) as (queue, _):
        assert queue.view().oldest_at == 50.0 - age
        (found,) = await take_all(queue)
        assert 50.0 - found.received_at == age


async def test_a_step_of_the_wall_clock_changes_no_age_of_what_waits_on_disk(tmp_path: Path) -> None:
    clock = Clock(1_700_000_000.0, 1000.0)
    async with opened(tmp_path, clock=clock, front_bytes=1) as (queue, _):
        for _ in range(3):
            await put_in(queue, events(1, received_at=1000.0))
        clock.now = 1_700_007_200.0, 1000.0
        assert {event.received_at for event in await take_all(queue)} == {1000.0}


@pytest.mark.parametrize("step", [7200.0, -7200.0])
async def test_a_wall_clock_that_was_stepped_between_two_processes_of_one_boot_changes_no_age(
    tmp_path: Path, step: float
) -> None:
    wall = 1_700_000_000.0
    async with opened(tmp_path, clock=Clock(wall, 1000.0), boot="a") as (queue, _):
        await put_in(queue, events(1, received_at=990.0))
    async with opened(tmp_path, clock=Clock(wall + step, 1100.0), boot="a") as (queue, _):
        assert queue.view().oldest_at == 990.0
        await put_in(queue, events(1, received_at=1100.0))
    async with opened(tmp_path, clock=Clock(wall, 1200.0), boot="a", front_bytes=1) as (queue, _):
        assert queue.view().oldest_at == 990.0
        assert [event.received_at for event in await take_all(queue)] == [990.0, 1100.0]


async def test_ages_of_another_boot_are_told_by_the_wall_clock_and_those_of_this_one_are_not(
    tmp_path: Path,
) -> None:
    wall = 1_700_000_000.0
    async with opened(tmp_path, clock=Clock(wall, 50_000.0), boot="a") as (queue, _):
        await put_in(queue, events(2, received_at=50_000.0))
    async with opened(tmp_path, clock=Clock(wall + 100, 10.0), boot="b") as (queue, _):
        await put_in(queue, events(1, received_at=10.0))
    async with opened(tmp_path, clock=Clock(wall + 7300, 110.0), boot="b") as (queue, _):
        assert [110.0 - event.received_at for event in await take_all(queue)] == [7300.0, 7300.0, 100.0]


async def test_places_that_are_given_again_are_of_the_boot_that_gives_them(tmp_path: Path) -> None:
    wall = 1_700_000_000.0
    async with opened(tmp_path, clock=Clock(wall, 50_000.0), boot="a") as (queue, _):
        for _ in range(5):
            await put_in(queue, events(1, received_at=50_000.0))
    async with opened(tmp_path, clock=Clock(wall, 10.0), boot="b") as (queue, _):
        assert len(await take_all(queue)) == 5
    async with opened(tmp_path, clock=Clock(wall, 20.0), boot="b") as (queue, _):
        assert len(queue) == 0
        await put_in(queue, events(1, received_at=20.0))
    async with opened(tmp_path, clock=Clock(wall + 7200, 30.0), boot="b") as (queue, _):
        assert [event.received_at for event in await take_all(queue)] == [20.0]


def damage(directory: Path, change: str) -> None:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        connection.execute(change)
        connection.commit()


@pytest.mark.parametrize(
    "change",
    [
        "SET payload = zeroblob(length(payload))",
        "SET payload = substr(payload, 1, 50) || x'ff' || substr(payload, 52)",
        "SET payload = substr(payload, 1, 50)",
        "SET received = received - 1",
        "SET complete = 1",
        "SET crc = crc + 1",
    ],
)
async def test_a_damaged_row_is_counted_and_set_aside_and_costs_no_other(tmp_path: Path, change: str) -> None:
    put = [events(10) for _ in range(3)]
    async with opened(tmp_path) as (queue, _):
        for some in put:
            await put_in(queue, some)
    damage(tmp_path, f"UPDATE queue_rows {change} WHERE place % 3 = 0")
    async with opened(tmp_path) as (queue, metrics):
        assert metrics.recovered == 30
        found = await take_all(queue)
        assert len(found) == 20
        assert metrics.dropped["damaged"] == 10
        await until_settled(tmp_path, 0)
        assert rows_of(tmp_path, "queue_damaged") == 1
    async with opened(tmp_path) as (queue, metrics):
        assert (len(queue), metrics.recovered, metrics.dropped["damaged"]) == (0, 0, 0)


@pytest.mark.parametrize(("wrong", "recovered", "dropped"), [(99, 99, 79), (3, 20, 0)])
async def test_wrong_totals_are_put_right_in_the_ledger(
    tmp_path: Path, wrong: int, recovered: int, dropped: int
) -> None:
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, events(20))
    damage(tmp_path, f"UPDATE queue_totals SET events = {wrong}")
    async with opened(tmp_path) as (queue, metrics):
        assert len(await take_all(queue)) == 20
        assert (metrics.recovered, metrics.dropped["damaged"]) == (recovered, dropped)


async def test_a_put_whose_caller_is_gone_is_taken_and_counted(tmp_path: Path) -> None:
    put = events(10)
    async with opened(tmp_path) as (queue, metrics):
        putting = asyncio.ensure_future(put_in(queue, put))
        await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert ids(await take(queue, 10)) == ids(put)
        assert metrics.accepted == len(queue) == 10


async def test_the_bound_counts_puts_that_are_on_their_way(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, max_events=15)
        await queue.open()
        answers = await asyncio.gather(*(put_in(queue, events(10)) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), QueueFull, QueueFull]
        assert len(queue) == 10
        await queue.aclose()


async def test_puts_of_one_turn_are_one_row_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    put = [events(3) for _ in range(10)]
    async with opened(tmp_path) as (queue, metrics):
        await asyncio.gather(*map(partial(put_in, queue), put))
        assert rows_of(tmp_path) == 1
        assert (metrics.accepted, len(queue)) == (30, 30)
        assert ids(await take_all(queue)) == [id for some in put for id in ids(some)]


async def test_a_batch_of_a_client_is_its_own_row_and_behind_what_came_before_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        batch = put_in(queue, events(3), complete=True)
        await asyncio.gather(put_in(queue, events(2)), batch, put_in(queue, events(4)))
        with closing(sqlite3.connect(tmp_path / "forwarder.db")) as connection:
            written = connection.execute("SELECT events FROM queue_rows ORDER BY place").fetchall()
    assert written == [(2,), (3,), (4,)]


async def test_a_turn_that_cannot_be_stored_is_refused_to_each_who_put(tmp_path: Path) -> None:
    async with stored(tmp_path, max_bytes=1 << 20) as storage:
        queue = queue_in(storage)
        await queue.open()
        put = [events(1, size=100), events(1, size=2 << 20), events(1, size=100)]
        told = await asyncio.gather(*map(partial(put_in, queue), put), return_exceptions=True)
        assert [type(each) for each in told] == [QueueUnavailable] * 3
        assert len(queue) == rows_of(tmp_path) == 0
        await put_in(queue, put[0])
        assert len(queue) == rows_of(tmp_path) == 1
        await queue.aclose()


async def test_a_full_storage_refuses_and_takes_again_without_reopening(tmp_path: Path) -> None:
    async with stored(tmp_path, max_bytes=1 << 20) as storage:
        queue = queue_in(storage)
        await queue.open()
        for _ in range(3):
            put: list[str] = []
            with pytest.raises(QueueUnavailable, match="full"):  # noqa: PT012 - how many fit is its business
                while True:
                    some = events(7, size=5000)
                    await put_in(queue, some)
                    put += ids(some)
            assert len(queue) == len(put) > 50
            assert ids(await take_all(queue)) == put
            await until_settled(tmp_path, 0)
        await queue.aclose()


def _fill(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS ballast (stuff BLOB)")
    connection.execute("INSERT INTO ballast VALUES (zeroblob(4000))")


async def test_with_no_page_left_what_is_there_still_drains(tmp_path: Path) -> None:
    """Somebody else's rows took the reserve too."""
    async with stored(tmp_path, max_bytes=1 << 20) as storage:
        queue = queue_in(storage)
        await queue.open()
        put = events(60, size=5000)
        await put_in(queue, put[:50])
        await put_in(queue, put[50:])
        with pytest.raises(Exception, match="full"):  # noqa: PT012
            while True:
                await storage.run(_fill)
        taken = await take(queue, 60)
        queue.settle(Settlement(gone=taken[:55]))
        await until_settled(tmp_path, 1)
        queue.settle(Settlement(gone=taken[55:]))
        await until_settled(tmp_path, 0)
        await put_in(queue, events(1))
        await queue.aclose()


async def test_a_put_after_the_storage_is_gone_is_refused(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
    with pytest.raises(QueueUnavailable):
        await put_in(queue, events(1))
    assert queue.view().events == 0
    await queue.aclose()


async def test_a_put_that_is_on_its_way_at_the_close_is_kept(tmp_path: Path) -> None:
    put = events(10)
    async with opened(tmp_path) as (queue, metrics):
        putting = asyncio.ensure_future(put_in(queue, put))
        await asyncio.sleep(0)
        await queue.aclose()
        await putting
        assert metrics.accepted == queue.view().events == 10
    async with opened(tmp_path) as (queue, _):
        assert ids(await take_all(queue)) == ids(put)


async def test_targets_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queues = {name: queue_in(storage, name) for name in ("orders", "web")}
        put = {name: events(30) for name in queues}
        for name, queue in queues.items():
            await queue.open()
            await put_in(queue, put[name])
        for queue in queues.values():
            queue.settle(Settlement(gone=(await take(queue, 30))[:5]))
            await queue.aclose()
    async with stored(tmp_path) as storage:
        web = queue_in(storage, "web")
        await web.open()
        assert await stranded(storage, [web]) == {"orders": 25}
        assert ids(await take_all(web)) == ids(put["web"][5:])
        await web.aclose()
    async with opened(tmp_path) as (orders, _):
        assert ids(await take_all(orders)) == ids(put["orders"][5:])


async def test_a_settled_event_is_not_lost_to_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.queues.settling.AGAIN_SECONDS", 0.05)
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
        await put_in(queue, events(10))
        await storage.run(_forbid_deletes)
        queue.settle(Settlement(gone=await take(queue, 10)))
        await asyncio.sleep(0.15)
        assert rows_of(tmp_path) == 1
        await storage.run(lambda connection: connection.execute("DROP TRIGGER no"))
        await until_settled(tmp_path, 0)
        await queue.aclose()


def _forbid_deletes(connection: Connection) -> None:
    connection.execute(
        "CREATE TRIGGER no BEFORE DELETE ON queue_rows BEGIN SELECT raise(ABORT, 'not now'); END"
    )


async def test_opening_without_a_queue_finds_nothing_stranded(tmp_path: Path) -> None:
    storage = Storage(tmp_path, linger=0.0)
    await storage.open()
    assert await stranded(storage, []) == {}
    await storage.close()


async def test_events_that_are_delayed_do_not_hold_up_what_waits_on_the_disk(tmp_path: Path) -> None:
    put = [events(10, size=100) for _ in range(30)]
    async with opened(tmp_path, front_bytes=60_000) as (queue, _):
        for some in put:
            await put_in(queue, some)
        delayed: list[str] = []
        passed = 0
        while len(delayed) < 60:
            async with asyncio.timeout(10):
                assert await queue.ripe()
            if (batch := queue.take()) is not None:
                for event in batch.events:
                    event.not_before = SystemClock.monotonic() + 60.0
                delayed += ids(batch.events)
                queue.settle(Settlement(retry=batch.events))
        assert queue.memory <= 60_000
        async with asyncio.timeout(10):
            while passed + len(delayed) < 300:
                assert await queue.ripe()
                if (batch := queue.take()) is not None:
                    assert not set(ids(batch.events)) & set(delayed)
                    queue.settle(Settlement(gone=batch.events))
                    passed += len(batch.events)
        assert sorted(ids(await take_all(queue))) == sorted(delayed)


@pytest.mark.parametrize("left", [0, 4])
async def test_a_dead_letter_and_its_removal_are_one_transaction(
    tmp_path: Path, elsewhere: Path, left: int
) -> None:
    """A process that is killed has the letter or the event, never both and never none."""
    async with stored(tmp_path / "own") as storage:
        queue, letters = queue_in(storage), DeadLetters(storage, max_bytes=1 << 30, max_age=1e9)
        await queue.open()
        await letters.open()
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        dead = [Dead(event, "rejected", "other", "no") for event in taken[left:]]
        await letters.keep("orders", dead, queue.removal_for([each.event for each in dead]))
        crash(tmp_path / "own", elsewhere)  # before the queue was told
        queue.settle(Settlement(gone=taken[left:]))
        queue.settle(Settlement(gone=taken[:left]))
        await until_settled(tmp_path / "own", 0)
        await queue.aclose()
    assert [letter.id for letter in list_(elsewhere)] == ids(taken[left:])
    async with opened(elsewhere) as (queue, _):
        assert ids(await take_all(queue)) == ids(taken[:left])


async def test_when_the_letter_cannot_be_written_its_event_stays(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue, letters = queue_in(storage), DeadLetters(storage, max_bytes=1 << 30, max_age=1e9)
        await queue.open()
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        with pytest.raises(StorageError):  # nobody has made its tables
            await letters.keep("orders", [Dead(taken[0], "rejected", "", "")], queue.removal_for(taken[:1]))
        await queue.aclose()
    async with opened(tmp_path) as (queue, _):
        assert ids(await take_all(queue)) == ids(taken)


async def test_marks_of_one_row_add_up_in_any_order_and_are_counted_once(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        first, second = queue.removal_for(taken[:3]), queue.removal_for(taken[2:5])
        for work in (second, first, second):
            await storage.run(work)
        found = await storage.run(
            lambda connection: connection.execute("SELECT events, bytes FROM queue_settled").fetchall()
        )
        assert found == [(5, memory_bytes(taken[:5]))]
        queue.settle(Settlement(gone=taken))
        await until_settled(tmp_path, 0)
        await storage.run(first)  # a row that is gone is left alone
        assert rows_of(tmp_path, "queue_settled") == 0
        await queue.aclose()


async def test_a_damaged_mark_hands_out_its_row_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        queue.settle(Settlement(gone=taken[:5]))
    damage(tmp_path, "UPDATE queue_settled SET bitmap = x'3f00'")
    async with opened(tmp_path) as (queue, metrics):
        assert ids(await take_all(queue)) == ids(taken)
        assert (metrics.recovered, metrics.dropped["damaged"]) == (10, 0)


async def test_what_is_stranded_is_counted_once_and_then_known(tmp_path: Path) -> None:
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, events(7))
    damage(tmp_path, "DELETE FROM queue_totals")  # as after a crash
    async with stored(tmp_path) as storage:
        assert await stranded(storage, []) == {"orders": 7}
    damage(tmp_path, "DELETE FROM queue_rows")
    async with stored(tmp_path) as storage:
        assert await stranded(storage, []) == {"orders": 7}


@pytest.mark.parametrize("step", [30 * 86_400.0, -30 * 86_400.0])
async def test_no_event_of_an_earlier_boot_expires_for_an_hour_whatever_the_wall_clock_says(
    tmp_path: Path, step: float
) -> None:
    clock = HandClock(5_000.0, wall_ahead=1_700_000_000.0)
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, clock=clock, boot="first")
        await queue.open()
        await put_in(queue, events(3, received_at=clock.now))
        await queue.aclose()
    clock.now = 100.0
    clock.wall_ahead += step
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, clock=clock, boot="second")
        await queue.open()
        while not list(queue.waiting()):  # until they are read
            await asyncio.sleep(0.01)
        assert queue.take_expired(clock.now - 86_400.0) == []
        assert not queue.knows_ages, "a worker gives none of them up either"
        clock.now += 3_000.0
        clock.wall_ahead += 30 * 86_400.0
        assert queue.take_expired(clock.now - 86_400.0) == []
        assert len(queue) == 3
        await queue.aclose()


async def test_a_dead_letter_that_is_written_after_the_close_is_not_damage_to_the_next_start(
    tmp_path: Path,
) -> None:
    """A disk that did not answer in time: the letter's write was on its way, and nobody waits for it."""
    hangs = threading.Event()
    async with stored(tmp_path) as storage:
        queue, letters = queue_in(storage), DeadLetters(storage, max_bytes=1 << 30, max_age=1e9)
        await queue.open()
        await letters.open()
        await put_in(queue, events(10))
        taken = await take(queue, 10)
        storage.submit(lambda connection: hangs.wait(30))
        dead = [Dead(event, "rejected", "other", "no") for event in taken[7:]]
        gone = [each.event for each in dead]
        keeping = asyncio.ensure_future(letters.keep("orders", dead, queue.removal_for(gone)))
        await asyncio.sleep(0)
        await queue.aclose()
        hangs.set()
        await keeping
        queue.settle(Settlement(gone=gone))  # as the worker does that waited
        assert len(queue) == 7, "what the last ledger counts"
    async with opened(tmp_path) as (queue, metrics):
        assert ids(await take_all(queue)) == ids(taken[:7])
        assert (metrics.recovered, metrics.dropped["damaged"]) == (7, 0)


@pytest.mark.parametrize("ahead", [20 * 86_400.0, -20 * 86_400.0], ids=["ahead", "behind"])
async def test_events_that_were_read_with_a_wrong_clock_have_their_right_age_once_it_is_put_right(
    tmp_path: Path, ahead: float
) -> None:
    """Those that wait in memory, and those in flight at that moment."""
    clock = HandClock(5_000.0, wall_ahead=1_700_000_000.0)
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, clock=clock, boot="first")
        await queue.open()
        await put_in(queue, events(30, received_at=clock.now))
        await queue.aclose()
    written = clock.wall()
    clock.now, clock.wall_ahead = 100.0, written + 60.0 - 100.0 + ahead
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, clock=clock, boot="second")
        await queue.open()
        flying = await take(queue, 10)
        clock.now, clock.wall_ahead = 400.0, clock.wall_ahead - ahead
        queue.age_again()
        queue.settle(Settlement(retry=flying))
        ages = {round(clock.now - event.received_at) for event in queue.waiting()}
        assert ages == {360}
        clock.now += 3_700.0
        assert queue.knows_ages
        assert queue.take_expired(clock.now - 86_400.0) == []
        assert len(queue.take_expired(clock.now - 4_000.0)) == 30
        await queue.aclose()
