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
from collections.abc import Iterable, Mapping

from forwarder.apis import wire
from forwarder.apis.api import Api, endpoint_variable
from forwarder.apis.api import label as label_of
from forwarder.apis.put_events import PutEvents
from forwarder.ingest.dialects import aws, native, unknown
from forwarder.ingest.dialects.errors import NO_HEADERS, UNKNOWN_OPERATION, Dialect
from forwarder.ingest.openapi import EVENTS, TARGETS
from forwarder.ingest.operations import Operation, Refusing

NATIVE = "/v1/"
CLIENTS_PAGE = "docs/clients.md"

_ONE_CLIENT = f"Set this endpoint only on the client that sends events, see {CLIENTS_PAGE}."

_rpc = re.compile(r"/service/([A-Za-z0-9_.]{1,100})/operation/([A-Za-z0-9_]{1,100})/?$").search

NO_OPERATION = Refusing(
    label_of(PutEvents),
    aws.JSON_1_1,
    400,
    UNKNOWN_OPERATION,
    f"The request has no X-Amz-Target header. For {PutEvents.operation} it must be {PutEvents.target}. "
    "Native events go to /v1/targets/<target>/events.",
    service=PutEvents.service,
)


class Elsewhere:
    """What answers calls of operations that none of these APIs is."""

    def __init__(self, apis: Iterable[type[Api]]) -> None:
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
        self._cbor = _other(aws.CBOR, 404, sentence, {"smithy-protocol": "rpc-v2-cbor"})
        self._nowhere = _other(unknown.DIALECT, 404, "No such endpoint: NAME.")
        self._native_nowhere = _other(
            native.DIALECT, 404, f"No such endpoint: NAME. Events go to {TARGETS}<target>{EVENTS}."
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
            return self._cbor, f"{rpc[1]}.{rpc[2]}"
        service = wire.service_of_scope(headers.get("Authorization", ""))
        called = f"{method} {path}"
        if service:
            if _is_form(headers):
                return self._query, f"This call of {service}"
            return self._by_service.get(service, self._rest), called
        if path == "/":
            return NO_OPERATION, ""
        if path.startswith(NATIVE):
            return self._native_nowhere, path
        for api, refusing in self._by_path.items():
            if api.owns(path):
                return refusing, called
        return self._nowhere, path


def _other(dialect: Dialect, status: int, sentence: str, headers: Mapping[str, str] = NO_HEADERS) -> Refusing:
    return Refusing("other", dialect, status, UNKNOWN_OPERATION, sentence, known=False, headers=headers)


def _one_service(api: type[Api]) -> str:
    variable = endpoint_variable(api)
    return (
        f"This endpoint is an event forwarder, not {api.title}: of {api.title} it accepts only {api.calls}. "
        f"NAME must go to AWS. {variable} moves every call of {api.title} here. {_ONE_CLIENT}"
    )


def _every_service(apis: Iterable[type[Api]]) -> str:
    return (
        "This endpoint is an event forwarder, not AWS: it accepts "
        f"{_listed([api.operation for api in apis], 'and')}. NAME must go to AWS. AWS_ENDPOINT_URL moves "
        f"every service here: set {_listed([endpoint_variable(api) for api in apis], 'or')} instead, see "
        f"{CLIENTS_PAGE}."
    )


def _listed(words: list[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def _is_form(headers: Mapping[str, str]) -> bool:
    return "application/x-www-form-urlencoded" in headers.get("Content-Type", "").lower()
