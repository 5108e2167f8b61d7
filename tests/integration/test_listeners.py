"""More than one process on one address: daemons that share a port, and daemons that follow on one socket.

Invariants:
- Every request here has a connection of its own, so that a stop meets connections in every state.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from tests.support.events import event, markers
from tests.support.harness import DEADLINE, LOOK, Settings, World, until
from tests.support.processes import daemon_beside, run_command, running

SENDERS = 8
MORE = 60
NOBODY_LISTENS = (errno.ECONNREFUSED, errno.ENOENT)


@dataclass
class Load:
    """What senders that never rest have seen: events that were taken, and requests that got no answer."""

    taken: list[str] = field(default_factory=list)
    failed: list[aiohttp.ClientError] = field(default_factory=list)

    @property
    def refused(self) -> list[aiohttp.ClientError]:
        """Requests that found nobody listening."""
        return [each for each in self.failed if getattr(each, "errno", None) in NOBODY_LISTENS]

    async def goes_on(self) -> None:
        """Wait until more was taken."""
        wanted = len(self.taken) + MORE

        async def there() -> bool:
            return len(self.taken) >= wanted

        await until(there, f"{MORE} more events are taken")

    async def send(self, address: str) -> None:
        path = address.removeprefix("unix:")
        connector = (
            aiohttp.UnixConnector(path, force_close=True)
            if path != address
            else aiohttp.TCPConnector(force_close=True)
        )
        url = f"http://{'localhost' if path != address else address}/v1/targets/orders/events"
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            while True:
                (name,) = markers(1)
                try:
                    async with http.post(url, json=event("eventbridge", name)) as answer:
                        assert answer.status == 202
                    self.taken.append(name)
                except aiohttp.ClientError as problem:
                    self.failed.append(problem)
                    await asyncio.sleep(LOOK)


@asynccontextmanager
async def load_on(address: str) -> AsyncIterator[Load]:
    load = Load()
    senders = [asyncio.create_task(load.send(address)) for _ in range(SENDERS)]
    try:
        yield load
        assert not [sender for sender in senders if sender.done()]
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


# --- a port that several share


@pytest.fixture
def shared() -> Iterator[Settings]:
    """A port that nobody else is given, but whoever shares it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield {"listen": f"127.0.0.1:{holder.getsockname()[1]}", "reuse_port": True}


async def test_daemons_that_share_a_port_share_its_events_and_the_stop_of_one_loses_none(
    place: World, shared: Settings
) -> None:
    """A connection that the one that stops has not accepted is reset; no new one is refused."""
    other = replace(place, storage=place.storage.with_name("other"))
    async with (
        daemon_beside(place, ingest=shared) as first,
        daemon_beside(other, ingest=shared) as second,
    ):
        async with load_on(shared["listen"]) as load:
            await load.goes_on()
            assert not load.failed
            first.ask()
            assert await first.ended() == 0
            await load.goes_on()
        second.ask()
        assert await second.ended() == 0
    took = [daemon.ledger("orders")["accepted"] for daemon in (first, second)]
    assert min(took) > 0
    assert sum(took) >= len(load.taken)
    assert not load.refused
    assert set(load.taken) <= set(await place.arrived("eventbridge"))


async def test_a_port_is_shared_only_with_daemons_that_share_it_too(place: World, shared: Settings) -> None:
    async with daemon_beside(place, ingest=shared):
        place.storage = place.storage.with_name("other")
        alone = {"listen": shared["listen"]}
        async with daemon_beside(place, wait_for="cannot start", ingest=alone) as second:
            assert await second.ended() == 75


# --- a socket that is inherited


@pytest.fixture(params=["TCP", "unix"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that listens before any daemon does, and after each."""
    family = socket.AF_INET if request.param == "TCP" else socket.AF_UNIX
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if request.param == "TCP" else str(tmp_path / "given.sock"))
        listener.listen(128)
        yield listener


async def test_a_restart_on_an_inherited_socket_refuses_nobody_and_loses_nothing(
    place: World, given: socket.socket
) -> None:
    """Whoever connects while no daemon runs waits in the socket for the next one."""
    name = given.getsockname()
    address = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
    queue: Settings = {"queue": "disk"}
    async with load_on(address) as load:
        for _ in range(2):
            async with daemon_beside(place, given={"ingest": given}, orders=queue) as daemon:
                said = await daemon.says("ingest.listen: on an inherited socket")
                assert (said["configured"], said["used"], said["level"]) == (
                    "127.0.0.1:0",
                    address,
                    "warning",
                )
                await load.goes_on()
                daemon.ask()
                assert await daemon.ended() == 0
        async with daemon_beside(place, given={"ingest": given}, orders=queue):
            await load.goes_on()
            await place.all_arrive("eventbridge", load.taken)
    assert not load.refused


async def test_both_listeners_can_be_inherited_and_are_told_by_their_names(place: World) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as ingest,
        socket.create_server(("127.0.0.1", 0)) as admin,
    ):
        async with daemon_beside(place, given={"admin": admin, "ingest": ingest}):
            ports = [int(url.rpartition(":")[2]) for url in (place.ingest, place.admin)]
            assert ports == [ingest.getsockname()[1], admin.getsockname()[1]]
            await place.send("eventbridge", [event("eventbridge", "one")])
            assert await place.ready()


async def test_a_socket_of_an_unknown_name_among_others_is_refused_for_good(place: World) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as ingest,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        listeners = {"ingest": ingest, "control": other}
        async with daemon_beside(place, wait_for="cannot start", given=listeners) as daemon:
            assert await daemon.ended() == 78
        (line,) = daemon.said("cannot start")
        assert "'ingest:control'" in line["reason"]


ACTIVATE = shutil.which("systemd-socket-activate")


@pytest.mark.skipif(ACTIVATE is None, reason="there is no systemd-socket-activate here")
async def test_systemd_itself_hands_over_a_socket(place: World) -> None:
    """Its tool opens the socket, and becomes the daemon with the first connection."""
    path = place.storage.with_name("activated.sock")
    keys = [f"--setenv=AWS_{name}=any" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    async with running([str(ACTIVATE), "-l", str(path), *keys, *run_command(place)]) as daemon:
        await daemon.says(f"Listening on {path} as 3.\n")
        async with load_on(f"unix:{path}") as load:
            await load.goes_on()
            await place.all_arrive("eventbridge", load.taken)
        assert daemon.said("ready", ingest=f"unix:{path}")
        daemon.ask()
        assert await daemon.ended() == 0
    assert not load.failed
    assert path.exists(), "it is not the daemon's to remove"
