"""JSON Schemas of native events: the parts that APIs have in common.

Invariants:
- A native schema has exactly the fields of the Struct that its events are decoded into: a field without a
  rule is a KeyError, a rule without a field a red test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from forwarder.apis.wire import END_OF_TIME, MAX_DEPTH

Schema = dict[str, Any]

OBJECT_TEXT = "json-object"
"""A format of ours: the text of a JSON object."""
YEARS = "^(19[7-9]|[2-9][0-9]{2})[0-9]-"
TIME: Schema = {
    "description": "Epoch seconds, or ISO 8601 (UTC if it has no time zone). By default the time of arrival.",
    "oneOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": END_OF_TIME},
        {"type": "string", "format": "date-time", "pattern": YEARS},
    ],
}
OBJECT: Schema = {
    "description": f"A JSON object of at most {MAX_DEPTH} levels, or a string that holds one.",
    "oneOf": [
        {"type": "object"},
        {"type": "string", "format": OBJECT_TEXT, "contentMediaType": "application/json"},
    ],
}
TEXT: Schema = {"type": "string"}


def struct(
    type_: type[msgspec.Struct], rules: Mapping[str, Schema], required: tuple[str, ...] = ()
) -> Schema:
    """An object with the fields of the Struct, each as its rule says; what may be left out may be null, where
    its type allows that."""
    fields = msgspec.structs.fields(type_)
    return {
        "type": "object",
        "properties": {
            field.encode_name: _property(field, rules[field.encode_name], required) for field in fields
        },
        "required": list(required),
        "additionalProperties": not type_.__struct_config__.forbid_unknown_fields,
    }


def _property(field: msgspec.structs.FieldInfo, rule: Schema, required: tuple[str, ...]) -> Schema:
    never_null = field.encode_name in required or field.type is str
    return rule if never_null else {"anyOf": [rule, {"type": "null"}]}
