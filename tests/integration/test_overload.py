"""Senders that never pause and ignore Retry-After: deliveries go on, and others get their turn."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support.events import event
from tests.support.harness import World, daemon_in, until
from tests.support.ingest import Peer, request

PATH = "/v1/targets/orders/events"
CONNECTIONS, PER_POST, ENOUGH = 16, 20, 2_000
SMALL: dict[str, Any] = {"queue_limits": {"max_events": 200}}


class Flood:
    """Connections that post arrays one after the other, whatever they are answered."""

    def __init__(self, place: World) -> None:
        self.address = place.ingest.removeprefix("http://")
        self.statuses: Counter[int] = Counter()
        self.request = request(PATH, [event("eventbridge", str(n)) for n in range(PER_POST)])

    async def __aenter__(self) -> Flood:
        self.tasks = [asyncio.create_task(self._post()) for _ in range(CONNECTIONS)]
        return self

    async def __aexit__(self, *problem: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _post(self) -> None:
        peer = await Peer.connect(self.address)
        while True:
            await peer.send(self.request)
            self.statuses[(await peer.answer()).status] += 1


async def delivered(place: World, count: int) -> None:
    async def seen() -> bool:
        return (await place.ledger("eventbridge"))["delivered"] >= count

    await until(seen, f"{count} events are delivered")


@pytest.mark.parametrize("queue", ["memory", "disk"])
async def test_in_an_overload_few_requests_are_refused(queue: str, place: World) -> None:
    async with daemon_in(place, orders={**SMALL, "queue": queue}):
        async with Flood(place) as flood:
            await delivered(place, ENOUGH)
        assert set(flood.statuses) <= {202, 429}
        assert flood.statuses[429] <= 10 * flood.statuses[202], flood.statuses


async def test_beside_a_flood_a_polite_sender_is_taken(place: World) -> None:
    async with daemon_in(place, orders=SMALL), Flood(place):
        await delivered(place, 500)

        async def taken() -> bool:
            sent = await place.post("eventbridge", [event("eventbridge", "polite")])
            assert sent.status == 202 or "Retry-After" in sent.headers
            return sent.status == 202

        await until(taken, "a polite sender's event is taken")
