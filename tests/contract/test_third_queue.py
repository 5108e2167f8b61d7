"""A third kind of queue is one file in queues and one line.

The kind is that of docs/adding-a-queue.md, so the page is executed here. Nothing in ``forwarder`` knows it.
``test_queues.py`` and ``test_set_aside.py`` hold for it as for the others.
"""

from __future__ import annotations

import ast
import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from docs import generate
from forwarder.cli import main
from forwarder.config import ConfigError, json_schema, parse, redacted
from forwarder.daemon import process
from forwarder.daemon.start_errors import StartError
from forwarder.doctor.settings import examine
from forwarder.model import Event
from forwarder.queues.kinds import QUEUES
from forwarder.targets import option_types
from tests.support.events import KINDS, TARGETS, event, events, markers
from tests.support.fake_aws import aws_environment
from tests.support.harness import World, daemon_in, daemon_of, for_each, until, world
from tests.support.third_queue import registered

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

ALLOWED = '"memory", "disk" or "journal"'
FORWARDER = Path(__file__).parents[2] / "forwarder"


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def journal(place: World, **more: Any) -> dict[str, Any]:
    directory = place.storage.parent / "journals"
    directory.mkdir(exist_ok=True)
    return {"queue": {"kind": "journal", "directory": str(directory)}, **more}


async def told(place: World, *arguments: str) -> int:
    socket = str(place.storage / "data" / "control.sock")
    return await asyncio.to_thread(main, (*arguments, "--url", f"unix:{socket}"))


# --- configuration


def read(queue: str, **environment: str) -> Any:
    text = f"targets: {{orders: {{kind: eventbridge, region: eu-west-1, queue: {queue}}}}}"
    return parse(text, option_types(), environment)


@pytest.mark.parametrize(
    ("queue", "problem"),
    [
        ("journal", "targets.orders.queue.directory: is required"),
        ("{kind: journal}", "targets.orders.queue.directory: is required"),
        (
            "{kind: journal, directory: 5}",
            "targets.orders.queue.directory: must be text, got 5; put it in quotes",
        ),
        (
            "{kind: journal, directory: /j, directroy: /k}",
            'targets.orders.queue.directroy: unknown key. Did you mean "directory"?',
        ),
        (
            "Jurnal",
            f'targets.orders.queue: must be {ALLOWED}, got "Jurnal". Did you mean "journal"?',
        ),
        (
            "{kind: jurnal, directory: /j}",
            f'targets.orders.queue.kind: must be {ALLOWED}, got "jurnal". Did you mean "journal"?',
        ),
    ],
)
def test_its_options_are_checked_as_those_of_other_kinds(queue: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(queue)
    assert [str(each) for each in error.value.problems] == [problem]
    assert [each.line for each in error.value.problems] == [1]


def test_its_options_may_come_from_the_environment_and_are_shown() -> None:
    config = read("{kind: '${KIND}', directory: '${PLACE}'}", KIND="journal", PLACE="/j")
    assert redacted(config)["targets"]["orders"]["queue"] == {"kind": "journal", "directory": "/j"}
    assert config.targets["orders"].queue_bytes == 32 << 20


def test_its_options_are_in_the_schema_and_in_the_reference() -> None:
    (form,) = [
        each
        for target in json_schema(option_types())["properties"]["targets"]["additionalProperties"]["oneOf"]
        for each in target["properties"]["queue"]["anyOf"]
        if each.get("properties", {}).get("kind") == {"const": "journal"}
    ][:1]
    assert form["required"] == ["kind", "directory"]
    page = generate.configuration()
    assert "| `queue.directory` | text | required with `{kind: journal}` |" in page
    assert "`{kind: journal}`" in page


def test_the_doctor_does_not_warn_that_a_durable_queue_is_only_in_memory() -> None:
    warned = [each.about for each in examine(read("{kind: journal, directory: /j}")) if each.level == "warn"]
    assert "targets.orders.queue" not in warned
    assert "storage.max_bytes" not in warned


# --- the way of an event


async def test_events_of_every_api_are_accepted_delivered_and_counted(place: World) -> None:
    names = {kind: markers(30) for kind in KINDS}
    with capture_logs() as lines:
        async with daemon_in(place, **journal(place)):
            await for_each(KINDS, lambda kind: _through(place, kind, names[kind]))
            assert (await place.status("eventbridge"))["queue"] == "journal"
    configured = [line for line in lines if line["event"] == "target configured"]
    assert {(line["queue"], line["survives"]) for line in configured} == {("journal", "a kill")}
    assert not [line for line in lines if "in memory only" in line["event"]]


async def _through(place: World, kind: str, names: list[str]) -> None:
    await place.send(kind, events(kind, names))
    assert set((await place.all_arrive(kind, names)).values()) == {1}
    await place.settled(kind)
    ledger = await place.ledger(kind)
    assert (ledger["accepted"], ledger["delivered"]) == (30, 30)


async def test_what_a_stop_could_not_send_is_kept_and_sent_by_the_next_start(place: World) -> None:
    names = markers(20)
    await place.order({"fault": "access_denied"})
    async with daemon_of(place, **journal(place), shutdown={"drain_timeout": 0}) as daemon:
        await place.send("eventbridge", events("eventbridge", names))
        assert await daemon.stop() == 0
        ledger = daemon._metrics.ledger("orders")
        assert (ledger["in_queue"], ledger["balanced"]) == (20, True)
    await place.heal()
    async with daemon_in(place, **journal(place)):
        assert set((await place.all_arrive("eventbridge", names)).values()) == {1}
        await place.settled("eventbridge")
        ledger = await place.ledger("eventbridge")
        assert (ledger["recovered"], ledger["accepted"], ledger["delivered"]) == (20, 0, 20)


async def test_nothing_of_it_is_lost_by_a_kill_in_the_words_of_the_status(place: World) -> None:
    await place.order({"fault": "access_denied"})
    async with daemon_in(place, **journal(place)):
        await place.send("eventbridge", events("eventbridge", markers(5)))
        async with place.http.get(f"{place.admin}/status") as answer:
            assert (await answer.json())["only_in_memory"] == 0


async def test_a_full_queue_is_429_and_a_file_that_cannot_be_written_503(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.order({"fault": "access_denied"})
    async with daemon_in(place, **journal(place, queue_limits={"max_events": 5})):
        await place.send("eventbridge", events("eventbridge", markers(5)))
        sent = await place.post("eventbridge", events("eventbridge", markers(1)))
        assert (sent.status, "Retry-After" in sent.headers) == (429, True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _full_disk)
            sent = await place.post("rum", events("rum", markers(1)))
        assert (sent.status, "Retry-After" in sent.headers) == (503, True)
        ledger = await place.ledger("rum")
        assert (ledger["accepted"], ledger["in_queue"]) == (0, 0)


def _full_disk(file: int) -> None:
    raise OSError(28, "No space left on device")


async def test_dead_letters_leave_the_queue_and_come_back(place: World) -> None:
    (marker,) = markers(1)
    async with daemon_in(place, **journal(place)):
        await place.send("eventbridge", [event("eventbridge", marker, "reject")])

        async def dead() -> bool:
            return bool(place.letters()) and (await place.ledger("eventbridge"))["in_queue"] == 0

        await until(dead, "the event is rejected")
        assert await told(place, "dead-letters", "replay") == 0

        async def again() -> bool:
            return (await place.ledger("eventbridge"))["dead_lettered"] == 2

        await until(again, "the event came back and is rejected again")
        ledger = await place.ledger("eventbridge")
        assert (ledger["accepted"], ledger["replayed"]) == (1, 1)
        assert len(place.letters()) == 1


async def test_an_operator_purges_what_waits(place: World) -> None:
    await place.order({"fault": "access_denied"})
    async with daemon_in(place, **journal(place)):
        await place.send("eventbridge", events("eventbridge", markers(7)))
        await place.held("eventbridge")
        assert await told(place, "queue", "purge", "--target", TARGETS["eventbridge"]) == 0
        assert {letter.reason for letter in place.letters().values()} == {"purged"}
        ledger = await place.ledger("eventbridge")
        assert (ledger["in_queue"], ledger["dead_lettered"]) == (0, 7)


async def test_events_of_a_missing_bus_are_set_aside_and_sent_once_it_is_there(place: World) -> None:
    (other, gone) = markers(2)
    async with daemon_in(place, **journal(place), orders={"verify_interval": "100ms"}):
        await place.delete_bus("late")
        batch = [event("eventbridge", gone, EventBusName="late"), event("eventbridge", other)]
        await place.send("eventbridge", batch)
        await place.all_arrive("eventbridge", [other])
        assert (await place.status("eventbridge"))["set_aside"]["events"] == 1
        await place.make_bus("late")
        await place.all_arrive("eventbridge", [other, gone])


async def test_a_queue_that_does_not_close_delays_a_stop_but_does_not_end_it(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.05)
    with capture_logs() as lines:
        async with daemon_of(place, **journal(place)) as daemon:
            queue = daemon._queues["orders"]
            with monkeypatch.context() as patch:
                patch.setattr(queue, "aclose", lambda: asyncio.sleep(3600), raising=True)
                assert await daemon.stop() == 0
            await queue.aclose()
    said = [line["target"] for line in lines if line["event"] == "queue does not respond; it was not closed"]
    assert said == ["orders"]


async def test_a_queue_that_cannot_be_closed_costs_no_other_its_close_nor_the_report(
    place: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> list[Event]:
        raise OSError(5, "Input/output error")

    with capture_logs() as lines:
        async with daemon_of(place, **journal(place)) as daemon:
            queue = daemon._queues["orders"]
            with monkeypatch.context() as patch:
                patch.setattr(queue, "aclose", broken)
                assert await daemon.stop() == 70
            await queue.aclose()
    said = [line["event"] for line in lines]
    assert "queue could not be closed" in said
    assert said.count("ledger") == 3
    assert daemon._storage.ended_by is None


async def test_a_queue_that_cannot_be_opened_is_a_start_that_fails_with_its_setting(place: World) -> None:
    with pytest.raises(StartError, match=r"^targets\.\w+\.queue: .*No such file") as error:
        async with daemon_of(place, queue={"kind": "journal", "directory": str(place.storage / "gone")}):
            pass
    assert error.value.lasting


# --- who knows kinds


def test_outside_queues_only_the_default_of_the_options_knows_a_kind() -> None:
    """Whoever imports a kind by its name would have to learn of the next one."""
    knowing = set[str]()
    for path in FORWARDER.rglob("*.py"):
        name = path.relative_to(FORWARDER).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not name.startswith("queues/"):
                modules = {node.module or "", *(f"{node.module}.{each.name}" for each in node.names)}
                if not modules.isdisjoint({f"forwarder.queues.{kind}" for kind in QUEUES}):
                    knowing.add(name)
    assert knowing == {"targets/options.py"}


@pytest.mark.parametrize("kind", ["memory", "disk", "journal"])
def test_a_kind_is_in_the_table_under_its_own_name(kind: str) -> None:
    options = QUEUES[kind].options
    assert options.__struct_config__.tag == kind
    assert options.__struct_config__.tag_field == "kind"
