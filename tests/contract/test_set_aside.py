"""What every queue promises about events whose name may not be sent to: one suite for all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.model import Event, Limits, QueueFull, memory_bytes
from forwarder.queues.queue import Queue, Settlement
from tests.support.bus_names import FakeNames
from tests.support.clocks import HandClock
from tests.support.kinds_of_queues import KINDS, Kind, kind_of_queue
from tests.support.puts import put_in

AT_ONCE = Limits(10, 100_000, 100_000, 0.0)
EARLY = 1.0
"""Monotonic seconds: in the past even on a machine that has just been booted."""
MANY = 10**6
_ids = itertools.count()


@pytest.fixture(params=list(KINDS))
async def make_queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kind]:
    async with kind_of_queue(request.param, tmp_path) as kind:
        yield kind


def events(count: int, name: str = "", peer: str = "p", key: bytes = b"", at: float = EARLY) -> list[Event]:
    body = f"{name}:x".encode()
    return [Event(f"e{next(_ids)}", body, 10, key, at, name=name, peer=peer) for _ in range(count)]


def ids(some: Iterable[Event]) -> list[str]:
    return [event.id for event in some]


async def taken(queue: Queue, count: int) -> list[str]:
    """Take and settle so many: their ids. They may have to come from the disk."""
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            assert await queue.ripe()
            if (batch := queue.take()) is not None:
                found += ids(batch.events)
                queue.settle(Settlement(gone=batch.events))
    return found


async def a_while() -> None:
    """Time for what is under way on the disk."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def test_events_of_a_closed_name_hold_up_no_others_and_leave_in_order_when_it_opens(
    make_queue: Kind,
) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    apart, others = events(300, "gone"), events(40, "here")
    await put_in(queue, apart[:200])
    await put_in(queue, others)
    await put_in(queue, apart[200:])
    assert await taken(queue, 40) == ids(others)
    assert queue.take() is None
    assert (len(queue), queue.sendable, queue.view().waiting_events) == (300, 0, 300)
    assert queue.view().waiting_bytes == memory_bytes(apart)
    assert queue.view().oldest_at == EARLY
    view = queue.aside_view()["gone"]
    assert (view.events, view.bytes, view.oldest_at) == (300, memory_bytes(apart), EARLY)
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 300) == ids(apart)
    assert not queue.aside_view()
    assert (len(queue), queue.view().waiting_bytes) == (0, 0)


async def test_each_peer_that_waits_for_a_name_is_one_of_those_who_ask(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, names=names)
    await put_in(queue, [*events(2, "gone", "a"), *events(1, "gone", "b"), *events(1, "", "c")])
    assert {("gone", "a"), ("gone", "b")} == set(names.asked)


async def test_what_comes_back_from_a_worker_is_set_aside_when_its_name_has_closed(make_queue: Kind) -> None:
    names = FakeNames()
    queue = await make_queue(AT_ONCE, names=names)
    mixed = [*events(2, "gone"), *events(2, "here")]
    await put_in(queue, mixed)
    batch = queue.take()
    assert batch is not None
    names.closed.add("gone")
    queue.settle(Settlement(retry=batch.events))
    assert await taken(queue, 2) == ids(mixed[2:])
    assert queue.take() is None
    assert queue.aside_view()["gone"].events == 2
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 2) == ids(mixed[:2])


@pytest.mark.parametrize("way", ["parts", "aside"])
async def test_so_is_what_comes_back_in_parts_or_alone(make_queue: Kind, way: str) -> None:
    names = FakeNames()
    queue = await make_queue(AT_ONCE, names=names)
    await put_in(queue, events(4, "gone"))
    batch = queue.take()
    assert batch is not None
    names.closed.add("gone")
    halves = [batch.events[:2], batch.events[2:]]
    queue.settle(Settlement(parts=halves)) if way == "parts" else queue.settle(Settlement(aside=halves))
    queue.flush()
    assert queue.take() is None
    assert (len(queue), queue.sendable) == (4, 0)
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 4) == ids(batch.events)


async def test_waiting_events_of_a_name_that_closes_leave_the_groups_at_once(make_queue: Kind) -> None:
    names = FakeNames()
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    some = [each for _ in range(20) for each in (*events(1, "gone"), *events(1, "also"), *events(1, "here"))]
    await put_in(queue, some)
    names.closed |= {"gone", "also"}
    queue.set_aside("gone")
    queue.set_aside("also")  # within the time in which the groups are looked through once
    assert await taken(queue, 20) == ids(each for each in some if each.name == "here")
    assert queue.take() is None
    late = events(5, "also")
    await put_in(queue, late)
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 20) == ids(each for each in some if each.name == "gone")
    queue.release("also")
    assert await taken(queue, 25) == [*ids(each for each in some if each.name == "also"), *ids(late)]


async def test_a_release_that_is_under_way_when_the_name_closes_again_loses_nothing(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    apart = events(6000, "gone")
    await put_in(queue, apart)
    names.closed.clear()
    queue.release("gone")
    names.closed.add("gone")
    queue.set_aside("gone")
    await a_while()
    assert queue.take() is None
    assert queue.aside_view()["gone"].events == 6000
    more = events(10, "gone")
    await put_in(queue, more)
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 6010) == [*ids(apart), *ids(more)]


async def test_what_comes_while_a_name_is_released_goes_behind_what_waited(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    apart, more = events(5000, "gone"), events(5, "gone")
    await put_in(queue, apart)
    names.closed.clear()
    queue.release("gone")
    await put_in(queue, more)
    assert await taken(queue, 5005) == [*ids(apart), *ids(more)]


async def test_a_release_takes_out_a_bounded_number_in_one_turn(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    await put_in(queue, events(20_000, "gone"))
    names.closed.clear()
    queue.release("gone")
    steps = [queue.sendable]
    while queue.sendable < 3000 and len(steps) < 10_000:
        await asyncio.sleep(0)
        steps.append(queue.sendable)
    assert max(after - before for before, after in itertools.pairwise([0, *steps])) <= 2500


async def test_a_clients_own_batch_stays_whole(make_queue: Kind) -> None:
    names = FakeNames("monitor")
    queue = await make_queue(AT_ONCE, names=names)
    batches = [events(3, "monitor", key=b"monitor"), events(4, "monitor", key=b"monitor")]
    for each in batches:
        await put_in(queue, each, complete=True)
    assert queue.take() is None
    names.closed.clear()
    queue.release("monitor")
    found: list[list[str]] = []
    async with asyncio.timeout(20):
        while len(found) < 2:
            assert await queue.ripe()
            if (batch := queue.take()) is not None:
                found.append(ids(batch.events))
                queue.settle(Settlement(gone=batch.events))
    assert found == [ids(each) for each in batches]


async def test_a_probe_lets_one_batch_go_and_it_comes_back_before_the_others(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, names=names)
    apart = events(25, "gone")
    await put_in(queue, apart)
    assert not queue.probe("other")
    assert queue.probe("gone")
    assert await queue.ripe()
    batch = queue.take()
    assert batch is not None
    assert ids(batch.events) == ids(apart[:10])
    assert queue.take() is None
    queue.settle(Settlement(retry=batch.events))
    assert queue.take() is None
    names.closed.clear()
    queue.release("gone")
    assert await taken(queue, 25) == ids(apart)


async def test_draining_and_flushing_send_nothing_that_is_set_aside(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, names=FakeNames("gone"))
    await put_in(queue, events(5, "gone"))
    queue.flush()
    queue.drain()
    assert queue.take() is None
    assert (len(queue), queue.sendable) == (5, 0)


async def test_what_is_set_aside_is_not_forgotten_by_close(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY, names=FakeNames("gone"))
    apart, others = events(50, "gone"), events(5, "here")
    await put_in(queue, apart)
    await put_in(queue, others)
    await a_while()
    assert sorted(await make_queue.left(queue)) == sorted([*ids(apart), *ids(others)])


async def test_what_is_set_aside_expires(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY, names=FakeNames("gone"))
    now = asyncio.get_running_loop().time()
    old, young = events(50, "gone", at=now - 100), events(5, "gone", at=now)
    await put_in(queue, old)
    await put_in(queue, young)
    found: list[str] = []
    async with asyncio.timeout(20):
        while len(found) < 50:
            expired = queue.take_expired(now - 50)
            found += ids(expired)
            queue.settle(Settlement(gone=expired))
            await asyncio.sleep(0.002)
    assert found == ids(old)
    assert queue.aside_view()["gone"].events == 5


async def test_what_is_set_aside_is_inside_the_bounds(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=10, names=FakeNames("gone"))
    await put_in(queue, events(8, "gone"))
    with pytest.raises(QueueFull):
        await put_in(queue, events(3, "here"))
    await put_in(queue, events(2, "here"))


# --- the share


async def test_events_of_unknown_names_have_a_tenth_of_the_queue_in_events(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=1000, names=FakeNames("gone"))
    assert queue.share_refusal("gone", "p", 100, 100) is None
    await put_in(queue, events(99, "gone"))
    assert queue.share_refusal("gone", "p", 1, 100) is None
    refusal = queue.share_refusal("gone", "p", 2, 100)
    assert refusal is not None
    assert "bus gone does not exist" in refusal
    assert "forwarder queue purge" in refusal


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (1, False)])
async def test_and_in_bytes_to_the_byte(make_queue: Kind, spare: int, fits: bool) -> None:
    some = events(10, "gone")
    held = memory_bytes(some)
    queue = await make_queue(AT_ONCE, max_events=1000, max_bytes=20 * held, names=FakeNames("gone"))
    await put_in(queue, some)
    assert (queue.share_refusal("gone", "p", 1, held + spare) is None) is fits


async def test_a_name_without_a_share_is_not_limited_by_it(make_queue: Kind) -> None:
    names = FakeNames("gone", "bound")
    names.free.add("bound")
    queue = await make_queue(AT_ONCE, max_events=1000, names=names)
    assert queue.share_refusal("bound", "p", 900, 100) is None
    await put_in(queue, events(500, "bound"))
    assert queue.share_refusal("gone", "p", 100, 100) is None
    names.free.clear()  # an answer came
    assert queue.share_refusal("gone", "p", 1, 100) is not None
    names.free.add("bound")
    assert queue.share_refusal("gone", "p", 100, 100) is None


async def test_a_peer_with_less_than_its_part_is_accepted_within_a_quarter_more(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=1000, names=FakeNames("gone", "typo"))
    await put_in(queue, events(100, "gone", "greedy"))
    assert queue.share_refusal("gone", "greedy", 1, 10) is not None
    assert queue.share_refusal("typo", "other", 25, 10) is None
    assert queue.share_refusal("typo", "other", 26, 10) is not None
    await put_in(queue, events(25, "typo", "other"))
    assert queue.share_refusal("gone", "third", 1, 10) is not None  # no more than that for all together


async def test_what_is_on_its_way_counts_in_the_share(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=1000, names=FakeNames("gone"))
    putting = asyncio.ensure_future(put_in(queue, events(100, "gone")))
    await asyncio.sleep(0)
    assert queue.share_refusal("gone", "p", 1, 10) is not None
    await putting
    assert queue.share_refusal("gone", "p", 1, 10) is not None


async def test_what_leaves_makes_room_in_the_share(make_queue: Kind) -> None:
    names = FakeNames("gone")
    queue = await make_queue(AT_ONCE, max_events=1000, names=names)
    await put_in(queue, [*events(60, "gone", "a"), *events(40, "gone", "b")])
    assert queue.share_refusal("gone", "a", 1, 10) is not None
    names.closed.clear()
    queue.release("gone")
    await taken(queue, 100)
    assert queue.share_refusal("gone", "a", 100, 10) is None


# --- how much work it is


async def test_nothing_gets_dearer_with_the_number_of_names(make_queue: Kind) -> None:
    """5,000 names with one event each are asked about once each; other events ask about their own alone."""
    names = FakeNames(*(f"n{number}" for number in range(5000)))
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    await put_in(queue, [each for number in range(5000) for each in events(1, f"n{number}")])
    before = len(names.asked)
    await put_in(queue, events(10, "here"))
    assert await taken(queue, 10)
    assert len(names.asked) - before <= 2
    names.closed -= {"n7"}
    before = len(names.asked)
    queue.release("n7")
    assert len(await taken(queue, 1)) == 1
    assert len(names.asked) - before <= 2
    names.closed.clear()
    for number in range(5000):
        queue.release(f"n{number}")
    assert len(set(await taken(queue, 4999))) == 4999


async def test_closing_many_names_looks_through_the_groups_once(make_queue: Kind) -> None:
    names = FakeNames()
    queue = await make_queue(
        Limits(10, 100_000, 100_000, 60.0), max_events=MANY, names=names, clock=HandClock()
    )
    await put_in(
        queue, [each for number in range(500) for each in events(1, f"n{number}", key=b"%d" % number)]
    )
    looked = Counter[str]()

    class Name(str):
        def __hash__(self) -> int:
            looked["at"] += 1
            return str.__hash__(self)

    names.closed |= {f"n{number}" for number in range(500)}
    for number in range(500):
        queue.set_aside(Name(f"n{number}"))
    await asyncio.sleep(0.1)
    assert len(queue) == 500
    queue.flush()
    assert queue.take() is None
    assert queue.sendable == 0
    assert looked["at"] < 500 * 20


# --- large puts


async def test_a_large_put_is_added_in_slices_and_is_all_there_in_order(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY)
    some = events(20_000)
    await put_in(queue, some)
    assert len(queue) == 20_000
    assert await taken(queue, 20_000) == ids(some)


async def test_a_large_put_has_its_room_before_the_first_slice(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=25_000)
    putting = asyncio.ensure_future(put_in(queue, events(20_000)))
    for _ in range(10):
        await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await put_in(queue, events(5001))
    await putting
    with pytest.raises(QueueFull):
        await put_in(queue, events(5001))
    assert len(queue) == 20_000


async def test_no_turn_adds_more_than_a_slice(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY)
    putting = asyncio.ensure_future(put_in(queue, events(30_000)))
    counts = [queue.sendable]
    while not putting.done():
        await asyncio.sleep(0)
        counts.append(len(getattr(queue, "_front")))  # noqa: B009
    assert max(after - before for before, after in itertools.pairwise(counts)) <= 8192


async def test_a_large_put_that_close_overtakes_is_refused_or_kept(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY)
    some = events(20_000)
    putting = asyncio.ensure_future(put_in(queue, some))
    await asyncio.sleep(0)
    left = asyncio.ensure_future(make_queue.left(queue))
    try:
        await putting
        accepted = True
    except QueueFull:
        accepted = False
    kept = set(await left)
    assert kept <= set(ids(some))
    assert not accepted or len(kept) == 20_000


async def test_who_is_cancelled_in_a_large_put_leaves_all_or_nothing(make_queue: Kind) -> None:
    queue = await make_queue(AT_ONCE, max_events=MANY)
    putting = asyncio.ensure_future(put_in(queue, events(20_000)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    for _ in range(200):
        await asyncio.sleep(0.001)
    assert len(queue) in (0, 20_000)


# --- any order of things


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("pppocstk"), st.sampled_from("xyz"), st.integers(1, 30)), max_size=25
    ),
    kind=st.sampled_from(list(KINDS)),
)
def test_nothing_is_lost_doubled_or_sent_to_a_closed_name_whatever_opens_and_closes(
    steps: list[tuple[str, str, int]], kind: str
) -> None:
    asyncio.run(_any_order(steps, kind))


async def _any_order(steps: list[tuple[str, str, int]], kind: str) -> None:
    with TemporaryDirectory() as directory:
        async with kind_of_queue(kind, Path(directory)) as make:
            names = FakeNames()
            queue = await make(AT_ONCE, max_events=MANY, names=names)
            put: dict[str, list[str]] = {"x": [], "y": [], "z": []}
            got: dict[str, list[str]] = {"x": [], "y": [], "z": []}
            for step, name, count in steps:
                if step == "p":
                    some = events(count, name, f"peer{count % 2}")
                    await put_in(queue, some)
                    put[name] += ids(some)
                elif step == "o":
                    names.closed.discard(name)
                    queue.release(name)
                elif step == "c":
                    names.closed.add(name)
                    queue.set_aside(name)
                elif step == "t" and (batch := queue.take()) is not None:
                    assert not names.closed & {event.name for event in batch.events}
                    for event in batch.events:
                        got[event.name].append(event.id)
                    queue.settle(Settlement(gone=batch.events))
                elif step == "k" and (batch := queue.take()) is not None:
                    queue.settle(Settlement(retry=batch.events))
                else:
                    await a_while()
            left = sum(map(len, put.values())) - sum(map(len, got.values()))
            assert len(queue) == left
            names.closed.clear()
            for name in put:
                queue.release(name)
            by_id = {id_: name for name, some_ids in put.items() for id_ in some_ids}
            for id_ in await taken(queue, left):
                got[by_id[id_]].append(id_)
            # Not the order: a batch with room in it is filled up from the newest group of its key.
            assert {name: sorted(some) for name, some in got.items()} == {
                name: sorted(some) for name, some in put.items()
            }


async def test_what_names_hold_beside_their_events_counts_as_memory(
    make_queue: Kind,
) -> None:
    names = FakeNames(*(f"gone{n}" for n in range(100)))
    queue = await make_queue(AT_ONCE, max_events=MANY, names=names)
    for n in range(100):
        await put_in(queue, events(1, f"gone{n}"))
    held = queue.memory
    assert held >= 100 * 600  # of which the events are the half, and on a disk nothing
    names.closed.clear()
    for n in range(100):
        queue.release(f"gone{n}")
    await taken(queue, 100)
    assert held - queue.memory >= 100 * 500
