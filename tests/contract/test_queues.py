"""What every Queue promises, one suite for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.model import Batch, Event, Flush, Limits, QueueFull, memory_bytes
from forwarder.queues.queue import Queue, Settlement
from tests.support.clocks import HandClock
from tests.support.kinds_of_queues import KINDS, Kind, kind_of_queue
from tests.support.puts import put_in

_ids = itertools.count()


@pytest.fixture(params=["memory", "disk", "journal"])
async def make_queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    async with kind_of_queue(request.param, tmp_path) as kind:
        yield kind


def event(key: bytes = b"k", size: int = 10, received_at: float = 1000.0) -> Event:
    return Event(id=f"e{next(_ids)}", body=b"x" * size, size=size, key=key, received_at=received_at)


def events(count: int, **fields: object) -> list[Event]:
    return [event(**fields) for _ in range(count)]  # type: ignore[arg-type]


def ids(batch: Batch | None) -> list[str]:
    return [each.id for each in batch.events] if batch is not None else []


async def take_all(queue: Queue) -> AsyncIterator[Batch]:
    while (batch := queue.take()) is not None:
        yield batch


async def test_a_full_group_is_due_at_once_and_the_rest_waits_for_max_wait(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = events(13)
    await put_in(queue, put)
    first = queue.take()
    assert first is not None
    assert first.reason is Flush.COUNT
    assert first.events == put[:10]
    assert queue.take() is None
    clock.now += 0.02
    second = queue.take()
    assert second is not None
    assert second.reason is Flush.TIME
    assert second.events == put[10:]


async def test_a_group_never_exceeds_the_bytes_of_a_call(make_queue: Kind) -> None:
    queue = await make_queue(
        Limits(max_events=10, max_bytes=100, max_event_bytes=100, max_wait=0.0), clock=HandClock()
    )
    await put_in(queue, [event(size=60), event(size=40), event(size=1), event(size=100)])
    sizes = [[e.size for e in b.events] async for b in take_all(queue)]
    assert sizes == [[60, 40], [1], [100]]


async def test_events_of_different_keys_never_share_a_batch(make_queue: Kind) -> None:
    queue = await make_queue(Limits(10, 1000, 1000, 0.0), clock=HandClock())
    await put_in(queue, [event(key=b"a"), event(key=b"b"), event(key=b"a")])
    assert [b.key async for b in take_all(queue)] == [b"a", b"b"]


async def test_a_full_queue_takes_none_of_the_events(make_queue: Kind) -> None:
    queue = await make_queue(max_events=5)
    await put_in(queue, events(3))
    with pytest.raises(QueueFull) as full:
        await put_in(queue, events(3))
    assert not full.value.never
    assert queue.view().events == 3
    await put_in(queue, events(2))
    assert queue.view().events == 5


async def test_what_could_never_fit_says_never(make_queue: Kind) -> None:
    queue = await make_queue(max_events=5)
    with pytest.raises(QueueFull) as full:
        await put_in(queue, events(6))
    assert full.value.never


@pytest.mark.parametrize(("spare", "fits"), [(-1, False), (0, True), (1, True)])
async def test_the_bound_in_bytes_holds_to_the_byte(make_queue: Kind, spare: int, fits: bool) -> None:
    one = memory_bytes([event()])
    queue = await make_queue(max_bytes=4 * one + spare)
    await put_in(queue, events(3))
    assert queue.view().waiting_bytes == 3 * one
    with contextlib.nullcontext() if fits else pytest.raises(QueueFull):
        await put_in(queue, events(1))
    assert queue.view().events == 3 + fits


async def test_a_taken_event_still_counts_against_the_bound(make_queue: Kind) -> None:
    queue = await make_queue(Limits(10, 1000, 1000, 0.0), max_events=5)
    await put_in(queue, events(5))
    batch = queue.take()
    assert batch is not None
    view = queue.view()
    assert (view.waiting_events, view.in_flight_events) == (0, 5)
    with pytest.raises(QueueFull):
        await put_in(queue, events(1))
    queue.settle(Settlement(gone=batch.events))
    assert queue.view().events == 0
    await put_in(queue, events(5))


async def test_an_event_settled_twice_is_an_error(make_queue: Kind) -> None:
    queue = await make_queue(Limits(10, 1000, 1000, 0.0))
    await put_in(queue, events(1))
    batch = queue.take()
    assert batch is not None
    queue.settle(Settlement(gone=batch.events))
    with pytest.raises(KeyError):
        queue.settle(Settlement(gone=batch.events))


async def test_a_retry_without_not_before_goes_to_the_front(make_queue: Kind) -> None:
    queue = await make_queue(clock=HandClock())
    put = events(20)
    await put_in(queue, put)
    first = queue.take()
    assert first is not None
    queue.settle(Settlement(retry=first.events))
    again = queue.take()
    assert again is not None
    assert again.events == put[:10]
    assert again.reason is Flush.RETRY


async def test_a_retry_with_not_before_lets_its_neighbours_pass(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = events(10)
    await put_in(queue, put)
    first = queue.take()
    assert first is not None
    put[3].not_before = clock.now + 5
    queue.settle(Settlement(gone=[e for e in put if e is not put[3]], retry=[put[3]]))
    fresh = events(10)
    await put_in(queue, fresh)
    passed = queue.take()
    assert passed is not None
    assert passed.events == fresh
    clock.now += 4.99
    assert queue.take() is None
    clock.now += 0.05
    assert ids(queue.take()) == []  # ripe again, it waits max_wait for company
    clock.now += 0.02
    assert ids(queue.take()) == [put[3].id]


async def test_what_comes_back_from_a_delay_does_not_wait_behind_a_backlog(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = events(10, received_at=clock.now)
    await put_in(queue, put)
    first = queue.take()
    assert first is not None
    put[3].not_before = clock.now + 1
    queue.settle(Settlement(gone=[e for e in put if e is not put[3]], retry=[put[3]]))
    clock.now += 0.5
    await put_in(queue, events(50, received_at=clock.now))
    clock.now += 0.51
    assert put[3].id not in ids(queue.take())  # ripe, it waits max_wait for company of its own
    clock.now += 0.03
    assert put[3].id in ids(queue.take())


async def test_halves_of_a_refused_batch_leave_by_themselves_and_in_order(make_queue: Kind) -> None:
    queue = await make_queue(clock=HandClock())
    put = events(10)
    await put_in(queue, put)
    batch = queue.take()
    assert batch is not None
    queue.settle(Settlement(parts=[put[:5], put[5:]]))
    await put_in(queue, events(10))
    assert ids(queue.take()) == [e.id for e in put[:5]]
    assert ids(queue.take()) == [e.id for e in put[5:]]


async def test_a_batch_that_steps_aside_is_tried_again_behind_all_that_waits_by_then(
    make_queue: Kind,
) -> None:
    clock = HandClock()
    queue = await make_queue(Limits(10, 1000, 1000, 0.02, whole=True), clock=clock)
    for key in (b"a", b"b", b"c"):
        await put_in(queue, events(3, key=key), complete=True)
    tried = []
    for _ in range(6):
        batch = queue.take()
        assert batch is not None
        tried.append(batch.key)
        assert len(batch.events) == 3
        for each in batch.events:
            each.not_before = clock.now + 1
        queue.settle(Settlement(aside=[batch.events]))
        clock.now += 1
    assert tried == [b"a", b"b", b"c"] * 2


async def test_a_part_is_known_as_one_on_every_try(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = events(10)
    await put_in(queue, put)
    batch = queue.take()
    assert batch is not None
    assert not batch.part
    queue.settle(Settlement(parts=[put[:5], put[5:]]))
    first = queue.take()
    assert first is not None
    assert first.part
    for each in first.events:
        each.not_before = clock.now + 1
    queue.settle(Settlement(aside=[first.events], part=True))
    second = queue.take()
    assert second is not None
    clock.now += 1
    again = queue.take()
    assert again is not None
    assert again.part
    assert again.events == put[:5]


async def test_while_draining_no_delay_is_long(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = events(10)
    await put_in(queue, put)
    queue.drain()
    batch = queue.take()
    assert batch is not None
    for each in batch.events:
        each.not_before = clock.now + 30
    queue.settle(Settlement(retry=batch.events))
    clock.now += 1.0
    assert len(ids(queue.take())) == 10


async def test_a_flush_makes_due_what_waits_and_nothing_that_comes_later(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    put = [*events(2, key=b"a"), *events(2, key=b"b")]
    await put_in(queue, put)
    clock.now += 1.0
    delayed, aside = queue.take(), queue.take()
    assert delayed is not None
    assert aside is not None
    for each in (*delayed.events, *aside.events):
        each.not_before = clock.now + 600.0
    queue.settle(Settlement(retry=delayed.events, aside=[aside.events]))
    fresh = events(3, key=b"c")
    await put_in(queue, fresh)
    assert queue.take() is None
    queue.flush()
    batches = [batch async for batch in take_all(queue)]
    assert sorted(ids(each) for each in batches) == sorted(
        [[e.id for e in some] for some in (put[:2], put[2:], fresh)]
    )
    queue.settle(Settlement(retry=[e for batch in batches for e in batch.events if not e.not_before]))
    await put_in(queue, events(1, key=b"d"))
    assert queue.take() is not None, "what was flushed and comes back"
    assert queue.take() is None, "what came after"
    assert len(queue) == 8


async def test_a_small_returned_batch_is_filled_up_from_what_came_since(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    old = events(3)
    await put_in(queue, old)
    clock.now += 1
    first = queue.take()
    assert first is not None
    queue.settle(Settlement(retry=first.events))
    fresh = events(9)
    await put_in(queue, fresh)
    again = queue.take()
    assert again is not None
    assert again.events == old + fresh[:7]
    assert again.size == sum(e.size for e in again.events)


async def test_a_batch_that_came_complete_leaves_whole_at_once_and_alone(make_queue: Kind) -> None:
    queue = await make_queue(clock=HandClock())
    own = events(15, key=b"session")
    await put_in(queue, own, complete=True)
    await put_in(queue, events(2, key=b"session"))
    batch = queue.take()
    assert batch is not None
    assert batch.events == own
    assert batch.reason is Flush.KEY
    assert queue.take() is None


async def test_with_whole_a_returned_batch_stays_as_it_was(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(Limits(10, 1000, 1000, 0.02, whole=True), clock=clock)
    own = events(3)
    await put_in(queue, own)
    clock.now += 1
    first = queue.take()
    assert first is not None
    await put_in(queue, events(4))
    for each in own:
        each.not_before = clock.now + 1
    queue.settle(Settlement(retry=own))
    clock.now += 1.5
    batches = [ids(b) async for b in take_all(queue)]
    assert [e.id for e in own] in batches


async def test_expired_events_are_taken_wherever_they_wait(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    old = [event(received_at=1.0) for _ in range(12)]
    await put_in(queue, [*old, event(received_at=900.0)])
    batch = queue.take()
    assert batch is not None
    for each in batch.events:
        each.not_before = clock.now + 60
    queue.settle(Settlement(retry=batch.events))
    expired = queue.take_expired(2.0)
    assert {e.id for e in expired} == {e.id for e in old}
    view = queue.view()
    assert (view.waiting_events, view.in_flight_events) == (1, 12)
    queue.settle(Settlement(gone=expired))
    assert queue.view().events == 1


async def test_a_batch_that_came_complete_expires_whole_or_not_at_all(make_queue: Kind) -> None:
    queue = await make_queue(clock=HandClock())
    own = [event(received_at=1.0), event(received_at=900.0)]
    await put_in(queue, own, complete=True)
    assert queue.take_expired(2.0) == []
    assert queue.take_expired(901.0) == own


async def test_the_oldest_age_is_that_of_the_oldest_event_in_any_place(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    assert queue.view().oldest_at is None
    await put_in(queue, [event(received_at=500.0)])
    await put_in(queue, [event(received_at=400.0, key=b"other")])
    assert queue.view().oldest_at == 400.0
    clock.now += 1
    batch = queue.take()
    assert batch is not None
    assert queue.view().oldest_at == 400.0


async def test_drain_makes_everything_due_and_still_takes_events(make_queue: Kind) -> None:
    clock = HandClock()
    queue = await make_queue(clock=clock)
    delayed = events(10)
    await put_in(queue, delayed)
    batch = queue.take()
    assert batch is not None
    for each in delayed:
        each.not_before = clock.now + 60
    queue.settle(Settlement(retry=delayed))
    await put_in(queue, events(2, key=b"b"))
    queue.drain()
    await put_in(queue, events(1, key=b"c"))
    assert await queue.ripe()
    assert sorted([len(b.events) async for b in take_all(queue)]) == [1, 2, 10]


async def test_close_ends_the_queue_and_what_waits_or_is_in_flight_is_not_forgotten(make_queue: Kind) -> None:
    queue = await make_queue(Limits(2, 1000, 1000, 0.0))
    put = events(5)
    await put_in(queue, put)
    queue.take()
    left = await make_queue.left(queue)
    assert sorted(left) == sorted(e.id for e in put)
    assert await queue.ripe() is False
    with pytest.raises(QueueFull):
        await put_in(queue, events(1))


async def test_ripe_wakes_when_max_wait_has_passed(make_queue: Kind) -> None:
    queue = await make_queue()
    waiting = asyncio.ensure_future(queue.ripe())
    await asyncio.sleep(0)
    await put_in(queue, events(1))
    async with asyncio.timeout(5):
        assert await waiting
    assert queue.take() is not None


async def test_close_ends_every_wait(make_queue: Kind) -> None:
    queue = await make_queue()
    waiting = [asyncio.ensure_future(queue.ripe()) for _ in range(3)]
    await asyncio.sleep(0)
    await queue.aclose()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [False] * 3


async def test_a_dead_letter_that_is_written_after_the_close_is_not_lost_as_well(make_queue: Kind) -> None:
    """A disk that did not answer in time: its worker settles when the stop no longer waits for it."""
    queue = await make_queue()
    await put_in(queue, events(10))
    batch = queue.take()
    assert batch is not None
    gone = batch.events[7:]
    queue.removal_for(gone)
    lost = await queue.aclose()
    assert len(lost) + len(queue) == len(lost) + queue.view().events == 10
    queue.settle(Settlement(gone=gone))
    assert len(lost) + len(queue) == len(lost) + queue.view().events == 7
    assert not {each.id for each in gone}.intersection(each.id for each in lost)


async def test_a_cancelled_waiter_passes_its_wake_up_on(make_queue: Kind) -> None:
    queue = await make_queue(Limits(10, 1000, 1000, 60.0))
    await put_in(queue, events(1))
    first = asyncio.ensure_future(queue.ripe())
    second = asyncio.ensure_future(queue.ripe())
    await asyncio.sleep(0)
    queue.drain()  # wakes the first
    first.cancel()
    async with asyncio.timeout(5):
        assert await second


async def _worker(queue: Queue, seen: Counter[str], sizes: list[int]) -> None:
    while await queue.ripe():
        batch = queue.take()
        if batch is None:
            continue
        await asyncio.sleep(0)
        seen.update(ids(batch))
        sizes.append(len(batch.events))
        queue.settle(Settlement(gone=batch.events))


async def test_five_thousand_keys_with_one_event_each_all_leave(make_queue: Kind) -> None:
    queue = await make_queue(max_events=5000)
    put = [event(key=str(n).encode()) for n in range(5000)]
    seen: Counter[str] = Counter()
    sizes: list[int] = []
    workers = [asyncio.ensure_future(_worker(queue, seen, sizes)) for _ in range(2)]
    await put_in(queue, put)
    async with asyncio.timeout(30):
        while queue.view().events:
            await asyncio.sleep(0.01)
    await queue.aclose()
    await asyncio.gather(*workers)
    assert seen == Counter(e.id for e in put)


async def _cost_of(queue: Queue, keys: int) -> int:
    """Steps of the interpreter that one put and take need beside that many open groups."""
    import sys

    await put_in(queue, [event(key=f"k{n}".encode()) for n in range(keys)])
    steps = 0

    def count(*_: object) -> object:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)  # type: ignore[arg-type]
    try:
        await put_in(queue, events(10, key=b"mine"))
        queue.take()
    finally:
        sys.settrace(None)
    return steps


async def test_put_and_take_do_not_get_dearer_with_the_number_of_keys(make_queue: Kind) -> None:
    few = await _cost_of(await make_queue(clock=HandClock(), max_events=10**5), 10)
    many = await _cost_of(await make_queue(clock=HandClock(), max_events=10**5), 5000)
    assert many <= few * 1.2


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(5, 120))
@pytest.mark.parametrize("kind", KINDS)
def test_no_event_is_lost_or_doubled_whatever_happens_to_it(kind: str, seed: int, steps: int) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(_random_life(kind, Path(directory), random.Random(seed), steps))


async def _random_life(name: str, directory: Path, rng: random.Random, steps: int) -> None:
    async with kind_of_queue(name, directory) as kind:
        await _live(kind, rng, steps)


async def _live(make: Kind, rng: random.Random, steps: int) -> None:
    clock = HandClock()
    queue = await make(Limits(4, 100, 100, 0.5, whole=rng.random() < 0.3), max_events=60, clock=clock)
    inside: set[str] = set()
    flying: list[list[Event]] = []
    for _ in range(steps):
        clock.now += rng.random()
        act = rng.random()
        if act < 0.4:
            await _random_put(queue, rng, inside, clock)
        elif act < 0.65:
            batch = queue.take()
            if batch is not None:
                assert len({e.key for e in batch.events}) == 1
                assert batch.size == sum(e.size for e in batch.events)
                flying.append(batch.events)
        elif act < 0.7:
            expired = queue.take_expired(clock.now - 5)
            queue.settle(Settlement(gone=expired))
            inside -= {e.id for e in expired}
        elif flying:
            inside -= _random_fate(queue, rng, flying.pop(rng.randrange(len(flying))), clock)
        view = queue.view()
        assert view.events == len(inside)
        assert view.in_flight_events == sum(map(len, flying))
    assert sorted(await make.left(queue)) == sorted(inside)


async def _random_put(queue: Queue, rng: random.Random, inside: set[str], clock: HandClock) -> None:
    complete = rng.random() < 0.2
    key = bytes([rng.randrange(3)])
    some = [
        event(
            key=key if complete else bytes([rng.randrange(3)]),
            size=rng.randrange(1, 60),
            received_at=clock.now,
        )
        for _ in range(rng.randrange(1, 9))
    ]
    try:
        await put_in(queue, some, complete=complete)
    except QueueFull:
        return
    inside |= {e.id for e in some}


def _random_fate(queue: Queue, rng: random.Random, batch: list[Event], clock: HandClock) -> set[str]:
    if len(batch) > 1 and rng.random() < 0.2:
        for each in batch:
            each.not_before = 0.0
        middle = len(batch) // 2
        queue.settle(Settlement(parts=[batch[:middle], batch[middle:]]))
        return set()
    if rng.random() < 0.15:
        for each in batch:
            each.not_before = clock.now + rng.random() * 3
        queue.settle(Settlement(aside=[batch], part=rng.random() < 0.5))
        return set()
    gone, retry = [], []
    for each in batch:
        if rng.random() < 0.5:
            gone.append(each)
        else:
            each.not_before = rng.choice([0.0, clock.now, clock.now + rng.random() * 3])
            retry.append(each)
    queue.settle(Settlement(gone=gone, retry=retry))
    return {e.id for e in gone}


async def test_cancelled_workers_leave_their_events_in_the_queue(make_queue: Kind) -> None:
    rng = random.Random(7)
    queue = await make_queue(Limits(10, 1000, 1000, 0.001), max_events=2000)
    seen: Counter[str] = Counter()
    workers = [asyncio.ensure_future(_worker(queue, seen, [])) for _ in range(4)]
    put = events(1000)
    for start in range(0, 1000, 10):
        await put_in(queue, put[start : start + 10])
        if rng.random() < 0.3:
            victim = rng.randrange(4)
            workers[victim].cancel()
            await asyncio.gather(workers[victim], return_exceptions=True)
            workers[victim] = asyncio.ensure_future(_worker(queue, seen, []))
        await asyncio.sleep(0)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    left = set(await make_queue.left(queue))
    assert left | set(seen) == {e.id for e in put}
    assert not left & set(seen)
    assert set(seen.values()) == {1}
