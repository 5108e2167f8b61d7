"""One bad entry costs no other, whatever is wrong with it, in small bodies and in those read in slices."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ingest import ENTRY, EVENT, MONITOR, NATIVE, PUT_EVENTS, one_of_each, serving

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STRUCTURED = {"Content-Type": "application/cloudevents+json"}
LINES = {"Content-Type": "application/x-ndjson"}
CLOUDEVENTS = "/v1/cloudevents/orders"
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"n": 1}}
EVIDENTLY = {"timestamp": 1767323045, "type": "aws.evidently.custom", "data": "{}"}
PADDING = "x" * 140_000
"""Makes a body one of those that are taken apart in slices."""
SESSION = {
    "BatchId": "00000000-0000-4000-8000-000000000001",
    "AppMonitorDetails": {},
    "UserDetails": {},
}
RUM = {"id": "00000000-0000-4000-8000-000000000002", "timestamp": 1767323045, "type": "t", "details": "{}"}

BROKEN: dict[str, bytes] = {
    "null": b"null",
    "a number": b"7",
    "a text": b'"text"',
    "an array": b"[[]]",
    "nothing": b"{}",
    "no word of JSON": b"nul",
    "NaN": b'{"Time":NaN,"timestamp":NaN,"specversion":NaN}',
    "a number beyond all numbers": b'{"Time":1e999,"timestamp":1e999,"specversion":1e999}',
    "a zero in front": b"01",
    "single quotes": b"{'a':1}",
    "no value": b'{"a":}',
    "no comma": b'{"a":1 "b":2}',
    "a comma too many": b'{"a":1,}',
    "a wrong bracket": b'{"a":1]',
    "a bad escape": rb'{"Source":"\q","data":"\q","id":"\q"}',
    "a control character": b'{"Source":"\x01","data":"\x01","id":"\x01"}',
    "no UTF-8": b'{"Source":"\xff","data":"\xff","id":"\xff"}',
    "two thousand levels": b'{"Source":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "half a surrogate pair": rb'{"Source":"\ud83d","data":"\ude00","id":"\ud83d"}',
    "half a pair in a name": rb'{"\ud83d":1}',
    "a twin": b'{"Source":"a","Source":7,"id":"1","id":7,"data":"{}","data":7}',
    "many attributes": json.dumps({**CLOUD_EVENT, **{f"a{i}": i for i in range(300)}}).encode(),
}
ELEMENTS = st.sampled_from(list(BROKEN.values())) | st.recursive(
    st.sampled_from([b"null", b"tru", b"-", b"1.", b'"\\ud83d"', b'"\xff"', b'"\x02"', b"NaN", b"$", b"{}"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: b"[%b]" % b",".join(some))
        | st.lists(inner, max_size=3).map(lambda some: b"{%b}" % b",".join(b'"k":' + each for each in some))
    ),
    max_leaves=6,
)


def good(dialect: str, large: bool) -> dict[str, Any]:
    padding = PADDING if large else ""
    by_dialect: dict[str, dict[str, Any]] = {
        "native": {**EVENT, "Detail": {"p": padding}},
        "lines": {**EVENT, "Detail": {"p": padding}},
        "put_events": {**ENTRY, "Detail": json.dumps({"p": padding})},
        "evidently": {**EVIDENTLY, "data": json.dumps({"p": padding})},
        "batch": {**CLOUD_EVENT, "data": {"p": padding}},
    }
    return by_dialect[dialect]


SENT: dict[str, Callable[[list[bytes]], tuple[str, bytes, dict[str, str]]]] = {
    "native": lambda some: (NATIVE, b"[%b]" % b",".join(some), {}),
    "lines": lambda some: (NATIVE, b"\n".join(some), LINES),
    "put_events": lambda some: ("/", b'{"Entries":[%b]}' % b",".join(some), PUT_EVENTS),
    "evidently": lambda some: ("/events/projects/shop", b'{"events":[%b]}' % b",".join(some), {}),
    "batch": lambda some: (CLOUDEVENTS, b"[%b]" % b",".join(some), BATCH),
}
TARGETS = {"evidently": "lab"}


def accepted(answer: Any) -> list[bool]:
    rows = answer.get("results") or answer.get("Entries") or answer.get("eventResults")
    return ["code" not in row and "ErrorCode" not in row and "errorCode" not in row for row in rows]


async def check_neighbours(dialect: str, large: bool, element: bytes, place: int) -> list[bool]:
    """Put the element between good ones; which were accepted."""
    some = [
        json.dumps(
            {**good(dialect, large and n == 0), **({"id": str(n)} if dialect == "batch" else {})}
        ).encode()
        for n in range(3)
    ]
    some.insert(place, element)
    path, body, headers = SENT[dialect](some)
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(path, body, headers)
        assert answer.status in (200, 202), answer.body
        return accepted(answer.json)


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("dialect", SENT)
async def test_a_broken_entry_is_refused_alone(dialect: str, large: bool) -> None:
    for name, element in BROKEN.items():
        if dialect == "batch" or name != "many attributes":
            assert await check_neighbours(dialect, large, element, 1) == [True, False, True, True], name


@pytest.mark.parametrize("dialect", SENT)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ELEMENTS, st.integers(0, 3), st.booleans())
async def test_any_broken_entry_costs_no_neighbour(
    dialect: str, element: bytes, place: int, large: bool
) -> None:
    told = await check_neighbours(dialect, large, element, place)
    assert len(told) == 4
    del told[place]
    assert told == [True] * 3


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(
    ("element", "words"),
    [
        (b'{"a":1', "it ends too early (byte"),
        (b'{"a":"b}', "a string is not closed, or a quote in it is not escaped (near byte"),
        (b"", "a value is missing (byte"),
    ],
)
@pytest.mark.parametrize("dialect", ["native", "put_events", "evidently", "batch"])
async def test_where_nobody_knows_where_an_entry_ends_the_whole_is_refused_with_the_place(
    dialect: str, element: bytes, words: str, large: bool
) -> None:
    first = json.dumps(good(dialect, large)).encode()
    path, body, headers = SENT[dialect]([first, element, first])
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(path, body, headers)
        assert answer.status == 400
        assert words in answer.body.decode()
        assert ingest.count(TARGETS.get(dialect, "orders")) == 0


async def test_a_call_of_which_no_entry_can_be_read_is_refused_as_aws_refuses_it() -> None:
    async with serving() as ingest:
        for bad in ({**ENTRY, "Detail": {}}, 7, None):
            answer = await ingest.put_events(bad, bad)
            assert (answer.status, answer.json["__type"]) == (400, "SerializationException")
        assert ingest.count() == 0


async def test_an_entry_of_a_wrong_type_has_a_code_that_no_sdk_tries_again_and_its_member() -> None:
    async with serving() as ingest:
        answer = await ingest.put_events(ENTRY, {**ENTRY, "Detail": {}})
        assert (answer.status, answer.json["FailedEntryCount"]) == (200, 1)
        refused = answer.json["Entries"][1]
        assert refused["ErrorCode"] == "InvalidArgument"
        assert "`$.Entries[1].Detail`" in refused["ErrorMessage"]


async def test_an_entry_beyond_the_limit_of_a_call_costs_no_other() -> None:
    async with serving() as ingest:
        answer = await ingest.put_events(ENTRY, {**ENTRY, "Detail": json.dumps({"a": "x" * 1_100_000})})
        assert [row.get("ErrorCode") for row in answer.json["Entries"]] == [None, "EntryTooLarge"]
        two = {
            **ENTRY,
            "Detail": json.dumps({"a": "x" * 600_000}),
        }  # each fits, and both do not: AWS's answer
        assert (await ingest.put_events(two, two)).status == 400


async def test_an_entry_with_too_many_resources_costs_no_other_in_a_large_call_either() -> None:
    async with serving() as ingest:
        for padding in ("", PADDING):
            many = {**ENTRY, "Resources": ["arn:aws:s3:::bucket"] * 1001}
            answer = await ingest.put_events({**ENTRY, "Detail": json.dumps({"p": padding})}, many)
            assert [row.get("ErrorCode") for row in answer.json["Entries"]] == [None, "InvalidArgument"]


# --- halves of surrogate pairs

HALF = rb'{"a":"\uD83d","\ude00":["\\ud83d \ud83d\ude00 \udbff"]}'


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(
    ("path", "before", "after", "headers"),
    [
        (NATIVE, b'[{"Source":"a","DetailType":"b","Detail":', b"}]", {}),
        (NATIVE, b'{"Source":"a","DetailType":"b","Detail":', b"}", {}),
        (NATIVE, b'{"Source":"a","DetailType":"b","Detail":', b"}\n", LINES),
        (CLOUDEVENTS, b'[{"specversion":"1.0","id":"1","source":"s","type":"t","data":', b"}]", BATCH),
        (CLOUDEVENTS, b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":', b"}", STRUCTURED),
        (CLOUDEVENTS, b'{"specversion":"1.0","id":"1","source":"s","type":"t","x":', b"}", STRUCTURED),
        (
            CLOUDEVENTS,
            b"",
            b"",
            {
                "Content-Type": "application/json",
                **{f"ce-{name}": str(CLOUD_EVENT[name]) for name in ("specversion", "id", "source", "type")},
            },
        ),
    ],
    ids=["array", "one", "lines", "batch", "structured", "extension", "binary"],
)
async def test_halves_of_surrogate_pairs_are_carried_byte_for_byte(
    path: str, before: bytes, after: bytes, headers: dict[str, str], large: bool
) -> None:
    half = HALF[:-1] + b',"p":"' + (PADDING.encode() if large else b"") + b'"}'
    async with serving() as ingest:
        answer = await ingest.post(path, before + half + after, headers)
        assert answer.status == 202, answer.body
        (entry,) = ingest.bodies()
        assert half.decode() in entry["Detail"]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_a_half_that_is_escaped_once_more_is_carried_in_texts_of_json(large: bool) -> None:
    text = json.dumps({"a": "\ud83d", "p": PADDING if large else ""})
    async with serving(one_of_each()) as ingest:
        assert (await ingest.put_events({**ENTRY, "Detail": text})).json["FailedEntryCount"] == 0
        assert ingest.bodies()[0]["Detail"] == text
        call = {**SESSION, "RumEvents": [{**RUM, "details": text}]}
        assert (await ingest.post(f"/appmonitors/{MONITOR}", call)).status == 200
        assert ingest.bodies("web")[0]["details"] == text


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
async def test_a_rum_event_with_a_half_in_a_string_costs_no_other(large: bool) -> None:
    bad = {**RUM, "details": '{"a":"\ud83d"}'}
    events = [{**RUM, "details": json.dumps({"p": PADDING if large else ""})}, bad, RUM]
    async with serving(one_of_each()) as ingest:
        await ingest.post(f"/appmonitors/{MONITOR}", {**SESSION, "RumEvents": events})
        assert len(ingest.bodies("web")) == 2
        assert ingest.refused("web") == {"invalid": 1}
        answer = await ingest.post(f"/appmonitors/{MONITOR}", {**SESSION, "RumEvents": [bad]})
        assert answer.status == 400
        assert "details has half of a surrogate pair" in answer.json["message"]


CUT = json.dumps({**EVENT, "Detail": {"a": "\ud83d"}})


@pytest.mark.parametrize(("first", "refused"), [(CUT, 0), ('{"Source":nope}', 1)])
@pytest.mark.parametrize("size", [10, 30_000])
async def test_the_first_of_several_lines_of_no_declared_type_costs_only_itself(
    first: str, refused: int, size: int
) -> None:
    rest = [json.dumps({**EVENT, "Detail": {"a": "x" * size}})] * 3
    async with serving() as ingest:
        answer = await ingest.post(NATIVE, "\n".join([first, *rest]).encode())
        assert (answer.status, answer.json["accepted"], answer.json["refused"]) == (
            202,
            4 - refused,
            refused,
        )


async def test_large_events_in_one_line_are_told_apart() -> None:
    event = json.dumps({**EVENT, "Detail": {"a": "x" * 100_000}})
    async with serving() as ingest:
        for between in ("", " "):
            answer = await ingest.post(NATIVE, between.join([event] * 3).encode(), LINES)
            assert (answer.status, answer.json["accepted"]) == (202, 3)


async def test_pretty_printed_lines_with_halves_are_told_apart() -> None:
    pretty = [json.dumps({**EVENT, "Detail": {"a": "\ud83d", "n": n}}, indent=1) for n in range(300)]
    async with serving() as ingest:
        for some in (pretty[:3], pretty):
            answer = await ingest.post(NATIVE, "\n".join(some).encode(), LINES)
            assert (answer.status, answer.json["refused"]) == (202, 0)


LATIN_1: list[tuple[str, bytes]] = [
    ("native", b'{"Source":"caf\xe9","DetailType":"t","Detail":{}}'),
    ("native", b'{"Source":"s","DetailType":"t","Detail":{"a":"caf\xe9"}}'),
    ("native", b'{"Source":"s","DetailType":"t","Detail":"{\\"a\\":\\"caf\xe9\\"}"}'),
    ("lines", b'{"Source":"s","DetailType":"t","Detail":{"a":"caf\xe9"}}'),
    ("put_events", b'{"Source":"s","DetailType":"t","Detail":"{\\"a\\":\\"caf\xe9\\"}"}'),
    ("evidently", b'{"timestamp":1767323045,"type":"aws.evidently.custom","data":"caf\xe9"}'),
    ("batch", b'{"specversion":"1.0","id":"caf\xe9","source":"/s","type":"t"}'),
    ("batch", b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":"caf\xe9"}}'),
]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("dialect", "element"), LATIN_1)
async def test_a_byte_that_is_not_utf_8_is_named_with_its_encoding(
    dialect: str, element: bytes, large: bool
) -> None:
    path, body, headers = SENT[dialect]([json.dumps(good(dialect, large)).encode(), element])
    async with serving(one_of_each()) as ingest:
        answer = await ingest.post(path, body, headers)
        assert accepted(answer.json) == [True, False]
        said = str(answer.json)
        assert "not valid UTF-8 (byte " in said
        assert (
            "0xE9 is é in Latin-1 (ISO 8859-1), or the first byte of a character that was cut. Send UTF-8"
        ) in said
