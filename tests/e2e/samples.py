"""What the clients send: calls with every member that all of them know, and what must arrive of them."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from tests.e2e.conftest import MONITOR, PROJECT

TARGETS = {"eventbridge": "orders", "rum": "web", "evidently": "flags"}
"""The API's target in the daemons of these tests."""

TEXT = 'ä "€" \\ 𝄞\u2028'


def events(api: str, sender: str, count: int) -> list[dict[str, Any]]:
    """Good events as they go into a call, all different; with every member that the clients know."""
    made = {"eventbridge": entry, "rum": rum_event, "evidently": project_event}[api]
    return [made(sender, n) for n in range(count)]


def entry(sender: str, n: int) -> dict[str, Any]:
    return {
        "Time": f"2026-01-02T03:04:{n:02}Z",
        "Source": f"shop.{sender}",
        "Resources": [f"arn:aws:s3:::bücher/{n}", "arn:aws:s3:::b"],
        "DetailType": "Bestellung übergeben ✓",
        "Detail": json.dumps({"n": n, "text": TEXT, "deep": [{"list": [1, 2.5, None, True]}]}),
        "EventBusName": "default",
        "TraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
    }


def rum_event(sender: str, n: int) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "timestamp": f"2026-01-02T03:04:{n:02}Z",
        "type": "com.amazon.rum.page_view_event",
        "metadata": json.dumps({"pageId": f"/{sender}/ä"}),
        "details": json.dumps({"n": n, "text": TEXT}),
    }


def project_event(sender: str, n: int) -> dict[str, Any]:
    return {
        "timestamp": f"2026-01-02T03:04:{n:02}Z",
        "type": "aws.evidently.custom",
        "data": json.dumps({"details": {"n": n, "text": TEXT}, "userDetails": {"userId": sender}}),
    }


def call(api: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    """The parameters of the put operation."""
    if api == "eventbridge":
        return {"Entries": content}
    if api == "evidently":
        return {"project": PROJECT, "events": content}
    return {
        "Id": MONITOR,
        "BatchId": str(uuid.uuid4()),
        "AppMonitorDetails": {"id": MONITOR, "name": "shöp", "version": "1.0.0"},
        "UserDetails": {"userId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4())},
        "RumEvents": content,
        "Alias": "ä",
    }


def on_the_wire(event: dict[str, Any]) -> dict[str, Any]:
    """The same event with its time as a number, as AWS has it."""
    return {
        k: datetime.fromisoformat(v).timestamp() if k in ("Time", "timestamp") else v
        for k, v in event.items()
    }


def envelope(params: dict[str, Any]) -> dict[str, Any]:
    """What is said once for a call, and must arrive with each of its events."""
    return {k: v for k, v in params.items() if k not in ("Entries", "RumEvents", "events")}


def ids(answer: dict[str, Any] | None) -> list[str]:
    """The ids an answer gives for its events; PutRumEvents gives none."""
    assert answer is not None
    results = answer.get("entries", answer.get("eventResults", []))
    return [result["eventId"] for result in results]
