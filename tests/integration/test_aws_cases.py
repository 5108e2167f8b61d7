"""AWS's own cases over HTTP: to each request our ingest and our sandbox say what AWS says.

Every answer is also read by stock botocore, with its parsers and its models.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Any

import botocore.session
import pytest
import pytest_asyncio
from botocore.parsers import create_parser
from yarl import URL

from tests.aws_cases import Case, common_errors, put_events, put_project_events, put_rum_events
from tests.support.events import MONITOR
from tests.support.harness import World, daemon_in, until, world

# aiohttp's advice about bodies over 1 MiB, to the SDK in the daemon: a warning here would fail the call
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

PUT_EVENTS_CASES = (*put_events.ENTRIES, *put_events.WHOLE_CALLS, *put_events.SIZE_LIMIT)
PROJECT_CASES = (*put_project_events.CALLS, *put_project_events.WHOLE_CALLS)
CODES = {"eventbridge": put_events.ENTRY_CODES, "evidently": put_project_events.ENTRY_CODES}
ERRORS = {
    "eventbridge": (*common_errors.ERRORS, *put_events.ERRORS),
    "rum": put_rum_events.ERRORS,
    "evidently": put_project_events.ERRORS,
}
CASES = [
    *(pytest.param("eventbridge", case, id=f"PutEvents: {case['name']}") for case in PUT_EVENTS_CASES),
    *(pytest.param("rum", case, id=f"PutRumEvents: {case['name']}") for case in put_rum_events.CALLS),
    *(pytest.param("evidently", case, id=f"PutProjectEvents: {case['name']}") for case in PROJECT_CASES),
]
ARN_REGION = "us-east-1"
NATIVE: dict[str, dict[str, Any]] = {
    "eventbridge": {**put_events.GOOD},
    "rum": {**put_rum_events.EVENT, "AppMonitorId": MONITOR},
    "evidently": {**put_project_events.CUSTOM, "project": "shop"},
}
NAMES = {
    "eventbridge": ("FailedEntryCount", "Entries", "EventId", "ErrorCode", "ErrorMessage"),
    "evidently": ("failedEventCount", "eventResults", "eventId", "errorCode", "errorMessage"),
}


@dataclass(frozen=True)
class Said:
    """An answer: as it came, and as botocore gives it to a program."""

    status: int
    headers: dict[str, str]
    body: Any
    parsed: dict[str, Any]


class Reader:
    """Stock botocore's reading of one operation's answers."""

    def __init__(self, service: str, operation: str) -> None:
        session = botocore.session.get_session()
        # no botocore of today has Evidently: the parser is botocore's, and the shape is in our own model
        session.get_component("data_loader").search_paths.append(str(files("forwarder.targets") / "models"))
        model = session.get_service_model(service)
        self._shape = model.operation_model(operation).output_shape
        self._parser = create_parser(model.protocol)

    def __call__(self, status: int, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        answer = {"status_code": status, "headers": headers, "body": body}
        parsed: dict[str, Any] = self._parser.parse(answer, self._shape)
        return parsed


@pytest.fixture(scope="session")
def readers() -> dict[str, Reader]:
    return {
        "eventbridge": Reader("events", "PutEvents"),
        "rum": Reader("rum", "PutRumEvents"),
        "evidently": Reader("evidently", "PutProjectEvents"),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One sandbox and one daemon for the many cases that leave nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        async with (
            world(tmp_path_factory.mktemp("aws_cases")) as place,
            daemon_in(place, features={"region": ARN_REGION}),
        ):
            yield place


async def ask(place: World, url: str, case: Case, reader: Reader) -> Said:
    request = case["request"]
    async with place.http.request(
        request["method"],
        # the path as it is: an ARN in it is encoded already
        URL(url + request["path"], encoded=True),
        data=BytesIO(request["body"]),
        headers=request["headers"],
    ) as answer:
        body = await answer.read()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Said(answer.status, headers, json.loads(body), reader(answer.status, headers, body))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("whose", ["ingest", "sandbox"])
@pytest.mark.parametrize(("api", "case"), CASES)
async def test_the_answer_is_aws_s(
    api: str, case: Case, whose: str, shared: World, readers: dict[str, Reader]
) -> None:
    said = await ask(shared, getattr(shared, whose), case, readers[api])
    expect = case["expect"]
    assert said.status == expect["status"]
    assert "x-amzn-requestid" in said.headers
    if "code" in expect:
        assert said.body["__type"] == said.headers["x-amzn-errortype"] == expect["code"]
        assert said.parsed["Error"]["Code"] == expect["code"]
        assert expect.get("message", "") in said.parsed["Error"]["Message"]
    elif api == "rum":
        assert said.body == {}
        assert set(said.parsed) == {"ResponseMetadata"}
    else:
        assert_results(api, said, expect["results"])


def assert_results(api: str, said: Said, expected: list[tuple[str, str] | None]) -> None:
    failed, entries, id_, code, message = NAMES[api]
    assert {name: said.parsed[name] for name in (failed, entries)} == said.body
    assert said.body[failed] == sum(result is not None for result in expected)
    results = said.body[entries]
    assert len(results) == len(expected)
    ids = [result.get(id_) for result in results]
    for i, (result, error) in enumerate(zip(results, expected, strict=True)):
        if error is None:
            assert set(result) == {id_}
            assert len(ids[i]) == 36
            assert ids.count(ids[i]) == 1
        else:
            assert set(result) == {code, message}
            assert result[code] == error[0]
            assert error[1] in result[message]
            assert result[message]


@pytest.mark.parametrize("case", put_events.SILENTLY_DROPPED, ids=lambda case: str(case["name"]))
async def test_what_aws_drops_in_silence_the_sandbox_drops_and_records(
    case: Case, place: World, readers: dict[str, Reader]
) -> None:
    said = await ask(place, place.sandbox, case, readers["eventbridge"])
    assert said.status == 200
    assert_results("eventbridge", said, case["expect"]["results"])
    counts = await place.summary("eventbridge")
    assert (counts["events"], counts["dropped"]) == (0, 1)


async def test_a_detail_type_that_aws_would_drop_is_refused_with_its_name(
    place: World, readers: dict[str, Reader]
) -> None:
    entry = {**put_events.GOOD, "DetailType": "t" * 129}
    async with daemon_in(place):
        said = await ask(place, place.ingest, put_events_case(entry), readers["eventbridge"])
        assert_results("eventbridge", said, [("InvalidArgument", "DetailType")])


async def test_members_are_taken_up_to_their_limits_and_refused_by_name_beyond(
    place: World, readers: dict[str, Reader]
) -> None:
    read = readers["eventbridge"]
    async with daemon_in(place, orders={"verify_buses": False}):
        for member, most in put_events.MEMBER_LIMITS:
            for length, error in ((most - 1, None), (most, None), (most + 1, ("InvalidArgument", member))):
                value: Any = "a" * length
                entry = {**put_events.GOOD, member: [value] if member == "Resources" else value}
                said = await ask(place, place.ingest, put_events_case(entry), read)
                assert_results("eventbridge", said, [error])
        for bus, is_one in put_events.BUSES:
            entry = {**put_events.GOOD, "EventBusName": bus}
            said = await ask(place, place.ingest, put_events_case(entry), read)
            if "eu-west-1" in bus or not bus.startswith("arn:"):
                assert_results("eventbridge", said, [None if is_one else ("InvalidArgument", "EventBusName")])
            else:  # the daemon has no target there
                assert (said.status, said.body["__type"]) == (400, "ValidationException")


def put_events_case(entry: dict[str, Any]) -> Case:
    body = json.dumps({"Entries": [entry]}).encode()
    return {**put_events.ENTRIES[0], "request": {**put_events.ENTRIES[0]["request"], "body": body}}


@pytest.mark.parametrize("api", CODES)
async def test_every_entry_code_is_answered_by_the_sandbox_and_means_what_it_says(
    api: str, place: World, readers: dict[str, Reader]
) -> None:
    case = {"eventbridge": put_events.ENTRIES[0], "evidently": put_project_events.CALLS[0]}[api]
    async with daemon_in(place):
        for code, means in CODES[api]:
            fault = {"api": api, "fault": "entry", "code": code, "message": "what AWS says", "times": 1}
            await place.order(fault)
            said = await ask(place, place.sandbox, case, readers[api])
            assert_results(api, said, [(code, "what AWS says")])
            await place.order(fault)
            fates = ["delivered", "delivered" if means == "retry" else "rejected"]
            assert await become(place, api, 2) == fates, code


@pytest.mark.parametrize("api", ERRORS)
async def test_every_error_of_a_call_is_answered_by_the_sandbox_and_means_what_it_says(
    api: str, place: World, readers: dict[str, Reader]
) -> None:
    """One event, one failed call: only what AWS will never take becomes a dead letter."""
    case = {
        "eventbridge": put_events.ENTRIES[0],
        "rum": put_rum_events.CALLS[0],
        "evidently": put_project_events.CALLS[0],
    }[api]
    async with daemon_in(place):
        for error in ERRORS[api]:
            words = {"code": error["code"], "status": error["status"], "message": error["message"]}
            fault = {"api": api, "fault": "error", "times": 1, **words}
            await place.order(fault)
            said = await ask(place, place.sandbox, case, readers[api])
            assert said.status == error["status"]
            assert said.parsed["Error"] == {"Code": error["code"], "Message": error["message"]}
            await place.order(fault)
            expected = "rejected" if error["means"] == "refused" else "delivered"
            assert await become(place, api, 1) == [expected], error["name"]


async def test_access_denied_to_every_entry_of_a_bus_is_a_policy_to_be_mended(place: World) -> None:
    denied = {"api": "eventbridge", "fault": "entry", "code": "AccessDeniedException", "message": "no policy"}
    async with daemon_in(place):
        await place.order(denied)
        await place.send("eventbridge", [NATIVE["eventbridge"]] * 3)
        await place.held("eventbridge", "no policy")
        await place.heal()
        await place.settled("eventbridge")
        assert (await place.ledger("eventbridge"))["delivered"] == 3


async def test_access_denied_to_some_entries_of_a_bus_rejects_these_and_no_other(place: World) -> None:
    denied = {"api": "eventbridge", "fault": "entry", "code": "AccessDeniedException", "message": "not this"}
    async with daemon_in(place):
        await place.order({**denied, "times": 2})
        await place.send("eventbridge", [NATIVE["eventbridge"]] * 5)
        await place.settled("eventbridge")
        ledger = await place.ledger("eventbridge")
        assert (ledger["delivered"], ledger["dead_lettered"]) == (3, 2)
        letters = list(place.letters().values())
    assert {(letter.reason, letter.code, letter.message) for letter in letters} == {
        ("rejected", "AccessDeniedException", "not this")
    }


async def test_access_denied_to_one_bus_keeps_its_events_and_costs_the_other_bus_nothing(
    place: World,
) -> None:
    denied = {"api": "eventbridge", "fault": "entry", "code": "AccessDeniedException", "name": "closed"}
    async with daemon_in(place):
        await place.make_bus("closed")
        await place.order(denied)
        closed = {**NATIVE["eventbridge"], "EventBusName": "closed"}
        await place.send("eventbridge", [NATIVE["eventbridge"], closed] * 4)

        async def others() -> bool:
            return (await place.ledger("eventbridge"))["delivered"] == 4

        await until(others, "the other bus gets its four")
        assert (await place.ledger("eventbridge"))["in_queue"] == 4
        await place.heal()
        await place.settled("eventbridge")
        assert (await place.ledger("eventbridge"))["delivered"] == 8
    assert place.letters() == {}


async def become(place: World, api: str, count: int) -> list[str]:
    """What becomes of so many events of one call: delivered (they come first), or dead by a reason."""
    before, letters = await place.ledger(api), place.letters()
    await place.send(api, [NATIVE[api]] * count)
    await place.settled(api)
    delivered = int((await place.ledger(api))["delivered"] - before["delivered"])
    dead = [str(letter.reason) for id_, letter in place.letters().items() if id_ not in letters]
    return ["delivered"] * delivered + dead


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


HOSTILE: list[tuple[str, bytes, int, str | None]] = [
    ("a time beyond any float", b'{"Entries":[{%b,"Time":1' + b"0" * 400 + b"}]}", 200, "InvalidArgument"),
    ("a time before 1970", b'{"Entries":[{%b,"Time":-1}]}', 200, "InvalidArgument"),
    ("a time in no form", b'{"Entries":[{%b,"Time":"yesterday"}]}', 200, "InvalidArgument"),
    ("a time in ISO 8601", b'{"Entries":[{%b,"Time":"2026-01-02T03:04:05Z"}]}', 200, None),
    ("a time beyond a number", b'{"Entries":[{%b,"Time":1e999}]}', 400, "SerializationException"),
    ("NaN for a time", b'{"Entries":[{%b,"Time":NaN}]}', 400, "SerializationException"),
    ("a boolean for a time", b'{"Entries":[{%b,"Time":true}]}', 400, "SerializationException"),
    ("a number for a text", b'{"Entries":[{%b,"EventBusName":1}]}', 400, "SerializationException"),
    ("a text for a list", b'{"Entries":[{%b,"Resources":"r"}]}', 400, "SerializationException"),
    ("half a surrogate pair", b'{"Entries":[{%b,"TraceHeader":"\\ud800"}]}', 400, "SerializationException"),
    ("no UTF-8", b'{"Entries":[{%b,"TraceHeader":"\xff"}]}', 400, "SerializationException"),
    ("a list for a request", b"[%b]", 400, "SerializationException"),
    ("nothing", b"", 400, "SerializationException"),
    ("brackets", b"[" * 200_000, 400, "SerializationException"),
    (
        "unread members, nested",
        b'{"Entries":[{%b,"x":' + b"[" * 200_000 + b"}]}",
        400,
        "SerializationException",
    ),
]
"""What a program with a bug or a grudge may send; ``%b`` is a good entry's members."""


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("whose", ["ingest", "sandbox"])
@pytest.mark.parametrize(("body", "status", "code"), [h[1:] for h in HOSTILE], ids=[h[0] for h in HOSTILE])
async def test_nothing_that_can_be_sent_is_answered_with_500(
    body: bytes, status: int, code: str | None, whose: str, shared: World, readers: dict[str, Reader]
) -> None:
    members = json.dumps(put_events.GOOD).encode()[1:-1]
    case = put_events_case({})
    case["request"] = {**case["request"], "body": body.replace(b"%b", members)}
    said = await ask(shared, getattr(shared, whose), case, readers["eventbridge"])
    assert said.status == status
    if status == 400:
        assert said.body["__type"] == code
    else:
        assert said.body["Entries"][0].get("ErrorCode") == code


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("whose", ["ingest", "sandbox"])
@pytest.mark.parametrize(("levels", "code"), [(999, None), (1000, None), (1001, "MalformedDetail")])
async def test_a_detail_may_be_a_thousand_levels_deep(
    levels: int, code: str | None, whose: str, shared: World, readers: dict[str, Reader]
) -> None:
    case = put_events_case({**put_events.GOOD, "Detail": nested(levels)})
    said = await ask(shared, getattr(shared, whose), case, readers["eventbridge"])
    assert said.status == 200
    assert said.body["Entries"][0].get("ErrorCode") == code


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("levels", "taken"), [(900, True), (1001, False)])
async def test_a_native_detail_may_be_nearly_as_deep(levels: int, taken: bool, shared: World) -> None:
    body = b'{"Source":"a","DetailType":"b","Detail":%b}' % nested(levels).encode()
    url = f"{shared.ingest}/v1/targets/orders/events"
    async with shared.http.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == (202 if taken else 400), await answer.text()
