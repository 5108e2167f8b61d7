"""Calls of AWS operations that are not answered here: the error says what this is and where they must go.

An endpoint variable of an SDK moves a whole service, and ``AWS_ENDPOINT_URL`` moves all of them. So a program
that also calls ``PutRule`` or ``GetAppMonitor`` sends these calls here.

Invariants:
- Pure: judges the head of a request alone. Nothing here accepts anything.
- The error has the form of the protocol that the call came in, so that the SDK raises it as its own.
- No SDK repeats such a call: the status is 400 or 404, and the code is not one that means "try again".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from forwarder.apis import wire
from forwarder.ingest.dialects import aws, native, unknown
from forwarder.ingest.dialects.errors import NO_HEADERS, UNKNOWN_OPERATION, Dialect
from forwarder.ingest.openapi import EVENTS, TARGETS
from forwarder.ingest.operations import Operation, Refusing, Reply

NATIVE = "/v1/"
EVENTS_PREFIX = "AWSEvents."
CLIENTS_PAGE = "docs/clients.md"

_ONE_CLIENT = f"Set this endpoint only on the client that sends events, see {CLIENTS_PAGE}."

_rpc = re.compile(r"/service/([A-Za-z0-9_.]{1,100})/operation/([A-Za-z0-9_]{1,100})/?$").search
_rum = re.compile(r"/(?:appmonitors?|rummetrics)(?:/|$)").search
_evidently = re.compile(r"/(?:projects|segments|test-segment-pattern)(?:/|$)").search

_XML_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts", "cloudfront", "route53"})
"""What the calls of services are signed for whose protocol is REST with XML."""

_EVERY_SERVICE = (
    "This endpoint is an event forwarder, not AWS: it accepts PutEvents, PutRumEvents and PutProjectEvents. "
    "NAME must go to AWS. AWS_ENDPOINT_URL moves every service here: set AWS_ENDPOINT_URL_EVENTBRIDGE, "
    f"AWS_ENDPOINT_URL_RUM or AWS_ENDPOINT_URL_EVIDENTLY instead, see {CLIENTS_PAGE}."
)


def _other(
    dialect: Dialect, status: int, sentence: str = _EVERY_SERVICE, headers: Mapping[str, str] = NO_HEADERS
) -> Refusing:
    return Refusing("other", dialect, status, UNKNOWN_OPERATION, sentence, known=False, headers=headers)


def _one_service(service: str, accepted: str, variable: str) -> str:
    return (
        f"This endpoint is an event forwarder, not {service}: of {service} it accepts only {accepted}. "
        f"NAME must go to AWS. {variable} moves every call of {service} here. {_ONE_CLIENT}"
    )


_EVENTBRIDGE = _one_service(
    "EventBridge", "PutEvents (and answers DescribeEventBus)", "AWS_ENDPOINT_URL_EVENTBRIDGE"
)
EVENTBRIDGE = Refusing("put_events", aws.JSON_1_1, 400, UNKNOWN_OPERATION, _EVENTBRIDGE)
NO_OPERATION = Refusing(
    "put_events",
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    f"The request has no X-Amz-Target header. For PutEvents it must be {EVENTS_PREFIX}PutEvents. Native "
    "events go to /v1/targets/<target>/events.",
)


class Check(Refusing):
    """HAProxy's check of a server, unless it is told a path: ``OPTIONS /``."""

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        return Reply(204, b"", {"Allow": "OPTIONS, POST"})


CHECK = Check("other", aws.JSON_1_1, 404, UNKNOWN_OPERATION, "No such endpoint: NAME.")
_REST = {
    "rum": _other(
        aws.REST_JSON,
        404,
        _one_service("CloudWatch RUM", "PutRumEvents (POST /appmonitors/<id>)", "AWS_ENDPOINT_URL_RUM"),
    ),
    "evidently": _other(
        aws.REST_JSON,
        404,
        _one_service(
            "Evidently", "PutProjectEvents (POST /events/projects/<project>)", "AWS_ENDPOINT_URL_EVIDENTLY"
        ),
    ),
}
_OTHER_JSON = _other(aws.JSON_1_1, 400)
_OTHER_REST = _other(aws.REST_JSON, 404)
_OTHER_QUERY = _other(aws.QUERY, 400)
_OTHER_EC2 = _other(aws.EC2, 400)
_OTHER_XML = _other(aws.REST_XML, 400)
_QUERY_NOWHERE = _other(
    aws.QUERY,
    400,
    "This endpoint is an event forwarder, not AWS: it accepts PutEvents, PutRumEvents and PutProjectEvents, "
    "and none of them as a form (application/x-www-form-urlencoded, the AWS Query protocol of STS, IAM, SNS "
    "and others). If this is such a call, it must go to AWS: set AWS_ENDPOINT_URL_EVENTBRIDGE in place of "
    f"AWS_ENDPOINT_URL, see {CLIENTS_PAGE}. If it is PutEvents, it needs the header X-Amz-Target: "
    f"{EVENTS_PREFIX}PutEvents. Native events go to {TARGETS}<target>{EVENTS}.",
)
_ONLY_JSON = (
    "NAME came in the protocol {}, and is accepted here only in AWS JSON 1.1 (a POST with the header "
    "X-Amz-Target). Configure the client to use AWS JSON 1.1, or send native events to "
    f"{TARGETS}<target>{EVENTS}."
)
_RPC_CBOR, _RPC_JSON = "rpc-v2-cbor", "rpc-v2-json"
_RPC_DIALECTS = {_RPC_CBOR: aws.CBOR, _RPC_JSON: aws.REST_JSON}
_RPC = {
    (protocol, kind): _other(dialect, 404, sentence, {"smithy-protocol": protocol})
    for protocol, dialect in _RPC_DIALECTS.items()
    for kind, sentence in (
        ("accepted", _ONLY_JSON.format(protocol)),
        ("AWSEvents", _EVENTBRIDGE),
        ("", _EVERY_SERVICE),
    )
}
"""By protocol, and whether it is an operation that is accepted in another one, or of which service it is."""
_NOWHERE = _other(unknown.DIALECT, 404, "No such endpoint: NAME.")
_NATIVE_NOWHERE = _other(
    native.DIALECT, 404, f"No such endpoint: NAME. Events go to {TARGETS}<target>{EVENTS}."
)


def by_target(target: str) -> tuple[Operation, str]:
    """What answers a call with this ``X-Amz-Target``, and the name of its operation."""
    if target.startswith(EVENTS_PREFIX):
        return EVENTBRIDGE, target.removeprefix(EVENTS_PREFIX)
    return _OTHER_JSON, target


def by_path(method: str, path: str, headers: Mapping[str, str]) -> tuple[Operation, str]:
    """What answers a request without ``X-Amz-Target`` to a path that names no operation of this daemon."""
    if rpc := _rpc(path):
        return _by_rpc(rpc[1], rpc[2], headers)
    service = wire.service_of_scope(headers.get("Authorization", ""))
    called = f"{method} {path}"
    if service in _XML_SERVICES:
        return _OTHER_XML, f"{called} ({service})"
    if service:
        if _is_form(headers):
            return (_OTHER_EC2 if service == "ec2" else _OTHER_QUERY), f"This call of {service}"
        return _REST.get(service, _OTHER_REST), called
    if path.startswith(NATIVE):
        return _NATIVE_NOWHERE, path
    if _is_form(headers) and method == "POST":
        return _QUERY_NOWHERE, ""
    if path == "/":
        return (CHECK if method == "OPTIONS" else NO_OPERATION), ""
    if _rum(path):
        return _REST["rum"], called
    return (_REST["evidently"], called) if _evidently(path) else (_NOWHERE, path)


def _by_rpc(service: str, operation: str, headers: Mapping[str, str]) -> tuple[Operation, str]:
    """Of Smithy's RPC protocols, which have the operation in the path."""
    named = headers.get("smithy-protocol", "").strip().lower()
    protocol = named if named in _RPC_DIALECTS else _RPC_CBOR
    kind = "AWSEvents" if service == "AWSEvents" else ""
    if kind and operation in ("PutEvents", "DescribeEventBus"):
        kind = "accepted"
    return _RPC[protocol, kind], f"{service}.{operation}"


def _is_form(headers: Mapping[str, str]) -> bool:
    return "application/x-www-form-urlencoded" in headers.get("Content-Type", "").lower()
