"""What a full disk, a failing disk and a damaged file cost. SQLite and the file system are the judges."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder import logs
from forwarder.dead_letters import DeadLetters, list_
from forwarder.dead_letters import rescue as rescue_letters
from forwarder.metrics import TargetMetrics
from forwarder.model import Dead
from forwarder.queues.disk import DiskQueue
from forwarder.queues.salvage import rescue as rescue_queues
from forwarder.storage import Connection, Storage, StorageError
from forwarder.storage.ballast import LOW_BYTES, Ballast
from forwarder.storage.filesystem import filesystem_of
from forwarder.storage.trouble import Trouble
from tests.support.puts import put_in
from tests.support.queues import events, ids, queue_in, take_all

BALLAST = LOW_BYTES
PAGE = 8192


@pytest.fixture(autouse=True)
def _no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last_lines", {})


def note(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES ('x')")


def notes(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM notes").fetchone()
        return int(count)


class Disk:
    """A disk of which the test says how much is free."""

    def __init__(self) -> None:
        self.free = 1 << 30

    def __call__(self, directory: Path) -> int:
        return self.free


@asynccontextmanager
async def storage_on(directory: Path, disk: Disk, max_bytes: int | None = None) -> AsyncIterator[Storage]:
    storage = Storage(
        directory, max_bytes=max_bytes, linger=0.0, ballast=Ballast(directory, BALLAST, free=disk)
    )
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


def fill(connection: Connection) -> None:
    note(connection)
    while True:
        connection.execute("INSERT INTO notes VALUES (zeroblob(100000))")


async def test_the_ballast_is_real_blocks_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    async with storage_on(tmp_path, Disk()):
        found = (tmp_path / "forwarder.ballast").stat()
        assert found.st_size == BALLAST
        assert found.st_blocks * 512 >= BALLAST
        assert found.st_mode & 0o007 == 0


async def test_a_refusal_of_the_quota_does_not_touch_the_ballast(tmp_path: Path) -> None:
    async with storage_on(tmp_path, Disk(), max_bytes=1 << 20) as storage:
        with pytest.raises(StorageError, match="is full"):
            await storage.run(fill)
        assert (tmp_path / "forwarder.ballast").exists()


async def test_a_full_disk_costs_the_ballast_and_what_is_new_until_there_is_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.storage.full.RELIEF_SECONDS", 0.0)
    disk = Disk()
    with capture_logs() as lines:
        async with storage_on(tmp_path, disk, max_bytes=1 << 20) as storage:
            queue = queue_in(storage)
            await queue.open()
            await put_in(queue, events(10))
            disk.free = LOW_BYTES - 1
            with pytest.raises(StorageError, match="is full"):
                await storage.run(fill)
            assert not (tmp_path / "forwarder.ballast").exists()
            await refused(queue)
            await storage.run(note)  # what makes room, or is no event, is written
            disk.free = 2 * BALLAST - 1
            await refused(queue)
            assert len(await take_all(queue)) == 10
            disk.free = 2 * BALLAST
            await storage.run(note)
            await put_in(queue, events(1))
            assert (tmp_path / "forwarder.ballast").exists()
            await queue.aclose()
    assert [line["event"] for line in lines] == ["storage cannot write", "storage works again"]


async def refused(queue: DiskQueue) -> None:
    with pytest.raises(Exception, match="full"):
        await put_in(queue, events(1))


async def test_without_room_for_the_ballast_nothing_new_is_taken_from_the_start(tmp_path: Path) -> None:
    disk = Disk()
    disk.free = 2 * BALLAST - 1
    async with storage_on(tmp_path, disk) as storage:
        queue = queue_in(storage)
        await queue.open()
        await refused(queue)
        await queue.aclose()


ON_A_SMALL_DISK = """
import asyncio, os, subprocess, sys
from pathlib import Path
from forwarder.model import QueueUnavailable
from forwarder.storage import Storage
from tests.support.puts import put_in
from tests.support.queues import events, ids, queue_in, take, take_all

async def main(directory):
    storage = Storage(directory, linger=0)
    await storage.open()
    queue = queue_in(storage, front_bytes=1 << 20)
    await queue.open()
    put = []
    try:
        while True:
            some = events(50, size=2000)
            await put_in(queue, some)
            put += ids(some)
    except QueueUnavailable:
        pass
    with open(directory / "others", "wb", buffering=0) as others:
        try:
            while others.write(bytes(4096)):
                pass
        except OSError:
            pass
    found = ids(await take_all(queue))
    while len(queue):
        await asyncio.sleep(0.01)
    assert found == put, (len(found), len(put))
    os.unlink(directory / "others")
    for _ in range(200):
        try:
            await put_in(queue, events(1))
            break
        except QueueUnavailable:
            await asyncio.sleep(0.05)
    else:
        sys.exit("it never took another event")
    await queue.aclose()
    await storage.close()
    print("drained", len(found))

directory = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", directory], check=True)
asyncio.run(main(directory))
"""
PRIVATE_MOUNTS = ["unshare", "--map-root-user", "--mount"]
NO_MOUNTS = "a process may not mount a small disk of its own here"


def test_a_disk_that_is_really_full_drains_and_takes_again(tmp_path: Path) -> None:
    if subprocess.run([*PRIVATE_MOUNTS, "true"], check=False, capture_output=True).returncode:
        pytest.skip(NO_MOUNTS)
    command = [*PRIVATE_MOUNTS, sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 1000


# A disk that fails.


@contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_after_an_error_of_the_disk_the_file_is_opened_anew_and_nothing_kept_is_missing(
    tmp_path: Path,
) -> None:
    async with storage_on(tmp_path, Disk()) as storage:
        for _ in range(10):
            await storage.run(note)
        with no_file_grows_beyond((tmp_path / "forwarder.db-wal").stat().st_size):
            with pytest.raises(StorageError) as failed:
                await storage.run(note)
            await storage.run(note)  # the log was brought into the file, and begins anew
        assert failed.value.reason == "io"
        assert notes(tmp_path) == 11
        assert storage.trouble is None


async def test_a_disk_that_goes_on_failing_ends_the_storage_and_watch_says_so(tmp_path: Path) -> None:
    async with storage_on(tmp_path, Disk()) as storage:
        await storage.run(note)
        watching = asyncio.ensure_future(storage.watch())
        with capture_logs(), no_file_grows_beyond(100):
            for _ in range(2):
                with pytest.raises(StorageError):
                    await storage.run(note)
            with pytest.raises(StorageError, match="disk"):
                async with asyncio.timeout(10):
                    await watching
        with pytest.raises(StorageError, match="closed"):
            await storage.run(note)
    assert notes(tmp_path) == 1


async def test_a_thread_that_dies_of_a_mistake_is_told_to_who_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(self: Trouble, problem: object) -> None:
        raise ZeroDivisionError

    async with storage_on(tmp_path, Disk()) as storage:
        monkeypatch.setattr(Trouble, "note", mistaken)
        storage.submit(note)
        with pytest.raises(ZeroDivisionError):
            async with asyncio.timeout(10):
                await storage.watch()


async def test_a_network_file_system_is_refused_by_its_name(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "state", filesystem=lambda directory: "nfs4")
    with pytest.raises(StorageError, match=r"network file system \(nfs4\)") as refused:
        await storage.open()
    assert refused.value.reason == "network"
    assert not (tmp_path / "state").exists()


MOUNTS = r"""22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw
23 22 0:21 / /mnt rw - ext4 /dev/sda1 rw
24 23 0:22 /export /mnt/our\040files rw,nosuid master:3 - nfs4 host:/export rw
25 22 0:23 / /srv rw - nfs host:/srv rw
26 22 0:24 / /srv rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/mnt/our files/state/new", "nfs4"),
        ("/mnt/our", "ext4"),
        ("/mntx", "overlay"),
        ("/srv/state", "tmpfs"),  # a later mount hides an earlier one
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, directory: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert filesystem_of(Path(directory), mounts) == kind
    assert filesystem_of(Path(directory), tmp_path / "none") == ""


# Damage.


async def kept(directory: Path, rows: int, size: int) -> list[str]:
    """Put so many rows and stop in order: the ids, in order."""
    storage = Storage(directory, linger=0.0, ballast=Ballast(directory, 0))
    await storage.open()
    queue = queue_in(storage)
    await queue.open()
    put = [events(1, size) for _ in range(rows)]
    writing = []
    for each in put:
        writing.append(asyncio.ensure_future(put_in(queue, each)))
        await asyncio.sleep(0)  # what comes in one turn of the loop is one row
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    await queue.aclose()
    await storage.close()
    return [id for some in put for id in ids(some)]


async def found(directory: Path) -> tuple[list[str], dict[str, int]]:
    """What the next process hands out, and its ledger."""
    storage = Storage(
        directory, linger=0.0, ballast=Ballast(directory, 0), rescues=(rescue_queues, rescue_letters)
    )
    await storage.open()
    metrics = TargetMetrics("orders")
    queue = queue_in(storage, front_bytes=200_000, metrics=metrics)
    await queue.open()
    given = await take_all(queue)
    assert all(event.body == b"x" * len(event.body) for event in given)
    ledger = {"recovered": metrics.recovered, "dropped": metrics.dropped["damaged"]}
    await queue.aclose()
    await storage.close()
    return ids(given), ledger


def leaves(path: Path) -> list[int]:
    """The pages that hold rows (SQLite file format, section 1.6: 13 begins a leaf of a table)."""
    data = path.read_bytes()
    return [number for number in range(1, len(data) // PAGE) if data[number * PAGE] == 13]


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


async def test_of_a_file_with_a_page_of_zeros_all_other_pages_are_kept_in_order(tmp_path: Path) -> None:
    put = await kept(tmp_path, 1000, size=400)
    pages = leaves(tmp_path / "forwarder.db")
    overwrite(tmp_path / "forwarder.db", pages[len(pages) // 2] * PAGE, bytes(PAGE))
    with capture_logs() as lines:
        given, ledger = await found(tmp_path)
    assert given == [id for id in put if id in set(given)]
    assert 1000 > len(given) >= 1000 - PAGE // 400
    assert ledger == {"recovered": 1000, "dropped": 1000 - len(given)}
    (line,) = (line for line in lines if "into a new file" in line["event"])
    saved = re.search(r"recovered: (\d+) events, ", line["damage"])
    assert saved is not None
    assert 0 < int(saved[1]) <= len(given)  # some may have been settled before the page was met
    assert any(".damaged-" in file.name for file in tmp_path.iterdir())
    assert await found(tmp_path) == ([], {"recovered": 0, "dropped": 0})


async def test_of_a_file_that_was_cut_short_what_is_left_is_kept_in_order(tmp_path: Path) -> None:
    put = await kept(tmp_path, 1000, size=400)
    path = tmp_path / "forwarder.db"
    cut = path.read_bytes()[: path.stat().st_size * 7 // 8 - 100]
    path.write_bytes(cut)
    given, ledger = await found(tmp_path)
    assert given == [id for id in put if id in set(given)]
    assert 1000 > len(given) > 800
    assert ledger == {"recovered": 1000, "dropped": 1000 - len(given)}
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes() == cut


async def test_a_file_that_lost_its_header_costs_nothing(tmp_path: Path) -> None:
    put = await kept(tmp_path, 1000, size=400)
    overwrite(tmp_path / "forwarder.db", 0, bytes(100))
    damaged = (tmp_path / "forwarder.db").read_bytes()
    assert await found(tmp_path) == (put, {"recovered": 1000, "dropped": 0})
    (aside,) = tmp_path.glob("*.damaged-*")
    assert aside.read_bytes() == damaged
    assert not list(tmp_path.glob("*.copy*"))


async def test_events_whose_rows_are_all_lost_are_counted_and_nobody_waits_for_them(tmp_path: Path) -> None:
    await kept(tmp_path, 300, size=700)
    path = tmp_path / "forwarder.db"
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'queue_rows'"
        ).fetchone()
    overwrite(path, (root - 1) * PAGE, bytes(PAGE))
    assert await found(tmp_path) == ([], {"recovered": 300, "dropped": 300})


async def test_the_events_of_a_row_that_lost_its_payload_are_counted(tmp_path: Path) -> None:
    put = await kept(tmp_path, 30, size=30_000)
    data = (tmp_path / "forwarder.db").read_bytes()
    inside = next(
        n for n in range(len(data) // PAGE // 2, len(data) // PAGE) if data[n * PAGE + 4 :][:99] == b"x" * 99
    )
    overwrite(tmp_path / "forwarder.db", inside * PAGE, bytes(PAGE))
    given, ledger = await found(tmp_path)
    assert len(given) == 29
    assert given == [id for id in put if id in set(given)]
    assert ledger == {"recovered": 30, "dropped": 1}


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_damaged_the_start_succeeds_and_no_wrong_byte_is_handed_out(
    tmp_path: Path, seed: int
) -> None:
    put = await kept(tmp_path, 300, size=random.Random(seed).choice([50, 700, 20_000]))
    path, chance = tmp_path / "forwarder.db", random.Random(seed)
    size = path.stat().st_size
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(100, size)  # not the header, which may say that it is of another format
        kind = chance.choice(["flip", "zeros", "noise"])
        if kind == "flip":
            overwrite(path, at, bytes([path.read_bytes()[at] ^ 1 << chance.randrange(8)]))
        else:
            page = at // PAGE * PAGE or 100
            overwrite(path, page, bytes(PAGE) if kind == "zeros" else chance.randbytes(PAGE))
    if chance.random() < 0.3:
        os.truncate(path, chance.randrange(size // 2, size))
    given, ledger = await found(tmp_path)
    assert given == [id for id in put if id in set(given)]
    assert ledger["recovered"] == len(given) + ledger["dropped"]


async def test_dead_letters_of_a_damaged_file_are_kept_and_counted(tmp_path: Path) -> None:
    storage = Storage(tmp_path, linger=0.0)
    await storage.open()
    letters = DeadLetters(storage, max_bytes=1 << 30, max_age=1e9)
    await letters.open()
    put = events(500, size=300)
    await letters.keep("orders", [Dead(event, "rejected", "other", "no") for event in put])
    await storage.close()
    pages = leaves(tmp_path / "forwarder.db")
    overwrite(tmp_path / "forwarder.db", pages[len(pages) // 2] * PAGE, bytes(PAGE))
    (tmp_path / "forwarder.db-wal").write_bytes(b"what a crash leaves")
    (tmp_path / "forwarder.lock").unlink()
    storage = Storage(tmp_path, linger=0.0, rescues=(rescue_letters,))
    await storage.open()
    letters = DeadLetters(storage, max_bytes=1 << 30, max_age=1e9)
    await letters.open()
    given = [letter.id for letter in list_(tmp_path)]
    assert 500 > len(given) >= 500 - PAGE // 300
    assert given == [id for id in ids(put) if id in set(given)]
    assert letters.view()["orders"][0] == len(given)
    await storage.close()
