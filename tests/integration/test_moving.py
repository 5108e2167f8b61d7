"""A dead node's events: dumped from a copy of its storage, sent to another node, and the same on arrival."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from forwarder.cli import main
from tests.support.events import (
    KINDS,
    MONITOR,
    SESSION,
    TARGETS,
    Event,
    event,
    events,
    marker_of,
    markers,
)
from tests.support.harness import Settings, World, daemon_in, until
from tests.support.processes import daemon_beside

DISK: Settings = {"queue": "disk"}
HELD: Settings = {**DISK, "hold": {"probe": "600s", "probe_cap": "600s"}}
BATCH_EVENTS = 30


def rich(kind: str, name: str) -> Event:
    """A native event with every field there is."""
    more: dict[str, Event] = {
        "eventbridge": {
            "Time": 1_700_000_000.25,
            "Resources": ["arn:aws:s3:::é", "b"],
            "EventBusName": "orders-bus",
            "TraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Detail": json.dumps({"marker": name, "text": 'quote " slash \\ é \U0001f600', "n": 1e300}),
        },
        "rum": {
            "id": str(uuid.uuid4()),
            "timestamp": 1_700_000_000.125,
            "metadata": {"version": "1.0.0", "é": [1, None]},
            "AppMonitorDetails": {"name": "shop", "id": MONITOR, "version": "1.2"},
            "UserDetails": {"userId": MONITOR, "sessionId": SESSION},
            "Alias": "alias",
            "SessionMetadata": {"domain": "example.com"},
        },
        "evidently": {"timestamp": 1_700_000_000, "project": "other-project"},
    }
    return event(kind, name, **more[kind])


async def by_the_aws_wire(place: World, names: dict[str, list[str]]) -> None:
    """Events as SDKs send them: entries without a bus, and a RUM batch with its BatchId."""
    entries = [
        {"Source": "sdk", "DetailType": "d", "Detail": json.dumps({"marker": name})}
        for name in names["eventbridge"]
    ]
    headers = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
    async with place.http.post(
        f"{place.ingest}/", data=json.dumps({"Entries": entries}), headers=headers
    ) as said:
        assert json.loads(await said.text())["FailedEntryCount"] == 0
    batch = {
        "BatchId": str(uuid.uuid4()),
        "AppMonitorDetails": {"version": "2"},
        "UserDetails": {"sessionId": SESSION},
        "RumEvents": [
            {"id": str(uuid.uuid4()), "timestamp": 1.5, "type": "t", "details": json.dumps({"marker": name})}
            for name in names["rum"]
        ],
    }
    async with place.http.post(f"{place.ingest}/appmonitors/{MONITOR}/", json=batch) as said:
        assert said.status == 200


async def arrivals(place: World, kind: str) -> dict[str, list[tuple[Any, Any, Any]]]:
    """What arrived of each marker: name, envelope and entry of each time; and the marker's company."""
    lines = await place.arrivals(kind)
    found: dict[str, list[tuple[Any, Any, Any]]] = {}
    for line in lines:
        found.setdefault(marker_of(line["entry"]), []).append((line["name"], line["envelope"], line["entry"]))
    return found


async def companies(place: World, names: list[str]) -> list[frozenset[str]]:
    """Which of these markers came together, call by call."""
    calls: dict[int, set[str]] = {}
    for line in await place.arrivals("rum"):
        calls.setdefault(line["call"], set()).add(marker_of(line["entry"]))
    return [frozenset(call) for call in calls.values() if call & set(names)]


async def forwarded(place: World, source: bytes, *target: str) -> str:
    """``forwarder send`` with this on its standard input; what it said."""
    return await run(source, "send", *target, "--url", place.ingest)


async def run(source: bytes, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forwarder", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await process.communicate(source)
    assert process.returncode == 0, said
    return (out or said).decode()


async def dead_node(place: World, sent: dict[str, list[str]]) -> Path:
    """A node that took these and was killed: a copy of its storage, with a log that nobody tidied."""
    await place.make_bus("orders-bus")
    await place.order({"fault": "access_denied"})
    async with daemon_beside(place, **HELD) as daemon:
        for kind in KINDS:
            await place.send(kind, [rich(kind, name) for name in sent[kind][:20]])
            await place.send(kind, events(kind, sent[kind][20:40]))
        await by_the_aws_wire(place, {kind: names[40:] for kind, names in sent.items()})
        daemon.ask(signal.SIGKILL)
        await daemon.ended()
    copy = place.storage.with_name("copy")
    copy.mkdir()
    for name in ("forwarder.db", "forwarder.db-wal"):
        shutil.copy(place.storage / "data" / name, copy / name)
    assert (copy / "forwarder.db-wal").stat().st_size > 0
    await place.heal()
    return copy


def sent_of(kind: str) -> list[str]:
    return markers({"eventbridge": 50, "rum": 40 + BATCH_EVENTS, "evidently": 40}[kind])


def without_bus(arrival: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """No bus means the bus ``default``; a moved event says so."""
    name, envelope, entry = arrival
    return name, envelope, {"EventBusName": "default", **entry}


async def looks_sound(directory: Path, sent: dict[str, list[str]]) -> None:
    assert "no damage found" in await run(b"", "queue", "check", str(directory))
    table = [line.split() for line in (await run(b"", "queue", "stats", str(directory))).splitlines()]
    assert [(row[0], row[1], row[4], row[5]) for row in table[1:]] == [
        (TARGETS[kind], str(len(names)), "-", "0") for kind, names in sent.items()
    ]


async def test_moved_events_arrive_field_by_field_as_if_their_own_node_had_sent_them(place: World) -> None:
    sent = {kind: sent_of(kind) for kind in KINDS}
    copy = await dead_node(place, sent)
    await looks_sound(copy, sent)
    dumped = await run(b"", "queue", "dump", str(copy))
    assert len(dumped.splitlines()) == sum(map(len, sent.values()))
    own, place.storage = place.storage, place.storage.with_name("other")
    async with daemon_in(place, batch={"max_wait": "50ms"}):
        assert "160 accepted, 0 refused" in await forwarded(place, dumped.encode())
        for kind, names in sent.items():
            await place.all_arrive(kind, names)
            await place.settled(kind)
    place.storage = own
    async with daemon_in(place, **DISK):  # the node comes back, and sends what it has
        assert "no damage found" in await run(b"", "queue", "check", str(own))
        for kind, names in sent.items():

            async def twice(kind: str = kind, names: list[str] = names) -> bool:
                return await place.arrived(kind) == dict.fromkeys(names, 2)

            await until(twice, f"all of {kind} arrived from both nodes")
    for kind, names in sent.items():
        found = await arrivals(place, kind)
        assert set(found) == set(names)
        for moved, itself in found.values():
            if kind == "eventbridge":
                assert moved == without_bus(itself)
            elif kind == "rum":
                assert without_batch_id(moved) == without_batch_id(itself)
            else:
                assert moved == itself
    assert await companies(place, sent["rum"][40:]) == [frozenset(sent["rum"][40:])] * 2
    batch_ids = {
        arrival[1]["BatchId"] for name in sent["rum"][40:] for arrival in (await arrivals(place, "rum"))[name]
    }
    assert len(batch_ids) == 1, "the client's own, on both ways"


def without_batch_id(arrival: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """The BatchId of native events is made of their ids, which are new on another node."""
    name, envelope, entry = arrival
    return name, {**envelope, "BatchId": ""}, entry


async def test_events_of_a_target_that_is_gone_go_to_another(
    place: World, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    sent = {kind: sent_of(kind) for kind in KINDS}
    copy = await dead_node(place, sent)
    assert await asyncio.to_thread(main, ["queue", "dump", "--path", str(copy), "--target", "orders"]) == 0
    dumped = capsysbinary.readouterr().out
    assert {json.loads(line)["target"] for line in dumped.splitlines()} == {"orders"}
    place.storage = place.storage.with_name("other")
    async with daemon_in(place):
        renamed = dumped.replace(b'"target":"orders"', b'"target":"gone"')
        assert "50 accepted, 0 refused" in await forwarded(place, renamed, TARGETS["eventbridge"])
        assert await place.all_arrive("eventbridge", sent["eventbridge"]) == dict.fromkeys(
            sent["eventbridge"], 1
        )
