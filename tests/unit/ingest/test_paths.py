"""Where requests go: any endpoint URL that an operator may write, and any call that an SDK then makes.

Reports: an endpoint with a path and no last slash, boto/boto3 and aws-sdk users of path-routed gateways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.ingest import (
    ENTRY,
    EVENT,
    MONITOR,
    NATIVE,
    PUT_EVENTS,
    Answer,
    Ingest,
    request,
    serving,
)
from tests.unit.ingest.test_checklist import CALLS, OPERATIONS, head

CLOUD = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "order"}


def client(ingest: Ingest, service: str, path: str = "") -> Any:
    return boto3.client(
        service,
        region_name="eu-west-1",
        endpoint_url=f"http://{ingest.server.address}{path}",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 3, "mode": "standard"}),
    )


async def using(ingest: Ingest, service: str, call: Callable[[Any], Any], path: str = "") -> Any:
    def work() -> Any:
        sdk = client(ingest, service, path)
        try:
            return call(sdk)
        finally:
            sdk.close()

    return await asyncio.to_thread(work)


# --- endpoint URLs


@pytest.mark.parametrize(
    "path",
    ["", "/", "/base", "/base/", "/a/b/c", "/v1", "/v1/", "/base//", "//", "/two%20words", "/v1/events"],
)
async def test_an_endpoint_url_may_have_any_path_with_or_without_a_last_slash(path: str) -> None:
    async with serving() as ingest:
        answer = await using(ingest, "events", lambda sdk: sdk.put_events(Entries=[ENTRY]), path)
        assert answer["FailedEntryCount"] == 0
        event = {"id": MONITOR, "timestamp": 1767323045, "type": "page_view", "details": "{}"}
        call = {"BatchId": MONITOR, "AppMonitorDetails": {}, "UserDetails": {}, "RumEvents": [event]}
        await using(ingest, "rum", lambda sdk: sdk.put_rum_events(Id=MONITOR, **call), path)
        assert (ingest.count(), ingest.count("web")) == (1, 1)


@OPERATIONS
@pytest.mark.parametrize(
    "target",
    [
        "{path}/",
        "/v1{path}",
        "//{path}//",
        "/b%61se{path}",
        "http://events.example{path}",
        "{path}?",
        "{path}?a=b",
    ],
)
async def test_slashes_encodings_queries_and_absolute_targets_change_no_operation(
    operation: str, target: str
) -> None:
    path, body, name = CALLS[operation]
    path = target.format(path=path)
    async with serving() as ingest:
        assert (await ingest.post(path, body, head(operation))).status == 200
        assert ingest.count(name) == 1


@pytest.mark.parametrize(
    "target", ["", "?a=b", "http://events.example", "http://events.example?a=b", "/?a=b"]
)
async def test_a_target_without_a_path_is_the_root(target: str) -> None:
    async with serving() as ingest:
        peer = await ingest.peer()
        await peer.send(request(target or "/", {"Entries": [ENTRY]}, PUT_EVENTS))
        answer = await peer.answer()
        await peer.close()
        # A target that begins with "?" is malformed (RFC 9112, 3.2), and may be refused as that.
        assert answer.status == (400 if target.startswith("?") else 200)


@pytest.mark.parametrize(
    "path",
    [
        NATIVE,
        f"{NATIVE}/",
        f"/{NATIVE}",
        "/v1//targets/orders/events",
        "/v1/t%61rgets/%6frders/events",
        f"http://events.example{NATIVE}/",
        f"{NATIVE}/?a=b",
    ],
)
async def test_a_native_path_may_end_with_a_slash(path: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(path, EVENT)).status == 202
        assert ingest.count() == 1


@pytest.mark.parametrize(
    "path", ["/v1/cloudevents/orders/", "//v1/cloudevents/orders", "/v1/cloudevents/%6frders"]
)
async def test_a_cloudevents_path_may_end_with_a_slash(path: str) -> None:
    async with serving() as ingest:
        assert (await ingest.post(path, {"n": 1}, CLOUD)).status == 202
        handshake = await ingest.post(path, headers={"WebHook-Request-Origin": "a.example"}, method="OPTIONS")
        assert handshake.headers["webhook-allowed-origin"] == "a.example"


async def test_a_slash_that_is_encoded_is_part_of_a_name_and_no_slash() -> None:
    async with serving() as ingest:
        answer = await ingest.post("/v1/targets/orders%2Fevents", EVENT)
        assert answer.status == 404
        answer = await ingest.post("/v1/targets/a%2Fb/events/", EVENT)
        assert 'No such target: "a/b"' in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path", [f"/appmonitors/{MONITOR}", f"/appmonitors/{MONITOR}/", f"{NATIVE}/", NATIVE]
)
async def test_a_header_never_makes_another_operation_of_a_path_that_names_one(path: str) -> None:
    """A proxy that lets only RUM's paths through lets no PutEvents through."""
    async with serving() as ingest:
        answer = await ingest.post(path, {"Entries": [ENTRY]}, PUT_EVENTS)
        assert answer.status == 400
        assert ingest.count() == 0


@pytest.mark.parametrize("path", ["//appmonitors/{}", "/rum/appmonitors/{}/", "/v1/appmonitors/{}"])
async def test_a_preflight_is_answered_on_every_form_of_rums_path(path: str) -> None:
    asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    async with serving(origins=["https://shop.example"]) as ingest:
        answer = await ingest.post(path.format(MONITOR), headers=asked, method="OPTIONS")
        assert (answer.status, answer.headers["access-control-allow-methods"]) == (204, "POST")


# --- other operations of the services that an endpoint variable moves


V2 = {
    "EventBusArn": "arn:aws:events:eu-west-1:123456789012:event-busv2/orders/" + "a" * 25,
    "Entries": [ENTRY],
}


def said(problem: ClientError) -> str:
    return f"{problem.response['Error']['Code']}: {problem}"


@pytest.mark.parametrize(
    ("service", "operation", "call", "words"),
    [
        ("events", "PutRule", {"Name": "r"}, ("PutEvents", "AWS_ENDPOINT_URL_EVENTBRIDGE")),
        ("events", "ListRules", {}, ("PutEvents", "AWS_ENDPOINT_URL_EVENTBRIDGE")),
        (
            "events",
            "PutTargets",
            {"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:sqs:eu-west-1:1:q"}]},
            ("PutEvents", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
        ),
        ("events", "CreateEventBus", {"Name": "b"}, ("PutEvents", "AWS_ENDPOINT_URL_EVENTBRIDGE")),
        (
            "events",
            "PutPartnerEvents",
            {"Entries": [{"Source": "s"}]},
            ("PutEvents", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
        ),
        ("rum", "GetAppMonitor", {"Name": "m"}, ("/appmonitor/m", "PutRumEvents", "AWS_ENDPOINT_URL_RUM")),
        ("rum", "ListAppMonitors", {}, ("/appmonitors", "PutRumEvents", "AWS_ENDPOINT_URL_RUM")),
        ("rum", "DeleteAppMonitor", {"Name": "m"}, ("DELETE", "PutRumEvents", "AWS_ENDPOINT_URL_RUM")),
        (
            "rum",
            "ListTagsForResource",
            {"ResourceArn": "arn:aws:rum:r:1:m"},
            ("/tags/", "AWS_ENDPOINT_URL_RUM"),
        ),
        (
            "eventbridgev2",
            "PutEvents",
            V2,
            ("AWSEventsV2.PutEvents", "AWS_ENDPOINT_URL"),
        ),
        ("pipes", "ListPipes", {}, ("/v1/pipes", "AWS_ENDPOINT_URL")),
        ("scheduler", "ListSchedules", {}, ("/schedules", "AWS_ENDPOINT_URL")),
        ("schemas", "ListRegistries", {}, ("/registries", "AWS_ENDPOINT_URL")),
        ("dynamodb", "ListTables", {}, ("DynamoDB_20120810.ListTables", "AWS_ENDPOINT_URL")),
        ("sqs", "ListQueues", {}, ("AmazonSQS.ListQueues", "AWS_ENDPOINT_URL")),
        ("sts", "GetCallerIdentity", {}, ("sts", "AWS_ENDPOINT_URL")),
        ("cloudwatch", "ListMetrics", {}, ("ListMetrics", "AWS_ENDPOINT_URL")),
        ("ec2", "DescribeRegions", {}, ("ec2", "AWS_ENDPOINT_URL")),
        ("s3", "ListObjectsV2", {"Bucket": "b"}, ("GET", "s3", "AWS_ENDPOINT_URL")),
        ("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b"x"}, ("PUT", "s3", "AWS_ENDPOINT_URL")),
        ("route53", "ListHostedZones", {}, ("route53", "AWS_ENDPOINT_URL")),
        ("cloudfront", "ListDistributions", {}, ("cloudfront", "AWS_ENDPOINT_URL")),
        (
            "sts",
            "AssumeRoleWithWebIdentity",
            {
                "RoleArn": "arn:aws:iam::123456789012:role/r",
                "RoleSessionName": "me",
                "WebIdentityToken": "token",
            },
            ("STS", "AWS_ENDPOINT_URL"),
        ),
    ],
)
async def test_another_operation_is_an_error_of_the_sdk_that_says_where_it_must_go(
    service: str, operation: str, call: dict[str, Any], words: tuple[str, ...]
) -> None:
    async with serving() as ingest:
        for path in ("", "/base"):
            with pytest.raises(ClientError) as problem:
                await using(ingest, service, lambda sdk: sdk._make_api_call(operation, call), path)
            text = said(problem.value)
            assert text.startswith("UnknownOperationException")
            assert all(word in text for word in (*words, "event forwarder", "AWS", "docs/clients.md")), text
            assert problem.value.response["ResponseMetadata"]["RetryAttempts"] == 0
        assert ingest.metrics.unbound.refused["invalid"] == 0


EVALUATE = "/projects/shop/evaluations/feature"


@pytest.mark.parametrize(
    "path", [EVALUATE, "/projects/shop/evaluations", "/segments", "/test-segment-pattern"]
)
async def test_evaluate_feature_is_told_that_only_events_are_accepted(path: str) -> None:
    """Today's botocore has no Evidently, so the request is as botocore 1.42.50 makes it."""
    async with serving() as ingest:
        answer: Answer = await ingest.post(path, {"entityId": "u"}, {"Content-Type": "application/json"})
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
        assert "PutProjectEvents" in answer.json["message"]
        assert "AWS_ENDPOINT_URL_EVIDENTLY" in answer.json["message"]


@pytest.mark.parametrize("operation", ["PutEvents", "PutRule"])
@pytest.mark.parametrize(
    ("protocol", "media"), [("rpc-v2-cbor", "application/cbor"), ("rpc-v2-json", "application/json")]
)
async def test_a_call_in_a_protocol_of_smithy_is_told_so_and_never_that_what_is_accepted_is_not(
    protocol: str, media: str, operation: str
) -> None:
    async with serving() as ingest:
        headers = {"Content-Type": media, "smithy-protocol": protocol}
        answer = await ingest.post(f"/service/AWSEvents/operation/{operation}", b"", headers)
        assert (answer.status, answer.headers["smithy-protocol"]) == (404, protocol)
        assert answer.headers["content-type"].startswith(media)
        assert b"UnknownOperationException" in answer.body
        if operation == "PutEvents":
            assert f"AWSEvents.PutEvents was sent with the protocol {protocol}".encode() in answer.body
            assert b"must go to AWS" not in answer.body
        else:
            assert b"of EventBridge it accepts only PutEvents" in answer.body


@pytest.mark.parametrize("path", ["/", "/base", "/base/"])
async def test_an_unsigned_form_is_answered_in_xml_as_the_query_protocol_is(path: str) -> None:
    async with serving() as ingest:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await ingest.post(path, b"Action=PutEvents&Version=2015-10-07", headers)
        assert (answer.status, answer.headers["content-type"]) == (400, "text/xml")
        assert answer.body.startswith(b"<ErrorResponse><Error><Type>Sender</Type>")
        assert b"X-Amz-Target: AWSEvents.PutEvents" in answer.body


async def test_a_request_that_is_not_signed_for_a_service_is_told_that_there_is_no_such_path() -> None:
    async with serving() as ingest:
        assert (await ingest.post("/nowhere", EVENT)).json["message"] == "No such endpoint: /nowhere."
        answer = await ingest.post("/v1/nowhere", EVENT)
        assert answer.json["error"]["message"].startswith("No such endpoint: /v1/nowhere. Events go to")


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
async def test_options_of_the_root_is_a_check_that_anyone_may_make(version: str) -> None:
    """HAProxy's check of a server, unless it is told a path. It grants a web page nothing."""
    async with serving() as ingest:
        peer = await ingest.peer()
        asked = f"OPTIONS / {version}\r\nHost: forwarder.example\r\nOrigin: https://shop.example\r\n\r\n"
        await peer.send(asked.encode())
        answer = await peer.answer()
        assert answer.status == 204
        assert not [name for name in answer.headers if name.startswith("access-control")]
        await peer.close()
        for method in ("GET", "HEAD", "PUT"):
            assert (await ingest.post("/", b"", method=method)).status == 405
