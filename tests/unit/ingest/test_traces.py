"""TraceHeader from the request, where the target says so and the entry has none."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from tests.support.ingest import ENTRY, EVENT, NATIVE, PUT_EVENTS, Routes, serving
from tests.unit.apis.test_trace_header import AMZN, HEADER, PARENT
from tests.unit.ingest.test_cloudevents import PATH, STRUCTURED, event

OWN = "Root=1-00000000-000000000000000000000001"
CALLS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "native": (NATIVE, [EVENT, {**EVENT, "TraceHeader": OWN}], {}),
    "PutEvents": ("/", {"Entries": [ENTRY, {**ENTRY, "TraceHeader": OWN}]}, PUT_EVENTS),
}


def traced(fill: bool = True) -> Routes:
    return Routes().add("orders", PutEvents(fill_trace_header=fill), default=True)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("header", "value", "made"), [("traceparent", PARENT, HEADER), ("X-Amzn-Trace-Id", AMZN, AMZN)]
)
async def test_an_entry_gets_the_requests_trace_and_keeps_its_own(
    call: str, header: str, value: str, made: str
) -> None:
    path, body, headers = CALLS[call]
    async with serving(traced()) as ingest:
        await ingest.post(path, body, {**headers, header: value})
        assert [entry["TraceHeader"] for entry in ingest.bodies()] == [made, OWN]


@pytest.mark.parametrize("call", CALLS)
async def test_a_target_that_is_not_told_to_adds_nothing(call: str) -> None:
    path, body, headers = CALLS[call]
    async with serving(traced(fill=False)) as ingest:
        await ingest.post(path, body, {**headers, "traceparent": PARENT})
        assert [entry.get("TraceHeader") for entry in ingest.bodies()] == [None, OWN]


async def test_a_bad_line_beside_traced_events_costs_nothing() -> None:
    async with serving(traced()) as ingest:
        answer = await ingest.post(NATIVE, [EVENT, 7], {"traceparent": PARENT})
        assert (answer.status, answer.json["refused"]) == (202, 1)


async def test_a_trace_of_one_request_is_not_that_of_the_next() -> None:
    async with serving(traced()) as ingest:
        await ingest.post(NATIVE, EVENT, {"traceparent": PARENT})
        await ingest.post(NATIVE, EVENT)
        assert [entry.get("TraceHeader") for entry in ingest.bodies()] == [HEADER, None]


async def test_a_cloudevents_own_traceparent_goes_before_the_requests() -> None:
    other = PARENT.replace("b7ad6b7169203331", "1" * 16)
    async with serving(traced()) as ingest:
        headers = {**STRUCTURED, "traceparent": other}
        await ingest.post(PATH, event(id="1", traceparent=PARENT), headers)
        await ingest.post(PATH, event(id="2"), headers)
        await ingest.post(PATH, event(id="3", traceparent="broken"), STRUCTURED)
        made = [entry.get("TraceHeader") for entry in ingest.bodies()]
        assert made == [HEADER, HEADER.replace("b7ad6b7169203331", "1" * 16), None]


async def test_a_cloudevents_traceparent_stays_where_it_is_without_the_setting() -> None:
    async with serving(traced(fill=False)) as ingest:
        await ingest.post(PATH, event(traceparent=PARENT), STRUCTURED)
        (entry,) = ingest.bodies()
        assert "TraceHeader" not in entry
        assert PARENT in entry["Detail"]
