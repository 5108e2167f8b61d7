"""Trouble that passes never tells a page's client 403 or 404: at these it switches itself off for good.

A client of RUM tries again after 429, any 5xx and an answer it cannot read; these are all there is here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.model import Event, QueueUnavailable, SystemClock
from forwarder.queues.memory import MemoryQueue
from tests.support.ingest import LIMITS, MIB, MONITOR, Ingest, Routes, code, serving
from tests.unit.ingest.test_aws import rum_call

ORIGIN = "https://shop.example.com"
FETCH = (f"/appmonitors/{MONITOR}", "application/json")
BEACON = (
    f"/appmonitors/{MONITOR}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=60&X-Amz-Signature=00"
    "&X-Amz-Credential=AKID%2F20261121%2Feu-west-1%2Frum%2Faws4_request",
    "text/plain;charset=UTF-8",
)


class Refusing(MemoryQueue):
    """A queue whose every put fails."""

    problem: Exception

    def put_nowait(self, events: Sequence[Event], *, complete: bool = False) -> None:
        raise self.problem


def one_target(max_events: int = 100) -> Routes:
    return Routes().add("web", PutRumEvents((MONITOR,)), names=(MONITOR,), max_events=max_events)


@asynccontextmanager
async def with_a_full_queue() -> AsyncIterator[Ingest]:
    async with serving(one_target(max_events=2), origins=[ORIGIN]) as ingest:
        assert (await ingest.post(FETCH[0], rum_call(2, Alias="first"))).status == 200
        yield ingest


@asynccontextmanager
async def with_a_closed_queue() -> AsyncIterator[Ingest]:
    async with serving(one_target(), origins=[ORIGIN]) as ingest:
        await ingest.queues["web"].aclose()
        yield ingest


@asynccontextmanager
async def with_a_put_that_fails(problem: Exception) -> AsyncIterator[Ingest]:
    routes = one_target()
    metrics = routes.metrics.for_target("web")
    queue = Refusing(LIMITS, max_events=9, max_bytes=MIB, clock=SystemClock(), metrics=metrics)
    queue.problem = problem
    routes.routes[0] = replace(routes.routes[0], queue=queue)
    async with serving(routes, origins=[ORIGIN]) as ingest:
        yield ingest


def with_a_disk_that_refuses() -> AbstractAsyncContextManager[Ingest]:
    return with_a_put_that_fails(QueueUnavailable("events cannot be stored now: the disk is full"))


def with_a_bug() -> AbstractAsyncContextManager[Ingest]:
    return with_a_put_that_fails(RuntimeError("the queue broke"))


@asynccontextmanager
async def with_its_memory_used_up() -> AsyncIterator[Ingest]:
    async with serving(one_target(), origins=[ORIGIN]) as ingest:
        ingest.budget.reserve(ingest.budget.limit)
        yield ingest
        ingest.budget.release(ingest.budget.limit)


@asynccontextmanager
async def while_it_stops() -> AsyncIterator[Ingest]:
    async with serving(one_target(), origins=[ORIGIN]) as ingest:
        ingest.server.begin_draining()
        yield ingest


TROUBLES: dict[Callable[[], AbstractAsyncContextManager[Ingest]], tuple[int, str]] = {
    with_a_full_queue: (429, "ThrottlingException"),
    with_a_closed_queue: (429, "ThrottlingException"),
    with_its_memory_used_up: (429, "ThrottlingException"),
    with_a_disk_that_refuses: (503, "ServiceUnavailable"),
    with_a_bug: (500, "InternalFailure"),
}


@pytest.mark.parametrize(("path", "media"), [FETCH, BEACON])
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_page_is_told_to_come_back_and_can_read_it(
    trouble: Callable[[], AbstractAsyncContextManager[Ingest]], path: str, media: str
) -> None:
    async with trouble() as ingest:
        answer = await ingest.post(path, rum_call(2), {"Content-Type": media, "Origin": ORIGIN})
        assert (answer.status, code(answer)) == TROUBLES[trouble]
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        if answer.status != 500:
            assert 1 <= int(answer.headers["retry-after"]) <= 3
            assert "Retry-After" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_preflight_is_answered_whatever_the_trouble(
    trouble: Callable[[], AbstractAsyncContextManager[Ingest]],
) -> None:
    async with trouble() as ingest:
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        assert (await ingest.post(FETCH[0], b"", asked, "OPTIONS")).status == 204


@pytest.mark.parametrize(("path", "media"), [FETCH, BEACON])
async def test_a_page_is_still_served_while_the_daemon_stops(path: str, media: str) -> None:
    async with while_it_stops() as ingest:
        answer = await ingest.post(path, rum_call(2), {"Content-Type": media, "Origin": ORIGIN})
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_one_connection_too_many_is_told_503() -> None:
    async with serving(one_target(), origins=[ORIGIN], max_connections=1) as ingest:
        first = await ingest.peer()
        answer = await ingest.post(FETCH[0], rum_call(2), {"Origin": ORIGIN})
        assert (answer.status, code(answer)) == (503, "ServiceUnavailable")
        await first.close()


async def test_a_beacon_is_taken_with_its_signature_in_the_query() -> None:
    async with serving(one_target()) as ingest:
        answer = await ingest.post(BEACON[0], rum_call(2), {"Content-Type": BEACON[1]})
        assert answer.status == 200
        assert ingest.count("web") == 2


async def test_a_beacon_that_was_signed_for_a_region_goes_to_the_target_there() -> None:
    routes = Routes()
    for region in ("us-east-1", "eu-west-1"):
        routes.add(region, PutRumEvents(), region=region, default=True)
    async with serving(routes) as ingest:
        assert (await ingest.post(BEACON[0], rum_call(2), {"Content-Type": BEACON[1]})).status == 200
        assert (ingest.count("us-east-1"), ingest.count("eu-west-1")) == (0, 2)
        other = BEACON[0].replace("eu-west-1", "ap-south-1")
        assert (await ingest.post(other, rum_call(2), {"Content-Type": BEACON[1]})).status == 400
