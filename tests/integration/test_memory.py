"""The memory budget: clients that keep sending against an AWS that is dead, and what the process holds.

``FLOOD_SECONDS=300 pytest tests/integration/test_memory.py -s`` is the long form; it says what it measured.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
from collections import Counter
from functools import cache
from io import BytesIO
from itertools import cycle
from typing import Any

from tests.support.events import MONITOR, TARGETS, event, events, markers
from tests.support.harness import World, until
from tests.support.processes import daemon_beside
from tests.support.watching import MIB, OVERHEAD, Neighbour, anonymous_bytes, at_work, highest

FLOOD_SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
QUEUE, BODY = 12 * MIB, 1 * MIB
BUDGET = 3 * QUEUE + 12 * MIB
SENDERS = 32
REFUSED = "http://127.0.0.1:9"
"""Nothing listens on the port of "discard"."""

DEAD = [("orders", "eventbridge"), ("features", "evidently")]

LIMITS: dict[str, Any] = {
    "ingest": {"memory_budget": BUDGET, "max_body": BODY},
    "queue_limits": {"max_bytes": QUEUE, "max_events": 1_000_000},
    "shutdown": {"drain_timeout": 0},
    "timeouts": {"connect": "1s", "read": "2s"},
}


@cache  # 32 senders that make their own take all the time there is
def bodies(kind: str) -> list[tuple[bytes, dict[str, str]]]:
    """Requests of every size and form, up to the largest that is taken."""
    large = event(kind, "x", "pad" * 20_000)
    small = events(kind, ["x" * 60] * 100)
    many = json.dumps(small * (BODY // len(json.dumps(small)))).encode()
    few = json.dumps([large] * (BODY // len(json.dumps(large)) - 1)).encode()
    said = {"Content-Type": "application/json"}
    packed = (gzip.compress(many, 1), {**said, "Content-Encoding": "gzip"})
    return [(many, said), (json.dumps(small[:1]).encode(), said), packed, (few, said)]


async def was_called(place: World, target: str) -> None:
    """Wait for the first call's end, whatever it was."""
    ended = re.compile(rf'^forwarder_calls_total{{.*target="{target}"}} [1-9]', re.MULTILINE)

    async def once() -> bool:
        return ended.search(await place.metrics()) is not None

    await until(once, f"a call of {target}")


class Flood:
    """Senders that never stop, whatever they are told."""

    def __init__(self, place: World) -> None:
        self._place = place
        self.answers: Counter[int] = Counter()
        self.without_delay: Counter[int] = Counter()

    async def send(self, target: str, kind: str, first: int) -> None:
        forms = bodies(kind)
        for body, headers in cycle(forms[first:] + forms[:first]):
            url = f"{self._place.ingest}/v1/targets/{target}/events"
            async with self._place.http.post(url, data=BytesIO(body), headers=headers) as answer:
                await answer.read()
                self.answers[answer.status] += 1
                if answer.status in (429, 503) and "Retry-After" not in answer.headers:
                    self.without_delay[answer.status] += 1


async def test_the_memory_stays_within_the_budget_and_its_overhead_while_aws_is_dead_and_senders_go_on(
    place: World,
) -> None:
    dead: dict[str, Any] = {"orders": {"endpoint_url": REFUSED}, "web": {"app_monitors": [MONITOR]}}
    await place.order({"fault": "hang", "api": "evidently"})
    async with daemon_beside(place, **LIMITS, **dead) as daemon:
        for kind, target in TARGETS.items():  # each has its client then, and its connections
            await place.send(kind, events(kind, markers(1)))
            await was_called(place, target)
        idle = anonymous_bytes(daemon)
        flood, neighbour = Flood(place), Neighbour(place)
        senders = [flood.send(*DEAD[i % 2], i // 2 % 4) for i in range(SENDERS)]
        async with at_work(*senders, neighbour.send()):
            most = await highest(lambda: anonymous_bytes(daemon), FLOOD_SECONDS)
        assert set(await place.all_arrive("rum", neighbour.taken)) >= set(neighbour.taken)
        print(
            f"\nidle {idle / MIB:.0f} MiB, most {most / MIB:.0f} MiB, budget {BUDGET / MIB:.0f} MiB;",
            f"answers {dict(flood.answers)}; the neighbour sent {len(neighbour.taken)}",
            f"and was refused {neighbour.refusals} times",
        )
        assert most < idle + BUDGET + OVERHEAD
        assert set(flood.answers) <= {202, 429, 503}
        assert flood.answers[429] > flood.answers[202] > 0
        assert not flood.without_delay
        assert len(neighbour.taken) > 2 * FLOOD_SECONDS  # it is of the same peer as the flood
        daemon.ask(signal.SIGTERM)
        assert await daemon.ended() == 3
