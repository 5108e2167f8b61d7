"""A CloudEvent that is sent again is taken once, whatever request it comes in; no other is lost by that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.deduplication import SeenEvents
from forwarder.ingest.dialects import cloudevents
from forwarder.model import Event, QueueFull, SystemClock
from forwarder.queues.memory import MemoryQueue
from tests.support.clocks import HandClock
from tests.support.ingest import LIMITS, MIB, Ingest, Routes, code, request, serving, until
from tests.unit.ingest.test_cloudevents import BATCH, JSON, PATH, STRUCTURED, detail, event, heads

ID = "x-forwarder-event-id"


class Slow(MemoryQueue):
    """A queue whose puts end when the test says so; ``refuses`` says of each in turn if it is refused."""

    def __init__(self, routes: Routes) -> None:
        metrics = routes.metrics.for_target("orders")
        super().__init__(LIMITS, max_events=100, max_bytes=MIB, clock=SystemClock(), metrics=metrics)
        self.may = asyncio.Event()
        self.refuses: list[bool] = []
        self.begun = 0

    def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> asyncio.Future[None]:
        self.begun += 1
        return asyncio.ensure_future(self._put_later(events, complete))

    async def _put_later(self, events: Sequence[Event], complete: bool) -> None:
        await self.may.wait()
        if self.refuses and self.refuses.pop(0):
            raise QueueFull("the queue is full")
        super().put_nowait(events, complete=complete)


def slow() -> tuple[Routes, Slow]:
    routes = Routes().add("orders", PutEvents(), default=True)
    queue = Slow(routes)
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    return routes, queue


def begin(ingest: Ingest, body: Any, headers: Any = STRUCTURED) -> asyncio.Task[Any]:
    return asyncio.create_task(ingest.post(PATH, body, headers))


async def test_the_same_event_again_is_taken_once_whatever_its_mode_and_its_request() -> None:
    whole = event(data={"n": 1}, datacontenttype="application/json")
    async with serving() as ingest:
        first = await ingest.post(PATH, whole, STRUCTURED)
        again = await ingest.post(PATH, dict(reversed(whole.items())), STRUCTURED)
        binary = await ingest.post(PATH, b'{"n": 1}', {**heads(), **JSON})
        batch = await ingest.post(PATH, [whole, event(id="2"), event(id="2")], BATCH)
        assert first.headers[ID] == again.headers[ID] == binary.headers[ID]
        ids = [result["id"] for result in batch.json["results"]]
        assert ids[0] == first.headers[ID]
        assert ids[1] == ids[2] != ids[0]
        assert [detail(entry)["id"] for entry in ingest.bodies()] == ["A234-1234", "2"]


@pytest.mark.parametrize(
    "other",
    [
        {"source": "/other"},
        {"id": "2"},
        {"type": "t"},
        {"data": {"n": 2}},
        {"eventbusname": "other"},
        {"resources": "arn:aws:s3:::b"},
        {"subject": "another"},
        {"time": "2026-11-21T12:00:00Z"},
        {"comexampleextension": "1"},
        {"comexampleextension": 1},
    ],
)
async def test_what_differs_in_anything_that_decides_the_entry_is_another_event(
    other: dict[str, Any],
) -> None:
    async with serving() as ingest:
        for each in (event(data={"n": 1}), {**event(data={"n": 1}), **other}):
            assert (await ingest.post(PATH, each, STRUCTURED)).status == 202
        assert ingest.count() == 2


def test_the_event_of_one_peer_never_stands_for_that_of_another() -> None:
    one = cloudevents.CloudEvent({"id": "1", "source": "/a", "type": "t", "specversion": "1.0"})
    assert cloudevents.identity("a", "orders", one) == cloudevents.identity("a", "orders", one)
    assert cloudevents.identity("a", "orders", one) != cloudevents.identity("b", "orders", one)


async def test_an_event_is_known_by_its_target() -> None:
    routes = Routes().add("orders", PutEvents(), default=True)
    async with serving(routes.add("more", PutEvents(), names=("more",))) as ingest:
        await ingest.post(PATH, event(), STRUCTURED)
        await ingest.post("/v1/cloudevents/more", event(), STRUCTURED)
        assert (ingest.count("orders"), ingest.count("more")) == (1, 1)


async def test_an_event_that_is_still_being_put_is_waited_for() -> None:
    routes, queue = slow()
    async with serving(routes) as ingest:
        tasks = [begin(ingest, event()), begin(ingest, [event(), event(id="2")], BATCH)]
        await until(lambda: queue.begun == 2)
        queue.may.set()
        first, second = await asyncio.gather(*tasks)
        assert first.headers[ID] == second.json["results"][0]["id"]
        assert queue.view().events == 2


async def test_two_batches_that_hold_each_others_events_do_not_wait_for_ever() -> None:
    routes, queue = slow()
    async with serving(routes) as ingest:
        batches = [[event(id="1"), event(id="2")], [event(id="3"), event(id="1")]]
        tasks = [begin(ingest, batch, BATCH) for batch in [*batches, [event(id="2"), event(id="3")]]]
        await asyncio.sleep(0.05)
        queue.may.set()
        answers = await asyncio.gather(*tasks)
        assert [answer.json["accepted"] for answer in answers] == [2, 2, 2]
        assert queue.view().events == 3


async def test_an_event_whose_first_request_was_refused_is_put_by_the_one_that_waited() -> None:
    routes, queue = slow()
    async with serving(routes) as ingest:
        first = begin(ingest, event())
        await until(lambda: queue.begun == 1)
        second = begin(ingest, event())
        await asyncio.sleep(0.05)
        queue.refuses = [True]
        queue.may.set()
        assert sorted([(await first).status, (await second).status]) == [202, 429]
        assert queue.view().events == 1


async def test_who_goes_away_while_it_waits_takes_nobody_with_it() -> None:
    routes, queue = slow()
    async with serving(routes) as ingest:
        first = begin(ingest, event())
        await until(lambda: queue.begun == 1)
        peer = await ingest.peer()
        await peer.send(request(PATH, event(), STRUCTURED))
        third = begin(ingest, event())
        await asyncio.sleep(0.05)
        await peer.reset()
        queue.may.set()
        assert (await first).headers[ID] == (await third).headers[ID]
        assert queue.view().events == 1


async def test_what_was_taken_in_one_round_stays_taken_when_the_next_is_refused() -> None:
    routes, queue = slow()
    async with serving(routes) as ingest:
        first = begin(ingest, event(id="1"))
        await until(lambda: queue.begun == 1)
        batch = begin(ingest, [event(id="1"), event(id="2")], BATCH)
        await until(lambda: queue.begun == 2)
        queue.refuses = [True, False, True]  # the first; then of the batch what is its own, and the rest
        queue.may.set()
        assert (await first).status == 429
        answer = await batch
        assert answer.status == 202
        refused, taken = answer.json["results"]
        assert refused["code"] == "ThrottlingException"
        assert taken["id"]
        assert queue.view().events == 1
        assert ingest.refused() == {"queue_full": 2}
        again = await ingest.post(PATH, [event(id="1"), event(id="2")], BATCH)
        assert again.json["results"][1] == taken
        assert queue.view().events == 2


async def test_a_refused_event_is_new_when_it_comes_again() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        assert (await ingest.post(PATH, event(id="1"), STRUCTURED)).status == 202
        refused = await ingest.post(PATH, event(id="2"), STRUCTURED)
        assert (refused.status, code(refused)) == (429, "ThrottlingException")
        assert (await ingest.post(PATH, event(id="1"), STRUCTURED)).status == 202  # known: needs no room
        ingest.batches()  # they are in flight now; the queue is as full as before
        assert (await ingest.post(PATH, event(id="2"), STRUCTURED)).status == 429


async def test_what_is_remembered_is_bounded_by_number_and_by_age() -> None:
    clock = HandClock(0.0)
    known = SeenEvents(clock, max_events=10, max_age=100.0)
    for number in range(1000):
        key = b"%d" % number
        assert known.claim(key) is None
        known.settle([key], [f"id {number}"])
        assert len(known) <= 20
        assert all(known.claim(b"%d" % n) == f"id {n}" for n in range(max(0, number - 9), number + 1))
    clock.now = 99.0
    assert known.claim(b"999") == "id 999"
    clock.now = 350.0
    assert known.claim(b"999") is None
    assert len(known) == 0
