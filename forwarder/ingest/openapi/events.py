"""The JSON Schema of CloudEvents. Those of native events are the APIs' own (``Api.native_schema``).

Invariants:
- Limits and patterns are the constants that admission checks; nothing is written down twice.
"""

from __future__ import annotations

from typing import Any

from forwarder.apis.put_events import BUS_SCHEMA, MAX_DETAIL_TYPE, RESERVED_PATTERN
from forwarder.apis.schema import Schema
from forwarder.ingest.dialects.cloudevents import attributes
from forwarder.ingest.dialects.cloudevents.mapping import BUS, RESOURCES

_plain = f"^[^{attributes.FORBIDDEN}]*$"


def _needed(**more: Any) -> Schema:
    return {"type": "string", "minLength": 1, "pattern": _plain, **more}


CLOUDEVENT: Schema = {
    "type": "object",
    "description": f"CloudEvents {attributes.VERSION} in the JSON format.",
    "properties": {
        "specversion": {"const": attributes.VERSION},
        "id": _needed(),
        "source": _needed(pattern=f"^(?!{RESERVED_PATTERN})[^{attributes.FORBIDDEN}]*$"),
        "type": _needed(maxLength=MAX_DETAIL_TYPE),
        "subject": {"description": "If it is an ARN, it becomes the only item of the entry's Resources."},
        "time": {"description": "RFC 3339. Becomes the entry's Time; by default the time of arrival."},
        BUS: {
            "description": "The event's bus. If omitted: the target's bus if it has "
            "exactly one, otherwise the default bus.",
            "anyOf": [BUS_SCHEMA, {"type": "null"}],
        },
        RESOURCES: {
            "type": ["string", "null"],
            "description": "The entry's Resources, separated by commas.",
        },
        "data": {"description": "Any JSON."},
        "data_base64": {"type": ["string", "null"], "contentEncoding": "base64", "format": "byte"},
    },
    "required": list(attributes.REQUIRED),
    "additionalProperties": True,
    "allOf": [
        {
            "description": "data and data_base64 must not be sent together.",
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
