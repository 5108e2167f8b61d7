"""Dear bodies for every dialect: one unit repeated, nested, or spread over members, events, lines.

Invariants:
- No body is larger than the default ``ingest.max_body``, unpacked, but for those that are meant to be.
- Bodies are made one at a time, when they are wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count

from tests.abuse import wire
from tests.abuse.stage import MONITOR
from tests.abuse.wire import Request

MAX_BODY = 8 << 20
ROOM = MAX_BODY - 2048
"""What is left for the unit beside the rest of a body."""
EVENT = (1 << 20) - 4096
"""The largest content that a single event for EventBridge may have, about."""
RUM_EVENT = (256 << 10) - 4096

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
PUT_EVENTS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
BINARY = {
    **JSON,
    **{"ce-specversion": "1.0", "ce-id": "0", "ce-source": "/abuse", "ce-type": "t"},
}
CLOUDEVENTS = "/v1/cloudevents/orders"
UUID = "00000000-0000-4000-8000-0000000000cc"
RUM_CALL = (
    f'"BatchId":"{UUID}","AppMonitorDetails":{{"id":"{MONITOR}","version":"1"}},'
    f'"UserDetails":{{"userId":"{UUID}","sessionId":"{UUID}"}}'
)
NATIVE = '"Source":"a","DetailType":"b","Detail":{}'
BUS_ARNS = "arn:aws:events:eu-west-1:111122223333:event-bus/"
CLOUD = '"specversion":"1.0","source":"/abuse","type":"t"'

_IDS = count(1)

Named = tuple[str, Request]
"""Which input of a family, and what is sent."""


def repeated(unit: str, size: int, opening: str = "[", closing: str = "]", separator: str = ",") -> str:
    """JSON of about ``size`` bytes that is one unit, again and again."""
    times = max(1, (size - len(opening) - len(closing)) // (len(unit) + len(separator)))
    return opening + separator.join([unit] * times) + closing


def numbered(size: int, form: str = '"k%d":1', opening: str = "{", closing: str = "}") -> str:
    """An object, or an attribute list, of about ``size`` bytes in which every name is another."""
    each = len(form % 1_000_000) + 1
    return opening + ",".join(form % n for n in range(max(1, size // each))) + closing


def nested(size: int, opening: str, closing: str, core: str = "1", depth: int | None = None) -> str:
    times = (size - len(core)) // (len(opening) + len(closing)) if depth is None else depth
    return opening * times + core + closing * times


def text(value: str) -> str:
    return json.dumps(value)


# --- one content, in every dialect that carries one


def native(target: str, content: str) -> Request:
    if target == "web":
        event = f'{{"type":"t","details":{content},"UserDetails":{{"sessionId":"{UUID}"}}}}'
    elif target == "lab":
        event = f'{{"type":"aws.evidently.custom","data":{content},"project":"shop"}}'
    else:
        bus = ',"EventBusName":"kept"' if target == "kept" else ""
        event = f'{{"Source":"s","DetailType":"t","Detail":{content}{bus}}}'
    return wire.native(target, event.encode())


def put_events(content: str) -> Request:
    entry = f'{{"Source":"s","DetailType":"t","Detail":{text(content)}}}'
    return Request("/", f'{{"Entries":[{entry}]}}'.encode(), PUT_EVENTS)


def put_rum_events(content: str) -> Request:
    event = f'{{"id":"{UUID}","timestamp":1,"type":"t","details":{text(content)}}}'
    return Request(f"/appmonitors/{MONITOR}", f'{{{RUM_CALL},"RumEvents":[{event}]}}'.encode(), JSON)


def put_project_events(content: str) -> Request:
    event = f'{{"timestamp":1,"type":"aws.evidently.custom","data":{text(content)}}}'
    return Request("/events/projects/shop", f'{{"events":[{event}]}}'.encode(), JSON)


def cloud() -> str:
    """The members that a CloudEvent must have; no two are the same event."""
    return f'{CLOUD},"id":"{next(_IDS)}"'


def structured(content: str) -> Request:
    return Request(CLOUDEVENTS, f'{{{cloud()},"data":{content}}}'.encode(), STRUCTURED)


def batched(content: str) -> Request:
    return Request(CLOUDEVENTS, f'[{{{cloud()},"data":{content}}}]'.encode(), BATCH)


def binary(content: str) -> Request:
    return Request(CLOUDEVENTS, content.encode(), {**BINARY, "ce-id": str(next(_IDS))})


def lines(content: str) -> Request:
    request = native("orders", content)
    return Request(request.path, request.body + b"\n", LINES)


CARRIERS: dict[str, Callable[[str], Request]] = {
    "native": lambda content: native("orders", content),
    "native, disk": lambda content: native("kept", content),
    "native, RUM": lambda content: native("web", content),
    "native, Evidently": lambda content: native("lab", content),
    "NDJSON": lines,
    "PutEvents": put_events,
    "PutRumEvents": put_rum_events,
    "PutProjectEvents": put_project_events,
    "CloudEvent": structured,
    "CloudEvents batch": batched,
    "CloudEvent, binary": binary,
}


def size_of(carrier: str, most: int) -> int:
    """The largest content that the carrier's target takes, or ``most``."""
    return min(most, RUM_EVENT if "RUM" in carrier or "Rum" in carrier else EVENT)


def carried(make: Callable[[int], str], *, escaped: bool = False) -> Iterator[Named]:
    """The content in every dialect: of nearly a whole body, and as large as a single event may be."""
    for name, carrier in CARRIERS.items():
        grows = escaped and name.startswith("Put")
        yield f"{name}, whole body", carrier(make(ROOM // 2 if grows else ROOM))
        size = size_of(name, ROOM)
        yield f"{name}, a whole event", carrier(make(size // 2 if grows else size))


def waves(size: int, depth: int, height: int) -> str:
    """JSON that goes up and down, again and again, just below the deepest level that there may be."""
    wave = nested(0, "[", "]", "", height)
    base = "[" * depth
    return repeated(wave, size, '{"a":' + base, "]" * depth + "}")


def deep_waves() -> Iterator[Named]:
    for depth, height in ((905, 90), (960, 37), (990, 8)):
        yield from carried(lambda size: waves(size, depth, height))  # noqa: B023
    content = waves(EVENT, 905, 90)
    said = text(content)
    event = f'"type":"t","details":{said},"metadata":{said}'
    yield "RUM, three texts", wire.native("web", f'{{{event},"SessionMetadata":{said}}}'.encode())
    call = f'{{{RUM_CALL},"SessionMetadata":{said},"RumEvents":[{{"id":"{UUID}","timestamp":1,{event}}}]}}'
    yield "PutRumEvents, three texts", Request(f"/appmonitors/{MONITOR}", call.encode(), JSON)


def halves() -> Iterator[Named]:
    """Half a surrogate behind what looks like one, or is changed together with it."""
    for label, unit in (
        ("backslashes", "\\\\"),
        ("escaped backslashes before a u", "\\\\u"),
        ("private use", "\ue000"),
        ("pairs", "\\ud83d\\ude00"),
    ):
        for size in (ROOM // 2, ROOM // 4, EVENT):
            content = '{"a":"' + unit * ((size - 100) // len(unit.encode())) + '\\ud800"}'
            for name, carrier in CARRIERS.items():
                if not name.startswith("Put"):
                    yield f"{name}, {label}, {size:,} bytes", carrier(content)


def long_attributes() -> Iterator[Named]:
    for name in ("source", "dataschema", "datacontenttype", "subject", "dataref"):
        for label, unit in (
            ("é", "é"),
            ("blanks", " "),
            ("percent signs", "%41"),
            ("charsets", "; charset="),
        ):
            long = unit * ((EVENT - 400) // len(unit.encode()))
            event = f'{{{cloud()},"{name}":"{long}","data":{{}}}}'.replace(
                '"source":"/abuse",' if name == "source" else "\0", ""
            )
            yield f"{name} of {label}", Request(CLOUDEVENTS, event.encode(), STRUCTURED)


# --- what is not a content


def many_events(unit: str, number: int | None = None) -> Iterator[Named]:
    """So many events in one request, or as many as a body holds."""

    def some(opening: str, closing: str, separator: str = ",") -> bytes:
        if number is None:
            return repeated(unit, ROOM, opening, closing, separator).encode()
        return (opening + separator.join([unit] * number) + closing).encode()

    for target in ("orders", "kept", "web", "lab"):
        yield f"native to {target}", wire.native(target, some("[", "]"))
    yield "NDJSON", Request("/v1/targets/orders/events", some("", "\n", "\n"), LINES)
    yield "PutEvents", Request("/", some('{"Entries":[', "]}"), PUT_EVENTS)
    rum = some(f'{{{RUM_CALL},"RumEvents":[', "]}")
    yield "PutRumEvents", Request(f"/appmonitors/{MONITOR}", rum, JSON)
    yield "PutProjectEvents", Request("/events/projects/shop", some('{"events":[', "]}"), JSON)
    yield "CloudEvents batch", Request(CLOUDEVENTS, some("[", "]"), BATCH)


def many_names() -> Iterator[Named]:
    """Events that each name another bus, none of which is known; again when no more of them can wait."""
    for again in range(2):
        for label, name in (("names", f"n{again}"), ("ARNs", f"{BUS_ARNS}a{again}")):
            for target in ("orders", "kept"):
                events = [f'{{{NATIVE},"EventBusName":"{name}-{number}"}}' for number in range(60_000)]
                body = f"[{','.join(events)}]".encode()
                yield f"{label} at {target}, time {again + 1}", wire.native(target, body)
        lines = [f'{{{NATIVE},"EventBusName":"l{again}-{number}"}}' for number in range(60_000)]
        yield (
            f"NDJSON, time {again + 1}",
            Request("/v1/targets/orders/events", "\n".join(lines).encode(), LINES),
        )
        clouds = [
            f'{{{CLOUD},"id":"{number}","eventbusname":"c{again}-{number}"}}' for number in range(60_000)
        ]
        batch = f"[{','.join(clouds)}]".encode()
        yield f"CloudEvents batch, time {again + 1}", Request(CLOUDEVENTS, batch, BATCH)


def many_members() -> Iterator[Named]:
    """Members of the event itself, known and unknown, all different or all the same."""
    for label, members in (
        ("different", numbered(ROOM, '"k%d":1', "", "")),
        ("equal", repeated('"k":1', ROOM, "", "")),
        ("known, again and again", repeated('"Detail":{}', ROOM, "", "")),
        ("that hold arrays", numbered(ROOM, '"k%d":[]', "", "")),
    ):
        yield f"native, members {label}", wire.native("orders", f"{{{members}}}".encode())
        yield (
            f"NDJSON, members {label}",
            Request("/v1/targets/orders/events", f"{{{members}}}".encode(), LINES),
        )
        yield f"PutEvents, members {label}", Request("/", f"{{{members}}}".encode(), PUT_EVENTS)
        entry = f'{{"Entries":[{{{members}}}]}}'
        yield f"PutEvents, members {label} of an entry", Request("/", entry.encode(), PUT_EVENTS)
        call = f"{{{RUM_CALL},{members}}}"
        yield f"PutRumEvents, members {label}", Request(f"/appmonitors/{MONITOR}", call.encode(), JSON)
        user = f'{{"BatchId":"{UUID}","AppMonitorDetails":{{{members}}},"UserDetails":{{{members[:9]}}}}}'
        yield (
            f"PutRumEvents, members {label} of a detail",
            Request(f"/appmonitors/{MONITOR}", user.encode(), JSON),
        )


def attributes() -> Iterator[Named]:
    for label, form in (
        ("numbers", '"a%d":1'),
        ("texts", '"a%d":""'),
        ("of capitals", '"A%d":1'),
        ("of null", '"a%d":null'),
        ("of objects", '"a%d":{}'),
    ):
        event = f'{{{cloud()},{numbered(ROOM, form, "", "")},"data":{{}}}}'
        yield f"CloudEvent, attributes {label}", Request(CLOUDEVENTS, event.encode(), STRUCTURED)
        yield f"batch, attributes {label}", Request(CLOUDEVENTS, f"[{event}]".encode(), BATCH)
    some = f"{{{cloud()},{numbered(1400, chr(34) + 'a%d' + chr(34) + ':1', '', '')}}}"
    yield "batch, a hundred attributes each", Request(CLOUDEVENTS, repeated(some, ROOM).encode(), BATCH)
    head = {f"ce-a{n}": "1" for n in range(900)}
    yield "binary, a head full of attributes", Request(CLOUDEVENTS, b"{}", {**BINARY, **head})


def resources() -> Iterator[Named]:
    for label, unit in (("ab", "ab"), ("one letter", "a"), ("none", "")):
        for size in (ROOM, EVENT):
            listed = repeated(unit, size, "", "")
            event = f'{{{cloud()},"resources":"{listed}","data":{{}}}}'
            yield f"CloudEvent, resources of {label}", Request(CLOUDEVENTS, event.encode(), STRUCTURED)
            yield f"batch, resources of {label}", Request(CLOUDEVENTS, f"[{event}]".encode(), BATCH)
            array = repeated(f'"{unit}"', size)
            entry = f'{{"Source":"s","DetailType":"t","Detail":{{}},"Resources":{array}}}'
            yield f"native, Resources of {label}", wire.native("orders", entry.encode())
            entry = f'{{"Source":"s","DetailType":"t","Detail":"{{}}","Resources":{array}}}'
            yield (
                f"PutEvents, Resources of {label}",
                Request("/", f'{{"Entries":[{entry}]}}'.encode(), PUT_EVENTS),
            )
    listed = ",".join(["ab"] * 4000)
    yield "binary, ce-resources", Request(CLOUDEVENTS, b"{}", {**BINARY, "ce-resources": listed})


def line_ends() -> Iterator[Named]:
    for label, unit in (
        ("\\n", b"\n"),
        ("\\r\\n", b"\r\n"),
        ("blank and \\n", b" \n"),
        ("\\r", b"\r"),
        ("vertical tabs", b"\x0b\n"),
        ("one brace a line", b"{\n"),
        ("one number a line", b"1\n"),
        ("values without line ends", b"{}"),
        ("values with blanks", b"{} "),
    ):
        body = unit * (ROOM // len(unit))
        yield f"NDJSON, lines of {label}", Request("/v1/targets/orders/events", body, LINES)
        if unit.isspace():
            event = b'{"Source":"s","DetailType":"t","Detail":{}}'
            yield f"NDJSON, {label}, then an event", Request("/v1/targets/orders/events", body + event, LINES)


def ends() -> Iterator[Named]:
    """A body that is good, but for its last bytes."""
    events = '{"Source":"s","DetailType":"t","Detail":{"a":[1,2,3],"b":"text"}}'
    for label, end in (
        ("half a surrogate", b'"\\ud800"]'),
        ("bytes that are not UTF-8", b'"\xff\xfe"]'),
        ("garbage", b"}}}]"),
        ("nothing", b""),
    ):
        whole = repeated(events, ROOM, "[", ",").encode() + end
        yield f"native, {label} at the end", wire.native("orders", whole)
        lined = repeated(events, ROOM, "", "\n", "\n").encode() + end
        yield f"NDJSON, {label} at the end", Request("/v1/targets/orders/events", lined, LINES)
        entries = '{"Entries":' + repeated(events.replace('{"a":[1,2,3],"b":"text"}', '"{}"'), ROOM, "[", ",")
        yield f"PutEvents, {label} at the end", Request("/", entries.encode() + end, PUT_EVENTS)
        long = b'{"Source":"s","DetailType":"t","Detail":{"a":"' + b"x" * ROOM + end
        yield f"native, one long text, {label} at the end", wire.native("orders", long)


def odd_arrays() -> Iterator[Named]:
    for label, unit in (("arrays", "[]"), ("numbers", "1"), ("texts", '""'), ("null", "null")):
        for named in many_events(unit):
            yield f"{named[0]}, of {label}", named[1]


def packed() -> Iterator[Named]:
    path, headers = "/v1/targets/orders/events", {**JSON, "Content-Encoding": "gzip"}
    yield "400,000 empty members", Request(path, wire.members(400_000, b""), headers)
    yield "8 MiB of members of one byte", Request(path, wire.members(MAX_BODY // 21, b" "), headers)
    yield "a bomb of 1 GiB of blanks", Request(path, wire.bomb(1 << 30), headers)
    yield "members that are bombs", Request(path, wire.bomb(7 << 20) * 100, headers)
    yield (
        "empty members, then an event",
        Request(
            path,
            wire.members(100_000, b"") + wire.squeeze(b'{"Source":"s","DetailType":"t","Detail":{}}'),
            headers,
        ),
    )
    yield "8 MiB of blanks", Request(path, wire.bomb(8 << 20), headers)
    yield "8 MiB of noughts", Request(path, wire.bomb(8 << 20, b"\0"), headers)


HONEST = '{"Source":"s","DetailType":"t","Detail":{"n":1,"name":"an order"}}'


def honest() -> Iterator[Named]:
    """What is taken: as many events as a request may carry, and the largest there are."""
    yield "65,536 events", wire.native("orders", repeated(HONEST, 65_536 * (len(HONEST) + 1)).encode())
    kept = HONEST[:-1] + ',"EventBusName":"kept"}'
    yield "65,536 events, disk", wire.native("kept", repeated(kept, 65_536 * (len(kept) + 1)).encode())
    yield "65,536 lines", Request("/v1/targets/orders/events", ((HONEST + "\n") * 65_536).encode(), LINES)
    for number in (20_000, 65_536):
        clouds = ",".join([f"{{{cloud()}}}" for _ in range(number)])
        yield f"{number:,} CloudEvents", Request(CLOUDEVENTS, f"[{clouds}]".encode(), BATCH)
    feature = '{"type":"aws.evidently.custom","data":{"n":1},"project":"shop"}'
    yield "65,536 features", wire.native("lab", repeated(feature, 65_536 * (len(feature) + 1)).encode())
    yield (
        "7 events of 1 MiB",
        wire.native(
            "orders",
            repeated(f'{{"Source":"s","DetailType":"t","Detail":{{"a":"{"x" * EVENT}"}}}}', ROOM).encode(),
        ),
    )
