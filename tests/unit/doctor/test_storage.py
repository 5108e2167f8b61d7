"""Why the storage's directory cannot be written, each error with its own cure."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from forwarder.config import Config, StorageConfig
from forwarder.doctor import storage
from forwarder.doctor.findings import Finding
from forwarder.validation import in_files


def failing(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> Finding:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "data").mkdir(exist_ok=True)
    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    (finding,) = storage.examine(StorageConfig(path=str(tmp_path)))
    assert (finding.level, finding.about) == ("FAIL", "storage.path")
    return finding


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "Free space on this file system"),
        (errno.EDQUOT, "Raise the disk quota of user"),
        (errno.EROFS, "Mount the file system for writing"),
        (errno.EIO, "Check the disk and the kernel's log"),
        (errno.EACCES, f"Run as root: chown {os.geteuid()}:{os.getegid()} "),
        (errno.ELOOP, "Create a directory there for the daemon's user"),
    ],
)
def test_each_error_of_the_file_system_has_its_own_cure(
    tmp_path: Path, number: int, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = failing(tmp_path, number, monkeypatch)
    assert finding.sentence.endswith(f"cannot be written by user {os.geteuid()}: {os.strerror(number)}")
    assert finding.remedy.startswith(cure)


def test_no_inodes_are_told_from_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_has_no_inodes", lambda directory: True)
    finding = failing(tmp_path, errno.ENOSPC, monkeypatch)
    assert finding.sentence.endswith("(no inodes are free)")
    assert finding.remedy == "Remove files there: the file system has space, but no inode for another file."


NOBODY = 65_534


@pytest.fixture
def private() -> Iterator[Path]:
    """A state directory as systemd gives it to a dynamic user, seen by another user."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "private/state").mkdir(parents=True)
        (Path(folder) / "private").chmod(0o700)
        (Path(folder) / "state").symlink_to("private/state")
        os.seteuid(NOBODY)
        try:
            yield Path(folder) / "state"
        finally:
            os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_directory_that_this_user_may_not_look_into_is_a_finding_and_no_traceback(private: Path) -> None:
    config = Config(targets={}, storage=StorageConfig(path=str(private)))
    assert not [problem for problem in in_files(config) if problem.path == "storage.path"]
    (finding,) = storage.examine(config.storage)
    assert finding.level == "FAIL"
    assert finding.sentence == (
        f"{private}/data cannot be written by user {NOBODY}: no file can be created in {private}"
    )
