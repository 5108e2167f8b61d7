"""Places for a storage: a folder, a quota, and small file systems of their own, where we may mount.

Invariants:
- What was mounted is unmounted when its block ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHUTDOWN = 0x8004587D
"""FS_IOC_SHUTDOWN (EXT4_IOC_SHUTDOWN): the file system ends here and now."""
LARGEST_BYTES = 256 << 20
"""A file system larger than this is not one of ours."""
FILLER = "filler"
NEW_MOUNTS = 0x00020000
"""CLONE_NEWNS of unshare(2)."""
NO_LOG_FLUSH = 2
"""What is not on the disk yet, the journal included, never gets there."""


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """A file system in memory; PermissionError where we may not mount."""
    with _mounted(folder, ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]):
        yield folder


@contextmanager
def ext4(folder: Path, size: int) -> Iterator[Path]:
    """An ext4 on a loop device; PermissionError where we may not mount."""
    image = folder.with_suffix(".img")
    make_ext4(image, size)
    try:
        with mounted_image(image, folder):
            yield folder
    finally:
        image.unlink()


def make_ext4(image: Path, size: int) -> None:
    """A file with an empty ext4 in it, with nothing kept back for root."""
    with image.open("wb") as file:
        file.truncate(size)
    if shutil.which("mkfs.ext4") is None:
        raise PermissionError("there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True, capture_output=True)


@contextmanager
def mounted_image(image: Path, folder: Path) -> Iterator[Path]:
    with _mounted(folder, ["-o", "loop", str(image)]):
        yield folder


@contextmanager
def _mounted(folder: Path, arguments: list[str]) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"mount: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def shut_down(folder: Path) -> None:
    """What a power cut leaves of this file system: nothing that was not flushed."""
    file = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(file, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(file)


def fill(folder: Path) -> Path:
    """Take all that is free on this small file system, to the last byte; the file that holds it."""
    room = os.statvfs(folder)
    if room.f_blocks * room.f_frsize > LARGEST_BYTES:
        raise ValueError(f"{folder} is on a file system that others use")
    filler = folder / FILLER
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


def why_not_mountable() -> str:
    """Why no small file system can be had here; empty when it can."""
    if os.geteuid() != 0:
        return "mounting needs root"
    try:
        _have_own_mounts()
        with tempfile.TemporaryDirectory() as folder, tmpfs(Path(folder) / "try", 1 << 20):
            return ""
    except (OSError, subprocess.CalledProcessError) as problem:
        return f"mounting is not possible here: {problem}"


def _have_own_mounts() -> None:
    """From now on nobody else sees what this process mounts, or keeps it mounted; it goes when we do."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "a process may not have mounts of its own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)
