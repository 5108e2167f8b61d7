"""Splits JSON arrays of events in steps, without holding the event loop for a whole array.

Invariants:
- Events are counted before any of them is decoded.
- An event with too many bytes, or too many brackets and commas, is not decoded, so it may be invalid JSON.
- An event that is no JSON is yielded as its bytes, and costs no other. BadRequest only where the array itself
  is no JSON, so that nobody knows which bytes are an event's.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import msgspec

from forwarder.apis.scan import Segment, elements, segments
from forwarder.apis.split import SPACE, Unsplittable, split
from forwarder.ingest.bounds import RAW_BYTES, SEGMENT, Memory, longest_event, most_signs, too_many_events
from forwarder.ingest.dialects.broken import BROKEN, sentence
from forwarder.ingest.errors import SERIALIZATION, BadRequest

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
Part = msgspec.Raw | bytes


class TooLong(msgspec.Struct):
    """Stands in for an event that is too long to decode; has its size."""

    size: int


def parts(
    body: bytes, lease: Memory, max_events: int, max_event_bytes: int
) -> Iterator[Part | TooLong | None]:
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
        raws = _decoded(body, segment)
        if isinstance(raws, Exception):
            raws = yield from _split(body, segment, max_events - seen, raws)
        if not raws and seen:
            raise _not_json(f"JSON is malformed: a value is missing (byte {segment.start})")
        seen += len(raws)
        if seen > max_events:
            raise too_many_events(max_events)
        lease.take_for_events(len(raws))
        yield None
        raws.reverse()
        while raws:  # each is let go of as soon as it is used
            yield raws.pop()


def apart(body: bytes, most: int) -> Generator[None, None, list[Part]]:
    """The elements of an array, ``most`` and one more at most. BadRequest when it cannot be split."""
    start = len(body) - len(body.lstrip(SPACE))
    try:
        return _RAWS.decode(body)  # type: ignore[return-value]
    except BROKEN as problem:
        return (yield from _split(body, Segment(start + 1, len(body)), most, problem))


def _decoded(body: bytes, segment: Segment) -> list[Part] | Exception:
    closing = b"]" if segment.end < len(body) else b""
    try:
        return _RAWS.decode(b"[" + body[segment.start : segment.end] + closing)  # type: ignore[return-value]
    except BROKEN as problem:
        return problem


def _split(body: bytes, segment: Segment, most: int, problem: Exception) -> Generator[None, None, list[Part]]:
    """``problem``: why it was not decoded."""
    found: list[Part] = []
    try:
        for span in split(body, segment.start - 1, segment.end, closed=segment.end == len(body)):
            if span is None:
                yield
                continue
            found.append(body[span[0] : span[1]])
            if len(found) > most:
                break
    except Unsplittable as worse:
        raise _not_json(sentence(problem if isinstance(problem, RecursionError) else worse, body)) from None
    return found


def _not_json(what: str) -> BadRequest:
    return BadRequest(400, SERIALIZATION, f"The body is not valid JSON: {what}.")
