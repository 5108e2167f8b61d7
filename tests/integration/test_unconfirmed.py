"""Event buses that are deleted while running: what nobody can confirm is counted, over restarts.

The judge is the record of the sandbox: how many events of these buses it really dropped.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
from contextlib import suppress
from typing import Any

import pytest

from forwarder import client
from tests.integration.test_control import socket_of
from tests.support.events import event, events, markers
from tests.support.harness import Settings, World, daemon_in, daemon_of, until
from tests.support.processes import daemon_beside

QUESTION = {"api": "eventbridge", "operation": "DescribeEventBus"}
NO_ANSWER = {"fault": "throttle", **QUESTION}
QUICK: Settings = {"verify_interval": "200ms"}
UNCONFIRMED = "delivered events are unconfirmed and may be lost: their event bus was deleted"
COUNTER = re.compile(r'^forwarder_events_unconfirmed_total\{target="orders"\} (\S+)$', re.MULTILINE)


async def deliver(place: World, count: int, bus: str = "shop") -> None:
    """Send events of this bus, and wait until all are delivered."""
    before = (await place.ledger("eventbridge"))["delivered"]
    await place.send("eventbridge", events("eventbridge", markers(count), EventBusName=bus), size=count)

    async def delivered() -> bool:
        return (await place.ledger("eventbridge"))["delivered"] >= before + count

    await until(delivered, f"{count} events are delivered")


async def dropped(place: World) -> int:
    """What the sandbox accepted and dropped."""
    return int((await place.summary("eventbridge"))["dropped"])


async def unconfirmed(place: World) -> int:
    """The counter, which is what the status and its list of buses say as well."""
    counted = int(float(COUNTER.findall(await place.metrics())[0]))
    status = await place.status("eventbridge")
    assert counted == status["unconfirmed"] == sum(bus["events"] for bus in status["unconfirmed_buses"])
    return counted


async def missing(place: World) -> None:
    """Wait until the daemon knows that the bus is missing; an event that comes later is not sent."""

    async def known() -> bool:
        return await answers(place, "missing") > 0

    await until(known, "the bus is known to be missing")
    await place.send("eventbridge", [event("eventbridge", "late", EventBusName="shop")])

    async def waits() -> bool:
        return bool((await place.status("eventbridge"))["set_aside"]["reasons"].get("missing"))

    await until(waits, "the late event waits")


async def verified(place: World) -> None:
    """From here on the bus is verified, and no question is answered: a window that the test ends."""
    await place.make_bus("shop")
    await place.order({"fault": "slow", "delay": 0.05, **QUESTION})  # so that not many are asked
    await deliver(place, 1)
    await place.heal()
    asked = await answers(place, "exists")

    async def again() -> bool:
        return await answers(place, "exists") > asked + 1

    await until(again, "the bus is verified again, which confirms the first event")
    await place.order(NO_ANSWER)
    asked = await answers(place, "unanswered")

    async def no_more() -> bool:
        return await answers(place, "unanswered") > asked

    await until(no_more, "questions are not answered")


async def answers(place: World, answer: str) -> int:
    pattern = rf'^forwarder_name_questions_total\{{answer="{answer}",target="orders"\}} (\S+)$'
    found = re.findall(pattern, await place.metrics(), re.MULTILINE)  # the series begins with its first count
    return int(float(found[0])) if found else 0


@pytest.mark.parametrize("queue", ["memory", "disk"])
async def test_events_for_a_bus_that_is_deleted_while_running_are_unconfirmed_and_no_longer_sent(
    place: World, queue: str
) -> None:
    async with daemon_in(place, orders={**QUICK, "queue": queue}):
        await verified(place)
        await deliver(place, 13)
        await place.delete_bus("shop")
        await deliver(place, 29)
        await place.heal()
        await missing(place)
        assert await dropped(place) == 29
        assert await unconfirmed(place) == 13 + 29
        (bus,) = (await place.status("eventbridge"))["unconfirmed_buses"]
        assert (bus["name"], bus["at_least"]) == ("shop", False)
        assert bus["since"] < bus["until"]
        await place.make_bus("shop")
        await place.all_arrive("eventbridge", ["late"])
        await place.settled("eventbridge")
        assert await unconfirmed(place) == 42, "and not what was sent after"


async def test_under_load_no_dropped_event_is_missing_from_the_count(place: World) -> None:
    """Calls are in flight when the bus is deleted, and when the answer comes."""
    await place.make_bus("shop")
    async with daemon_in(place, orders={"verify_interval": "100ms", "workers": 8}):
        await deliver(place, 1)
        await place.order({"fault": "slow", "delay": 0.02, "api": "eventbridge"})
        sending = asyncio.create_task(_send_on(place))
        await asyncio.sleep(0.3)
        await place.delete_bus("shop")

        async def known() -> bool:
            return bool((await place.status("eventbridge"))["set_aside"]["reasons"].get("missing"))

        await until(known, "the bus is known to be missing")
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

        async def none_in_flight() -> bool:
            return bool((await place.status("eventbridge"))["in_flight"] == 0)

        await until(none_in_flight, "no call is in flight")
        lost, counted = await dropped(place), await unconfirmed(place)
        assert 0 < lost <= counted, "every event that AWS dropped is among the unconfirmed ones"
        assert counted <= (await place.ledger("eventbridge"))["delivered"]
        await place.make_bus("shop")


async def _send_on(place: World) -> None:
    while True:
        await place.send("eventbridge", events("eventbridge", markers(20), EventBusName="shop"))
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("queue", ["memory", "disk"])
async def test_the_count_survives_a_restart_between_the_two_answers(place: World, queue: str) -> None:
    options = {**QUICK, "queue": queue}
    async with daemon_of(place, orders=options) as daemon:
        await verified(place)
        await deliver(place, 8)
        await daemon.stop()
    await place.delete_bus("shop")
    async with daemon_of(place, orders=options) as daemon:  # and once more, while nobody answers
        await deliver(place, 5)
        await daemon.stop()
    async with daemon_in(place, orders=options):
        await place.heal()
        await missing(place)
        (bus,) = (await place.status("eventbridge"))["unconfirmed_buses"]
        assert (bus["events"], bus["at_least"], await dropped(place)) == (13, False, 5)
        await place.make_bus("shop")


async def test_what_was_confirmed_before_a_restart_is_not_counted_after_it(place: World) -> None:
    async with daemon_of(place, orders=QUICK) as daemon:
        await verified(place)
        await deliver(place, 8)
        await place.heal()
        seen = await answers(place, "exists")

        async def again() -> bool:
            return await answers(place, "exists") > seen + 1

        await until(again, "the deliveries are confirmed")
        await daemon.stop()
    await place.delete_bus("shop")
    async with daemon_in(place, orders=QUICK):
        await missing(place)
        assert await unconfirmed(place) == 0
        await place.make_bus("shop")


async def test_after_a_kill_the_count_is_said_to_be_a_lower_bound(place: World) -> None:
    orders = {"verify_interval": "60s", "queue": "disk"}
    await place.make_bus("shop")
    async with daemon_beside(place, orders=orders) as daemon:
        await place.send("eventbridge", events("eventbridge", sent := markers(8), EventBusName="shop"))
        await place.all_arrive("eventbridge", sent)
        await _stored(place, 8)
        daemon.ask(signal.SIGKILL)
        await daemon.ended()
    await place.delete_bus("shop")
    async with daemon_beside(place, orders=orders) as daemon:
        line = await daemon.says(UNCONFIRMED, target="orders", bus="shop")
        assert (line["level"], line["events"], line["count"]) == ("error", 8, "at least")
        assert line["since"] < line["until"]
        status = await place.status("eventbridge")
        assert [(bus["events"], bus["at_least"]) for bus in status["unconfirmed_buses"]] == [(8, True)]
        daemon.ask()
        assert await daemon.ended() == 0
        await daemon.says("stopped; some delivered events are unconfirmed", unconfirmed=8)
        assert daemon.ledger("orders")["unconfirmed"] == 8
        assert not daemon.said("stopped, nothing lost")


async def _stored(place: World, count: int) -> None:
    """Wait until so many deliveries are counted in the storage."""

    async def there() -> bool:
        with sqlite3.connect(f"file:{place.storage}/data/forwarder.db?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT events FROM unconfirmed_events WHERE name = 'shop'").fetchall()
        return rows == [(count,)]

    await until(there, "the count is stored")


async def test_replayed_events_are_counted_like_others(place: World) -> None:
    await place.order({"fault": "access_denied", "api": "eventbridge"})
    async with daemon_of(place, retry={"max_age": "100ms"}) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(6), EventBusName="shop"))

        async def dead() -> bool:
            return (await place.ledger("eventbridge"))["dead_lettered"] == 6

        await until(dead, "the events are dead letters")
        await daemon.stop()
    await place.heal()
    async with daemon_in(place, orders=QUICK):
        await verified(place)
        before = (await place.ledger("eventbridge"))["delivered"]
        await place.delete_bus("shop")
        assert await client.replay(socket_of(place), {}, None) == 0

        async def delivered() -> bool:
            return (await place.ledger("eventbridge"))["delivered"] == before + 6

        await until(delivered, "the events were replayed")
        await place.heal()

        async def known() -> bool:
            return await answers(place, "missing") > 0

        await until(known, "the bus is known to be missing")
        assert await unconfirmed(place) == await dropped(place) == 6
        await place.make_bus("shop")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"fault": "access_denied"}, "DescribeEventBus is denied"),
        ({"fault": "error", "code": "UnknownOperationException", "status": 400}, "does not support"),
    ],
)
async def test_events_for_buses_that_cannot_be_verified_are_counted_as_unverified(
    place: World, fault: dict[str, Any], said: str
) -> None:
    await place.order({**fault, **QUESTION})
    async with daemon_in(place):
        await deliver(place, 7, "nobus")
        assert await dropped(place) == 7
        status = await place.status("eventbridge")
        assert status["unverified"] == 7
        assert said in status["message"]
        assert "events delivered unverified: 7" in status["message"]
        assert 'forwarder_events_unverified_total{target="orders"} 7.0' in await place.metrics()


@pytest.mark.parametrize("kind", ["rum", "evidently"])
async def test_a_missing_app_monitor_or_project_is_answered_by_the_call_itself_so_nothing_is_unconfirmed(
    place: World, kind: str
) -> None:
    async with daemon_in(place):
        await place.send(kind, events(kind, first := markers(2)))
        await place.all_arrive(kind, first)
        await place.order({"fault": "not_found", "api": kind})
        await place.send(kind, events(kind, later := markers(5)))

        async def tried() -> bool:
            return await place.injected(kind, "not_found") > 0

        await until(tried, "AWS says that it does not exist")
        assert (await place.ledger(kind))["delivered"] == 2
        await place.heal()
        await place.all_arrive(kind, later)
        await place.settled(kind)
        status = await place.status(kind)
        assert (status["unconfirmed"], status["unconfirmed_buses"], status["unverified"]) == (0, [], 0)
        assert (await place.ledger(kind))["delivered"] == 7


async def test_a_bus_that_is_there_has_nothing_unconfirmed_whatever_becomes_of_its_events(
    place: World,
) -> None:
    """A bus without rules takes its events, and nobody is told more of it by AWS."""
    await place.make_bus("quiet")
    async with daemon_in(place, orders=QUICK):
        await deliver(place, 20, "quiet")
        seen = await answers(place, "exists")

        async def again() -> bool:
            return await answers(place, "exists") > seen + 1

        await until(again, "the bus is verified again")
        assert await unconfirmed(place) == 0
