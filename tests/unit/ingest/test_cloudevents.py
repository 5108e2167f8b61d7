"""CloudEvents over HTTP: what is taken, what it becomes, what is refused. Data as the specification has."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.apis.put_events import PutEvents
from forwarder.ingest.budget import PARSED_EVENT_BYTES, Budget, Lease
from forwarder.ingest.dialects import cloudevents
from forwarder.ingest.errors import BadRequest
from forwarder.model import Refusal
from forwarder.receipts import Receipt
from tests.support.ingest import Answer, Ingest, Routes, code, one_of_each, serving, until

PATH = "/v1/cloudevents/orders"
STRUCTURED = {"Content-Type": "application/cloudevents+json; charset=UTF-8"}
BATCH = {"Content-Type": "application/cloudevents-batch+json; charset=UTF-8"}
NEEDED = {"specversion": "1.0", "type": "com.example.someevent", "source": "/mycontext", "id": "A234-1234"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ARN = "arn:aws:s3:::bucket:x"
EXTENSIONS: dict[str, Any] = {"comexampleextension1": "value", "comexampleothervalue": 5}
THRIFT = "application/vnd.apache.thrift.binary"


def event(**more: Any) -> dict[str, Any]:
    return {**NEEDED, **more}


def heads(attributes: Mapping[str, Any] = NEEDED, /, **more: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in {**attributes, **more}.items()}


def detail(entry: Mapping[str, Any]) -> Any:
    return json.loads(entry["Detail"])


async def sent(body: Any, headers: Mapping[str, str], ingest: Ingest) -> dict[str, Any]:
    """The one entry that a request became."""
    answer = await ingest.post(PATH, body, headers)
    assert (answer.status, answer.body) == (202, b""), answer
    (entry,) = ingest.bodies()
    return dict(entry)


# --- the three modes


async def test_a_structured_event_becomes_an_entry_whose_detail_is_the_whole_event() -> None:
    given = event(
        **EXTENSIONS, subject=None, time="2018-04-05T19:31:00.25+02:00", data={"appinfoA": "abc", "n": [1]}
    )
    async with serving() as ingest:
        entry = await sent(given, STRUCTURED, ingest)
    assert detail(entry) == {name: value for name, value in given.items() if value is not None}
    del entry["Detail"]
    moment = 1522949460.25
    assert entry == {"Source": "/mycontext", "DetailType": "com.example.someevent", "Time": moment}


async def test_a_binary_event_becomes_the_entry_that_its_structured_form_would() -> None:
    data = b'{ "appinfoA" : "abc" }'
    text: dict[str, str] = {**EXTENSIONS, "comexampleothervalue": "5"}  # headers have no integers
    async with serving() as ingest:
        entry = await sent(data, {**heads(**text), "Content-Type": "application/json; charset=utf-8"}, ingest)
    assert detail(entry) == event(
        **text, datacontenttype="application/json; charset=utf-8", data={"appinfoA": "abc"}
    )
    assert data.decode() in entry["Detail"]  # byte for byte as it came


async def test_a_batch_has_a_result_per_event_and_a_bad_one_costs_no_other() -> None:
    batch = [event(id="1", data=1), {**event(id="2"), "type": ""}, 7, event(id="3", data_base64="AAE=")]
    async with serving() as ingest:
        answer = await ingest.post(PATH, batch, BATCH)
        assert answer.status == 202
        said = answer.json
        assert (said["accepted"], said["refused"]) == (2, 2)
        assert [result.get("message") for result in said["results"]] == [
            None,
            "type must be a string that is not empty.",
            "An event must be a JSON object.",
            None,
        ]
        assert [detail(entry)["id"] for entry in ingest.bodies()] == ["1", "3"]
        assert ingest.refused() == {"invalid": 2}


async def test_an_empty_batch_is_taken_and_holds_nothing() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, [], BATCH)
        assert (answer.status, answer.json) == (202, {"accepted": 0, "refused": 0, "results": []})
        assert ingest.count() == 0


async def test_a_batch_of_which_nothing_was_taken_is_refused_as_a_whole() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, [{}, {}], BATCH)
        assert answer.status == 400
        assert answer.json["refused"] == len(answer.json["results"]) == 2


async def test_a_body_may_be_gzip_in_each_mode() -> None:
    packed = {"Content-Encoding": "gzip"}
    bodies = [
        (json.dumps(event(id="1")).encode(), STRUCTURED),
        (json.dumps([event(id="2")]).encode(), BATCH),
        (b"{}", {**heads(id="3"), **JSON}),
    ]
    async with serving() as ingest:
        for body, headers in bodies:
            assert (await ingest.post(PATH, gzip.compress(body), {**headers, **packed})).status == 202
        assert [detail(entry)["id"] for entry in ingest.bodies()] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "media",
    [
        "application/cloudevents+avro",
        "application/cloudevents-batch+protobuf",
        "application/cloudevents",
        "application/cloudevents+json; charset=utf-16",
        "application/json",
        "text/plain",
        "",
    ],
)
async def test_what_is_no_event_in_json_is_415_and_told_what_is_taken(media: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, event(), {"Content-Type": media} if media else {})
        assert answer.status == 415
        assert "application/cloudevents-batch+json" in answer.headers["accept"]
        assert ingest.refused() == {"invalid": 1}


async def test_the_content_type_alone_tells_the_mode_in_any_case() -> None:
    async with serving() as ingest:
        headers = {**heads(id="not this"), "Content-Type": "Application/CloudEvents+JSON"}
        assert detail(await sent(event(), headers, ingest))["id"] == NEEDED["id"]


# --- attributes


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the example of the specification
        ("%c3%a9", "é"),
        ('"a \\"b\\" \\\\ c%20d"', 'a "b" \\ c d'),
        ("a b", "a b"),
        ("%2541", "%41"),
        ("100%", "100%"),
        ("é", "é"),
    ],
)
async def test_headers_are_unquoted_and_percent_decoded_once(value: str, read: str) -> None:
    async with serving() as ingest:
        assert detail(await sent(b"", heads(subject=value), ingest))["subject"] == read


URIS = [
    "/a%20b",
    "/a%2Fb",
    "/%C3%A9?q=%22#x",
    "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
    "https://example.com/shop?a=1&b=%7B%7D#%E2%82%AC",
]
"""Valid references without a raw ``%25``."""


@pytest.mark.parametrize("source", URIS)
@pytest.mark.parametrize("encodes", [False, True], ids=["Go, Java, JavaScript", "Python"])
async def test_a_uri_arrives_as_it_was_set_whether_its_sdk_percent_encodes_or_not(
    source: str, encodes: bool
) -> None:
    header = source.replace("%", "%25") if encodes else source
    async with serving() as ingest:
        entry = await sent(b"", {**heads(source=header), "ce-dataschema": header}, ingest)
        assert entry["Source"] == source
        assert detail(entry)["dataschema"] == source


@pytest.mark.parametrize(
    ("source", "arrives"),
    [
        ("/100%25", "/100%"),  # from Go; from Python it is /100%, which is no valid reference
        ("/a%2525", "/a%25"),  # a raw %25 from Python
        ("/%C3%A9", "/%C3%A9"),  # from Python, /é, which is no valid reference
        ('"/a%20b"', "/a%20b"),
        ("/a b", "/a b"),
    ],
)
async def test_of_a_uri_in_a_header_only_percent_signs_are_decoded(source: str, arrives: str) -> None:
    async with serving() as ingest:
        assert (await sent(b"", heads(source=source), ingest))["Source"] == arrives


async def post_with_byte(ingest: Ingest, name: str, value: bytes) -> Answer:
    """An event without data and with this header; its bytes are sent as they are."""
    given = {key: text.encode() for key, text in heads().items()} | {name: value}
    lines = b"\r\n".join([key.encode() + b": " + text for key, text in given.items()])
    peer = await ingest.peer()
    await peer.send(
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%b\r\n\r\n" % (PATH.encode(), lines)
    )
    answer = await peer.answer()
    await peer.close()
    return answer


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "eventbusname", "resources"])
async def test_a_byte_of_latin_1_in_an_attribute_that_is_needed_is_named_as_such(name: str) -> None:
    async with serving() as ingest:
        answer = await post_with_byte(ingest, f"ce-{name}", b"caf\xe9")
        assert answer.status == 400
        said = answer.json["error"]["message"]
        assert f"ce-{name} is not valid UTF-8: byte 0xE9" in said
        assert "Latin-1" in said
        assert "%C3%A9" in said


@pytest.mark.parametrize(
    ("header", "name", "value", "arrives"),
    [
        ("ce-subject", "subject", b"caf\xe9", "caf\xe9"),
        ("ce-tenant", "tenant", b"\xe9 100% \xfc", "\xe9 100% \xfc"),
        ("ce-dataschema", "dataschema", b"/caf\xe9", "/caf\xe9"),
        ("ce-time", "time", b"gestern, M\xe4rz", "gestern, M\xe4rz"),
        ("Content-Type", "datacontenttype", b"text/caf\xe9", "text/caf\xe9"),
        ("ce-subject", "subject", "café".encode(), "café"),
    ],
)
async def test_a_byte_of_latin_1_in_an_attribute_that_nothing_needs_costs_no_event(
    header: str, name: str, value: bytes, arrives: str
) -> None:
    async with serving() as ingest:
        assert (await post_with_byte(ingest, header, value)).status == 202
        (entry,) = ingest.bodies()
        assert detail(entry)[name] == arrives


@pytest.mark.parametrize("padding", ["", "x" * 140_000], ids=["small", "large"])
async def test_half_of_a_surrogate_pair_in_the_name_of_an_extension_costs_nothing(padding: str) -> None:
    name = "a\ud83db\u00e9"
    given = event(**{name: 1}, data={"p": padding})
    async with serving() as ingest:
        first = await ingest.post(PATH, given, STRUCTURED)
        again = await ingest.post(PATH, given, STRUCTURED)
        other = await ingest.post(PATH, event(**{"a\ud83eb\u00e9": 1}, data={"p": padding}), STRUCTURED)
        assert [each.status for each in (first, again, other)] == [202] * 3
        ids = [each.headers["x-forwarder-event-id"] for each in (first, again, other)]
        assert ids[0] == ids[1] != ids[2]
        bodies = ingest.bodies()
        assert [detail(each) for each in bodies] == [
            given,
            {**event(), "a\ud83eb\u00e9": 1, "data": {"p": padding}},
        ]
        batch = await ingest.post(PATH, [event(**{name: 2}), event(id="2")], BATCH)
        assert (batch.json["accepted"], batch.json["refused"]) == (2, 0)


LENIENT: list[dict[str, Any]] = [
    {"dataschema": "#"},  # Azure Event Grid
    {"dataschema": ""},
    {"dataschema": "schemas/order.json"},
    {"subject": ""},
    {"subject": 5},
    {"subject": "arn:" + ":" * 5 + "x" * 3000},
    {"time": ""},
    {"time": "0001-01-01T00:00:00Z"},  # the zero time of Go and .NET
    {"time": "1969-12-31T23:59:59Z"},
    {"time": "yesterday"},
    {"time": 1522949460},
    {"datacontenttype": ""},
    {"datacontenttype": "json"},
    {"datacontenttype": "text/plain", "data": {"a": 1}},
    {"my_extension": "a", "my-extension": "b", "myExtension": "c", "": "d"},
    {"x": {"a": [1, None]}, "y": [1], "z": 1.5, "n": 2**31, "big": 2**70, "text": "\x07\ufdd0"},
    {"source": "my shop/é"},
    {"source": "a%2"},
]


@pytest.mark.parametrize("more", LENIENT)
async def test_an_attribute_that_nothing_needs_costs_no_event_and_arrives_as_it_is(
    more: dict[str, Any],
) -> None:
    async with serving() as ingest:
        entry = await sent(event(**more), STRUCTURED, ingest)
        assert detail(entry) == event(**more)
        assert entry["Source"] == more.get("source", NEEDED["source"])
        assert entry["Time"] > 1_700_000_000  # it came now
        answer = await ingest.post(PATH, [event(id="2", **more), event(id="3")], BATCH)
        assert answer.json["refused"] == 0


@pytest.mark.parametrize(
    "more",
    [
        {"ce-my_ext": "a", "ce-My-Ext": "b"},
        {"ce-dataschema": "", "ce-subject": "", "ce-time": ""},
        {"ce-tenant": "%41b"},
    ],
)
async def test_a_header_that_nothing_needs_costs_no_event(more: dict[str, str]) -> None:
    async with serving() as ingest:
        said = detail(await sent(b"", {**heads(), **more}, ingest))
        for header, value in more.items():
            assert said[header.removeprefix("ce-").lower()] == value.replace("%41", "A")


async def test_an_extension_that_came_twice_is_a_list_and_the_media_type_may_come_by_its_name() -> None:
    async with serving() as ingest:
        headers = {**heads(), "ce-tag": "a", "CE-Tag": "b", "Ce-Id": NEEDED["id"]}
        said = detail(await sent(b"<a/>", {**headers, "ce-datacontenttype": "text/xml"}, ingest))
        assert (said["tag"], said["datacontenttype"], said["data"]) == ("a, b", "text/xml", "<a/>")


FORMS: list[tuple[dict[str, str], bytes, dict[str, Any]]] = [
    ({"ce-source": "/a%20b"}, b"", {"source": "/a%20b"}),
    ({"ce-source": "/%C3%A9"}, b"", {"source": "/é"}),
    ({"ce-n": "5", "ce-b": "true"}, b"", {"n": 5, "b": True}),
    ({"ce-b": "True"}, b"", {"b": True}),  # from Python
    ({"ce-subject": "%C3%A9"}, b"", {"subject": "é"}),
    ({"ce-time": "2026-11-21T12:00:00Z"}, b"", {"time": "2026-11-21T13:00:00.000+01:00"}),
    ({**JSON}, b'{"a":1}', {"data": {"a": 1}}),
    ({"Content-Type": "application/json; charset=utf-8"}, b'{ "a" : 1 }', {"data": {"a": 1}}),
    ({**JSON}, b'{ "a" : 1 }', {"data_base64": "eyAiYSIgOiAxIH0=", "datacontenttype": "application/json"}),
    ({}, b'{ "a" : 1 }', {"data_base64": "eyAiYSIgOiAxIH0="}),
    ({**FORM}, b'{"a":1}', {"data": {"a": 1}}),  # from Java's HttpURLConnection
    ({**FORM}, b"", {}),
    ({**FORM}, b"a=1", {"data": "a=1", "datacontenttype": FORM["Content-Type"]}),
    ({"Content-Type": "text/plain"}, "é".encode(), {"data": "é", "datacontenttype": "text/plain"}),
    ({"Content-Type": "text/plain"}, b"a", {"data_base64": "YQ==", "datacontenttype": "text/plain"}),
    ({"Content-Type": THRIFT}, b"\x00\x01", {"data_base64": "AAE=", "datacontenttype": THRIFT}),
]


@pytest.mark.parametrize(("headers", "body", "more"), FORMS)
async def test_the_binary_and_the_structured_form_of_an_event_are_one_event(
    headers: dict[str, str], body: bytes, more: dict[str, Any]
) -> None:
    async with serving() as ingest:
        first = await ingest.post(PATH, body, {**heads(), **headers})
        second = await ingest.post(PATH, event(**more), STRUCTURED)
        assert (first.status, second.status) == (202, 202)
        assert first.headers["x-forwarder-event-id"] == second.headers["x-forwarder-event-id"]
        other = await ingest.post(PATH, event(**{**more, "subject": "other"}), STRUCTURED)
        assert other.headers["x-forwarder-event-id"] != first.headers["x-forwarder-event-id"]
        assert ingest.count() == 2


@pytest.mark.parametrize("value", ["%C0%A0", "caf%E9.txt"])
async def test_percent_signs_that_encode_nothing_cost_no_event_where_nothing_needs_them(value: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(PATH, b"", heads(subject=value))).status == 202
        assert value in json.dumps(ingest.bodies())


async def test_a_link_to_the_data_keeps_its_percent_signs() -> None:
    async with serving() as ingest:
        assert (await ingest.post(PATH, b"", heads(dataref="http://x/a%2Fb"))).status == 202
        assert "http://x/a%2Fb" in json.dumps(ingest.bodies())


async def test_a_half_of_a_surrogate_pair_in_a_needed_attribute_is_named() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, event(id="\ud83d"), STRUCTURED)
        assert answer.status == 400
        assert "id has half of a surrogate pair" in answer.json["error"]["message"]


BAD_HEADERS: list[tuple[dict[str, str], str]] = [
    (heads(type="%C0%A0"), "ce-type is not UTF-8"),
    (heads(resources="%ED%A0%80"), "ce-resources is not UTF-8"),
    (heads(id="%00"), "id has a character"),
    ({**heads(), "CE-ID": "again"}, "ce-id was sent twice"),
    ({**heads(), "ce-data": "x"}, "ce-data must not be a header"),
    ({"ce-id": "1", "ce-specversion": "1.0"}, "source and type are required"),
]


@pytest.mark.parametrize(("headers", "words"), BAD_HEADERS)
async def test_bad_headers_are_refused_by_name(headers: dict[str, str], words: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, b"", headers)
        assert (answer.status, code(answer)) == (400, "ValidationException")
        assert words in answer.json["error"]["message"]


BAD_EVENTS: list[tuple[dict[str, Any], str]] = [
    *[({k: v for k, v in NEEDED.items() if k != name}, f"{name} is required") for name in NEEDED],
    *[(event(**{name: None}), f"{name} is required") for name in NEEDED],
    *[(event(**{name: ""}), f"{name} must be a string") for name in NEEDED],
    (event(specversion="0.3"), 'specversion must be "1.0", got "0.3"'),
    *[(event(**{name: 7}), f"{name} must be a string") for name in NEEDED],
    *[(event(**{name: "\x07"}), f"{name} has a character") for name in NEEDED],
    (event(resources=["arn"]), "resources must be a string"),
    (event(data=1, data_base64="AA=="), "data and data_base64 must not be sent together"),
    (event(data_base64="A"), "data_base64 must be a string in Base64"),
    (event(data_base64=7), "data_base64 must be a string in Base64"),
    (event(type="x" * 129), "type has 129 characters"),
    (event(eventbusname="a b"), "EventBusName"),
    (event(source="aws.s3"), "aws. is reserved"),
]


@pytest.mark.parametrize(("given", "words"), BAD_EVENTS)
async def test_bad_events_are_refused_by_name(given: dict[str, Any], words: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, given, STRUCTURED)
        assert answer.status == 400
        assert words in answer.json["error"]["message"]
        assert ingest.count() == 0
        assert ingest.refused() == {"invalid": 1}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "The body is not JSON: JSON is malformed: it ends too early (byte 1)."),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"specversion":"1.0","id":"\xff","source":"/a","type":"t"}', 400, "id is not valid UTF-8"),
        (b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data":"\xff"}', 400, "UTF-8 (byte 63)"),
    ],
)
async def test_a_body_that_is_no_json_is_refused(body: bytes, status: int, words: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, body, STRUCTURED)
        assert answer.status == status
        assert words in answer.json["error"]["message"]


async def test_a_batch_that_is_no_array_is_refused() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, event(), BATCH)
        assert (answer.status, code(answer)) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2018-04-05T17:31:00Z", 1522949460),
        ("2018-04-05t17:31:00z", 1522949460),
        ("2018-04-05T07:31:00-10:00", 1522949460),
        ("2018-04-05T17:31:00.123456789Z", 1522949460.123456),
        ("2016-12-31T23:59:60Z", 1483228799),
    ],
)
async def test_a_time_of_any_offset_is_the_entrys_time(time: str, seconds: float) -> None:
    async with serving() as ingest:
        assert (await sent(event(time=time), STRUCTURED, ingest))["Time"] == seconds


@pytest.mark.parametrize(
    ("more", "resources"),
    [
        ({"subject": ARN}, [ARN]),
        ({"subject": "orders/1"}, None),
        ({"subject": ARN, "resources": "a, b,"}, ["a", "b"]),
    ],
)
async def test_resources_are_the_extensions_else_the_subject_if_it_is_an_arn(
    more: dict[str, str], resources: list[str] | None
) -> None:
    async with serving() as ingest:
        assert (await sent(event(**more), STRUCTURED, ingest)).get("Resources") == resources


async def test_the_bus_is_the_extensions_else_the_targets() -> None:
    routes = Routes().add("orders", PutEvents(default_bus="shop"), default=True)
    async with serving(routes) as ingest:
        await ingest.post(PATH, [event(), event(id="2", eventbusname="other")], BATCH)
        assert [entry["EventBusName"] for entry in ingest.bodies()] == ["shop", "other"]


# --- data


@pytest.mark.parametrize(
    ("media", "body", "form"),
    [
        ("application/json", b'"I\'m just a string"', {"data": "I'm just a string"}),
        ("application/json", b'"{\\"a\\":1}"', {"data": '{"a":1}'}),  # never parsed again
        ("application/problem+json", b"[1]", {"data": [1]}),
        ("application/json", b"null", {"data": None}),
        ("application/xml", b'<much wow="xml"/>', {"data": '<much wow="xml"/>'}),
        ("text/plain; charset=utf-8", "é".encode(), {"data": "é"}),
        ("text/plain; charset=iso-8859-1", b"\xe9", {"data_base64": "6Q=="}),
        ("text/plain", b"\xe9", {"data_base64": "6Q=="}),
        (THRIFT, b"\x00\x01", {"data_base64": "AAE="}),
        ("", b'{"a":1}', {"data": {"a": 1}}),
        ("", b"\x00", {"data_base64": "AA=="}),
        (FORM["Content-Type"], b"a=1&b=%7B%7D", {"data": "a=1&b=%7B%7D"}),
        (FORM["Content-Type"], b"5", {"data": "5"}),
        ("application/json", b"", {}),
    ],
)
async def test_binary_data_takes_the_form_that_json_has_for_it(media: str, body: bytes, form: Any) -> None:
    async with serving() as ingest:
        headers = {**heads(), **({"Content-Type": media} if media else {})}
        said = detail(await sent(body, headers, ingest))
    assert {name: value for name, value in said.items() if name.startswith("data")} == {
        **form,
        **({"datacontenttype": media} if media else {}),
    }


@pytest.mark.parametrize("body", [b'{"a":1}', b" [1]", b""])
async def test_a_content_type_that_http_clients_set_by_themselves_is_not_the_events(body: bytes) -> None:
    """curl, urllib and Java's HttpURLConnection say that it is a form, if the program says nothing."""
    async with serving() as ingest:
        said = detail(await sent(body, {**heads(), **FORM}, ingest))
    assert said == (event(data=json.loads(body)) if body else event())


async def test_data_that_is_declared_json_and_is_none_is_refused() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, b"I'm just a string", {**heads(), **JSON})
        assert answer.status == 400
        assert "not valid JSON" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "data",
    [
        {"data": "I'm just a string"},
        {"data": None},
        {"data": [1, {"a": "\\u00e9"}]},
        {"data": '<much wow="xml"/>', "datacontenttype": "application/xml"},
        {"data_base64": "AAE=", "datacontenttype": THRIFT},
    ],
)
async def test_structured_data_stays_as_it_is(data: dict[str, Any]) -> None:
    async with serving() as ingest:
        assert detail(await sent(event(**data), STRUCTURED, ingest)) == event(**data)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (event(data=[1]), "data must be a JSON object"),
        (event(data='{"a":1}'), "data must be a JSON object"),
        (event(), "data must be a JSON object"),
        (event(data_base64="e30="), "data must be a JSON object"),
        (event(data_base64="W10=", datacontenttype="application/json"), "data must be a JSON object"),
        (event(data_base64="ew==", datacontenttype="application/json"), "data must be a JSON object"),
        (event(data_base64="eyLDKCI6MX0=", datacontenttype="application/json"), "data is not valid UTF-8"),
    ],
)
async def test_a_target_for_data_refuses_what_is_no_object(given: dict[str, Any], words: str) -> None:
    async with serving(Routes().add("orders", PutEvents(cloudevents="data"), default=True)) as ingest:
        answer = await ingest.post(PATH, given, STRUCTURED)
        assert answer.status == 400
        assert words in answer.json["error"]["message"]


async def test_a_target_for_data_has_the_data_as_detail_byte_for_byte() -> None:
    async with serving(Routes().add("orders", PutEvents(cloudevents="data"), default=True)) as ingest:
        entry = await sent(b' { "n" : 1.0 } ', {**heads(time="2018-04-05T17:31:00Z"), **JSON}, ingest)
        assert entry == {
            "Source": "/mycontext",
            "DetailType": "com.example.someevent",
            "Detail": '{ "n" : 1.0 }',
            "Time": 1522949460,
        }


async def test_a_target_for_data_takes_an_object_that_an_sdk_sent_as_bytes() -> None:
    """Go's SDK sends bytes as data_base64 also where they are declared to be JSON."""
    async with serving(Routes().add("orders", PutEvents(cloudevents="data"), default=True)) as ingest:
        given = event(data_base64="eyAibiIgOiAxLjAgfQ==", datacontenttype="application/json; charset=utf-8")
        assert (await sent(given, STRUCTURED, ingest))["Detail"] == '{ "n" : 1.0 }'


# --- answers


async def test_who_prefers_a_representation_gets_the_native_answer() -> None:
    async with serving() as ingest:
        headers = {**STRUCTURED, "Prefer": 'reply, return="representation"'}
        answer = await ingest.post(PATH, event(), headers)
        assert answer.status == 202
        assert answer.json["accepted"] == 1
        other = await ingest.post(PATH, event(id="2"), {**STRUCTURED, "Prefer": "reply"})
        assert other.body == b""
        assert other.headers["x-forwarder-event-id"]


async def told(ingest: Ingest, receipt: Receipt, headers: Mapping[str, str]) -> Answer:
    """The answer to an event of which this becomes known while its sender waits."""
    asking = asyncio.create_task(ingest.post(PATH, event(), headers))
    await until(lambda: bool(ingest.receipts.waits))
    id, wait = ingest.receipts.waits.popitem()
    wait.tell(id, receipt)
    return await asking


@pytest.mark.parametrize(
    ("receipt", "status", "words"),
    [
        (Receipt("delivered", aws_id="aws-1"), 204, b""),
        (Receipt("rejected", "InvalidArgument", "No."), 400, b"InvalidArgument"),
        (Receipt("expired", "ThrottlingException", "Too old."), 400, b"EventExpired"),
    ],
)
async def test_a_single_events_fate_is_told_by_the_status(
    receipt: Receipt, status: int, words: bytes
) -> None:
    routes = Routes().add("orders", PutEvents(), default=True, ack_timeout=5.0)
    async with serving(routes) as ingest:
        answer = await told(ingest, receipt, STRUCTURED)
        assert answer.status == status
        assert words in answer.body
        assert answer.headers.get("x-forwarder-aws-event-id", "") == receipt.aws_id
        assert answer.headers["x-forwarder-ack"] == "delivered"


async def test_who_asks_for_the_wait_gets_the_fate_in_the_native_shape() -> None:
    async with serving() as ingest:
        answer = await told(ingest, Receipt("delivered", aws_id="aws-1"), {**STRUCTURED, "Prefer": "wait=5"})
        assert answer.status == 200
        (result,) = answer.json["results"]
        assert (result["status"], result["event_id"]) == ("delivered", "aws-1")


async def test_a_full_target_asks_to_come_back_later() -> None:
    async with serving(Routes().add("orders", PutEvents(), default=True, max_events=1)) as ingest:
        assert (await ingest.post(PATH, event(), STRUCTURED)).status == 202
        answer = await ingest.post(PATH, event(id="2"), STRUCTURED)
        assert (answer.status, code(answer)) == (429, "ThrottlingException")
        assert 1 <= int(answer.headers["retry-after"]) <= 3
        assert ingest.refused() == {"queue_full": 1}
        never = await ingest.post(PATH, [event(id="3"), event(id="4")], BATCH)
        assert never.status == 413


async def test_an_event_that_no_call_could_carry_is_413() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, event(data="x" * 1_048_576), STRUCTURED)
        assert answer.status == 413


@pytest.mark.parametrize(
    ("target", "words"), [("web", "of kind rum"), ("lab", "of kind evidently"), ("nowhere", "No such target")]
)
async def test_another_kind_of_target_says_where_cloudevents_go(target: str, words: str) -> None:
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(f"/v1/cloudevents/{target}", event(), STRUCTURED)
        assert answer.status == 404
        message = answer.json["error"]["message"]
        assert words in message
        assert "orders" in message


# --- the handshake of webhooks


async def test_a_webhooks_sender_is_told_that_it_may_send_at_any_rate() -> None:
    asked = {"WebHook-Request-Origin": "eventemitter.example.com", "WebHook-Request-Rate": "120"}
    async with serving() as ingest:
        answer = await ingest.post(PATH, b"", asked, "OPTIONS")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["webhook-allowed-origin"] == "eventemitter.example.com"
        assert answer.headers["webhook-allowed-rate"] == "*"
        assert "POST" in answer.headers["allow"]


async def test_a_plain_options_grants_nothing() -> None:
    async with serving() as ingest:
        answer = await ingest.post(PATH, b"", {}, "OPTIONS")
        assert answer.status == 200
        assert not any(name.startswith("webhook") for name in answer.headers)
        assert (await ingest.post(PATH, b"", {}, "PUT")).headers["allow"] == "POST, OPTIONS"
        assert (await ingest.post("/v1/targets/orders/events", b"", {}, "OPTIONS")).status == 405


# --- whatever comes


def parsed(
    headers: Mapping[str, str], body: bytes, room: int = 1 << 20
) -> list[cloudevents.CloudEvent | Refusal]:
    with Lease(Budget(room)) as lease:
        events = cloudevents.steps(headers, body, lease, cloudevents.Bounds())
        return [event for event in events if event is not None]


@pytest.mark.parametrize("body", [b"[" + b"7," * 2000 + b"7]", b"[" + b"7," * 1_000_000 + b"7]"])
def test_a_batch_of_more_than_there_is_memory_for_is_refused_before_it_is_taken_apart(body: bytes) -> None:
    with pytest.raises(BadRequest) as problem:
        parsed(BATCH, body, room=1000 * PARSED_EVENT_BYTES)
    assert problem.value.status == 413


def test_what_an_event_says_is_not_said_back_at_any_length() -> None:
    [refusal] = parsed(STRUCTURED, json.dumps({**NEEDED, "specversion": "x" * 10_000}).encode())
    assert isinstance(refusal, Refusal)
    assert len(refusal.message) < 1000


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
MEMBERS = st.sampled_from([*NEEDED, "data", "data_base64", "time", "subject", "datacontenttype", "x", "X"])


@given(st.dictionaries(MEMBERS, ANYTHING | st.sampled_from(list(NEEDED.values()))), st.booleans())
def test_an_event_is_read_or_refused_and_what_is_read_is_whole(given: dict[str, Any], whole: bool) -> None:
    body = json.dumps({**NEEDED, **given} if whole else given).encode()
    (read,) = parsed(STRUCTURED, body)
    if isinstance(read, Refusal):
        return
    said = json.loads(read.envelope())
    kept = {name: value for name, value in json.loads(body).items() if value is not None}
    assert {name: value for name, value in said.items() if value is not None} == kept


@given(st.binary(max_size=60), st.sampled_from([STRUCTURED, BATCH, {**heads(), **JSON}, heads()]))
def test_no_body_brings_down_the_reader(body: bytes, headers: dict[str, str]) -> None:
    try:
        read = parsed(headers, body)
    except BadRequest:
        return
    for each in read:
        if isinstance(each, cloudevents.CloudEvent) and each.base64 is not None:
            assert base64.b64decode(each.base64) == body
