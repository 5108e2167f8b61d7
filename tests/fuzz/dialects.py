"""What is fuzzed: every way in, with good bodies to begin with, and what must be true of what it takes.

Invariants:
- The good bodies and the judgement of what was taken come from AWS's pages (``tests/aws_cases``) and Python's
  own reader of JSON, and nothing of the forwarder's.
- Another dialect is another line of ``DIALECTS``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.ingest.bindings import Bindings
from forwarder.ingest.deduplication import SeenEvents
from forwarder.ingest.operations.cloudevents import CloudEvents
from forwarder.ingest.operations.operation import NativeEvents, Operation
from forwarder.ingest.operations.put_events import PutEventsOperation
from forwarder.ingest.operations.put_project_events import PutProjectEventsOperation
from forwarder.ingest.operations.put_rum_events import PutRumEventsOperation
from forwarder.metrics import TargetMetrics
from forwarder.model import Clock
from tests.aws_cases import compact, put_events, put_project_events, put_rum_events
from tests.fuzz.mutations import bodies, lines

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
DEEPEST = 1000
DEEP_READER = 50_000
RUM_MEMBERS = {"id", "timestamp", "type", "details", "metadata"}
PUT_EVENTS_MEMBERS = {"Time", "Source", "Resources", "DetailType", "Detail", "EventBusName", "TraceHeader"}
BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[^][{}]', re.DOTALL)


def number_of(member: str) -> Callable[[Any], int]:
    return lambda call: len(call.get(member) or ())


def number_of_native(body: Any) -> int:
    return len(body) if isinstance(body, list) else 1


def read(text: str) -> Any:
    """JSON as the standard has it, however deep; ValueError for anything else."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(DEEP_READER)  # only here: what is judged has to do with what there is
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=float)
    finally:
        sys.setrecursionlimit(limit)


def parts_in(text: str) -> list[str]:
    """What stands between the commas of an array or object, whatever it is: letter by letter."""
    parts, begin, depth, quoted, escaped = [], 0, 0, False, False
    for place, letter in enumerate(text):
        if quoted:
            quoted, escaped = letter != '"' or escaped, letter == "\\" and not escaped
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            begin = place + 1 if depth == 1 else begin
        elif letter in "]}" or (letter == "," and depth == 1):
            depth -= letter != ","
            if depth == (letter == ","):
                parts.append(text[begin:place])
                begin = place + 1
    return parts


def entries_in(text: str, member: str) -> int:
    """How many entries a text has that is no JSON: of the list by this name, or of the array that it is."""
    if member:
        named = [re.match(r'\s*("(?:[^"\\]|\\.)*")\s*:', part, re.DOTALL) for part in parts_in(text)]
        values = [part[name.end() :] for name, part in zip(named, parts_in(text), strict=True) if name]
        names = [json.loads(name[1], strict=False) for name in named if name]
        text = dict(zip(names, values, strict=True))[member]
    return len(parts_in(text))


def values_in(text: str) -> int:
    """How many values of JSON stand one after the other; 0 when it is not JSON to its end."""
    decoder, number, place = json.JSONDecoder(parse_int=float), 0, 0
    try:
        while text := text[place:].strip():
            _, place = decoder.raw_decode(text)
            number += 1
    except (ValueError, RecursionError):
        return 0
    return number


def is_object(text: Any) -> bool:
    """The text of a JSON object, as deep as AWS takes it."""
    if not isinstance(text, str) or not isinstance(read(text), dict):
        return False
    depth = deepest = 0
    for bracket in BRACKETS.sub("", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest <= DEEPEST


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def is_time(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value < 253_402_300_800


def is_text(value: Any, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most


def is_entry(entry: dict[str, Any], envelope: str) -> bool:
    """PutEventsRequestEntry, for the call's EndpointId."""
    return (
        is_text(entry["Source"], 1 << 20)
        and not entry["Source"].startswith("aws.")
        and is_text(entry["DetailType"], 128)
        and is_object(entry["Detail"])
        and is_time(entry["Time"])
        and is_text(entry.get("EventBusName", "default"), 1600)
        and is_text(entry.get("TraceHeader", "-"), 500)
        and all(isinstance(each, str) and len(each) <= 2048 for each in entry.get("Resources", []))
        and (not envelope or re.fullmatch(r"[A-Za-z0-9-]+\.[A-Za-z0-9-]+", envelope) is not None)
        and entry.keys() <= PUT_EVENTS_MEMBERS
    )


def is_rum_event(event: dict[str, Any], envelope: str) -> bool:
    """RumEvent, and the rest of its call."""
    call = read(envelope)
    user = call["UserDetails"]
    return (
        all(UUID(each) is not None for each in (event["id"], call["Id"], *user.values()))
        and ("BatchId" not in call or UUID(call["BatchId"]) is not None)
        and is_text(event["type"], 256)
        and is_time(event["timestamp"])
        and is_object(event["details"])
        and is_object(event.get("metadata", "{}"))
        and is_object(call.get("SessionMetadata", "{}"))
        and is_text(call.get("Alias", "-"), 255)
        and isinstance(call["AppMonitorDetails"], dict)
        and event.keys() <= RUM_MEMBERS
    )


def is_project_event(event: dict[str, Any], envelope: str) -> bool:
    """Evidently's Event, and its project."""
    return (
        event["type"] in ("aws.evidently.evaluation", "aws.evidently.custom")
        and is_time(event["timestamp"])
        and is_object(event["data"])
        and event.keys() == {"timestamp", "type", "data"}
        and is_text(envelope, 2048)
    )


@dataclass(frozen=True)
class Dialect:
    """A way in to the events of ``target``.

    ``operation`` makes it; ``name`` is what a path says beside it. ``events`` counts those of a body that
    Python could read; ``is_good`` judges one that was taken, by its body and its call's envelope. ``once``:
    an event that came before, in whatever body, is not taken again. ``member``: a call's list of entries.
    """

    label: str
    operation: Callable[[Bindings, Clock, TargetMetrics], Operation]
    name: str
    seeds: list[bytes]
    events: Callable[[Any], int]
    is_good: Callable[[dict[str, Any], str], bool]
    target: str
    lines: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    member: str = ""

    def bodies(self, random: Random) -> Callable[[], bytes]:
        return (lines if self.lines else bodies)(random, self.seeds)


def native(target: str) -> Callable[[Bindings, Clock, TargetMetrics], Operation]:
    def operation(bindings: Bindings, clock: Clock, unbound: TargetMetrics) -> Operation:
        [route] = (route for route in bindings.routes if route.name == target)
        return NativeEvents(route, clock)

    return operation


def cloudevents(label: str, content_type: str, seeds: list[bytes], **headers: str) -> Dialect:
    """One of the modes in which CloudEvents come; the answer is asked for, as a single event has none."""

    def operation(bindings: Bindings, clock: Clock, unbound: TargetMetrics) -> Operation:
        return CloudEvents(bindings.of(PutEvents).routes[0], clock, SeenEvents(clock))

    named = {f"ce-{name}": value for name, value in headers.items()}
    given = {"Content-Type": content_type, "Prefer": "return=representation", **named}
    events = len if "batch" in content_type else lambda body: 1
    label = f"CloudEvents, {label}"
    return Dialect(label, operation, "", seeds, events, is_entry, "orders", headers=given, once=True)


def seeds(event: dict[str, Any]) -> list[bytes]:
    return [json.dumps(event).encode(), compact([event] * 4)]


ENTRY = {
    **put_events.GOOD,
    "Time": 1767323045.678,
    "Resources": ["arn:aws:s3:::b\u00fccher"],
    "EventBusName": "default",
    "TraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
}
EVENT = {**put_rum_events.EVENT, "metadata": '{"browserName":"Chrome","n":[1,2.5,null]}'}
SESSION = {
    "AppMonitorDetails": put_rum_events.CALL["AppMonitorDetails"],
    "UserDetails": put_rum_events.CALL["UserDetails"],
    "Alias": "mine",
}
CALL = {**put_rum_events.CALL, **SESSION, "SessionMetadata": '{"osName":"Linux"}'}
NATIVE_ENTRY = {**ENTRY, "Detail": {"n": 1, "\u00e9": [{"a": 2.5}]}, "EndpointId": "abcde.veo"}
NATIVE_EVENT = {**EVENT, **SESSION, "details": {"a": 1}, "SessionMetadata": {"osName": "Linux"}}
NATIVE_FEATURE = {**put_project_events.CUSTOM, "data": {"a": [1, {}]}, "project": "shop"}
CLOUD_EVENT = {
    "specversion": "1.0",
    "id": "1",
    "source": "/shop",
    "type": "com.example.order",
    "time": "2026-11-21T10:00:00.5+01:00",
    "subject": "arn:aws:s3:::b",
    "data": {"n": 1},
}
BINARY_EVENT = {
    **CLOUD_EVENT,
    "id": "2",
    "data_base64": "AAEC",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7",
}
del BINARY_EVENT["data"]
FEATURES = [put_project_events.CUSTOM, put_project_events.EVALUATION]

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        "PutEvents",
        lambda bindings, clock, unbound: PutEventsOperation(bindings.of(PutEvents), clock, unbound),
        "",
        [compact({"Entries": [ENTRY]}), compact({"Entries": [ENTRY] * 6, "EndpointId": "abcde.veo"})],
        number_of("Entries"),
        is_entry,
        "orders",
        member="Entries",
    ),
    Dialect(
        "PutRumEvents",
        lambda bindings, clock, unbound: PutRumEventsOperation(bindings.of(PutRumEvents), clock),
        put_rum_events.MONITOR,
        [compact({**put_rum_events.CALL, "RumEvents": [EVENT]}), compact({**CALL, "RumEvents": [EVENT] * 4})],
        number_of("RumEvents"),
        is_rum_event,
        "web",
        member="RumEvents",
    ),
    Dialect(
        "PutProjectEvents",
        lambda bindings, clock, unbound: PutProjectEventsOperation(bindings.of(PutProjectEvents), clock),
        "shop",
        [compact({"events": FEATURES[:1]}), compact({"events": FEATURES * 3})],
        number_of("events"),
        is_project_event,
        "lab",
        member="events",
    ),
    Dialect(
        "native, eventbridge",
        native("orders"),
        "",
        seeds(NATIVE_ENTRY) + seeds(ENTRY),
        number_of_native,
        is_entry,
        "orders",
    ),
    Dialect("native, rum", native("web"), "", seeds(NATIVE_EVENT), number_of_native, is_rum_event, "web"),
    Dialect(
        "native, evidently",
        native("lab"),
        "",
        seeds(NATIVE_FEATURE),
        number_of_native,
        is_project_event,
        "lab",
    ),
    Dialect(
        "native, lines",
        native("orders"),
        "",
        seeds(NATIVE_ENTRY)[:1] + seeds(ENTRY)[:1],
        number_of_native,
        is_entry,
        "orders",
        lines=True,
    ),
    cloudevents("structured", "application/cloudevents+json", [compact(CLOUD_EVENT), compact(BINARY_EVENT)]),
    cloudevents("batch", "application/cloudevents-batch+json", [compact([CLOUD_EVENT, BINARY_EVENT] * 3)]),
    cloudevents(
        "binary",
        "application/json",
        [compact(CALL), compact([CALL])],
        specversion="1.0",
        id="3",
        source="/shop",
        type="t",
    ),
)
"""Every dialect, and every kind of target that speaks it."""
