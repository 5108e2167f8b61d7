"""Why a target does not deliver: what AWS or the network does decides the state and its reason. Status,
metric and log say the same.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.events import TARGETS, events, markers
from tests.support.harness import World, daemon_in, until

QUICKLY = {"connect": "300ms", "read": "300ms"}


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


FAULTS = [
    ("eventbridge", {"fault": "throttle"}, "backing_off", "throttled"),
    ("rum", {"fault": "throttle"}, "backing_off", "throttled"),
    (
        "eventbridge",
        {"fault": "error", "status": 503, "code": "ServiceUnavailable"},
        "backing_off",
        "unavailable",
    ),
    ("evidently", {"fault": "error"}, "backing_off", "unavailable"),
    ("eventbridge", {"fault": "wrong_shape"}, "backing_off", "unavailable"),
    ("eventbridge", {"fault": "reset"}, "backing_off", "unreachable"),
    ("rum", {"fault": "hang"}, "backing_off", "unreachable"),
    ("eventbridge", {"fault": "credentials"}, "held", "credentials"),
    ("eventbridge", {"fault": "access_denied"}, "held", "access"),
    ("rum", {"fault": "not_found"}, "held", "missing"),
    ("evidently", {"fault": "redirect"}, "held", "configuration"),
]
PLACES = [
    ("nothing listens", "http://127.0.0.1:{closed}", "backing_off", "unreachable"),
    ("no such name", "http://events.invalid", "backing_off", "unreachable"),
    ("no TLS there", "https://127.0.0.1:{plain}", "backing_off", "unreachable"),
]


async def stands(place: World, kind: str, state: str, reason: str) -> dict[str, Any]:
    """Wait until the target stands so, and see that the metric says the same."""

    async def so() -> dict[str, Any]:
        status = await place.status(kind)
        return status if (status["state"], status["reason"]) == (state, reason) else {}

    status = await until(so, f"{kind} is {state} ({reason})")
    series = f'target_state{{reason="{reason}",state="{state}",target="{TARGETS[kind]}"}} 1.0'
    assert series in await place.metrics()
    return status


@pytest.mark.parametrize(("kind", "fault", "state", "reason"), FAULTS, ids=str)
async def test_what_aws_answers_decides_the_reason(
    place: World, kind: str, fault: dict[str, Any], state: str, reason: str
) -> None:
    stop = {"drain_timeout": "10ms"}
    with capture_logs() as lines:
        async with daemon_in(place, timeouts=QUICKLY, shutdown=stop):
            await place.order(fault)
            await place.send(kind, events(kind, markers(1)))
            status = await stands(place, kind, state, reason)
            assert status["cure"]
            await place.heal()
    said = [line for line in lines if line["event"] in ("target held", "target backing off")]
    assert (said[0]["target"], said[0]["reason"]) == (TARGETS[kind], reason)
    assert said[0]["runbook"] == status["runbook"]


@pytest.mark.parametrize(("what", "url", "state", "reason"), PLACES, ids=lambda each: str(each))
async def test_an_endpoint_that_cannot_be_reached_is_unreachable_and_not_throttled(
    place: World, what: str, url: str, state: str, reason: str
) -> None:
    plain = place.sandbox.rpartition(":")[2]
    options = {"endpoint_url": url.format(closed=closed_port(), plain=plain), "timeouts": QUICKLY}
    async with daemon_in(place, orders=options, shutdown={"drain_timeout": "10ms"}):
        await place.send("eventbridge", events("eventbridge", markers(1)))
        await stands(place, "eventbridge", state, reason)


async def test_the_log_of_a_daemon_has_its_targets_and_every_refusal(place: World) -> None:
    with capture_logs() as lines:
        async with daemon_in(place):
            await place.post("eventbridge", [{"DetailType": "an event without a source"}])
    configured = [line["target"] for line in lines if line["event"] == "target configured"]
    assert sorted(configured) == sorted(TARGETS.values())
    refused = [line for line in lines if line["event"] == "events refused"]
    assert [(line["target"], line["reason"], line["count"]) for line in refused] == [
        (TARGETS["eventbridge"], "invalid", 1)
    ]
