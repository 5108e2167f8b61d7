"""Storage files deleted, moved or replaced while in use. Another SQLite judges what is on the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder import logs
from forwarder.storage import Connection, Storage, StorageError, held, owner


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_last_lines", {})
    monkeypatch.setattr(owner, "LOOK_SECONDS", 0.02)


def note(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES (?)", ("x" * 100,))


def notes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM notes").fetchone()
        return int(count)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def storage(directory: Path) -> AsyncIterator[Storage]:
    storage = Storage(directory, linger=0.0)
    await storage.open()
    for _ in range(50):
        await storage.run(note)
    yield storage
    await storage.close()


Way = Callable[[Path], object]


async def note_before_and_after(storage: Storage, directory: Path, way: Way) -> None:
    """The second note is committed to a file that has no name, or another one."""
    await storage.run(note)
    way(directory)
    await storage.run(note)


def remove_all(directory: Path) -> None:
    shutil.rmtree(directory)


def move_all(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def remove(name: str) -> Way:
    return lambda directory: (directory / name).unlink()


NAMES = ("forwarder.db", "forwarder.db-wal", "forwarder.db-shm", "forwarder.lock")
WAYS = [remove_all, move_all, *map(remove, NAMES)]
IDS = ["directory deleted", "directory moved", *NAMES]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_what_was_told_as_kept_is_at_its_path_again_and_it_is_said(
    storage: Storage, directory: Path, way: Way
) -> None:
    with capture_logs() as lines:
        way(directory)
        async with asyncio.timeout(10):
            while storage.trouble is None:  # also where nothing is written
                await asyncio.sleep(0.01)
        assert storage.trouble.reason == "replaced"
        assert notes(directory / "forwarder.db") == 50
        await storage.run(note)
        assert storage.trouble is None
    assert next(line["log_level"] for line in lines) == "error"
    with pytest.raises(StorageError, match="another forwarder"):
        await Storage(directory).open()
    await storage.close()
    assert storage.ended_by is None
    assert notes(directory / "forwarder.db") == 51


@pytest.mark.parametrize("way", [remove_all, move_all, remove("forwarder.db")], ids=["rm -r", "mv", "rm"])
async def test_what_is_deleted_right_before_the_close_is_at_its_path_after_it(
    storage: Storage, directory: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "LOOK_SECONDS", 3600.0)
    await note_before_and_after(storage, directory, way)
    await storage.close()
    assert storage.ended_by is None
    assert notes(directory / "forwarder.db") == 52


@pytest.mark.parametrize("way", WAYS, ids=IDS)
async def test_no_job_is_answered_whose_commit_is_only_in_a_deleted_file(
    storage: Storage, directory: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill right after the answer leaves what is at the path then, which another SQLite reads here."""
    monkeypatch.setattr(owner, "LOOK_SECONDS", 3600.0)
    await note_before_and_after(storage, directory, way)
    left = shutil.copytree(directory, directory.with_name("as a kill leaves it"))
    assert notes(left / "forwarder.db") == 52


async def test_a_job_whose_commit_another_file_hides_is_refused(
    storage: Storage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "LOOK_SECONDS", 3600.0)
    await storage.run(note)
    another = directory.with_name("another")
    with closing(sqlite3.connect(another)) as connection:
        connection.execute("CREATE TABLE theirs (text TEXT)")
    another.replace(directory / "forwarder.db")
    with pytest.raises(StorageError):
        await storage.run(note)
    with pytest.raises(StorageError, match="another file is there"):
        await storage.watch()


async def test_another_file_in_its_place_is_left_alone_and_what_was_kept_is_saved_beside_it(
    storage: Storage, directory: Path
) -> None:
    watching = asyncio.ensure_future(storage.watch())
    another = directory.with_name("another")
    with closing(sqlite3.connect(another)) as connection:
        connection.execute("CREATE TABLE theirs (text TEXT)")
        connection.execute("PRAGMA user_version = 1")
    before = another.read_bytes()
    another.replace(directory / "forwarder.db")
    with pytest.raises(StorageError, match="another file is there") as problem:
        async with asyncio.timeout(10):
            await watching
    assert problem.value.reason == "replaced"
    with pytest.raises(StorageError):
        await storage.run(note)
    await storage.close()
    assert isinstance(storage.ended_by, StorageError)
    assert (directory / "forwarder.db").read_bytes() == before
    assert not (directory / "forwarder.db-wal").exists()  # it is not that file's
    (saved,) = directory.glob("forwarder.db.saved-*")
    assert notes(saved) == 50


async def test_a_place_that_cannot_be_had_ends_the_storage(storage: Storage, directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("a file in the directory's place")
    with pytest.raises(StorageError, match="could not be kept"):
        async with asyncio.timeout(10):
            await storage.watch()
    await storage.close()
    assert isinstance(storage.ended_by, StorageError)


async def test_a_ballast_that_was_deleted_is_made_again(storage: Storage, directory: Path) -> None:
    (directory / "forwarder.ballast").unlink()
    async with asyncio.timeout(10):
        while not (directory / "forwarder.ballast").exists():
            await asyncio.sleep(0.01)
    assert storage.trouble is None
    assert os.stat(directory / "forwarder.ballast").st_size > 0


@pytest.mark.parametrize("looks", [True, False], ids=["while it runs", "right before the close"])
@pytest.mark.parametrize("name", ["forwarder.db", "forwarder.db-wal"])
async def test_a_file_that_somebody_empties_in_place_is_damage_that_is_said(
    storage: Storage, directory: Path, name: str, looks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``> file``: it is the same file at the same path, so that only its size tells."""
    monkeypatch.setattr(owner, "LOOK_SECONDS", 0.02 if looks else 3600.0)
    await storage.close()
    again = Storage(directory, linger=0.0)
    await again.open()
    await again.run(note)
    await asyncio.sleep(0.1)
    with capture_logs() as lines:
        os.truncate(directory / name, 0)
        if looks:
            async with asyncio.timeout(10):
                while not any("emptied" in str(line.get("damage")) for line in lines):
                    await asyncio.sleep(0.01)
            await again.run(note)
        await again.close()
    assert any("emptied" in str(line.get("damage")) for line in lines), lines
    assert again.ended_by is None
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


async def test_a_log_that_somebody_brings_into_its_file_is_no_damage(
    storage: Storage, directory: Path
) -> None:
    with capture_logs() as lines, closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        await asyncio.sleep(0.1)
        await storage.run(note)
    await storage.close()
    assert not lines
    assert notes(directory / "forwarder.db") == 51


async def test_a_directory_that_nobody_may_look_into_for_a_moment_ends_no_storage(
    storage: Storage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "lstat", denied)
        await asyncio.sleep(0.1)
    await storage.run(note)
    assert notes(directory / "forwarder.db") == 51


async def test_a_shorter_file_that_cannot_be_looked_at_now_is_not_taken_for_damage(
    storage: Storage, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor is free, or a program holds the file: that is no word about what the file holds."""

    def cannot(path: Path, options: str) -> Connection:
        with closing(sqlite3.connect(directory / "nothing" / "there")) as connection:
            raise AssertionError(connection)

    with capture_logs() as lines, monkeypatch.context() as patch:
        patch.setattr(held, "connect", cannot)
        with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
            assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        await asyncio.sleep(0.1)
        await storage.run(note)
    await storage.close()
    assert not lines
    assert notes(directory / "forwarder.db") == 51
