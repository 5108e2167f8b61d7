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
from collections.abc import Container, Iterable, Mapping, Sequence

from forwarder.apis import wire
from forwarder.apis.api import Api, endpoint_variable
from forwarder.apis.api import label as label_of
from forwarder.apis.put_events import PutEvents
from forwarder.ingest.dialects import aws, native, unknown
from forwarder.ingest.errors import NO_HEADERS, UNKNOWN_OPERATION, Dialect
from forwarder.ingest.operations.operation import Operation, Refusing, Reply
from forwarder.urls import NATIVE, events_of

CLIENTS_PAGE = "docs/clients.md"
EVENTS_PATH = events_of("<target>")

_ONE_CLIENT = f"Set this endpoint only on the client that sends events, see {CLIENTS_PAGE}."

_rpc = re.compile(r"/service/([A-Za-z0-9_.]{1,100})/operation/([A-Za-z0-9_]{1,100})/?$").search

_XML_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts", "cloudfront", "route53"})
"""What the calls of services are signed for whose protocol is REST with XML."""

_ONLY_JSON = (
    "NAME was sent with the protocol {}. Only AWS JSON 1.1 is accepted here (a POST with the header "
    "X-Amz-Target). Configure the client to use AWS JSON 1.1, or send native events to "
    f"{EVENTS_PATH}."
)
_RPC_CBOR, _RPC_JSON = "rpc-v2-cbor", "rpc-v2-json"
_RPC_DIALECTS = {_RPC_CBOR: aws.CBOR, _RPC_JSON: aws.REST_JSON}

NO_OPERATION = Refusing(
    label_of(PutEvents),
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    f"The request has no X-Amz-Target header. For {PutEvents.operation} it must be {PutEvents.target}. "
    f"Native events go to {EVENTS_PATH}.",
    service=PutEvents.service,
)


class Check(Refusing):
    """HAProxy's check of a server, unless it is given a path: ``OPTIONS /``."""

    def other(self, method: str, headers: Mapping[str, str]) -> Reply:
        return Reply(204, b"", {"Allow": "OPTIONS, POST"})


CHECK = Check("other", aws.JSON_1_1, 404, UNKNOWN_OPERATION, "No such endpoint: NAME.")


class Elsewhere:
    """What answers calls of operations that none of these APIs is.

    ``accepted``: the values of ``X-Amz-Target`` that have an operation.
    """

    def __init__(self, apis: Iterable[type[Api]], accepted: Container[str]) -> None:
        apis = tuple(apis)
        sentence = _every_service(apis)
        self._by_target = {
            f"{api.target.rpartition('.')[0]}.": Refusing(
                label_of(api),
                aws.dialect_of(api),
                400,
                UNKNOWN_OPERATION,
                _one_service(api),
                service=api.service,
            )
            for api in apis
            if api.target
        }
        self._by_path = {
            api: _other(aws.dialect_of(api), 404, _one_service(api)) for api in apis if not api.target
        }
        self._by_service = {api.service: refusing for api, refusing in self._by_path.items()}
        self._json = _other(aws.JSON_1_1, 400, sentence)
        self._rest = _other(aws.REST_JSON, 404, sentence)
        self._query = _other(aws.QUERY, 400, sentence)
        self._ec2 = _other(aws.EC2, 400, sentence)
        self._xml = _other(aws.REST_XML, 400, sentence)
        self._form = _other(aws.QUERY, 400, _no_form(apis))
        self._rpc = {protocol: _Rpc(protocol, apis, accepted, sentence) for protocol in _RPC_DIALECTS}
        self._nowhere = _other(unknown.DIALECT, 404, "No such endpoint: NAME.")
        self._native_nowhere = _other(
            native.DIALECT, 404, f"No such endpoint: NAME. Events go to {EVENTS_PATH}."
        )

    def by_target(self, target: str) -> tuple[Operation, str]:
        """What answers a call with this ``X-Amz-Target``, and the name of its operation."""
        for prefix, refusing in self._by_target.items():
            if target.startswith(prefix):
                return refusing, target.removeprefix(prefix)
        return self._json, target

    def by_path(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[Operation, str]:
        """What answers a request without ``X-Amz-Target`` to a path that names no operation here."""
        if rpc := _rpc(path):
            named = headers.get("smithy-protocol", "").strip().lower()
            by_protocol = self._rpc[named if named in _RPC_DIALECTS else _RPC_CBOR]
            return by_protocol.refusing(rpc[1], rpc[2]), f"{rpc[1]}.{rpc[2]}"
        service = wire.service_of_scope(headers.get("Authorization", ""))
        called = f"{method} {path}"
        if service in _XML_SERVICES:
            return self._xml, f"{called} ({service})"
        if service:
            if _is_form(headers):
                return (self._ec2 if service == "ec2" else self._query), f"This call of {service}"
            return self._by_service.get(service, self._rest), called
        if path.startswith(NATIVE):
            return self._native_nowhere, path
        if _is_form(headers) and method == "POST":
            return self._form, ""
        if path == "/":
            return (CHECK if method == "OPTIONS" else NO_OPERATION), ""
        for api, refusing in self._by_path.items():
            if api.owns(path):
                return refusing, called
        return self._nowhere, path


class _Rpc:
    """Smithy's RPC protocols, which have the operation in the path."""

    def __init__(
        self, protocol: str, apis: Iterable[type[Api]], accepted: Container[str], sentence: str
    ) -> None:
        dialect, headers = _RPC_DIALECTS[protocol], {"smithy-protocol": protocol}
        self._other = _other(dialect, 404, sentence, headers)
        self._only_json = _other(dialect, 404, _ONLY_JSON.format(protocol), headers)
        self._accepted = accepted
        self._of_service = {
            api.target.rpartition(".")[0]: _other(dialect, 404, _one_service(api), headers)
            for api in apis
            if api.target
        }

    def refusing(self, service: str, operation: str) -> Refusing:
        if f"{service}.{operation}" in self._accepted:  # the same two names, joined as X-Amz-Target has them
            return self._only_json
        return self._of_service.get(service, self._other)


def _no_form(apis: Sequence[type[Api]]) -> str:
    by_header = next((api for api in apis if api.target), PutEvents)
    return (
        f"This endpoint is an event forwarder, not AWS: it accepts "
        f"{_listed([api.operation for api in apis], 'and')}, and none of them as a form "
        "(application/x-www-form-urlencoded, the AWS Query protocol of STS, IAM, SNS and others). If this is "
        f"such a call, it must go to AWS: set {endpoint_variable(by_header)} in place of AWS_ENDPOINT_URL, "
        f"see {CLIENTS_PAGE}. If it is {by_header.operation}, it needs the header X-Amz-Target: "
        f"{by_header.target}. Native events go to {EVENTS_PATH}."
    )


def _other(dialect: Dialect, status: int, sentence: str, headers: Mapping[str, str] = NO_HEADERS) -> Refusing:
    return Refusing("other", dialect, status, UNKNOWN_OPERATION, sentence, known=False, headers=headers)


def _one_service(api: type[Api]) -> str:
    variable = endpoint_variable(api)
    return (
        f"This endpoint is an event forwarder, not {api.title}: of {api.title} it accepts only {api.calls}. "
        f"NAME must go to AWS. {variable} moves every call of {api.title} here. {_ONE_CLIENT}"
    )


def _every_service(apis: Sequence[type[Api]]) -> str:
    return (
        "This endpoint is an event forwarder, not AWS: it accepts "
        f"{_listed([api.operation for api in apis], 'and')}. NAME must go to AWS. AWS_ENDPOINT_URL moves "
        f"every service here. Set {_listed([endpoint_variable(api) for api in apis], 'or')} instead: "
        f"{CLIENTS_PAGE}."
    )


def _listed(words: list[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _is_form(headers: Mapping[str, str]) -> bool:
    return "application/x-www-form-urlencoded" in headers.get("Content-Type", "").lower()
