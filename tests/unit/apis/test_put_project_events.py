from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.apis.put_project_events import (
    NativeEvent,
    PutProjectEvents,
    Request,
    render_results,
)
from forwarder.model import Draft, Refusal
from tests.aws_cases import Answer, Case, put_project_events

ARRIVED = 1767323045.6789
PROJECT, CUSTOM = put_project_events.PROJECT, put_project_events.CUSTOM
API = PutProjectEvents(projects=(PROJECT,))
NATIVE: dict[str, Any] = {"type": "aws.evidently.custom", "data": {"a": 1}}

few = settings(max_examples=50, deadline=None)


def native(members: dict[str, Any], api: PutProjectEvents = API) -> Draft | Refusal:
    return api.admit_native(msgspec.json.decode(json.dumps(members), type=NativeEvent), ARRIVED)


def admitted(draft: Draft | Refusal) -> Draft:
    assert isinstance(draft, Draft), draft
    return draft


def refused(draft: list[Draft | Refusal] | Draft | Refusal) -> Refusal:
    assert isinstance(draft, Refusal), draft
    return draft


def call(*events: dict[str, Any], api: PutProjectEvents = API) -> list[Draft | Refusal]:
    drafts = api.admit_call(PROJECT, msgspec.convert({"events": events}, Request), ARRIVED)
    assert isinstance(drafts, list)
    return drafts


def _reads(case: Case) -> bool:
    return case["expect"].get("code") != "SerializationException"


@pytest.mark.parametrize(
    "case",
    [case for case in (*put_project_events.CALLS, *put_project_events.WHOLE_CALLS) if _reads(case)],
    ids=lambda case: case["name"],
)
def test_calls_are_judged_as_evidently_did(case: Case) -> None:
    expect = case["expect"]
    request = msgspec.json.decode(case["request"]["body"], type=Request)
    drafts = API.admit_call(PROJECT, request, ARRIVED)
    if expect["status"] == 400:
        assert refused(drafts).code == expect["code"]
        assert expect["message"] in refused(drafts).message
        return
    assert isinstance(drafts, list)
    codes = [draft.code if isinstance(draft, Refusal) else None for draft in drafts]
    assert codes == [result and result[0] for result in expect["results"]]


@pytest.mark.parametrize(
    "case",
    [case for case in put_project_events.WHOLE_CALLS if not _reads(case)],
    ids=lambda case: case["name"],
)
def test_what_is_no_request_cannot_be_read(case: Case) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(case["request"]["body"], type=Request)


@pytest.mark.parametrize(("project", "good"), [*put_project_events.PROJECTS, ("", False)])
def test_a_project_is_a_name_or_an_arn_and_the_key(project: str, good: bool) -> None:
    drafts = API.admit_call(project, msgspec.convert({"events": [CUSTOM]}, Request), ARRIVED)
    if good:
        assert isinstance(drafts, list)
        assert admitted(drafts[0]).key == project.encode()
    else:
        assert "project" in refused(drafts).message
        assert "project" in refused(native({**NATIVE, "project": project})).message


def test_events_of_one_project_share_the_key_whatever_way_they_came() -> None:
    (taken,) = call(CUSTOM)
    assert admitted(taken).key is admitted(native(NATIVE)).key


EVENTS = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 2**31) | st.floats(0, 2**31),
        "type": st.sampled_from(["aws.evidently.custom", "aws.evidently.evaluation"]),
        "data": st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3).map(json.dumps),
    }
)


@given(st.lists(EVENTS, max_size=5))
@few
def test_an_admitted_event_says_what_its_sender_said(events: list[dict[str, Any]]) -> None:
    drafts = [admitted(draft) for draft in call(*events)]
    assert [json.loads(draft.body) for draft in drafts] == events
    assert [draft.size for draft in drafts] == [len(draft.body) + 1 for draft in drafts]


@given(EVENTS, st.booleans())
@few
def test_a_native_event_becomes_the_event_that_the_wire_form_becomes(
    members: dict[str, Any], as_text: bool
) -> None:
    data = members.pop("data")
    said = json.loads(admitted(native({**members, "data": data if as_text else json.loads(data)})).body)
    assert json.loads(said.pop("data")) == json.loads(data)
    assert said == members


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_an_event_over_the_limit_is_too_large(extra: int) -> None:
    body = len(b'{"timestamp":1,"type":"aws.evidently.custom","data":"{}          "}') + 1
    event = {"timestamp": 1, "type": "aws.evidently.custom", "data": "{}" + " " * (10 + extra)}
    (draft,) = call(event, api=PutProjectEvents(max_event_bytes=body))
    if extra > 0:
        assert refused(draft).reason == "too_large"
    else:
        assert admitted(draft).size == body + extra


def test_a_native_event_gets_its_arrival_and_the_single_project() -> None:
    draft = admitted(native(NATIVE))
    assert json.loads(draft.body) == {
        "timestamp": 1767323045.679,
        "type": "aws.evidently.custom",
        "data": '{"a": 1}',
    }
    assert draft.key == b"shop"


@pytest.mark.parametrize("projects", [(), ("a", "b")])
def test_without_a_single_project_a_native_event_must_name_one(projects: tuple[str, ...]) -> None:
    api = PutProjectEvents(projects=projects)
    assert "project is required" in refused(native(NATIVE, api)).message
    assert admitted(native({**NATIVE, "project": "c"}, api)).key == b"c"


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "type is required"),
        ({"type": "aws.evidently.custom"}, "data is required"),
        ({**NATIVE, "data": None}, "data is required"),
        ({**NATIVE, "data": []}, "data must be a JSON object"),
        ({**NATIVE, "data": "{"}, "data must be a JSON object"),
        ({**NATIVE, "type": "custom"}, "type must be one of aws.evidently.custom, aws.evidently.evaluation"),
        ({**NATIVE, "timestamp": -1}, "timestamp is not epoch seconds between"),
    ],
)
def test_a_bad_native_event_is_refused_by_name(members: dict[str, Any], words: str) -> None:
    refusal = refused(native(members))
    assert refusal.code == "ValidationException"
    assert refusal.message.startswith(words)


def test_a_native_event_of_unknown_members_is_not_read() -> None:
    with pytest.raises(msgspec.ValidationError, match="Project"):
        native({**NATIVE, "Project": "a"})


@pytest.mark.parametrize(("code", "means"), put_project_events.ENTRY_CODES)
def test_a_code_of_an_event_means_what_it_says(code: str, means: str) -> None:
    assert PutProjectEvents.codes.kind(code) == means


def test_the_tables_of_codes_are_apart() -> None:
    assert {
        c for c, means in put_project_events.ENTRY_CODES if means == "rejected"
    } == PutProjectEvents.codes.permanent
    assert not PutProjectEvents.codes.retry & PutProjectEvents.codes.permanent


@pytest.mark.parametrize("answer", put_project_events.ANSWERS, ids=lambda answer: answer["name"])
def test_an_answer_is_read_as_it_is_meant(answer: Answer) -> None:
    outcomes = API.read_results(json.loads(answer["body"]), answer["count"])
    means = None if outcomes is None else [outcome.kind.value for outcome in outcomes]
    assert means == answer["means"]


@given(st.lists(st.none() | st.sampled_from(["ValidationException", "ThrottlingException"]), max_size=50))
@few
def test_rendered_results_are_read_back(failures: list[str | None]) -> None:
    results = [Refusal(code, "words") if code else f"id-{i}" for i, code in enumerate(failures)]
    body = json.loads(render_results(results))
    assert body["failedEventCount"] == sum(code is not None for code in failures)
    outcomes = API.read_results(body, len(results))
    assert outcomes is not None
    assert [outcome.code or None for outcome in outcomes] == failures


@pytest.mark.parametrize(
    ("project", "good"),
    [
        (".", False),
        ("..", False),
        ("...", True),
        (".a", True),
        ("a..", True),
        ("arn:aws:evidently:us-east-1:123456789012:project/..", False),
        ("arn:aws:evidently:us-east-1:123456789012:project/.shop", True),
    ],
)
def test_a_project_that_would_be_another_path_is_refused(project: str, good: bool) -> None:
    drafts = API.admit_call(project, msgspec.convert({"events": [CUSTOM]}, Request), ARRIVED)
    assert isinstance(drafts, list) == good
    assert isinstance(native({**NATIVE, "project": project}), Refusal) != good
