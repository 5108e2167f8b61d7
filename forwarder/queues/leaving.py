"""Events of a queue that are being written as dead letters: they may leave it at any moment.

Invariants:
- An event is here from ``removal_for`` until ``settle``, also when the queue was closed in between. So nobody
  counts it as both dropped and dead, and totals that are saved meanwhile count it neither way.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwarder.model import Event
from forwarder.queues.queue import Settlement


class Leaving:
    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: dict[int, Event] = {}  # by identity, which is nobody else's while the event is here

    def add(self, events: Sequence[Event]) -> None:
        self._events.update((id(event), event) for event in events)

    def end(self, settlement: Settlement) -> None:
        """They left, or come back."""
        if self._events:
            for event in (*settlement.gone, *settlement.retry):
                self._events.pop(id(event), None)

    def forget(self) -> int:
        """Wait for none of them any longer: how many they were."""
        count = len(self._events)
        self._events.clear()
        return count

    def __contains__(self, event: Event) -> bool:
        return id(event) in self._events

    def __len__(self) -> int:
        return len(self._events)
