"""JSON Schemas of answers, and which status has which headers and codes.

Invariants:
- Codes are the constants that answers are made of; a status that is not here is never answered.
"""

from __future__ import annotations

from typing import Any

from forwarder.ingest import errors

Schema = dict[str, Any]

_CODE: Schema = {"type": "string", "minLength": 1}
_TEXT: Schema = {"type": "string"}
_ID: Schema = {"type": "string", "format": "uuid"}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


REFUSED = _object(("code", "message"), code=_CODE, message=_TEXT)
REFUSED_BRIEFLY = {
    "description": "Refused; the message is in the top-level `refused`, whose ranges include this index.",
    **_object(("code",), code=_CODE),
}
TAKEN = _object(("id",), id=_ID)
FATE = {
    "description": "The outcome of an event when the wait ended.",
    "oneOf": [
        _object(("status", "code"), status={"const": "refused"}, code=_CODE, message=_TEXT),
        _object(("id", "status"), id=_ID, status={"const": "queued"}),
        _object(("id", "status"), id=_ID, status={"const": "delivered"}, event_id=_TEXT),
        _object(
            ("id", "status", "code"),
            id=_ID,
            status={"enum": ["rejected", "expired"]},
            code=_TEXT,
            message=_TEXT,
        ),
    ],
}


def _results(*forms: str) -> Schema:
    items = {"oneOf": [{"$ref": f"#/components/schemas/{form}"} for form in forms]}
    return {"type": "array", "items": items, "description": "One for each event, in order."}


_RANGES: Schema = {
    "description": "Messages of refused events after the first 100, shared by several events.",
    "type": "array",
    "items": _object(
        ("code", "message", "ranges"),
        code=_CODE,
        message=_TEXT,
        ranges={
            "description": "The first and the last index of each run of events with this message.",
            "type": "array",
            "items": {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2},
        },
    ),
}
SCHEMAS: dict[str, Schema] = {
    "Taken": TAKEN,
    "Refused": REFUSED,
    "RefusedBriefly": REFUSED_BRIEFLY,
    "Fate": FATE,
    "Results": _object(
        ("accepted", "refused", "results"),
        accepted=_COUNT,
        refused=_COUNT,
        results={"anyOf": [_results("Taken", "Refused", "RefusedBriefly"), _results("Fate")]},
        refusals=_RANGES,
    ),
    "Fates": _object(
        ("accepted", "refused", "results"),
        accepted=_COUNT,
        refused=_COUNT,
        results=_results("Fate"),
        refusals=_RANGES,
    ),
    "Error": _object(
        ("error",),
        error=REFUSED,
        accepted={"const": 0},
        refused={"type": "integer", "minimum": 1},
        results=_results("Refused", "RefusedBriefly"),
        refusals=_RANGES,
        __type={
            **_CODE,
            "description": "Sent only when the request's format is unknown, for example when its headers are "
            "too large.",
        },
        message=_TEXT,
    ),
}

RETRY_AFTER: Schema = {
    "Retry-After": {
        "description": "Seconds to wait, with jitter.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": 3},
    }
}
APIS_CODE = "a code of the target's API"
ERRORS: dict[int, tuple[str, tuple[str, ...]]] = {
    400: ("No event was accepted: all are malformed.", (errors.SERIALIZATION, errors.VALIDATION)),
    408: ("The request did not arrive within ingest.read_timeout.", (errors.TIMEOUT,)),
    413: ("The body, or each of its events, is too large.", (errors.TOO_LARGE,)),
    415: ("This Content-Type or Content-Encoding is not accepted.", (errors.MEDIA_TYPE,)),
    422: ("The Idempotency-Key was used before with another body.", (errors.MISMATCH,)),
    429: ("The target's queue is full, or memory for requests is.", (errors.THROTTLING,)),
    431: ("The headers are larger than ingest.max_header_bytes.", (errors.HEADERS_TOO_LARGE,)),
    500: ("The request could not be handled; the log says why.", (errors.INTERNAL,)),
    503: ("The events could not be stored, or there are too many connections.", (errors.UNAVAILABLE,)),
}
MALFORMED = errors.MALFORMED


def codes(status: int) -> tuple[str, ...]:
    """The codes that a refused request of this status has; those of events are their API's."""
    return (*ERRORS[status][1], MALFORMED) if status == 400 else ERRORS[status][1]


def error_responses() -> dict[str, Schema]:
    return {str(status): _error(status) for status in ERRORS}


def _error(status: int) -> Schema:
    last = f", or {APIS_CODE}" if status == 400 else ""
    response: Schema = {
        "description": f"{ERRORS[status][0]} Code: {', '.join(codes(status))}{last}.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status in (429, 503):
        response["headers"] = RETRY_AFTER
    return response
