"""How a put is cut into rows: in pieces that can be read, and kept in memory, one by one.

Invariants:
- The pieces are the events, in their order, once each; what came as one batch is one piece.
- A large put is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from forwarder.model import EVENT_OVERHEAD_BYTES, GROUP_OVERHEAD_BYTES, Event

ROW_EVENTS = 4096
ROW_BYTES = 2 << 20
"""What one row holds, unless a single batch or event is more: so that a part of a huge put can be read."""


def cut(events: Sequence[Event], size: int, complete: bool) -> Iterator[tuple[Sequence[Event], int]]:
    """The pieces of a put of ``size`` bytes, each with its own; all sizes are ``memory_bytes``."""
    if complete or (len(events) <= ROW_EVENTS and size <= ROW_BYTES):
        yield events, size
        return
    start = held = 0
    for index, event in enumerate(events):
        key = len(event.key)
        weight = len(event.body) + key + EVENT_OVERHEAD_BYTES + (GROUP_OVERHEAD_BYTES if key else 0)
        if index > start and (index - start == ROW_EVENTS or held + weight > ROW_BYTES):
            yield events[start:index], held
            start, held = index, 0
        held += weight
    yield events[start:], held
