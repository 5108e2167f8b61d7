"""A file that is full must not stop a target for ever: what is given up on makes room for itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from forwarder.dead_letters import DeadLetters
from forwarder.delivery.burial import sweep
from forwarder.delivery.disposition import Policy
from forwarder.delivery.gate import Gate, GateOptions
from forwarder.delivery.lane import Lane
from forwarder.delivery.worker import work
from forwarder.metrics import TargetMetrics
from forwarder.model import Batch, CallStatus, Kind, Outcome, QueueUnavailable, Results, SystemClock
from forwarder.storage import Storage
from tests.support.puts import put_in
from tests.support.queues import LIMITS, events, queue_in, stored


class Delivers:
    limits = LIMITS

    async def send(self, batch: Batch) -> Results:
        return Results(CallStatus.OK, [Outcome(Kind.DELIVERED)] * len(batch.events))

    async def close(self) -> None: ...


async def fill(storage: Storage, size: int, count: int, young: bool) -> Lane:
    """A lane whose queue took all that the file has room for: too old, or every other put."""
    clock, metrics = SystemClock(), TargetMetrics("orders")
    letters = DeadLetters(storage, max_bytes=64 << 20, max_age=1e6)
    await letters.open()
    queue = queue_in(storage, metrics=metrics)
    await queue.open()
    with suppress(QueueUnavailable):
        for number in range(10_000):
            age = -1e5 if young and number % 2 else 1e5
            await put_in(queue, events(count, size=size, received_at=clock.monotonic() - age))
    gate = Gate("orders", GateOptions(probe=0.2), clock)
    return Lane("orders", Delivers(), queue, gate, Policy(0.5), letters, metrics, clock)


@pytest.mark.parametrize(
    ("size", "count", "young"), [(5000, 100, False), (100, 1000, False), (5000, 50, True)]
)
async def test_what_expires_in_a_full_file_leaves_it(
    tmp_path: Path, size: int, count: int, young: bool
) -> None:
    async with stored(tmp_path, max_bytes=4 << 20) as storage:
        lane = await fill(storage, size, count, young)
        jobs = [asyncio.create_task(job) for job in (sweep(lane), work(lane))][: 2 if young else 1]
        async with asyncio.timeout(60):
            while len(lane.queue):
                await asyncio.sleep(0.02)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        assert lane.metrics.accepted == lane.metrics.delivered + lane.metrics.dead_lettered["expired"]
        assert lane.gate.view().message == ""
        await lane.queue.aclose()
