"""Stopping: what was accepted is delivered, or counted as lost and said; the exit code tells which."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading

import aiohttp
import pytest
from structlog.testing import capture_logs

from forwarder.daemon import process
from tests.support.events import KINDS, TARGETS, event, events, markers
from tests.support.harness import DEADLINE, Settings, World, daemon_of, until
from tests.support.processes import Process, daemon_beside
from tests.support.scraper import balances


def dead_end() -> str:
    """The URL of a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def total(daemon: Process, name: str) -> int:
    return sum(line[name] for line in daemon.said("ledger"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_delivers_everything_and_says_the_ledger(place: World, number: signal.Signals) -> None:
    async with daemon_beside(place, batch={"max_wait": "30s"}) as daemon:
        sent = {kind: markers(205) for kind in KINDS}
        for kind, names in sent.items():
            await place.send(kind, events(kind, names))
        daemon.ask(number)
        assert await daemon.ended() == 0
    for kind, names in sent.items():
        assert await place.arrived(kind) == dict.fromkeys(names, 1)
        ledger = daemon.ledger(TARGETS[kind])
        assert balances(ledger)
        assert ledger["balanced"]
        assert (ledger["accepted"], ledger["delivered"], ledger["in_queue"]) == (205, 205, 0)
    assert daemon.said("stopped, nothing lost")


async def test_a_stop_with_aws_unreachable_says_how_much_is_lost(place: World) -> None:
    orders: Settings = {"endpoint_url": dead_end()}
    async with daemon_beside(place, orders=orders, shutdown={"drain_timeout": "300ms"}) as daemon:
        lost, kept = markers(35), markers(20)
        await place.send("eventbridge", events("eventbridge", lost))
        await place.send("rum", events("rum", kept))
        await place.all_arrive("rum", kept)
        await place.settled("rum")
        daemon.ask()
        assert await daemon.ended() == 3
    assert daemon.said("stopped; some events were lost", lost=35)
    assert (daemon.ledger("orders")["dropped"], daemon.ledger("orders")["accepted"]) == (35, 35)
    assert all(balances(line) for line in daemon.said("ledger"))
    assert await place.arrived("rum") == dict.fromkeys(kept, 1)


async def test_a_held_target_gets_one_last_try_and_is_not_waited_for(place: World) -> None:
    """The drain could take longer than this test waits for the end."""
    async with daemon_beside(
        place, shutdown={"drain_timeout": "600s"}, hold={"probe": "600s", "probe_cap": "600s"}
    ) as daemon:
        await place.order({"fault": "access_denied", "api": "eventbridge"})
        await place.send("eventbridge", events("eventbridge", markers(12)))
        await place.held("eventbridge")
        before = (await place.summary("eventbridge"))["calls"]
        daemon.ask()
        assert await daemon.ended() == 3
        assert (await place.summary("eventbridge"))["calls"] > before
    assert daemon.said("stopped; some events were lost", lost=12)


async def test_a_held_target_that_is_well_again_delivers_with_its_last_try(place: World) -> None:
    async with daemon_beside(place, hold={"probe": "600s", "probe_cap": "600s"}) as daemon:
        names = markers(45)
        await place.order({"fault": "access_denied", "api": "eventbridge"})
        await place.send("eventbridge", events("eventbridge", names))
        await place.held("eventbridge")
        await place.heal()
        daemon.ask()
        assert await daemon.ended() == 0
    assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)


async def test_credentials_that_expire_during_the_drain_are_looked_up_again(place: World) -> None:
    """The target was well until its first call of the drain: that one is news, and not its last try."""
    async with daemon_beside(
        place, batch={"max_wait": "600s"}, hold={"probe": "600s", "probe_cap": "600s"}
    ) as daemon:
        sent = {kind: markers(9) for kind in KINDS}
        for kind, names in sent.items():
            await place.order({"fault": "credentials", "api": kind, "times": 1})
            await place.send(kind, events(kind, names))
        daemon.ask()
        assert await daemon.ended() == 0
    for kind, names in sent.items():
        assert await place.arrived(kind) == dict.fromkeys(names, 1)


async def test_a_stop_ends_every_back_off(place: World, kind: str) -> None:
    long: Settings = {"base": "600s", "cap": "600s"}
    async with daemon_beside(place, retry=long) as daemon:
        names = markers(20)
        single = event(kind, "single", "fail-once")
        await place.send(kind, [single])  # waits by itself, or with rum at the gate

        async def struck() -> bool:
            return await place.injected(kind, "fail-once") > 0

        await until(struck, "the event failed once")
        await place.order({"fault": "throttle", "api": kind, "times": 1})
        await place.send(kind, events(kind, names))
        daemon.ask()
        assert await daemon.ended() == 0
    assert await place.arrived(kind) == dict.fromkeys([*names, "single"], 1)


async def test_a_stop_delivers_also_when_the_disk_does_not_let_go_of_its_socket(place: World) -> None:
    async with daemon_beside(place, batch={"max_wait": "600s"}) as daemon:
        names = markers(12)
        await place.send("eventbridge", events("eventbridge", names))
        socket_file = place.storage / "data" / "control.sock"
        socket_file.unlink()
        socket_file.mkdir()  # what cannot be unlinked
        daemon.ask()
        assert await daemon.ended() == 0
    assert daemon.said("stopped, nothing lost")
    assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)


async def test_a_second_signal_ends_the_drain(place: World) -> None:
    orders: Settings = {"endpoint_url": dead_end()}
    slow_stop: Settings = {"drain_timeout": "600s", "input_grace": "600s"}
    async with daemon_beside(place, orders=orders, shutdown=slow_stop) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(7)))
        daemon.ask()
        await daemon.says("stopping")
        daemon.ask()
        assert await daemon.ended() == 3
    assert daemon.said("stopped; some events were lost", lost=7)


async def test_events_are_taken_during_the_input_grace_and_not_after_it(place: World) -> None:
    """A sender that goes on until nobody listens any more: whatever was accepted has arrived in the end."""
    accepted: list[str] = []
    closing = 0
    async with daemon_beside(place, shutdown={"input_grace": "1500ms"}) as daemon:
        daemon.ask()
        await daemon.says("stopping")
        assert not await place.ready()
        with contextlib.suppress(aiohttp.ClientConnectionError):
            while True:
                names = markers(5)
                sent = await place.post("eventbridge", events("eventbridge", names))
                assert sent.status == 202
                closing += sent.headers.get("Connection") == "close"
                accepted += names
        assert await daemon.ended() == 0
    assert accepted
    assert closing == len(accepted) // 5
    assert await place.arrived("eventbridge") == dict.fromkeys(accepted, 1)
    assert daemon.ledger("orders")["accepted"] == len(accepted)


async def test_a_worker_that_dies_stops_the_daemon_in_order_with_its_report(place: World) -> None:
    with capture_logs() as lines:
        async with daemon_of(place) as daemon:
            names = markers(30)
            await place.order({"fault": "throttle", "times": 2})
            await place.send("eventbridge", events("eventbridge", names))
            (worker,) = [t for t in asyncio.all_tasks() if t.get_name() == "orders worker 3"]
            worker.cancel()
            async with asyncio.timeout(DEADLINE):
                await daemon.stop_asked.wait()
            assert await daemon.stop() == 70
    (death,) = [line for line in lines if line["event"] == "task ended unexpectedly; stopping"]
    assert death["task"] == "orders worker 3"
    ledgers = {line["target"]: line for line in lines if line["event"] == "ledger"}
    assert all(balances(ledger) for ledger in ledgers.values())
    assert ledgers["orders"]["delivered"] == 30, "the other workers drained the queue"
    assert await place.arrived("eventbridge") == dict.fromkeys(names, 1)


async def test_events_in_the_hands_of_workers_that_died_are_counted_as_lost(place: World) -> None:
    with capture_logs() as lines:
        async with daemon_of(place, shutdown={"drain_timeout": "200ms"}, timeouts={"read": "60s"}) as daemon:
            await place.order({"fault": "hang", "api": "eventbridge"})
            await place.send("eventbridge", events("eventbridge", markers(30)))

            async def hanging() -> bool:
                return await place.injected("eventbridge", "hang") == 3

            await until(hanging, "three calls hang")
            for task in asyncio.all_tasks():
                if task.get_name().startswith("orders worker"):
                    task.cancel()
            async with asyncio.timeout(DEADLINE):
                await daemon.stop_asked.wait()
            assert await daemon.stop() == 70
    (ledger,) = [line for line in lines if line["event"] == "ledger" and line["target"] == "orders"]
    assert balances(ledger)
    assert ledger["dropped"] == 30
    assert {line.get("lost") for line in lines if line["event"] == "stopped; some events were lost"} == {30}


@pytest.mark.parametrize("answers", [True, False], ids=["answers late", "does not answer"])
async def test_a_dead_letter_whose_disk_is_slower_than_the_stop_is_counted_once(
    place: World, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.3)
    may_write = threading.Event()
    await place.order({"fault": "entry", "code": "MalformedDetail", "api": "eventbridge"})
    with capture_logs() as lines:
        async with daemon_of(place, shutdown={"drain_timeout": "200ms"}) as daemon:
            daemon._storage.submit(lambda connection: may_write.wait(60))
            await place.send("eventbridge", events("eventbridge", markers(3)))

            async def dying() -> bool:
                return await place.injected("eventbridge", "entry") > 0

            await until(dying, "AWS rejects them", 5)
            if answers:
                close = daemon._ingest.close

                async def answer() -> None:  # the queues are closed by now, and the storage is not
                    may_write.set()
                    await close()

                monkeypatch.setattr(daemon._ingest, "close", answer)
            code = await daemon.stop()
            may_write.set()
            await daemon._storage.close()
    (ledger,) = [line for line in lines if line["event"] == "ledger" and line["target"] == "orders"]
    assert balances(ledger)
    assert (ledger["dead_lettered"], ledger["dropped"]) == ((3, 0) if answers else (0, 3))
    assert code == (0 if answers else 3)
    assert not [line for line in lines if line["event"] == "task ended unexpectedly; stopping"]


async def test_a_daemon_that_cannot_have_its_port_or_its_storage_says_so_and_starts_nothing(
    place: World,
) -> None:
    async with daemon_beside(place) as daemon:
        taken: Settings = {"listen": place.ingest.removeprefix("http://")}
        for changes in ({}, {"ingest": taken}):
            if changes:
                place.storage = place.storage.with_name("other")
            async with daemon_beside(place, wait_for="cannot start", **changes) as second:
                assert await second.ended() == 75
        daemon.ask()
        assert await daemon.ended() == 0
