"""Bounds on everything countable in a request, and on the length of an event before it is decoded.

Invariants:
- Input over a bound is refused before it is decoded, with a message that names the bound.
- No valid request of a real client reaches a bound that is not a setting.
"""

from __future__ import annotations

from typing import Protocol

from forwarder.ingest.errors import BadRequest, too_large

SMALL_BODY = 128 * 1024
"""A body up to this size is decoded in one step; the most expensive takes a few milliseconds."""
LONG_EVENT = 16 * 1024
"""An event beyond this size is scanned before it is decoded."""
MAX_EVENTS = 65_536
"""Of a request, unless ``ingest.max_events`` says otherwise."""
MAX_ATTRIBUTES = 256
"""Of a CloudEvent. Its specification has 8; senders add a handful, and HTTP's headers have room for some
hundred."""
MAX_MESSAGE = 300
"""Longest message about one event, in characters: it may quote a name or a value of any length."""
MAX_SENTENCES = 100
"""Refused events of a request with a message each; the others share messages, by ranges of indexes."""

SEGMENT = 256 * 1024
"""Bytes of an array that are taken apart in one go."""
MAX_SIGNS = 2 << 20
"""Brackets and commas outside of strings in a call of AWS's wire, where all that nests is in strings: an
event has a handful of them. Ours; what has more is no call, and would take long to read."""

RAW_BYTES = 48
"""What a part of an array holds before it is decoded."""

_ESCAPED = 6
_FRAME = 64 * 1024
_DECODED = 6 << 20
"""Bytes of JSON that are decoded in one step: some 40 ms of CPU when all of them are escapes."""


class Memory(Protocol):
    """Where the dialects reserve memory for what they will parse. BadRequest: there is too little."""

    def check_room(self, size: int) -> None:
        """Refuse the request if it could not reserve ``size`` bytes more."""

    def take_for_events(self, count: int) -> None:
        """Reserve what so many events hold from when they are parsed until they are a queue's."""


def longest_event(max_event_bytes: int) -> int:
    """Bytes of JSON that an event within ``max_event_bytes`` may have.

    Each of its characters may come as an escape of six bytes, and it has names, a bus and a trace header that
    do not count. A large event is decoded in one step, so ``_DECODED`` bounds its escapes.
    """
    return min(_ESCAPED * max_event_bytes, max(_DECODED, max_event_bytes * 3 // 2)) + _FRAME


def most_signs(max_event_bytes: int) -> int:
    """Brackets and commas outside of strings that such an event can have: none of them can be escaped."""
    return max_event_bytes + _FRAME


def too_many_events(most: int) -> BadRequest:
    return too_large(f"The request has more than {most} events (ingest.max_events); split it.")


def too_long(size: int, max_event_bytes: int) -> str:
    return f"The event has {size} bytes of JSON; a call takes at most {max_event_bytes} (targets.*.batch)."


def capped(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 3]}..."
