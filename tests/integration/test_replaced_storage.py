"""Storage and sockets deleted or replaced under a running daemon. The next process is the judge."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.events import TARGETS, events, markers
from tests.support.harness import Settings, World, until
from tests.support.processes import daemon_beside

DISK: Settings = {"queue": "disk"}
KIND = "eventbridge"


def deleted(storage: Path) -> None:
    shutil.rmtree(storage)


def moved(storage: Path) -> None:
    storage.rename(storage.with_name("elsewhere"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("way", [deleted, moved])
async def test_what_was_accepted_is_delivered_by_the_next_process_though_the_storage_was_gone(
    place: World, way: object, number: signal.Signals
) -> None:
    assert callable(way)
    names = markers(40)
    await place.order({"fault": "access_denied", "api": KIND})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send(KIND, events(KIND, names[:20]))
        way(place.storage)
        await place.send(KIND, events(KIND, names[20:]))
        await daemon.says("storage files were moved, deleted or replaced; written again")
        await daemon.says("unix socket was deleted; created again")
        daemon.ask(number)
        assert await daemon.ended() == (0 if number == signal.SIGTERM else -number)
    await place.heal()
    async with daemon_beside(place, **DISK):
        assert await place.all_arrive(KIND, names) == dict.fromkeys(names, 1)


async def test_a_stop_right_after_the_storage_was_deleted_loses_nothing(place: World) -> None:
    names = markers(20)
    await place.order({"fault": "access_denied", "api": KIND})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send(KIND, events(KIND, names))
        deleted(place.storage)
        daemon.ask()
        assert await daemon.ended() == 0
    await place.heal()
    async with daemon_beside(place, **DISK):
        assert await place.all_arrive(KIND, names) == dict.fromkeys(names, 1)


async def test_another_file_in_the_storages_place_ends_the_daemon_which_says_how_many_events_that_costs(
    place: World,
) -> None:
    await place.order({"fault": "access_denied", "api": KIND})
    async with daemon_beside(place, **DISK, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send(KIND, events(KIND, markers(20)))
        another = place.storage / "another"
        with closing(sqlite3.connect(another)) as connection:
            connection.execute("PRAGMA user_version = 1")
        another.replace(place.storage / "data" / "forwarder.db")
        assert await daemon.ended() == 70
        assert daemon.said("storage failed; stopping")[0]["events"][TARGETS[KIND]] == 20
        assert daemon.said("stopped; some events were lost")[0]["lost"] == 20
        assert not daemon.said("stopped, nothing lost")
        ledger = daemon.ledger(TARGETS[KIND])
        assert (ledger["dropped"], ledger["in_queue"], ledger["balanced"]) == (20, 0, True)
    assert len(list((place.storage / "data").glob("forwarder.db.saved-*"))) == 1


async def test_a_unix_socket_that_a_cleaner_deletes_is_made_again(place: World, tmp_path: Path) -> None:
    socket = tmp_path / "ingest.sock"
    async with daemon_beside(place, ingest={"listen": f"unix:{socket}"}) as daemon:
        control = place.storage / "data" / "control.sock"
        socket.unlink()
        control.unlink()

        async def both() -> bool:
            return socket.exists() and control.exists()

        await until(both, "the sockets are there again")
        _, writer = await asyncio.open_unix_connection(str(socket))
        writer.close()
        assert os.stat(control).st_mode & 0o777 == 0o600
        daemon.ask()
        assert await daemon.ended() == 0
        assert not socket.exists()
