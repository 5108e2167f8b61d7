"""The calls of an honest program: single events, a full batch, a call over 64 KiB, and a burst.

Invariants:
- Every event has a name of its own, once in its text, by which it is known when it arrives.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from tests.e2e.conftest import MONITOR, PROJECT
from tests.e2e.samples import TEXT

FULL = {"eventbridge": 10, "rum": 100, "evidently": 50}
"""Events in the largest call that AWS takes."""

BURST = 20
LARGE = 70_000
"""Bytes of the large call; less than Linux lets one argument of a program have, for the AWS CLI."""

Call = dict[str, Any]


def name() -> str:
    return f"welcome-{uuid.uuid4()}"


def details(name: str, size: int = 0) -> str:
    return json.dumps({"name": name, "text": TEXT, "more": "x" * size})


def event(api: str, name: str, size: int = 0) -> Call:
    """An event of the API, as its put operation takes it."""
    match api:
        case "eventbridge":
            return {"Source": "welcome", "DetailType": "über", "Detail": details(name, size)}
        case "rum":
            moment = {"id": str(uuid.uuid4()), "timestamp": "2026-01-02T03:04:05Z"}
            return {**moment, "type": "welcome", "details": details(name, size), "metadata": "{}"}
    data = {"details": {"name": name, "more": "x" * size}, "userDetails": {"userId": "u"}}
    return {"timestamp": "2026-01-02T03:04:05Z", "type": "aws.evidently.custom", "data": json.dumps(data)}


def call(api: str, names: list[str], size: int = 0) -> Call:
    """One call with these events, of about ``size`` bytes in all."""
    events = [event(api, name, size // len(names)) for name in names]
    if api == "eventbridge":
        return {"Entries": events}
    if api == "evidently":
        return {"project": PROJECT, "events": events}
    return {
        "Id": MONITOR,
        "BatchId": str(uuid.uuid4()),
        "AppMonitorDetails": {"version": "1.0.0"},
        "UserDetails": {"userId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4())},
        "RumEvents": events,
    }


def all_calls(api: str, burst: int = BURST) -> Iterator[tuple[list[str], Call]]:
    """Every kind of call that a program makes, with the names of its events."""
    for count, size in ((1, 0), (FULL[api], 0), (FULL[api], LARGE), *[(1, 0)] * burst):
        names = [name() for _ in range(count)]
        yield names, call(api, names, size)
