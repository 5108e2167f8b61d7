"""The storage's own directory, and the way into it from where earlier versions kept their file."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from forwarder.storage import Storage, StorageError, open_read_only
from forwarder.storage import directory as own
from forwarder.storage.file import FORMAT

FILE = "forwarder.db"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """What is configured; the storage is in ``data`` below it."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    return state


async def stored(directory: Path, earlier: Path | None = None, *, notes: int = 3) -> None:
    """Write some rows there as a daemon does."""
    storage = Storage(directory, earlier=earlier, linger=0.0)
    await storage.open()
    try:
        await storage.run(lambda each: each.execute("CREATE TABLE IF NOT EXISTS notes (n)") and None)
        for n in range(notes):
            await storage.run(lambda each, n=n: each.execute("INSERT INTO notes VALUES (?)", (n,)) and None)  # type: ignore[misc]
    finally:
        await storage.close()


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM notes").fetchone()
    return int(count)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def refusal(directory: Path, earlier: Path | None = None) -> StorageError:
    with pytest.raises(StorageError) as refused:
        await stored(directory, earlier)
    return refused.value


# --- whose it is


@pytest.mark.parametrize(("group", "setgid"), [(0, False), (1000, True), (1000, False)])
def test_the_directory_is_never_open_to_others(
    state: Path, group: int, setgid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getegid", lambda: group)
    state.chmod(0o2777 if setgid else 0o777)
    for _ in range(2):  # made, and checked
        own.make_own(state / "data")
        assert mode(state / "data") == (0o2770 if group == 0 or setgid else 0o700)
        (state / "data").chmod(0o755)


async def test_a_shared_parent_is_no_reason_to_refuse(state: Path) -> None:
    state.chmod(0o777)
    await stored(state / "data")
    assert rows(state / "data" / FILE) == 3


@pytest.mark.parametrize("name", [FILE, f"{FILE}-wal", "forwarder.lock", "forwarder.ballast", "anything"])
async def test_a_symbolic_link_in_it_is_refused_and_nothing_is_written_through_it(
    state: Path, name: str
) -> None:
    own.make_own(state / "data")
    elsewhere = state / "elsewhere"
    elsewhere.write_text("precious")
    (state / "data" / name).symlink_to(elsewhere)
    problem = await refusal(state / "data")
    assert problem.reason == "unsafe"
    assert name in str(problem)
    assert elsewhere.read_text() == "precious"


async def test_a_link_in_place_of_the_directory_is_refused(state: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (state / "data").symlink_to(tmp_path / "foreign")
    assert (await refusal(state / "data")).reason == "unsafe"
    assert list((tmp_path / "foreign").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory away")
@pytest.mark.parametrize(("bits", "good"), [(0o2770, True), (0o2775, False), (0o777, False)])
async def test_the_directory_of_another_user_of_the_group_is_used_unless_it_is_open_to_others(
    state: Path, bits: int, good: bool
) -> None:
    own.make_own(state / "data")
    (state / "data").chmod(bits)
    os.chown(state / "data", 12345, 0)
    if good:
        await stored(state / "data")
    else:
        assert (await refusal(state / "data")).reason == "unsafe"


def stores_as(user: int, umask: int, directory: Path, group: int = 0) -> str:
    """What refuses a process of this user and group that writes there as a daemon does; "" if nothing."""
    out, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        with os.fdopen(out) as said:
            refused = said.read()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, refused
        return refused
    try:
        os.umask(umask)
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        asyncio.run(stored(directory))
    except StorageError as error:
        os.write(into, f"{error.reason}: {error}".encode())
    except BaseException:
        os.write(into, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


@pytest.fixture
def volume() -> Iterator[Path]:
    """A directory that every user of group 0 may write, as OpenShift's volumes are."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Path(folder) / "volume"
        made.mkdir()
        made.chmod(0o775)
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_users_of_group_0_follow_each_other_on_one_volume(volume: Path, umask: int) -> None:
    users = [1_000_650_000, 1_000_650_001, 1_000_650_000, 12345]
    for user in users:
        assert not stores_as(user, umask, volume / "data")
    assert rows(volume / "data" / FILE) == 3 * len(users)
    assert {path.stat().st_uid for path in (volume / "data").iterdir()} <= set(users)
    for path in (volume / "data", *(volume / "data").iterdir()):
        assert not mode(path) & 0o007, path


OPENSHIFT, OUTSIDE = 1_000_650_000, 10001
"""A user of group 0 alone, and a user and group outside it."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_user_outside_group_0_leaves_a_storage_to_it_below_a_setgid_directory(
    volume: Path, umask: int
) -> None:
    os.chown(volume, OUTSIDE, 0)
    volume.chmod(0o2770)
    for _ in range(2):
        assert not stores_as(OUTSIDE, umask, volume / "data", OUTSIDE)
    for path in (volume / "data", *(volume / "data").iterdir()):
        assert path.stat().st_gid == 0, path
    assert mode(volume / "data") == 0o2770
    assert not stores_as(OPENSHIFT, umask, volume / "data")
    assert not stores_as(OUTSIDE, umask, volume / "data", OUTSIDE), "and back, after a stop in order"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_storage_of_its_user_alone_is_refused_to_group_0_with_a_command_that_lifts_it(volume: Path) -> None:
    volume.chmod(0o777)
    data = volume / "data"
    assert not stores_as(OUTSIDE, 0o022, data, OUTSIDE)
    refused = stores_as(OPENSHIFT, 0o022, data)
    assert refused == (
        f"path: user {OPENSHIFT} (group 0) cannot read and write {data} (user {OUTSIDE}, "
        f"group {OUTSIDE}, mode 0700): run as root: chown -R {OPENSHIFT}:0 {data}"
    )
    subprocess.run(refused.rpartition("run as root: ")[2].split(), check=True)
    assert not stores_as(OPENSHIFT, 0o022, data)
    assert not stores_as(OPENSHIFT + 1, 0o022, data), "and to every other user of the group"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_its_owner_gives_a_storage_to_group_0_once_it_is_of_that_group(volume: Path) -> None:
    volume.chmod(0o777)
    assert not stores_as(OUTSIDE, 0o022, volume / "data", OUTSIDE)
    assert mode(volume / "data" / FILE) == 0o600
    assert not stores_as(OUTSIDE, 0o022, volume / "data", 0)
    assert not stores_as(OPENSHIFT, 0o022, volume / "data", 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("name", [FILE, "forwarder.lock", "forwarder.ballast"])
def test_a_file_of_another_user_is_named_with_the_command_that_lifts_it(volume: Path, name: str) -> None:
    data = volume / "data"
    assert not stores_as(OPENSHIFT, 0o022, data)
    os.chown(data / name, OUTSIDE, OUTSIDE)
    refused = stores_as(OPENSHIFT, 0o022, data)
    assert f"cannot read and write {data / name} (user {OUTSIDE}," in refused
    assert refused.endswith(f"run as root: chown -R {OPENSHIFT}:0 {data}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_a_parent_without_access_is_refused_with_the_command_that_makes_or_gives_it(volume: Path) -> None:
    volume.chmod(0o700)
    given = stores_as(OUTSIDE, 0o022, volume / "data", OUTSIDE)
    assert f"run as root: chown {OUTSIDE}:{OUTSIDE} {volume}. Or set storage.path" in given
    volume.chmod(0o755)
    made = stores_as(OUTSIDE, 0o022, volume / "state" / "data", OUTSIDE)
    assert f"run as root: install -d -o {OUTSIDE} -g {OUTSIDE} -m 0700 {volume / 'state'}. Or" in made


# --- what an earlier version left


async def test_the_file_of_an_earlier_version_is_taken_over_with_its_log(state: Path) -> None:
    await stored(state)
    with closing(sqlite3.connect(state / FILE)) as connection:  # killed before the log was brought in
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO notes VALUES (4)")
        connection.commit()
        subprocess.run(["cp", state / FILE, state / "kept"], check=True)
        subprocess.run(["cp", f"{state / FILE}-wal", state / "kept-wal"], check=True)
    (state / "kept").replace(state / FILE)
    (state / "kept-wal").replace(f"{state / FILE}-wal")
    await stored(state / "data", state, notes=1)
    assert rows(state / "data" / FILE) == 5


async def test_an_earlier_version_refuses_what_is_left_in_the_old_place(state: Path) -> None:
    await stored(state)
    await stored(state / "data", state)
    with closing(sqlite3.connect(state / FILE)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] > FORMAT
    header = (state / FILE).read_bytes()[:100]
    assert header.startswith(b"SQLite format 3\0")
    assert int.from_bytes(header[60:64], "big") == FORMAT + 1
    assert not (state / f"{FILE}-wal").exists()
    await stored(state / "data", state)  # and every later start goes on
    assert rows(state / "data" / FILE) == 9


async def test_a_file_of_a_later_format_stays_in_the_old_place_as_it_is(state: Path) -> None:
    await stored(state)
    with closing(sqlite3.connect(state / FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
        connection.commit()
    before = (state / FILE).read_bytes()
    assert (await refusal(state / "data", state)).reason == "format"
    assert (state / FILE).read_bytes() == before
    assert not (state / "data").exists()


async def test_an_earlier_place_that_cannot_be_looked_at_is_said_in_a_sentence(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (state / "file").touch()  # configured as the directory
    problem = await refusal(state / "file" / "data", state / "file")
    assert (problem.reason, problem.operation) == ("io", "open")

    def refused(path: Path, *given: Any, **more: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    await stored(state)
    monkeypatch.setattr(Path, "open", refused)
    problem = await refusal(state / "data", state)
    assert (problem.reason, problem.operation) == ("io", "open")
    assert str(state / FILE) in str(problem)


async def test_an_earlier_version_that_still_runs_keeps_its_file(state: Path) -> None:
    running = Storage(state)
    await running.open()
    assert (await refusal(state / "data", state)).reason == "locked"
    await running.close()
    await stored(state / "data", state)


STEPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the file has its new name": lambda patch: patch.setattr(Path, "replace", _end),
    "before the marker": lambda patch: patch.setattr(own, "leave_marker", _end),
}


class Killed(BaseException):
    pass


def _end(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_in_the_middle_of_it_loses_nothing(
    state: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(state)
    own.make_own(state / "data")
    with monkeypatch.context() as patch:
        STEPS[step](patch)
        with pytest.raises(Killed):
            own.take_over(state / FILE, state / "data" / FILE, FORMAT + 1)
    await stored(state / "data", state)
    assert rows(state / "data" / FILE) == 6


async def test_a_kill_beside_the_marker_leaves_an_earlier_version_nothing_incomplete(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(state)
    Path(f"{state / FILE}-wal").write_bytes(b"not brought in yet")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _end)
        with pytest.raises(Killed):
            own.leave_marker(state / FILE, state / "data" / FILE, FORMAT + 1)
    assert Path(f"{state / FILE}-wal").exists()


@pytest.mark.parametrize("gone", [False, True])
async def test_nobody_opens_the_marker_as_a_storage(state: Path, *, gone: bool) -> None:
    await stored(state)
    await stored(state / "data", state)
    if gone:
        (state / "data" / FILE).unlink()
    before = (state / FILE).read_bytes()
    for use in (refusal, read_refusal):
        problem = await use(state)
        assert problem.reason == "format"
        assert f"{state / FILE} only records that the storage was moved to {state / 'data' / FILE}" in str(
            problem
        )
        assert str(problem).endswith(
            ", which is gone" if gone else f": name {state} as storage.path or with --path"
        )
    assert (state / FILE).read_bytes() == before
    assert not Path(f"{state / FILE}-wal").exists()


async def read_refusal(directory: Path) -> StorageError:
    with pytest.raises(StorageError) as refused, open_read_only(directory):
        pass
    return refused.value


async def test_a_log_beside_the_marker_is_removed_by_the_next_start(state: Path) -> None:
    await stored(state)
    await stored(state / "data", state)
    Path(f"{state / FILE}-wal").write_bytes(b"left by a kill")
    await stored(state / "data", state)
    assert not Path(f"{state / FILE}-wal").exists()
    assert rows(state / "data" / FILE) == 9


async def test_once_moved_nothing_is_asked_of_the_earlier_lock(state: Path) -> None:
    """It is its maker's alone, and a later start may be that of another user of the group."""
    for _ in range(3):
        await stored(state / "data", state)
    assert not (state / "forwarder.lock").exists()


async def test_a_marker_that_cannot_be_written_into_a_foreign_directory_stops_no_start(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "connect", _unable_in(state, sqlite3.connect))
    await stored(state / "data", state)


async def test_a_full_disk_has_room_for_the_marker_where_the_ballast_was(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(state)
    assert (state / "forwarder.ballast").exists()
    leave = own.leave_marker
    there: list[bool] = []

    def look(*given: Any) -> None:
        there.append((state / "forwarder.ballast").exists())
        leave(*given)

    monkeypatch.setattr(own, "leave_marker", look)
    await stored(state / "data", state)
    assert there == [False]


async def test_a_disk_without_room_for_the_marker_still_gives_up_its_events(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(state)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(own, "leave_marker", full)
        await stored(state / "data", state)
    assert not (state / FILE).exists()
    await stored(state / "data", state)
    assert own.is_marker(state / FILE)
    assert rows(state / "data" / FILE) == 9


async def test_a_marker_that_cannot_be_written_is_a_storage_error(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stored(state)
    monkeypatch.setattr(sqlite3, "connect", _unable_in(state, sqlite3.connect))
    await refusal(state / "data", state)


def _unable_in(directory: Path, connect: Callable[..., Any]) -> Callable[..., Any]:
    def unable(path: Any, *given: Any, **more: Any) -> Any:
        if Path(str(path)).parent == directory:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(path, *given, **more)

    return unable


async def test_a_file_system_without_links_gets_a_copy(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await stored(state)

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refused)
    await stored(state / "data", state)
    assert rows(state / "data" / FILE) == 6
