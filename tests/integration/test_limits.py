"""Calls keep to AWS's limits whatever programs send, and queues to theirs whatever AWS does."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.events import KINDS, event, events, markers
from tests.support.harness import World, daemon_in, until

LARGE = 400_000


async def refused_calls(place: World) -> list[str]:
    """Calls that did not go well, by the daemon's own count."""
    ended = [line for line in (await place.metrics()).splitlines() if "forwarder_calls_total{" in line]
    return [line for line in ended if 'outcome="ok"' not in line and not line.endswith(" 0.0")]


async def test_an_eleventh_entry_or_three_large_ones_never_make_a_call_that_aws_refuses(place: World) -> None:
    small, large = markers(137), markers(9)
    mixed = events("eventbridge", small)
    for i, name in enumerate(large):
        mixed.insert(i * 15, event("eventbridge", name, Source="s" * LARGE))
    async with daemon_in(place):
        await place.send("eventbridge", mixed, size=12)
        assert await place.all_arrive("eventbridge", small + large) == dict.fromkeys(small + large, 1)
        await place.settled("eventbridge")
        assert await refused_calls(place) == []
        calls = Counter(line["call"] for line in await place.arrivals("eventbridge"))
    assert max(calls.values()) == 10, "and they were as full as AWS takes them"


async def test_a_call_too_large_for_somebody_in_between_is_halved_and_costs_no_event(place: World) -> None:
    names = markers(10)
    async with daemon_in(place):
        await place.order({"fault": "error", "status": 413, "code": "RequestEntityTooLarge", "times": 3})
        for kind in KINDS:
            await place.send(kind, events(kind, names))
        for kind in KINDS:
            assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
            await place.settled(kind)
        calls = Counter(line["call"] for line in await place.arrivals("eventbridge"))
        assert max(calls.values()) <= 10
    assert place.letters() == {}


@pytest.mark.parametrize("queue", ["memory", "disk"])
async def test_a_queue_that_an_outage_filled_takes_events_again_when_the_outage_is_over(
    place: World, queue: str
) -> None:
    async with daemon_in(place, orders={"queue": queue, "queue_limits": {"max_events": 60}}):
        await place.order({"fault": "error", "status": 503, "api": "eventbridge"})
        await place.send("eventbridge", events("eventbridge", first := markers(60)), size=20)
        refused = await place.post("eventbridge", events("eventbridge", markers(1)))
        assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        await place.heal()
        second = markers(60)

        async def taken() -> bool:
            return (await place.post("eventbridge", events("eventbridge", second))).status == 202

        await until(taken, "there is room for as many again")
        names = first + second
        assert await place.all_arrive("eventbridge", names) == dict.fromkeys(names, 1)
        await place.settled("eventbridge")
    assert place.letters() == {}
