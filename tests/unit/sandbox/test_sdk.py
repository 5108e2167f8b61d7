"""The sandbox's answers as stock botocore reads them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from forwarder.sandbox import Sandbox, SandboxSettings, running
from tests.support.sdk import BATCH, MONITOR, client, code, parameters, put, results

APIS = ["eventbridge", "rum", "evidently"]
WITH_RESULTS = ["eventbridge", "evidently"]
INTERNAL = {"eventbridge": "InternalFailure", "evidently": "InternalServerException"}
FAULT_CODES: list[tuple[dict[str, Any], dict[str, tuple[int, str]]]] = [
    ({"fault": "throttle"}, {"eventbridge": (400, "ThrottlingException"), "": (429, "ThrottlingException")}),
    ({"fault": "error"}, {"eventbridge": (500, "InternalException"), "": (500, "InternalServerException")}),
    ({"fault": "error", "status": 503, "code": "ServiceUnavailable"}, {"": (503, "ServiceUnavailable")}),
    ({"fault": "credentials"}, {"": (403, "ExpiredTokenException")}),
    (
        {"fault": "access_denied"},
        {"eventbridge": (400, "AccessDeniedException"), "": (403, "AccessDeniedException")},
    ),
    (
        {"fault": "not_found"},
        {"eventbridge": (400, "ResourceNotFoundException"), "": (404, "ResourceNotFoundException")},
    ),
    ({"fault": "redirect"}, {"": (307, "TemporaryRedirect")}),
]


async def order(sandbox: Sandbox, *faults: dict[str, Any]) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(sandbox.url + "/_sandbox/faults", json=faults) as said,
    ):
        assert said.status == 200


async def arrived(sandbox: Sandbox, query: str = "") -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"{sandbox.url}/_sandbox/events{query}") as answer:
        return [json.loads(line) for line in (await answer.text()).splitlines()]


def datum(event: dict[str, Any]) -> Any:
    """The JSON object that a recorded event carries."""
    entry = event["entry"]
    return json.loads(entry.get("Detail") or entry.get("data") or entry["details"])


def words(*markers: str) -> list[str]:
    return [json.dumps({"n": n, "sandbox": marker}) for n, marker in enumerate(markers)]


@pytest.mark.parametrize("api", WITH_RESULTS)
async def test_every_event_of_a_good_call_is_taken(sandbox: Sandbox, api: str) -> None:
    answer = await put(api, sandbox.url, *words(*["none"] * 10))
    assert results(api, answer) == [""] * 10
    assert [datum(event)["n"] for event in await arrived(sandbox, f"?api={api}")] == list(range(10))


async def test_a_rum_batch_is_taken_with_its_envelope(sandbox: Sandbox) -> None:
    answer = await put("rum", sandbox.url, "{}", '{"a":1}')
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    events = await arrived(sandbox)
    assert [datum(event) for event in events] == [{}, {"a": 1}]
    details = {"id": MONITOR, "version": "1"}
    assert events[0]["envelope"] == {
        "Id": MONITOR,
        "BatchId": BATCH,
        "AppMonitorDetails": details,
        "UserDetails": {},
    }
    assert events[0]["name"] == MONITOR


async def test_a_project_may_be_named_by_its_arn(sandbox: Sandbox) -> None:
    call = parameters("evidently", "{}") | {"project": "arn:aws:evidently:us-east-1:123456789012:project/web"}
    with client("evidently", sandbox.url) as evidently:
        await asyncio.to_thread(evidently.put_project_events, **call)
    assert [event["name"] for event in await arrived(sandbox)] == ["web"]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("fault", "said"), FAULT_CODES)
async def test_faults_of_a_call_are_the_errors_of_its_api(
    sandbox: Sandbox, api: str, fault: dict[str, Any], said: dict[str, tuple[int, str]]
) -> None:
    await order(sandbox, {**fault, "times": 1})
    assert code(await put(api, sandbox.url, "{}")) == said.get(api, said[""])
    assert await arrived(sandbox) == []
    assert isinstance(await put(api, sandbox.url, "{}"), dict)


@pytest.mark.parametrize("api", APIS)
async def test_a_throttle_says_when_to_come_back(sandbox: Sandbox, api: str) -> None:
    await order(sandbox, {"fault": "throttle", "retry_after": 1.5})
    answer = await put(api, sandbox.url, "{}")
    assert isinstance(answer, ClientError)
    headers = answer.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["retry-after"], headers["x-amz-retry-after"]) == ("2", "1500")


@pytest.mark.parametrize("shape", ["html", "empty", "object", "null"])
async def test_a_wrong_shape_looks_like_success_and_takes_nothing(sandbox: Sandbox, shape: str) -> None:
    await order(sandbox, {"fault": "wrong_shape", "shape": shape})
    answer = await put("eventbridge", sandbox.url, "{}")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert not answer.get("Entries")
    assert await arrived(sandbox) == []


async def test_the_wrong_shape_may_be_a_list(sandbox: Sandbox) -> None:
    await order(sandbox, {"fault": "wrong_shape", "shape": "list"})
    with pytest.raises(AttributeError):
        await put("eventbridge", sandbox.url, "{}")


@pytest.mark.parametrize("api", WITH_RESULTS)
async def test_missing_results_are_one_too_few_and_nothing_is_taken(sandbox: Sandbox, api: str) -> None:
    await order(sandbox, {"fault": "missing_results", "times": 1})
    assert results(api, await put(api, sandbox.url, "{}", "{}")) == [""]
    assert await arrived(sandbox) == []
    assert results(api, await put(api, sandbox.url, "{}", "{}")) == ["", ""]


@pytest.mark.parametrize("api", WITH_RESULTS)
async def test_an_entry_fault_fails_single_entries(sandbox: Sandbox, api: str) -> None:
    await order(sandbox, {"fault": "entry", "times": 2}, {"fault": "entry", "times": 1, "code": "Odd"})
    answer = await put(api, sandbox.url, *words("a", "b", "c", "d"))
    assert results(api, answer) == [INTERNAL[api], INTERNAL[api], "Odd", ""]
    assert [datum(event)["n"] for event in await arrived(sandbox)] == [3]


@pytest.mark.parametrize("api", WITH_RESULTS)
async def test_marked_entries_fail_by_themselves(sandbox: Sandbox, api: str) -> None:
    rejected = {"eventbridge": "InvalidArgument", "evidently": "ValidationException"}[api]
    marked = words("reject", "fail-once", "throttle-once", "fail-twice", "production")
    internal = INTERNAL[api]
    answers = [results(api, await put(api, sandbox.url, *marked)) for _ in range(3)]
    assert answers[0] == [rejected, internal, "ThrottlingException", internal, ""]
    assert answers[1] == [rejected, "", "", internal, ""]
    assert answers[2] == [rejected, "", "", "", ""]


@pytest.mark.parametrize("api", APIS)
async def test_one_event_marked_refuse_spoils_its_whole_call(sandbox: Sandbox, api: str) -> None:
    for _ in range(2):
        answer = await put(api, sandbox.url, *words("none", "refuse", "none"))
        assert code(answer) == (400, "ValidationException")
    assert await arrived(sandbox) == []


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("fail-once", [(500, "InternalServerException"), None]),
        ("fail-twice", [(500, "InternalServerException")] * 2 + [None]),
        ("throttle-once", [(429, "ThrottlingException"), None]),
        ("reject", [(400, "ValidationException")] * 3),
    ],
)
async def test_at_rum_every_word_strikes_the_call(sandbox: Sandbox, marker: str, said: list[Any]) -> None:
    for expected in said:
        answer = await put("rum", sandbox.url, *words("none", marker))
        assert expected is None or code(answer) == expected
    assert len(await arrived(sandbox)) == (0 if marker == "reject" else 2)


async def test_an_unknown_bus_takes_events_and_drops_them(sandbox: Sandbox) -> None:
    entry = {"Source": "app", "DetailType": "t", "Detail": "{}"}
    with client("eventbridge", sandbox.url) as events:
        answer = await asyncio.to_thread(
            events.put_events, Entries=[{**entry, "EventBusName": "nowhere"}, entry]
        )
    assert results("eventbridge", answer) == ["", ""]
    assert [event["name"] for event in await arrived(sandbox)] == ["default"]
    assert [event["name"] for event in await arrived(sandbox, "?dropped=true")] == ["nowhere"]


@pytest.mark.parametrize(("length", "events"), [(128, 1), (129, 0)])
async def test_a_long_detail_type_is_dropped(sandbox: Sandbox, length: int, events: int) -> None:
    entry = {"Source": "app", "DetailType": "t" * length, "Detail": "{}"}
    with client("eventbridge", sandbox.url) as aws:
        answer = await asyncio.to_thread(aws.put_events, Entries=[entry])
    assert results("eventbridge", answer) == [""]
    assert len(await arrived(sandbox)) == events
    assert [e["entry"] for e in await arrived(sandbox, "?dropped=true")] == [entry] * (1 - events)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"DetailType": "t", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "app", "Detail": "{}"}, "InvalidArgument"),
        ({"Source": "app", "DetailType": "t"}, "InvalidArgument"),
        ({"Source": "app", "DetailType": "t", "Detail": "[]"}, "MalformedDetail"),
        ({"Source": "app", "DetailType": "t", "Detail": "NotJSON"}, "MalformedDetail"),
        ({"Source": "aws.app", "DetailType": "t", "Detail": "{}"}, "NotAuthorizedForSourceException"),
    ],
)
async def test_a_bad_entry_fails_alone(sandbox: Sandbox, entry: dict[str, str], said: str) -> None:
    good = {"Source": "app", "DetailType": "t", "Detail": "{}"}
    with client("eventbridge", sandbox.url) as aws:
        answer = await asyncio.to_thread(aws.put_events, Entries=[good, entry])
    assert results("eventbridge", answer) == ["", said]


async def test_a_call_of_eleven_is_refused_whole(sandbox: Sandbox) -> None:
    answer = await put("eventbridge", sandbox.url, *["{}"] * 11)
    assert code(answer) == (400, "ValidationException")
    assert "less than or equal to 10" in str(answer)


@pytest.mark.parametrize(("over", "taken"), [(-1, True), (0, False), (1, False)])
async def test_one_mebibyte_is_the_first_size_that_is_refused(
    sandbox: Sandbox, over: int, taken: bool
) -> None:
    counted = len("app") + len("t") + len('{"a":""}')
    detail = '{"a":"%s"}' % ("x" * (1_048_576 + over - counted))
    answer = await put("eventbridge", sandbox.url, detail)
    if taken:
        assert results("eventbridge", answer) == [""]
    else:
        assert code(answer) == (400, "ValidationException")
        assert "Total size of the entries in the request is over the limit." in str(answer)


async def test_more_than_fifty_events_are_refused_at_a_project(sandbox: Sandbox) -> None:
    assert results("evidently", await put("evidently", sandbox.url, *["{}"] * 50)) == [""] * 50
    assert code(await put("evidently", sandbox.url, *["{}"] * 51)) == (400, "ValidationException")


async def test_a_bad_event_refuses_its_rum_batch(sandbox: Sandbox) -> None:
    assert code(await put("rum", sandbox.url, "{}", "[]")) == (400, "ValidationException")
    assert await arrived(sandbox) == []


async def test_an_endpoint_id_of_the_wrong_form_is_refused() -> None:
    async with running() as sandbox, aiohttp.ClientSession() as http:
        body = {"EndpointId": "no dot", "Entries": [{"Source": "a", "DetailType": "t", "Detail": "{}"}]}
        headers = {"X-Amz-Target": "AWSEvents.PutEvents"}
        async with http.post(sandbox.url, json=body, headers=headers) as answer:
            assert answer.status == 400
            assert "endpointId" in (await answer.json(content_type=None))["message"]


async def test_describe_event_bus_knows_the_buses_that_exist(sandbox: Sandbox) -> None:
    with client("eventbridge", sandbox.url) as aws:
        found = await asyncio.to_thread(aws.describe_event_bus)
        assert (found["Name"], found["Arn"].split(":")[3]) == ("default", "eu-west-1")
        with pytest.raises(aws.exceptions.ResourceNotFoundException):
            await asyncio.to_thread(aws.describe_event_bus, Name="orders")
        sandbox.cloud.eventbridge.buses.add("orders")
        arn = "arn:aws:events:eu-west-1:000000000000:event-bus/orders"
        assert (await asyncio.to_thread(aws.describe_event_bus, Name=arn))["Arn"] == arn


async def test_a_fault_for_describe_event_bus_leaves_events_alone(sandbox: Sandbox) -> None:
    await order(sandbox, {"fault": "access_denied", "operation": "DescribeEventBus"})
    with client("eventbridge", sandbox.url) as aws, pytest.raises(ClientError, match="AccessDeniedException"):
        await asyncio.to_thread(aws.describe_event_bus)
    assert results("eventbridge", await put("eventbridge", sandbox.url, "{}")) == [""]


async def test_an_operation_it_does_not_have_is_unknown(sandbox: Sandbox) -> None:
    with (
        client("eventbridge", sandbox.url) as aws,
        pytest.raises(ClientError, match="UnknownOperationException"),
    ):
        await asyncio.to_thread(aws.list_rules)


async def test_only_configured_app_monitors_and_projects_exist() -> None:
    settings = SandboxSettings(listen="127.0.0.1:0", app_monitors=(BATCH,), projects=("shop",))
    async with running(settings) as sandbox:
        for api in ("rum", "evidently"):
            assert code(await put(api, sandbox.url, "{}")) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize("api", APIS)
async def test_calls_without_a_signature_are_refused_when_one_is_required(api: str) -> None:
    settings = SandboxSettings(listen="127.0.0.1:0", require_auth=True)
    async with running(settings) as sandbox, aiohttp.ClientSession() as http:
        assert isinstance(await put(api, sandbox.url, "{}"), dict)
        path = {"eventbridge": "/", "rum": f"/appmonitors/{MONITOR}", "evidently": "/events/projects/web"}[
            api
        ]
        headers = {"X-Amz-Target": "AWSEvents.PutEvents"} if api == "eventbridge" else {}
        async with http.post(sandbox.url + path, data=b"{}", headers=headers) as answer:
            assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationToken")


async def test_a_sandbox_that_stopped_is_gone() -> None:
    async with running() as sandbox:
        url = sandbox.url
    with pytest.raises(EndpointConnectionError):
        await put("eventbridge", url, "{}")
