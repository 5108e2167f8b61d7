"""A log that is damaged in its middle. SQLite writes the logs, and says what it would have lost."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder.apis.wire import Native
from forwarder.metrics import StorageMetrics, TargetMetrics
from forwarder.queues.offline import check, dump
from forwarder.queues.queue import Settlement
from forwarder.queues.salvage import rescue
from forwarder.storage import Storage, StorageError
from forwarder.storage.ballast import Ballast
from forwarder.storage.wal import FRAME_BYTES, HEADER_BYTES, damage_of
from tests.support.puts import put_in
from tests.support.queues import events, ids, queue_in, take_all

COMMITS = 40
FILES = ("forwarder.db", "forwarder.db-wal", "forwarder.db-shm", "forwarder.lock")


async def _killed(directory: Path) -> list[str]:
    """What a killed process leaves after so many puts: the ids it promised."""
    storage = Storage(directory / "open", linger=0.0, ballast=Ballast(directory / "open", 0))
    await storage.open()
    queue = queue_in(storage)
    await queue.open()
    promised: list[str] = []
    for number in range(COMMITS):
        some = events(1, size=300 if number % 3 else 20_000)
        await put_in(queue, some)
        promised += ids(some)
    for name in FILES:
        shutil.copy(directory / "open" / name, directory / name)
    await queue.aclose()
    await storage.close()
    shutil.rmtree(directory / "open")
    return promised


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    directory = tmp_path_factory.mktemp("killed")
    return directory, asyncio.run(_killed(directory))


@contextmanager
def copy_of(directory: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


async def started(directory: Path) -> tuple[list[str], bool, int]:
    """What the next process hands out, whether it says that something is wrong, and what it counts."""
    metrics, of_disk = TargetMetrics("orders"), StorageMetrics()
    storage = Storage(
        directory, linger=0.0, ballast=Ballast(directory, 0), rescues=(rescue,), metrics=of_disk
    )
    with capture_logs() as lines:
        await storage.open()
        queue = queue_in(storage, metrics=metrics)
        await queue.open()
        found = await take_all(queue)
        await queue.aclose()
        await storage.close()
    assert all(event.body == b"x" * len(event.body) for event in found)
    said = any("damaged" in line["event"] for line in lines)
    assert said == bool(of_disk.errors["read"] or metrics.dropped["damaged"])
    return ids(found), said, metrics.dropped["damaged"]


def flip(path: Path, at: int, length: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for place in range(at, min(at + length, len(data))):
        data[place] ^= 0x55
    path.write_bytes(data)


def crash(directory: Path) -> None:
    (directory / "forwarder.lock").write_text("1 of-an-earlier-boot\n")
    (directory / "forwarder.db-shm").unlink(missing_ok=True)


@settings(max_examples=30, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), length=st.sampled_from([1, 1, 512, FRAME_BYTES]))
def test_wherever_a_log_is_damaged_nothing_is_lost_or_it_is_said(
    killed: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory, where: float, length: int
) -> None:
    directory, promised = killed
    with copy_of(directory, tmp_path_factory.mktemp("flip")) as copy:
        log = copy / "forwarder.db-wal"
        flip(log, int(where * log.stat().st_size), length)
        found, said, _ = asyncio.run(started(copy))
    assert found == [id for id in promised if id in set(found)]
    assert said or found == promised
    assert len(found) >= COMMITS - 35 * length // 512 - 8, "one bad page costs the rows of a page at most"


async def test_most_of_what_is_behind_the_damage_is_saved_after_a_crash_of_the_machine_too(
    killed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    directory, _promised = killed
    with copy_of(directory, tmp_path) as copy:
        crash(copy)
        log = copy / "forwarder.db-wal"
        flip(log, log.stat().st_size // 2)
        with closing(sqlite3.connect(f"file:{copy / 'forwarder.db'}?mode=ro", uri=True)) as connection:
            (seen,) = connection.execute("SELECT count(*) FROM queue_rows").fetchone()
        (copy / "forwarder.db-shm").unlink(missing_ok=True)
        found, said, dropped = await started(copy)
        (aside,) = copy.glob("forwarder.db.damaged-*-wal")
        assert aside.stat().st_size > 0
    assert said
    assert seen < COMMITS * 3 // 4, "SQLite alone loses what is behind"
    assert len(found) >= COMMITS - 1
    assert len(found) + dropped == COMMITS


def read_from_outside(where: Path) -> tuple[list[str], list[str]]:
    """The ids that a dump writes, and what it says."""
    lines = list(dump(where, lambda kind, codec, body, key: Native(b"{}")))
    written = [str(json.loads(line)["id"]) for line in lines if isinstance(line, bytes)]
    return written, [str(line) for line in lines if not isinstance(line, bytes)]


@pytest.mark.parametrize("after", [lambda directory: None, crash], ids=["a kill", "a crash"])
async def test_a_dump_reads_behind_the_damage_before_and_after_the_file_was_set_aside(
    killed: tuple[Path, list[str]], tmp_path: Path, after: Callable[[Path], None]
) -> None:
    directory, promised = killed
    with copy_of(directory, tmp_path) as copy:
        after(copy)
        log = copy / "forwarder.db-wal"
        flip(log, log.stat().st_size // 2)
        before = {path.name: path.read_bytes() for path in copy.iterdir()}
        written, said = read_from_outside(copy)
        assert "the log is damaged at frame" in said[0]
        with pytest.raises(StorageError, match="the log is damaged at frame") as problem:
            list(check(copy))
        assert problem.value.reason == "damaged"
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
        found, _, _ = await started(copy)
        (aside,) = copy.glob("forwarder.db.damaged-*Z")
        assert read_from_outside(aside)[0] == written == found
    assert len(written) >= COMMITS - 1
    assert written == [id for id in promised if id in set(written)]


async def test_readers_beside_a_daemon_that_writes_find_no_damage(tmp_path: Path) -> None:
    storage = Storage(tmp_path, linger=0.0, ballast=Ballast(tmp_path, 0))
    await storage.open()
    queue = queue_in(storage)
    await queue.open()

    async def put_for_ever() -> None:
        while True:
            await put_in(queue, events(1, size=9000))
            if batch := queue.take():
                queue.settle(Settlement(gone=batch.events))

    putting = asyncio.create_task(put_for_ever())
    for _ in range(20):
        _, said = await asyncio.to_thread(read_from_outside, tmp_path)
        assert said == []
    putting.cancel()
    await asyncio.wait([putting])
    await queue.aclose()
    await storage.close()


async def test_a_killed_process_leaves_a_log_of_which_nothing_is_said(
    killed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    directory, promised = killed
    with copy_of(directory, tmp_path) as copy:
        assert await started(copy) == (promised, False, 0)


@pytest.mark.parametrize("lost", [1, 24, 5000, FRAME_BYTES, FRAME_BYTES + 7, 2 * FRAME_BYTES])
async def test_the_torn_end_of_a_power_cut_stays_silent(
    killed: tuple[Path, list[str]], tmp_path: Path, lost: int
) -> None:
    directory, promised = killed
    with copy_of(directory, tmp_path) as copy:
        crash(copy)
        log = copy / "forwarder.db-wal"
        log.write_bytes(log.read_bytes()[:-lost])
        found, said, dropped = await started(copy)
    assert (said, dropped) == (False, 0)
    assert found == promised[: len(found)]


def frames(log: bytes) -> list[bytes]:
    return [log[at : at + FRAME_BYTES] for at in range(HEADER_BYTES, len(log), FRAME_BYTES)]


def transactions(log: bytes) -> list[list[bytes]]:
    found: list[list[bytes]] = [[]]
    for frame in frames(log):
        found[-1].append(frame)
        if frame[4:8] != bytes(4):
            found.append([])
    return found[:-1]


def test_a_last_transaction_of_which_the_disk_wrote_only_some_pages_is_no_damage(
    killed: tuple[Path, list[str]],
) -> None:
    log = (killed[0] / "forwarder.db-wal").read_bytes()
    *before, last = transactions(log)
    assert len(last) > 1
    sound = log[:HEADER_BYTES] + b"".join(map(b"".join, before))
    for missing in range(len(last)):
        torn = b"".join(bytes(FRAME_BYTES) if at == missing else frame for at, frame in enumerate(last))
        assert damage_of(io.BytesIO(sound + torn)) is None


def test_frames_of_an_earlier_use_of_the_log_behind_its_end_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("page_size = 8192", "journal_mode = WAL", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE notes (text)")
        for _ in range(20):
            connection.execute("INSERT INTO notes VALUES (?)", ("x" * 9000,))
        connection.execute("PRAGMA wal_checkpoint(FULL)")
        connection.execute("INSERT INTO notes VALUES ('y')")  # the log begins anew, over the old one
        log, shared = Path(f"{path}-wal").read_bytes(), Path(f"{path}-shm").read_bytes()
    assert len({frame[8:16] for frame in frames(log)}) == 2
    for crashed in (True, False):
        assert damage_of(io.BytesIO(log), shared, crashed=crashed) is None


def test_what_a_transaction_left_that_was_rolled_back_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("page_size = 8192", "journal_mode = WAL", "cache_size = 5"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE notes (text)")
        connection.execute("BEGIN")
        for _ in range(50):
            connection.execute("INSERT INTO notes VALUES (?)", ("x" * 9000,))
        connection.execute("ROLLBACK")
        connection.execute("INSERT INTO notes VALUES ('y')")
        log, shared = Path(f"{path}-wal").read_bytes(), Path(f"{path}-shm").read_bytes()
    assert len({frame[8:16] for frame in frames(log)}) == 1
    assert len(frames(log)) > 20
    for crashed in (True, False):
        assert damage_of(io.BytesIO(log), shared, crashed=crashed) is None


async def test_a_log_that_was_deleted_after_a_kill_is_said(
    killed: tuple[Path, list[str]], tmp_path: Path
) -> None:
    with copy_of(killed[0], tmp_path) as copy:
        (copy / "forwarder.db-wal").unlink()
        found, said, _ = await started(copy)
    assert said
    assert found != killed[1]
