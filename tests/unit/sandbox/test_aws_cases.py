"""The sandbox answers AWS's own cases as AWS does, and records exactly what AWS would take."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from yarl import URL

from forwarder.sandbox import Sandbox
from tests.aws_cases import Case, Expect, put_events, put_project_events, put_rum_events

TAKEN_OR_NOT = (
    *put_events.ENTRIES,
    *put_events.WHOLE_CALLS,
    *put_events.SIZE_LIMIT,
    *put_rum_events.CALLS,
    *put_project_events.CALLS,
    *put_project_events.WHOLE_CALLS,
)


def named(cases: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


async def send(
    control: aiohttp.ClientSession, sandbox: Sandbox, case: Case
) -> tuple[int, dict[str, str], Any]:
    request = case["request"]
    url = URL(sandbox.url + request["path"], encoded=True)
    call = control.request(
        request["method"], url, headers=request["headers"], data=io.BytesIO(request["body"])
    )
    async with call as answer:
        return answer.status, dict(answer.headers), json.loads(await answer.read())


async def entries(control: aiohttp.ClientSession, query: str = "") -> list[Any]:
    async with control.get("/_sandbox/events" + query) as answer:
        return [json.loads(line)["entry"] for line in (await answer.text()).splitlines()]


def sent(case: Case) -> list[Any]:
    """The events in a case's request."""
    body = json.loads(case["request"]["body"])
    events = body.get("Entries") or body.get("events") or body.get("RumEvents") or []
    assert isinstance(events, list)
    return events


def judge(expect: Expect, answer: Any) -> None:
    """Hold the answer to an answered call against the results that are expected."""
    said = [
        (
            result.get("ErrorCode") or result.get("errorCode"),
            result.get("ErrorMessage") or result.get("errorMessage"),
        )
        for result in answer.get("Entries", answer.get("eventResults", []))
    ]
    assert len(said) == len(expect["results"])
    for (code, message), expected in zip(said, expect["results"], strict=True):
        assert code == (expected[0] if expected else None)
        assert expected is None or expected[1] in message
    failed = sum(expected is not None for expected in expect["results"])
    assert answer.get("FailedEntryCount", answer.get("failedEventCount", 0)) == failed


@named(TAKEN_OR_NOT)
async def test_a_case_of_aws_is_answered_as_aws_answers_it(
    sandbox: Sandbox, control: aiohttp.ClientSession, case: Case
) -> None:
    expect = case["expect"]
    status, headers, answer = await send(control, sandbox, case)
    assert status == expect["status"]
    if "results" not in expect:
        assert (answer["__type"], headers["x-amzn-ErrorType"]) == (expect["code"], expect["code"])
        assert expect["message"] in answer["message"]
        assert await entries(control) == []
        return
    judge(expect, answer)
    results = expect["results"] or [None] * len(sent(case))
    taken = [event for event, result in zip(sent(case), results, strict=True) if result is None]
    assert await entries(control) == taken


@named(put_events.SILENTLY_DROPPED)
async def test_what_aws_drops_in_silence_is_answered_and_dropped(
    sandbox: Sandbox, control: aiohttp.ClientSession, case: Case
) -> None:
    status, _, answer = await send(control, sandbox, case)
    assert status == case["expect"]["status"]
    judge(case["expect"], answer)
    assert await entries(control) == []
    assert await entries(control, "?dropped=true") == sent(case)
