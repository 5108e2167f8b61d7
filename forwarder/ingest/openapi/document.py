"""The OpenAPI 3.1 document: a path for each target, with its own events and limits.

Invariants:
- Made from the routes of the daemon that serves it: what it names can be sent to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forwarder import __version__
from forwarder.config import IngestConfig
from forwarder.ingest.bindings import Route
from forwarder.ingest.dialects.cloudevents import attributes, modes
from forwarder.ingest.openapi.answers import SCHEMAS, error_responses
from forwarder.ingest.openapi.events import CLOUDEVENT, DATA_ONLY
from forwarder.ingest.operations.cloudevents import ORIGIN_PATTERN
from forwarder.receipts import MAX_WAIT_SECONDS
from forwarder.urls import CLOUDEVENTS, events_of

Schema = dict[str, Any]

LINES = "application/x-ndjson"

_ACK: Schema = {
    "x-forwarder-ack": {
        "description": "delivered: AWS has answered for every event. Only after a wait.",
        "schema": {"enum": ["delivered", "queued"]},
    },
    "Preference-Applied": {"schema": {"type": "string"}},
}
_EVENT_ID: Schema = {
    "x-forwarder-event-id": {
        "description": ("The forwarder's id of a single event."),
        "schema": {"type": "string"},
    }
}
_AWS_ID: Schema = {
    "x-forwarder-aws-event-id": {
        "description": "AWS's id of the event, if it gave one.",
        "schema": {"type": "string"},
    }
}
_GZIP = "The body may be packed, with Content-Encoding: gzip or deflate."
_PARAMETERS: list[Schema] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": (
            "A request with the same key and body, within some minutes, gets the first answer again."
        ),
        "schema": {"type": "string"},
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": (
            f"wait=N: wait N seconds, at most {MAX_WAIT_SECONDS:g}, until AWS has answered for the events."
        ),
        "schema": {"type": "string"},
    },
]


def document(routes: Sequence[Route[Any]], settings: IngestConfig) -> Schema:
    paths: Schema = {events_of(route.name): _native(route, settings) for route in routes}
    takers = [route for route in routes if route.api.takes_cloudevents]
    paths.update({f"{CLOUDEVENTS}{route.name}": _cloudevents(route, settings) for route in takers})
    kinds = {route.api.kind: route.api.native_schema for route in routes}
    schemas = {**kinds, **({"CloudEvent": CLOUDEVENT} if takers else {}), **SCHEMAS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "event-forwarder",
            "version": __version__,
            "description": (
                "Events for this daemon's targets. A 2xx answer means that they are in the target's queue."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _native(route: Route[Any], settings: IngestConfig) -> Schema:
    event = _ref(route.api.kind)
    content = {
        "application/json": {"schema": {"anyOf": [event, _many(event, 1)]}},
        LINES: {"schema": {"type": "string", "description": f"One {route.api.kind} event in JSON per line."}},
    }
    return {
        "post": {
            "operationId": f"send-{route.name}",
            "tags": [route.api.kind],
            "summary": f"Send native {route.api.kind} events to target {route.name}.",
            "parameters": _PARAMETERS,
            "requestBody": {"required": True, "description": _GZIP, "content": content},
            "responses": {
                "200": _answer(
                    "If the request waited for delivery: the outcome of every event.", "Fates", _ACK
                ),
                "202": _answer("At least one event was accepted.", "Results", _ACK),
                **error_responses(),
            },
            "x-limits": _limits(route, settings),
        }
    }


def _cloudevents(route: Route[Any], settings: IngestConfig) -> Schema:
    event, whole = _ref("CloudEvent"), "the whole event"
    if route.api.cloudevents == "data":
        event, whole = {"allOf": [event, DATA_ONLY]}, "its data, a JSON object"
    taken = "Accepted. Without a body for a single event, unless Prefer: wait=N or return=representation."
    return {
        "post": {
            "operationId": f"send-cloudevents-{route.name}",
            "tags": ["cloudevents"],
            "summary": f"Send CloudEvents to target {route.name}; the Detail is {whole}.",
            "description": (
                "Binary mode: the body is the data, of any type; the ce-* headers are the attributes."
            ),
            "parameters": [*_PARAMETERS, *map(_ce_header, (*attributes.REQUIRED, "subject", "time"))],
            "requestBody": {
                "description": _GZIP,
                "content": {
                    f"{modes.STRUCTURED}{modes.JSON}": {"schema": event},
                    f"{modes.BATCHED}{modes.JSON}": {"schema": _many(event, 0)},
                    "*/*": {"schema": {}},
                },
            },
            "responses": {
                "200": _answer(
                    "If the request waited for delivery: the outcome of every event.", "Fates", _ACK
                ),
                "202": _answer(taken, "Results", {**_EVENT_ID, **_ACK}),
                "204": {
                    "description": "After a wait: the single event is delivered.",
                    "headers": {**_EVENT_ID, **_AWS_ID, **_ACK},
                },
                **error_responses(),
            },
            "x-limits": _limits(route, settings),
        },
        "options": _handshake(route),
    }


def _handshake(route: Route[Any]) -> Schema:
    return {
        "operationId": f"may-send-cloudevents-{route.name}",
        "tags": ["cloudevents"],
        "summary": "Webhook handshake: whether events of this origin are accepted.",
        "parameters": [
            {
                **_header("WebHook-Request-Origin"),
                "schema": {"type": "string", "pattern": ORIGIN_PATTERN},
            },
            _header("WebHook-Request-Rate"),
        ],
        "responses": {
            "200": {
                "description": "They are accepted, at any rate.",
                "headers": {
                    name: {"schema": {"type": "string"}}
                    for name in ("Allow", "WebHook-Allowed-Origin", "WebHook-Allowed-Rate")
                },
            },
            **{status: error for status, error in error_responses().items() if status in ("400", "431")},
        },
    }


def _limits(route: Route[Any], settings: IngestConfig) -> Schema:
    """For programs; what is over them is 413, but for the headers 431."""
    return {
        "max_body_bytes": int(settings.max_body),
        "max_header_bytes": int(settings.max_header_bytes),
        "max_event_bytes": route.max_event_bytes,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _many(event: Schema, least: int) -> Schema:
    return {"type": "array", "items": event, "minItems": least}


def _answer(description: str, schema: str, headers: Schema) -> Schema:
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _ce_header(name: str) -> Schema:
    said = _header(f"{modes.HEADER}{name}")
    return {**said, "description": "Binary mode only; percent-encoded UTF-8."}


def _header(name: str) -> Schema:
    return {"name": name, "in": "header", "schema": {"type": "string"}}
