"""A file system that is really full, not a quota: nothing is lost, what waits is delivered, and when there is
room again events are taken without a restart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import events, markers
from tests.support.harness import World, until
from tests.support.processes import Process, daemon_beside
from tests.torture.disks import fill, tmpfs, why_not_mountable

KIND = "eventbridge"
LARGE = {"Resources": ["x" * 2000]}
DISK_BYTES = 24 << 20
DISK: dict[str, Any] = {"orders": {"queue": "disk"}, "shutdown": {"drain_timeout": "10s"}}


@pytest.fixture
def small(place: World, tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB with the storage on it."""
    if why_not_mountable():
        pytest.skip("no small file system can be mounted here")
    with tmpfs(tmp_path / "disk", DISK_BYTES) as disk:
        place.storage = tmp_path / "disk" / "state"
        yield disk


async def send_until_refused(place: World) -> list[str]:
    """Send until not even the smallest request fits; markers of the events that were promised."""
    promised: list[str] = []
    for size in (200, 20, 1):

        async def refused(size: int = size) -> bool:
            names = markers(size)
            sent = await place.post(KIND, events(KIND, names, **LARGE))
            if sent.status == 202:
                promised.extend(names)
            assert sent.status in (202, 503)
            return sent.status == 503

        await until(refused, "the disk is full")
    return promised


async def takes_events(place: World) -> list[str]:
    """Wait until events are taken again; the markers of these."""
    names = markers(5)

    async def taken() -> bool:
        return (await place.post(KIND, events(KIND, names, **LARGE))).status == 202

    await until(taken, "events are taken again", seconds=15)
    return names


async def told(place: World, daemon: Process) -> tuple[str, str, str]:
    """What the last line about the storage says, with its reason, and what the status says."""
    (*_, line) = (line for line in daemon.lines if str(line["message"]).startswith("storage "))
    async with place.http.get(f"{place.admin}/status") as answer:
        storage = (await answer.json())["storage"]
    assert bool(storage["trouble"]) == bool(storage["cure"])
    return line["message"], line.get("reason", ""), storage["reason"]


async def test_others_fill_the_disk_and_what_waits_is_delivered_and_then_more_is_taken(
    place: World, small: Path
) -> None:
    async with daemon_beside(place, **DISK) as daemon:
        await place.order({"fault": "throttle"})
        promised = markers(300)
        await place.send(KIND, events(KIND, promised, **LARGE))
        filler = fill(small)
        promised += await send_until_refused(place)
        assert await told(place, daemon) == ("storage cannot write", "file_system", "file_system")
        sentence = daemon.said("storage cannot write")[-1]["error"]
        assert re.search(rf"file system of {place.storage}/data is full: \d+ bytes free", sentence)
        await place.heal()
        await place.all_arrive(KIND, promised)
        assert await place.ready()
        filler.unlink()
        promised += await takes_events(place)
        await daemon.says("storage works again")
        assert await told(place, daemon) == ("storage works again", "", "")
        await place.all_arrive(KIND, promised)
        daemon.ask()
        assert await daemon.ended() == 0


async def test_a_disk_full_of_our_own_events_drains_and_takes_more(place: World, small: Path) -> None:
    async with daemon_beside(place, **DISK) as daemon:
        await place.order({"fault": "throttle"})
        promised = await send_until_refused(place)
        assert await told(place, daemon) == ("storage cannot write", "file_system", "file_system")
        await place.heal()
        await place.all_arrive(KIND, promised)
        promised += await takes_events(place)
        await place.all_arrive(KIND, promised)
        daemon.ask()
        assert await daemon.ended() == 0


async def test_a_storage_that_has_all_it_may_have_says_so_and_not_that_the_disk_is_full(place: World) -> None:
    async with daemon_beside(place, **DISK, storage={"max_bytes": "1MiB"}) as daemon:
        await place.order({"fault": "throttle"})
        promised = await send_until_refused(place)
        assert await told(place, daemon) == ("storage cannot write", "max_bytes", "max_bytes")
        assert "storage.max_bytes" in daemon.said("storage cannot write")[-1]["error"]
        await place.heal()
        await place.all_arrive(KIND, promised)
        await takes_events(place)
        await daemon.says("storage works again")
