"""A wall clock that is stepped two hours under a running daemon, and while it is down."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest

from tests.support.events import KINDS, events, markers
from tests.support.harness import World, daemon_in, daemon_of, for_each, until

HOURS = 7200.0
TIME_OF = {"eventbridge": "Time", "rum": "timestamp", "evidently": "timestamp"}
CAUSES = [
    ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ("InvalidSignatureException", "Signature expired: 20261121T094500Z is now earlier than 20261121T113500Z"),
    ("SignatureDoesNotMatch", "Signature expired: 20261121T094500Z is now earlier than 20261121T113500Z"),
    ("RequestExpired", "Request has expired."),
]


class SteppedClock:
    def __init__(self) -> None:
        self.step = 0.0

    def wall(self) -> float:
        return time.time() + self.step

    monotonic = staticmethod(time.monotonic)


@pytest.mark.parametrize("step", [HOURS, -HOURS])
@pytest.mark.parametrize("queue", ["memory", "disk"])
async def test_a_step_of_the_clock_expires_nothing_and_leaves_events_the_moment_they_came(
    place: World, step: float, queue: str
) -> None:
    clock, about_now = SteppedClock(), time.time()
    sent = {kind: markers(10) for kind in KINDS}
    strict: dict[str, Any] = {"queue": queue, "retry": {"max_age": "1h"}}
    async with daemon_of(place, clock, shutdown={"drain_timeout": 0}, **strict) as daemon:
        await place.order({"fault": "throttle"})
        for kind, names in sent.items():
            await place.send(kind, events(kind, names[:5]))
        clock.step = step
        for kind, names in sent.items():
            await place.send(kind, events(kind, names[5:]))
            assert (await place.status(kind))["oldest_age_seconds"] < 60
        if queue == "memory":
            await place.heal()
            await for_each(KINDS, lambda kind: arrive_at_their_moments(place, kind, sent, about_now, step))
        assert await daemon.stop() == 0
    if queue == "disk":
        clock.step = 0.0
        async with daemon_in(place, clock, **strict):
            for kind in KINDS:
                assert (await place.status(kind))["oldest_age_seconds"] < 60
            await place.heal()
            await for_each(KINDS, lambda kind: arrive_at_their_moments(place, kind, sent, about_now, step))
    assert place.letters() == {}


async def test_while_a_doubted_clock_holds_back_expiry_the_status_says_which_targets_wait_and_for_how_long(
    place: World,
) -> None:
    clock, sent = SteppedClock(), markers(5)
    strict: dict[str, Any] = {"queue": "disk", "retry": {"max_age": "1h"}}
    async with daemon_of(place, clock, shutdown={"drain_timeout": 0}, **strict) as daemon:
        await place.order({"fault": "throttle"})
        await place.send("eventbridge", events("eventbridge", sent))
        assert await place.clock() == ""
        await daemon.stop()
    with closing(sqlite3.connect(place.storage / "data" / "forwarder.db")) as connection:
        connection.execute("UPDATE queue_boots SET boot = 'another'")
        connection.commit()
    async with daemon_in(place, clock, **strict):
        held_back = "no event of orders expires for 60 minutes"
        assert await place.clock() == f"events from before the last boot are queued; {held_back}"
        clock.step = 30 * 86_400.0

        async def doubted() -> bool:
            return (await place.clock()).startswith("the wall clock moved forward by 2592000 seconds; ")

        await until(doubted, "the step is said")
        assert f"; dead letters are not deleted by age and {held_back}" in await place.clock()
        await place.heal()
        assert await place.all_arrive("eventbridge", sent) == dict.fromkeys(sent, 1)
        await place.settled("eventbridge")

        async def nothing_waits() -> bool:
            return "orders" not in await place.clock()

        await until(nothing_waits, "no event of an earlier boot is left")
        assert "dead letters are not deleted by age for" in await place.clock()
    assert place.letters() == {}


async def arrive_at_their_moments(
    place: World, kind: str, sent: dict[str, list[str]], about: float, step: float
) -> None:
    names = sent[kind]
    assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
    await place.settled(kind)
    moments = sorted(float(line["entry"][TIME_OF[kind]]) for line in await place.arrivals(kind))
    expected = sorted([about] * 5 + [about + step] * 5)
    assert moments == pytest.approx(expected, abs=60), "the clock's word when each came"


@pytest.mark.parametrize(("code", "message"), CAUSES, ids=[code for code, _ in CAUSES])
async def test_a_clock_that_aws_does_not_believe_holds_with_its_sentence_and_costs_nothing(
    place: World, code: str, message: str
) -> None:
    names = markers(10)
    async with daemon_in(place):
        await place.order({"fault": "error", "status": 403, "code": code, "message": message})
        for kind in KINDS:
            await place.send(kind, events(kind, names))
        for kind in KINDS:
            assert code in await place.held(kind, message[:20])
        await place.heal()
        for kind in KINDS:
            assert await place.all_arrive(kind, names) == dict.fromkeys(names, 1)
    assert place.letters() == {}
