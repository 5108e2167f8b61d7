"""Who waits for an event's fate, and how they are told."""

from __future__ import annotations

import asyncio

from forwarder.model import Batch, Dead, Event, Flush, Kind, Outcome, Results
from forwarder.model import CallStatus as Status
from forwarder.receipts import Receipt, Receipts, Wait


def event(id: str) -> Event:
    return Event(id, b"{}", 2, b"", 0.0)


def answered(receipts: Receipts, **outcomes: Outcome) -> None:
    """One call was answered, with an outcome for each of these events."""
    batch = Batch(b"", [event(id) for id in outcomes], 2, Flush.COUNT)
    receipts.tell_delivered(batch, Results(Status.OK, list(outcomes.values())))


def taken(aws_id: str) -> Outcome:
    return Outcome(Kind.DELIVERED, aws_id=aws_id)


def watching(receipts: Receipts, *ids: str) -> Wait:
    wait = Wait(receipts)
    wait.watch(ids)
    return wait


async def test_a_wait_ends_when_the_last_fate_is_known_and_has_them_all() -> None:
    receipts = Receipts()
    wait = watching(receipts, "a", "b", "c")
    fates = asyncio.ensure_future(wait.fates(60))
    answered(receipts, a=taken("aws-a"), b=Outcome(Kind.RETRY, "InternalFailure"), other=taken("aws-other"))
    receipts.tell_dead([Dead(event("c"), "rejected", "MalformedDetail", "no")])
    await asyncio.sleep(0)
    assert not fates.done()
    answered(receipts, b=taken("aws-b"))
    assert await fates == {
        "a": Receipt("delivered", aws_id="aws-a"),
        "b": Receipt("delivered", aws_id="aws-b"),
        "c": Receipt("rejected", "MalformedDetail", "no"),
    }
    assert not receipts.waits


async def test_what_is_told_before_the_wait_begins_is_not_lost() -> None:
    receipts = Receipts()
    wait = watching(receipts, "a")
    answered(receipts, a=taken("aws-a"))
    wait.watch(["b"])
    answered(receipts, b=taken("aws-b"))
    assert set(await wait.fates(60)) == {"a", "b"}


async def test_a_wait_that_ends_first_has_what_is_known_and_leaves_nothing() -> None:
    receipts = Receipts()
    wait = watching(receipts, "a", "b")
    answered(receipts, a=taken("aws-a"))
    assert set(await wait.fates(0.01)) == {"a"}
    assert not receipts.waits
    answered(receipts, b=taken("aws-b"))


async def test_events_that_were_not_taken_are_not_waited_for() -> None:
    receipts = Receipts()
    wait = watching(receipts, "a", "b")
    wait.forget(["b"])
    answered(receipts, a=taken("aws-a"))
    assert set(await wait.fates(60)) == {"a"}


async def test_a_wait_that_is_cancelled_leaves_nothing_once_it_is_closed() -> None:
    receipts = Receipts()
    wait = watching(receipts, "a")
    fates = asyncio.ensure_future(wait.fates(60))
    await asyncio.sleep(0)
    fates.cancel()
    await asyncio.wait([fates])
    wait.close()
    assert not receipts.waits


async def test_a_stop_ends_every_wait_and_every_later_one() -> None:
    receipts = Receipts()
    first = asyncio.ensure_future(watching(receipts, "a").fates(60))
    second = asyncio.ensure_future(watching(receipts, "b", "c").fates(60))
    late = watching(receipts, "d")
    await asyncio.sleep(0)
    receipts.close()
    assert await first == await second == await late.fates(60) == {}
    assert not receipts.waits
