"""An admitted event written as a native one is admitted as the same again, whatever it holds."""

from __future__ import annotations

import json
import string
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.apis.put_events import Entry, PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_project_events import Request as ProjectRequest
from forwarder.apis.put_rum_events import PutRumEvents
from forwarder.apis.put_rum_events import Request as RumRequest
from forwarder.model import Draft
from forwarder.targets import known_apis

UUIDS = st.uuids().map(str)
TEXTS = st.text(max_size=20)
NAMES = st.text(string.ascii_letters, min_size=1, max_size=10)
OBJECTS = st.dictionaries(
    TEXTS, st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
).map(json.dumps)
TIMES = st.integers(0, 2_000_000_000) | st.floats(0, 2e9, allow_nan=False)


def maybe(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


def again(api: PutEvents | PutRumEvents | PutProjectEvents, draft: Draft) -> Draft:
    native = api.as_native(draft.body, draft.key)
    assert native is not None
    admitted = api.admit_native(msgspec.json.decode(native.event, type=api.native_type), 5.0)  # type: ignore[arg-type]
    assert isinstance(admitted, Draft), admitted
    return admitted


ENTRIES = st.builds(
    lambda needed, more: msgspec.convert({**needed, **more}, Entry),
    st.fixed_dictionaries({"Source": NAMES, "DetailType": NAMES, "Detail": OBJECTS}),
    maybe(Time=TIMES, Resources=st.lists(TEXTS), EventBusName=NAMES, TraceHeader=NAMES),
)


@given(ENTRIES, st.sampled_from(["", "abc.def"]))
def test_an_entry_is_the_same_but_says_its_bus(entry: Entry, endpoint: str) -> None:
    draft = PutEvents().admit(entry, 7.0, endpoint)
    assert isinstance(draft, Draft)
    found = again(PutEvents(default_bus="another"), draft)
    assert json.loads(found.body) == {"EventBusName": "default", **json.loads(draft.body)}
    assert (found.key, found.size) == (draft.key, draft.size)


RUM_EVENTS = st.builds(
    lambda needed, more: {**needed, **more},
    st.fixed_dictionaries({"id": UUIDS, "timestamp": TIMES, "type": NAMES, "details": OBJECTS}),
    maybe(metadata=OBJECTS),
)
RUM_CALLS = st.builds(
    lambda needed, more: {**needed, **more},
    st.fixed_dictionaries(
        {
            "BatchId": UUIDS,
            "AppMonitorDetails": maybe(name=TEXTS, id=TEXTS, version=TEXTS),
            "UserDetails": maybe(userId=UUIDS, sessionId=UUIDS),
            "RumEvents": st.lists(RUM_EVENTS, min_size=1, max_size=3),
        }
    ),
    maybe(Alias=NAMES, SessionMetadata=OBJECTS),
)


@given(UUIDS, RUM_CALLS)
def test_a_rum_event_is_the_same_with_its_session_and_batch(monitor: str, call: dict[str, Any]) -> None:
    drafts = PutRumEvents().admit_batch(monitor, msgspec.convert(call, RumRequest), 7.0)
    assert isinstance(drafts, list)
    for draft in drafts:
        assert isinstance(draft, Draft)
        assert again(PutRumEvents(), draft) == draft
        native = PutRumEvents.as_native(draft.body, draft.key)
        assert native is not None
        assert native.batch == call["BatchId"]


@given(st.lists(st.fixed_dictionaries({"timestamp": TIMES, "data": OBJECTS}), min_size=1, max_size=3))
def test_an_evidently_event_is_the_same_with_its_project(events: list[dict[str, Any]]) -> None:
    call = {"events": [{**each, "type": "aws.evidently.custom"} for each in events]}
    drafts = PutProjectEvents().admit_call("shop", msgspec.convert(call, ProjectRequest), 7.0)
    assert isinstance(drafts, list)
    for draft in drafts:
        assert isinstance(draft, Draft)
        assert again(PutProjectEvents(projects=("another",)), draft) == draft


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"text", b"{}", b'{"other":1}', b"\xff"])
def test_what_is_of_no_api_is_none(body: bytes) -> None:
    for key in (b"", b"k", b'{"Id":"a"}', b"{}"):
        assert [api.as_native(body, key) for api in known_apis()] == [None] * 3
