"""Dead letters: kept whole, counted, bounded, and readable. SQLite and json alone judge the rows."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder.cli import main
from forwarder.dead_letters import (
    ROW_OVERHEAD_BYTES,
    DeadLetters,
    Letter,
    Wanted,
    as_json,
    export,
    list_,
    show,
)
from forwarder.dead_letters.rows import shares_over
from forwarder.model import Dead, Event
from forwarder.storage import Storage, StorageError

DAY = 86_400.0
Puts = Sequence[tuple[str, list[tuple[int, int]]]]
GENEROUS = 1 << 30


class TurnedClock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_690_000_000.0


class Room:
    """A storage in a directory, and dead letters in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = TurnedClock()
        self.dropped: Counter[str] = Counter()
        self._open: list[Storage] = []

    async def letters(self, max_bytes: int = GENEROUS, max_age: float = 14 * DAY) -> DeadLetters:
        """The dead letters after a restart with these bounds."""
        await self.close()
        storage = Storage(self.directory, linger=0.0)
        await storage.open()
        self._open.append(storage)
        letters = DeadLetters(
            storage, max_bytes=max_bytes, max_age=max_age, clock=self.clock, on_dropped=self._drop
        )
        await letters.open()
        return letters

    async def close(self) -> None:
        while self._open:
            await self._open.pop().close()

    def dead(self, id_: str, body: bytes = b"{}", **parts: str) -> Dead:
        event = Event(id_, body, 64, b"", self.clock.monotonic() - 5.0, attempts=3)
        given = {"reason": "rejected", "code": "MalformedDetail", "message": "Detail is malformed."}
        return Dead(event, **{**given, **parts})

    def rows(self) -> list[tuple[str, str, int]]:
        """What another program finds in the table: id, target, bytes."""
        with closing(sqlite3.connect(self.directory / "forwarder.db")) as connection:
            return list(connection.execute("SELECT id, target, bytes FROM dead_letters ORDER BY position"))

    def ids(self) -> list[str]:
        return [id_ for id_, _, _ in self.rows()]

    def _drop(self, target: str, count: int) -> None:
        self.dropped[target] += count


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(tmp_path)
    yield room
    await room.close()


def cost(body: int, message: str = "Detail is malformed.") -> int:
    return body + len(message) + ROW_OVERHEAD_BYTES


async def test_a_kept_letter_is_read_back_field_by_field_while_the_daemon_runs(room: Room) -> None:
    letters = await room.letters()
    event = Event("id-1", b'{"Detail":"x"}', 14, b"endpoint", room.clock.monotonic() - 5.0, attempts=3)
    await letters.keep("orders", [Dead(event, "rejected", "MalformedDetail", "Detail is malformed.")])
    letter = Letter(
        id="id-1",
        target="orders",
        reason="rejected",
        code="MalformedDetail",
        message="Detail is malformed.",
        attempts=3,
        received_at=1_699_999_995.0,
        died_at=1_700_000_000.0,
        size=14,
        key=b"endpoint",
        body=b'{"Detail":"x"}',
    )
    assert list(list_(room.directory)) == [letter]
    assert show(room.directory, "id-1") == letter
    assert show(room.directory, "id-2") is None


async def test_the_view_counts_what_is_there_by_target_also_after_a_restart(room: Room) -> None:
    letters = await room.letters()
    assert letters.view() == {}
    await letters.keep("orders", [room.dead("a", b"x" * 10), room.dead("b", b"x" * 20)])
    await letters.keep("web", [room.dead("c")])
    expected = {"orders": (2, cost(10) + cost(20)), "web": (1, cost(2))}
    assert letters.view() == expected
    assert (await room.letters()).view() == expected


async def test_keeping_the_same_event_again_changes_nothing(room: Room) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a"), room.dead("b")])
    await letters.keep("orders", [room.dead("b"), room.dead("c")])
    assert room.ids() == ["a", "b", "c"]
    assert letters.view() == {"orders": (3, 3 * cost(2))}


@pytest.mark.parametrize(("spare", "left"), [(0, ["b", "c"]), (1, ["b", "c"]), (-1, ["c"])])
async def test_over_max_bytes_the_oldest_go_and_no_more_than_must(
    room: Room, spare: int, left: list[str]
) -> None:
    letters = await room.letters(max_bytes=2 * cost(100) + spare)
    for id_ in "abc":
        await letters.keep("orders", [room.dead(id_, b"x" * 100)])
    assert room.ids() == left
    assert room.dropped == {"orders": 3 - len(left)}
    assert letters.view() == {"orders": (len(left), len(left) * cost(100))}


async def test_a_target_alone_may_use_the_whole_bound_and_pushes_out_no_other(room: Room) -> None:
    letters = await room.letters(max_bytes=4 * cost(2))
    await letters.keep("orders", [room.dead(id_) for id_ in "bcde"])
    assert room.dropped == {}
    await letters.keep("web", [room.dead("x")])
    assert room.ids() == ["c", "d", "e", "x"]
    await letters.keep("orders", [room.dead(id_) for id_ in "fghi"])
    assert room.ids() == ["x", "g", "h", "i"]
    assert room.dropped == {"orders": 5}
    assert letters.view() == {"orders": (3, 3 * cost(2)), "web": (1, cost(2))}


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 1_000), max_size=6), st.integers(-10, 5_000))
def test_what_targets_give_up_is_enough_and_nobody_gives_up_to_a_larger_one(
    held: dict[str, int], excess: int
) -> None:
    over = shares_over(held, excess)
    assert sum(over.values()) >= min(excess, sum(held.values()))
    left = {name: size - over.get(name, 0) for name, size in held.items()}
    assert all(size >= 0 for size in left.values())
    level = max(left.values(), default=0)
    assert all(left[name] == level for name in over)
    assert over == {} or sum(over.values()) < max(excess, 0) + len(held)


async def test_a_letter_older_than_max_age_goes_and_one_of_that_age_stays(room: Room) -> None:
    letters = await room.letters(max_age=DAY)
    await letters.keep("orders", [room.dead("old")])
    room.clock.now += 1.0
    await letters.keep("orders", [room.dead("young")])
    room.clock.now += DAY - 1.0
    await letters.expire()
    assert room.ids() == ["old", "young"]
    room.clock.now += 0.5
    await letters.expire()
    assert room.ids() == ["young"]
    assert room.dropped == {"orders": 1}


async def test_new_bounds_apply_when_the_daemon_starts(room: Room) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead(id_) for id_ in "abcd"])
    letters = await room.letters(max_bytes=cost(2))
    assert room.ids() == ["d"]
    assert letters.view() == {"orders": (1, cost(2))}
    assert room.dropped == {"orders": 3}


async def test_rows_deleted_by_hand_are_counted_as_gone_and_not_as_dropped(room: Room) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a"), room.dead("b")])
    with closing(sqlite3.connect(room.directory / "forwarder.db", isolation_level=None)) as connection:
        connection.execute("DELETE FROM dead_letters WHERE id = 'a'")
    await letters.expire()
    assert letters.view() == {"orders": (1, cost(2))}
    assert room.dropped == {}


async def test_when_letters_cannot_be_written_none_is_and_the_numbers_stay(tmp_path: Path) -> None:
    storage = Storage(tmp_path, max_bytes=400_000, linger=0.0)
    await storage.open()
    room = Room(tmp_path)
    letters = DeadLetters(storage, max_bytes=GENEROUS, max_age=DAY, clock=room.clock)
    await letters.open()
    await letters.keep("orders", [room.dead("a")])
    before = dict(letters.view())
    with pytest.raises(StorageError, match="is full"):
        await letters.keep("orders", [room.dead("b"), room.dead("c", b"x" * 500_000)])
    assert room.ids() == ["a"]
    assert letters.view() == before
    await letters.keep("orders", [room.dead("b")])
    assert room.ids() == ["a", "b"]
    await storage.close()


async def test_a_message_with_half_a_surrogate_pair_is_kept_all_the_same(room: Room) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a", message="bad \ud800 text")])
    assert [letter.message for letter in list_(room.directory)] == ["bad ? text"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    puts=st.lists(
        st.tuples(
            st.sampled_from(["orders", "web"]), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 400)))
        ),
        max_size=8,
    ),
    max_bytes=st.integers(0, 4000),
)
async def test_whatever_is_kept_the_numbers_equal_the_rows_and_the_bound_holds(
    tmp_path_factory: pytest.TempPathFactory,
    puts: Sequence[tuple[str, list[tuple[int, int]]]],
    max_bytes: int,
) -> None:
    room = Room(tmp_path_factory.mktemp("letters"))
    letters = await room.letters(max_bytes)
    seen: set[str] = set()
    for target, events in puts:
        await letters.keep(target, [room.dead(f"{number}", b"x" * size) for number, size in events])
        seen.update(str(number) for number, _ in events)
        rows = room.rows()
        assert sum(size for _, _, size in rows) <= max_bytes
        assert letters.view() == {
            name: (len(sizes), sum(sizes))
            for name in ("orders", "web")
            if (sizes := [size for _, of, size in rows if of == name])
        }
    assert set(room.ids()) <= seen
    await room.close()


WANTED: list[tuple[Wanted, list[str]]] = [
    (Wanted(), ["a", "b", "c", "d"]),
    (Wanted(target="web"), ["c", "d"]),
    (Wanted(reason="expired"), ["b", "d"]),
    (Wanted(code="max_age", target="orders"), ["b"]),
    (Wanted(since=1_700_000_010.0), ["c", "d"]),
    (Wanted(until=1_700_000_010.0), ["a", "b"]),
    (Wanted(limit=2), ["a", "b"]),
    (Wanted(limit=0), []),
    (Wanted(target="'; DROP TABLE dead_letters; --"), []),
]


@pytest.mark.parametrize(("wanted", "found"), WANTED)
async def test_the_reader_finds_what_was_asked_for_oldest_first(
    room: Room, wanted: Wanted, found: list[str]
) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a"), room.dead("b", reason="expired", code="max_age")])
    room.clock.now += 10.0
    await letters.keep("web", [room.dead("c"), room.dead("d", reason="expired", code="max_age")])
    assert [letter.id for letter in list_(room.directory, wanted)] == found
    assert [json.loads(line)["id"] for line in export(room.directory, wanted)] == found


async def test_the_export_is_one_json_object_a_line_with_event_and_key_as_they_were(room: Room) -> None:
    letters = await room.letters()
    body = b'{"Detail":"{\\"a\\":1}","Time":1e400,"n":12345678901234567890}'
    event = Event("id-1", body, 99, b'{"Id":"monitor"}', room.clock.monotonic() - 5.25)
    await letters.keep("web", [Dead(event, "expired", "max_age", "older\nthan max_age")])
    await room.close()
    (line,) = export(room.directory)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert body in line
    read = json.loads(line)
    assert read.pop("event")["Detail"] == '{"a":1}'
    assert read == {
        "id": "id-1",
        "target": "web",
        "reason": "expired",
        "code": "max_age",
        "message": "older\nthan max_age",
        "attempts": 0,
        "received_at": "2023-11-14T22:13:14.750Z",
        "died_at": "2023-11-14T22:13:20.000Z",
        "size": 99,
        "key": {"Id": "monitor"},
    }


@pytest.mark.parametrize("column", ["body", "key", "target", "message", "received_at", "attempts"])
async def test_a_letter_that_is_not_as_it_was_written_is_exported_as_damaged(
    room: Room, capfdbinary: pytest.CaptureFixture[bytes], column: str
) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a"), room.dead("b"), room.dead("c")])
    await room.close()
    value = {"body": "x'7b20'", "key": "x'20'", "received_at": "1.5", "attempts": "7"}.get(column, "'else'")
    with closing(sqlite3.connect(room.directory / "forwarder.db")) as connection:
        connection.execute(f"UPDATE dead_letters SET {column} = {value} WHERE id = 'b'")
        connection.commit()
    assert main(["dead-letters", "export", "--path", str(room.directory)]) == 1
    out, said = capfdbinary.readouterr()
    assert [line.get("damaged", False) for line in map(json.loads, out.splitlines())] == [False, True, False]
    assert said.decode() == "damaged dead letters (checksums do not match): 1\n"


async def test_letters_of_an_earlier_version_have_no_checksums_and_are_sound(room: Room) -> None:
    await (await room.letters()).keep("orders", [room.dead("a")])
    await room.close()
    with closing(sqlite3.connect(room.directory / "forwarder.db")) as connection:
        connection.execute("ALTER TABLE dead_letters DROP COLUMN crc")
        connection.commit()
    assert [letter.damaged for letter in list_(room.directory)] == [False]
    await (await room.letters()).keep("orders", [room.dead("b")])
    assert [(letter.id, letter.damaged) for letter in list_(room.directory)] == [("a", False), ("b", False)]


async def test_what_can_be_read_of_a_damaged_file_is_exported_once_and_the_rest_is_said(
    room: Room, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = await room.letters()
    for number in range(60):
        await letters.keep("orders", [room.dead(f"id-{number:02}", b"x" * 3000)])
    await room.close()
    path = tmp_path / "forwarder.db"
    data = bytearray(path.read_bytes())
    leaves = [
        at for at in range(8192, len(data), 8192) if data[at] == 13 and data[at + 3 : at + 5] == b"\0\2"
    ]
    data[leaves[15] : leaves[15] + 8192] = bytes(8192)
    path.write_bytes(data)
    for page_bytes in (4 << 20, 10_000):  # the damage is met at once, or when letters were written already
        monkeypatch.setattr("forwarder.dead_letters.query.PAGE_BYTES", page_bytes)
        assert main(["dead-letters", "export", "--path", str(tmp_path)]) == 1
        out, said = capfdbinary.readouterr()
        found = [json.loads(line)["id"] for line in out.splitlines()]
        assert found == sorted(set(found))
        assert 50 < len(found) < 60
        assert f"recovered: {len(found)} dead letters, 1 unreadable parts" in said.decode()
        assert main(["dead-letters", "show", found[-1], "--path", str(tmp_path)]) in (0, 1)
        assert found[-1].encode() in capfdbinary.readouterr().out


@pytest.mark.parametrize("body", [b'{"cut off', b'{\n"a":1}', b"\xff\xfe", b"plain", b"{" * 100_000])
async def test_a_body_that_is_no_json_object_on_one_line_is_exported_as_text(room: Room, body: bytes) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("a", body)])
    (line,) = export(room.directory)
    assert json.loads(line)["event"] == body.decode("utf-8", "replace")


@pytest.mark.parametrize("read", [lambda path: list(list_(path)), lambda path: show(path, "a")])
async def test_reading_where_no_daemon_ever_ran_is_an_error(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(StorageError, match="there is no"):
        read(tmp_path)


async def test_reading_a_storage_without_dead_letters_finds_none(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    await storage.open()
    await storage.close()
    assert list(list_(tmp_path)) == []
    assert show(tmp_path, "a") is None


class SteppedClock(TurnedClock):
    """A clock whose wall time is stepped against the other."""

    step = 0.0

    def wall(self) -> float:
        return self.now + self.step


@pytest.fixture
def stepped(room: Room) -> SteppedClock:
    room.clock = SteppedClock()
    return room.clock


@pytest.mark.parametrize("step", [15 * DAY, -15 * DAY])
async def test_a_step_of_the_wall_clock_deletes_no_dead_letter_and_is_said_once(
    room: Room, stepped: SteppedClock, step: float
) -> None:
    letters = await room.letters(max_age=14 * DAY)
    await letters.keep("orders", [room.dead("before")])
    with capture_logs() as lines:
        stepped.step = step
        for _ in range(3):
            await letters.expire()
        await letters.keep("orders", [room.dead("after")])
    assert room.ids() == ["before", "after"]
    assert [line["event"] for line in lines] == [
        "wall clock may be wrong; for 1 hour dead letters and events of an earlier boot do not expire"
    ]
    stepped.now += 2 * 3600
    await letters.expire()
    assert room.ids() == ["before", "after"], "they died in this boot, two hours ago"
    stepped.now += 14 * DAY
    await letters.expire()
    assert room.ids() == []


async def test_a_step_while_no_daemon_runs_deletes_no_letter_of_this_boot(
    room: Room, stepped: SteppedClock
) -> None:
    await (await room.letters()).keep("orders", [room.dead("a")])
    stepped.step = 15 * DAY
    letters = await room.letters()
    stepped.now += 7200
    await letters.expire()
    assert room.ids() == ["a"]


def make_of_another_boot(room: Room) -> None:
    with closing(sqlite3.connect(room.directory / "forwarder.db")) as connection:
        connection.execute("UPDATE dead_letters SET boot = 'another'")
        connection.commit()


async def test_letters_of_an_earlier_boot_wait_an_hour_for_a_clock_that_is_set_after_the_start(
    room: Room, stepped: SteppedClock
) -> None:
    await (await room.letters()).keep("orders", [room.dead("a")])
    await room.close()
    make_of_another_boot(room)
    stepped.step = 15 * DAY
    letters = await room.letters()
    stepped.now += 3500
    await letters.expire()
    assert room.ids() == ["a"], "the clock may be set still"
    stepped.now += 200
    await letters.expire()
    assert room.ids() == []


async def test_a_start_with_a_clock_older_than_the_newest_letter_deletes_nothing_for_an_hour(
    room: Room, stepped: SteppedClock
) -> None:
    letters = await room.letters()
    await letters.keep("orders", [room.dead("old")])
    stepped.now += 15 * DAY
    await room.close()
    with closing(sqlite3.connect(room.directory / "forwarder.db")) as connection:
        connection.execute("UPDATE dead_letters SET died_at = died_at + 30 * 86400")
        connection.commit()
    with capture_logs() as lines:
        letters = await room.letters()
    assert "behind the newest dead letter" in lines[0]["reason"]
    assert room.ids() == ["old"]
    stepped.now += 3700
    await letters.expire()
    assert room.ids() == [], "by the clock of this boot it is too old"


async def test_a_table_of_an_earlier_version_is_taken_over(room: Room) -> None:
    await (await room.letters()).keep("orders", [room.dead("a")])
    await room.close()
    with closing(sqlite3.connect(room.directory / "forwarder.db")) as connection:
        connection.execute("ALTER TABLE dead_letters DROP COLUMN boot")
        connection.execute("ALTER TABLE dead_letters DROP COLUMN since")
        connection.execute("ALTER TABLE dead_letters DROP COLUMN codec")
        connection.commit()
    (letter,) = list_(room.directory)
    assert (letter.id, letter.codec) == ("a", 0), "it is read before a daemon adds the column"
    assert "codec" not in json.loads(as_json(letter))
    letters = await room.letters()
    assert [each.codec for each in list_(room.directory)] == [0]
    await letters.keep("orders", [room.dead("b")])
    assert room.ids() == ["a", "b"]
