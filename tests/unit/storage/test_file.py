"""The storage's file: how it appears, and what is refused, mended or set aside. Judged with SQLite itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder.storage import Connection, Storage, StorageError, file, open_read_only
from forwarder.storage.damaged import open_damaged


def fill(connection: Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
    connection.executemany("INSERT INTO notes VALUES (?)", [(f"{number:05}" * 200,) for number in range(300)])


def count(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("SELECT count(*) FROM notes").fetchone()
    assert isinstance(found, int)
    return found


def tables(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]


async def filled(directory: Path) -> Path:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    await storage.close()
    return storage.path


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "new" / "state"


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_only_the_owner_and_perhaps_its_group_may_read_what_is_kept(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in directory.iterdir()}
    await storage.close()
    shared = os.getegid() == 0  # as in containers whose user changes
    assert stat.S_IMODE(directory.stat().st_mode) == (0o2770 if shared else 0o700)
    assert modes.keys() >= {"forwarder.db", "forwarder.db-wal", "forwarder.lock"}
    assert set(modes.values()) == {0o660 if shared else 0o600}


async def test_the_file_is_an_sqlite_file_that_anybody_can_open(directory: Path) -> None:
    path = await filled(directory)
    assert names(directory) == {"forwarder.db", "forwarder.lock", "forwarder.ballast"}
    with closing(sqlite3.connect(path)) as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "page_size", "auto_vacuum", "user_version", "integrity_check")
        }
        assert pragmas == {
            "journal_mode": "wal",
            "page_size": 8192,
            "auto_vacuum": 2,
            "user_version": 1,
            "integrity_check": "ok",
        }
        assert count(connection) == 300


async def test_commits_are_synchronous_to_the_disk(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    level = await storage.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0])
    await storage.close()
    assert level == 2  # FULL


async def test_what_was_kept_is_there_after_a_restart(directory: Path) -> None:
    await filled(directory)
    storage = Storage(directory)
    await storage.open()
    assert await storage.run(count) == 300
    await storage.close()


async def test_a_second_owner_of_the_directory_is_refused_with_the_first_ones_number(directory: Path) -> None:
    first, second = Storage(directory), Storage(directory)
    await first.open()
    with pytest.raises(StorageError, match=f"process {os.getpid()}") as refused:
        await second.open()
    assert refused.value.reason == "locked"
    await second.close()
    await first.run(fill)
    await first.close()
    third = Storage(directory)
    await third.open()
    await third.close()


async def test_a_file_of_another_format_is_refused_and_left_as_it_is(directory: Path) -> None:
    path = await filled(directory)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before, there = path.read_bytes(), names(directory)
    with pytest.raises(StorageError, match="has format 7, this version reads format 1") as refused:
        await Storage(directory).open()
    assert refused.value.reason == "format"
    with pytest.raises(StorageError, match="has format 7"), open_read_only(directory):
        pass
    assert path.read_bytes() == before
    assert names(directory) == there


def garbage(path: Path) -> None:
    path.write_bytes(b"these are not the pages you are looking for" * 500)


def cut(path: Path) -> None:
    os.truncate(path, 5 * 8192 + 1)


def cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2 * 8192)
        file.write(bytes(8192 * 20))


@pytest.mark.parametrize("damage", [garbage, cut, cut_in_the_header])
async def test_a_damaged_file_is_set_aside_and_a_new_one_begun(directory: Path, damage: object) -> None:
    path = await filled(directory)
    assert callable(damage)
    damage(path)
    damaged = path.read_bytes()
    storage = Storage(directory)
    with capture_logs() as lines:
        await storage.open()
    assert await storage.run(tables) == []
    await storage.run(fill)
    assert await storage.run(count) == 300
    await storage.close()
    (aside,) = (entry for entry in directory.iterdir() if ".damaged-" in entry.name)
    assert aside.read_bytes() == damaged
    assert [line["log_level"] for line in lines] == ["error"]
    assert aside.name in lines[0]["damage"]


async def test_damage_in_a_page_is_met_by_who_reads_it_and_then_set_aside(directory: Path) -> None:
    zeros(await filled(directory))
    storage = Storage(directory)
    with capture_logs() as lines:
        await storage.open()
        with pytest.raises(StorageError, match="damaged"):
            await storage.submit(
                lambda connection: connection.execute("SELECT sum(length(text)) FROM notes").fetchall()
            )
        assert await storage.run(tables) == []
    await storage.close()
    assert "storage file was damaged; recovered what was readable into a new file" in [
        line["event"] for line in lines
    ]


async def test_after_a_crash_of_the_machine_damage_in_a_page_is_found_at_the_start(directory: Path) -> None:
    path = await filled(directory)
    zeros(path)
    (directory / "forwarder.lock").write_text("1 of-an-earlier-boot")
    Path(f"{path}-wal").write_bytes(b"not emptied by a close in order")
    storage = Storage(directory)
    with capture_logs() as lines:
        await storage.open()
    assert await storage.run(tables) == []
    await storage.close()
    assert [line["event"] for line in lines] == [
        "storage file was damaged; recovered what was readable into a new file"
    ]


async def test_the_look_at_the_pages_ends_in_time_and_damage_behind_it_is_met_by_who_reads_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "CHECK_SECONDS", -1.0)
    monkeypatch.setattr(file, "CHECK_STEPS", 1)
    zeros(await filled(directory))
    (directory / "forwarder.lock").write_text("1 of-an-earlier-boot")
    (directory / "forwarder.db-wal").write_bytes(b"not emptied by a close in order")
    storage = Storage(directory)
    with capture_logs() as lines:
        await storage.open()
        assert lines == []
        with pytest.raises(StorageError, match="damaged"):
            await storage.submit(
                lambda connection: connection.execute("SELECT sum(length(text)) FROM notes").fetchall()
            )
    await storage.close()


async def test_the_log_of_a_lost_file_is_not_replayed_into_the_new_one(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    log = Path(f"{storage.path}-wal").read_bytes()
    await storage.close()
    storage.path.write_bytes(b"")
    Path(f"{storage.path}-wal").write_bytes(log)
    again = Storage(directory)
    with capture_logs() as lines:
        await again.open()
    assert await again.run(tables) == []
    await again.close()
    assert len(lines) == 1
    assert any(name.endswith("-wal") and ".damaged-" in name for name in names(directory))


async def test_a_file_that_was_only_begun_does_not_stop_the_start(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "forwarder.db").touch()
    (directory / "forwarder.db.new").write_bytes(b"half")
    (directory / "forwarder.db.new-wal").write_bytes(b"half")
    await filled(directory)
    assert names(directory) == {"forwarder.db", "forwarder.lock", "forwarder.ballast"}


async def test_a_directory_that_cannot_be_made_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    storage = Storage(tmp_path / "file" / "state")
    with pytest.raises(StorageError, match=r"/file is not a directory: set storage\.path") as refused:
        await storage.open()
    assert refused.value.reason == "path"
    await storage.close()


async def test_readers_see_what_is_committed_beside_a_running_owner(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    with open_read_only(directory) as connection:
        assert count(connection) == 300
        await storage.run(fill)  # a reader stops no writer
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM notes")
    with open_read_only(directory) as connection:
        assert count(connection) == 600
    await storage.close()


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may write everywhere; somebody else may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(4321)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_read_only_copy_with_a_log_but_no_index_of_it_is_readable(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for path in (storage.path, Path(f"{storage.path}-wal")):
            shutil.copyfile(path, copy / path.name)
        assert (copy / f"{file.FILE_NAME}-wal").stat().st_size
        before = sorted(copy.iterdir())
        copy.chmod(0o555)
        with somebody_else(), open_read_only(copy) as connection:
            assert count(connection) == 300
        assert sorted(copy.iterdir()) == before
        copy.chmod(0o755)
    await storage.close()


async def test_a_damaged_copy_is_read_where_the_effective_user_may_not_write(directory: Path) -> None:
    storage = Storage(directory)
    await storage.open()
    await storage.run(fill)
    with tempfile.TemporaryDirectory() as name:
        copy, scratch = Path(name) / "copy", Path(name) / "scratch"
        copy.mkdir()
        Path(name).chmod(0o755)
        for path in (storage.path, Path(f"{storage.path}-wal")):
            shutil.copyfile(path, copy / path.name)
        copy.chmod(0o555)
        with somebody_else(), open_damaged(copy / file.FILE_NAME, scratch) as connection:
            assert count(connection) == 300
        copy.chmod(0o755)
    await storage.close()


async def test_reading_a_closed_file_leaves_the_directory_as_it_was(directory: Path) -> None:
    path = await filled(directory)
    before = path.read_bytes()
    with open_read_only(directory) as connection:
        assert count(connection) == 300
    assert path.read_bytes() == before


def test_reading_where_there_is_nothing_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"there is no forwarder\.db in") as refused,
        open_read_only(tmp_path),
    ):
        pass
    assert refused.value.reason == "missing"


async def test_reading_a_damaged_file_raises_our_error(directory: Path) -> None:
    zeros(await filled(directory))
    with pytest.raises(StorageError, match="damaged") as refused, open_read_only(directory) as connection:
        connection.execute("SELECT sum(length(text)) FROM notes").fetchone()
    assert refused.value.reason == "damaged"


UNTIL_KILLED = """
import asyncio, sys
from pathlib import Path
from forwarder.storage import Storage

async def main():
    storage = Storage(Path(sys.argv[1]), linger=0)
    await storage.open()
    await storage.run(lambda connection: connection.execute("CREATE TABLE notes (text TEXT)"))
    for number in range(1_000_000):
        await storage.run(lambda connection: connection.execute("INSERT INTO notes VALUES (?)", (number,)))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_everything_told_as_kept_survives_a_kill(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", UNTIL_KILLED, str(directory)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == 200:
                break
        process.kill()
        told = 201 + len(process.stdout.readlines())
    storage = Storage(directory)
    with capture_logs() as lines:
        await storage.open()
    kept = await storage.run(count)
    await storage.close()
    assert lines == []
    assert told <= kept <= told + 1
