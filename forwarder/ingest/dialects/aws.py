"""The AWS wire, seen from the server's side: PutEvents, PutRumEvents, PutProjectEvents.

Invariants:
- A call that cannot be read is refused whole, as AWS does; what is wrong with one entry is the API's to say.
- Every error carries its code in the body (``__type``) and, by the server, in the header: SDKs of one kind
  read only the first, others only the second.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from forwarder.apis import put_events, put_project_events, put_rum_events, wire
from forwarder.ingest.dialects.errors import SERIALIZATION, BadRequest, Dialect
from forwarder.model import Refusal

T = TypeVar("T")

PUT_EVENTS = msgspec.json.Decoder(put_events.Request)
PUT_RUM_EVENTS = msgspec.json.Decoder(put_rum_events.Request)
PUT_PROJECT_EVENTS = msgspec.json.Decoder(put_project_events.Request)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """A call's typed body, or the BadRequest that AWS would answer with."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise BadRequest(400, SERIALIZATION, f"Not a request of this API: {problem}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise BadRequest(400, SERIALIZATION, f"The body is not valid JSON: {problem}.") from None
    except RecursionError:
        raise BadRequest(400, SERIALIZATION, "The body is nested too deeply.") from None


def refused(refusal: Refusal, status: int = 400, events: int = 1) -> BadRequest:
    """A call refused as a whole."""
    return BadRequest(status, refusal.code, refusal.message, reason=refusal.reason, events=events)


def _error(problem: BadRequest) -> bytes:
    return wire.error_body(problem.code, problem.message)


JSON_1_1 = Dialect("application/x-amz-json-1.1", _error, aws=True)
REST_JSON = Dialect("application/json", _error, aws=True)
