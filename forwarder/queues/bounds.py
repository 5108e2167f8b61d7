"""How much may be in a queue.

Invariants:
- What does not fit is refused before anything is taken, and what could never fit says so.
"""

from __future__ import annotations

import msgspec

from forwarder.model import EVENT_OVERHEAD_BYTES, QueueFull


class Bounds(msgspec.Struct, frozen=True):
    """At most ``max_events`` events of ``max_bytes`` bytes, as ``memory_bytes`` counts them."""

    max_events: int
    max_bytes: int

    def check(self, events: int, size: int, held_events: int, held_bytes: int) -> None:
        """Raise QueueFull unless so many more fit beside those that are held."""
        if events > self.max_events or size > self.max_bytes:
            raise QueueFull(
                f"{events} events of {size} bytes can never fit: the queue holds {self.max_events} events"
                f" and {self.max_bytes} bytes",
                never=True,
            )
        if held_events + events > self.max_events or held_bytes + size > self.max_bytes:
            raise QueueFull("the queue is full (queue_limits)")

    def room(self, held_events: int, held_bytes: int) -> int:
        """How many events of the size of those that are held fit beside them; 0: not even the smallest."""
        events, size = self.max_events - held_events, self.max_bytes - held_bytes
        if events < 1 or size < EVENT_OVERHEAD_BYTES:
            return 0
        return max(1, min(events, size * held_events // held_bytes)) if held_bytes else events
