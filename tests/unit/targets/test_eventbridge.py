"""What only EventBridge has: buses that may not exist, and entries that tell of the whole call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from forwarder.model import Batch, CallStatus, Event, Flush, Kind, Outcome, Results
from forwarder.targets.eventbridge import EventBridge, EventBridgeOptions, weigh
from tests.unit.targets.fake_aws import Answer, Call, FakeAws, aws_environment, fake_aws

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

HERE = "arn:aws:events:eu-west-1:123456789012:event-bus/orders"
ELSEWHERE = "arn:aws:events:us-east-1:123456789012:event-bus/orders"


class Buses:
    """AWS, as far as it knows these buses. ``trouble``: the error code that describing one answers."""

    def __init__(self, *names: str, trouble: str = "") -> None:
        self.names = set(names)
        self.trouble = trouble

    def answer(self, call: Call) -> web.Response:
        if call.operation == "PutEvents":
            count = len(call.json["Entries"])
            return web.json_response(
                {"FailedEntryCount": 0, "Entries": [{"EventId": f"id-{i}"} for i in range(count)]}
            )
        name = call.json["Name"]
        if self.trouble:
            return self._error(self.trouble, "not for you")
        if name not in self.names:
            return self._error("ResourceNotFoundException", f"Event bus {name} does not exist.")
        return web.json_response({"Name": name, "Arn": f"arn:...:{name}"})

    @staticmethod
    def _error(code: str, message: str) -> web.Response:
        return web.json_response({"__type": code, "message": message}, status=400)


def batch(*buses: str | None, key: bytes = b"") -> Batch:
    """One event for each bus; None is an entry that names none."""
    events = []
    for i, bus in enumerate(buses):
        entry: dict[str, Any] = {"Source": "s", "DetailType": "t", "Detail": json.dumps({"n": i})}
        if bus is not None:
            entry["EventBusName"] = bus
        body = json.dumps(entry).encode()
        events.append(Event(f"event-{i}", body, len(body), key, 0.0))
    return Batch(key, events, 1, Flush.COUNT)


@asynccontextmanager
async def eventbridge(answer: Answer, **options: Any) -> AsyncIterator[tuple[EventBridge, FakeAws]]:
    async with fake_aws(answer) as aws:
        target = EventBridge(
            "orders", EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, **options)
        )
        try:
            yield target, aws
        finally:
            await target.close()


def kinds(results: Results) -> list[Kind]:
    return [outcome.kind for outcome in results.outcomes]


@pytest.mark.parametrize(
    ("options", "status"), [({}, CallStatus.OK), ({"buses": ["orders"]}, CallStatus.HELD)]
)
async def test_no_event_is_sent_to_a_missing_bus_and_only_a_configured_one_holds_the_target(
    options: dict[str, Any], status: CallStatus
) -> None:
    async with eventbridge(Buses().answer, **options) as (target, aws):
        results = await target.send(batch("orders", "orders"))
    assert results.status is status
    assert results.outcomes[0].message == "event bus orders does not exist in eu-west-1"
    assert kinds(results) == [Kind.RETRY] * 2
    assert aws.of("PutEvents") == []


async def test_events_of_a_missing_bus_wait_and_their_neighbours_pass() -> None:
    async with eventbridge(Buses("b").answer) as (target, aws):
        results = await target.send(batch("a", "b", None, "a", "b"))
    assert results.status is CallStatus.OK
    assert kinds(results) == [Kind.RETRY, Kind.DELIVERED, Kind.DELIVERED, Kind.RETRY, Kind.DELIVERED]
    assert [outcome.aws_id for outcome in results.outcomes] == ["", "id-0", "id-1", "", "id-2"]
    (put,) = aws.of("PutEvents")
    assert [json.loads(entry["Detail"])["n"] for entry in put.json["Entries"]] == [1, 2, 4]


async def test_a_bus_that_comes_to_exist_gets_its_events() -> None:
    buses = Buses()
    async with eventbridge(buses.answer) as (target, _):
        assert kinds(await target.send(batch("orders"))) == [Kind.RETRY]
        buses.names.add("orders")
        await target.verify()
        assert kinds(await target.send(batch("orders"))) == [Kind.DELIVERED]


async def test_a_missing_bus_is_not_asked_for_by_every_try_of_its_events() -> None:
    async with eventbridge(Buses().answer) as (target, aws):
        for _ in range(5):
            assert kinds(await target.send(batch("orders"))) == [Kind.RETRY]
        await target.verify()
    assert len(aws.of("DescribeEventBus")) == 2
    assert aws.of("PutEvents") == []


async def test_a_bus_is_asked_for_once_and_the_default_bus_never() -> None:
    async with eventbridge(Buses("orders").answer) as (target, aws):
        for _ in range(3):
            await target.send(batch("orders", "default", None))
        await asyncio.gather(*(target.send(batch("orders")) for _ in range(4)))
    assert [call.json["Name"] for call in aws.of("DescribeEventBus")] == ["orders"]


async def test_workers_that_meet_a_new_bus_together_ask_once() -> None:
    async with eventbridge(Buses("orders").answer) as (target, aws):
        await asyncio.gather(*(target.send(batch("orders")) for _ in range(4)))
    assert len(aws.of("DescribeEventBus")) == 1
    assert len(aws.of("PutEvents")) == 4


async def test_verify_names_configured_buses_that_are_missing_until_they_exist() -> None:
    buses = Buses("a")
    async with eventbridge(buses.answer, buses=["a", "b", "c"]) as (target, _):
        assert await target.verify() == "event buses b, c do not exist in eu-west-1"
        buses.names.add("b")
        assert await target.verify() == "event bus c does not exist in eu-west-1"
        buses.names.add("c")
        assert await target.verify() is None


async def test_a_bus_that_was_deleted_is_not_sent_to_after_the_next_verification() -> None:
    buses = Buses("orders")
    async with eventbridge(buses.answer) as (target, aws):
        assert (await target.send(batch("orders"))).status is CallStatus.OK
        buses.names.clear()
        assert await target.verify() is None
        assert kinds(await target.send(batch("orders"))) == [Kind.RETRY]
        assert kinds(await target.send(batch("other", None))) == [Kind.RETRY, Kind.DELIVERED]
        buses.names.add("orders")
        await target.verify()
        assert kinds(await target.send(batch("orders"))) == [Kind.DELIVERED]
    assert len(aws.of("PutEvents")) == 3


@pytest.mark.parametrize("trouble", ["AccessDeniedException", "ThrottlingException", "InternalException"])
async def test_what_cannot_be_verified_is_sent(trouble: str) -> None:
    async with eventbridge(Buses(trouble=trouble).answer, buses=["orders"]) as (target, _):
        assert await target.verify() is None
        assert (await target.send(batch("orders", "others"))).status is CallStatus.OK


async def test_a_denied_verification_warns_once_and_is_not_tried_again_for_that_bus() -> None:
    buses = Buses(trouble="AccessDeniedException")
    with capture_logs() as logs:
        async with eventbridge(buses.answer, buses=["a", "b"]) as (target, aws):
            for _ in range(3):
                await target.verify()
                await target.send(batch("a", "b"))
    assert [(line["log_level"], line["bus"]) for line in logs] == [("warning", "a")]
    assert [call.json["Name"] for call in aws.of("DescribeEventBus")] == ["a", "b"]


async def test_buses_of_other_regions_are_left_to_sending() -> None:
    async with eventbridge(Buses(HERE).answer, buses=[HERE, ELSEWHERE]) as (target, aws):
        assert await target.verify() is None
        assert (await target.send(batch(HERE, ELSEWHERE))).status is CallStatus.OK
    assert {call.json["Name"] for call in aws.of("DescribeEventBus")} == {HERE}


async def test_without_verify_buses_nobody_is_asked() -> None:
    async with eventbridge(Buses().answer, verify_buses=False) as (target, aws):
        assert target.verify_every is None
        assert (await target.send(batch("orders"))).status is CallStatus.OK
    assert len(aws.calls) == 1


async def test_the_number_of_watched_buses_is_bounded() -> None:
    names = [f"bus-{i}" for i in range(150)]
    async with eventbridge(Buses(*names).answer) as (target, aws):
        for i in range(0, 150, 10):
            assert (await target.send(batch(*names[i : i + 10]))).status is CallStatus.OK
        asked = len(aws.of("DescribeEventBus"))
        assert asked < 120
        await target.verify()
    assert len(aws.of("DescribeEventBus")) == 2 * asked


async def test_a_global_endpoint_is_asked_of_the_sdk() -> None:
    """It signs for all regions, for which the SDK needs a part that is not installed by itself."""
    async with eventbridge(Buses().answer) as (target, aws):
        results = await target.send(batch(None, key=b"abcde.veo"))
    assert results.status is CallStatus.HELD
    assert "crt" in results.message
    assert results.code == "endpoint", "of this call alone: the others need no such part"
    assert aws.calls == []


def entry_results(codes: Sequence[str]) -> Results:
    retried = {"ThrottlingException", "InternalFailure"}
    outcomes = [
        Outcome(Kind.DELIVERED, aws_id="x")
        if not code
        else Outcome(Kind.RETRY if code in retried else Kind.REJECTED, code, f"about {code}")
        for code in codes
    ]
    return Results(CallStatus.OK, outcomes)


DENIED, SLOW, POISON = "AccessDeniedException", "ThrottlingException", "NotAuthorizedForSourceException"
D, R, X = Kind.DELIVERED, Kind.RETRY, Kind.REJECTED


@pytest.mark.parametrize(
    ("buses", "codes", "status", "expected"),
    [
        ("aa", ["", ""], CallStatus.OK, [D, D]),
        ("aa", [DENIED, DENIED], CallStatus.HELD, [R, R]),
        ("aa", [DENIED, ""], CallStatus.OK, [X, D]),
        ("ab", [DENIED, ""], CallStatus.HELD, [R, D]),
        ("abb", [DENIED, DENIED, ""], CallStatus.HELD, [R, X, D]),
        ("abb", [DENIED, DENIED, POISON], CallStatus.HELD, [R, X, X]),
        ("aa", [SLOW, SLOW], CallStatus.THROTTLED, [R, R]),
        ("aa", [SLOW, ""], CallStatus.OK, [R, D]),
        ("aa", [SLOW, "InternalFailure"], CallStatus.OK, [R, R]),
        ("aa", ["InternalFailure", "InternalFailure"], CallStatus.OK, [R, R]),
        ("a", [POISON], CallStatus.OK, [X]),
        ("aa", ["MalformedDetail", POISON], CallStatus.OK, [X, X]),
    ],
)
def test_entries_tell_of_the_call_when_all_of_a_bus_or_of_the_call_say_the_same(
    buses: str, codes: list[str], status: CallStatus, expected: list[Kind]
) -> None:
    results = weigh(entry_results(codes), list(buses))
    assert results.status is status
    assert kinds(results) == expected
    if status is not CallStatus.OK:
        assert results.message == f"about {results.code}"
