"""How full calls are, and how long events wait: a queue, a gate and workers on a loop whose time is counted.

The loop's time moves to the next timer when nothing is left to do, so seconds of load take no seconds.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Sequence
from typing import Any

import pytest

from forwarder.delivery.disposition import Policy
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.delivery.lane import Lane
from forwarder.delivery.worker import work
from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, CallStatus, Dead, Event, Kind, Limits, Outcome, Results
from forwarder.queues.memory import MemoryQueue
from tests.support.clocks import LoopClock
from tests.support.puts import put_in

MAX_WAIT = 0.1
LIMITS = Limits(10, 1_000_000, 1_000_000, MAX_WAIT)
WORKERS = 32
EVENTS = 2_000


class CountedTime(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class CountedLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._counted = CountedTime()
        super().__init__(self._counted)

    def time(self) -> float:
        return self._counted.now


class Service:
    """A target: so many calls a second, each no quicker than the latency. Notes every call's size."""

    limits = LIMITS

    def __init__(self, capacity: float, latency: float) -> None:
        self._capacity = capacity
        self._latency = latency
        self._free_at = 0.0
        self.sizes: list[int] = []
        self.waits: list[float] = []

    async def send(self, batch: Batch) -> Results:
        now = asyncio.get_running_loop().time()
        self.sizes.append(len(batch.events))
        self.waits.append(now - min(event.received_at for event in batch.events))
        self._free_at = max(now, self._free_at) + 1 / self._capacity
        await asyncio.sleep(max(self._latency, self._free_at - now))
        return Results(CallStatus.OK, [Outcome(Kind.DELIVERED)] * len(batch.events))

    async def close(self) -> None: ...


class NoLetters:
    async def keep(self, target: str, dead: Sequence[Dead], removal: object) -> None:
        raise AssertionError("nothing dies here")


async def _load(service: Service, rate: float, least: int) -> Lane:
    """Put single events at a rate; the lane when all are delivered."""
    clock = LoopClock()
    metrics = TargetMetrics("t")
    queue = MemoryQueue(LIMITS, max_events=10**6, max_bytes=10**9, clock=clock, metrics=metrics)
    gate = Gate("t", GateOptions(slots=WORKERS, min_slots=least), clock)
    lane = Lane("t", service, queue, gate, Policy(3600.0), NoLetters(), metrics, clock)
    workers = [asyncio.ensure_future(work(lane)) for _ in range(WORKERS)]
    for number in range(EVENTS):
        await put_in(queue, [Event(f"{number}", b"{}", 2, b"", clock.monotonic())])
        await asyncio.sleep(1 / rate)
    while len(queue):
        await asyncio.sleep(0.01)
    await queue.aclose()
    await asyncio.gather(*workers)
    return lane


def load(capacity: float, latency: float, rate: float, least: int = 1) -> tuple[Service, Lane]:
    service = Service(capacity, latency)
    with asyncio.Runner(loop_factory=CountedLoop) as runner:
        lane = runner.run(_load(service, rate, least))
    return service, lane


@pytest.mark.parametrize("share", [0.5, 0.9, 1.5])
@pytest.mark.parametrize(("capacity", "latency"), [(20.0, 0.2), (400.0, 0.02), (1000.0, 0.01)])
def test_at_load_calls_are_full(capacity: float, latency: float, share: float) -> None:
    service, lane = load(capacity, latency, 10 * capacity * share)
    fill = sum(service.sizes) / len(service.sizes)
    assert fill >= 9.8
    reported = lane.metrics.batch_events
    assert reported.sum / sum(reported.counts) == pytest.approx(fill)


@pytest.mark.parametrize("rate", [5.0, 20.0, 60.0])
@pytest.mark.parametrize("least", [1, WORKERS])
def test_at_a_light_load_no_event_waits_for_company_longer_than_max_wait(rate: float, least: int) -> None:
    service, _ = load(400.0, 0.02, rate, least)
    assert max(service.waits) <= MAX_WAIT + 0.002
    assert sum(service.sizes) / len(service.sizes) >= min(10, 0.9 * max(1, rate * MAX_WAIT))


def test_calls_are_as_full_with_a_limit_that_is_found_as_with_a_fixed_one() -> None:
    found, fixed = (load(400.0, 0.02, 1500.0, least)[0] for least in (1, WORKERS))
    assert len(found.sizes) <= len(fixed.sizes)
