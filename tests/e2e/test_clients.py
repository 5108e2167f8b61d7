"""Every client at our ingest, each the same program in its own language, told only where AWS is.

Invariants:
- What arrived is compared with what was sent, field by field; the sandbox and moto are the judges.
- Every client meets the same: good events, a bad entry, a call refused whole, a full queue, and a restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import MONITOR, PROJECT
from tests.e2e.processes import Daemon, Sandbox, a_daemon, a_moto, ask, until
from tests.e2e.programs import KINDS, Kind, a_program
from tests.e2e.samples import TARGETS, call, envelope, events, ids, on_the_wire
from tests.e2e.test_moto import ACCOUNT, Moto, seconds
from tests.e2e.test_throttling import TINY

ROUTES = {"eventbridge": "put_events", "rum": "put_rum_events", "evidently": "put_project_events"}
NATIVE: dict[str, dict[str, Any]] = {
    "eventbridge": {"Source": "filler", "DetailType": "a", "Detail": {}},
    "rum": {"type": "filler", "details": {}, "AppMonitorId": MONITOR},
    "evidently": {"type": "aws.evidently.custom", "data": {}, "project": PROJECT},
}
each_client = pytest.mark.parametrize("kind", KINDS, ids=str)
each_of_eventbridge = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.api == "eventbridge"], ids=str
)
each_with_results = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.api != "rum"], ids=str)


# --- good events


@each_client
def test_every_field_arrives_as_it_was_sent(kind: Kind, sandbox: Sandbox, daemon: Daemon) -> None:
    sent = events(kind.api, kind.client.name, 3)
    params = call(kind.api, sent)
    with a_program(kind, daemon.url) as program:
        said = program(params)
    assert said.error is None
    assert len(set(ids(said.answer))) == (0 if kind.api == "rum" else 3)
    daemon.deliver(TARGETS[kind.api])
    arrived = sandbox.arrived(kind.api)
    assert [event["entry"] for event in arrived] == [on_the_wire(event) for event in sent]
    assert [event["envelope"] for event in arrived] == [envelope(params)] * 3


@each_client
def test_a_time_keeps_its_milliseconds_where_the_client_sends_them(
    kind: Kind, sandbox: Sandbox, daemon: Daemon
) -> None:
    (event,) = events(kind.api, kind.client.name, 1)
    time = "Time" if kind.api == "eventbridge" else "timestamp"
    with a_program(kind, daemon.url) as program:
        assert program(call(kind.api, [{**event, time: "2026-01-02T03:04:05.250Z"}])).error is None
    daemon.deliver(TARGETS[kind.api])
    (arrived,) = sandbox.arrived(kind.api)
    assert arrived["entry"][time] == (1767323045.25 if kind.client.fractions else 1767323045)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with a_moto(tmp_path_factory.mktemp("moto")) as url:
        moto = Moto(url)
        moto.make(account=[ACCOUNT])
        yield moto


@pytest.fixture(scope="module")
def before_moto(moto: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    target = f'  orders: {{kind: eventbridge, region: eu-west-1, endpoint_url: "{moto.url}"}}\n'
    with a_daemon(tmp_path_factory.mktemp("daemon"), target) as daemon:
        yield daemon


@each_of_eventbridge
def test_every_field_arrives_in_an_eventbridge_that_we_did_not_write(
    kind: Kind, moto: Moto, before_moto: Daemon
) -> None:
    sent = events(kind.api, kind.client.name, 3)
    with a_program(kind, before_moto.url) as program:
        assert program(call(kind.api, sent)).error is None
    before_moto.deliver("orders")
    delivered = sorted(moto.delivered("default"), key=lambda event: seconds(event["time"]))
    assert [
        {
            "Time": seconds(event["time"]),
            "Source": event["source"],
            "Resources": event["resources"],
            "DetailType": event["detail-type"],
            "Detail": event["detail"],
        }
        for event in delivered
    ] == [
        {
            "Time": seconds(event["Time"]),
            "Source": event["Source"],
            "Resources": event["Resources"],
            "DetailType": event["DetailType"],
            "Detail": json.loads(event["Detail"]),
        }
        for event in sent
    ]


# --- errors


@each_with_results
def test_a_bad_entry_is_told_in_its_place_and_the_others_arrive(
    kind: Kind, sandbox: Sandbox, daemon: Daemon
) -> None:
    good = events(kind.api, kind.client.name, 3)
    text = "Detail" if kind.api == "eventbridge" else "data"
    with a_program(kind, daemon.url) as program:
        said = program(call(kind.api, [good[0], {**good[1], text: "no JSON"}, good[2]]))
    assert said.error is None
    assert said.answer is not None
    failed = said.answer["failedEntryCount" if kind.api == "eventbridge" else "failedEventCount"]
    results = said.answer["entries" if kind.api == "eventbridge" else "eventResults"]
    assert failed == 1
    assert [set(result) for result in results] == [{"eventId"}, {"errorCode", "errorMessage"}, {"eventId"}]
    told = results[1]["errorCode"], results[1]["errorMessage"]
    if kind.api == "eventbridge":
        assert told == ("MalformedDetail", "Detail is malformed.")
    else:
        assert (told[0], "data" in told[1]) == ("ValidationException", True)
    daemon.deliver(TARGETS[kind.api])
    arrived = [event["entry"] for event in sandbox.arrived(kind.api)]
    assert arrived == [on_the_wire(good[0]), on_the_wire(good[2])]


@each_client
def test_a_call_that_is_refused_whole_is_the_sdks_own_error_and_is_not_tried_again(
    kind: Kind, sandbox: Sandbox, daemon: Daemon
) -> None:
    good = events(kind.api, kind.client.name, 51)
    refused = {
        "eventbridge": good[:11],
        "rum": [good[0], {**good[1], "details": "no JSON"}],
        "evidently": good,
    }[kind.api]
    before = daemon.answered(ROUTES[kind.api], 400)
    with a_program(kind, daemon.url) as program:
        said = program(call(kind.api, refused))
        assert said.answer is None
        assert said.error is not None
        assert said.error["code"] == "ValidationException"
        field = {"eventbridge": "entries", "rum": "RumEvents[1]", "evidently": "events"}[kind.api]
        assert field in said.error["message"]
        assert program(call(kind.api, good[:1])).error is None, "the client goes on"
    assert daemon.answered(ROUTES[kind.api], 400) == before + 1
    daemon.deliver(TARGETS[kind.api])
    assert [event["entry"] for event in sandbox.arrived(kind.api)] == [on_the_wire(good[0])]


# --- throttling


@pytest.fixture(scope="module")
def small(a_running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose targets have room for one event each."""
    targets = (TINY.format(name=TARGETS[api], kind=api, url=a_running_sandbox.url) for api in TARGETS)
    with a_daemon(tmp_path_factory.mktemp("daemon"), "".join(targets)) as daemon:
        yield daemon


@each_client
def test_a_client_that_is_throttled_tries_again_by_itself_until_there_is_room(
    kind: Kind, sandbox: Sandbox, small: Daemon
) -> None:
    target, route = TARGETS[kind.api], ROUTES[kind.api]
    (event,) = events(kind.api, kind.client.name, 1)
    sandbox.order({"fault": "credentials"})
    ask(f"{small.url}/v1/targets/{target}/events", NATIVE[kind.api], "POST")
    with a_program(kind, small.url, attempts=1) as hasty, a_program(kind, small.url, attempts=10) as patient:
        said = hasty(call(kind.api, [event]))
        assert said.error is not None
        assert said.error["code"] == "ThrottlingException"
        assert target in said.error["message"]
        before = small.answered(route, 429)
        patient.put(call(kind.api, [event]))
        until(lambda: small.answered(route, 429) > before, "the client to be throttled", small.log)
        sandbox.mend()
        small.deliver(target)
        assert patient.said().error is None
    small.deliver(target)
    arrived = [event["entry"] for event in sandbox.arrived(kind.api)]
    assert arrived[1:] == [on_the_wire(event)]
