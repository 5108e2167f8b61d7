"""Answers that wait for AWS's word: AWS's ids and refusals, in the shape of every dialect.

Invariants:
- What the answer says is compared with what the sandbox recorded and with the dead letters.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.test_holds import Disk
from tests.support.events import KINDS, MONITOR, TARGETS, Event, event, events, markers
from tests.support.harness import World, daemon_in, daemon_of, until
from tests.support.processes import daemon_beside
from tests.unit.ingest.test_aws import rum_call

TOLD: Any = {"ack": "delivered"}
PUT_EVENTS = {"X-Amz-Target": "AWSEvents.PutEvents"}
PATHS = {
    "eventbridge": "/",
    "rum": f"/appmonitors/{MONITOR}/",
    "evidently": "/events/projects/shop",
}
WAIT = {"Prefer": "wait=10"}


@dataclass(frozen=True)
class Said:
    status: int
    ack: str | None
    applied: str | None
    headers: Mapping[str, str]
    body: Any


async def post(place: World, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Said:
    async with place.http.post(place.ingest + path, json=body, headers=headers) as answer:
        said = answer.headers
        ack, applied = said.get("x-forwarder-ack"), said.get("Preference-Applied")
        return Said(answer.status, ack, applied, said, await answer.json(content_type=None))


async def native(place: World, kind: str, batch: list[Event], **headers: str) -> Said:
    return await post(place, f"/v1/targets/{TARGETS[kind]}/events", batch, headers)


def call(kind: str, *words: str | None) -> tuple[str, Any, dict[str, str]]:
    """A call over the AWS wire: path, body, headers; each event's word orders its fate."""
    made = [event(kind, marker, word) for marker, word in zip(markers(len(words)), words, strict=True)]
    if kind == "eventbridge":
        return PATHS[kind], {"Entries": [{**e, "Detail": json.dumps(e["Detail"])} for e in made]}, PUT_EVENTS
    if kind == "rum":
        ids = {"id": MONITOR, "timestamp": 1767323045}
        batch = [{"type": e["type"], "details": json.dumps(e["details"]), **ids} for e in made]
        return PATHS[kind], rum_call(RumEvents=batch), {}
    batch = [{"type": e["type"], "data": json.dumps(e["data"]), "timestamp": 1767323045} for e in made]
    return PATHS[kind], {"events": batch}, {}


async def aws_ids(place: World, kind: str) -> list[str]:
    return [line["event_id"] for line in await place.arrivals(kind)]


def results(kind: str, said: Said) -> list[tuple[str | None, str | None]]:
    """Id and error code of each event in an AWS answer."""
    if kind == "eventbridge":
        return [(each.get("EventId"), each.get("ErrorCode")) for each in said.body["Entries"]]
    return [(each.get("eventId"), each.get("errorCode")) for each in said.body["eventResults"]]


async def nothing_waits(place: World) -> None:
    assert "\nforwarder_events_awaited 0.0\n" in await place.metrics()


# --- delivered


@pytest.mark.parametrize("api", ["eventbridge", "evidently"])
async def test_an_aws_answer_carries_awss_ids_and_refusals_each_in_its_place(place: World, api: str) -> None:
    async with daemon_in(place, **TOLD):
        path, body, headers = call(api, None, "reject", None)
        said = await post(place, path, body, headers)
        (first, _), (none, code), (last, _) = results(api, said)
        assert (said.status, said.ack, said.applied) == (200, "delivered", None)
        assert [first, last] == await aws_ids(place, api)
        assert none is None
        assert said.body.get("FailedEntryCount", said.body.get("failedEventCount")) == 1
        [letter] = place.letters().values()
        assert letter.code == code
        await nothing_waits(place)
        assert (await place.ledger(api))["in_queue"] == 0


async def test_a_rum_answer_is_empty_when_all_of_it_was_delivered(place: World) -> None:
    async with daemon_in(place, **TOLD):
        said = await post(place, *call("rum", None, None))
        assert (said.status, said.ack, said.body) == (200, "delivered", {})
        assert len(await place.arrivals("rum")) == 2


async def test_a_rum_call_that_aws_refuses_is_an_error_that_no_client_sends_again(place: World) -> None:
    async with daemon_in(place, **TOLD):
        assert (
            await post(place, *call("rum", None))
        ).status == 200  # so that the envelope is known to be good
        said = await post(place, *call("rum", None, "reject", None))
        assert (said.status, said.ack) == (400, "delivered")
        assert said.body["__type"] == said.headers["x-amzn-ErrorType"] == "ValidationException"
        assert said.body["message"].startswith("2 accepted, 0 refused, 1 dead-lettered. ")
        [letter] = place.letters().values()
        assert letter.code == "ValidationException"
        assert len(await place.arrivals("rum")) == 3


async def test_a_native_answer_says_the_fate_of_each_event(place: World, kind: str) -> None:
    async with daemon_in(place, **TOLD):
        await native(place, kind, events(kind, markers(1)))  # so that the envelope is known to be good
        good, poison = events(kind, markers(2)), event(kind, markers(1)[0], "reject")
        said = await native(place, kind, [good[0], poison, {}, good[1]])
        rows = said.body["results"]
        assert (said.status, said.ack) == (200, "delivered")
        assert (said.body["accepted"], said.body["refused"]) == (2, 2)
        assert [row["status"] for row in rows] == ["delivered", "rejected", "refused", "delivered"]
        ids = [row.get("event_id") for row in rows if row["status"] == "delivered"]
        assert sorted(map(str, ids)) == sorted(
            ["None", "None"] if kind == "rum" else (await aws_ids(place, kind))[1:]
        )
        letter = place.letters()[rows[1]["id"]]
        assert (letter.code, letter.message) == (rows[1]["code"], rows[1]["message"])
        assert "id" not in rows[2]
        await nothing_waits(place)


async def test_an_event_that_was_tried_too_often_is_said_to_be_expired(place: World) -> None:
    async with daemon_in(place, orders={**TOLD, "retry": {"max_attempts": 1}}):
        said = await post(place, *call("eventbridge", "fail-once"))
        assert (said.status, said.ack) == (200, "delivered")
        assert results("eventbridge", said) == [(None, "EventExpired")]
        said = await native(place, "eventbridge", [event("eventbridge", markers(1)[0], "fail-once")])
        assert said.body["results"][0]["status"] == "expired"
        assert [letter.reason for letter in place.letters().values()] == ["expired"] * 2


async def test_an_event_that_waited_too_long_is_said_to_be_expired(place: World) -> None:
    async with daemon_in(place, retry={"max_age": "200ms"}):
        await place.order({"fault": "access_denied"})
        path, body, headers = call("eventbridge", None)
        said = await post(place, path, body, {**headers, **WAIT})
        assert (said.ack, results("eventbridge", said)) == ("delivered", [(None, "EventExpired")])
        assert [letter.reason for letter in place.letters().values()] == ["expired"]


async def test_a_rejected_event_is_told_only_when_its_dead_letter_is_kept(place: World) -> None:
    async with daemon_beside(place):
        await native(place, "eventbridge", events("eventbridge", markers(1)), **WAIT)
        disk = Disk(place)
        disk.fill()
        poison = [event("eventbridge", markers(1)[0], "reject")]
        said = await native(place, "eventbridge", poison, Prefer="wait=1")
        assert (said.status, said.ack) == (202, "queued")
        later = asyncio.ensure_future(native(place, "eventbridge", poison, **WAIT))
        disk.empty()
        assert (await later).body["results"][0]["status"] == "rejected"
        assert (await later).body["results"][0]["id"] in place.letters()


async def test_a_retry_is_waited_for(place: World) -> None:
    async with daemon_in(place):
        path, body, headers = call("eventbridge", "fail-once", "throttle-once", None)
        said = await post(place, path, body, {**headers, **WAIT})
        assert (said.ack, said.applied) == ("delivered", "wait=10")
        assert sorted(str(id) for id, _ in results("eventbridge", said)) == sorted(
            await aws_ids(place, "eventbridge")
        )


# --- queued


async def test_without_either_setting_nothing_is_waited_for(place: World) -> None:
    async with daemon_in(place):
        for preference in ({}, {"Prefer": "wait=0"}, {"Prefer": "respond-async"}):
            path, body, headers = call("eventbridge", None)
            said = await post(place, path, body, {**headers, **preference})
            assert (said.status, said.ack, said.applied) == (200, None, None)
        assert not (set(await aws_ids(place, "eventbridge")) & {id for id, _ in results("eventbridge", said)})


async def test_when_the_wait_ends_first_the_answer_is_a_success_with_our_id(place: World) -> None:
    async with daemon_in(place, **TOLD):
        await place.order({"fault": "error", "api": "eventbridge"})
        path, body, headers = call("eventbridge", None)
        told, natively = await asyncio.gather(
            post(place, path, body, {**headers, "Prefer": "wait=1"}),
            native(place, "eventbridge", events("eventbridge", markers(2)), Prefer="wait=1"),
        )
        assert (told.status, told.ack, told.applied) == (200, "queued", "wait=1")
        assert [code for _, code in results("eventbridge", told)] == [None]
        assert (natively.status, natively.ack, natively.applied) == (202, "queued", "wait=1")
        assert [row["status"] for row in natively.body["results"]] == ["queued"] * 2
        await nothing_waits(place)
        await place.heal()
        await place.settled("eventbridge")
        assert len(await place.arrivals("eventbridge")) == 3


async def test_a_call_whose_events_are_partly_known_says_queued_and_what_is_known(place: World) -> None:
    async with daemon_of(place, retry={"base": "1h", "cap": "1h"}, shutdown={"drain_timeout": 0}) as daemon:
        path, body, headers = call("eventbridge", None, "fail-once", "reject")
        batch = [event("eventbridge", markers(1)[0], word) for word in (None, "fail-once")]
        said, natively = await asyncio.gather(
            post(place, path, body, {**headers, "Prefer": "wait=1"}),
            native(place, "eventbridge", batch, Prefer="wait=1"),
        )
        delivered, queued, rejected = results("eventbridge", said)
        assert (said.ack, natively.ack, natively.status) == ("queued", "queued", 202)
        assert delivered[0] in await aws_ids(place, "eventbridge")
        assert queued[0] is not None
        assert rejected == (None, "InvalidArgument")
        assert [row["status"] for row in natively.body["results"]] == ["delivered", "queued"]
        daemon.ask_to_stop()
        daemon.ask_to_stop()
        await daemon.stop()


async def test_rum_and_evidently_say_queued_too(place: World) -> None:
    async with daemon_in(place):
        await place.order({"fault": "access_denied"})

        async def one(kind: str) -> None:
            path, body, headers = call(kind, None)
            said = await post(place, path, body, {**headers, "Prefer": "wait=1"})
            assert (said.status, said.ack) == (200, "queued")

        await asyncio.gather(*map(one, KINDS))


# --- ends


async def test_a_sender_that_goes_away_while_it_waits_leaves_nothing_and_its_event_is_delivered(
    place: World,
) -> None:
    async with daemon_in(place, **TOLD) as daemon:
        await place.order({"fault": "error", "api": "eventbridge"})
        [name] = markers(1)
        body = json.dumps(event("eventbridge", name)).encode()
        url = urlsplit(place.ingest)
        _, writer = await asyncio.open_connection(url.hostname, url.port)
        head = f"POST /v1/targets/orders/events HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

        async def awaited() -> bool:
            return "\nforwarder_events_awaited 1.0\n" in await place.metrics()

        await until(awaited, "it waits")
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.close()

        async def gone() -> bool:
            return not await awaited() and daemon._ingest.in_flight == 0

        await until(gone, "nobody waits", seconds=5)
        await place.heal()
        await place.all_arrive("eventbridge", [name])


async def test_a_stop_answers_who_waits_before_it_drains(place: World) -> None:
    async with daemon_of(place, **TOLD, shutdown={"drain_timeout": "300ms"}) as daemon:
        await place.order({"fault": "access_denied"})
        waiting = [asyncio.ensure_future(post(place, *call(kind, None))) for kind in KINDS]

        async def awaited() -> bool:
            return "\nforwarder_events_awaited 3.0\n" in await place.metrics()

        await until(awaited, "all wait")
        stopping = asyncio.ensure_future(daemon.stop())
        assert [(said.status, said.ack) for said in await asyncio.gather(*waiting)] == [(200, "queued")] * 3
        assert await stopping == 3
        assert not daemon._receipts.waits


async def test_a_full_queue_is_told_at_once(place: World) -> None:
    async with daemon_in(place, **TOLD, queue_limits={"max_events": 1}):
        said = await native(place, "eventbridge", events("eventbridge", markers(2)))
        assert (said.status, said.ack) == (413, None)
        await nothing_waits(place)
