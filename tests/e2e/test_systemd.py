"""The units of deploy/systemd, read by systemd's own tools, and restarts under load as they bring them about.

Invariants:
- What was promised to a sender is compared with what arrived, event by event.
- Whoever plays PID 1 here only holds sockets, listens, sends SIGTERM and starts again.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.environments import debian_program
from tests.integration.conftest import aws_environment, place
from tests.integration.test_listeners import Load, load_on
from tests.support.harness import Settings, World, until
from tests.support.processes import HAND_OVER, Process, daemon_beside, run_command, running
from tests.support.service_manager import Ear, an_ear

__all__ = ["aws_environment", "place"]

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
RESTARTS = 4
MAX_EXPOSURE = 1.5
DISK: Settings = {"queue": "disk"}

Start = Callable[..., AbstractAsyncContextManager[Process]]


# --- the units


@pytest.fixture(scope="session")
def analyze() -> str:
    return debian_program("systemd-analyze", "systemd")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with the forwarder of this environment in place of /opt/forwarder's."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/forwarder/", f"{sys.prefix}/")
        (tmp_path / unit.name).write_text(text)
    return tmp_path


def add_unix_sockets(installed: Path) -> None:
    for name in ("forwarder.socket.d", "forwarder@.socket.d"):
        (installed / name).mkdir()
        shutil.copy(installed / "unix-socket.conf", installed / name)


@pytest.mark.parametrize("unix", [False, True], ids=["port", "unix socket"])
def test_systemd_finds_nothing_to_say_against_the_units(analyze: str, installed: Path, unix: bool) -> None:
    if unix:
        add_unix_sockets(installed)
    units = [str(unit) for kind in ("*.service", "*.socket") for unit in sorted(installed.glob(kind))]
    assert len(units) == 4
    verified = subprocess.run([analyze, "verify", *units], capture_output=True, text=True)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_reads_what_is_added_to_the_sockets(analyze: str, installed: Path) -> None:
    """So that silence about them means something."""
    add_unix_sockets(installed)
    for added in installed.glob("*.socket.d/unix-socket.conf"):
        added.write_text(added.read_text().replace("SocketMode=0666", "SocketMode=wide"))
    verified = subprocess.run(
        [analyze, "verify", *map(str, installed.glob("*.socket"))], capture_output=True, text=True
    )
    assert verified.stderr.count("wide") == 2


@pytest.mark.parametrize("name", ["forwarder.service", "forwarder@.service"])
def test_systemd_finds_little_exposed(analyze: str, installed: Path, name: str) -> None:
    threshold = f"--threshold={int(MAX_EXPOSURE * 10)}"
    command = [analyze, "security", "--offline=true", "--no-pager", threshold, str(installed / name)]
    judged = subprocess.run(command, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout[-200:]
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert exposure
    assert float(exposure[1]) <= MAX_EXPOSURE


# --- restarts under load


@pytest.fixture
async def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ear]:
    loop = asyncio.get_running_loop()
    with an_ear(str(tmp_path / "notify")) as made:
        monkeypatch.setenv("NOTIFY_SOCKET", made.address)
        loop.add_reader(made.listener, made.listen)
        yield made
        loop.remove_reader(made.listener)


@pytest.fixture(params=["TCP", "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """What a socket unit holds."""
    family = socket.AF_INET if request.param == "TCP" else socket.AF_UNIX
    with socket.socket(family) as held:
        held.bind(("127.0.0.1", 0) if request.param == "TCP" else str(tmp_path / "held.sock"))
        held.listen(1024)
        yield held


@asynccontextmanager
async def activated(place: World, listener: socket.socket, ear: Ear) -> AsyncIterator[Process]:
    """A daemon that systemd's tool starts on this socket with the first connection; from when it is ready."""
    tool = debian_program("systemd-socket-activate", "systemd")
    environ = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "NOTIFY_SOCKET": ear.address}
    settings = [f"--setenv={name}={value}" for name, value in environ.items()]
    command = [tool, *settings, "--fdname=ingest", *run_command(place, orders=DISK)]
    numbers = [listener.fileno()]
    hand_over = [sys.executable, "-c", HAND_OVER, str(numbers[0]), "ingest"]
    before = len(ear.said("READY"))
    async with running([*hand_over, *command], numbers) as daemon:

        async def ready() -> bool:
            return len(ear.said("READY")) > before

        await until(ready, "the daemon tells that it is ready")
        place.admin = f"http://{(await daemon.says('ready'))['admin']}"
        yield daemon


def written(listener: socket.socket) -> str:
    """Where it listens, as the load generator has it."""
    name = listener.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"


async def ends_well(daemon: Process) -> None:
    daemon.ask()
    assert await daemon.ended() == 0
    assert daemon.said("stopped, nothing lost")


async def all_is_kept(place: World, load: Load) -> None:
    """Nobody was refused, and what was promised arrived, once."""
    assert not load.refused
    arrived = await place.all_arrive("eventbridge", load.taken)
    assert {arrived[name] for name in load.taken} == {1}


async def test_restarts_under_load_refuse_nobody_and_lose_nothing(
    place: World, listener: socket.socket, ear: Ear
) -> None:
    """As ``systemctl restart`` with a socket unit. While AWS refuses, what was promised is handed on."""
    refused: Settings = {"fault": "access_denied"}
    faults: list[list[Settings]] = [[{"fault": "slow", "delay": 0.2}], [refused], [refused], []]
    async with load_on(written(listener)) as load:
        for fault in faults:
            await place.heal()
            await place.order(*fault)
            async with activated(place, listener, ear) as daemon:
                await load.goes_on()
                if refused in fault:
                    await place.held("eventbridge")
                await ends_well(daemon)
    await all_is_kept(place, load)
    assert len(ear.said("STOPPING")) == len(ear.said("READY")) == len(faults)


@contextmanager
def on_one_port(count: int) -> Iterator[list[socket.socket]]:
    """As many sockets on one port, none of which listens yet."""
    sockets: list[socket.socket] = []
    with ExitStack() as opened:
        for _ in range(count):
            shared = opened.enter_context(socket.socket())
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(sockets[0].getsockname() if sockets else ("127.0.0.1", 0))
            sockets.append(shared)
        yield sockets


def instances_on(listener: socket.socket, place: World) -> list[Start]:
    """What starts each of two instances that share this address, and have a storage each."""
    host, port = listener.getsockname()
    shared: Settings = {"listen": f"{host}:{port}", "reuse_port": True}
    places = [place, replace(place, storage=place.storage.with_name("second"))]
    return [partial(daemon_beside, each, ingest=shared, orders=DISK) for each in places]


async def test_an_instance_that_starts_before_another_stops_takes_over_its_port(
    place: World, ear: Ear
) -> None:
    """With ``reuse_port``; each comes back to its storage."""
    with on_one_port(1) as (reserved,):
        start = instances_on(reserved, place)
        async with AsyncExitStack() as lives:
            running_now = await lives.enter_async_context(start[0]())
            async with load_on(written(reserved)) as load:
                for turn in range(1, RESTARTS + 1):
                    await load.goes_on()
                    started = await lives.enter_async_context(start[turn % 2]())
                    await ends_well(running_now)
                    running_now = started
                await load.goes_on()
            await ends_well(running_now)
    await all_is_kept(place, load)
    assert len(ear.said("STOPPING")) == len(ear.said("READY")) == RESTARTS + 1


async def test_instances_with_a_socket_unit_each_restart_in_turn(place: World, ear: Ear) -> None:
    """As forwarder@1.socket and forwarder@2.socket: what one socket is given waits for its own instance."""
    with on_one_port(2) as sockets:
        for each in sockets:
            each.listen(1024)
        start = instances_on(sockets[0], place)
        async with AsyncExitStack() as lives:
            instances = [
                await lives.enter_async_context(start[number](given={"ingest": sockets[number]}))
                for number in range(2)
            ]
            async with load_on(written(sockets[0])) as load:
                for number in [0, 1] * (RESTARTS // 2):
                    await load.goes_on()
                    await ends_well(instances[number])
                    again = start[number](given={"ingest": sockets[number]})
                    instances[number] = await lives.enter_async_context(again)
                await load.goes_on()
            for instance in instances:
                await ends_well(instance)
    await all_is_kept(place, load)
    assert len(ear.said("STOPPING")) == len(ear.said("READY")) == RESTARTS + 2
