"""The six targets of a torture, three kinds on disk and in memory, and how events are posted to them.

Invariants:
- An event's number says which target it is for, and what is to become of it: nothing else is remembered.
- An event is posted once, whatever becomes of the post: what arrives twice was sent twice by the daemon.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Kind = Literal["eventbridge", "rum", "evidently"]
Way = Literal["array", "single", "aws"]
WAYS: tuple[Way, ...] = ("array", "single", "aws")
ARRAY = 100
AWS_ENTRIES = 10

REJECT_EVERY = 997
"""So many events of a target are rejected by AWS, one of them: these become dead letters."""
FAIL_EVERY = 211
"""The same for events that fail once by themselves, where the API has results for single events."""

WORKERS = 8
"""Calls of a target in flight, at most."""

SESSION = "00000000-0000-4000-8000-0000000000cc"
DETAILS = "x" * 80


@dataclass(frozen=True)
class Target:
    """One target of the daemon. ``bound``: the bus, app monitor or project that only it has."""

    index: int
    name: str
    kind: Kind
    queue: Literal["disk", "memory"]
    bound: str
    batch: int
    """Events in a call, at most."""

    @property
    def in_flight(self) -> int:
        """Events in all its calls together, at most."""
        return WORKERS * self.batch

    def number(self, serial: int) -> int:
        return serial * len(TARGETS) + self.index


TARGETS = (
    Target(0, "orders-disk", "eventbridge", "disk", "disk", 10),
    Target(1, "orders-memory", "eventbridge", "memory", "memory", 10),
    Target(2, "web-disk", "rum", "disk", "00000000-0000-4000-8000-0000000000aa", 100),
    Target(3, "web-memory", "rum", "memory", "00000000-0000-4000-8000-0000000000bb", 100),
    Target(4, "features-disk", "evidently", "disk", "disk", 50),
    Target(5, "features-memory", "evidently", "memory", "memory", 50),
)


def target_of(number: int) -> Target:
    return TARGETS[number % len(TARGETS)]


def must_die(number: int) -> bool:
    """Whether AWS rejects this event, always."""
    return number // len(TARGETS) % REJECT_EVERY == REJECT_EVERY - 1


def _data(target: Target, number: int) -> dict[str, Any]:
    data: dict[str, Any] = {"number": number, "details": DETAILS}
    if must_die(number):
        data["sandbox"] = "reject"
    elif target.kind != "rum" and number // len(TARGETS) % FAIL_EVERY == 0:
        data["sandbox"] = "fail-once"
    return data


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _native(target: Target, number: int) -> dict[str, Any]:
    data = _data(target, number)
    if target.kind == "eventbridge":
        return {"Source": "torture", "DetailType": "t", "Detail": data, "EventBusName": target.bound}
    if target.kind == "rum":
        return {"type": "torture", "details": data, "UserDetails": {"sessionId": SESSION}}
    return {"type": "aws.evidently.custom", "data": data}


@dataclass(frozen=True)
class Post:
    """One request, ready to be sent."""

    path: str
    headers: dict[str, str]
    body: bytes


def post_of(target: Target, way: Way, numbers: list[int]) -> Post:
    """The request that carries these events in this way."""
    if way == "aws":
        return _AWS[target.kind](target, numbers)
    events = [_native(target, number) for number in numbers]
    body = msgspec.json.encode(events if way == "array" else events[0])
    return Post(f"/v1/targets/{target.name}/events", {"Content-Type": "application/json"}, body)


def _put_events(target: Target, numbers: list[int]) -> Post:
    entries = [{**_native(target, number), "Detail": _text(_data(target, number))} for number in numbers]
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
    return Post("/", headers, msgspec.json.encode({"Entries": entries}))


def _put_rum_events(target: Target, numbers: list[int]) -> Post:
    events = [
        {"id": str(uuid.UUID(int=n)), "timestamp": 1, "type": "torture", "details": _text(_data(target, n))}
        for n in numbers
    ]
    call = {
        "BatchId": str(uuid.UUID(int=numbers[0])),
        "AppMonitorDetails": {},
        "UserDetails": {"sessionId": SESSION},
        "RumEvents": events,
    }
    headers = {"Content-Type": "application/json"}
    return Post(f"/appmonitors/{target.bound}", headers, msgspec.json.encode(call))


def _put_project_events(target: Target, numbers: list[int]) -> Post:
    events = [
        {"timestamp": 1, "type": "aws.evidently.custom", "data": _text(_data(target, number))}
        for number in numbers
    ]
    headers = {"Content-Type": "application/json"}
    return Post(f"/events/projects/{target.bound}", headers, msgspec.json.encode({"events": events}))


_AWS = {"eventbridge": _put_events, "rum": _put_rum_events, "evidently": _put_project_events}


def taken(target: Target, way: Way, count: int, status: int, body: bytes) -> list[bool]:
    """Which of the events the answer promises."""
    if not 200 <= status < 300:
        return [False] * count
    if way == "aws" and target.kind == "rum":
        return [True] * count
    answer = msgspec.json.decode(body)
    key, id_name = {
        "eventbridge": ("Entries", "EventId"),
        "evidently": ("eventResults", "eventId"),
        "rum": ("", ""),
    }[target.kind]
    if way != "aws":
        key, id_name = "results", "id"
    results = [bool(result.get(id_name)) for result in answer[key]]
    if len(results) != count:
        raise ValueError(f"{target.name}: {count} events were sent, the answer is about {len(results)}")
    return results
