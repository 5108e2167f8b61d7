"""What is stored of bus names and of deliveries, when its file is damaged. SQLite reads what is left."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from forwarder.model import SystemClock
from forwarder.storage import Connection, Storage
from forwarder.storage.ballast import Ballast
from forwarder.targets.buses import BusNames
from forwarder.targets.questions import Answer
from forwarder.targets.remembered import RememberedNames, rescue

PAGE = 8192


class Run:
    """One run of a daemon with one target."""

    def __init__(self, directory: Path) -> None:
        self.storage = Storage(
            directory, linger=0.0, ballast=Ballast(directory, 0), rescues=(rescue,), clock=SystemClock()
        )
        self.names = BusNames(
            (), default=True, verify=True, every=60.0, probe=30.0, cap=300.0, region="eu-west-1"
        )
        self.remembered = RememberedNames("orders", "eu-west-1 ", self.names, self.storage, SystemClock())

    async def __aenter__(self) -> Run:
        await self.storage.open()
        await self.remembered.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.remembered.save()
        await self.storage.close()

    def verify(self, *names: str) -> None:
        for name in names:
            self.names.is_open(name, "p")
            while (question := self.names.next_question()) is None or question.name != name:
                assert question is None
                self.names.hurry()
            self.names.learn(question, Answer.EXISTS)

    async def damage(self) -> None:
        """SQLite says that the file is damaged, so that the storage begins a new one."""

        def fail(connection: Connection) -> None:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        with pytest.raises(Exception, match="malformed"):
            await self.storage.submit(fail)


def damage_header(directory: Path) -> None:
    with (directory / "forwarder.db").open("r+b") as file:
        file.write(b"\0" * 100)


def damage_page_with(directory: Path, text: bytes) -> None:
    path = directory / "forwarder.db"
    data = bytearray(path.read_bytes())
    page = data.index(text) // PAGE * PAGE
    data[page : page + PAGE] = bytes(PAGE)
    path.write_bytes(data)


def rows(directory: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "forwarder.db")) as connection:
        return connection.execute(query).fetchall()


async def test_verified_names_and_counts_of_a_damaged_file_are_taken_over(tmp_path: Path) -> None:
    async with Run(tmp_path) as run:
        run.verify("shop", "sales")
        run.names.deliveries.add("shop", 7)
    damage_header(tmp_path)
    async with Run(tmp_path) as run:
        assert run.names.is_open("shop", "p")
        assert run.names.is_open("sales", "p")
        run.names.deliveries.deny("shop")
        (found,) = run.names.unconfirmed_buses()
        assert (found.events, found.exact) == (7, True)


async def test_what_is_delivered_before_and_after_the_damage_is_one_count(tmp_path: Path) -> None:
    async with Run(tmp_path) as run:
        run.verify("shop", "sales")
        run.names.deliveries.add("shop", 7)
        run.names.deliveries.add("sales", 2)
        await run.remembered._save(1000)
        await run.damage()
        run.names.deliveries.add("shop", 1)
        await run.remembered._save(1000)
        assert rows(tmp_path, "SELECT name, events FROM unconfirmed_events WHERE name <> ''") == [
            ("sales", 2),
            ("shop", 8),
        ]


async def test_the_end_of_a_run_stores_every_count_whatever_became_of_the_table(tmp_path: Path) -> None:
    async with Run(tmp_path) as run:
        run.verify("shop")
        run.names.deliveries.add("shop", 7)
        await run.remembered._save(1000)
        await run.storage.run(lambda connection: connection.execute("DROP TABLE unconfirmed_events"))
    async with Run(tmp_path) as run:
        run.names.deliveries.deny("shop")
        assert [(found.events, found.exact) for found in run.names.unconfirmed_buses()] == [(7, True)]


async def test_where_some_counts_cannot_be_read_the_others_are_lower_bounds(tmp_path: Path) -> None:
    async with Run(tmp_path) as run:
        run.verify("shop")
        for number in range(2000):
            run.names.deliveries.add(f"bus-{number:04}-with-a-longer-name", 3)
        run.names.deliveries.add("a-bus", 7)
    damage_page_with(tmp_path, b"bus-1000-with")
    damage_header(tmp_path)
    async with Run(tmp_path) as run:
        for name in ("a-bus", "bus-1999-with-a-longer-name"):
            run.names.deliveries.deny(name)
        found = {each.name: (each.events, each.exact) for each in run.names.unconfirmed_buses()}
        assert found == {"a-bus": (7, False), "bus-1999-with-a-longer-name": (3, False)}


@pytest.mark.parametrize("table", ["verified_names", "unconfirmed_events"])
@pytest.mark.parametrize("value", ["'abc'", "x'00'", "9e99", "-1"])
async def test_a_damaged_value_of_a_row_does_not_stop_the_start(
    tmp_path: Path, table: str, value: str
) -> None:
    column = {"verified_names": "verified_at", "unconfirmed_events": "since"}[table]
    async with Run(tmp_path) as run:
        run.verify("shop", "sales")
        run.names.deliveries.add("shop", 7)
    with closing(sqlite3.connect(tmp_path / "forwarder.db")) as connection:
        connection.execute(f"UPDATE {table} SET {column} = {value} WHERE name = 'shop'")
        connection.commit()
    async with Run(tmp_path) as run:
        assert run.names.is_open("sales", "p")
        run.names.deliveries.add("shop", 1)
        run.names.deliveries.deny("shop")
        assert run.names.unconfirmed >= 1


async def test_a_save_at_the_end_is_in_time_for_every_count_that_there_may_be(tmp_path: Path) -> None:
    async with Run(tmp_path) as run:
        for number in range(20_000):
            run.names.deliveries.add(f"bus-{number}", 1)
        async with asyncio.timeout(60):
            before = time.thread_time()
            await run.remembered.save()
            assert time.thread_time() - before < 1.0
    assert rows(tmp_path, "SELECT count(*) FROM unconfirmed_events") == [(20_001,)]
