from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.apis.put_rum_events import (
    NativeEvent,
    PutRumEvents,
    Request,
    batch_id,
    read_envelope,
)
from forwarder.model import Draft, Kind, Refusal
from tests.aws_cases import Case, put_rum_events

ARRIVED = 1767323045.6789
MONITOR, CALL, EVENT = put_rum_events.MONITOR, put_rum_events.CALL, put_rum_events.EVENT
API = PutRumEvents(app_monitors=(MONITOR,))
NATIVE: dict[str, Any] = {"type": "t", "details": {"a": 1}}

few = settings(max_examples=50, deadline=None)


def call(body: dict[str, Any]) -> list[Draft]:
    drafts = API.admit_batch(MONITOR, msgspec.convert(body, Request), ARRIVED)
    assert isinstance(drafts, list), drafts
    return [draft for draft in drafts if isinstance(draft, Draft)]


def native(members: dict[str, Any], api: PutRumEvents = API) -> Draft | Refusal:
    event = msgspec.json.decode(json.dumps(members), type=NativeEvent)
    return api.admit_native(event, ARRIVED)


def admitted(draft: Draft | Refusal) -> Draft:
    assert isinstance(draft, Draft), draft
    return draft


def refused(draft: list[Draft | Refusal] | Draft | Refusal) -> Refusal:
    assert isinstance(draft, Refusal), draft
    return draft


@pytest.mark.parametrize(
    "case",
    [case for case in put_rum_events.CALLS if case["expect"].get("code") != "SerializationException"],
    ids=lambda case: case["name"],
)
def test_calls_are_taken_and_refused_as_a_whole(case: Case) -> None:
    request = msgspec.json.decode(case["request"]["body"], type=Request)
    drafts = API.admit_batch(MONITOR, request, ARRIVED)
    if case["expect"]["status"] == 400:
        assert refused(drafts).code == case["expect"]["code"]
    else:
        assert isinstance(drafts, list)
        assert len(drafts) == len(request.RumEvents)
        assert all(isinstance(draft, Draft) for draft in drafts)


@pytest.mark.parametrize(
    "case",
    [case for case in put_rum_events.CALLS if case["expect"].get("code") == "SerializationException"],
    ids=lambda case: case["name"],
)
def test_what_is_no_request_cannot_be_read(case: Case) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(case["request"]["body"], type=Request)


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("id", None, "RumEvents[1].id is required."),
        ("id", "x", "RumEvents[1].id must be a UUID."),
        ("timestamp", None, "RumEvents[1].timestamp is required."),
        ("timestamp", 1e15, "RumEvents[1].timestamp is not epoch seconds between"),
        ("type", "", "RumEvents[1].type must have 1 to 256 characters."),
        ("details", "[]", "RumEvents[1].details must be a string that holds a JSON object."),
        ("metadata", "{", "RumEvents[1].metadata must be a string that holds a JSON object."),
    ],
)
def test_a_refused_call_names_the_event_and_its_field(member: str, value: Any, words: str) -> None:
    bad = {**EVENT, member: value}
    request = msgspec.convert({**CALL, "RumEvents": [EVENT, bad, EVENT]}, Request)
    assert refused(API.admit_batch(MONITOR, request, ARRIVED)).message.startswith(words)


def test_an_app_monitor_has_a_uuid() -> None:
    request = msgspec.convert(CALL, Request)
    assert refused(API.admit_batch("monitor", request, ARRIVED)).message == "Id must be a UUID."


def test_the_key_is_the_call_without_its_events() -> None:
    body = {**CALL, "Alias": "a", "SessionMetadata": '{"osName":"Linux"}', "Surprise": 1}
    first, second = call({**body, "RumEvents": [EVENT, EVENT]})
    del body["RumEvents"], body["Surprise"]
    assert read_envelope(first.key) == {"Id": MONITOR, **body}
    assert first.key is second.key


def test_absent_members_are_not_in_the_key() -> None:
    (draft,) = call({**CALL, "AppMonitorDetails": {}, "UserDetails": {}, "Alias": None})
    assert read_envelope(draft.key) == {
        "Id": MONITOR,
        "BatchId": CALL["BatchId"],
        "AppMonitorDetails": {},
        "UserDetails": {},
    }


TEXTS = st.text(max_size=20)
USERS = st.fixed_dictionaries({}, optional={"userId": st.uuids().map(str), "sessionId": st.uuids().map(str)})
DETAILS = st.fixed_dictionaries({}, optional={"name": TEXTS, "id": TEXTS, "version": TEXTS})
CALLS = st.fixed_dictionaries(
    {
        "BatchId": st.uuids().map(str),
        "AppMonitorDetails": DETAILS,
        "UserDetails": USERS,
        "RumEvents": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.uuids().map(str),
                    "timestamp": st.integers(0, 2**31) | st.floats(0, 2**31),
                    "type": st.text(min_size=1, max_size=256),
                    "details": st.dictionaries(TEXTS, TEXTS, max_size=3).map(json.dumps),
                },
                optional={"metadata": st.dictionaries(TEXTS, TEXTS, max_size=3).map(json.dumps)},
            ),
            max_size=4,
        ),
    },
    optional={"Alias": st.text(min_size=1, max_size=255), "SessionMetadata": st.just('{"a": 1}')},
)


@given(CALLS)
@few
def test_a_call_can_be_rebuilt_from_keys_and_bodies(body: dict[str, Any]) -> None:
    drafts = call(body)
    events = [json.loads(draft.body) for draft in drafts]
    assert events == body["RumEvents"]
    for draft in drafts:
        assert {**read_envelope(draft.key), "RumEvents": events} == {"Id": MONITOR, **body}
        assert draft.size == len(draft.body) + 1


@given(CALLS)
@few
def test_the_order_of_members_makes_no_other_key(body: dict[str, Any]) -> None:
    turned = json.loads(json.dumps(body), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert [draft.key for draft in call(body)] == [draft.key for draft in call(turned)]


def test_two_sessions_never_share_a_key() -> None:
    users = [{}, {"userId": str(uuid.UUID(int=1))}, {"sessionId": str(uuid.UUID(int=1))}]
    keys = {admitted(native({**NATIVE, "UserDetails": user})).key for user in users}
    assert len(keys) == 3


# --- native events


def test_a_native_event_gets_id_timestamp_and_the_single_monitor() -> None:
    draft = admitted(native(NATIVE))
    event = json.loads(draft.body)
    assert uuid.UUID(event.pop("id")).version == 4
    assert event == {"timestamp": 1767323045.679, "type": "t", "details": '{"a": 1}'}
    assert read_envelope(draft.key) == {"Id": MONITOR, "AppMonitorDetails": {}, "UserDetails": {}}


def test_a_native_event_keeps_what_it_says() -> None:
    other = "00000000-0000-4000-8000-0000000000bb"
    said: dict[str, Any] = {
        **EVENT,
        "metadata": {"b": 2},
        "AppMonitorId": other,
        "AppMonitorDetails": {"version": "1"},
        "UserDetails": {"userId": other},
        "Alias": "a",
        "SessionMetadata": {"c": 3},
        "BatchId": other,
    }
    draft = admitted(native(said))
    assert json.loads(draft.body) == {**EVENT, "metadata": '{"b": 2}'}
    assert read_envelope(draft.key) == {
        "Id": other,
        "BatchId": other,
        "AppMonitorDetails": {"version": "1"},
        "UserDetails": {"userId": other},
        "Alias": "a",
        "SessionMetadata": '{"c": 3}',
    }


def test_native_events_of_one_session_may_be_joined() -> None:
    first, second = admitted(native(NATIVE)), admitted(native({**NATIVE, "type": "other"}))
    assert first.key is second.key
    assert "BatchId" not in read_envelope(first.key)


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ({}, "type"),
        ({"type": "t"}, "details is required"),
        ({"type": "t", "details": None}, "details is required"),
        ({"type": "t", "details": []}, "details must be a JSON object"),
        ({"type": "t", "details": "x"}, "details must be a JSON object"),
        ({**NATIVE, "metadata": 1}, "metadata must be a JSON object"),
        ({**NATIVE, "SessionMetadata": "[]"}, "SessionMetadata must be a JSON object"),
        ({**NATIVE, "id": "1"}, "id must be a UUID"),
        ({**NATIVE, "id": ""}, "id must be a UUID"),
        ({**NATIVE, "timestamp": "x"}, "timestamp is neither"),
        ({**NATIVE, "AppMonitorId": "m"}, "AppMonitorId must be a UUID"),
        ({**NATIVE, "BatchId": "b"}, "BatchId must be a UUID"),
        ({**NATIVE, "Alias": ""}, "Alias must have"),
        ({**NATIVE, "UserDetails": {"userId": "u"}}, "UserDetails.userId must be a UUID"),
    ],
)
def test_a_bad_native_event_is_refused_by_name(members: dict[str, Any], word: str) -> None:
    refusal = refused(native(members))
    assert refusal.code == "ValidationException"
    assert refusal.message.startswith(word)


@pytest.mark.parametrize("monitors", [(), (MONITOR, MONITOR[:-1] + "b")])
def test_without_a_single_monitor_a_native_event_must_name_one(monitors: tuple[str, ...]) -> None:
    api = PutRumEvents(app_monitors=monitors)
    assert "AppMonitorId is required" in refused(native(NATIVE, api)).message
    admitted(native({**NATIVE, "AppMonitorId": MONITOR}, api))


def test_a_native_event_of_unknown_members_is_not_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="Details"):
        native({"type": "t", "Details": {}})


# --- what goes out


def test_a_batch_id_comes_from_the_ids_alone() -> None:
    first = batch_id(["a", "b"])
    assert str(uuid.UUID(first)) == first
    assert batch_id(["a", "b"]) == first
    assert (
        len({first, batch_id(["b", "a"]), batch_id(["ab"]), batch_id(["a"]), batch_id(["a", "b", "c"])}) == 5
    )


@pytest.mark.parametrize("answer", put_rum_events.ANSWERS, ids=lambda answer: answer["name"])
def test_an_answer_delivers_every_event(answer: Any) -> None:
    outcomes = API.read_results(json.loads(answer["body"]), answer["count"])
    assert outcomes is not None
    assert [outcome.kind for outcome in outcomes] == [Kind.DELIVERED] * answer["count"]


def test_a_taken_call_is_answered_with_an_empty_object() -> None:
    assert API.render_results(["id"]) == b"{}"
