"""JSON Schemas of events: the native ones of each kind, and CloudEvents.

Invariants:
- A native schema has exactly the fields of the Struct that its events are decoded into: a field without a
  rule here is a KeyError, a rule without a field a red test.
- Limits and patterns are the constants that admission checks; nothing is written down twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from forwarder.apis import put_events, put_project_events, put_rum_events, wire
from forwarder.ingest.dialects.cloudevents import attributes
from forwarder.ingest.dialects.cloudevents.mapping import BUS, RESOURCES

Schema = dict[str, Any]

OBJECT_TEXT = "json-object"
"""A format of ours: the text of a JSON object."""
YEARS = "^(19[7-9]|[2-9][0-9]{2})[0-9]-"
RESERVED = put_events.RESERVED_SOURCES.replace(".", r"\.")
TIME: Schema = {
    "description": "Epoch seconds, or ISO 8601 (UTC where it names no zone). Unsaid: when it arrived.",
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": wire.END_OF_TIME},
        {"type": "string", "format": "date-time", "pattern": YEARS},
    ],
}
OBJECT: Schema = {
    "description": f"A JSON object of at most {wire.MAX_DEPTH} levels, or the text of one.",
    "oneOf": [
        {"type": "object"},
        {"type": "string", "format": OBJECT_TEXT, "contentMediaType": "application/json"},
    ],
}
UUID: Schema = {"type": "string", "pattern": f"^{put_rum_events.UUID_PATTERN}$"}
TEXT: Schema = {"type": "string"}
BUS_NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": put_events.MAX_BUS,
    "pattern": f"^{put_events.BUS_PATTERN}$",
}


def struct(
    type_: type[msgspec.Struct], rules: Mapping[str, Schema], required: tuple[str, ...] = ()
) -> Schema:
    """An object with the fields of the Struct, each as its rule says; what may be left out may be null."""
    fields = msgspec.structs.fields(type_)
    names = [field.encode_name for field in fields]
    return {
        "type": "object",
        "properties": {name: rules[name] if name in required else _or_null(rules[name]) for name in names},
        "required": list(required),
        "additionalProperties": not type_.__struct_config__.forbid_unknown_fields,
    }


def _or_null(rule: Schema) -> Schema:
    return {"anyOf": [rule, {"type": "null"}]}


EVENTBRIDGE: dict[str, Schema] = {
    "Time": TIME,
    "Source": {
        "type": "string",
        "minLength": 1,
        "pattern": f"^(?!{RESERVED})",
        "description": f"Not beginning with {put_events.RESERVED_SOURCES}, which is reserved for AWS.",
    },
    "Resources": {
        "type": "array",
        "items": {"type": "string", "maxLength": put_events.MAX_RESOURCE},
    },
    "DetailType": {"type": "string", "minLength": 1, "maxLength": put_events.MAX_DETAIL_TYPE},
    "Detail": OBJECT,
    "EventBusName": BUS_NAME,
    "TraceHeader": {"type": "string", "minLength": 1, "maxLength": put_events.MAX_TRACE_HEADER},
    "EndpointId": {
        "type": "string",
        "description": "A global endpoint. The daemon needs the package awscrt to call it.",
        "maxLength": put_events.MAX_ENDPOINT_ID,
        "pattern": f"^({put_events.ENDPOINT_ID_PATTERN})?$",
    },
}
RUM: dict[str, Schema] = {
    "id": {**UUID, "description": "Unsaid: one is made."},
    "timestamp": TIME,
    "type": {"type": "string", "minLength": 1, "maxLength": put_rum_events.MAX_TYPE},
    "details": OBJECT,
    "metadata": OBJECT,
    "AppMonitorId": {**UUID, "description": "Unsaid: the target's, if it has exactly one."},
    "AppMonitorDetails": struct(
        put_rum_events.AppMonitorDetails, {"name": TEXT, "id": TEXT, "version": TEXT}
    ),
    "UserDetails": struct(put_rum_events.UserDetails, {"userId": UUID, "sessionId": UUID}),
    "Alias": {"type": "string", "minLength": 1, "maxLength": put_rum_events.MAX_ALIAS},
    "SessionMetadata": OBJECT,
    "BatchId": {**UUID, "description": "Events with the same one leave together."},
}
EVIDENTLY: dict[str, Schema] = {
    "timestamp": TIME,
    "type": {"type": "string", "enum": sorted(put_project_events.TYPES)},
    "data": OBJECT,
    "project": {
        "type": "string",
        "maxLength": put_project_events.MAX_PROJECT,
        "pattern": f"^({put_project_events.PROJECT_PATTERN})$",
        "description": "A name or an ARN. Unsaid: the target's, if it has exactly one.",
    },
}
RULES = {"eventbridge": EVENTBRIDGE, "rum": RUM, "evidently": EVIDENTLY}
REQUIRED = {
    "eventbridge": ("Source", "DetailType", "Detail"),
    "rum": ("type", "details"),
    "evidently": ("type", "data"),
}


def native_event(kind: str, type_: type[msgspec.Struct]) -> Schema:
    form = struct(type_, RULES[kind], REQUIRED[kind])
    if "EndpointId" in form["properties"]:
        form["properties"]["EndpointId"] = EVENTBRIDGE["EndpointId"]  # a plain string: never null
    return form


_plain = f"^[^{attributes.FORBIDDEN}]*$"


def _needed(**more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "pattern": _plain, **more}


CLOUDEVENT: Schema = {
    "type": "object",
    "description": f"CloudEvents {attributes.VERSION} in the JSON format.",
    "properties": {
        "specversion": {"const": attributes.VERSION},
        "id": _needed(),
        "source": _needed(pattern=f"^(?!{RESERVED})[^{attributes.FORBIDDEN}]*$"),
        "type": _needed(maxLength=put_events.MAX_DETAIL_TYPE),
        "subject": {"description": "An ARN becomes the entry's Resources."},
        "time": {"description": "RFC 3339 becomes the entry's Time, which is else the time of arrival."},
        BUS: {
            "description": "The event's bus. Unsaid: the target's only one, else the default bus.",
            "anyOf": [BUS_NAME, {"type": "null"}],
        },
        RESOURCES: {
            "type": ["string", "null"],
            "description": "The entry's Resources, with commas between.",
        },
        "data": {"description": "Any JSON."},
        "data_base64": {"type": ["string", "null"], "contentEncoding": "base64", "format": "byte"},
    },
    "required": list(attributes.REQUIRED),
    "additionalProperties": True,
    "allOf": [
        {
            "description": "data and data_base64 exclude each other.",
            "anyOf": [
                {"properties": {"data": {"type": "null"}}},
                {"properties": {"data_base64": {"type": "null"}}},
            ],
        },
    ],
}
DATA_ONLY: Schema = {
    "required": ["data"],
    "properties": {
        "data": {"type": "object"},
        "data_base64": {"type": "null"},
    },
}
"""What a CloudEvent must have beside, for a target that takes its data alone."""
