"""Who may use the storage's directory: its owner and, where the user may change, a group.

Invariants:
- The group is that of a setgid parent, else group 0 if the process runs in it, else none.
- The owner gives directory and files to the group at every start, also those made without the group.
- Each refusal has the command that lifts it, for this user and these paths.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

GROUP_MODE = 0o660
GROUP_DIRECTORY, OWN_DIRECTORY = 0o2770, 0o700


def shared_group(parent: Path) -> int | None:
    """The group that the storage in this directory is open to, None for its owner alone."""
    about = parent.stat()
    if about.st_mode & stat.S_ISGID:
        return about.st_gid
    return 0 if os.getegid() == 0 else None


def make(directory: Path, group: int | None) -> None:
    """Make it, unless it is there; below a setgid directory it inherits group and bit.

    The umask and not chmod gives it its mode: chmod by a user outside the group takes the setgid bit away.
    """
    if group is None:
        with suppress(FileExistsError):
            directory.mkdir(mode=OWN_DIRECTORY)
        return
    mask = os.umask(0o007)
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o770)
    finally:
        os.umask(mask)


def give_to(directory: Path, group: int | None) -> None:
    """Set group and mode of the directory and of the files in it, as far as they are this user's."""
    _set(directory, OWN_DIRECTORY if group is None else GROUP_DIRECTORY, group)
    if group is None:
        return
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # a daemon that runs there makes and removes files
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid():
                _set(path, GROUP_MODE, group)


def _set(path: Path, mode: int, group: int | None) -> None:
    about = path.lstat()
    if group is not None and about.st_gid != group:
        with suppress(PermissionError):  # not a member of it
            os.chown(path, -1, group, follow_symlinks=False)
            about = path.lstat()
    if stat.S_IMODE(about.st_mode) != mode:
        path.chmod(mode)


def refusal(directory: Path, files: Iterable[Path]) -> tuple[str, str] | None:
    """The first of directory and files that this user may not read and write, in words, and the cure.

    None on a read-only file system too, whose error says more than modes do.
    """
    for path in (directory, *files):
        try:
            if not _may_use(path):
                return _in_words(directory, path, path.stat())
        except FileNotFoundError:  # not made yet, or removed by a daemon that runs there
            continue
    return None


def _may_use(path: Path) -> bool:
    need = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
    if os.access(path, need, effective_ids=True):
        return True
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _in_words(directory: Path, path: Path, about: os.stat_result) -> tuple[str, str]:
    user, group = os.geteuid(), os.getegid()
    sentence = (
        f"user {user} (group {group}) cannot read and write {path} (user {about.st_uid}, group "
        f"{about.st_gid}, mode {stat.S_IMODE(about.st_mode):04o})"
    )
    if about.st_uid == user:
        return sentence, f"run chmod u+rw {path}"
    return sentence, f"run as root: chown -R {user}:{group} {directory}"


def cure_of_parent(path: Path, there: Path) -> str:
    """How this user gets the directory ``path`` to write in; ``there`` is what exists of it."""
    user, group = os.geteuid(), os.getegid()
    if there == path or path in there.parents:
        return f"run as root: chown {user}:{group} {there}"
    return f"run as root: install -d -o {user} -g {group} -m 0700 {path}"
