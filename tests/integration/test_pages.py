"""A page's client in front of a daemon whose AWS is in trouble: it is never told what would switch it off."""

from __future__ import annotations

import json
import uuid
from collections import Counter

import pytest

from forwarder.sandbox.faults import FAULT_KINDS, NEEDS_RESULTS, FaultKind
from tests.support.events import MONITOR, markers
from tests.support.harness import World, daemon_in, until

ORIGIN = "https://shop.example.com"
TROUBLES = [fault for fault in FAULT_KINDS if fault not in NEEDS_RESULTS]
ROOM = 5


class Page:
    """Sends one event at a time, and notes what it was told."""

    def __init__(self, place: World) -> None:
        self._place = place
        self.statuses: Counter[int] = Counter()
        self.taken: list[str] = []

    async def send(self) -> int:
        [marker] = markers(1)
        details = json.dumps({"marker": marker})
        event = {"id": str(uuid.uuid4()), "timestamp": 1767323045, "type": "test_event", "details": details}
        body = {
            "BatchId": str(uuid.uuid4()),
            "AppMonitorDetails": {},
            "UserDetails": {},
            "RumEvents": [event],
        }
        url = f"{self._place.ingest}/appmonitors/{MONITOR}"
        async with self._place.http.post(url, json=body, headers={"Origin": ORIGIN}) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            self.statuses[answer.status] += 1
            if answer.status == 200:
                self.taken.append(marker)
            return answer.status


@pytest.mark.parametrize("fault", TROUBLES)
async def test_whatever_aws_does_a_page_is_told_200_or_to_come_back(place: World, fault: FaultKind) -> None:
    web = {"queue_limits": {"max_events": ROOM}, "timeouts": {"read": "300ms"}}
    async with daemon_in(place, web=web, ingest={"cors": {"origins": [ORIGIN]}}):
        page = Page(place)
        await place.order(
            {"fault": fault, "api": "rum", "delay": 30} if fault == "slow" else {"fault": fault}
        )

        async def is_full() -> bool:
            return await page.send() == 429

        async def is_struck() -> bool:
            return await place.injected("rum", fault) > 0

        await until(is_full, "the queue is full while nothing leaves it")
        await until(is_struck, "the trouble")
        await place.heal()

        async def is_taken() -> bool:
            return await page.send() == 200

        await until(is_taken, "events are taken again")
        await place.settled("rum")
        assert set(page.statuses) == {200, 429}
        assert set(await place.arrived("rum")) == set(page.taken)
