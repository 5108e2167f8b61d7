"""The storage's directory: may we write there, is there room, is it a disk.

Invariants:
- Nothing is made or left behind, not even the directory.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from forwarder.config import StorageConfig
from forwarder.doctor.findings import Finding
from forwarder.files import is_other_than_directory, nearest_existing
from forwarder.storage.access import cure_of_parent, refusal
from forwarder.storage.ballast import BALLAST_BYTES, free_bytes
from forwarder.storage.connection import used_bytes
from forwarder.storage.file import FILE_NAME, USED
from forwarder.storage.filesystem import NETWORK, filesystem_of

LEAST_BYTES = 2 * BALLAST_BYTES
"""The ballast, and as much again for what is written beside it."""

ABOUT = "storage.path"
WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def examine(config: StorageConfig, free: Callable[[Path], int] = free_bytes) -> Iterator[Finding]:
    directory = config.directory().absolute()
    there = nearest_existing(directory)
    if there == directory and (denied := refusal(directory, map(directory.joinpath, USED))):
        sentence, cure = denied
        yield Finding("FAIL", ABOUT, sentence, _capitalized(cure))
        return
    if (problem := _refused(directory, there)) is not None:
        yield Finding("FAIL", ABOUT, *_in_words(directory, problem))
        return
    made = "" if there == directory else "; it will be created"
    yield Finding("ok", ABOUT, f"{directory} can be written by user {os.geteuid()}{made}")
    yield from _parent(config.parent().absolute())
    yield _file_system(directory, filesystem_of(there))
    yield _room(config, there, free(there), used_bytes(directory / FILE_NAME))


def _refused(directory: Path, there: Path) -> OSError | None:
    """Why nothing can be written, None when it can."""
    if is_other_than_directory(there):
        return NotADirectoryError(errno.ENOTDIR, f"{there} is not a directory")
    if there != directory:
        if os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return None
        return PermissionError(errno.EACCES, f"no file can be created in {there}")
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
    except OSError as error:
        return error
    return None


def _in_words(directory: Path, problem: OSError) -> tuple[str, str]:
    """The sentence, and the cure of this very error."""
    sentence = f"{directory} cannot be written by user {os.geteuid()}: {problem.strerror or problem}"
    if problem.errno == errno.ENOSPC:
        if _has_no_inodes(directory):
            return (
                f"{sentence} (no inodes are free)",
                "Remove files there: the file system has space, but no inode for another file.",
            )
        return sentence, "Free space on this file system: delete files there, or enlarge it."
    if problem.errno == errno.EDQUOT:
        return sentence, f"Raise the disk quota of user {os.geteuid()}, or delete files of this user there."
    if problem.errno == errno.EROFS:
        return (
            sentence,
            "Mount the file system for writing, or set storage.path to a directory on another file system.",
        )
    if problem.errno == errno.EIO:
        return sentence, "Check the disk and the kernel's log: writes fail."
    if problem.errno in (errno.EACCES, errno.EPERM):
        cure = cure_of_parent(directory.parent, nearest_existing(directory))
        return sentence, f"{_capitalized(cure)}. Or set storage.path to another directory."
    return sentence, "Create a directory there for the daemon's user, or set storage.path."


def _capitalized(cure: str) -> str:
    return f"{cure[:1].upper()}{cure[1:]}"


def _has_no_inodes(directory: Path) -> bool:
    about = os.statvfs(directory)
    return about.f_files > 0 and about.f_favail == 0


def _parent(parent: Path) -> Iterator[Finding]:
    """Who else can rename the daemon's directory. A warning at most: some volumes are open to a group."""
    if not parent.is_dir():
        return
    about = parent.stat()
    if about.st_uid not in (os.geteuid(), 0):
        yield Finding(
            "warn",
            ABOUT,
            f"{parent} belongs to user {about.st_uid}, who can rename or remove the daemon's directory",
            f"Make user {os.geteuid()} its owner, or set storage.path to a directory of that user.",
        )
    if about.st_mode & WRITABLE and not about.st_mode & stat.S_ISVTX:
        yield Finding(
            "warn",
            ABOUT,
            f"other users can write in {parent} (mode {stat.S_IMODE(about.st_mode):04o}), and so can rename "
            "or remove the daemon's directory",
            f"Run: chmod go-w {parent}. A volume of Kubernetes with fsGroup needs no change.",
        )


def _file_system(directory: Path, kind: str) -> Finding:
    if kind in NETWORK:
        return Finding(
            "FAIL",
            ABOUT,
            f"{directory} is on a network file system ({kind}), where commits are not safe",
            "Use a local disk.",
        )
    return Finding("ok", ABOUT, f"the file system is {kind or 'unknown, and assumed to be local'}")


def _room(config: StorageConfig, there: Path, free: int, used: int) -> Finding:
    left = f"{free / (1 << 20):,.0f} MiB are free"
    if free < LEAST_BYTES:
        return Finding("FAIL", ABOUT, f"the disk of {there} is full: {left}", "Free disk space.")
    if free < config.max_bytes - used:
        return Finding(
            "warn",
            ABOUT,
            f"{left}, less than the file may grow to by storage.max_bytes, {config.max_bytes.text}",
            "Free disk space, or lower storage.max_bytes, so that senders get 503 before the disk is full.",
        )
    return Finding("ok", ABOUT, left)
