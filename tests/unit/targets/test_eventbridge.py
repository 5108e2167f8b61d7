"""What only EventBridge has: buses that may not exist, and entries that tell of the whole call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from forwarder.config import Duration
from forwarder.delivery.disposition import Policy
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.delivery.lane import Lane
from forwarder.delivery.worker import work
from forwarder.metrics import TargetMetrics
from forwarder.model import (
    Batch,
    CallStatus,
    Dead,
    Event,
    Flush,
    Kind,
    Outcome,
    Removal,
    Results,
    SystemClock,
)
from forwarder.queues.memory import MemoryQueue
from forwarder.states import Reason
from forwarder.targets.aws import NAMES, AwsTarget
from forwarder.targets.eventbridge import EventBridgeOptions, build, weigh
from forwarder.targets.options import Hold
from forwarder.targets.questions import Answer as BusAnswer
from forwarder.targets.questions import answer_of
from tests.support.fake_aws import Answer, Call, FakeAws, aws_environment, fake_aws
from tests.support.puts import put_in

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


def event(i: int, bus: str | None, key: bytes = b"") -> Event:
    entry: dict[str, Any] = {"Source": "s", "DetailType": "t", "Detail": json.dumps({"n": i})}
    if bus is not None:
        entry["EventBusName"] = bus
    body = json.dumps(entry).encode()
    name = "" if bus in (None, "default") else str(bus)
    return Event(f"event-{i}", body, len(body), key, SystemClock.monotonic(), name=name)


def batch(*buses: str | None, key: bytes = b"") -> Batch:
    """One event for each bus; None is an entry that names none."""
    return Batch(key, [event(i, bus, key) for i, bus in enumerate(buses)], 1, Flush.COUNT)


class NoLetters:
    async def keep(self, target: str, dead: Sequence[Dead], removal: Removal | None) -> None:
        raise AssertionError(dead)


@dataclass
class Running:
    """A target with its queue, a worker and its questions."""

    target: AwsTarget
    queue: MemoryQueue
    aws: FakeAws
    held: list[str | None]

    def hold(self, owner: str, sentence: str | None, reason: Reason) -> None:
        if owner == NAMES:
            self.held.append(sentence)

    async def put(self, *buses: str | None) -> None:
        await put_in(self.queue, [event(i, bus) for i, bus in enumerate(buses)])

    async def delivered(self, count: int) -> list[str]:
        """Wait for so many events at AWS; their buses, in order."""
        await until(lambda: len(self.buses) >= count)
        return self.buses

    @property
    def buses(self) -> list[str]:
        entries = [entry for call in self.aws.of("PutEvents") for entry in call.json["Entries"]]
        return [entry.get("EventBusName", "default") for entry in entries]

    @property
    def asked(self) -> list[str]:
        return [call.json["Name"] for call in self.aws.of("DescribeEventBus")]

    async def answered(self, count: int) -> None:
        await until(lambda: sum(self.target.names.questions.values()) >= count)


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not seen():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def eventbridge(answer: Answer, **options: Any) -> AsyncIterator[tuple[AwsTarget, FakeAws]]:
    async with fake_aws(answer) as aws:
        target = build("orders", EventBridgeOptions(region="eu-west-1", endpoint_url=aws.url, **options))
        try:
            yield target, aws
        finally:
            await target.close()


@asynccontextmanager
async def running(answer: Answer, **options: Any) -> AsyncIterator[Running]:
    options = {"verify_interval": Duration(0.05), "hold": Hold(probe=Duration(0.05)), **options}
    async with eventbridge(answer, **options) as (target, aws):
        clock, metrics = SystemClock(), TargetMetrics("orders")
        bounds = {"max_events": 1000, "max_bytes": 1 << 20}
        queue = MemoryQueue(target.limits, **bounds, clock=clock, metrics=metrics, names=target.names)
        gate = Gate("orders", GateOptions(probe=0.05), clock)
        policy = Policy(max_age=60.0)
        lane = Lane("orders", target, queue, gate, policy, NoLetters(), metrics, clock, names=target.names)
        here = Running(target, queue, aws, [])
        tasks = [
            asyncio.create_task(work(lane)),
            asyncio.create_task(target.watch(queue, here.hold)),
        ]
        try:
            yield here
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await queue.aclose()


def kinds(results: Results) -> list[Kind]:
    return [outcome.kind for outcome in results.outcomes]


async def test_no_event_is_sent_to_a_missing_bus_and_its_neighbours_pass() -> None:
    async with running(Buses("b").answer) as here:
        await here.put("a", "b", None, "a", "b")
        assert sorted(await here.delivered(3)) == ["b", "b", "default"]
        await here.answered(3)
        assert {name: view.events for name, view in here.queue.aside_view().items()} == {"a": 2}
        assert here.target.names.reason("a") == "event bus a does not exist in eu-west-1"
        assert sorted(here.buses) == ["b", "b", "default"]


async def test_one_configured_bus_that_is_missing_holds_its_target_until_it_exists() -> None:
    buses = Buses()
    async with running(buses.answer, buses=["orders"]) as here:
        await here.put("orders", "orders")
        await until(lambda: "event bus orders does not exist in eu-west-1" in here.held)
        assert here.buses == []
        buses.names.add("orders")
        assert await here.delivered(2) == ["orders", "orders"]
        assert here.held[-1] is None


async def test_a_bus_that_comes_to_exist_gets_its_events_in_their_order() -> None:
    buses = Buses()
    async with running(buses.answer) as here:
        await here.put(*["orders"] * 25)
        await here.answered(2)
        assert here.buses == []
        buses.names.add("orders")
        await here.delivered(25)
        entries = [entry for call in here.aws.of("PutEvents") for entry in call.json["Entries"]]
        assert [json.loads(entry["Detail"])["n"] for entry in entries] == list(range(25))


async def test_a_bus_that_was_deleted_is_not_sent_to_after_the_next_question() -> None:
    buses = Buses("orders")
    async with running(buses.answer) as here:
        await here.put("orders")
        await here.delivered(1)
        buses.names.clear()
        await until(lambda: here.target.names.why("orders") == "missing")
        await here.put("orders", None)
        await here.delivered(2)
        buses.names.add("orders")
        assert sorted(await here.delivered(3)) == ["default", "orders", "orders"]


async def test_a_bus_is_asked_for_once_and_the_default_bus_never() -> None:
    async with running(Buses("orders").answer, verify_interval=Duration(60.0)) as here:
        for _ in range(3):
            await here.put("orders", "default", None)
        await here.delivered(9)
        assert here.asked == ["orders"]


@pytest.mark.parametrize("trouble", ["AccessDeniedException", "UnknownOperationException"])
async def test_what_nobody_can_verify_is_sent_and_said_once(trouble: str) -> None:
    with capture_logs() as logs:
        async with running(Buses(trouble=trouble).answer) as here:
            await here.put("orders", "others")
            assert sorted(await here.delivered(2)) == ["orders", "others"]
            assert "not verified" in here.target.names.note()
    assert [line["log_level"] for line in logs if "not verified" in line["event"]] == ["warning"]


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b"{}", b'{"Entries":[]}', b"null", b'"ok"', b"\xff"]
)
async def test_an_answer_that_is_not_about_a_bus_does_not_say_that_it_exists(body: bytes) -> None:
    def answer(call: Call) -> web.Response:
        return web.Response(body=body)

    async with eventbridge(answer) as (target, _):
        (results,) = (await target.ask()).values()
    assert answer_of(results) is not BusAnswer.EXISTS


@pytest.mark.parametrize("trouble", ["ThrottlingException", "InternalException", "ExpiredTokenException"])
async def test_where_nobody_knows_events_wait_and_verified_names_go_on(trouble: str) -> None:
    buses = Buses("old", "new")
    async with running(buses.answer) as here:
        await here.put("old")
        await here.delivered(1)
        buses.trouble = trouble
        await here.put("new", "nobus", "old", None)
        assert sorted((await here.delivered(3))[1:]) == ["default", "old"]
        await until(lambda: "cannot verify" in here.target.names.note())
        assert here.target.names.why("new") == "unknown"
        assert not here.target.names.has_share("new")
        buses.trouble = ""
        assert (await here.delivered(4))[3] == "new"
        await until(lambda: here.target.names.why("nobus") == "missing")


async def test_buses_of_other_regions_are_left_to_sending() -> None:
    async with running(Buses(HERE).answer) as here:
        await here.put(HERE, ELSEWHERE)
        assert sorted(await here.delivered(2)) == sorted([HERE, ELSEWHERE])
        assert set(here.asked) == {HERE}


async def test_without_verify_buses_nobody_is_asked() -> None:
    async with running(Buses().answer, verify_buses=False) as here:
        await here.put("orders")
        await here.delivered(1)
    assert here.asked == []


async def test_a_denied_question_costs_no_new_client() -> None:
    """Senders choose the names: each new client costs 40 ms of CPU, and assumes the role again."""
    async with eventbridge(Buses(trouble="AccessDeniedException").answer) as (target, aws):
        for number in range(5):
            assert target.asker is not None
            await target.asker._describe(f"bus-{number}")
        await target.send(batch("orders"))
    asked = {call.peer for call in aws.of("DescribeEventBus")}
    assert len(asked) == 1, "one connection, so one client"


async def test_sending_asks_no_questions() -> None:
    async with eventbridge(Buses().answer) as (target, aws):
        assert (await target.send(batch("orders", None))).status is CallStatus.OK
    assert [call.operation for call in aws.calls] == ["PutEvents"]


async def test_a_denied_bus_waits_and_is_probed_while_the_others_are_sent_to() -> None:
    denied = {"secret"}

    def answer(call: Call) -> web.Response:
        if call.operation != "PutEvents":
            return Buses("secret", "open").answer(call)
        entries = call.json["Entries"]
        failed = [entry["EventBusName"] in denied for entry in entries]
        results = [{"ErrorCode": DENIED, "ErrorMessage": "no"} if no else {"EventId": "x"} for no in failed]
        return web.json_response({"FailedEntryCount": sum(failed), "Entries": results})

    async with running(answer) as here:
        await here.put(*["open", "secret"] * 3)
        await until(lambda: here.target.names.why("secret") == "uncallable")
        await here.put(*["secret"] * 20)
        calls = len(here.aws.of("PutEvents"))
        await here.put("open")
        await until(lambda: len(here.aws.of("PutEvents")) > calls)
        denied.clear()
        await until(lambda: not len(here.queue))
        assert here.target.names.why("secret") == ""


async def test_a_global_endpoint_is_asked_of_the_sdk() -> None:
    """It signs for all regions, for which the SDK needs a part that is not installed by itself."""
    async with eventbridge(Buses().answer) as (target, aws):
        results = await target.send(batch(None, key=b"abcde.veo"))
    assert results.status is CallStatus.HELD
    assert "crt" in results.message
    assert results.code == "endpoint", "of this call alone: the others need no such part"
    assert aws.calls == []


async def test_an_event_on_the_disk_for_a_global_endpoint_is_named_by_it() -> None:
    async with eventbridge(Buses().answer) as (target, _):
        assert target.api.name_of(b'{"EventBusName":"orders"}', b"abcde.veo") == "endpoint:abcde.veo"
        assert target.api.name_of(b'{"EventBusName":"orders"}', b"") == "orders"


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
