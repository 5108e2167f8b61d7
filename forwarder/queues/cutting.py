"""How a put is cut into rows: in pieces that can be read, and kept in memory, one by one.

Invariants:
- The pieces are the events, in their order, once each; what came as one batch is one piece.
- A large put is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forwarder.model import Event, memory_bytes

ROW_EVENTS = 4096
ROW_BYTES = 2 << 20
"""What one row holds, unless a single batch or event is more: so that a part of a huge put can be read."""


def cut(events: Sequence[Event], size: int, complete: bool) -> Iterator[tuple[Sequence[Event], int]]:
    """The pieces of a put of ``size`` bytes, each with its own; all sizes are ``memory_bytes``."""
    if complete or (len(events) <= ROW_EVENTS and size <= ROW_BYTES):
        yield events, size
        return
    at = 0
    while at < len(events):
        some = events[at : at + ROW_EVENTS]
        weight = memory_bytes(some)
        if weight > ROW_BYTES:
            some, weight = _first_of(some)
        yield some, weight
        at += len(some)


def _first_of(events: Sequence[Event]) -> tuple[Sequence[Event], int]:
    """As many as one row holds, but one at least."""
    held = 0
    for index, event in enumerate(events):
        weight = memory_bytes((event,))
        if index and held + weight > ROW_BYTES:
            return events[:index], held
        held += weight
    return events, held
