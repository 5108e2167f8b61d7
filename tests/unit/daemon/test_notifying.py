"""What a service manager is told, as sd_notify(3) has it, and that nobody waits for its ear."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder.daemon import service_manager
from forwarder.daemon.report import ending_of
from forwarder.daemon.service_manager import ServiceManager
from forwarder.daemon.watchdog import Watchdog
from tests.support.service_manager import READ_BYTES, Ear, an_ear


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ear]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@forwarder-test-{os.getpid()}"
    with an_ear(address) as made:
        yield made


@pytest.fixture
def manager(ear: Ear) -> Iterator[ServiceManager]:
    made = ServiceManager({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "30000000"})
    yield made
    made.close()


def heard(ear: Ear) -> list[dict[str, str]]:
    """What was said since the last time."""
    ear.listen()
    said, ear.heard = ear.heard, []
    return said


def a_pulse(manager: ServiceManager, alive: bool = True) -> Watchdog:
    return Watchdog(manager, lambda: "events waiting: 3", lambda: alive)


def test_what_is_told_is_heard_as_one_message(ear: Ear, manager: ServiceManager) -> None:
    manager.tell("all well", READY=1)
    assert heard(ear) == [{"READY": "1", "STATUS": "all well"}]


def test_a_status_is_said_once_until_it_changes(ear: Ear, manager: ServiceManager) -> None:
    for status in ("one", "one", "two", "one"):
        manager.tell(status)
    assert ear.said("STATUS") == ["one", "two", "one"]


def test_a_status_is_one_line_and_costs_no_other_fact(ear: Ear, manager: ServiceManager) -> None:
    manager.tell("é\nWATCHDOG=trigger" * READ_BYTES, WATCHDOG=1)
    (facts,) = heard(ear)
    assert facts["WATCHDOG"] == "1"
    assert facts["STATUS"].startswith("é WATCHDOG=trigger")


def test_reading_again_is_framed(ear: Ear, manager: ServiceManager) -> None:
    with manager.reloading():
        (facts,) = heard(ear)
    assert (facts["RELOADING"], facts["MONOTONIC_USEC"].isdecimal()) == ("1", True)
    assert heard(ear) == [{"READY": "1"}]


def test_reading_again_ends_also_with_an_error(ear: Ear, manager: ServiceManager) -> None:
    with pytest.raises(ValueError, match="bad"), manager.reloading():
        raise ValueError("bad")
    assert heard(ear)[1:] == [{"READY": "1"}]


def test_what_an_ear_that_is_full_missed_is_said_with_the_next_word(
    ear: Ear, manager: ServiceManager
) -> None:
    ear.fill()
    manager.tell("early", READY=1)
    manager.tell("late", WATCHDOG=1)
    heard(ear)
    manager.tell()
    assert heard(ear) == [{"READY": "1", "STATUS": "late", "WATCHDOG": "1"}]


def test_an_ear_that_is_gone_costs_a_warning_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    manager = ServiceManager({"NOTIFY_SOCKET": str(path)})
    with capture_logs() as lines:
        manager.tell("first", READY=1)
    assert [line["event"] for line in lines] == ["cannot notify the service manager"]
    with an_ear(str(path)) as ear:
        manager.tell()
        assert heard(ear) == [{"READY": "1", "STATUS": "first"}]
    manager.close()


@pytest.mark.parametrize("address", ["", "@", "/", "relative", "vsock:2:1234"])
def test_an_address_that_is_none_is_nobody(address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
    manager.tell("anything", READY=1)
    assert not manager
    manager.close()


async def test_where_nobody_listens_there_is_no_pulse() -> None:
    manager = ServiceManager({})
    await a_pulse(manager).run()  # else it would not end
    assert not manager


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_where_it_is_ours(said: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(said).watchdog == seconds


def test_the_environment_says_nothing_of_it_to_children(ear: Ear) -> None:
    environ = {"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    ServiceManager(environ).close()
    assert environ == {"HOME": "/"}


async def test_each_phase_is_told_with_what_it_needs(ear: Ear, manager: ServiceManager) -> None:
    pulse = a_pulse(manager)
    pulse.ping()
    pulse.ready()
    pulse.ping()
    pulse.stopping(60.0)
    pulse.ping()
    more_time = {"EXTEND_TIMEOUT_USEC": "20000000"}
    ping = {"WATCHDOG": "1"}
    assert heard(ear) == [
        {**more_time, "STATUS": "starting; opening the storage"},
        {"READY": "1", **ping, "STATUS": "ready; events waiting: 3"},
        ping,
        {"STOPPING": "1", **more_time, **ping, "STATUS": "stopping; events waiting: 3"},
        {**more_time, **ping},
    ]


async def test_a_change_is_told_at_once_but_only_some_within_a_second_and_then_the_last(
    ear: Ear, manager: ServiceManager
) -> None:
    waiting = 0
    pulse = Watchdog(manager, lambda: f"events waiting: {waiting}", lambda: True)
    pulse.changed()
    assert heard(ear) == [], "it starts"
    pulse.ready()
    heard(ear)
    while waiting < 20:
        waiting += 1
        pulse.changed()
    said = heard(ear)
    assert [facts["STATUS"] for facts in said] == [f"ready; events waiting: {n}" for n in range(1, 6)]
    assert all(facts.keys() == {"STATUS"} for facts in said), "a change feeds no watchdog"
    async with asyncio.timeout(30):
        while not (said := heard(ear)):
            await asyncio.sleep(0.01)
    assert said == [{"STATUS": "ready; events waiting: 20"}]


async def test_the_last_status_is_heard_also_where_the_ear_was_full(
    ear: Ear, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_manager, "LAST_SECONDS", 30.0)
    pulse = a_pulse(manager)
    ear.fill()
    pulse.stopped("events delivered: 3")
    pulse.changed()
    closing = asyncio.create_task(asyncio.to_thread(manager.close))
    async with asyncio.timeout(30):
        while not closing.done():
            ear.listen()
            await asyncio.sleep(0.01)
    assert ear.said("STATUS") == ["stopped; events delivered: 3"]


async def test_a_close_waits_for_no_ear_for_long(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_manager, "LAST_SECONDS", 0.01)
    manager = ServiceManager({"NOTIFY_SOCKET": ear.address})
    ear.fill()
    manager.tell("last")
    manager.close()
    assert not [status for status in ear.said("STATUS") if status == "last"]


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        ({"delivered": 1560}, "events delivered: 1560"),
        (
            {"delivered": 1, "in_queue": 2, "dead_lettered": 3, "dropped": 4, "unconfirmed": 5},
            "events delivered: 1; kept on disk: 2; dead letters: 3; lost: 4; unconfirmed: 5",
        ),
    ],
)
def test_the_end_says_what_became_of_the_events(ledger: dict[str, int], said: str) -> None:
    assert ending_of(Counter(ledger)) == said


async def test_a_daemon_with_a_dead_task_is_fed_only_for_its_stop(ear: Ear, manager: ServiceManager) -> None:
    pulse = a_pulse(manager, alive=False)
    pulse.ready()
    pulse.ping()
    assert ear.said("WATCHDOG") == []
    pulse.stopping(60.0)
    assert ear.said("WATCHDOG") == ["1"]


async def test_a_stop_that_hangs_is_fed_and_given_time_no_more(ear: Ear, manager: ServiceManager) -> None:
    pulse = a_pulse(manager)
    pulse.ready()
    heard(ear)
    pulse.stopping(0.0)
    pulse.ping()
    assert heard(ear) == [{"STOPPING": "1", "STATUS": "stopping; events waiting: 3"}]
