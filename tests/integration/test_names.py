"""Names that exist, that do not, and that nobody knows: whom they cost what, in a whole daemon."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.support.events import event, events, markers
from tests.support.harness import World, daemon_in, daemon_of, until

PUT_EVENTS = {"X-Amz-Target": "AWSEvents.PutEvents", "Content-Type": "application/x-amz-json-1.1"}
DESCRIBE = {**PUT_EVENTS, "X-Amz-Target": "AWSEvents.DescribeEventBus"}
QUESTION = {"api": "eventbridge", "operation": "DescribeEventBus"}


async def describe(url: str, http: aiohttp.ClientSession, bus: str) -> tuple[int, dict[str, Any], Any]:
    async with http.post(f"{url}/", json={"Name": bus}, headers=DESCRIBE) as answer:
        return answer.status, await answer.json(content_type=None), answer.headers


async def aside(place: World) -> dict[str, Any]:
    status = await place.status("eventbridge")
    found: dict[str, Any] = status["set_aside"]
    return found


@pytest.mark.parametrize("queue", ["memory", "disk"])
@pytest.mark.parametrize("names", [0, 90, 120, 300, 1000])
async def test_events_of_missing_buses_delay_no_good_ones(place: World, names: int, queue: str) -> None:
    """Good events (the default bus, a configured bus, a new real one) are all sent while most of the false
    names were not even asked about."""
    await place.make_bus("shop")
    await place.make_bus("brand-new")
    orders = {"buses": ["shop"], "default": True, "queue": queue, "verify_interval": "60s"}
    async with daemon_in(place, orders=orders, shutdown={"drain_timeout": "300ms"}):
        false = [event("eventbridge", f"false-{i}", EventBusName=f"missing-{i}") for i in range(names)]
        if false:
            await place.send("eventbridge", false, size=1000)
        good = markers(30)
        for i, bus in enumerate(("default", "shop", "default")):
            await place.send(
                "eventbridge", events("eventbridge", good[10 * i : 10 * i + 10], EventBusName=bus)
            )
        assert await place.all_arrive("eventbridge", good) == dict.fromkeys(good, 1)
        if names <= 120:  # the same peer: in its turn
            new = markers(3)
            await place.send("eventbridge", events("eventbridge", new, EventBusName="brand-new"))
            await place.all_arrive("eventbridge", new)
        assert (await place.summary("eventbridge"))["dropped"] == 0
        assert (await aside(place))["events"] == names
        assert (await place.status("eventbridge"))["state"] == "open"


FAILING: list[dict[str, Any]] = [
    {"fault": "throttle"},
    {"fault": "error", "status": 500},
    {"fault": "error", "status": 503},
    {"fault": "reset"},
    {"fault": "hang"},
    {"fault": "credentials"},
    {"fault": "redirect"},
]


@pytest.mark.parametrize("fault", FAILING, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_while_questions_fail_verified_names_go_on_and_unknown_ones_wait_outside_the_share(
    place: World, fault: dict[str, Any]
) -> None:
    await place.make_bus("old")
    await place.make_bus("new")
    options = {"verify_interval": "200ms", "queue_limits": {"max_events": 100}}
    timeouts = {"connect": "1s", "read": "1s"}
    async with daemon_in(place, orders={**options, "timeouts": timeouts}):
        await place.send("eventbridge", events("eventbridge", first := markers(2), EventBusName="old"))
        await place.all_arrive("eventbridge", first)
        await place.order({**fault, **QUESTION})
        await place.send("eventbridge", events("eventbridge", missing := markers(5), EventBusName="nobus"))
        await place.send("eventbridge", events("eventbridge", new := markers(60), EventBusName="new"))
        await place.send("eventbridge", events("eventbridge", more := markers(20), EventBusName="old"))
        arrived = await place.all_arrive("eventbridge", [*first, *more])
        assert arrived == dict.fromkeys([*first, *more], 1), "and nothing else"

        async def said() -> bool:
            return "cannot verify" in (await place.status("eventbridge"))["message"]

        await until(said, "the status says that nobody answers")
        assert (await aside(place))["events"] == 65, "more than a tenth of the queue"
        assert (await place.status("eventbridge"))["state"] == "open", "questions close no gate"
        await place.heal()
        await place.all_arrive("eventbridge", new)

        async def missing_is_found() -> bool:
            return bool((await aside(place))["reasons"] == {"missing": 5})

        await until(missing_is_found, "the bus that does not exist is missing")
        await place.make_bus("nobus")
        await place.all_arrive("eventbridge", missing)
        await place.settled("eventbridge")
    assert (await place.summary("eventbridge"))["dropped"] == 0


ONE_FAILURE: list[dict[str, Any]] = [
    *({**fault, "times": 1} for fault in FAILING),
    {"fault": "throttle", "times": 2},
    {"fault": "reset_after", "times": 1},
    {"fault": "error", "status": 404, "code": "404", "times": 1},
    *({"fault": "wrong_shape", "shape": shape, "times": 2} for shape in ("html", "empty", "object")),
]


@pytest.mark.parametrize("buses", [["nobus"], ["nobus", "real"], []], ids=["one", "several", "none"])
@pytest.mark.parametrize("fault", ONE_FAILURE, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_a_question_that_fails_once_on_an_empty_target_costs_no_event_of_a_missing_bus(
    place: World, fault: dict[str, Any], buses: list[str]
) -> None:
    await place.make_bus("real")
    await place.order({**fault, **QUESTION})
    options = {"buses": buses, "default": len(buses) != 1, "timeouts": {"connect": "200ms", "read": "200ms"}}
    async with daemon_of(place, orders=options, shutdown={"drain_timeout": "100ms"}) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(5), EventBusName="nobus"))
        if len(buses) != 1:
            await place.send("eventbridge", events("eventbridge", real := markers(2), EventBusName="real"))
            await place.all_arrive("eventbridge", real)

        async def known() -> bool:
            return bool((await aside(place))["reasons"] == {"missing": 5})

        await until(known, "the bus is known to be missing")
        assert await place.injected("eventbridge", str(fault["fault"])) == fault["times"]
        assert (await place.summary("eventbridge"))["dropped"] == 0
        assert (await place.status("eventbridge"))["state"] == ("held" if len(buses) == 1 else "open")
        await daemon.stop()


async def test_an_answer_of_somebody_on_the_way_is_no_answer_from_an_endpoint_that_knows_the_question(
    place: World,
) -> None:
    await place.make_bus("real")
    async with daemon_in(place, orders={"verify_interval": "200ms"}):
        await place.send("eventbridge", events("eventbridge", first := markers(2), EventBusName="real"))
        await place.all_arrive("eventbridge", first)
        await place.order({"fault": "wrong_shape", "shape": "html", **QUESTION})
        await place.send("eventbridge", events("eventbridge", markers(3), EventBusName="nobus"))

        async def asked() -> bool:
            return await place.injected("eventbridge", "wrong_shape") > 4

        await until(asked, "the page of HTML came five times")
        await place.send("eventbridge", events("eventbridge", more := markers(2), EventBusName="real"))
        await place.all_arrive("eventbridge", more)
        assert (await place.summary("eventbridge"))["dropped"] == 0
        await place.make_bus("nobus")


@pytest.mark.parametrize("shape", ["html", "empty", "list", "object", "null"])
async def test_an_endpoint_that_answers_questions_with_something_else_is_sent_to(
    place: World, shape: str
) -> None:
    async with daemon_in(place):
        await place.make_bus("real")
        await place.order({"fault": "wrong_shape", "shape": shape, **QUESTION})
        await place.send("eventbridge", events("eventbridge", names := markers(5), EventBusName="real"))
        await place.all_arrive("eventbridge", names)
        assert "not verified" in (await place.status("eventbridge"))["message"]


async def test_verified_names_survive_a_restart_in_an_outage_of_questions(place: World) -> None:
    await place.make_bus("shop")
    async with daemon_in(place):
        await place.send("eventbridge", events("eventbridge", first := markers(2), EventBusName="shop"))
        await place.all_arrive("eventbridge", first)
    await place.order({"fault": "throttle", **QUESTION})
    async with daemon_in(place):
        await place.send("eventbridge", events("eventbridge", later := markers(5), EventBusName="shop"))
        await place.send("eventbridge", events("eventbridge", unknown := markers(5), EventBusName="other"))
        await place.all_arrive("eventbridge", later)
        assert not set(unknown) & set(await place.arrived("eventbridge"))
        await place.make_bus("other")
        await place.heal()
        await place.all_arrive("eventbridge", unknown)


async def test_an_outage_with_a_restart_in_it_can_fill_the_whole_queue(place: World) -> None:
    await place.make_bus("shop")
    options: dict[str, Any] = {"queue": "disk", "queue_limits": {"max_events": 200}}
    quick = {"drain_timeout": "200ms"}
    sent = markers(200)
    await place.order({"fault": "reset", "api": "eventbridge"}, {"fault": "reset", **QUESTION})
    for part in (sent[:100], sent[100:]):
        async with daemon_of(place, orders=options, shutdown=quick) as daemon:
            await place.send("eventbridge", events("eventbridge", part, EventBusName="shop"), size=20)
            if part[-1] == sent[-1]:
                full = await place.post("eventbridge", [event("eventbridge", "late", EventBusName="shop")])
                assert full.status == 429
            await daemon.stop()
    await place.heal()
    async with daemon_in(place, orders=options):
        assert await place.all_arrive("eventbridge", sent) == dict.fromkeys(sent, 1)


async def test_beyond_the_share_events_of_missing_names_are_refused_and_their_neighbours_are_not(
    place: World,
) -> None:
    options = {
        "queue_limits": {"max_events": 100},
        "verify_interval": "60s",
        "hold": {"probe": "60s", "probe_cap": "60s"},
    }
    async with daemon_in(place, orders=options, shutdown={"drain_timeout": "200ms"}):
        await place.send("eventbridge", [event("eventbridge", "first", EventBusName="nobus")])

        async def known() -> bool:
            return bool((await aside(place))["reasons"] == {"missing": 1})

        await until(known, "the bus is known to be missing")
        await place.send("eventbridge", events("eventbridge", markers(9), EventBusName="nobus"), size=1)
        refused = await place.post("eventbridge", [event("eventbridge", "no", EventBusName="nobus")])
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.results[0]["code"] == "ThrottlingException"
        assert "event bus nobus does not exist in eu-west-1" in refused.results[0]["message"]
        mixed = [event("eventbridge", "no", EventBusName="nobus"), event("eventbridge", good := "yes")]
        answer = await place.post("eventbridge", mixed)
        assert answer.status == 202
        assert answer.results[0]["code"] == "ThrottlingException"
        await place.all_arrive("eventbridge", [good])
        entry = {"Source": "a", "DetailType": "b", "Detail": "{}"}
        for entries, status, failed in (
            ([{**entry, "EventBusName": "nobus"}], 429, None),
            ([{**entry, "EventBusName": "nobus"}, entry], 200, ["ThrottlingException", None]),
        ):
            async with place.http.post(
                f"{place.ingest}/", json={"Entries": entries}, headers=PUT_EVENTS
            ) as response:
                body = await response.json(content_type=None)
                assert response.status == status, body
                if failed is None:
                    assert response.headers["x-amzn-ErrorType"] == "ThrottlingException"
                    assert "Retry-After" in response.headers
                else:
                    assert [each.get("ErrorCode") for each in body["Entries"]] == failed
        cloud = {
            "specversion": "1.0",
            "id": "1",
            "source": "/s",
            "type": "t",
            "eventbusname": "nobus",
            "data": {},
        }
        headers = {"Content-Type": "application/cloudevents+json"}
        async with place.http.post(
            f"{place.ingest}/v1/cloudevents/orders", json=cloud, headers=headers
        ) as response:
            assert response.status in (202, 429)
        metrics = await place.metrics()
        assert 'forwarder_set_aside_events{reason="missing",target="orders"} 10.0' in metrics
        assert 'reason="set_aside_full",target="orders"}' in metrics


async def test_a_global_endpoint_that_cannot_be_called_is_refused_with_what_to_do(place: World) -> None:
    entry = {"Source": "a", "DetailType": "b", "Detail": "{}"}
    async with daemon_in(place):
        call = {"EndpointId": "abcde.veo", "Entries": [entry]}
        async with place.http.post(place.ingest, json=call, headers=PUT_EVENTS) as answer:
            body = await answer.json(content_type=None)
            assert answer.status == 400
            assert body["__type"] == "ValidationException"
            assert "awscrt" in body["message"]
        native = await place.post("eventbridge", [{**event("eventbridge", "x"), "EndpointId": "abcde.veo"}])
        assert native.status == 400
        assert "awscrt" in native.results[0]["message"] if native.results else True
        await place.send("eventbridge", events("eventbridge", good := markers(3)))
        await place.all_arrive("eventbridge", good)
        metrics = await place.metrics()
    assert 'forwarder_events_refused_total{reason="global_endpoint",target="orders"} 1.0' in metrics


async def test_a_flush_asks_about_missing_names_again(place: World) -> None:
    async with daemon_in(
        place, orders={"verify_interval": "60s", "hold": {"probe": "60s", "probe_cap": "60s"}}
    ) as daemon:
        await place.send("eventbridge", events("eventbridge", names := markers(3), EventBusName="later"))

        async def known() -> bool:
            return bool((await aside(place))["reasons"] == {"missing": 3})

        await until(known, "the bus is known to be missing")
        await place.make_bus("later")
        daemon._built["orders"].target.names.hurry()
        await place.all_arrive("eventbridge", names)


async def test_what_is_set_aside_does_not_hold_up_a_stop(place: World) -> None:
    async with daemon_of(place, orders={"queue": "disk"}, shutdown={"drain_timeout": "60s"}) as daemon:
        await place.send("eventbridge", events("eventbridge", markers(5), EventBusName="nobus"))

        async def known() -> bool:
            return bool((await aside(place))["reasons"] == {"missing": 5})

        await until(known, "the bus is known to be missing")
        async with asyncio.timeout(20):
            assert await daemon.stop() == 0


# --- one forwarder behind another


async def test_a_gateway_says_which_buses_exist(place: World) -> None:
    await place.make_bus("real")
    async with daemon_in(place, orders={"verify_interval": "60s"}):
        status, body, headers = await describe(place.ingest, place.http, "real")
        assert (status, body["Name"]) == (200, "real")
        assert body["Arn"].endswith(":event-bus/real")
        assert "x-amzn-RequestId" in headers
        assert (await describe(place.ingest, place.http, "default"))[0] == 200
        status, body, _ = await describe(place.ingest, place.http, "nobus")
        assert (status, body["__type"]) == (400, "ResourceNotFoundException")
        await place.order({"fault": "throttle", **QUESTION})
        status, body, headers = await describe(place.ingest, place.http, "unknown")
        assert (status, body["__type"]) == (503, "ServiceUnavailable")
        assert int(headers["Retry-After"]) >= 1
        assert (await describe(place.ingest, place.http, "real"))[0] == 200
        status, body, _ = await describe(place.ingest, place.http, "no such form!")
        assert (status, body["__type"]) == (400, "ValidationException")
        assert 'http_requests_total{code="503",route="describe_event_bus"} 1.0' in await place.metrics()


async def test_a_bus_that_is_bound_to_no_target_does_not_exist_for_who_asks(place: World) -> None:
    async with daemon_in(place, orders={"buses": ["shop", "other"]}):
        status, body, _ = await describe(place.ingest, place.http, "elsewhere")
        assert (status, body["__type"]) == (400, "ResourceNotFoundException")


async def test_events_pass_two_forwarders_and_those_of_missing_buses_wait_in_the_first(place: World) -> None:
    await place.make_bus("real")
    async with daemon_in(place):
        gateway = place.ingest
        sidecar = World(place.http, gateway, place.storage.with_name("sidecar"))
        async with daemon_of(sidecar, shutdown={"drain_timeout": "300ms"}) as daemon:
            await sidecar.send("eventbridge", events("eventbridge", good := markers(8), EventBusName="real"))
            await sidecar.send("eventbridge", events("eventbridge", markers(4), EventBusName="nobus"))
            await sidecar.send("eventbridge", events("eventbridge", plain := markers(8)))
            await place.all_arrive("eventbridge", [*good, *plain])

            async def known() -> bool:
                return bool((await aside(sidecar))["reasons"] == {"missing": 4})

            await until(known, "the sidecar knows that the bus is missing")
            assert (await place.ledger("eventbridge"))["accepted"] == 16
            await place.make_bus("nobus")
            await place.settled("eventbridge")
            await sidecar.settled("eventbridge")
            assert (await place.summary("eventbridge"))["dropped"] == 0
            await daemon.stop()
