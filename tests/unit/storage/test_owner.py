"""The storage's thread: what is committed together, what an error costs. Commits are counted in the log."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder import logs
from forwarder.storage import Connection, Storage, StorageError

LONG = 60.0
"""Seconds nobody waits in a test: a job that may take so long leaves only in the company of another."""


@pytest.fixture(autouse=True)
def _no_line_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last_lines", {})


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    storage = Storage(tmp_path, linger=0.0)
    await storage.open()
    await storage.run(lambda connection: connection.execute("CREATE TABLE notes (number INTEGER UNIQUE)"))
    yield storage
    await storage.close()


def note(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute("INSERT INTO notes VALUES (?)", (number,))
        return number

    return work


def notes(path: Path) -> list[int]:
    """What another program sees in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM notes ORDER BY number")]


def commits(path: Path) -> int:
    """How many transactions the write-ahead log holds (SQLite file format, section 4: WAL format)."""
    log = Path(f"{path}-wal").read_bytes()
    salts, frame = log[16:24], 24 + int.from_bytes(log[8:12], "big")
    headers = [log[at : at + 24] for at in range(32, len(log), frame)]
    return sum(1 for header in headers if header[8:16] == salts and header[4:8] != bytes(4))


async def test_a_job_is_on_the_disk_when_its_answer_comes(storage: Storage) -> None:
    assert await storage.run(note(1)) == 1
    assert notes(storage.path) == [1]


async def test_jobs_that_wait_together_share_one_commit(storage: Storage) -> None:
    before = commits(storage.path)
    jobs = [storage.submit(note(number), within=LONG) for number in range(50)]
    jobs.append(storage.submit(note(50)))
    assert await asyncio.gather(*jobs) == list(range(51))
    assert commits(storage.path) == before + 1


async def test_the_linger_gathers_what_comes_one_by_one(tmp_path: Path) -> None:
    storage = Storage(tmp_path, linger=LONG)
    await storage.open()
    job = storage.submit(lambda connection: connection.execute("CREATE TABLE notes (number INTEGER)"))
    await storage.close()
    await job
    assert notes(storage.path) == []


async def test_closing_commits_what_waits_and_refuses_what_comes_later(storage: Storage) -> None:
    jobs = [storage.submit(note(number), within=LONG) for number in range(3)]
    await storage.close()
    assert await asyncio.gather(*jobs) == [0, 1, 2]
    assert notes(storage.path) == [0, 1, 2]
    with pytest.raises(StorageError, match="closed"):
        await storage.run(note(4))
    await storage.close()


async def test_a_failed_job_costs_its_neighbours_nothing(storage: Storage) -> None:
    def twice(connection: Connection) -> None:
        note(7)(connection)
        note(1)(connection)  # is there already

    before = commits(storage.path)
    jobs: list[asyncio.Future[int] | asyncio.Future[None]] = [
        storage.submit(note(1), within=LONG),
        storage.submit(twice, within=LONG),
        storage.submit(note(2)),
    ]
    first, failed, last = await asyncio.gather(*jobs, return_exceptions=True)
    assert (first, last) == (1, 2)
    assert isinstance(failed, StorageError)
    assert notes(storage.path) == [1, 2]
    assert commits(storage.path) == before + 1


async def test_a_mistake_in_a_job_reaches_who_asked_and_nobody_else(storage: Storage) -> None:
    def mistaken(connection: Connection) -> None:
        note(1)(connection)
        raise ZeroDivisionError

    failing, good = storage.submit(mistaken, within=LONG), storage.submit(note(2))
    with pytest.raises(ZeroDivisionError):
        await failing
    assert await good == 2
    assert notes(storage.path) == [2]
    assert storage.trouble is None


async def test_neighbours_are_done_again_when_one_job_loses_the_transaction(storage: Storage) -> None:
    def gives_up(connection: Connection) -> None:
        note(1)(connection)
        connection.execute("ROLLBACK")  # as SQLite does by itself after some errors
        raise sqlite3.OperationalError("disk I/O error")

    jobs: list[asyncio.Future[int] | asyncio.Future[None]] = [
        storage.submit(note(2), within=LONG),
        storage.submit(gives_up, within=LONG),
        storage.submit(note(3)),
    ]
    second, failed, third = await asyncio.gather(*jobs, return_exceptions=True)
    assert (second, third) == (2, 3)
    assert isinstance(failed, StorageError)
    assert notes(storage.path) == [2, 3]


async def test_a_cancelled_caller_does_not_stop_the_job_it_asked_for(storage: Storage) -> None:
    waiting = asyncio.create_task(storage.run(note(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await storage.run(note(2)) == 2
    assert notes(storage.path) == [1, 2]


def fill(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS bodies (body BLOB)")
    connection.execute("INSERT INTO bodies VALUES (zeroblob(400000))")


def empty(connection: Connection) -> None:
    connection.execute("DELETE FROM bodies")


async def test_a_full_file_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    storage = Storage(tmp_path, max_bytes=1_000_000, linger=0.0)
    await storage.open()
    await storage.run(lambda connection: connection.execute("CREATE TABLE notes (number INTEGER UNIQUE)"))
    with capture_logs() as lines:
        await storage.run(fill)
        await storage.run(fill)
        small, large = storage.submit(note(1), within=LONG), storage.submit(fill)
        with pytest.raises(StorageError, match="is full") as refused:
            await large
        assert refused.value.reason == "full"
        assert await small == 1
        trouble = storage.trouble
        with pytest.raises(StorageError, match="is full"):
            await storage.run(fill)
        await storage.run(empty)
        await storage.run(fill)
    assert trouble is refused.value
    assert storage.trouble is None
    await storage.close()
    assert [line["event"] for line in lines] == ["storage cannot write", "storage works again"]
    assert storage.path.stat().st_size <= 1_000_000


async def test_a_disk_that_fails_to_write_costs_the_jobs_of_that_moment_only(storage: Storage) -> None:
    await storage.run(note(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{storage.path}-wal").stat().st_size, hard))
    try:
        with pytest.raises(StorageError) as failed:
            await storage.run(note(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.reason == "io"
    assert await storage.run(note(3)) == 3
    assert notes(storage.path) == [1, 3]


async def test_closing_gives_free_pages_back_to_the_disk(storage: Storage) -> None:
    for _ in range(10):
        await storage.run(fill)
    await storage.run(empty)
    await storage.close()
    assert storage.path.stat().st_size < 400_000


async def test_a_storage_that_was_never_opened_can_be_closed(tmp_path: Path) -> None:
    await Storage(tmp_path / "never").close()
    assert not (tmp_path / "never").exists()


async def test_reading_does_not_clear_the_trouble_of_writes(tmp_path: Path) -> None:
    storage = Storage(tmp_path, linger=0.0)
    await storage.open()
    with closing(sqlite3.connect(storage.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = asyncio.get_running_loop().time()
        writes = [storage.submit(lambda connection: connection.execute("SELECT 1")) for _ in range(30)]
        found = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(each, StorageError) and each.reason == "locked" for each in found)
        assert asyncio.get_running_loop().time() - began < 20  # not one second, or five, for each of them
        other.execute("ROLLBACK")
    await storage.run(lambda connection: connection.execute("SELECT 1").fetchone())
    assert storage.trouble is not None
    await storage.run(lambda connection: connection.execute("CREATE TABLE notes (text)"))
    await storage.run(lambda connection: connection.execute("INSERT INTO notes VALUES (1)").rowcount)
    assert storage.trouble is None
    await storage.close()


async def test_an_error_of_the_disk_is_not_hidden_by_another_try(storage: Storage) -> None:
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(1)
        if len(tries) == 1:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    with pytest.raises(StorageError) as caught:
        await storage.submit(work)
    assert (caught.value.reason, len(tries)) == ("io", 1)
