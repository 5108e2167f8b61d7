"""Purging a queue, step by step: what is waiting goes, what is in flight stays, and the ledger adds up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.control.operations import Operations, TargetHandle
from forwarder.dead_letters import DeadLetters, LettersFull
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.metrics import TargetMetrics
from forwarder.model import Limits, QueueFull, SystemClock
from forwarder.queues.disk import DiskQueue
from forwarder.queues.memory import MemoryQueue
from forwarder.queues.queue import Chosen, Queue, Settlement
from forwarder.storage import Storage
from forwarder.storage.directory import leave_marker
from tests.support.bus_names import FakeNames
from tests.support.puts import put_in
from tests.support.queues import MANY, ids, name_in, named, queue_in, stored, take_all

LIMITS = Limits(max_events=10, max_bytes=100_000, max_event_bytes=500, max_wait=0.0)
KINDS = pytest.mark.parametrize("kind", ["memory", "disk", "disk with a small front"])


class Room:
    def __init__(self, directory: Path, storage: Storage, kind: str, names: FakeNames, bytes_: int) -> None:
        self.directory = directory
        self.metrics = TargetMetrics("orders")
        clock = SystemClock()
        self.queue: Queue
        if kind == "memory":
            self.queue = MemoryQueue(
                LIMITS, max_events=MANY, max_bytes=MANY, clock=clock, metrics=self.metrics, names=names
            )
        else:
            self.queue = DiskQueue(
                "orders",
                LIMITS,
                storage,
                max_events=MANY,
                max_bytes=MANY,
                clock=clock,
                metrics=self.metrics,
                front_bytes=5000 if "small" in kind else 16 << 20,
                names=names,
                name_of=name_in,
            )
        self.letters = DeadLetters(storage, max_bytes=bytes_, max_age=float(MANY))
        gate = Gate("orders", GateOptions(), clock)
        target = TargetHandle("orders", self.queue, gate, LIMITS, lambda key: "", name_in, self.metrics)
        self.controls = Operations([target], self.letters, clock)

    def dead(self) -> list[str]:
        with closing(sqlite3.connect(self.directory / "forwarder.db")) as connection:
            found = "SELECT id FROM dead_letters WHERE reason = 'purged' ORDER BY id"
            return [id_ for (id_,) in connection.execute(found)]

    async def purge(self, chosen: Chosen) -> int:
        purged, after = 0, 0
        while True:
            asked = Chosen(chosen.name, chosen.older_than, chosen.delete, after)
            step = await self.controls.purge_queue("orders", asked)
            purged += step.purged
            if not step.more:
                return purged
            after = step.after

    def ledger_adds_up(self) -> bool:
        m = self.metrics
        out = m.delivered + sum(m.dead_lettered.values()) + sum(m.dropped.values())
        return m.accepted + m.recovered + m.replayed == out + len(self.queue)


@asynccontextmanager
async def room_in(
    directory: Path, kind: str, names: FakeNames | None = None, letters_bytes: int = MANY
) -> AsyncIterator[Room]:
    storage = Storage(directory, linger=0.0)
    await storage.open()
    room = Room(directory, storage, kind, names or FakeNames(), letters_bytes)
    await room.letters.open()
    await room.queue.open()
    try:
        yield room
    finally:
        await room.queue.aclose()
        await storage.close()


@KINDS
async def test_what_waits_becomes_dead_letters_set_aside_or_not(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind, FakeNames("gone")) as room:
        now = time.monotonic()
        apart = named(700, "gone", received_at=now)
        others = named(900, "here", received_at=now)
        for start in range(0, 700, 100):
            await put_in(room.queue, apart[start : start + 100])
            await put_in(room.queue, others[start : start + 100])
        await put_in(room.queue, others[700:])
        assert await room.purge(Chosen(name="gone")) == 700
        assert room.dead() == sorted(ids(apart))
        assert (len(room.queue), room.ledger_adds_up()) == (900, True)
        assert await room.purge(Chosen()) == 900
        assert room.dead() == sorted(ids([*apart, *others]))
        assert (len(room.queue), room.metrics.dead_lettered["purged"]) == (0, 1600)
        assert room.ledger_adds_up()
        view = room.queue.view()
        assert (view.waiting_bytes, view.in_flight_bytes) == (0, 0)
        assert room.letters.view()["orders"][0] == 1600


@KINDS
async def test_what_is_in_flight_is_left(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind) as room:
        some = named(100, "here", received_at=time.monotonic())
        await put_in(room.queue, some)
        assert await room.queue.ripe()
        batch = room.queue.take()
        assert batch is not None
        assert await room.purge(Chosen()) == 90
        assert room.dead() == sorted(ids(some[10:]))
        room.queue.settle(Settlement(gone=batch.events))
        room.metrics.settled(delivered=10)
        assert (len(room.queue), room.ledger_adds_up()) == (0, True)


@KINDS
async def test_deleting_counts_them_as_dropped(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind) as room:
        await put_in(room.queue, named(50, "here", received_at=time.monotonic()))
        assert await room.purge(Chosen(delete=True)) == 50
        assert (room.dead(), room.metrics.dropped["purged"], len(room.queue)) == ([], 50, 0)
        assert room.ledger_adds_up()


@KINDS
async def test_only_older_ones_leave_when_an_age_is_given(tmp_path: Path, kind: str) -> None:
    async with room_in(tmp_path, kind) as room:
        now = time.monotonic()
        old, young = named(30, "here", received_at=now - 7200), named(30, "here", received_at=now)
        await put_in(room.queue, old)
        await put_in(room.queue, young)
        assert await room.purge(Chosen(older_than=3600.0)) == 30
        assert room.dead() == sorted(ids(old))


@KINDS
async def test_it_is_counted_first_and_refused_when_the_letters_have_no_room(
    tmp_path: Path, kind: str
) -> None:
    async with room_in(tmp_path, kind, letters_bytes=3000) as room:
        some = named(40, "here", size=100, received_at=time.monotonic())
        await put_in(room.queue, some)
        count = await room.controls.count_queue("orders", Chosen())
        assert (count.events, count.more, count.room) == (40, False, 3000)
        assert count.bytes > count.room
        with pytest.raises(LettersFull):
            await room.purge(Chosen())
        assert room.dead() == []
        assert (len(room.queue), room.queue.view().in_flight_events) == (40, 0)
        assert room.ledger_adds_up()
        assert room.letters.view() == {}


async def test_what_was_counted_is_what_is_needed(tmp_path: Path) -> None:
    async with room_in(tmp_path, "disk") as room:
        await put_in(room.queue, named(40, "here", size=100, received_at=time.monotonic()))
        count = await room.controls.count_queue("orders", Chosen())
        await room.purge(Chosen())
        assert room.letters.view()["orders"] == (40, count.bytes)


@KINDS
async def test_a_batch_that_stays_whole_ends_the_purge(tmp_path: Path, kind: str) -> None:
    """A refused call's part holds events for two buses, and only one of them is to be purged."""
    async with room_in(tmp_path, kind) as room:
        now = time.monotonic()
        await put_in(room.queue, [*named(3, "gone", received_at=now), *named(3, "here", received_at=now)])
        batch = room.queue.take()
        assert batch is not None
        room.queue.settle(Settlement(parts=[batch.events]))
        async with asyncio.timeout(5):
            assert await room.purge(Chosen(name="gone")) == 0
        assert (len(room.queue), room.ledger_adds_up()) == (6, True)


async def test_the_ledger_adds_up_in_every_turn_of_the_loop(tmp_path: Path) -> None:
    async with room_in(tmp_path, "disk with a small front", FakeNames("gone")) as room:
        for _ in range(20):
            await put_in(room.queue, named(100, "gone", received_at=time.monotonic()))
        loop = asyncio.get_running_loop()
        uneven: list[bool] = []

        def look() -> None:
            uneven.append(not room.ledger_adds_up())
            loop.call_soon(look)

        look()
        assert await room.purge(Chosen()) == 2000
        assert not any(uneven)


async def test_a_purge_whose_operator_is_gone_is_counted(tmp_path: Path) -> None:
    async with room_in(tmp_path, "disk", FakeNames("gone")) as room:
        await put_in(room.queue, named(100, "gone", received_at=time.monotonic()))
        purging = asyncio.create_task(room.purge(Chosen(delete=True)))
        await asyncio.sleep(0)
        purging.cancel()
        await asyncio.wait([purging])
        while len(room.queue):
            await asyncio.sleep(0.01)
        assert room.metrics.dropped["purged"] == 100


async def left_on_the_disk(directory: Path) -> tuple[int, int]:
    """What the next start counts: the events that it takes over, and those that it misses."""
    metrics = TargetMetrics("orders")
    async with stored(directory) as storage:
        queue = queue_in(storage, metrics=metrics)
        await queue.open()
        await take_all(queue)
        await queue.aclose()
    return metrics.recovered, metrics.dropped["damaged"]


async def test_a_purge_that_begins_after_the_queue_was_closed_removes_nothing(tmp_path: Path) -> None:
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames("gone"))
        await queue.open()
        await put_in(queue, named(100, "gone"))
        await queue.aclose()
        with pytest.raises(QueueFull, match="closed"):
            await queue.purge_rows(Chosen(delete=True), None)
    assert await left_on_the_disk(tmp_path) == (100, 0)


async def test_a_count_beside_a_purge_whose_operator_is_gone_leaves_no_wrong_totals_at_the_close(
    tmp_path: Path,
) -> None:
    go_on = threading.Event()
    async with stored(tmp_path) as storage:
        queue = queue_in(storage, names=FakeNames("gone"))
        await queue.open()
        await put_in(queue, named(100, "gone"))
        storage.submit(lambda connection: go_on.wait(10), within=0.0)
        steps = [
            asyncio.create_task(queue.purge_rows(Chosen(delete=True), None)),
            asyncio.create_task(queue.purge_rows(Chosen(), None, dry=True)),
        ]
        await asyncio.sleep(0)
        for each in steps:
            each.cancel()
        await queue.aclose()
        go_on.set()
    assert await left_on_the_disk(tmp_path) == (0, 0)


# --- without a daemon


async def fill(directory: Path) -> list[str]:
    """A stopped daemon's directory: 100 events for bus gone, half of them set aside, and 10 for another."""
    body = b'{"EventBusName":"gone","Detail":"{}"}'
    async with room_in(directory, "disk", FakeNames()) as room:
        pass
    storage = Storage(directory, linger=0.0)
    await storage.open()
    names = FakeNames()
    queue = DiskQueue(
        "orders",
        LIMITS,
        storage,
        max_events=MANY,
        max_bytes=MANY,
        clock=SystemClock(),
        metrics=TargetMetrics("orders"),
        kind="eventbridge",
        names=names,
    )
    await queue.open()
    apart = named(100, "gone", received_at=time.monotonic())
    for event in apart:
        event.body = body
    await put_in(queue, apart[:50])
    names.closed.add("gone")
    await put_in(queue, apart[50:])
    others = named(10, "", received_at=time.monotonic())
    for event in others:
        event.body = b'{"Detail":"{}"}'
    await put_in(queue, others)
    await queue.aclose()
    await storage.close()
    assert room is not None
    return ids(apart)


async def recovered(directory: Path) -> tuple[int, int]:
    storage = Storage(directory, linger=0.0)
    await storage.open()
    metrics = TargetMetrics("orders")
    queue = DiskQueue(
        "orders",
        LIMITS,
        storage,
        max_events=MANY,
        max_bytes=MANY,
        clock=SystemClock(),
        metrics=metrics,
        kind="eventbridge",
    )
    await queue.open()
    while queue.take() is None:
        await asyncio.sleep(0.005)
    depth = len(queue)
    await queue.aclose()
    await storage.close()
    assert metrics.dropped["damaged"] == 0
    return metrics.recovered, depth


async def purge(directory: Path, *options: str) -> int:
    command = ["queue", "purge", "--target", "orders", "--path", str(directory), *options]
    return await asyncio.to_thread(main, command)


async def test_a_stopped_daemons_queue_is_purged_and_its_next_start_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apart = await fill(tmp_path)
    assert await purge(tmp_path, "--bus", "gone") == 0
    assert "100 events moved to the dead letters" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "forwarder.db")) as connection:
        found = {id_ for (id_,) in connection.execute("SELECT id FROM dead_letters")}
    assert found == set(apart)
    assert await recovered(tmp_path) == (10, 10)


async def test_without_yes_nothing_is_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await fill(tmp_path)
    assert await purge(tmp_path, "--delete", "--bus", "default") == 0
    assert "10 events would be deleted; add --yes" in capsys.readouterr().out
    assert await purge(tmp_path, "--older-than", "1h") == 0
    assert "0 events moved" in capsys.readouterr().out
    assert await purge(tmp_path, "--delete", "--yes", "--bus", "default") == 0
    assert "10 events deleted" in capsys.readouterr().out
    assert await recovered(tmp_path) == (100, 100)


async def test_a_purge_of_an_unknown_target_says_which_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fill(tmp_path)
    code = await asyncio.to_thread(main, ["queue", "purge", "--target", "no", "--path", str(tmp_path)])
    assert code == 1
    assert "orders" in capsys.readouterr().err


async def test_a_daemon_that_holds_the_storage_and_does_not_answer_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with room_in(tmp_path, "disk"):
        assert await purge(tmp_path) == 74
    assert "another forwarder" in capsys.readouterr().err


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


PURGES = pytest.mark.parametrize(
    "command", [["queue", "purge", "--target", "orders"], ["dead-letters", "purge", "--all"]]
)


@PURGES
async def test_beside_a_log_without_its_file_nothing_is_purged_and_nothing_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "forwarder.db-wal").write_bytes(b"of a file that is gone")
    more = ["--delete"] if command[0] == "queue" else []
    code = await asyncio.to_thread(main, [*command, *more, "--yes", "--path", str(tmp_path)])
    assert code == 74
    assert "there is no forwarder.db" in capsys.readouterr().err
    assert contents(tmp_path) == {"forwarder.db-wal": b"of a file that is gone"}


@PURGES
async def test_where_a_marker_says_that_the_storage_is_elsewhere_nothing_is_purged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    leave_marker(tmp_path / "forwarder.db", tmp_path / "data" / "forwarder.db", 2)
    before = contents(tmp_path)
    more = ["--delete"] if command[0] == "queue" else []
    code = await asyncio.to_thread(main, [*command, *more, "--yes", "--path", str(tmp_path)])
    assert code == 74
    assert "only records that the storage was moved to" in capsys.readouterr().err
    assert contents(tmp_path) == before


async def test_a_purge_that_meets_damage_loses_nothing_that_can_be_read(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with stored(tmp_path) as storage:
        queue = queue_in(storage)
        await queue.open()
        for _ in range(400):
            await put_in(queue, named(1, "other", size=400))
        await queue.aclose()
    path = tmp_path / "forwarder.db"
    data = bytearray(path.read_bytes())
    leaves = [
        at for at in range(8192, len(data), 8192) if data[at] == 13 and data[at + 3 : at + 5] > b"\0\x08"
    ]
    middle = leaves[len(leaves) // 2]
    data[middle : middle + 8192] = bytes(8192)
    path.write_bytes(data)
    assert await purge(tmp_path, "--bus", "gone", "--delete", "--yes") == 0
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM queue_rows").fetchone()
    assert rows > 350
