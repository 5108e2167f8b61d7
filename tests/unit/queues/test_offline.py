"""Disk queues read from outside: checked, counted, written out."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from forwarder.cli import main
from forwarder.model import STORED_JSON, Event
from forwarder.queues import rows
from forwarder.queues.queue import Settlement
from tests.support.puts import put_in
from tests.support.queues import events, ids, opened, queue_in, stored, take
from tests.unit.queues.test_disk import until_settled

BODY = b'{"Source":"s","DetailType":"d","Detail":"{}"}'


def entries(count: int) -> list[Event]:
    made = events(count, key=b"")
    for each in made:
        each.body = BODY
    return made


async def filled(directory: Path, *puts: Sequence[Event]) -> None:
    async with opened(directory) as (queue, _):
        for some in puts:
            await put_in(queue, some)


def change(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "forwarder.db", isolation_level=None)) as connection:
        connection.execute(statement)


def recode(directory: Path, complete: int) -> None:
    """The only row as if it had been written with these flags."""
    with closing(sqlite3.connect(directory / "forwarder.db", isolation_level=None)) as connection:
        select = "SELECT place, events, bytes, received, since, payload FROM queue_rows"
        *head, payload = connection.execute(select).fetchone()
        crc = zlib.crc32(payload, zlib.crc32(repr((*head, complete)).encode()))
        connection.execute("UPDATE queue_rows SET complete = ?, crc = ?", (complete, crc))


def dumped(
    directory: Path, capfdbinary: pytest.CaptureFixture[bytes], *more: str
) -> tuple[int, list[str], str]:
    """The exit code, the ids that were written, and what was said."""
    code = main(["queue", "dump", str(directory), *more])
    out, said = capfdbinary.readouterr()
    return code, [json.loads(line)["id"] for line in out.splitlines()], said.decode()


async def test_only_what_is_not_settled_is_written_in_order_and_beside_a_daemon(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    put = entries(30)
    async with opened(tmp_path) as (queue, _):
        await put_in(queue, put)
        queue.settle(Settlement(gone=(await take(queue, 30))[5:12]))
    async with opened(tmp_path) as (queue, _):
        assert dumped(tmp_path, capfdbinary) == (0, ids([*put[:5], *put[12:]]), "")
        assert len(queue) == 23


async def test_every_row_of_a_long_queue_is_written(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forwarder.queues.offline.PAGE_BYTES", 2000)
    puts = [entries(count) for count in (1, 7, 1, 3, 20, 2)]
    await filled(tmp_path, *puts)
    assert dumped(tmp_path, capfdbinary)[1] == [id for some in puts for id in ids(some)]


async def test_a_damaged_row_is_said_and_costs_no_other(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    puts = [entries(10) for _ in range(3)]
    await filled(tmp_path, *puts)
    assert main(["queue", "check", str(tmp_path)]) == 0
    change(tmp_path, "UPDATE queue_rows SET payload = zeroblob(length(payload)) WHERE place % 3 = 0")
    capfdbinary.readouterr()
    assert main(["queue", "check", str(tmp_path)]) == 1
    (problem,) = capfdbinary.readouterr().out.decode().splitlines()
    assert problem.startswith("orders: row ")
    assert problem.endswith(": 10 events are damaged")
    code, written, said = dumped(tmp_path, capfdbinary)
    assert (code, len(written)) == (1, 20)
    assert "orders: 10 events not written: row " in said
    async with opened(tmp_path) as (queue, _):
        queue.settle(Settlement(gone=await take(queue, 20)))
        await until_settled(tmp_path, 0)
    assert main(["queue", "check", str(tmp_path)]) == 1
    said = capfdbinary.readouterr().out.decode()
    assert said.splitlines()[-1] == "orders: 1 damaged rows were set aside by the daemon"


async def test_an_event_of_no_known_kind_is_said_and_costs_no_other(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    put = entries(3)
    put[1].body = b'{"something":"else"}'
    await filled(tmp_path, put)
    code, written, said = dumped(tmp_path, capfdbinary)
    assert (code, written) == (1, ids([put[0], put[2]]))
    assert f"{put[1].id} has an unknown kind" in said


@pytest.mark.parametrize(
    ("kind", "complete", "code"),
    [("eventbridge", 0, 0), ("", 0, 0), ("rum", 0, 1), ("kinesis", 0, 1), ("eventbridge", 2, 1)],
)
async def test_an_event_is_written_by_the_kind_and_the_encoding_that_are_stored(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], kind: str, complete: int, code: int
) -> None:
    """``complete`` is 2 for an encoding other than JSON; without a stored kind every API is tried."""
    put = entries(1)
    await filled(tmp_path, put)
    change(tmp_path, f"UPDATE queue_targets SET kind = '{kind}'")
    recode(tmp_path, complete)
    found, written, said = dumped(tmp_path, capfdbinary)
    assert (found, written) == (code, [] if code else ids(put))
    assert bool(said) == bool(code)


def test_rows_of_json_have_the_flags_that_earlier_versions_wrote() -> None:
    assert [rows.flags(False, STORED_JSON), rows.flags(True, STORED_JSON)] == [0, 1]
    for complete in (False, True):
        head = rows.Head(1, 1, 1, 0.0, 0.0, rows.flags(complete, 100))
        assert (head.is_complete, head.codec) == (complete, 100)


async def test_pages_that_are_not_sound_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await filled(tmp_path, entries(500))
    file = tmp_path / "forwarder.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:8192] + b"\x55" * 4 * 8192 + whole[5 * 8192 :])
    assert main(["queue", "check", str(tmp_path)]) == 1
    assert capsys.readouterr().out


async def with_a_page_of_zeros(directory: Path) -> list[str]:
    """A file of many rows with a damaged page in the middle: the ids that were put."""
    put = [entries(1) for _ in range(400)]
    await filled(directory, *put)
    data = bytearray((directory / "forwarder.db").read_bytes())
    leaves = [
        at for at in range(8192, len(data), 8192) if data[at] == 13 and data[at + 3 : at + 5] > b"\0\x10"
    ]
    middle = leaves[len(leaves) // 2]
    data[middle : middle + 8192] = bytes(8192)
    (directory / "forwarder.db").write_bytes(data)
    return [id for some in put for id in ids(some)]


async def test_a_damaged_page_costs_a_dump_no_row_of_another_and_is_said(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = await with_a_page_of_zeros(tmp_path)
    for page_bytes in (8 << 20, 2000):  # the damage is met at once, or when rows were written already
        monkeypatch.setattr("forwarder.queues.offline.PAGE_BYTES", page_bytes)
        code, written, said = dumped(tmp_path, capfdbinary)
        assert code == 1
        assert written == [id for id in put if id in set(written)]
        assert 400 > len(written) > 200
        assert f"recovered: {len(written)} events, 1 unreadable parts of the queues" in said
    aside = tmp_path / "forwarder.db.damaged-20261121T000000Z"
    (tmp_path / "forwarder.db").rename(aside)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert dumped(aside, capfdbinary)[:2] == (1, written)
    assert main(["queue", "stats", str(aside)]) == 1
    out, said_of_stats = capfdbinary.readouterr()
    assert out.splitlines()[1].split()[:2] == [b"orders", b"%d" % len(written)]
    assert b"1 unreadable parts" in said_of_stats
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


async def test_a_target_that_is_not_on_this_disk_is_said_with_those_that_are(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    await filled(tmp_path, entries(1))
    code, written, said = dumped(tmp_path, capfdbinary, "--target", "odrers")
    assert (code, written) == (1, [])
    assert said == "odrers: no such target in this storage; it has: orders\n"


async def test_a_directory_without_a_storage_exits_74(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("check", "stats", "dump"):
        assert main(["queue", action, str(tmp_path)]) == 74
        assert "there is no forwarder.db" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


async def test_a_storage_in_which_no_queue_was_ever_is_empty(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with stored(tmp_path):
        pass
    assert main(["queue", "check", str(tmp_path)]) == 0
    assert main(["queue", "stats", str(tmp_path)]) == 0
    capfdbinary.readouterr()
    assert dumped(tmp_path, capfdbinary) == (0, [], "")


async def test_stats_say_what_waits_and_what_nobody_will_send(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with stored(tmp_path) as storage:
        for name, count in (("orders", 3), ("old", 2), ("idle", 0)):
            queue = queue_in(storage, name)
            await queue.open()
            await put_in(queue, entries(count))
            await queue.aclose()
    config = tmp_path / "config.yaml"
    target = "{kind: eventbridge, region: eu-west-1, queue: disk}"
    config.write_text(f"{{storage: {{path: {tmp_path}}}, targets: {{orders: {target}}}}}")
    assert main(["queue", "stats", "-c", str(config)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [[row[0], row[1], row[4]] for row in rows[1:]] == [
        ["orders", "3", "no"],
        ["old", "2", "yes"],
        ["idle", "0", "no"],
    ]
    assert rows[3][3] == "-"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("on_terminal", [True, False])
async def test_a_dump_on_a_terminal_cannot_control_it_and_elsewhere_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    hostile = "a\x9b2J\u202eb\u2066\U000e0041"
    (event,) = entries(1)
    event.body = json.dumps(
        {"Source": hostile, "DetailType": "d", "Detail": "{}"}, ensure_ascii=False
    ).encode()
    await filled(tmp_path, [event])
    shown = io.BytesIO()
    stdout = (Terminal if on_terminal else io.TextIOWrapper)(shown, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["queue", "dump", str(tmp_path)]) == 0
    (line,) = shown.getvalue().decode().splitlines()
    assert line.isprintable() == on_terminal
    assert hostile in json.dumps(json.loads(line), ensure_ascii=False)
