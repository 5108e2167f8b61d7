"""Hours in a moment: a queue, a gate and workers through long trouble, and wall clocks that are stepped."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from forwarder.delivery.burial import sweep
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
    Kind,
    Limits,
    Outcome,
    Results,
    new_ids,
    same_for_all,
)
from forwarder.queues.disk import DiskQueue
from forwarder.queues.memory import MemoryQueue
from forwarder.queues.queue import Queue
from forwarder.storage import Storage, Work
from tests.support.puts import put_in
from tests.support.turned_time import TurnedClock, run_in_turned_time

T = TypeVar("T")

HOUR = 3600.0
MINUTE = 60.0
SECONDS_OF_A_CALL = 0.05
LIMITS = Limits(max_events=10, max_bytes=10_000, max_event_bytes=10_000, max_wait=0.1)
WORKERS = 8
CAP = 30.0
QUEUES = ["memory", "disk", "disk with a small front"]


@dataclass
class Aws:
    """A target that is throttled until a moment; it remembers when it was called and with what."""

    clock: TurnedClock
    throttles_until: float
    limits: Limits = LIMITS
    calls: list[float] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    counted: set[int] = field(default_factory=set)
    """What events say of their attempts when they are sent."""

    async def send(self, batch: Batch) -> Results:
        self.calls.append(self.clock.monotonic())
        self.counted |= {event.attempts + event.returns for event in batch.events}
        await asyncio.sleep(SECONDS_OF_A_CALL)
        if self.clock.monotonic() < self.throttles_until:
            return same_for_all(
                CallStatus.THROTTLED, len(batch.events), "ThrottlingException", "Rate exceeded"
            )
        self.taken.update(event.id for event in batch.events)
        return Results(CallStatus.OK, [Outcome(Kind.DELIVERED)] * len(batch.events))

    async def close(self) -> None: ...


class Watched(Storage):
    """The storage, whose jobs time waits for."""

    def __init__(self, path: Path, clock: TurnedClock) -> None:
        super().__init__(path, linger=0.0)
        self._jobs_of = clock

    def submit(self, work: Work[T], *, within: float | None = None) -> asyncio.Future[T]:
        self._jobs_of.jobs += 1
        doing = super().submit(work, within=within)
        doing.add_done_callback(self._done)
        return doing

    def _done(self, doing: object) -> None:
        self._jobs_of.jobs -= 1


class Kept:
    """Dead letters, by id."""

    def __init__(self) -> None:
        self.dead: dict[str, Dead] = {}

    async def keep(self, target: str, dead: Sequence[Dead], removal: object) -> None:
        self.dead |= {each.event.id: each for each in dead}


@asynccontextmanager
async def queue_of(
    kind: str, path: Path, clock: TurnedClock, metrics: TargetMetrics, boot: str = "a"
) -> AsyncIterator[Queue]:
    bounds: Any = {"max_events": 100_000, "max_bytes": 64 << 20}
    if kind == "memory":
        yield MemoryQueue(LIMITS, clock=clock, metrics=metrics, **bounds)
        return
    storage = Watched(path, clock)
    await storage.open()
    front = 4000 if "small" in kind else 1 << 20
    queue = DiskQueue(
        "t", LIMITS, storage, clock=clock, metrics=metrics, front_bytes=front, boot=boot, **bounds
    )
    await queue.open()
    try:
        yield queue
    finally:
        await queue.aclose()
        await storage.close()


@asynccontextmanager
async def lane_of(
    queue: Queue, target: Aws, clock: TurnedClock, metrics: TargetMetrics, policy: Policy
) -> AsyncIterator[Kept]:
    """Workers and the sweep at work on the queue."""
    kept, chance = Kept(), random.Random(5).random
    gate = Gate("t", GateOptions(slots=WORKERS, backoff_cap=CAP), clock, chance)
    lane = Lane("t", target, queue, gate, policy, kept, metrics, clock, chance)
    jobs = [asyncio.create_task(work(lane)) for _ in range(WORKERS)]
    jobs.append(asyncio.create_task(sweep(lane)))
    try:
        yield kept
        for job in jobs:
            assert not job.done()
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


def events(clock: TurnedClock, count: int) -> list[Event]:
    return [Event(id, b"{}", 2, b"", clock.monotonic()) for id in new_ids(count, clock.wall())]


async def is_empty(queue: Queue) -> None:
    while len(queue):
        await asyncio.sleep(10)


@pytest.mark.parametrize("kind", QUEUES)
def test_an_hour_of_throttling_is_a_delay_and_never_a_loss(kind: str, tmp_path: Path) -> None:
    async def hour(clock: TurnedClock) -> None:
        ends = clock.monotonic() + HOUR
        metrics, aws = TargetMetrics("t"), Aws(clock, ends)
        policy = Policy(max_age=24 * HOUR, max_attempts=2)
        async with queue_of(kind, tmp_path, clock, metrics) as queue:
            async with lane_of(queue, aws, clock, metrics, policy) as kept:
                put: list[str] = []
                while clock.monotonic() < ends:  # programs do not stop meanwhile
                    some = events(clock, 7)
                    await put_in(queue, some)
                    put += [event.id for event in some]
                    await asyncio.sleep(MINUTE)
                tries = [at for at in aws.calls if at < ends]
                await is_empty(queue)
            assert kept.dead == {}
            assert aws.taken == dict.fromkeys(put, 1)
            assert aws.counted == {0}, "throttling counts no attempt"
            assert HOUR / CAP < len(tries) < 3 * HOUR / CAP, "tried in time, and not hammered"
            gaps = [after - before for before, after in itertools.pairwise(tries)]
            assert max(gaps) <= CAP + MINUTE
            assert clock.monotonic() < ends + MINUTE + 2 * CAP, "and then all is delivered at once"
        assert (metrics.accepted, metrics.delivered) == (len(put), len(put))

    run_in_turned_time(hour)


def test_new_events_do_not_hammer_a_target_that_backs_off(tmp_path: Path) -> None:
    async def calls_in_an_hour(clock: TurnedClock, every: float) -> int:
        metrics, aws = TargetMetrics("t"), Aws(clock, clock.monotonic() + HOUR)
        async with (
            queue_of("memory", tmp_path, clock, metrics) as queue,
            lane_of(queue, aws, clock, metrics, Policy(max_age=24 * HOUR)),
        ):
            await put_in(queue, events(clock, 1))
            while clock.monotonic() < aws.throttles_until:
                await asyncio.sleep(every)
                await put_in(queue, events(clock, 10))
            return len(aws.calls)

    quiet = run_in_turned_time(lambda clock: calls_in_an_hour(clock, HOUR))
    busy = run_in_turned_time(lambda clock: calls_in_an_hour(clock, 1.0))
    assert busy <= quiet + WORKERS, "36,000 events more, and hardly a call"


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
@pytest.mark.parametrize("kind", QUEUES)
def test_a_wall_clock_that_is_stepped_while_events_wait_expires_and_delays_nothing(
    kind: str, step: float, tmp_path: Path
) -> None:
    async def wait(clock: TurnedClock) -> None:
        metrics, aws = TargetMetrics("t"), Aws(clock, clock.monotonic() + HOUR / 2)
        async with queue_of(kind, tmp_path, clock, metrics) as queue:
            async with lane_of(queue, aws, clock, metrics, Policy(max_age=HOUR)) as kept:
                await put_in(queue, before := events(clock, 50))
                await asyncio.sleep(10 * MINUTE)
                clock.stepped = step
                await put_in(queue, after := events(clock, 50))
                await asyncio.sleep(10 * MINUTE)
                oldest = queue.view().oldest_at
                assert oldest is not None
                assert clock.monotonic() - oldest == pytest.approx(20 * MINUTE, abs=1)
                await is_empty(queue)
            assert kept.dead == {}
            assert aws.taken == dict.fromkeys((event.id for event in (*before, *after)), 1)
            assert clock.monotonic() < aws.throttles_until + 2 * CAP

    run_in_turned_time(wait)


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
@pytest.mark.parametrize("kind", QUEUES)
def test_what_is_really_too_old_expires_whatever_the_wall_clock_says(
    kind: str, step: float, tmp_path: Path
) -> None:
    async def wait(clock: TurnedClock) -> None:
        metrics, aws = TargetMetrics("t"), Aws(clock, clock.monotonic() + 2 * HOUR)
        async with queue_of(kind, tmp_path, clock, metrics) as queue:
            async with lane_of(queue, aws, clock, metrics, Policy(max_age=HOUR)) as kept:
                await put_in(queue, old := events(clock, 30))
                await asyncio.sleep(HOUR - 5 * MINUTE)
                assert kept.dead == {}
                clock.stepped = step
                await put_in(queue, young := events(clock, 30))
                await asyncio.sleep(10 * MINUTE)
                assert set(kept.dead) == {event.id for event in old}
                assert {dead.reason for dead in kept.dead.values()} == {"expired"}
                aws.throttles_until = 0.0
                await is_empty(queue)
            assert aws.taken == dict.fromkeys((event.id for event in young), 1)

    run_in_turned_time(wait)


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
def test_a_wall_clock_that_is_stepped_while_the_daemon_is_down_expires_nothing_early(
    step: float, tmp_path: Path
) -> None:
    async def restart(clock: TurnedClock) -> None:
        metrics, aws = TargetMetrics("t"), Aws(clock, clock.monotonic() + HOUR / 2)
        async with queue_of("disk", tmp_path, clock, metrics) as queue:
            await put_in(queue, some := events(clock, 50))
        clock.now += 10 * MINUTE
        clock.stepped = step
        async with queue_of("disk", tmp_path, clock, metrics) as queue:
            async with lane_of(queue, aws, clock, metrics, Policy(max_age=HOUR)) as kept:
                oldest = queue.view().oldest_at
                assert oldest is not None
                assert clock.monotonic() - oldest == pytest.approx(10 * MINUTE, abs=1)
                await is_empty(queue)
            assert kept.dead == {}
            assert aws.taken == dict.fromkeys((event.id for event in some), 1)

    run_in_turned_time(restart)
