"""What is written of settled events, and when: scripts of what happens to rows, and the writes that follow.

Row 1 has three events (1.0, 1.1, 1.2), row 2 has one (2.0). A script's steps are separated by ", ": an event
is settled; ``put``: a put is about to be written; ``+0.05``: time passes; ``fail`` and ``mend``: the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from forwarder.model import Event
from forwarder.queues import rows
from forwarder.queues.rows import Mark
from forwarder.queues.settling import DELETE_ROWS, UNWRITTEN_ROWS, Row, Settling
from forwarder.storage import StorageError
from tests.support.turned_time import TurnedClock, run_in_turned_time


class Disk:
    """Stands for the storage: what was written, in words."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.written: list[str] = []
        self.fails = False
        patch.setattr(rows, "delete", lambda _, places: self._say("delete", *map(str, places)))
        patch.setattr(rows, "set_aside", lambda _, places: self._say("set aside", *map(str, places)))
        patch.setattr(rows, "mark", lambda _, marks: self._marked(marks))

    def submit(self, work: Callable[[Any], None]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work(None)
        if self.fails:
            self.written[-1] += " (failed)"
            done.set_exception(StorageError("full", "the disk is full"))
        else:
            done.set_result(None)
        return done

    def _marked(self, marks: Sequence[Mark]) -> None:
        if marks:
            self._say("mark", *map(in_words, marks))

    def _say(self, *words: str) -> None:
        self.written.append(" ".join(words))


def in_words(mark: Mark) -> str:
    """The place of the row, and the events that are marked."""
    bits = mark.bitmap[0]
    return f"{mark.place}.{''.join(str(index) for index in range(8) if bits >> index & 1)}"


class Script:
    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.told = 0
        self.settling = Settling(disk, self._tell)  # type: ignore[arg-type]
        self.events = {name: _event() for name in ("1.0", "1.1", "1.2", "2.0")}
        self.rows = {place: Row(place, count, self._of(place)) for place, count in ((1, 3), (2, 1))}

    async def play(self, script: str) -> None:
        for step in script.split(", "):
            if step.startswith("+"):
                await asyncio.sleep(float(step))
            elif step == "put":
                self.settling.flush_done()
            elif step in ("fail", "mend"):
                self.disk.fails = step == "fail"
            elif step == "close":
                self.settling.close(lambda _: self.disk.written.append("totals"))
            elif step == "damage":
                self.rows[1].damaged = True
                self.settling.add(self.rows[1])
            else:
                row = self.rows[int(step[0])]
                row.settle(self.events[step])
                self.settling.add(row)

    def _tell(self) -> None:
        self.told += 1

    def _of(self, place: int) -> list[Event]:
        return [event for name, event in self.events.items() if name.startswith(f"{place}.")]


def _event() -> Event:
    return Event("id", b"{}", 2, b"", 0.0)


@pytest.mark.parametrize(
    ("script", "written"),
    [
        # A row that is done goes with the next put, else by itself after 50 ms.
        ("2.0, put", ["delete 2"]),
        ("2.0, +0.04", []),
        ("2.0, +0.05", ["delete 2"]),
        ("2.0, put, +1", ["delete 2"]),
        # A row that is done in part waits the 50 ms: most are done by then.
        ("1.0, put", []),
        ("1.0, +0.05", ["mark 1.0"]),
        ("1.0, 1.1, 1.2, +0.05", ["delete 1"]),
        ("1.0, 1.2, 2.0, +0.05", ["delete 2", "mark 1.02"]),
        # Each mark says only what is new; the last event makes it needless.
        ("1.0, +0.05, 1.2, +0.05", ["mark 1.0", "mark 1.2"]),
        ("1.0, +0.05, 1.1, 1.2, +0.05", ["mark 1.0", "delete 1"]),
        # What failed is tried again a second later, with what was settled since.
        ("fail, 2.0, +0.05, mend, +1", ["delete 2 (failed)", "delete 2"]),
        ("fail, 1.0, +0.05, mend, 1.1, +0.95, +0.05", ["mark 1.0 (failed)", "mark 1.01"]),
        ("fail, 1.0, +0.05, mend, 1.1, 1.2, +1", ["mark 1.0 (failed)", "delete 1"]),
        ("fail, 2.0, +0.05, mend, put, +2", ["delete 2 (failed)", "delete 2"]),
        # A damaged row is kept apart, whatever of it is settled.
        ("damage, +0.05", ["set aside 1"]),
        ("1.0, damage, put", ["set aside 1"]),
        # The close writes all that is not known to be written, marks and totals together.
        ("1.0, 2.0, close", ["delete 2", "mark 1.0", "totals"]),
        ("1.0, +0.05, close", ["mark 1.0", "totals"]),
        ("fail, 1.0, +0.05, mend, 1.1, close", ["mark 1.0 (failed)", "mark 1.01", "totals"]),
    ],
)
def test_what_is_settled_and_what_is_written_of_it(
    script: str, written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(_: TurnedClock) -> list[str]:
        world = Script(Disk(monkeypatch))
        await world.play(script)
        await asyncio.sleep(0.001)
        return world.disk.written

    assert run_in_turned_time(play) == written


def test_many_rows_are_deleted_in_jobs_that_a_full_disk_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(_: TurnedClock) -> list[int]:
        disk = Disk(monkeypatch)
        settling = Settling(disk, lambda: None)  # type: ignore[arg-type]
        for place in range(DELETE_ROWS + 1):
            settling.add(Row(place, 1))
        settling.flush_done()
        return [len(each.split()) - 1 for each in disk.written]

    assert run_in_turned_time(play) == [DELETE_ROWS, 1]


def test_while_writing_fails_only_so_many_rows_may_wait_and_its_end_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(_: TurnedClock) -> None:
        world = Script(Disk(monkeypatch))
        for place in range(UNWRITTEN_ROWS):
            world.settling.add(Row(place + 10, 1))
        assert not world.settling.is_behind  # nothing has failed yet
        await world.play("fail, +0.051")
        assert world.settling.is_behind
        assert world.told == 0
        await world.play("mend, +1.1")
        assert not world.settling.is_behind
        assert world.told == 1

    run_in_turned_time(play)
