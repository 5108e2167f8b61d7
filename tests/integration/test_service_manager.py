"""A daemon under a service manager: what it says of itself, when, and when it falls silent.

Invariants:
- The daemon is a process as it is deployed; what stands still or dies in it was made to from outside.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from forwarder.client.control import ControlClient
from tests.e2e.processes import free_port
from tests.integration.test_control import socket_of
from tests.integration.test_stop import dead_end
from tests.support.events import event, events, markers
from tests.support.harness import Settings, World, until
from tests.support.processes import Process, daemon_beside, run_command, running
from tests.support.scraper import balances
from tests.support.service_manager import Ear, an_ear

WATCHDOG_SECONDS = 0.6
BEATS = 3

KILLS_A_WORKER = """
import asyncio, signal, sys
from forwarder.daemon import main

def kill(number, frame):
    (worker,) = [task for task in asyncio.all_tasks() if task.get_name() == "orders worker 3"]
    worker.cancel()

signal.signal(signal.SIGUSR1, kill)
sys.exit(main(sys.argv[1]))
"""
"""A daemon, and somebody in its process who means ill."""

STANDS_STILL = """
import os, signal, sys
from forwarder.daemon import main

signal.signal(signal.SIGUSR1, lambda number, frame: os.close(os.open(sys.argv[2], os.O_RDONLY)))
sys.exit(main(sys.argv[1]))
"""
"""A daemon whose event loop waits, once it is told to, until somebody opens the other end of a named pipe."""


@pytest.fixture
async def ear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ear]:
    """It listens all the time, as a few unread messages make it deaf."""
    loop = asyncio.get_running_loop()
    with an_ear(str(tmp_path / "notify")) as made:
        monkeypatch.setenv("NOTIFY_SOCKET", made.address)
        monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_SECONDS * 1e6)))
        loop.add_reader(made.listener, made.listen)
        yield made
        loop.remove_reader(made.listener)


async def hears(ear: Ear, name: str, value: str, times: int = 1) -> None:
    """Wait until the fact was said with a value that contains this."""

    async def there() -> bool:
        return sum(value in said for said in ear.said(name)) >= times

    await until(there, f"{name}={value} is heard")


async def hears_more_beats(ear: Ear) -> None:
    await hears(ear, "WATCHDOG", "1", len(ear.said("WATCHDOG")) + BEATS)


async def barks(ear: Ear) -> None:
    """Wait until the watchdog was not fed for as long as it waits."""
    loop = asyncio.get_running_loop()
    fed, last = len(ear.said("WATCHDOG")), loop.time()

    async def hungry() -> bool:
        nonlocal fed, last
        if len(ear.said("WATCHDOG")) > fed:
            fed, last = len(ear.said("WATCHDOG")), loop.time()
        return loop.time() - last > 2 * WATCHDOG_SECONDS

    await until(hungry, "the watchdog barks")


def index_of(ear: Ear, name: str) -> int:
    return next(index for index, facts in enumerate(ear.heard) if name in facts)


# --- ready


async def test_ready_is_said_once_it_listens(place: World, ear: Ear) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with running(run_command(place, ingest={"listen": address})):
        await hears(ear, "READY", "1")
        place.ingest = f"http://{address}"
        await place.send("eventbridge", [event("eventbridge", "one")])
    assert ear.said("STATUS")[:2] == ["starting; opening the storage", "ready; events waiting: 0"]


async def test_a_daemon_that_cannot_start_says_why_and_never_that_it_is_ready(place: World, ear: Ear) -> None:
    async with daemon_beside(place) as first:
        await hears(ear, "READY", "1")
        async with daemon_beside(place, wait_for="cannot start") as second:
            assert await second.ended() == 75
        assert ear.said("READY") == ["1"], "the first one's"
        assert any(said.startswith("cannot start: storage ") for said in ear.said("STATUS"))
        first.ask()
        assert await first.ended() == 0


async def test_what_waits_and_who_is_held_is_in_the_status(place: World, ear: Ear) -> None:
    async with daemon_beside(place, orders={"hold": {"probe": "600s", "probe_cap": "600s"}}) as daemon:
        await place.order({"fault": "access_denied", "api": "eventbridge"})
        await place.send("eventbridge", events("eventbridge", markers(12)))
        await hears(ear, "STATUS", "ready; events waiting: 12; held: orders")
        await place.heal()
        daemon.ask()
        assert await daemon.ended() == 0


async def test_a_pause_and_its_end_are_in_the_status_before_they_are_answered(
    place: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(int(3600e6)))  # no beat tells it
    async with daemon_beside(place):
        await hears(ear, "READY", "1")
        ear.listen()
        for action, status in (
            ("pause", "events waiting: 0; held: orders (operator)"),
            ("resume", "events waiting: 0"),
        ):
            async with ControlClient(socket_of(place)) as control:
                await control.ask(f"/targets/orders/{action}", {})
            assert ear.said("STATUS")[-1] == f"ready; {status}"


async def test_the_last_status_says_what_became_of_the_events(place: World, ear: Ear) -> None:
    async with daemon_beside(place) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(12)))
        daemon.ask()
        assert await daemon.ended() == 0
    assert ear.said("STATUS")[-1] == "stopped; events delivered: 12"
    assert index_of(ear, "STOPPING") < len(ear.heard) - 1


# --- reading again


async def test_a_reload_is_told_from_its_begin_to_its_end(place: World, ear: Ear) -> None:
    async with daemon_beside(place) as daemon:
        await hears(ear, "READY", "1")
        daemon.ask(signal.SIGHUP)
        await hears(ear, "RELOADING", "1")
        await hears(ear, "READY", "1", times=2)
        await daemon.says("reload finished")
        await hears_more_beats(ear)
    assert ear.said("MONOTONIC_USEC")[0].isdecimal()


# --- stopping


async def test_a_stop_says_so_and_asks_for_time_while_it_drains(place: World, ear: Ear) -> None:
    slow_stop: Settings = {"drain_timeout": "600s"}
    async with daemon_beside(place, orders={"endpoint_url": dead_end()}, shutdown=slow_stop) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(7)))
        daemon.ask()
        await hears(ear, "STOPPING", "1")
        await hears(ear, "STATUS", "stopping; events waiting: 7")
        started = len(ear.said("EXTEND_TIMEOUT_USEC"))
        await hears(ear, "EXTEND_TIMEOUT_USEC", "", started + BEATS)
        await hears_more_beats(ear)
        daemon.ask()
        assert await daemon.ended() == 3
    ready, stopping = index_of(ear, "READY"), index_of(ear, "STOPPING")
    asked = [index for index, facts in enumerate(ear.heard) if "EXTEND_TIMEOUT_USEC" in facts]
    assert not [index for index in asked if ready <= index < stopping], "only a start and a stop ask for time"
    beat = WATCHDOG_SECONDS / 3
    assert all(float(said) / 1e6 > 4 * beat for said in ear.said("EXTEND_TIMEOUT_USEC"))


# --- the watchdog


@contextmanager
def a_pipe(path: Path) -> Iterator[int]:
    """A pipe that nobody reads unless it is asked to."""
    os.mkfifo(path)
    number = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield number
    finally:
        os.close(number)


def fill(pipe: int) -> None:
    for size in (1 << 16, 1):
        try:
            while True:
                os.write(pipe, b"\n" * size)
        except BlockingIOError:
            continue


def read_all(pipe: int) -> bytes:
    read = b""
    try:
        while True:
            read += os.read(pipe, 1 << 16)
    except BlockingIOError:
        return read


@asynccontextmanager
async def daemon_that_logs_to(pipe: Path, place: World, ear: Ear) -> AsyncIterator[Process]:
    address = f"127.0.0.1:{free_port()}"
    command = run_command(place, ingest={"listen": address})
    async with running(["sh", "-c", 'exec "$@" 2>"$0"', str(pipe), *command]) as daemon:
        await hears(ear, "READY", "1")
        place.ingest = f"http://{address}"
        yield daemon


async def test_a_log_that_nobody_reads_stops_nothing_and_is_complete_when_it_is_read(
    place: World, ear: Ear, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    with a_pipe(path) as pipe:
        async with daemon_that_logs_to(path, place, ear) as daemon:
            fill(pipe)
            await place.order({"fault": "access_denied", "api": "eventbridge", "times": 1})
            await place.send("eventbridge", [event("eventbridge", "one")])
            await place.all_arrive("eventbridge", ["one"])
            await hears_more_beats(ear)
            said = read_all(pipe)
            daemon.ask()
            assert await daemon.ended() == 0
            said += read_all(pipe)
    lines = [json.loads(line)["message"] for line in said.splitlines() if line]
    assert lines[-1] == "stopped, nothing lost"
    assert lines.index("target held") < lines.index("target recovered") < lines.index("stopping")


async def test_a_stop_whose_last_lines_nobody_reads_ends(place: World, ear: Ear, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with a_pipe(path) as pipe:
        async with daemon_that_logs_to(path, place, ear) as daemon:
            fill(pipe)
            daemon.ask()
            assert await daemon.ended() == 0


async def test_a_loop_that_stands_still_feeds_no_watchdog_and_one_that_goes_on_does(
    place: World, ear: Ear, tmp_path: Path
) -> None:
    """Its other threads go on all the time."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with running([sys.executable, "-c", STANDS_STILL, run_command(place)[-1], str(gate)]) as daemon:
        await daemon.says("ready")
        await hears_more_beats(ear)
        daemon.ask(signal.SIGUSR1)
        await barks(ear)
        assert daemon.process.returncode is None
        os.close(os.open(gate, os.O_WRONLY))
        await hears_more_beats(ear)


async def test_a_daemon_that_its_watchdog_ends_says_where_it_stood(
    place: World, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd sends SIGABRT; the environment is the unit's."""
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    async with daemon_beside(place) as daemon:
        daemon.ask(signal.SIGABRT)
        assert await daemon.ended() == -signal.SIGABRT
    said = [line["message"] for line in daemon.lines]
    assert "Fatal Python error: Aborted\n" in said
    assert any(line.startswith("Current thread ") for line in said)
    assert any("in main" in line for line in said)


async def test_a_worker_that_dies_ends_the_process_with_its_report(place: World, ear: Ear) -> None:
    config = run_command(place)[-1]
    async with running([sys.executable, "-c", KILLS_A_WORKER, config]) as daemon:
        line = await daemon.says("ready")
        place.ingest, place.admin = f"http://{line['ingest']}", f"http://{line['admin']}"
        names = markers(30)
        await place.order({"fault": "throttle", "times": 2})
        await place.send("eventbridge", events("eventbridge", names))
        daemon.ask(signal.SIGUSR1)
        assert await daemon.ended() == 70
    assert daemon.said("task ended unexpectedly; stopping", task="orders worker 3")
    ledger = daemon.ledger("orders")
    assert balances(ledger)
    assert (ledger["accepted"], ledger["delivered"]) == (30, 30)
    assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)
    assert ear.said("STOPPING") == ["1"]
