"""The native endpoint over a real socket."""

from __future__ import annotations

import gzip
import json

import pytest

from forwarder.apis.put_events import PutEvents
from tests.support.ingest import EVENT, MONITOR, NATIVE, Routes, request, serving

NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_one_event_is_accepted_and_is_in_the_queue_as_the_api_wants_it() -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, EVENT)
        assert answer.status == 202
        assert answer.headers["content-type"] == "application/json"
        assert answer.json["accepted"] == 1
        assert answer.json["refused"] == 0
        [batch] = ingest.batches()
        assert [event.id for event in batch.events] == [result["id"] for result in answer.json["results"]]
        entry = json.loads(batch.events[0].body)
        assert entry["Source"] == "shop"
        assert json.loads(entry["Detail"]) == {"n": 1}
        assert ingest.metrics.for_target("orders").accepted == 1


async def test_an_array_gives_one_result_per_event_in_order() -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, [{**EVENT, "Detail": {"n": n}} for n in range(25)])
        assert answer.json["accepted"] == 25
        ids = [result["id"] for result in answer.json["results"]]
        sent = {event.id: event.body for batch in ingest.batches() for event in batch.events}
        assert [json.loads(json.loads(sent[id])["Detail"])["n"] for id in ids] == list(range(25))


async def test_a_long_array_keeps_its_order_too() -> None:
    many = [{**EVENT, "Detail": {"n": n}} if n % 7 else {"no": n} for n in range(2500)]
    async with serving() as ingest:
        results = (await ingest.post(NATIVE, many)).json["results"]
        sent = {event.id: event.body for batch in ingest.batches() for event in batch.events}
        numbers = [
            json.loads(json.loads(sent[each["id"]])["Detail"])["n"] if "id" in each else 0 for each in results
        ]
        assert numbers == [n if n % 7 else 0 for n in range(2500)]


async def test_lines_are_events_and_blank_lines_are_nothing() -> None:
    body = b"\n".join([json.dumps(EVENT).encode(), b"", json.dumps(EVENT).encode(), b" "])
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body, NDJSON)
        assert answer.status == 202
        assert answer.json["accepted"] == 2


async def test_a_gzipped_body_is_unpacked() -> None:
    body = gzip.compress(json.dumps([EVENT] * 3).encode())
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body, {"Content-Encoding": "gzip"})
        assert (answer.status, answer.json["accepted"]) == (202, 3)


async def test_detail_may_be_text_as_aws_has_it() -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, {**EVENT, "Detail": '{"n":1}'})).status == 202
        assert json.loads(ingest.bodies()[0]["Detail"]) == {"n": 1}


async def test_one_bad_event_costs_its_neighbours_nothing() -> None:
    bad = {"Source": 7, "DetailType": "order", "Detail": {}}
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, [EVENT, bad, EVENT])
        assert answer.status == 202
        assert (answer.json["accepted"], answer.json["refused"]) == (2, 1)
        assert "Source" in answer.json["results"][1]["message"]
        assert ingest.count() == 2
        assert ingest.refused() == {"invalid": 1}


async def test_a_bad_line_is_named_by_its_number_and_costs_no_other() -> None:
    good = json.dumps(EVENT).encode()
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, good + b"\n\n{broken\n" + good, NDJSON)
        assert (answer.json["accepted"], answer.json["refused"]) == (2, 1)
        assert answer.json["results"][1]["message"].startswith("Line 3: ")
        assert answer.json["results"][1]["code"] == "SerializationException"


async def test_a_line_that_the_api_refuses_is_named_by_its_number() -> None:
    lines = [json.dumps(EVENT), "", json.dumps({**EVENT, "Source": ""})]
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, "\n".join(lines).encode(), NDJSON)
        assert answer.json["results"][1]["message"].startswith("Line 3: Parameter Source is not valid")


async def test_events_of_which_none_was_taken_are_400_with_a_result_each() -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, [{**EVENT, "Source": ""}, {**EVENT, "Detail": "[]"}])
        assert answer.status == 400
        assert [result["code"] for result in answer.json["results"]] == ["InvalidArgument", "MalformedDetail"]
        assert answer.json["error"]["code"] == "InvalidArgument"
        assert (answer.json["accepted"], answer.json["refused"]) == (0, 2)
        assert ingest.refused() == {"invalid": 2}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no events"),
        (b"  ", "no events"),
        (b"{", "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b'{"Source":"\xff"}', "JSON"),
        (b'{"a":1}\n{"a":2}', "None of the 2 events was accepted."),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "no events"),
        (b"7", "Expected `object`"),
        (b'[{"Sauce":"x"}]', "Sauce"),
    ],
)
async def test_what_is_no_event_is_400_and_says_why(body: bytes, words: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body)
        assert answer.status == 400
        assert words in answer.json["error"]["message"]
        assert ingest.count() == 0


async def test_an_unknown_target_is_404_and_the_known_ones_are_named() -> None:
    async with serving() as ingest:
        answer = await ingest.post("/v1/targets/nobody/events", EVENT)
        assert answer.status == 404
        assert answer.json["error"]["code"] == "ResourceNotFoundException"
        assert "nobody" in answer.json["error"]["message"]
        assert "orders, web, lab" in answer.json["error"]["message"]


async def test_another_path_is_404_in_the_native_shape() -> None:
    async with serving() as ingest:
        answer = await ingest.post("/v1/elsewhere", EVENT)
        assert (answer.status, list(answer.json)) == (404, ["error"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_405_and_says_which_is_allowed(method: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, method=method)
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"
        assert answer.body == b"" if method == "HEAD" else answer.json["error"]


@pytest.mark.parametrize(
    "content_type", ["application/xml", "multipart/form-data; boundary=x", "application/cbor"]
)
async def test_a_type_that_is_not_json_is_415(content_type: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, EVENT, {"Content-Type": content_type})
        assert answer.status == 415
        assert "application/x-ndjson" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "a/b+json",
    ],
)
async def test_types_that_clients_send_unasked_are_taken_as_json(content_type: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, EVENT, {"Content-Type": content_type})).status == 202


async def test_a_full_queue_takes_none_of_the_events_and_says_when_to_come_back() -> None:
    async with serving(Routes().add("orders", PutEvents(), max_events=3)) as ingest:
        assert (await ingest.post(NATIVE, [EVENT] * 2)).status == 202
        answer = await ingest.post(NATIVE, [EVENT] * 2)
        assert answer.status == 429
        assert answer.json["error"]["code"] == "ThrottlingException"
        assert (answer.headers["retry-after"], answer.headers["x-amz-retry-after"]) == ("2", "2000")
        assert ingest.count() == 2
        assert ingest.refused() == {"queue_full": 2}


async def test_more_events_than_the_queue_could_ever_hold_are_413() -> None:
    async with serving(Routes().add("orders", PutEvents(), max_events=3)) as ingest:
        answer = await ingest.post(NATIVE, [EVENT] * 4)
        assert answer.status == 413
        assert "retry-after" not in answer.headers
        assert ingest.refused() == {"too_large": 4}


async def test_an_event_larger_than_any_call_is_413_when_it_is_the_only_one() -> None:
    large = {**EVENT, "Detail": {"x": "a" * 2000}}
    routes = Routes().add("orders", PutEvents(), max_event_bytes=1000)
    async with serving(routes) as ingest:
        assert (await ingest.post(NATIVE, large)).status == 413
        answer = await ingest.post(NATIVE, [EVENT, large])
        assert (answer.status, answer.json["accepted"]) == (202, 1)
        assert ingest.refused() == {"too_large": 2}


async def test_two_requests_on_one_connection_are_both_answered() -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(NATIVE, EVENT) + request(NATIVE, EVENT))
        assert [(await peer.answer()).status for _ in range(2)] == [202, 202]
        await peer.close()
        assert ingest.count() == 2


async def test_rum_and_evidently_events_go_to_their_targets() -> None:
    view = {"type": "page_view", "details": {"page": "/"}}
    metric = {"timestamp": 1767323045, "type": "aws.evidently.custom", "data": {"a": 1}, "project": "shop"}
    async with serving() as ingest:
        assert (await ingest.post("/v1/targets/web/events", view)).status == 202
        assert (await ingest.post("/v1/targets/lab/events", metric)).status == 202
        [batch] = ingest.batches("web")
        assert json.loads(batch.key)["Id"] == MONITOR
        assert json.loads(batch.events[0].body)["type"] == "page_view"
        assert json.loads(ingest.bodies("lab")[0]["data"]) == {"a": 1}


AGENTS_LINES = [
    "application/x-ndjson",  # Vector (newline framing), Fluent Bit (json_lines), Fluentd (json)
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/jsonlines",
    "application/json-lines",
    "application/x-json-lines",
    "application/x-ldjson",
    "application/stream+json",  # Spring WebFlux before 6
    "application/x-json-stream",
    "application/vnd.elasticsearch+x-ndjson; compatible-with=8",  # Elastic's clients
    "text/x-ndjson",
    "text/ndjson;charset=UTF-8",
    "text/jsonl",
    "Application/X-NDJSON; Charset=utf-8",
    "application/json",  # Fluent Bit (json_stream; json_lines before 2.1)
    "application/json; charset=utf-8",  # rsyslog (omhttp, batch.format=newline)
    "text/plain; charset=ISO-8859-1",  # Apache HttpClient's StringEntity
    "application/octet-stream",
    "application/x-www-form-urlencoded",  # curl -d, and syslog-ng, which says no type
    "text/plain; charset=utf-8",  # Telegraf, NXLog
    "text/x-json",
    "application/x-json",
    "text/javascript; charset=UTF-8",
    "application/javascript",
    "application/jsonrequest",
    "application/x-newline-delimited-json",
    "application/json-seq",
    "*/*",
    "application/json,application/json; charset=utf-8",  # two headers, joined by a proxy
    "",
]


@pytest.mark.parametrize("content_type", AGENTS_LINES)
@pytest.mark.parametrize("count", [2, 3_000], ids=["few", "many"])
async def test_lines_are_taken_with_every_content_type_that_agents_send(
    content_type: str, count: int
) -> None:
    body = b"".join([json.dumps({**EVENT, "Detail": {"n": n}}).encode() + b"\n" for n in range(count)])
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, body, {"Content-Type": content_type})
        assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (202, count, 0)
        assert [json.loads(each["Detail"])["n"] for each in ingest.bodies()] == list(range(count))


@pytest.mark.parametrize("count", [2, 500, 3_000])
async def test_values_without_anything_between_them_are_events_too(count: int) -> None:
    """Fluent Bit's ``json_stream`` sends them so."""
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, json.dumps(EVENT).encode() * count)
        assert (answer.status, ingest.count()) == (202, count)


@pytest.mark.parametrize("count", [1, 300, 3_000])
async def test_a_bad_line_costs_no_other_whatever_the_content_type(count: int) -> None:
    line = json.dumps(EVENT).encode()
    body = b"\n".join([line] * count + [b'{"Source"', b'{"Sauce":1}'] + [line] * count)
    async with serving() as ingest:
        for headers in ({"Content-Type": "application/json"}, NDJSON):
            answer = await ingest.post(NATIVE, body, headers)
            assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (202, 2 * count, 2)


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
async def test_an_event_over_several_lines_is_one_event(size: int) -> None:
    body = json.dumps({**EVENT, "Detail": {"x": ["y" * 50] * (size // 50)}}, indent=2).encode() + b"\n \n"
    async with serving() as ingest:
        assert (await ingest.post(NATIVE, body)).json["accepted"] == 1


@pytest.mark.parametrize(
    "content_type",
    [
        "application/msgpack",
        "application/x-protobuf",
        "text/csv",
        "application/logplex-1",
    ],
)
async def test_a_type_that_is_not_json_is_415_and_named_with_what_is_accepted(content_type: str) -> None:
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, b"x", {"Content-Type": content_type})
        assert answer.status == 415
        message = answer.json["error"]["message"]
        assert repr(content_type) in message
        assert "application/x-ndjson" in message
        assert answer.headers["accept"] == "application/json, application/x-ndjson"
