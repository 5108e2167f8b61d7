from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.apis.put_events import (
    DEFAULT_MAX_REQUEST_BYTES,
    Entry,
    NativeEvent,
    PutEvents,
    Request,
    check_call,
    render_results,
    size,
)
from forwarder.model import Draft, Refusal
from tests.aws_cases import Answer, Case, put_events

ARRIVED = 1767323045.678
GOOD = put_events.GOOD

few = settings(max_examples=60, deadline=None)


def entry(**members: Any) -> Entry:
    return msgspec.convert({**GOOD, **members}, Entry)


def native(body: str | bytes) -> NativeEvent:
    return msgspec.json.decode(body, type=NativeEvent)


def admitted(draft: Draft | Refusal) -> Draft:
    assert isinstance(draft, Draft), draft
    return draft


def refused(draft: Draft | Refusal) -> Refusal:
    assert isinstance(draft, Refusal), draft
    return draft


def counted_by_the_page(entry: dict[str, Any]) -> int:
    """AWS's formula, written down from its page once more."""
    total = 0
    if "Time" in entry:
        total += 14
    total += len(entry["Source"].encode("utf-8"))
    total += len(entry["DetailType"].encode("utf-8"))
    if "Detail" in entry:
        total += len(entry["Detail"].encode("utf-8"))
    for resource in entry.get("Resources", []):
        if resource:
            total += len(resource.encode("utf-8"))
    return total


# --- the byte formula


@pytest.mark.parametrize(
    ("name", "members", "counted"), put_events.SIZES, ids=[s[0] for s in put_events.SIZES]
)
def test_an_entry_counts_what_awss_page_says(name: str, members: dict[str, Any], counted: int) -> None:
    assert counted_by_the_page(members) == counted
    assert size(msgspec.convert(members, Entry)) == counted
    draft = admitted(PutEvents().admit(msgspec.convert(members, Entry), ARRIVED))
    assert draft.size == (counted if "Time" in members else counted + 14)


ENTRIES = st.fixed_dictionaries(
    {
        "Source": st.text(min_size=1).map(lambda text: "s" + text),
        "DetailType": st.text(min_size=1, max_size=128),
        "Detail": st.dictionaries(st.text(), st.text(), max_size=3).flatmap(
            lambda detail: st.booleans().map(lambda ascii_only: json.dumps(detail, ensure_ascii=ascii_only))
        ),
    },
    optional={
        "Time": st.integers(0, 2**31) | st.floats(0, 2**31),
        "Resources": st.lists(st.text(max_size=20), max_size=3),
        "EventBusName": st.sampled_from(["default", "orders"]),
        "TraceHeader": st.text(min_size=1, max_size=20),
    },
)


@given(ENTRIES)
@few
def test_any_entry_counts_what_awss_page_says(members: dict[str, Any]) -> None:
    assert size(msgspec.convert(members, Entry)) == counted_by_the_page(members)


@given(ENTRIES)
@few
def test_an_admitted_entry_says_what_its_sender_said(members: dict[str, Any]) -> None:
    wire = json.dumps({"Entries": [members]}).encode()
    request = msgspec.json.decode(wire, type=Request)
    draft = admitted(PutEvents().admit(request.Entries[0], ARRIVED))
    said = json.loads(draft.body)
    assert said == {"Time": 1767323045, **members}
    assert draft.size == counted_by_the_page(said)


@given(ENTRIES, st.booleans())
@few
def test_a_native_event_becomes_the_entry_that_the_wire_form_becomes(
    members: dict[str, Any], as_text: bool
) -> None:
    detail = json.loads(members["Detail"])
    event = native(json.dumps({**members, "Detail": json.dumps(detail) if as_text else detail}))
    said = json.loads(admitted(PutEvents().admit_native(event, ARRIVED)).body)
    assert json.loads(said.pop("Detail")) == detail
    del members["Detail"]
    assert said == {"Time": 1767323045, **members}


# --- the limit of bytes


@pytest.mark.parametrize("limit", [200, 262_143, DEFAULT_MAX_REQUEST_BYTES])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_an_entry_alone_over_the_limit_is_too_large(limit: int, extra: int) -> None:
    large = msgspec.convert(put_events.entry_of(limit + extra), Entry)
    draft = PutEvents(max_request_bytes=limit).admit(large, ARRIVED)
    if extra > 0:
        assert refused(draft).reason == "too_large"
        assert f"{limit + 1} bytes" in refused(draft).message
    else:
        assert admitted(draft).size == limit + extra


@pytest.mark.parametrize(("room", "stamped"), [(13, False), (14, True), (15, True)])
def test_an_entry_gets_its_arrival_as_time_when_that_fits(room: int, stamped: bool) -> None:
    tight = msgspec.convert(put_events.entry_of(1000 - room), Entry)
    draft = admitted(PutEvents(max_request_bytes=1000).admit(tight, ARRIVED))
    assert json.loads(draft.body).get("Time") == (1767323045 if stamped else None)
    assert draft.size == 1000 - room + (14 if stamped else 0)


def test_the_default_limit_is_awss() -> None:
    assert put_events.LIMIT == DEFAULT_MAX_REQUEST_BYTES


@pytest.mark.parametrize("case", put_events.SIZE_LIMIT, ids=lambda case: case["name"])
def test_a_call_is_measured_against_the_limit(case: Case) -> None:
    _check(case)


# --- AWS's answers to whole requests


def _check(case: Case) -> None:
    expect = case["expect"]
    request = msgspec.json.decode(case["request"]["body"], type=Request)
    refusal = check_call(request.Entries)
    if expect["status"] == 400:
        assert refusal is not None
        assert refusal.code == expect["code"]
        assert expect["message"] in refusal.message
        return
    assert refusal is None
    drafts = [PutEvents().admit(entry, ARRIVED) for entry in request.Entries]
    for draft, result in zip(drafts, expect["results"], strict=True):
        if result is None:
            admitted(draft)
        else:
            code, message = result
            assert refused(draft).code == code
            assert message in ("", refused(draft).message)


def _reads(case: Case) -> bool:
    return case["expect"].get("code") != "SerializationException"


@pytest.mark.parametrize("case", put_events.ENTRIES, ids=lambda case: case["name"])
def test_entries_are_judged_as_aws_does(case: Case) -> None:
    _check(case)


@pytest.mark.parametrize(
    "case", [case for case in put_events.WHOLE_CALLS if _reads(case)], ids=lambda case: case["name"]
)
def test_calls_are_refused_as_aws_does(case: Case) -> None:
    _check(case)


@pytest.mark.parametrize(
    "case", [case for case in put_events.WHOLE_CALLS if not _reads(case)], ids=lambda case: case["name"]
)
def test_what_is_no_request_cannot_be_read(case: Case) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(case["request"]["body"], type=Request)


@pytest.mark.parametrize("count", [1, 9, 10])
def test_one_to_ten_entries_are_a_call(count: int) -> None:
    assert check_call([entry()] * count) is None


def test_the_limit_of_a_call_can_be_another() -> None:
    assert check_call([entry()] * 2, 56) is None
    over = check_call([entry()] * 2, 55)
    assert over is not None
    assert over.reason == "too_large"


# --- members


@pytest.mark.parametrize(("member", "limit"), put_events.MEMBER_LIMITS)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_member_longer_than_its_limit_is_refused_by_name(member: str, limit: int, extra: int) -> None:
    text = "t" * (limit + extra)
    draft = PutEvents().admit(entry(**{member: ["a", text] if member == "Resources" else text}), ARRIVED)
    if extra > 0:
        assert refused(draft).code == "InvalidArgument"
        assert refused(draft).message.startswith(f"Parameter {member} is not valid. Reason: ")
    else:
        admitted(draft)


def test_characters_are_limited_not_bytes() -> None:
    admitted(PutEvents().admit(entry(DetailType="\u00e9" * 128), ARRIVED))
    refused(PutEvents().admit(entry(DetailType="\u00e9" * 129), ARRIVED))


@pytest.mark.parametrize(("bus", "good"), put_events.BUSES)
def test_a_bus_has_a_name_of_awss_pattern(bus: str, good: bool) -> None:
    draft = PutEvents().admit(entry(EventBusName=bus), ARRIVED)
    if good:
        assert json.loads(admitted(draft).body)["EventBusName"] == bus
    else:
        assert "EventBusName" in refused(draft).message


def test_an_empty_trace_header_is_refused() -> None:
    assert "TraceHeader" in refused(PutEvents().admit(entry(TraceHeader=""), ARRIVED)).message


@pytest.mark.parametrize("time", [-1, 1767323045678, "yesterday", ""])
def test_a_time_that_is_none_is_refused(time: int | str) -> None:
    draft = refused(PutEvents().admit(entry(Time=time), ARRIVED))
    assert draft.code == "InvalidArgument"
    assert draft.message.startswith("Parameter Time is not valid. Reason: it is ")


def test_a_time_in_iso_8601_is_sent_as_a_number() -> None:
    draft = admitted(PutEvents().admit(entry(Time="2026-01-02T03:04:05.5Z"), ARRIVED))
    assert json.loads(draft.body)["Time"] == 1767323045.5


# --- the envelope


def test_entries_of_an_endpoint_have_it_as_their_key() -> None:
    api = PutEvents()
    keys = [admitted(api.admit(entry(), ARRIVED, id_)).key for id_ in ("", "abcde.veo", "abcde.veo")]
    assert keys == [b"", b"abcde.veo", b"abcde.veo"]
    assert keys[1] is keys[2]


@pytest.mark.parametrize(
    "endpoint_id",
    ["abcde", "a.b.c", "a.b/../c", "evil.example#x", "a.b\n", "a" * 49 + ".b"],
)
def test_what_is_no_endpoints_id_never_becomes_a_host(endpoint_id: str) -> None:
    assert "EndpointId" in refused(PutEvents().admit(entry(), ARRIVED, endpoint_id)).message


def test_the_longest_endpoint_id_is_fine() -> None:
    admitted(PutEvents().admit(entry(), ARRIVED, "a" * 48 + ".b"))


# --- native events


def test_a_native_event_without_a_bus_goes_to_the_default_one() -> None:
    api = PutEvents(default_bus="orders")
    body = '{"Source":"a","DetailType":"b","Detail":{}%s}'
    assert json.loads(admitted(api.admit_native(native(body % ""), ARRIVED)).body)["EventBusName"] == "orders"
    other = admitted(api.admit_native(native(body % ',"EventBusName":"other"'), ARRIVED))
    assert json.loads(other.body)["EventBusName"] == "other"
    assert "EventBusName" not in json.loads(
        admitted(PutEvents().admit_native(native(body % ""), ARRIVED)).body
    )


@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ("{}", "InvalidArgument", "Source"),
        ('{"Source":"a","Detail":1}', "InvalidArgument", "DetailType"),
        ('{"Source":"a","DetailType":"b"}', "InvalidArgument", "Detail"),
        ('{"Source":"a","DetailType":"b","Detail":null}', "InvalidArgument", "Detail"),
        ('{"Source":"a","DetailType":"b","Detail":""}', "InvalidArgument", "Detail"),
        ('{"Source":"a","DetailType":"b","Detail":[]}', "MalformedDetail", "Detail is malformed"),
        ('{"Source":"a","DetailType":"b","Detail":7}', "MalformedDetail", "Detail is malformed"),
        ('{"Source":"a","DetailType":"b","Detail":"[]"}', "MalformedDetail", "Detail is malformed"),
        ('{"Source":"a","DetailType":"b","Detail":"{"}', "MalformedDetail", "Detail is malformed"),
        ('{"Source":"aws.a","DetailType":"b","Detail":{}}', "NotAuthorizedForSourceException", "aws."),
        ('{"Source":"a","DetailType":"b","Detail":{},"Time":"x"}', "InvalidArgument", "Time"),
    ],
)
def test_a_bad_native_event_is_refused_by_name(body: str, code: str, word: str) -> None:
    refusal = refused(PutEvents().admit_native(native(body), ARRIVED))
    assert refusal.code == code
    assert word in refusal.message


def test_a_detail_that_is_not_utf_8_is_malformed() -> None:
    event = native(b'{"Source":"a","DetailType":"b","Detail":{"a":"\xff"}}')
    assert refused(PutEvents().admit_native(event, ARRIVED)).code == "MalformedDetail"


def test_a_native_event_of_unknown_members_is_not_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="detail"):
        native('{"Source":"a","DetailType":"b","detail":{}}')


# --- answers


@pytest.mark.parametrize(("code", "means"), put_events.ENTRY_CODES)
def test_a_code_of_an_entry_means_what_aws_says(code: str, means: str) -> None:
    assert PutEvents.codes.kind(code) == means


def test_the_tables_of_codes_are_awss_and_apart() -> None:
    permanent = {code for code, means in put_events.ENTRY_CODES if means == "rejected"}
    assert permanent == PutEvents.codes.permanent
    assert not PutEvents.codes.retry & PutEvents.codes.permanent


@pytest.mark.parametrize("answer", put_events.ANSWERS, ids=lambda answer: answer["name"])
def test_an_answer_is_read_as_it_is_meant(answer: Answer) -> None:
    outcomes = PutEvents().read_results(json.loads(answer["body"]), answer["count"])
    means = None if outcomes is None else [outcome.kind.value for outcome in outcomes]
    assert means == answer["means"]


def test_an_outcome_has_awss_id_or_awss_words() -> None:
    answer = {
        "FailedEntryCount": 2,
        "Entries": [
            {"EventId": "id-1"},
            {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."},
            {"ErrorCode": "Surprise", "ErrorMessage": "boo"},
        ],
    }
    outcomes = PutEvents().read_results(answer, 3)
    assert outcomes is not None
    assert outcomes[0].aws_id == "id-1"
    assert (outcomes[1].code, outcomes[1].message) == ("MalformedDetail", "Detail is malformed.")
    assert (outcomes[2].code, outcomes[2].message) == ("other", "Surprise: boo")


@given(st.lists(st.none() | st.sampled_from(["MalformedDetail", "InternalFailure"]), max_size=10), st.text())
@few
def test_rendered_results_are_read_back(failures: list[str | None], words: str) -> None:
    results = [Refusal(code, words) if code is not None else f"id-{i}" for i, code in enumerate(failures)]
    body = json.loads(render_results(results))
    assert body["FailedEntryCount"] == sum(code is not None for code in failures)
    outcomes = PutEvents().read_results(body, len(results))
    assert outcomes is not None
    for outcome, result in zip(outcomes, results, strict=True):
        if isinstance(result, Refusal):
            assert (outcome.code, outcome.message, outcome.aws_id) == (result.code, words, "")
        else:
            assert (outcome.code, outcome.aws_id) == ("", result)


def test_a_bus_in_another_region_than_the_target_is_refused_by_name() -> None:
    api = PutEvents(region="eu-west-1")
    event = NativeEvent(
        Source="a",
        DetailType="b",
        Detail=msgspec.Raw(b"{}"),
        EventBusName="arn:aws:events:us-east-1:111122223333:event-bus/far",
    )
    refusal = api.admit_native(event, 1.0)
    assert isinstance(refusal, Refusal)
    assert "us-east-1" in refusal.message
    assert "eu-west-1" in refusal.message
    event.EventBusName = "arn:aws:events:eu-west-1:111122223333:event-bus/near"
    assert isinstance(api.admit_native(event, 1.0), Draft)
