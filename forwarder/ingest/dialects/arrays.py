"""Splits JSON arrays of events in steps, without holding the event loop for a whole array.

Invariants:
- Events are counted before any of them is decoded.
- An event with too many bytes, or too many brackets and commas, is not decoded, so it may be invalid JSON.
  All other events are decoded; BadRequest if one is invalid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from forwarder.apis.scan import elements, segments
from forwarder.ingest.budget import RAW_BYTES, Lease
from forwarder.ingest.dialects.bounds import SEGMENT, longest_event, most_signs, too_many_events
from forwarder.ingest.dialects.errors import SERIALIZATION, BadRequest

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_at = re.compile(r"\(byte (\d+)\)")


class TooLong(msgspec.Struct):
    """Stands in for an event that is too long to decode; has its size."""

    size: int


def parts(
    body: bytes, lease: Lease, max_events: int, max_event_bytes: int
) -> Iterator[msgspec.Raw | TooLong | None]:
    """The elements of an array, in order; None where a pause may be made. What they hold is leased."""
    count = yield from elements(body, max_events)
    if count > max_events:
        raise too_many_events(max_events)
    lease.check_room(count * RAW_BYTES)
    yield None
    longest, most = longest_event(max_event_bytes), most_signs(max_event_bytes)
    seen = 0
    for segment in segments(body, SEGMENT):
        if segment is None:
            yield None
            continue
        size = segment.end - segment.start
        if segment.single and (size > longest or segment.signs > most):
            seen += 1
            lease.take_for_events(1)
            yield TooLong(size)
            continue
        raws = _decode(body, segment.start, segment.end)
        if not raws and seen:
            raise BadRequest(400, SERIALIZATION, "The body is not valid JSON: nothing follows a comma.")
        seen += len(raws)
        if seen > max_events:
            raise too_many_events(max_events)
        lease.take_for_events(len(raws))
        yield None
        raws.reverse()
        while raws:  # each is let go of as soon as it is used
            yield raws.pop()


def _decode(body: bytes, start: int, end: int) -> list[msgspec.Raw]:
    closing = b"]" if end < len(body) else b""
    try:
        return _RAWS.decode(b"[" + body[start:end] + closing)
    except _BROKEN as problem:
        if isinstance(problem, RecursionError):
            said = "JSON is nested too deeply"
        elif isinstance(problem, UnicodeDecodeError):
            said = "JSON is not valid UTF-8"
        else:
            said = _at.sub(lambda found: f"(byte {int(found[1]) + start - 1})", str(problem))
        raise BadRequest(400, SERIALIZATION, f"The body is not valid JSON: {said}.") from None
