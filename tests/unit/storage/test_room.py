"""Which of the things that can be full is named, whatever SQLite calls it."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest
from structlog import get_logger

from forwarder.storage.ballast import LOW_BYTES, Ballast
from forwarder.storage.connection import connect
from forwarder.storage.errors import StorageError
from forwarder.storage.full import FullDisk
from forwarder.storage.room import PROBE_NAME, Room, try_to_write
from forwarder.storage.trouble import Trouble

FULL = StorageError("full", "database or disk is full", "write")
FAILED = StorageError("io", "disk I/O error", "write")
MUCH, LITTLE = 1 << 40, 1 << 20


def named(problem: StorageError, *, number: int = 0, free: int = MUCH, left: int = MUCH) -> StorageError:
    room = Room(Path("/var/lib/forwarder"), 1 << 30, lambda directory: free, lambda directory: number)
    return room.with_cause(problem, left)


@pytest.mark.parametrize(
    ("problem", "number", "free", "left", "reason", "cause"),
    [
        (FULL, errno.ENOSPC, 0, MUCH, "full", "file_system"),
        (FULL, 0, LOW_BYTES - 1, 0, "full", "file_system"),
        (FULL, 0, LITTLE * 4, LITTLE * 8, "full", "file_system"),
        (FULL, 0, MUCH, LITTLE, "full", "max_bytes"),
        (FULL, errno.EDQUOT, MUCH, LITTLE, "full", "user_quota"),
        (FAILED, errno.EDQUOT, MUCH, MUCH, "full", "user_quota"),
        (FAILED, errno.ENOSPC, 0, MUCH, "full", "file_system"),
        (FAILED, errno.EROFS, MUCH, MUCH, "io", "read_only"),
        (FAILED, errno.EIO, MUCH, MUCH, "io", "io"),
        (FAILED, 0, MUCH, MUCH, "io", "io"),
    ],
)
def test_what_is_full_is_named(
    monkeypatch: pytest.MonkeyPatch,
    problem: StorageError,
    number: int,
    free: int,
    left: int,
    reason: str,
    cause: str,
) -> None:
    monkeypatch.setattr("forwarder.storage.room._inodes", lambda directory: 5)
    found = named(problem, number=number, free=free, left=left)
    assert (found.reason, found.cause) == (reason, cause)
    assert (found is problem) == (cause == "io")
    assert "/var/lib/forwarder" in str(found) or cause in ("max_bytes", "io")


def test_a_file_system_without_inodes_is_not_called_full_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwarder.storage.room._inodes", lambda directory: 0)
    assert named(FULL, number=errno.ENOSPC).cause == "inodes"


def test_a_failed_sync_is_never_called_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before it may be lost, so the file is opened anew."""
    problem = StorageError("io", "disk I/O error", "sync")
    assert named(problem, number=errno.EDQUOT) is problem


def test_a_directory_that_is_gone_is_no_reason_to_fail(tmp_path: Path) -> None:
    assert Room(tmp_path / "gone", None).with_cause(FAILED, MUCH) is FAILED


def test_a_file_that_cannot_be_read_hides_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.db"
    path.write_bytes(b"no database" * 1000)
    ballast, room = Ballast(tmp_path), Room(tmp_path, 1 << 30)
    with closing(connect(path, "mode=rw")) as connection:
        full = FullDisk(ballast, room, Trouble(get_logger(), lambda: True), lambda: connection)
        damaged = StorageError("damaged", "the storage file is damaged", "read")
        assert full.with_cause(damaged) is damaged
        assert full.with_cause(FAILED) is FAILED


def test_the_question_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_to_write(tmp_path) == 0

    def refuse(file: int, start: int, size: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert try_to_write(tmp_path) == errno.EDQUOT
    assert not (tmp_path / PROBE_NAME).exists()
