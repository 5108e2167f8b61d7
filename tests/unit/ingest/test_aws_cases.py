"""The literal requests of AWS's pages against the ingest server."""

from __future__ import annotations

from typing import Any

import pytest

from forwarder.apis.put_events import PutEvents
from forwarder.apis.put_project_events import PutProjectEvents
from forwarder.apis.put_rum_events import PutRumEvents
from tests.aws_cases import Case, put_events, put_project_events, put_rum_events
from tests.support.ingest import Answer, Routes, serving

CASES = (
    *put_events.ENTRIES,
    *put_events.WHOLE_CALLS,
    *put_events.SIZE_LIMIT,
    *put_rum_events.CALLS,
    *put_project_events.CALLS,
    *put_project_events.WHOLE_CALLS,
)
RESULTS = {"Entries": ("ErrorCode", "ErrorMessage"), "eventResults": ("errorCode", "errorMessage")}


def any_region() -> Routes:
    routes = Routes().add("orders", PutEvents(), default=True, region="")
    routes.add("web", PutRumEvents(), default=True, region="")
    return routes.add("lab", PutProjectEvents(), default=True, region="")


def results(answer: Answer) -> list[tuple[str, str] | None]:
    """What an answer says of each entry, in the words of the cases."""
    for name, (code, message) in RESULTS.items():
        if name in answer.json:
            return [(each[code], each[message]) if each.get(code) else None for each in answer.json[name]]
    return []


def same(said: Any, expected: Any) -> bool:
    """Equal, but where AWS's message is not known any will do."""
    if said is None or expected is None:
        return said is expected
    return bool(said[0] == expected[0] and expected[1] in said[1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_a_request_of_awss_pages_is_answered_as_aws_does(case: Case) -> None:
    request, expect = case["request"], case["expect"]
    async with serving(any_region()) as ingest:
        answer = await ingest.post(request["path"], request["body"], request["headers"], request["method"])
        assert answer.status == expect["status"], answer.body
        if "code" in expect:
            assert answer.json["__type"] == answer.headers["x-amzn-errortype"] == expect["code"]
            assert expect.get("message", "") in answer.json["message"]
            assert sum(ingest.count(target) for target in ingest.queues) == 0
        else:
            said = results(answer)
            assert len(said) == len(expect["results"])
            assert all(map(same, said, expect["results"])), said


@pytest.mark.parametrize("case", put_events.SILENTLY_DROPPED, ids=lambda case: case["name"])
async def test_what_aws_would_drop_without_a_word_is_refused_when_we_can_see_it(case: Case) -> None:
    request = case["request"]
    routes = Routes().add("orders", PutEvents(), names=("default",), region="")
    async with serving(routes) as ingest:
        answer = await ingest.post(request["path"], request["body"], request["headers"])
        assert [result and result[0] for result in results(answer)] == ["InvalidArgument"]
        assert ingest.count() == 0
