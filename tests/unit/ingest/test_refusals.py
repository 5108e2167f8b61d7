"""Requests that meet a full queue, in turned time, and over real connections."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.ingest import refusals
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.errors import BadRequest
from forwarder.ingest.http.manners import FIRST_PAUSE, Manners
from forwarder.ingest.refusals import LOOK_SECONDS, Refusals
from forwarder.model import Event
from forwarder.queues.queue import Settlement
from tests.support.ingest import EVENT, NATIVE, PUT_EVENTS, Routes, request, serving, until
from tests.support.puts import put_in
from tests.support.turned_time import TurnedClock, run_in_turned_time

ONE = 300
"""Bytes of a body of one event."""


class Full:
    """A queue of so many events that is full, and those that ask for room in it."""

    def __init__(self, clock: TurnedClock, events: int = 100) -> None:
        routes = Routes().add("orders", PutEvents(), default=True, max_events=events)
        self.clock = clock
        self.queue = routes.routes[0].queue
        self.metrics = routes.metrics.for_target("orders")
        self.refusals = Refusals(Bindings(routes.routes))
        self.let_in: list[str] = []

    async def fill(self, events: int = 100) -> None:
        await put_in(self.queue, [Event(str(n), b"{}", 2, b"", 0.0) for n in range(events)])

    def leave(self, events: int) -> None:
        """So many are delivered."""
        while events > 0:
            batch = self.queue.take()
            assert batch is not None
            self.queue.settle(Settlement(gone=batch.events))
            events -= len(batch.events)

    async def ask(
        self, name: str = "", peer: str = "a", size: int = ONE, manners: Manners | None = None
    ) -> None:
        """One request, that keeps what it is promised for as long as nobody ends it."""
        with await self.refusals.wait("orders", size, peer, manners or Manners()):
            self.let_in.append(name)
            await asyncio.get_running_loop().create_future()

    def read_none(self) -> None:
        self.refusals._reads, self.refusals._read_at = 0.0, self.clock.now + 1e9


def in_turned_time(test: Any) -> Any:
    def run() -> None:
        run_in_turned_time(test)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@in_turned_time
async def test_who_heeds_retry_after_is_answered_in_a_moment(clock: TurnedClock) -> None:
    full, manners = Full(clock), Manners()
    await full.fill()
    full.read_none()
    for _ in range(5):
        began = clock.now
        with pytest.raises(BadRequest) as refused:
            await full.ask(manners=manners)
        await full.refusals.refused("orders", refused.value, manners)
        assert clock.now - began <= FIRST_PAUSE + LOOK_SECONDS
        assert (refused.value.status, refused.value.reason, refused.value.close) == (429, "queue_full", False)
        await asyncio.sleep(1.0)
    assert full.metrics.refused["queue_full"] == 5


@in_turned_time
async def test_a_connection_cannot_be_refused_as_fast_as_it_can_ask(clock: TurnedClock) -> None:
    full, manners = Full(clock), Manners()
    await full.fill()
    full.read_none()
    began, count = clock.now, 0
    while clock.now - began < 10:
        with pytest.raises(BadRequest) as refused:
            await full.ask(manners=manners)
        await full.refusals.refused("orders", refused.value, manners)
        count += 1
        assert count <= 16


@in_turned_time
async def test_a_refusal_by_the_queue_waits_as_long_as_any_other(clock: TurnedClock) -> None:
    full, manners, problem = Full(clock), Manners(), BadRequest(429, "Throttling", "full")
    began, count = clock.now, 0
    while clock.now - began < 10:
        await full.refusals.refused("orders", problem, manners)
        count += 1
        assert count <= 16
    before = clock.now
    await full.refusals.refused("orders", BadRequest(400, "Bad", "no JSON"), manners)
    assert clock.now == before


@in_turned_time
async def test_who_waits_gets_the_room_that_comes(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    assert not full.refusals.must_wait("orders"), "a queue that has refused nothing is asked nothing"
    await full.refusals.refused("", BadRequest(429, "Throttling", "full"), Manners())
    assert full.refusals.must_wait("orders")
    assert full.refusals.must_wait("")
    task = asyncio.create_task(full.ask("first"))
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == []
    full.leave(10)
    assert full.refusals.must_wait("orders"), "nobody overtakes"
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == ["first"]
    assert not full.refusals.must_wait("orders")
    await end(task)


@in_turned_time
async def test_room_is_promised_once(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    tasks = [asyncio.create_task(full.ask(str(n))) for n in range(15)]
    await asyncio.sleep(0)
    full.read_none()
    full.leave(10)
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == [str(n) for n in range(10)]
    await end(*tasks[:3])  # they did not put what they might have
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == [str(n) for n in range(13)]
    await end(*tasks)


@in_turned_time
async def test_peers_get_room_in_turn(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    tasks = [asyncio.create_task(full.ask(f"many {n}", "many")) for n in range(20)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(full.ask("one", "one")))
    await asyncio.sleep(0)
    full.leave(10)
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in[:3] == ["many 0", "one", "many 1"]
    await end(*tasks)


@in_turned_time
async def test_a_body_that_needs_more_room_than_there_is_waits_for_it(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    tasks = [asyncio.create_task(full.ask("fifty", "a", 50 * ONE)), asyncio.create_task(full.ask("one", "b"))]
    await asyncio.sleep(0)
    full.leave(10)
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == ["one"]
    full.leave(50)
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert full.let_in == ["one", "fifty"]
    await end(*tasks)


@in_turned_time
async def test_only_so_many_wait_and_one_more_is_refused_at_once(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    tasks = [asyncio.create_task(full.ask()) for _ in range(refusals.MAX_WAITING)]
    await asyncio.sleep(0)
    began = clock.now
    with pytest.raises(BadRequest) as refused:
        await full.ask()
    assert (refused.value.status, refused.value.close, clock.now) == (429, True, began)
    await end(*tasks)


@in_turned_time
async def test_few_that_find_no_room_are_read_all_the_same(clock: TurnedClock) -> None:
    full = Full(clock)
    await full.fill()
    tasks = [asyncio.create_task(full.ask()) for _ in range(200)]
    await asyncio.sleep(FIRST_PAUSE + 2 * LOOK_SECONDS)
    assert 20 <= len(full.let_in) <= 22
    assert sum(task.done() for task in tasks) == 200 - len(full.let_in)
    await end(*tasks)


async def test_a_refused_connection_goes_on_with_the_date_to_come_back() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT))
        assert (await peer.answer()).status == 202
        ingest.server._refusals._reads, ingest.server._refusals._read_at = 0.0, 1e12  # what comes is not read
        for body in (EVENT, [{**EVENT, "Detail": {"n": "x" * 3_000_000}}]):
            await peer.send(request(NATIVE, body))
            answer = await peer.answer()
            assert answer.status == 429
            assert 1 <= int(answer.headers["retry-after"]) <= 3
            assert "connection" not in answer.headers
        (batch,) = ingest.batches()
        ingest.queues["orders"].settle(Settlement(gone=batch.events))
        await peer.send(request(NATIVE, EVENT))
        assert (await peer.answer()).status == 202
        await peer.close()


async def test_a_body_is_neither_read_nor_leased_while_its_request_waits() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        await ingest.post(NATIVE, EVENT)
        assert (await ingest.post(NATIVE, EVENT)).status == 429
        peer = await ingest.peer()
        await peer.send(request(NATIVE, [EVENT] * 1000))
        await until(lambda: ingest.server.in_flight == 1)
        assert ingest.budget.used == 0
        assert (await peer.answer()).status in (413, 429)
        await peer.close()


async def test_pipelined_requests_of_a_refused_connection_are_answered_in_order() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        await ingest.post(NATIVE, EVENT)
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT) * 3 + request("/v1/nowhere", json.dumps({}).encode()))
        assert [(await peer.answer()).status for _ in range(4)] == [429, 429, 429, 404]
        await peer.close()


async def test_a_question_about_a_bus_is_answered_while_the_queue_is_full() -> None:
    describe = {**PUT_EVENTS, "X-Amz-Target": "AWSEvents.DescribeEventBus"}
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        await ingest.post(NATIVE, EVENT)
        assert (await ingest.post(NATIVE, EVENT)).status == 429
        before = ingest.refused()
        ingest.server._refusals._reads, ingest.server._refusals._read_at = 0.0, 1e12  # what comes is not read
        assert (await ingest.post("/", {"Name": "shop"}, headers=describe)).status == 200
        assert ingest.refused() == before
