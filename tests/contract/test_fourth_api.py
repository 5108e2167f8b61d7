"""A fourth kind of target, in a binary encoding, is one file in apis, one in targets and one line.

The kind is that of docs/adding-a-target.md, so the page is executed here. Nothing in ``forwarder`` knows it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import msgspec
import pytest

from forwarder.cli import main
from forwarder.config import ConfigError, parse
from forwarder.config.schema import json_schema
from forwarder.daemon.process import Daemon
from forwarder.doctor import examine
from forwarder.model import CallStatus, Kind
from forwarder.sandbox import SandboxSettings, running
from forwarder.targets import known_apis, option_types
from tests.support.fake_aws import aws_environment
from tests.support.fourth_api import registered
from tests.support.harness import World, until
from tests.support.signing import KEY_ID, SECRET, by_header

__all__ = ["aws_environment"]
pytestmark = pytest.mark.usefixtures("aws_environment")

TARGET_HEADER = {"X-Amz-Target": "Kinesis_20131202.PutRecords", "Content-Type": "application/x-msgpack"}
EVENT = {"Data": '{"n":1}', "PartitionKey": "a"}
OPTIONS: dict[str, Any] = {
    "kind": "stream",
    "region": "eu-west-1",
    "streams": ["orders"],
    "queue": "disk",
    "batch": {"max_wait": "10ms"},
    "retry": {"base": "5ms", "cap": "20ms"},
    "hold": {"probe": "50ms", "probe_cap": "100ms"},
}


@pytest.fixture(scope="module", autouse=True)
def modules() -> Iterator[dict[str, ModuleType]]:
    with registered() as made:
        yield made


def record(data: str, key: str = "a") -> dict[str, Any]:
    return {"Data": data.encode(), "PartitionKey": key}


def call(*records: dict[str, Any], stream: str = "orders") -> bytes:
    return msgspec.msgpack.encode({"StreamName": stream, "Records": records})


def settings(url: str, storage: Path, **changes: Any) -> dict[str, Any]:
    options = {**OPTIONS, "endpoint_url": url, **changes}
    auth = options.pop("auth", {})
    return {
        "ingest": {"listen": "127.0.0.1:0", "auth": auth},
        "admin": {"listen": "127.0.0.1:0"},
        "storage": {"path": str(storage)},
        "shutdown": {"input_grace": 0, "drain_timeout": "1s"},
        "log": {"format": "json"},
        "targets": {"belt": options},
    }


@asynccontextmanager
async def a_world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        running(SandboxSettings(listen="127.0.0.1:0", apis=known_apis())) as sandbox,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
    ):
        yield World(http, sandbox.url, tmp_path / "state")


@asynccontextmanager
async def a_daemon(place: World, **changes: Any) -> AsyncIterator[Daemon]:
    text = json.dumps(settings(place.sandbox, place.storage, **changes))
    daemon = Daemon(parse(text, option_types(), {}), admin_max_age=0.0)
    await daemon.start()
    place.ingest, place.admin = f"http://{daemon.ingest_address}", f"http://{daemon.admin_address}"
    try:
        yield daemon
    finally:
        daemon.ask_to_stop()
        await daemon.stop()


async def native(place: World, *events: dict[str, Any]) -> tuple[int, Any]:
    url = f"{place.ingest}/v1/targets/belt/events"
    async with place.http.post(url, json=list(events)) as answer:
        return answer.status, await answer.json()


async def wire(place: World, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str, Any]:
    async with place.http.post(place.ingest, data=body, headers=headers or TARGET_HEADER) as answer:
        return answer.status, answer.content_type, msgspec.msgpack.decode(await answer.read())


async def arrived(place: World, count: int) -> list[dict[str, Any]]:
    async def there() -> bool:
        return len(await place.arrivals("stream")) >= count

    await until(there, f"{count} records arrive")
    return await place.arrivals("stream")


async def metric(place: World, name: str) -> float:
    lines = (await place.metrics()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def told(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


# --- configuration


def problems(*targets: dict[str, Any]) -> list[str]:
    named = {f"t{i}": {"kind": "stream", "region": "eu-west-1", **each} for i, each in enumerate(targets)}
    try:
        parse(json.dumps({"targets": named}), option_types(), {})
    except ConfigError as error:
        return list(map(str, error.problems))
    return []


def test_its_options_are_checked_as_those_of_other_kinds() -> None:
    assert problems({"streams": ["a"]}, {"streams": ["b"]}) == []
    assert "t1.streams[0]: a is already bound to t0" in problems({"streams": ["a"]}, {"streams": ["a"]})[0]
    assert "t1.default" in problems({"default": True}, {"default": True})[0]
    assert "streams is empty" in problems({"only_bound": True})[0]
    arn = "arn:aws:kinesis:us-east-1:000000000000:stream/a"
    assert "t0.streams" in problems({"streams": [arn]})[0]


def test_its_options_are_in_the_schema() -> None:
    assert "streams" in json.dumps(json_schema(option_types()))


# --- the way of an event


async def test_native_and_wire_events_are_delivered_in_its_own_encoding(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place):
        status, answer = await native(place, EVENT, {"PartitionKey": "x"})
        assert (status, answer["accepted"], answer["refused"]) == (202, 1, 1)
        status, content_type, said = await wire(place, call(record('{"n":2}'), {"Data": b""}))
        assert (status, content_type) == (200, "application/x-msgpack")
        assert said["FailedRecordCount"] == 1
        assert said["Records"][0]["SequenceNumber"]
        assert said["Records"][1]["ErrorCode"] == "ValidationException"
        found = await arrived(place, 2)
        sent = sorted(base64.b64decode(each["entry"]["Data"]) for each in found)
        assert sent == [b'{"n":1}', b'{"n":2}']
        assert {each["name"] for each in found} == {"orders"}


async def test_an_id_is_known_before_the_entry_is_encoded(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place):
        _, answer = await native(place, {"Data": "x"}, {"Data": "y"})
        found = await arrived(place, 2)
        assert [each["entry"]["PartitionKey"] for each in found] == [each["id"] for each in answer["results"]]


async def test_a_name_that_is_bound_nowhere_and_a_body_that_is_broken_are_refused(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place):
        status, _, said = await wire(place, call(record("x"), stream="other"))
        assert (status, said["__type"]) == (404, "ResourceNotFoundException")
        assert "stream 'other' is not bound to a target" in said["message"]
        status, _, said = await wire(place, b"\xc1")
        assert (status, said["__type"]) == (400, "SerializationException")
        status, _, said = await wire(place, call())
        assert (status, said["__type"]) == (400, "ValidationException")
        async with place.http.post(f"{place.ingest}/v1/cloudevents/belt", data=b"{}") as answer:
            assert answer.status == 404


async def test_other_calls_of_its_service_are_refused_in_its_encoding(tmp_path: Path) -> None:
    headers = {**TARGET_HEADER, "X-Amz-Target": "Kinesis_20131202.DescribeStream"}
    async with a_world(tmp_path) as place, a_daemon(place):
        status, content_type, said = await wire(place, msgspec.msgpack.encode({}), headers)
        assert (status, content_type) == (400, "application/x-msgpack")
        assert said["__type"] == "UnknownOperationException"
        assert "of Kinesis it accepts only PutRecords. DescribeStream must go to AWS" in said["message"]
        assert "AWS_ENDPOINT_URL_KINESIS" in said["message"]


async def test_it_is_in_openapi_status_and_metrics(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place):
        async with place.http.get(f"{place.ingest}/v1/openapi.json") as answer:
            assert answer.status == 200
            document = await answer.json()
        assert "/v1/targets/belt/events" in document["paths"]
        assert set(document["components"]["schemas"]["stream"]["properties"]) == {
            "Data",
            "PartitionKey",
            "StreamName",
        }
        await native(place, EVENT)
        await arrived(place, 1)
        async with place.http.get(f"{place.admin}/status") as answer:
            assert (await answer.json())["targets"]["belt"]["kind"] == "stream"
        assert await metric(place, 'forwarder_events_accepted_total{target="belt"}') == 1
        await wire(place, call(record("x")))
        assert '"put_records"' in await place.metrics()


async def test_its_throttle_code_lowers_the_concurrency_and_is_a_label(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place, workers=8) as daemon:
        limit = daemon._lanes["belt"].gate.view().limit
        await place.order({"fault": "entry", "api": "stream", "code": "KMSThrottlingException", "times": 3})
        await native(place, EVENT)
        await arrived(place, 1)
        assert daemon._lanes["belt"].gate.view().limit < limit
        assert 'code="KMSThrottlingException"' in await place.metrics()


def test_its_throttle_code_for_a_whole_call_means_throttled(modules: dict[str, ModuleType]) -> None:
    from botocore.exceptions import ClientError

    from forwarder.targets.translation import translate

    codes = modules["put_records"].PutRecords.codes
    error = ClientError({"Error": {"Code": "KMSThrottlingException"}}, "PutRecords")
    results = translate(error, 1, codes=codes)
    assert (results.status, results.code) == (CallStatus.THROTTLED, "KMSThrottlingException")
    assert codes.kind("InvalidArgumentException") is Kind.REJECTED


async def test_signed_requests_must_be_signed_for_its_service(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"[shop]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    keys.chmod(0o600)
    async with a_world(tmp_path) as place, a_daemon(place, auth={"access_keys": str(keys)}):
        body = call(record("x"))
        other = {**TARGET_HEADER, "X-Amz-Target": "Kinesis_20131202.DescribeStream"}
        for headers, service, expected in (
            (TARGET_HEADER, "kinesis", 200),
            (TARGET_HEADER, "events", 403),
            (other, "kinesis", 400),
            (other, "events", 403),
        ):
            signed = by_header(f"{place.ingest}/", body, headers, service)
            async with place.http.post(place.ingest, data=body, headers=signed.headers) as answer:
                assert answer.status == expected, await answer.read()


# --- on the disk


async def test_dump_writes_what_send_takes_by_the_stored_kind(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    async with a_world(tmp_path) as place:
        await place.order({"fault": "access_denied", "api": "stream"})
        async with a_daemon(place):
            await native(place, EVENT)
        capfdbinary.readouterr()
        assert await told("queue", "dump", str(place.storage)) == 0
        (line,) = capfdbinary.readouterr().out.splitlines()
        dumped = json.loads(line)
        assert dumped["target"] == "belt"
        assert dumped["event"] == {**EVENT, "StreamName": "orders"}
        with closing(sqlite3.connect(place.storage / "data" / "forwarder.db")) as file:
            file.execute("UPDATE queue_targets SET kind = 'eventbridge'")
            file.commit()
        assert await told("queue", "dump", str(place.storage)) == 1
        assert b"not written" in capfdbinary.readouterr().err


async def test_a_dead_letter_says_its_encoding_and_is_replayed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    event = {"Data": '{"sandbox":"reject"}', "PartitionKey": "a"}
    async with a_world(tmp_path) as place, a_daemon(place):
        await native(place, event)

        async def dead() -> bool:
            return bool(place.letters())

        await until(dead, "the record is rejected")
        (letter,) = place.letters().values()
        assert (letter.reason, letter.code, letter.codec) == ("rejected", "InvalidArgumentException", 100)
        capfdbinary.readouterr()
        assert await told("dead-letters", "show", letter.id, "--path", str(place.storage)) == 0
        shown = json.loads(capfdbinary.readouterr().out)
        body = msgspec.msgpack.decode(base64.b64decode(shown["event"]))
        assert (shown["codec"], body["Data"]) == (100, b'{"sandbox":"reject"}')
        socket = str(place.storage / "data" / "control.sock")
        assert await told("dead-letters", "replay", "--socket", socket) == 0
        assert await metric(place, 'forwarder_events_replayed_total{target="belt"}') == 1


async def test_a_queue_that_waits_is_purged_by_name_without_a_daemon(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place:
        await place.order({"fault": "access_denied", "api": "stream"})
        async with a_daemon(place):
            await native(place, EVENT)
        where = ("--target", "belt", "--path", str(place.storage))
        assert await told("queue", "purge", "--name", "other", *where) == 0
        assert place.letters() == {}
        assert await told("queue", "purge", "--name", "orders", *where) == 0
        (letter,) = place.letters().values()
        assert (letter.reason, letter.codec) == ("purged", 100)


# --- around it


async def test_the_doctor_examines_it_and_sends_nothing(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place:
        config = parse(json.dumps(settings(place.sandbox, place.storage)), option_types(), {})
        findings = await examine(config)
        assert [each for each in findings if each.level == "FAIL"] == []
        assert any("streams were not checked" in each.sentence for each in findings)
        assert await place.arrivals("stream") == []


async def test_the_sandbox_counts_it_apart(tmp_path: Path) -> None:
    async with a_world(tmp_path) as place, a_daemon(place):
        await native(place, EVENT)
        await arrived(place, 1)
        assert (await place.summary("stream"))["events"] == 1
        assert (await place.summary("eventbridge"))["events"] == 0
