"""Connections, the control endpoints, and what is not an API's."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
from typing import Any

import aiohttp
import pytest

from forwarder.sandbox import Sandbox, SandboxSettings, running
from forwarder.sandbox.faults import FAULT_KINDS
from forwarder.sandbox.markers import TIMES
from tests.support.sdk import BATCH, MONITOR

PUT_EVENTS = {"X-Amz-Target": "AWSEvents.PutEvents"}
BODY = b'{"Entries":[{"Source":"app","DetailType":"t","Detail":"{}"}]}'
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: AWSEvents.PutEvents\r\nContent-Length: %d\r\n\r\n%s"


async def end_of_connection(sandbox: Sandbox) -> str:
    """Send one call on a bare connection; how the connection ends, in the kernel's word."""
    port = int(sandbox.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST % (len(BODY), BODY))
    try:
        return (await reader.read()).decode()
    except OSError as problem:
        return errno.errorcode[problem.errno or 0]
    finally:
        writer.close()


async def summary(control: aiohttp.ClientSession) -> Any:
    async with control.get("/_sandbox/summary") as answer:
        return await answer.json()


async def order(control: aiohttp.ClientSession, *faults: dict[str, Any]) -> None:
    async with control.post("/_sandbox/faults", json=faults) as answer:
        assert answer.status == 200


async def put_events(control: aiohttp.ClientSession, body: bytes = BODY) -> int:
    async with control.post("/", data=body, headers=PUT_EVENTS) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize(("fault", "taken"), [("reset", 0), ("reset_after", 1)])
async def test_a_reset_is_a_reset_of_the_connection(
    sandbox: Sandbox, control: aiohttp.ClientSession, fault: str, taken: int
) -> None:
    await order(control, {"fault": fault})
    assert await end_of_connection(sandbox) == "ECONNRESET"
    assert (await summary(control))["apis"]["eventbridge"]["events"] == taken


async def test_a_call_that_hangs_ends_when_the_sandbox_stops() -> None:
    async with running() as sandbox, aiohttp.ClientSession(sandbox.url) as control:
        await order(control, {"fault": "hang"})
        hanging = asyncio.create_task(end_of_connection(sandbox))
        while not (await summary(control))["apis"]["eventbridge"]["calls"]:
            await asyncio.sleep(0)
        assert not hanging.done()
    assert await hanging == "ECONNRESET"


async def test_a_call_that_hangs_ends_when_the_faults_are_deleted(
    sandbox: Sandbox, control: aiohttp.ClientSession
) -> None:
    await order(control, {"fault": "hang"})
    hanging = asyncio.create_task(end_of_connection(sandbox))
    while not (await summary(control))["apis"]["eventbridge"]["calls"]:
        await asyncio.sleep(0)
    async with control.delete("/_sandbox/faults"):
        pass
    assert await hanging == "ECONNRESET"
    assert await put_events(control) == 200


async def test_a_slow_answer_comes_in_full_and_its_events_were_taken_before(
    sandbox: Sandbox, control: aiohttp.ClientSession
) -> None:
    await order(control, {"fault": "slow", "delay": 3600, "times": 1})
    slow = asyncio.create_task(put_events(control))
    while not (await summary(control))["apis"]["eventbridge"]["events"]:
        await asyncio.sleep(0)
    assert not slow.done()
    async with control.delete("/_sandbox/faults"):
        pass
    assert await slow == 200


async def test_the_summary_counts_what_happened(control: aiohttp.ClientSession) -> None:
    await order(control, {"fault": "throttle", "times": 2})
    marked = BODY.replace(b'"{}"', b'"{\\"sandbox\\":\\"reject\\"}"')
    for body in (BODY, BODY, BODY, BODY, marked):
        await put_events(control, body)
    counts = (await summary(control))["apis"]["eventbridge"]
    assert counts == {
        "calls": 5,
        "calls_answered": 3,
        "throttled_calls": 2,
        "events": 2,
        "distinct": 1,
        "duplicates": 1,
        "dropped": 0,
        "failed_entries": 1,
        "entries_answered": 3,
        "mean_batch": 1.0,
        "injected": {"throttle": {"calls": 2, "events": 2}, "reject": {"calls": 1, "events": 1}},
    }


async def test_a_reset_of_the_sandbox_forgets_everything(control: aiohttp.ClientSession) -> None:
    await order(control, {"fault": "error", "times": 1}, {"fault": "slow", "delay": 3600, "api": "rum"})
    await control.post("/_sandbox/buses/orders")
    await put_events(control)
    await put_events(control)
    async with control.post("/_sandbox/reset") as answer:
        assert answer.status == 200
    counts = (await summary(control))["apis"]["eventbridge"]
    assert (counts["calls"], counts["events"], counts["injected"]) == (0, 0, {})
    for path, expected in (("faults", []), ("buses", ["default"])):
        async with control.get(f"/_sandbox/{path}") as answer:
            assert await answer.json() == expected


async def test_buses_come_and_go(control: aiohttp.ClientSession) -> None:
    async with control.post("/_sandbox/buses/orders") as answer:
        assert await answer.json() == ["default", "orders"]
    async with control.delete("/_sandbox/buses/default") as answer:
        assert await answer.json() == ["orders"]
    assert await put_events(control) == 200
    assert (await summary(control))["apis"]["eventbridge"]["dropped"] == 1


async def test_faults_in_force_are_shown_with_what_they_did(control: aiohttp.ClientSession) -> None:
    await order(control, {"fault": "error", "api": "eventbridge"})
    await put_events(control)
    async with control.get("/_sandbox/faults") as answer:
        shown = await answer.json()
    assert shown == [{"fault": "error", "api": "eventbridge", "hit_calls": 1, "hit_events": 1}]


async def test_one_fault_may_be_ordered_without_a_list(control: aiohttp.ClientSession) -> None:
    async with control.post("/_sandbox/faults", json={"fault": "error"}) as answer:
        assert [fault["fault"] for fault in await answer.json()] == ["error"]


@pytest.mark.parametrize(
    "body", ["", "no", "3", '[{"fault":"error"},{"fault":"none"}]', '{"fault":"error","x":1}']
)
async def test_a_bad_order_changes_nothing_and_says_why(control: aiohttp.ClientSession, body: str) -> None:
    async with control.post("/_sandbox/faults", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["message"]
    async with control.get("/_sandbox/faults") as answer:
        assert await answer.json() == []


@pytest.mark.parametrize("query", ["?api=sqs", "?since=yesterday", "?since=-1"])
async def test_a_bad_query_is_refused(control: aiohttp.ClientSession, query: str) -> None:
    async with control.get("/_sandbox/events" + query) as answer:
        assert answer.status == 400


async def test_the_record_is_read_as_json_lines_however_long_it_is(control: aiohttp.ClientSession) -> None:
    for _ in range(120):
        await put_events(control, b'{"Entries":[%s]}' % b",".join([BODY[12:-2]] * 10))
    async with control.get("/_sandbox/events", params={"since": "1"}) as answer:
        numbers = [json.loads(line)["number"] for line in (await answer.text()).splitlines()]
    assert numbers == list(range(2, 1201))


@pytest.mark.parametrize("path", ["/_sandbox", "/_sandbox/"])
async def test_the_help_names_every_fault_and_every_marker(control: aiohttp.ClientSession, path: str) -> None:
    async with control.get(path) as answer:
        said = await answer.text()
    for word in (*FAULT_KINDS, *TIMES, "reject", "refuse"):
        assert f"\n    {word} " in said


async def test_who_follows_a_redirect_is_counted(control: aiohttp.ClientSession) -> None:
    await order(control, {"fault": "redirect"})
    assert await put_events(control) == 200  # this client follows
    assert (await summary(control))["redirects_followed"] == 1


@pytest.mark.parametrize(
    "path", [f"/appmonitors/{MONITOR}", f"/appmonitors/{MONITOR}/", f"/v/appmonitors/{MONITOR}"]
)
async def test_a_browser_s_batch_is_taken(control: aiohttp.ClientSession, path: str) -> None:
    event = {"id": BATCH, "timestamp": 1, "type": "t", "details": "{}"}
    batch: dict[str, Any] = {
        "BatchId": BATCH,
        "AppMonitorDetails": {},
        "UserDetails": {},
        "RumEvents": [event],
        "SessionMetadata": '{"domain":"example.org"}',
    }
    body, headers = gzip.compress(json.dumps(batch).encode()), {"Content-Encoding": "gzip"}
    async with control.post(path, data=body, headers=headers) as answer:
        assert answer.status == 200
    async with control.get("/_sandbox/events") as answer:
        arrived = json.loads(await answer.text())
    assert (arrived["entry"], arrived["name"]) == (event, MONITOR)
    assert arrived["envelope"]["SessionMetadata"] == batch["SessionMetadata"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/", PUT_EVENTS, 405, "MethodNotAllowed"),
        ("GET", "/events/projects/web", {}, 405, "MethodNotAllowed"),
        ("POST", "/", {}, 404, "UnknownOperationException"),
        ("POST", "/", {"X-Amz-Target": "AWSEvents.PutPartnerEvents"}, 400, "UnknownOperationException"),
        ("POST", "/", {**PUT_EVENTS, "Content-Encoding": "gzip"}, 400, "MalformedHttpRequestException"),
    ],
)
async def test_whatever_is_asked_is_answered_in_aws_s_shape(
    control: aiohttp.ClientSession, method: str, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with control.request(method, path, headers=headers, data=BODY) as answer:
        said = await answer.json(content_type=None)
        assert (answer.status, answer.headers["x-amzn-ErrorType"], said["__type"]) == (status, code, code)
        assert said["message"]
        assert answer.headers["x-amzn-RequestId"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Entries":3}', b'{"Entries":[{"Source":1}]}', b"\xff"])
async def test_a_body_that_cannot_be_read_is_a_serialization_error(
    control: aiohttp.ClientSession, body: bytes
) -> None:
    async with control.post("/", data=body, headers=PUT_EVENTS) as answer:
        assert answer.status == 400
        assert answer.headers["x-amzn-ErrorType"] == "SerializationException"


async def test_a_body_far_too_large_is_413_without_a_word() -> None:
    settings = SandboxSettings(listen="127.0.0.1:0", max_body_bytes=1000)
    async with running(settings) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        async with http.post("/", data=b"x" * 1001, headers=PUT_EVENTS) as answer:
            assert (answer.status, await answer.read()) == (413, b"")
        assert await put_events(http) == 200


async def test_without_keep_events_are_counted_only() -> None:
    settings = SandboxSettings(listen="127.0.0.1:0", keep=False)
    async with running(settings) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        for _ in range(2):
            await put_events(http)
        counts = (await summary(http))["apis"]["eventbridge"]
        assert (counts["events"], counts["duplicates"]) == (2, 1)
        async with http.get("/_sandbox/events") as answer:
            assert await answer.text() == ""


@pytest.mark.parametrize("listen", ["2790", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000"])
async def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        async with running(SandboxSettings(listen=listen)):
            pass


async def test_keys_that_are_not_on_the_list_have_expired(control: aiohttp.ClientSession) -> None:
    signed = {
        "X-Amz-Target": "AWSEvents.PutEvents",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDOLD/2026/x",
    }
    call = {"Entries": [{"Source": "a", "DetailType": "b", "Detail": "{}"}]}
    async with control.put("/_sandbox/access-keys", json=["AKIDNEW"]) as answer:
        assert await answer.json() == ["AKIDNEW"]
    async with control.post("/", json=call, headers=signed) as answer:
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "ExpiredTokenException")
    async with control.post("/appmonitors/x?X-Amz-Credential=AKIDOLD%2F2026", json={}) as answer:
        assert answer.headers["x-amzn-ErrorType"] == "ExpiredTokenException"
    signed["Authorization"] = signed["Authorization"].replace("OLD", "NEW")
    async with control.post("/", json=call, headers=signed) as answer:
        assert answer.status == 200
    async with control.put("/_sandbox/access-keys", data=b"{}") as answer:
        assert answer.status == 400
    await control.delete("/_sandbox/access-keys")
    async with control.post("/", json=call, headers={"X-Amz-Target": "AWSEvents.PutEvents"}) as answer:
        assert answer.status == 200
