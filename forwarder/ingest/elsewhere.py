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
from forwarder.ingest.operations import Operation, Refusing

NATIVE = "/v1/"
EVENTS_PREFIX = "AWSEvents."
CLIENTS_PAGE = "docs/clients.md"

_ONE_CLIENT = f"Set this endpoint only on the client that sends events, see {CLIENTS_PAGE}."

_rpc = re.compile(r"/service/([A-Za-z0-9_.]{1,100})/operation/([A-Za-z0-9_]{1,100})/?$").search
_rum = re.compile(r"/(?:appmonitors?|rummetrics)(?:/|$)").search
_evidently = re.compile(r"/(?:projects|segments|test-segment-pattern)(?:/|$)").search

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


EVENTBRIDGE = Refusing(
    "put_events",
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    _one_service("EventBridge", "PutEvents (and answers DescribeEventBus)", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
)
NO_OPERATION = Refusing(
    "put_events",
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    f"The request has no X-Amz-Target header. For PutEvents it must be {EVENTS_PREFIX}PutEvents. Native "
    "events go to /v1/targets/<target>/events.",
)
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
_OTHER_CBOR = _other(aws.CBOR, 404, headers={"smithy-protocol": "rpc-v2-cbor"})
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
        return _OTHER_CBOR, f"{rpc[1]}.{rpc[2]}"
    service = wire.service_of_scope(headers.get("Authorization", ""))
    called = f"{method} {path}"
    if service:
        if _is_form(headers):
            return _OTHER_QUERY, f"This call of {service}"
        return _REST.get(service, _OTHER_REST), called
    if path == "/":
        return NO_OPERATION, ""
    if path.startswith(NATIVE):
        return _NATIVE_NOWHERE, path
    if _rum(path):
        return _REST["rum"], called
    return (_REST["evidently"], called) if _evidently(path) else (_NOWHERE, path)


def _is_form(headers: Mapping[str, str]) -> bool:
    return "application/x-www-form-urlencoded" in headers.get("Content-Type", "").lower()
