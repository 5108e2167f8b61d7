"""The sandbox in front of another EventBridge, here a few lines that answer what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from forwarder.sandbox import Sandbox, SandboxSettings, running
from tests.support.sdk import client, code, put, results

LISTEN = "127.0.0.1:0"


class Behind:
    """Remembers each request; answers PutEvents with its own ids, or with ``answer`` when there is one."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.answer: web.Response | None = None
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append((dict(request.headers), body))
        if self.answer is not None:
            return self.answer
        if request.headers["X-Amz-Target"] != "AWSEvents.PutEvents":
            return web.json_response({"Name": "default", "Arn": "arn:behind", "Rules": []})
        entries = [{"EventId": f"behind-{json.loads(e['Detail'])['n']}"} for e in body["Entries"]]
        return web.json_response({"FailedEntryCount": 0, "Entries": entries})

    def numbers(self) -> list[list[int]]:
        """The events of each call that came this far."""
        return [[json.loads(e["Detail"])["n"] for e in body["Entries"]] for _, body in self.requests]


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    made = Behind()
    app = web.Application()
    app.router.add_post("/", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


@pytest.fixture
async def sandbox(behind: Behind) -> AsyncIterator[Sandbox]:
    async with running(SandboxSettings(listen=LISTEN, upstream=behind.url)) as made:
        yield made


def words(*markers: str) -> list[str]:
    return [json.dumps({"n": n, "sandbox": marker}) for n, marker in enumerate(markers)]


def recorded(sandbox: Sandbox) -> list[int]:
    events = [json.loads(line)["entry"] for line in sandbox.cloud.record.lines()]
    return [json.loads(entry["Detail"])["n"] for entry in events]


async def test_a_call_that_no_fault_hits_is_passed_on_as_it_came(sandbox: Sandbox, behind: Behind) -> None:
    answer = await put("eventbridge", sandbox.url, *words("a", "b"))
    assert [entry["EventId"] for entry in answer["Entries"]] == ["behind-0", "behind-1"]
    headers, body = behind.requests[0]
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert headers["Host"] in behind.url
    assert [entry["Source"] for entry in body["Entries"]] == ["app", "app"]
    assert recorded(sandbox) == [0, 1]


async def test_entries_that_a_fault_hits_do_not_reach_upstream(sandbox: Sandbox, behind: Behind) -> None:
    answer = await put("eventbridge", sandbox.url, *words("a", "fail-once", "reject", "d"))
    assert results("eventbridge", answer) == ["", "InternalFailure", "InvalidArgument", ""]
    assert [entry.get("EventId") for entry in answer["Entries"]] == ["behind-0", None, None, "behind-3"]
    assert behind.numbers() == [[0, 3]]
    assert recorded(sandbox) == [0, 3]


async def test_a_call_of_which_nothing_is_left_is_not_passed_on(sandbox: Sandbox, behind: Behind) -> None:
    answer = await put("eventbridge", sandbox.url, *words("reject"))
    assert results("eventbridge", answer) == ["InvalidArgument"]
    assert behind.requests == []


@pytest.mark.parametrize("fault", ["throttle", "error", "missing_results", "wrong_shape"])
async def test_a_call_that_a_fault_hits_does_not_reach_upstream(
    sandbox: Sandbox, behind: Behind, fault: str
) -> None:
    async with aiohttp.ClientSession() as http:
        await http.post(sandbox.url + "/_sandbox/faults", json={"fault": fault})
    await put("eventbridge", sandbox.url, *words("a", "b"))
    assert behind.requests == []
    assert recorded(sandbox) == []


async def test_a_reset_after_reaches_upstream_first(sandbox: Sandbox, behind: Behind) -> None:
    async with aiohttp.ClientSession() as http:
        await http.post(sandbox.url + "/_sandbox/faults", json={"fault": "reset_after"})
        entries = [{"Source": "app", "DetailType": "t", "Detail": '{"n":5}'}]
        headers = {"X-Amz-Target": "AWSEvents.PutEvents"}
        with pytest.raises(aiohttp.ClientError):
            await http.post(sandbox.url, json={"Entries": entries}, headers=headers)
    assert behind.numbers() == [[5]]
    assert recorded(sandbox) == [5]


async def test_what_upstream_refuses_is_refused_and_not_recorded(sandbox: Sandbox, behind: Behind) -> None:
    entries = [{"EventId": "x"}, {"ErrorCode": "AccessDeniedException", "ErrorMessage": "no"}]
    behind.answer = web.json_response({"FailedEntryCount": 1, "Entries": entries})
    answer = await put("eventbridge", sandbox.url, *words("a", "b"))
    assert results("eventbridge", answer) == ["", "AccessDeniedException"]
    assert recorded(sandbox) == [0]


async def test_an_error_of_upstream_goes_back_as_it_is(sandbox: Sandbox, behind: Behind) -> None:
    behind.answer = web.json_response({"__type": "InternalException", "message": "behind"}, status=500)
    answer = await put("eventbridge", sandbox.url, *words("a"))
    assert code(answer) == (500, "InternalException")
    assert recorded(sandbox) == []


async def test_what_to_drop_is_upstream_s_to_know(sandbox: Sandbox, behind: Behind) -> None:
    entry = {"Source": "app", "DetailType": "t" * 129, "Detail": '{"n":0}', "EventBusName": "theirs"}
    with client("eventbridge", sandbox.url) as aws:
        await asyncio.to_thread(aws.put_events, Entries=[entry])
    assert behind.requests[0][1] == {"Entries": [entry]}
    assert recorded(sandbox) == [0]


async def test_other_operations_are_upstream_s(sandbox: Sandbox) -> None:
    with client("eventbridge", sandbox.url) as aws:
        assert (await asyncio.to_thread(aws.describe_event_bus))["Arn"] == "arn:behind"
        assert (await asyncio.to_thread(aws.list_rules))["Rules"] == []


async def test_an_upstream_that_is_gone_is_unavailable(behind: Behind) -> None:
    async with running(SandboxSettings(listen=LISTEN, upstream="http://127.0.0.1:1/")) as sandbox:
        answer = await put("eventbridge", sandbox.url, *words("a"))
        assert code(answer) == (503, "ServiceUnavailable")
        assert recorded(sandbox) == []


async def test_rum_and_evidently_stay_in_the_sandbox(sandbox: Sandbox, behind: Behind) -> None:
    await put("rum", sandbox.url, "{}")
    assert results("evidently", await put("evidently", sandbox.url, "{}")) == [""]
    assert behind.requests == []
