"""The OpenAPI document is true: real answers conform to it, and what it takes and refuses the server does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jsonschema
import msgspec
import pytest

from forwarder import __version__
from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.ingest.openapi.answers import codes
from forwarder.receipts import Receipt
from tests.repository.test_readme import ROWS_NATIVE, Bad, answer_to, routes
from tests.support.ingest import EVENT, MONITOR, Answer, Ingest, Routes, one_of_each, serving, until
from tests.unit.ingest.test_cloudevents import BATCH, STRUCTURED, event

PATH = "/v1/openapi.json"
APIS: dict[str, Any] = {"orders": PutEvents, "web": PutRumEvents, "lab": PutProjectEvents}
ORDERS, CLOUD = "/v1/targets/orders/events", "/v1/cloudevents/orders"
RUM_EVENT = {"type": "page_view", "details": {"page": "/"}}
CUSTOM = {"type": "aws.evidently.custom", "data": {}}
FORMATS = jsonschema.FormatChecker()


async def described(ingest: Ingest) -> dict[str, Any]:
    answer = await ingest.post(PATH, b"", {}, "GET")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    said: dict[str, Any] = answer.json
    return said


def validator(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    whole = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(whole, format_checker=FORMATS)


def check(document: Mapping[str, Any], path: str, method: str, answer: Answer) -> None:
    """The answer is one that the document has for this operation: its status, its headers, its body."""
    response = document["paths"][path][method]["responses"][str(answer.status)]
    for name, header in response.get("headers", {}).items():
        said = answer.headers.get(name.lower())
        assert said is not None or not header.get("required"), name
        if said is not None:
            value = int(said) if header["schema"].get("type") == "integer" else said
            validator(document, header["schema"]).validate(value)
    if answer.body:
        schema = response["content"][answer.headers["content-type"]]["schema"]
        validator(document, schema).validate(answer.json)
    if answer.status >= 400 and (refused := answer.json["error"]["code"]) not in codes(answer.status):
        assert answer.status == 400
        assert "results" in answer.json, refused  # one of the events' own


# --- the document


async def test_it_is_served_to_get_and_head_alone() -> None:
    async with serving() as ingest:
        document = await described(ingest)
        assert (document["openapi"], document["info"]["version"]) == ("3.1.0", __version__)
        head = await ingest.post(PATH, b"", {}, "HEAD")
        assert (head.status, head.body) == (200, b"")
        for method in ("POST", "DELETE"):
            answer = await ingest.post(PATH, b"", {}, method)
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_it_has_the_paths_of_its_targets_and_every_schema_is_one() -> None:
    async with serving(one_of_each()) as ingest:
        document = await described(ingest)
    native = {f"/v1/targets/{name}/events" for name in APIS}
    assert set(document["paths"]) == {*native, CLOUD}
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    refs = set(references(document))
    assert refs == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(ref := node.get("$ref"), str):
            yield ref
        for each in node.values():
            yield from references(each)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


@pytest.mark.parametrize("api", APIS.values())
def test_a_native_schema_has_the_fields_of_its_struct_and_no_other(api: Any) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(api.native_type)}
    assert fields == set(api.native_schema["properties"]) >= set(api.native_schema["required"])


# --- real answers

NOT_DESCRIBED = ("an unknown target", "an unknown path", "not POST")


@pytest.mark.parametrize("name", [name for name in ROWS_NATIVE if name not in NOT_DESCRIBED])
async def test_every_refusal_of_the_readme_is_in_it(name: str) -> None:
    bad: Bad = ROWS_NATIVE[name]
    async with serving(routes()) as ingest:
        document = await described(ingest)
        check(document, bad.path, "post", await answer_to(bad, ingest))


BAD_CLOUDEVENTS: list[tuple[Any, dict[str, str], int]] = [
    ({}, STRUCTURED, 400),
    ([{}, 7], BATCH, 400),
    (b"{", STRUCTURED, 400),
    ({}, {}, 415),
    (event(source="aws.s3"), STRUCTURED, 400),
    (event(data="x" * 1_048_576), STRUCTURED, 413),
    (b"", {**STRUCTURED, "X-Long": "x" * 17_000}, 431),
    (b"x", {**STRUCTURED, "Content-Encoding": "br"}, 415),
]


@pytest.mark.parametrize(("body", "headers", "status"), BAD_CLOUDEVENTS)
async def test_every_refusal_of_cloudevents_is_in_it(body: Any, headers: dict[str, str], status: int) -> None:
    async with serving() as ingest:
        answer = await ingest.post(CLOUD, body, headers)
        assert answer.status == status
        check(await described(ingest), CLOUD, "post", answer)


GOOD: list[tuple[str, Any, dict[str, str]]] = [
    (ORDERS, EVENT, {}),
    (ORDERS, [EVENT, 7], {}),
    (ORDERS, json.dumps(EVENT).encode(), {"Content-Type": "application/x-ndjson"}),
    ("/v1/targets/web/events", RUM_EVENT, {}),
    ("/v1/targets/lab/events", CUSTOM, {}),
    (CLOUD, event(), STRUCTURED),
    (CLOUD, [], BATCH),
    (CLOUD, [event(), {}], BATCH),
]


@pytest.mark.parametrize(("path", "body", "headers"), GOOD)
async def test_every_answer_to_what_is_taken_is_in_it(path: str, body: Any, headers: dict[str, str]) -> None:
    async with serving() as ingest:
        answer = await ingest.post(path, body, headers)
        assert answer.status == 202
        check(await described(ingest), path, "post", answer)


async def test_the_handshake_is_in_it() -> None:
    async with serving() as ingest:
        document = await described(ingest)
        for origin, status in (("a.example", 200), ("a b", 400)):
            answer = await ingest.post(CLOUD, b"", {"WebHook-Request-Origin": origin}, "OPTIONS")
            assert answer.status == status
            check(document, CLOUD, "options", answer)


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt("delivered", aws_id="aws-1"),
        Receipt("delivered"),
        Receipt("rejected", "InvalidArgument", "No."),
        Receipt("expired", "ThrottlingException", "Too old."),
        None,
    ],
)
@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (ORDERS, [EVENT, 7], {}),
        (CLOUD, event(), {**STRUCTURED, "Prefer": "wait=1"}),
        (CLOUD, [event(), 7], BATCH),
    ],
)
async def test_every_fate_is_in_it(receipt: Receipt | None, path: str, body: Any, headers: Any) -> None:
    async with serving() as ingest:
        document = await described(ingest)
        asking = asyncio.create_task(ingest.post(path, body, {"Prefer": "wait=1", **headers}))
        await until(lambda: bool(ingest.receipts.waits))
        if receipt is None:
            ingest.receipts.close()
        else:
            id, wait = ingest.receipts.waits.popitem()
            wait.tell(id, receipt)
        answer = await asking
        assert answer.status == (202 if receipt is None else 200)
        check(document, path, "post", answer)


# --- what it takes is taken, and what it refuses is refused

BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/"
TIMES = [0, 0.5, 253_402_300_799, 253_402_300_800, -1, "2026-11-21T12:00:00Z", "soon", True, []]
OBJECTS: list[Any] = [{}, {"a": [None]}, [], 7, True]
UUIDS = [MONITOR, MONITOR[:-1], MONITOR + "0", "x" * 36, 7]
SAMPLES: dict[str, dict[str, list[Any]]] = {
    "orders": {
        "Time": TIMES,
        "Source": ["a", "", "aws.", "aws", "xaws.", 7],
        "Resources": [[], ["a"], ["x" * 2048], ["x" * 2049], [7], "a"],
        "DetailType": ["x" * 128, "x" * 129, "", "é" * 128],
        "Detail": OBJECTS,
        "EventBusName": ["default", "x" * 1600, "x" * 1601, "", "a b", BUS + "a", "a/b"],
        "TraceHeader": ["x" * 500, "x" * 501, ""],
        "EndpointId": ["a.b", "", "a", "a" * 24 + "." + "b" * 25, "a" * 25 + "." + "b" * 25],
        "source": ["a"],
    },
    "web": {
        "id": UUIDS,
        "timestamp": TIMES,
        "type": ["x" * 256, "x" * 257, ""],
        "details": OBJECTS,
        "metadata": OBJECTS,
        "AppMonitorId": UUIDS,
        "AppMonitorDetails": [{}, {"name": "a"}, {"name": 7}, {"other": 7}, []],
        "UserDetails": [{}, *({"userId": each} for each in UUIDS), *({"sessionId": each} for each in UUIDS)],
        "Alias": ["x" * 255, "x" * 256, ""],
        "SessionMetadata": OBJECTS,
        "BatchId": UUIDS,
        "other": [7],
    },
    "lab": {
        "timestamp": TIMES,
        "type": ["aws.evidently.evaluation", "custom", ""],
        "data": OBJECTS,
        "project": ["x" * 2048, "x" * 2049, "", "a b", "arn:aws:evidently:eu-west-1:1:project/a"],
        "other": [7],
    },
}
BASE: dict[str, dict[str, Any]] = {"orders": {**EVENT}, "web": RUM_EVENT, "lab": CUSTOM}


def variants(target: str) -> Iterator[dict[str, Any]]:
    """A good event, and it again with each field in every way, null, and left out."""
    yield BASE[target]
    for field, values in SAMPLES[target].items():
        for value in [*values, None]:
            yield {**BASE[target], field: value}
        yield {name: value for name, value in BASE[target].items() if name != field}


@pytest.mark.parametrize("target", SAMPLES)
async def test_a_native_event_is_taken_if_and_only_if_its_schema_has_it(target: str) -> None:
    async with serving(one_of_each()) as ingest:
        document = await described(ingest)
        valid = validator(document, {"$ref": f"#/components/schemas/{APIS[target].kind}"}).is_valid
        for each in variants(target):
            answer = await ingest.post(f"/v1/targets/{target}/events", each)
            assert valid(each) == (answer.status == 202), (each, answer.body)


CLOUD_SAMPLES: dict[str, list[Any]] = {
    "specversion": ["0.3", ""],
    "id": ["x", "", 7],
    "source": ["/a", "urn:a:b", "", "aws.s3", 7],
    "type": ["x" * 128, "x" * 129, ""],
    "subject": ["x", "", 7],
    "time": ["2026-11-21T12:00:00+01:00", "yesterday", 7],
    "datacontenttype": ["application/json", "", 7],
    "dataschema": ["http://example.com/a", "/a", "", 7],
    "eventbusname": ["default", "", 0, True, "a b", "x" * 1601],
    "data": [{}, [], "x", 7],
    "data_base64": ["AAE=", 7],
    "anyextension": ["x", True, 7, {}, []],
}


CLOUD_PAIRS: list[dict[str, Any]] = [
    {"data": 1, "data_base64": "AA=="},
    {"data": None, "data_base64": "AA=="},
    {"data": 1, "datacontenttype": "text/plain"},
    {"data": "x", "datacontenttype": "text/plain"},
    {"data": None, "datacontenttype": "text/plain"},
    {"data": {}, "datacontenttype": "application/a+json; x=y"},
    {"data": {}, "datacontenttype": "json"},
    {"x": 7.0},
    {"x": 7.5},
    {"x": 2**31},
    {"x": -(2**31)},
    {"x": "a\u0080b"},
    {"x-y": "a"},
    {"resources": ""},
]


DATA_PAIRS: list[dict[str, Any]] = [
    {},
    {"data": {}},
    {"data": "{}"},
    {"data_base64": "e30="},
    *CLOUD_PAIRS,
]


async def test_a_cloudevent_is_taken_if_and_only_if_its_schema_has_it() -> None:
    async with serving() as ingest:
        document = await described(ingest)
        valid = validator(document, {"$ref": "#/components/schemas/CloudEvent"}).is_valid
        one_by_one: list[dict[str, Any]] = [
            {field: value} for field, values in CLOUD_SAMPLES.items() for value in [*values, None]
        ]
        for more in [*one_by_one, *CLOUD_PAIRS]:
            each = event(**more)
            answer = await ingest.post(CLOUD, each, STRUCTURED)
            assert valid(each) == (answer.status == 202), (each, answer.body)


async def test_a_target_for_data_takes_what_its_own_schema_has() -> None:
    async with serving(Routes().add("orders", PutEvents(cloudevents="data"), default=True)) as ingest:
        document = await described(ingest)
        content = document["paths"][CLOUD]["post"]["requestBody"]["content"]
        valid = validator(document, content["application/cloudevents+json"]["schema"]).is_valid
        for more in DATA_PAIRS:
            each = event(**more)
            answer = await ingest.post(CLOUD, each, STRUCTURED)
            assert valid(each) == (answer.status == 202), (each, answer.body)


LENGTHS = ("maxLength", "minLength", "exclusiveMaximum", "minimum")


def bounded(schema: Any) -> Iterator[tuple[str, int]]:
    if isinstance(schema, dict):
        yield from ((name, schema[name]) for name in LENGTHS if name in schema)
        for each in schema.values():
            yield from bounded(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from bounded(each)


@pytest.mark.parametrize("target", SAMPLES)
def test_every_limit_has_samples_on_both_of_its_sides(target: str) -> None:
    for field, rule in APIS[target].native_schema["properties"].items():
        samples = [
            x for value in SAMPLES[target][field] for x in (value if isinstance(value, list) else [value])
        ]
        texts = {len(sample) for sample in samples if isinstance(sample, str)}
        numbers = {sample for sample in samples if isinstance(sample, int)}
        for name, limit in bounded(rule):
            sides: Callable[[int], set[int]] = {
                "maxLength": lambda n: {n, n + 1},
                "minLength": lambda n: {n - 1},
                "exclusiveMaximum": lambda n: {n - 1, n},
                "minimum": lambda n: {n, n - 1},
            }[name]
            wanted = sides(limit)
            seen = texts if name.endswith("Length") else numbers
            assert wanted <= seen, (field, name, limit)


async def test_a_body_and_an_event_may_be_as_large_as_it_says_and_no_larger() -> None:
    async with serving(max_body=2_000_000) as ingest:
        limits = (await described(ingest))["paths"][ORDERS]["post"]["x-limits"]
        assert limits == {
            "max_body_bytes": 2_000_000,
            "max_header_bytes": 16_384,
            "max_event_bytes": 1_048_575,
        }
        spare = limits["max_event_bytes"] - len("s" + "t" + '{"x":""}')
        for more, status in ((0, 202), (1, 413)):
            large = {
                "Source": "s",
                "DetailType": "t",
                "Detail": json.dumps({"x": "x" * (spare + more)}).replace(" ", ""),
            }
            assert (await ingest.post(ORDERS, large)).status == status
        whole = json.dumps(EVENT).encode()
        for more, status in ((0, 202), (1, 413)):
            padded = whole + b" " * (limits["max_body_bytes"] - len(whole) + more)
            assert (await ingest.post(ORDERS, padded)).status == status
