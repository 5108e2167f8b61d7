"""Which target takes which name, in which region."""

from __future__ import annotations

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.ingest.bindings import Bindings, Route
from forwarder.model import Refusal
from tests.support.ingest import ENTRY, EVENT, NATIVE, Routes, serving

HERE, THERE = "eu-west-1", "us-east-1"


def arn(bus: str, region: str) -> str:
    return f"arn:aws:events:{region}:123456789012:event-bus/{bus}"


def found(routes: Routes, name: str, region: str | None = None) -> str:
    """The target's name, or the refusal's code."""
    place = Bindings(routes.routes).of(PutEvents).find(name, region)
    return place.name if isinstance(place, Route) else place.code


def test_a_bound_name_goes_to_its_target_and_every_other_to_the_default() -> None:
    routes = Routes().add("some", PutEvents(), names=("orders",)).add("rest", PutEvents(), default=True)
    assert found(routes, "orders") == "some"
    assert found(routes, "other") == "rest"


def test_without_a_default_an_unbound_name_is_nobodys() -> None:
    routes = Routes().add("some", PutEvents(), names=("orders",))
    assert found(routes, "other") == "ResourceNotFoundException"


def test_the_default_of_one_api_is_no_default_of_another() -> None:
    routes = Routes().add("lab", PutProjectEvents(), default=True)
    assert found(routes, "orders") == "ResourceNotFoundException"


def test_a_name_bound_in_two_regions_goes_where_the_request_says() -> None:
    routes = Routes().add("a", PutEvents(), names=("orders",), region=HERE)
    routes.add("b", PutEvents(), names=("orders",), region=THERE)
    assert (found(routes, "orders", HERE), found(routes, "orders", THERE)) == ("a", "b")
    assert found(routes, "orders") == "a"


def test_a_name_bound_elsewhere_falls_to_the_default_of_the_asked_region() -> None:
    routes = Routes().add("a", PutEvents(), names=("orders",), region=HERE)
    routes.add("b", PutEvents(), default=True, region=THERE)
    assert found(routes, "orders", THERE) == "b"


def test_a_region_that_no_target_has_is_refused_naming_both() -> None:
    routes = Routes().add("a", PutEvents(), default=True, region=HERE)
    place = Bindings(routes.routes).of(PutEvents).find("orders", THERE)
    assert isinstance(place, Refusal)
    assert place.code == "ValidationException"
    assert THERE in place.message
    assert HERE in place.message


def test_the_region_of_an_arn_goes_before_the_region_of_the_request() -> None:
    routes = Routes().add("a", PutEvents(), default=True, region=HERE)
    routes.add("b", PutEvents(), default=True, region=THERE)
    assert found(routes, arn("orders", THERE), HERE) == "b"


def test_a_name_is_the_same_bus_as_its_arn_on_either_side() -> None:
    routes = Routes().add("a", PutEvents(), names=("orders",), region=HERE)
    routes.add("b", PutEvents(), names=(arn("bills", HERE),), region=HERE)
    assert found(routes, arn("orders", HERE)) == "a"
    assert found(routes, "bills") == "b"


def test_a_target_without_a_region_takes_any() -> None:
    routes = Routes().add("a", PutEvents(), default=True, region="")
    assert found(routes, "orders", THERE) == "a"
    assert found(routes, arn("orders", HERE)) == "a"


def other_account(bus: str) -> str:
    return f"arn:aws:events:{HERE}:222222222222:event-bus/{bus}"


def test_an_arn_of_another_account_or_region_is_not_the_bus_that_is_bound_by_arn() -> None:
    routes = Routes().add("a", PutEvents(), names=(arn("orders", HERE),), region=HERE)
    assert found(routes, arn("orders", HERE)) == "a"
    assert found(routes, "orders") == "a"
    assert found(routes, other_account("orders")) == "ResourceNotFoundException"
    assert found(routes, arn("orders", THERE)) == "ResourceNotFoundException"
    routes.add("rest", PutEvents(), default=True, region=HERE)
    assert found(routes, other_account("orders")) == "rest"


def test_one_name_in_two_accounts_goes_by_its_arn_and_a_plain_name_is_refused() -> None:
    routes = Routes().add("a", PutEvents(), names=(arn("orders", HERE),), region=HERE)
    routes.add("b", PutEvents(), names=(other_account("orders"),), region=HERE)
    assert (found(routes, arn("orders", HERE)), found(routes, other_account("orders"))) == ("a", "b")
    place = Bindings(routes.routes).of(PutEvents).find("orders", HERE)
    assert isinstance(place, Refusal)
    assert place.reason == "unknown_target"
    assert "a and b" in place.message
    assert "ARN" in place.message


def only_orders() -> Routes:
    return Routes().add("orders", PutEvents(), names=("orders", arn("bills", HERE)), only_bound=True)


@pytest.mark.parametrize(
    ("bus", "accepted"),
    [
        ("orders", True),
        (arn("orders", HERE), True),
        ("bills", True),
        (arn("bills", HERE), True),
        (other_account("bills"), False),
        ("others", False),
        ("default", False),
        (None, False),
    ],
)
async def test_a_target_that_takes_only_bound_names_refuses_others_one_by_one(
    bus: str | None, accepted: bool
) -> None:
    named = {} if bus is None else {"EventBusName": bus}
    async with serving(only_orders()) as ingest:
        answer = await ingest.post(NATIVE, [{**EVENT, **named}, {**EVENT, "EventBusName": "orders"}])
        assert answer.status == 202
        assert ("id" in answer.json["results"][0]) == accepted
        assert "id" in answer.json["results"][1]
        cloudevent = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
        cloudevent |= {} if bus is None else {"eventbusname": bus}
        structured = {"Content-Type": "application/cloudevents+json"}
        answer = await ingest.post("/v1/cloudevents/orders", cloudevent, structured)
        assert (answer.status < 300) == accepted
        answer = await ingest.put_events({**ENTRY, **named})
        assert (answer.json["FailedEntryCount"] == 0) == accepted
        if not accepted:
            assert ingest.refused() == {"unknown_target": 2}
            assert ingest.metrics.unbound.refused["unknown_target"] == 1


async def test_the_refusal_of_a_name_that_is_not_bound_names_the_setting() -> None:
    async with serving(only_orders()) as ingest:
        answer = await ingest.post(NATIVE, [{**EVENT, "EventBusName": "others"}])
        assert answer.status == 400
        assert b"targets.orders.buses" in answer.body
        assert b"only_bound" in answer.body
