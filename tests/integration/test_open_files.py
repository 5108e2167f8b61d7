"""A daemon that has few descriptors, or none left: health and admin answer, and it is logged and counted."""

from __future__ import annotations

import asyncio
import re
import resource
from pathlib import Path

import aiohttp

from tests.support.events import events, markers
from tests.support.harness import World, until
from tests.support.processes import Process, run_command, running

LIMIT = 200
FLOOD = 3 * LIMIT


async def connect(address: str) -> asyncio.StreamWriter | None:
    host, _, port = address.removeprefix("http://").rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionError:
        return None
    return writer


async def began(place: World, daemon: Process) -> None:
    line = await daemon.says("ready")
    place.ingest, place.admin = f"http://{line['ingest']}", f"http://{line['admin']}"


async def test_a_flood_with_few_descriptors_leaves_health_admin_and_delivery(place: World) -> None:
    command = ["sh", "-c", f'ulimit -n {LIMIT}; exec "$@"', "sh", *run_command(place)]
    async with running(command) as daemon:
        await began(place, daemon)
        assert (await daemon.says("open files limit is too low for ingest.max_connections"))["limit"] == LIMIT
        await place.send("eventbridge", events("eventbridge", names := markers(3)))
        flood = await asyncio.gather(*(connect(place.ingest) for _ in range(FLOOD)))
        try:
            for _ in range(5):
                async with (
                    aiohttp.ClientSession() as fresh,
                    fresh.get(f"{place.admin}/health/ready") as answer,
                ):
                    assert answer.status == 200

            async def counted() -> bool:
                refused = re.search(
                    r"^forwarder_http_connections_refused_total (\S+)", await place.metrics(), re.M
                )
                return refused is not None and float(refused[1]) > 0

            await until(counted, "the connections that are too many are counted")
            await place.all_arrive("eventbridge", names)
        finally:
            for each in filter(None, flood):
                each.close()
        daemon.ask()
        assert await daemon.ended() == 0


async def test_no_descriptor_left_is_logged_and_counted_and_admin_goes_on(place: World) -> None:
    async with running(run_command(place)) as daemon:
        await began(place, daemon)
        await place.send("eventbridge", events("eventbridge", names := markers(3)))
        await place.all_arrive("eventbridge", names)
        await place.metrics()  # its connection stays open
        pid, before = daemon.process.pid, resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
        used = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        waiting = [each for each in [await connect(place.ingest) for _ in range(used)] if each]
        await daemon.says("open files limit reached")

        async def counted() -> bool:
            found = re.search(r"^forwarder_open_files_exhausted_total (\S+)", await place.metrics(), re.M)
            return found is not None and float(found[1]) > 0

        await until(counted, "it was counted")
        assert await place.ready()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        for each in waiting:
            each.close()
        await place.send("eventbridge", events("eventbridge", more := markers(3)))
        await place.all_arrive("eventbridge", more)
        daemon.ask()
        assert await daemon.ended() == 0
